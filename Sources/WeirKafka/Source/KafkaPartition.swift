import WeirBase

/// A partition of a topic: one split of a source.
package struct KafkaPartition: Hashable, Sendable, Comparable, CustomStringConvertible {
    package var topic: String
    package var partition: Int32

    package init(_ topic: String, _ partition: Int32) {
        self.topic = topic
        self.partition = partition
    }

    package var description: String { "\(topic)[\(partition)]" }
    package static func < (left: Self, right: Self) -> Bool { (left.topic, left.partition) < (right.topic, right.partition) }
}

/// How far a partition was read: one entry of a source's operator state `kafka.positions`.
///
///     | version: u8 = 2 | topic: varint length, UTF-8 | partition: i32 | next: i64 | stop: i64 | greatest: i64 | flags: u8 |
///
/// Integers are little-endian. Bit 0 of the flags: the schema ended the partition. The entries of all subtasks go to every subtask at a
/// restore, and each takes what is its own then.
package struct KafkaPosition: Equatable, Sendable {
    /// Where ``stop`` means no end.
    package static let unbounded = Int64.max
    /// As ``next``, and as a time to look up: the first record there is.
    package static let earliest: Int64 = -2
    /// As a time to look up: behind the last record there is.
    package static let latest: Int64 = -1
    /// As ``next``: the start position has not been looked up yet.
    package static let unresolved: Int64 = -3

    private static let version: UInt8 = 2

    package var split: KafkaPartition
    /// The offset of the next record to read; ``earliest`` as long as none was read, ``unresolved`` as long as it is not known.
    package var next: Int64
    /// Records at and above this offset are not read.
    package var stop: Int64
    /// The greatest event time of the records read; `Int64.min` before the first.
    package var greatest: Int64
    /// Whether the record before ``next`` was the end of the stream.
    package var hasEnded: Bool

    package init(split: KafkaPartition, next: Int64, stop: Int64 = unbounded, greatest: Int64 = .min, hasEnded: Bool = false) {
        self.split = split
        self.next = next
        self.stop = stop
        self.greatest = greatest
        self.hasEnded = hasEnded
    }

    /// Whether nothing is left to read.
    package var isFinished: Bool { hasEnded || (next >= 0 && next >= stop) }

    package func encode() -> [UInt8] {
        var writer = ByteWriter(capacity: 64)
        writer.writeU8(Self.version)
        writer.writeString(split.topic)
        writer.writeI32(split.partition)
        writer.writeI64(next)
        writer.writeI64(stop)
        writer.writeI64(greatest)
        writer.writeU8(hasEnded ? 1 : 0)
        return writer.finish()
    }

    /// - Throws: `DecodingFailure` if the bytes are not what ``encode()`` gives.
    package init(decoding bytes: [UInt8]) throws {
        self = try bytes.withUnsafeBytes { bytes in
            var reader = ByteReader(bytes)
            let version = try reader.readU8()
            guard version == Self.version else { throw DecodingFailure("a Kafka position of version \(version), known is 2", offset: 0) }
            let topic = try reader.readString()
            let partition = try reader.readI32()
            let next = try reader.readI64()
            let stop = try reader.readI64()
            let greatest = try reader.readI64()
            let flagsAt = reader.position
            let flags = try reader.readU8()
            guard flags <= 1 else { throw DecodingFailure("a Kafka position with flags \(flags)", offset: flagsAt) }
            try reader.expectEnd()
            return KafkaPosition(split: KafkaPartition(topic, partition), next: next, stop: stop, greatest: greatest, hasEnded: flags == 1)
        }
    }
}

/// A subtask that had not looked up its partitions when the checkpoint was taken: one entry of the operator state `kafka.starting`.
///
///     | version: u8 = 1 | subtask: u32 | parallelism: u32 |        little-endian
///
/// Without it a restored source would take the partitions of that subtask for new ones, and read them from their beginning.
struct KafkaStartingShare: Equatable, Sendable {
    var subtask: Int
    var parallelism: Int

    func encode() -> [UInt8] {
        var writer = ByteWriter(capacity: 9)
        writer.writeU8(1)
        writer.writeU32(UInt32(subtask))
        writer.writeU32(UInt32(parallelism))
        return writer.finish()
    }

    init(subtask: Int, parallelism: Int) {
        self.subtask = subtask
        self.parallelism = parallelism
    }

    /// - Throws: `DecodingFailure` if the bytes are not what ``encode()`` gives.
    init(decoding bytes: [UInt8]) throws {
        self = try bytes.withUnsafeBytes { bytes in
            var reader = ByteReader(bytes)
            let version = try reader.readU8()
            guard version == 1 else { throw DecodingFailure("a starting share of version \(version), known is 1", offset: 0) }
            let share = KafkaStartingShare(subtask: Int(try reader.readU32()), parallelism: Int(try reader.readU32()))
            try reader.expectEnd()
            guard share.subtask < share.parallelism else {
                throw DecodingFailure("subtask \(share.subtask) of \(share.parallelism)", offset: 1)
            }
            return share
        }
    }
}
