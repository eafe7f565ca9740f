package import WeirBase

/// What flows through a channel, in order.
public enum StreamElement: Sendable {
    /// Rows. Whoever receives the element owns the batch.
    case batch(AnyBatch)
    /// No row with an earlier or equal event time follows (milliseconds since 1970). `Int64.max` comes once, at the end of data.
    case watermark(Int64)
    /// While idle, the channel does not hold back the watermark of its receiver.
    case status(idle: Bool)
    /// Everything before it belongs to the checkpoint, nothing behind it does.
    case barrier(Barrier)
    /// No more rows. Barriers may still follow: a finished task goes on answering checkpoints.
    case endOfData
}

/// The mark that a checkpoint sends through the streams (Chandy-Lamport, as in Flink).
public struct Barrier: Hashable, Sendable {
    public struct Flags: OptionSet, Hashable, Sendable {
        public let rawValue: UInt8
        @inlinable public init(rawValue: UInt8) { self.rawValue = rawValue }
        /// Take a full, self-contained snapshot.
        public static let savepoint = Flags(rawValue: 1)
        /// The job stops with this checkpoint: sources emit nothing behind it.
        public static let stop = Flags(rawValue: 2)
        /// With ``stop``: sources end their data before it.
        public static let drain = Flags(rawValue: 4)
    }

    /// The checkpoint; rises from one to the next of an execution.
    public let checkpoint: UInt64
    /// When it was triggered, milliseconds since 1970.
    public let timestamp: Int64
    public let flags: Flags

    @inlinable
    public init(checkpoint: UInt64, timestamp: Int64, flags: Flags = []) {
        self.checkpoint = checkpoint
        self.timestamp = timestamp
        self.flags = flags
    }

    package var id: CheckpointID { CheckpointID(checkpoint) }
}
