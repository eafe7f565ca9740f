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

    /// The partitions that one subtask reads: `(start of the topic + partition) % parallelism`.
    ///
    /// The start of a topic is its place among the sorted topics. It depends on no partition count, so that subtasks that ask the broker at
    /// different times, while partitions are added, still agree on who reads what.
    ///
    /// - Parameter counts: Each topic's number of partitions.
    package static func assigned(to subtask: Int, of parallelism: Int, counts: [String: Int]) -> [KafkaPartition] {
        var own: [KafkaPartition] = []
        for (start, topic) in counts.keys.sorted().enumerated() {
            for partition in 0..<(counts[topic] ?? 0) where (start + partition) % parallelism == subtask {
                own.append(KafkaPartition(topic, Int32(partition)))
            }
        }
        return own
    }
}

/// How far a partition was read: one entry of a source's operator state.
///
///     | version: u8 = 1 | topic: varint length, UTF-8 | partition: i32 | next: i64 | stop: i64 | greatest: i64 |
///
/// Integers are little-endian. The entries of all subtasks go to every subtask at a restore, and each takes what is its own then.
package struct KafkaPosition: Equatable, Sendable {
    /// Where ``stop`` means no end.
    package static let unbounded = Int64.max

    package var split: KafkaPartition
    /// The offset of the next record to read; -2 for the earliest there is, as long as none was read.
    package var next: Int64
    /// Records at and above this offset are not read.
    package var stop: Int64
    /// The greatest event time of the records read; `Int64.min` before the first.
    package var greatest: Int64

    package init(split: KafkaPartition, next: Int64, stop: Int64 = unbounded, greatest: Int64 = .min) {
        self.split = split
        self.next = next
        self.stop = stop
        self.greatest = greatest
    }

    package func encode() -> [UInt8] {
        var writer = ByteWriter(capacity: 64)
        writer.writeU8(1)
        writer.writeString(split.topic)
        writer.writeI32(split.partition)
        writer.writeI64(next)
        writer.writeI64(stop)
        writer.writeI64(greatest)
        return writer.finish()
    }

    /// - Throws: `DecodingFailure` if the bytes are not what ``encode()`` gives.
    package init(decoding bytes: [UInt8]) throws {
        self = try bytes.withUnsafeBytes { bytes in
            var reader = ByteReader(bytes)
            let version = try reader.readU8()
            guard version == 1 else { throw DecodingFailure("a Kafka position of version \(version), known is 1", offset: 0) }
            let topic = try reader.readString()
            let partition = try reader.readI32()
            let position = KafkaPosition(
                split: KafkaPartition(topic, partition), next: try reader.readI64(), stop: try reader.readI64(),
                greatest: try reader.readI64())
            try reader.expectEnd()
            return position
        }
    }
}

/// Where a source starts to read a partition that no checkpoint has a position of.
public enum KafkaStart: Sendable, Equatable {
    /// What to do where the group has committed no offset.
    public enum Reset: Sendable, Equatable { case earliest, latest, fail }

    /// The oldest record that the broker still has.
    case earliest
    /// Behind the newest record there is when the job starts.
    case latest
    /// The first record whose Kafka timestamp (milliseconds since 1970) is at or after this; the end of the partition if there is none.
    case timestamp(Int64)
    /// The offsets of the group `group.id`, which must be set.
    case committed(otherwise: Reset)
    /// These offsets, topic by topic. A partition that is not listed starts at the group's offset if `group.id` is set, else as `otherwise` says.
    case offsets([String: [Int32: Int64]], otherwise: Reset)
}

/// Where a source ends, if it does.
public enum KafkaStop: Sendable, Equatable {
    case never
    /// Before the records that come after the job started.
    case latest
    /// Before the first record whose Kafka timestamp (milliseconds since 1970) is at or after this.
    case timestamp(Int64)
    /// Before these offsets. Every partition must be listed.
    case offsets([String: [Int32: Int64]])
}

/// What to do about a record that the format cannot read.
public enum KafkaPoisonPolicy: Sendable, Equatable {
    /// Fail the job, saying where the record is.
    case fail
    /// Leave it out and count it: the counter `deserializationErrors`.
    case skip
}

/// What to do if the next record to read is no longer, or not yet, on the broker.
public enum KafkaRangePolicy: Sendable, Equatable {
    /// Fail the job, naming the offset that was wanted and those that there are.
    case fail
    /// Go on at the oldest record there is; what is missing is counted: `recordsLost`.
    case earliest
    /// Go on behind the newest record; what is missing is counted: `recordsLost`.
    case latest
}
