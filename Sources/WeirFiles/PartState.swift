import WeirBase
import WeirDataflow

/// What a checkpoint holds of the files of a sink. All subtasks see all entries at a restore.
///
/// Little-endian; proto-docs/files.md:
///
///     subtask | version: u8 = 2 | kind: u8 = 0 | subtask: i32 | files: i64 |
///     file    | version: u8 = 2 | kind: u8 = 1 | subtask: i32 | sequence: i64 | job: 2 × u64 | epoch: u32 | length: i64 | closed: u8 |
struct PartState: Equatable {
    static let name = "files.parts"

    /// A file that was not published at the barrier.
    struct File: Equatable {
        var name: PartName
        /// Bytes in front of the barrier; at least 1.
        var length: Int64
        /// Its writer closed it before the barrier: nobody can write to it any more.
        var isClosed: Bool
    }

    /// How many files each subtask has begun.
    var begun: [Int32: Int64] = [:]
    var files: [File] = []

    var entries: [[UInt8]] {
        begun.sorted { $0.key < $1.key }.map { subtask, count in
            var writer = ByteWriter(capacity: 16)
            writer.writeU8(2)
            writer.writeU8(0)
            writer.writeI32(subtask)
            writer.writeI64(count)
            return writer.finish()
        }
            + files.map { file in
                var writer = ByteWriter(capacity: 48)
                writer.writeU8(2)
                writer.writeU8(1)
                writer.writeI32(file.name.subtask)
                writer.writeI64(file.name.sequence)
                writer.writeU64(file.name.job.high)
                writer.writeU64(file.name.job.low)
                writer.writeU32(file.name.epoch.rawValue)
                writer.writeI64(file.length)
                writer.writeU8(file.isClosed ? 1 : 0)
                return writer.finish()
            }
    }

    init() {}

    /// - Throws: `DecodingFailure`.
    init(entries: [[UInt8]]) throws {
        for entry in entries {
            try entry.withUnsafeBytes { bytes in
                var reader = ByteReader(bytes)
                try read(&reader)
                try reader.expectEnd()
            }
        }
    }

    private mutating func read(_ reader: inout ByteReader) throws {
        guard try reader.readU8() == 2 else { throw DecodingFailure("an entry of an unknown version", offset: 0) }
        let kind = try reader.readU8()
        let subtask = try reader.readI32()
        let number = try reader.readI64()
        guard subtask >= 0, number >= 0 else { throw DecodingFailure("file \(number) of subtask \(subtask)", offset: 2) }
        switch kind {
        case 0: begun[subtask] = max(begun[subtask] ?? 0, number)
        case 1:
            let job = JobID(high: try reader.readU64(), low: try reader.readU64())
            let epoch = Epoch(try reader.readU32())
            let length = try reader.readI64()
            let closed = try reader.readU8()
            guard length > 0, closed <= 1 else { throw DecodingFailure("a file of \(length) bytes, closed: \(closed)", offset: 34) }
            files.append(File(name: PartName(subtask: subtask, sequence: number, job: job, epoch: epoch), length: length, isClosed: closed == 1))
        default: throw DecodingFailure("an entry of kind \(kind)", offset: 1)
        }
    }
}
