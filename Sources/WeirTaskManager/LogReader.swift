internal import FoundationEssentials
internal import Glibc
internal import WeirWire

/// Reads pieces of workers' logs.
enum LogReader {
    static let pieceBytesMax = 1 << 20

    /// - Returns: nil when the file cannot be opened.
    static func read(path: String, request: WireReadLog) -> WireLogChunk? {
        let descriptor = open(path, O_RDONLY | O_CLOEXEC)
        guard descriptor >= 0 else { return nil }
        defer { close(descriptor) }
        let total = UInt64(max(0, lseek(descriptor, 0, SEEK_END)))
        let start = request.fromEnd ? total - min(request.offset, total) : min(request.offset, total)
        let wanted = Int(min(total - start, UInt64(request.bytesMax == 0 ? UInt32(pieceBytesMax) : request.bytesMax), UInt64(pieceBytesMax)))
        var bytes = [UInt8](repeating: 0, count: wanted)
        let count = wanted == 0 ? 0 : max(0, pread(descriptor, &bytes, wanted, off_t(start)))
        var chunk = WireLogChunk()
        chunk.bytes = Data(bytes[..<count])
        chunk.offset = start
        chunk.totalBytes = total
        chunk.path = path
        return chunk
    }
}
