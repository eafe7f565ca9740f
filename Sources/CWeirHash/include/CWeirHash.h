// CRC-32C (Castagnoli, RFC 3720 B.4), with the processor's instruction where it has one.
#ifndef CWEIRHASH_H
#define CWEIRHASH_H
#include <stddef.h>
#include <stdint.h>

uint32_t weir_crc32c(uint32_t seed, const void *bytes, size_t count);

#endif
