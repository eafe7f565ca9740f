internal import Glibc

/// The end of a worker's stderr, which says more than its exit status.
package enum StandardErrorTail {
    package static let linesMax = 20
    package static let bytesMax = 4_096

    /// The last lines of a file; none when it cannot be read.
    package static func read(path: String) -> [String] {
        let descriptor = open(path, O_RDONLY | O_CLOEXEC)
        guard descriptor >= 0 else { return [] }
        defer { close(descriptor) }
        let end = lseek(descriptor, 0, SEEK_END)
        guard end > 0 else { return [] }
        // One byte more tells whether the first line of the rest is whole.
        let start = max(0, end - off_t(bytesMax) - 1)
        var bytes = [UInt8](repeating: 0, count: Int(end - start))
        let count = pread(descriptor, &bytes, bytes.count, start)
        guard count > 0 else { return [] }
        return lines(of: bytes[..<count], cut: start > 0)
    }

    /// The last lines of bytes.
    ///
    /// - Parameter cut: The bytes are the end of something longer: their first, broken line is dropped unless it is the only one.
    package static func lines(of bytes: ArraySlice<UInt8>, cut: Bool) -> [String] {
        let newline = UInt8(ascii: "\n")
        var rest = bytes
        if cut {
            if let first = rest.firstIndex(of: newline), first + 1 < rest.endIndex {
                rest = rest[(first + 1)...]
            } else {
                rest = rest.dropFirst()
            }
        }
        rest = rest.suffix(bytesMax)
        var lines = rest.split(separator: newline, omittingEmptySubsequences: false)
        if lines.last?.isEmpty == true { lines.removeLast() }
        return lines.suffix(linesMax).map { String(decoding: $0, as: UTF8.self) }
    }
}
