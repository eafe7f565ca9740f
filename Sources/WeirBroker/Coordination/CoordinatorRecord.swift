import WeirBase

/// One entry of the coordinators' journal. Each says the whole new state of what it names, so the last one wins.
enum CoordinatorRecord: Sendable, Equatable {
    /// Producer ids below this one may be in use: after a restart the first new one is this.
    case producerIDs(below: Int64)
    case transaction(TransactionMetadata)
    /// The transactional id expired.
    case transactionRemoved(String)
    case group(GroupSnapshot)
    /// The group and all of its offsets are gone.
    case groupRemoved(String)
    /// The offsets of one commit: all of them or none survive a crash.
    case offsets(group: String, [TopicPartition: CommittedOffset])
    case offsetsRemoved(group: String, [TopicPartition])
    /// Offsets inside a transaction: nobody sees them before it commits.
    case pendingOffsets(group: String, producerID: Int64, [TopicPartition: CommittedOffset])
    /// The transaction of the producer ended: its pending offsets became the group's, or are dropped.
    case pendingCompleted(group: String, producerID: Int64, commit: Bool)
}

/// Where a group goes on reading a partition.
struct CommittedOffset: Sendable, Equatable {
    var offset: Int64
    /// -1 where the client gave none.
    var leaderEpoch: Int32 = -1
    var metadata = ""
    var committedAt: WallTime
    /// Set by clients of OffsetCommit versions 2 to 4 alone; others leave it to `offsets.retention.minutes`.
    var expiresAt: WallTime?
}

/// A group's generation and members, as they are kept across restarts.
struct GroupSnapshot: Sendable, Equatable {
    struct Member: Sendable, Equatable {
        var id: String
        var instanceID: String?
        var clientID: String
        var clientHost: String
        var sessionTimeout: Duration
        var rebalanceTimeout: Duration
        /// For the group's protocol.
        var metadata: [UInt8]
        var assignment: [UInt8]
    }

    var id: String
    var generation: Int32
    /// Empty where the group never had members.
    var protocolType: String
    /// Nil while the group is empty.
    var protocolName: String?
    var leaderID: String?
    var stateSince: WallTime
    /// In the order in which they joined.
    var members: [Member]
}
