internal import Glibc

/// The end of a worker's stderr, which says more than its exit status.
package enum StandardErrorTail {
    package static let linesMax = 20
    package static let bytesMax = 4_096
    /// How far from the end a fatal error is looked for: Swift writes a stack of dozens of lines below it.
    static let windowBytes = 32 << 10
    /// Lines before a fatal error that are kept with it.
    static let linesBefore = 4

    /// The lines that tell most of a file: its last ones, or those from a fatal error on that is above them; none when it cannot be read.
    package static func read(path: String) -> [String] {
        let descriptor = open(path, O_RDONLY | O_CLOEXEC)
        guard descriptor >= 0 else { return [] }
        defer { close(descriptor) }
        let end = lseek(descriptor, 0, SEEK_END)
        guard end > 0 else { return [] }
        // One byte more tells whether the first line of the rest is whole.
        let start = max(0, end - off_t(windowBytes) - 1)
        var bytes = [UInt8](repeating: 0, count: Int(end - start))
        let count = pread(descriptor, &bytes, bytes.count, start)
        guard count > 0 else { return [] }
        return lines(of: bytes[..<count], cut: start > 0)
    }

    /// As ``read(path:)``, of bytes.
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
        var lines = rest.split(separator: newline, omittingEmptySubsequences: false)
        if lines.last?.isEmpty == true { lines.removeLast() }
        let texts = lines.map { String(decoding: $0, as: UTF8.self) }
        if let fatal = texts.lastIndex(where: { $0.contains("Fatal error") }), fatal < texts.count - linesMax {
            return bounded(texts[max(0, fatal - linesBefore)...])
        }
        return bounded(texts.suffix(linesMax).reversed(), keepingEnds: true).reversed()
    }

    /// The first lines, within both bounds; one that alone is too long is cut.
    private static func bounded(_ lines: some Sequence<String>, keepingEnds: Bool = false) -> [String] {
        var taken: [String] = []
        var room = bytesMax
        for line in lines.prefix(linesMax) {
            if line.utf8.count > room {
                if taken.isEmpty { taken = [keepingEnds ? String(decoding: line.utf8.suffix(room), as: UTF8.self) : String(decoding: line.utf8.prefix(room), as: UTF8.self)] }
                break
            }
            taken.append(line)
            room -= line.utf8.count
        }
        return taken
    }
}
