// The system's libcrypto: digests of artifacts, and what SCRAM authentication is made of.
#ifndef COPENSSL_SHIM_H
#define COPENSSL_SHIM_H
#include <openssl/evp.h>
#include <openssl/hmac.h>
#endif
