internal import COpenSSL

/// SHA-256 of bytes that come in pieces, by the system's libcrypto.
///
/// The one owner of the C context. Artifacts are named by it: the CLI computes it before the upload, the JobManager and each
/// TaskManager verify it.
package struct SHA256: ~Copyable {
    private let context: OpaquePointer?
    private var healthy: Bool

    package init() {
        context = EVP_MD_CTX_new()
        healthy = context != nil && EVP_DigestInit_ex(context, EVP_sha256(), nil) == 1
    }

    deinit {
        EVP_MD_CTX_free(context)
    }

    package mutating func update(_ bytes: UnsafeRawBufferPointer) {
        guard healthy, let base = bytes.baseAddress, bytes.count > 0 else { return }
        healthy = EVP_DigestUpdate(context, base, bytes.count) == 1
    }

    package mutating func update(_ bytes: [UInt8]) {
        bytes.withUnsafeBytes { update($0) }
    }

    /// 64 lower-case hexadecimal digits; nil where libcrypto has no SHA-256 or no memory.
    package consuming func hexadecimal() -> String? {
        guard healthy else { return nil }
        var digest = [UInt8](repeating: 0, count: 32)
        var length: UInt32 = 0
        guard EVP_DigestFinal_ex(context, &digest, &length) == 1, length == 32 else { return nil }
        return Self.text(of: digest)
    }

    /// Whether the text is a hash as ``hexadecimal()`` prints it: what may become a file name.
    package static func isHash(_ text: String) -> Bool {
        text.utf8.count == 64 && text.utf8.allSatisfy { (0x30...0x39).contains($0) || (0x61...0x66).contains($0) }
    }

    private static func text(of digest: [UInt8]) -> String {
        let digits = Array("0123456789abcdef".utf8)
        var text: [UInt8] = []
        text.reserveCapacity(64)
        for byte in digest {
            text.append(digits[Int(byte >> 4)])
            text.append(digits[Int(byte & 15)])
        }
        return String(decoding: text, as: UTF8.self)
    }
}
