import WeirBase

/// An assignor that a member offers, with what that assignor wants to know of the member. The broker passes the bytes on.
struct MemberProtocol: Sendable, Equatable {
    var name: String
    var metadata: [UInt8]
}

/// A member of a group.
struct GroupMember: Sendable {
    let id: String
    /// `group.instance.id`: a static member may come back under a new member id without a rebalance (KIP-345).
    var instanceID: String?
    var clientID: String
    var clientHost: String
    var rebalanceTimeout: Duration
    var sessionTimeout: Duration
    /// In the member's order of preference.
    var protocols: [MemberProtocol]
    var assignment: [UInt8] = []
    /// Rises with every member that joins: what makes elections the same in every run.
    let rank: UInt64
    /// Its first JoinGroup has not been answered yet, so it cannot send heartbeats.
    var isNew = true
    /// A JoinGroup that waits for the rebalance.
    var awaitingJoin: RequestToken?
    /// A SyncGroup that waits for the leader's assignment.
    var awaitingSync: RequestToken?
    /// Whether it has asked for its assignment in this generation.
    var hasSynced = false
    /// When its session ends unless it is heard of.
    var deadline: Instant

    func metadata(for name: String?) -> [UInt8] { protocols.first { $0.name == name }?.metadata ?? [] }

    /// What it takes in the journal, roughly, but for its assignment.
    var bytes: Int { Self.bytes(id: id, instanceID: instanceID, clientID: clientID, protocols: protocols) }

    static func bytes(id: String, instanceID: String?, clientID: String, protocols: [MemberProtocol]) -> Int {
        protocols.reduce(id.utf8.count + (instanceID?.utf8.count ?? 0) + clientID.utf8.count) { $0 + $1.name.utf8.count + $1.metadata.count }
    }

    /// Whether the session goes on although nothing was heard: a member whose request we hold cannot speak.
    var isExcused: Bool { !isNew && (awaitingJoin != nil || awaitingSync != nil) }
}

/// What a JoinGroup request says.
struct GroupJoin: Sendable {
    var group: String
    /// Empty before the coordinator has given one.
    var memberID = ""
    var instanceID: String?
    var clientID = ""
    var clientHost = ""
    var protocolType: String
    var protocols: [MemberProtocol]
    var sessionTimeout: Duration
    var rebalanceTimeout: Duration
    /// Since version 4 a dynamic member gets its id first and joins with it (KIP-394).
    var requiresKnownMemberID = false
    /// Since version 9 a static leader that comes back is told to take over without assigning anew (KIP-814).
    var supportsSkippingAssignment = false
}

/// What a SyncGroup request says.
struct GroupSync: Sendable {
    var group: String
    var generation: Int32
    var memberID: String
    var instanceID: String?
    /// Nil before version 5.
    var protocolType: String?
    var protocolName: String?
    /// By member id; from the leader only.
    var assignments: [String: [UInt8]]
}

/// A member as LeaveGroup names it.
struct LeavingMember: Sendable, Equatable {
    var memberID: String
    var instanceID: String?
}

/// What OffsetCommit and TxnOffsetCommit say, without the partitions that do not exist.
struct OffsetCommit: Sendable {
    var group: String
    var generation: Int32 = -1
    var memberID = ""
    var instanceID: String?
    var offsets: [TopicPartition: CommittedOffset]
    /// The producer whose transaction the offsets belong to. The caller has checked that the transaction is open and holds the group.
    var producerID: Int64?
}
