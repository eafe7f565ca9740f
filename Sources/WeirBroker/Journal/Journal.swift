import WeirBase
import WeirKafkaWire

/// What the coordinators must not forget, in one file that is only appended to.
///
///     file    | magic: "WEIRCOJR" | version: u32 | CRC-32C of the twelve bytes before: u32 | record … |
///     record  | payload bytes: u32 | CRC-32C of the others: u32 | sequence: u64 | payload |
///
/// Integers are little-endian. Sequence numbers start at 1 and rise by one. A file that ends inside its last record, or with bytes that
/// are no record, was cut off by a crash: the rest is cut off. Damage with a whole later record behind it is an error: something was lost
/// that was stored.
///
/// ``append(_:)`` collects, ``write()`` hands what was collected to the system in one piece, from where it outlives the process. Whoever
/// wants it to outlive the machine syncs ``file``. After a failure the journal must not be used any more.
final class Journal {
    static let magic = Array("WEIRCOJR".utf8)
    static let version: UInt32 = 1
    static let headerBytes = 16
    static let recordHeaderBytes = 16
    /// A group's record holds the metadata and assignment of all of its members.
    static let payloadBytesMax = 256 << 20
    /// Rewriting a small file is not worth it.
    static let compactionBytesMin = 1 << 20

    private(set) var file: DataFile
    private var sequence: UInt64 = 0
    /// What is in the file.
    private(set) var bytes = 0
    /// Of ``bytes``, what the last compaction left.
    private var compactedBytes = 0
    private var buffer = ByteWriter(capacity: 4_096)

    private init(_ file: DataFile) { self.file = file }

    func close() { file.close() }

    // MARK: Opening

    /// Opens or creates the file, and hands every record to `replay` in their order.
    ///
    /// - Parameter path: Its directory exists.
    /// - Returns: The journal, and how many bytes of an unfinished record were cut off.
    static func open(_ path: String, replay: (CoordinatorRecord) -> Void) throws(BrokerFailure) -> (journal: Journal, cutBytes: Int) {
        let journal = Journal(try DataFile(path, .write))
        let content = try journal.file.read(try journal.file.size(), at: 0).array
        if content.count < headerBytes, header.starts(with: content) {
            // New, or a crash came between.
            journal.buffer.writeBytes(header)
            try journal.write()
            try journal.file.sync()
            try DataFile.syncDirectory(journal.directory)
            return (journal, 0)
        }
        let end = try journal.replay(content, replay)
        if end < content.count { try journal.file.truncate(to: end) }
        journal.bytes = end
        journal.compactedBytes = end
        return (journal, content.count - end)
    }

    private var directory: String { file.path.lastIndex(of: "/").map { String(file.path[..<$0]) } ?? "." }

    static var header: [UInt8] {
        var writer = ByteWriter(capacity: headerBytes)
        writer.writeBytes(magic)
        writer.writeU32(version)
        writer.writeU32(writer.withBytes { crc32c($0) })
        return writer.finish()
    }

    private func failure(_ message: String) -> BrokerFailure { BrokerFailure(message, path: file.path) }

    /// - Returns: Where the last whole record ends.
    private func replay(_ content: [UInt8], _ body: (CoordinatorRecord) -> Void) throws(BrokerFailure) -> Int {
        guard content.starts(with: Self.magic) else { throw failure("not a journal of groups and transactions") }
        guard content.starts(with: Self.header) else {
            throw failure("the journal is of another version than \(Self.version), or its first \(Self.headerBytes) bytes are damaged")
        }
        var position = Self.headerBytes
        while position < content.count {
            guard let record = RawRecord(content, at: position), record.sequence == sequence + 1 else {
                guard let later = laterRecord(in: content, after: position) else { return position }
                throw failure(
                    "the journal is damaged at byte \(position), with whole records behind it from byte \(later) on: stored offsets or "
                        + "transactions are lost; restore the file from a copy, or delete it to forget all groups and transactions")
            }
            switch content.withUnsafeBytes({ Self.decode(UnsafeRawBufferPointer(rebasing: $0[record.payload])) }) {
            case .success(let decoded): body(decoded)
            case .failure(let error): throw failure("the record at byte \(position) of the journal is whole but makes no sense (\(error))")
            }
            sequence = record.sequence
            position = record.payload.upperBound
        }
        return position
    }

    private static func decode(_ payload: UnsafeRawBufferPointer) -> Result<CoordinatorRecord, DecodingFailure> {
        var reader = ByteReader(payload)
        do throws(DecodingFailure) { return .success(try CoordinatorRecord(from: &reader)) } catch { return .failure(error) }
    }

    /// Looks for a whole record that was written after the last good one. Its sequence number tells it from chance bytes.
    private func laterRecord(in content: [UInt8], after start: Int) -> Int? {
        var position = start + 1
        while position + Self.recordHeaderBytes <= content.count {
            // No record is shorter than a header, so no more can have been lost between.
            let latest = sequence + UInt64(content.count / Self.recordHeaderBytes)
            if RawRecord(content, at: position, sequences: sequence + 1...latest) != nil { return position }
            position += 1
        }
        return nil
    }

    private struct RawRecord {
        var sequence: UInt64
        var payload: Range<Int>

        /// Nil unless a whole record with a true checksum stands there.
        init?(_ content: [UInt8], at position: Int, sequences: ClosedRange<UInt64>? = nil) {
            let found = content.withUnsafeBytes { bytes -> (UInt64, Range<Int>)? in
                guard position + recordHeaderBytes <= bytes.count else { return nil }
                func u32(_ offset: Int) -> UInt32 { UInt32(littleEndian: bytes.loadUnaligned(fromByteOffset: position + offset, as: UInt32.self)) }
                let sequence = UInt64(littleEndian: bytes.loadUnaligned(fromByteOffset: position + 8, as: UInt64.self))
                if let sequences, !sequences.contains(sequence) { return nil }
                let length = Int(u32(0))
                let start = position + recordHeaderBytes
                guard length > 0, length <= payloadBytesMax, length <= bytes.count - start else { return nil }
                guard checksum(UInt32(length), UnsafeRawBufferPointer(rebasing: bytes[position + 8..<start + length])) == u32(4) else { return nil }
                return (sequence, start..<start + length)
            }
            guard let found else { return nil }
            (sequence, payload) = found
        }
    }

    private static func checksum(_ length: UInt32, _ rest: UnsafeRawBufferPointer) -> UInt32 {
        crc32c(rest, seed: withUnsafeBytes(of: length.littleEndian) { crc32c($0) })
    }

    // MARK: Writing

    /// Collects a record for the next ``write()``.
    func append(_ record: CoordinatorRecord) {
        sequence += 1
        Self.encode(record, sequence: sequence, to: &buffer)
    }

    private static func encode(_ record: CoordinatorRecord, sequence: UInt64, to writer: inout ByteWriter) {
        let start = writer.count
        writer.writeU32(0)
        writer.writeU32(0)
        writer.writeU64(sequence)
        record.encode(to: &writer)
        let length = writer.count - start - recordHeaderBytes
        precondition(length <= payloadBytesMax, "a record of \(length) bytes; the limits on groups and members keep it below \(payloadBytesMax)")
        let check = writer.withBytes { checksum(UInt32(length), UnsafeRawBufferPointer(rebasing: $0[(start + 8)...])) }
        writer.patchU32(UInt32(length), at: start)
        writer.patchU32(check, at: start + 4)
    }

    /// Hands what was appended to the system: from here it outlives the process.
    ///
    /// - Returns: Whether there was something to write.
    @discardableResult
    func write() throws(BrokerFailure) -> Bool {
        guard buffer.count > 0 else { return false }
        try buffer.withBytes { (content) throws(BrokerFailure) in try file.write(content, at: bytes) }
        bytes += buffer.count
        buffer.removeAll()
        return true
    }

    /// Whether most of the file says nothing any more.
    var needsCompaction: Bool { bytes >= max(Self.compactionBytesMin, 4 * compactedBytes) }

    /// Replaces the file by one that holds these records alone. What was appended and not written is in them.
    func compact(to records: [CoordinatorRecord]) throws(BrokerFailure) {
        var content = ByteWriter(capacity: 64 << 10)
        content.writeBytes(Self.header)
        for (index, record) in records.enumerated() { Self.encode(record, sequence: UInt64(index) + 1, to: &content) }
        try DataFile.replace(file.path, with: content.finish())
        file = try DataFile(file.path, .write)
        sequence = UInt64(records.count)
        bytes = content.count
        compactedBytes = content.count
        buffer.removeAll()
    }
}
