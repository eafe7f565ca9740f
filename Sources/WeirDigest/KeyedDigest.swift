internal import COpenSSL

/// A digest of the SHA-2 family and what is built on it, over bytes in memory, by the system's libcrypto: the parts of SCRAM (RFC 5802).
package enum DigestAlgorithm: Sendable {
    case sha256
    case sha512

    /// Bytes of a digest.
    package var byteCount: Int { self == .sha256 ? 32 : 64 }

    private var evp: OpaquePointer? { self == .sha256 ? EVP_sha256() : EVP_sha512() }

    /// - Returns: nil where libcrypto has no such digest or no memory, as of the other functions here.
    package func hash(_ bytes: [UInt8]) -> [UInt8]? {
        var digest = [UInt8](repeating: 0, count: byteCount)
        var length: UInt32 = 0
        guard EVP_Digest(bytes, bytes.count, &digest, &length, evp, nil) == 1, Int(length) == byteCount else { return nil }
        return digest
    }

    /// HMAC (RFC 2104).
    package func authenticationCode(of bytes: [UInt8], key: [UInt8]) -> [UInt8]? {
        var code = [UInt8](repeating: 0, count: byteCount)
        var length: UInt32 = 0
        guard HMAC(evp, key, Int32(key.count), bytes, bytes.count, &code, &length) != nil, Int(length) == byteCount else { return nil }
        return code
    }

    /// PBKDF2 (RFC 8018) with HMAC: the key that a password gives.
    ///
    /// - Important: As slow as `iterations` asks for: 4,096 take some milliseconds.
    package func deriveKey(password: [UInt8], salt: [UInt8], iterations: Int) -> [UInt8]? {
        var key = [UInt8](repeating: 0, count: byteCount)
        let code = password.withUnsafeBufferPointer { password in
            password.withMemoryRebound(to: CChar.self) {
                PKCS5_PBKDF2_HMAC($0.baseAddress, Int32($0.count), salt, Int32(salt.count), Int32(iterations), evp, Int32(byteCount), &key)
            }
        }
        return code == 1 ? key : nil
    }
}

/// Whether two byte strings are equal, in a time that does not tell where they differ.
package func equalInConstantTime(_ left: [UInt8], _ right: [UInt8]) -> Bool {
    guard left.count == right.count else { return false }
    return zip(left, right).reduce(UInt8(0)) { $0 | ($1.0 ^ $1.1) } == 0
}
