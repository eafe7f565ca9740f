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
    /// Before the offsets that the group `group.id` had committed when the job started. Every partition must have one.
    case committed
    /// Before these offsets. Every partition must be listed.
    case offsets([String: [Int32: Int64]])
}

/// What to do about a record that the format cannot read.
public enum KafkaPoisonPolicy: Sendable, Equatable {
    /// Fail the job, saying where the record is.
    case fail
    /// Leave it out and count it: the counter `deserializationErrors`.
    case skip
    /// Write it, with key and headers, to this topic of the same cluster, and count it. Headers beginning with `weir.` say where it was
    /// and what is wrong with it. A checkpoint completes only once the records before its barrier are there; after a failure
    /// they may be there twice.
    case deadLetter(topic: String)
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

/// What to do if a topic that was being read is deleted. It counts as deleted once the broker has said so three times in a row when asked
/// for it by name: a listing without it proves nothing.
public enum KafkaRemovalPolicy: Sendable, Equatable {
    /// Fail the job, naming the topic.
    case fail
    /// Keep its positions, and wait for it.
    case keep
    /// Forget its partitions: the watermark waits for them no longer. If the topic comes back, it is a new one.
    case drop
}
