package import WeirKafkaWire

/// The bytes of one segment: a file, or memory. They only grow at the end, but for ``truncate(to:)``.
package protocol SegmentBytes: AnyObject {
    /// Bytes written so far.
    var count: Int { get }
    /// What messages call it: a path.
    var name: String { get }

    /// Appends all of it or, where it throws, nothing.
    func append(_ bytes: KafkaBytes) throws(LogFailure)
    /// - Parameter range: Within what was written.
    func read(_ range: Range<Int>) throws(LogFailure) -> KafkaBytes
    func truncate(to count: Int) throws(LogFailure)
    func remove() throws(LogFailure)
}

/// A segment in a file.
final class FileBytes: SegmentBytes {
    private let file: LogFile
    private let files: OpenFiles
    private(set) var count: Int

    var name: String { file.path }

    /// - Parameter creating: Makes the file exist now, not at the first append.
    init(path: String, files: OpenFiles, creating: Bool) throws(LogFailure) {
        file = LogFile(path: path)
        self.files = files
        count = try files.size(file)
        if creating { try files.create(file) }
    }

    func append(_ bytes: KafkaBytes) throws(LogFailure) {
        do throws(LogFailure) {
            try files.write(file, at: count, bytes)
        } catch {
            // A full disk leaves a part behind. The next append overwrites it; a crash before finds a torn tail and cuts it.
            try? files.truncate(file, to: count)
            throw error
        }
        count += bytes.count
    }

    func read(_ range: Range<Int>) throws(LogFailure) -> KafkaBytes { try files.read(file, range) }

    func truncate(to count: Int) throws(LogFailure) {
        try files.truncate(file, to: count)
        self.count = count
    }

    func remove() throws(LogFailure) { try files.remove(file) }
}

/// How much all logs in memory may hold together.
package final class MemoryBudget {
    package let bytesMax: Int
    package private(set) var bytes = 0

    package init(bytesMax: Int) { self.bytesMax = bytesMax }

    fileprivate func take(_ count: Int, for name: String) throws(LogFailure) {
        guard count <= bytesMax - bytes else {
            throw LogFailure(
                path: name, message: "the logs in memory are full",
                cause: "\(bytesMax) bytes; lower retention.bytes, delete records, or give the broker a data directory")
        }
        bytes += count
    }
    fileprivate func giveBack(_ count: Int) { bytes -= count }
}

/// A segment in memory, in chunks, so that growth never moves what is there.
final class MemoryBytes: SegmentBytes {
    private static let chunkBytes = 256 << 10
    private var chunks: [[UInt8]] = []
    private let budget: MemoryBudget
    private(set) var count = 0
    let name: String

    init(name: String, budget: MemoryBudget) {
        self.name = name
        self.budget = budget
    }

    deinit { budget.giveBack(count) }

    func append(_ bytes: KafkaBytes) throws(LogFailure) {
        try budget.take(bytes.count, for: name)
        bytes.withUnsafeBytes { append($0[...]) }
    }

    private func append(_ bytes: Slice<UnsafeRawBufferPointer>) {
        var rest = bytes
        while !rest.isEmpty {
            let used = count % Self.chunkBytes
            if used == 0 { chunks.append([]) }
            let part = rest.prefix(Self.chunkBytes - used)
            chunks[chunks.count - 1].append(contentsOf: UnsafeRawBufferPointer(rebasing: part))
            count += part.count
            rest = rest.dropFirst(part.count)
        }
    }

    func read(_ range: Range<Int>) -> KafkaBytes {
        precondition(range.upperBound <= count, "a read past the end of a segment")
        return KafkaBytes(count: range.count) { buffer in
            var filled = 0
            while filled < range.count {
                let position = range.lowerBound + filled
                let start = position % Self.chunkBytes
                chunks[position / Self.chunkBytes].withUnsafeBytes { chunk in
                    let part = UnsafeRawBufferPointer(rebasing: chunk[start..<min(chunk.count, start + range.count - filled)])
                    UnsafeMutableRawBufferPointer(rebasing: buffer[filled...]).copyMemory(from: part)
                    filled += part.count
                }
            }
            return filled
        }
    }

    func truncate(to count: Int) {
        budget.giveBack(self.count - count)
        chunks.removeLast(chunks.count - (count + Self.chunkBytes - 1) / Self.chunkBytes)
        if count % Self.chunkBytes != 0 { chunks[chunks.count - 1].removeLast(chunks[chunks.count - 1].count - count % Self.chunkBytes) }
        self.count = count
    }

    func remove() {
        budget.giveBack(count)
        chunks = []
        count = 0
    }
}
