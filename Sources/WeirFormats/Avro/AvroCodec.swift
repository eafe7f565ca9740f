internal import CZlib
import WeirBase

/// How the blocks of a container file are compressed.
package enum AvroCodec: String, Sendable, CaseIterable {
    case null
    /// RFC 1951, without the header of zlib.
    case deflate

    /// Bytes of a block, at most, once it is decompressed: a few bytes can become very many.
    package static let blockBytesMax = 256 << 20

    /// Decompresses a block.
    ///
    /// - Parameter limit: Bytes, at most.
    /// - Throws: Where the bytes are damaged or become too many.
    package func decompress(_ bytes: UnsafeRawBufferPointer, limit: Int = AvroCodec.blockBytesMax) throws(FormatFailure) -> [UInt8] {
        guard self == .deflate else { return [UInt8](bytes) }
        var capacity = min(limit, max(bytes.count * 4, 1 << 16))
        while true {
            var code: Int32 = 0
            let result = [UInt8](unsafeUninitializedCapacity: capacity) { out, count in
                code = weir_inflate(bytes.baseAddress, bytes.count, out.baseAddress, out.count, &count)
                count = min(count, out.count)
            }
            switch code {
            case Z_STREAM_END: return result
            case Z_BUF_ERROR where capacity < limit: capacity = min(limit, capacity * 4)
            case Z_BUF_ERROR: throw FormatFailure("Avro", .tooLarge, "a block of more than \(limit) bytes", offset: 0)
            default: throw FormatFailure("Avro", .malformed, "a block that is not deflated, or damaged (zlib's code \(code))", offset: 0)
            }
        }
    }

    /// Compresses a block of less than 1 GiB.
    package func compress(_ bytes: UnsafeRawBufferPointer) -> [UInt8] {
        guard self == .deflate else { return [UInt8](bytes) }
        precondition(bytes.count < 1 << 30, "a block of \(bytes.count) bytes is too large to deflate at once")
        return [UInt8](unsafeUninitializedCapacity: weir_deflate_bound(bytes.count)) { out, count in
            let code = weir_deflate(bytes.baseAddress, bytes.count, out.baseAddress, out.count, Z_DEFAULT_COMPRESSION, &count)
            precondition(code == Z_STREAM_END, "zlib is out of memory (code \(code))")
        }
    }
}
