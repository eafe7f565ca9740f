import WeirBase
import WeirKafkaWire

/// One group of the classic protocol: its members, their generation and assignment, and the offsets it committed.
///
/// A value without I/O. What follows from an event is collected in ``outbox``, which the coordinator takes.
///
///         members join          all joined, or time is up          the leader's assignment
///     Empty ──────▶ PreparingRebalance ──────▶ CompletingRebalance ──────▶ Stable
///       ▲                  │  ▲                        │                      │
///       └── no member left ┘  └──── a member joins, leaves, changes or is lost ┘
struct Group: Sendable {
    enum State: String, Sendable {
        case empty = "Empty"
        case preparingRebalance = "PreparingRebalance"
        case completingRebalance = "CompletingRebalance"
        case stable = "Stable"
    }

    /// The wait for members to join again.
    struct JoinWait: Sendable {
        var deadline: Instant
        /// Only in a group that was empty: how much longer the first rebalance may be put off while members keep coming
        /// (`group.initial.rebalance.delay.ms`).
        var initialRemaining: Duration?
        var memberAdded = false
    }

    /// A new member whose first join is not answered in this time is dropped: its client has given up, and has no id to come back with.
    static let newMemberJoinTimeout = Duration.seconds(300)

    let id: String
    private(set) var state = State.empty
    /// When ``state`` was entered.
    private(set) var stateSince: WallTime
    var generation: Int32 = 0
    /// Nil until the first member joined; kept when the last one leaves.
    var protocolType: String?
    var protocolName: String?
    var leaderID: String?
    var members: [String: GroupMember] = [:]
    /// Member ids by `group.instance.id`.
    var staticMembers: [String: String] = [:]
    /// Ids given out to members that have not joined with them yet, and when they lapse.
    var pendingMembers: [String: Instant] = [:]
    var joinWait: JoinWait?
    /// When members that have not asked for their assignment are dropped.
    var syncDeadline: Instant?
    var offsets = GroupOffsets()
    /// What the journal holds of the members: the last generation that had an assignment, or none. Nil for a group that never had members.
    private(set) var stored: GroupSnapshot?
    private var nextRank: UInt64 = 0

    let options: GroupOptions
    var outbox: [GroupCoordinator.Effect] = []

    init(id: String, options: GroupOptions, now: CoordinatorTime) {
        self.id = id
        self.options = options
        stateSince = now.wall
    }

    mutating func take() -> [GroupCoordinator.Effect] {
        let effects = outbox
        outbox = []
        return effects
    }

    mutating func transition(to state: State, now: CoordinatorTime) {
        self.state = state
        stateSince = now.wall
    }

    mutating func takeRank() -> UInt64 {
        defer { nextRank += 1 }
        return nextRank
    }

    /// In the order in which they joined.
    var orderedMembers: [GroupMember] { members.values.sorted { $0.rank < $1.rank } }

    var rebalanceTimeout: Duration { members.values.map(\.rebalanceTimeout).max() ?? .zero }

    var isUnused: Bool { state == .empty && offsets.isEmpty && pendingMembers.isEmpty }

    /// Whether somebody may be removed or a rebalance may go on at a time; the earliest such time.
    var nextDeadline: Instant? {
        var earliest = joinWait?.deadline
        func consider(_ instant: Instant?) {
            guard let instant else { return }
            earliest = min(earliest ?? instant, instant)
        }
        consider(syncDeadline)
        for member in members.values { consider(member.deadline) }
        for deadline in pendingMembers.values { consider(deadline) }
        return earliest
    }

    // MARK: Who is who

    /// Whether a request comes from the member that it names.
    ///
    /// - Returns: Nil if so. 82 where another member has taken over the static member's place, 25 for one that the group does not know.
    func problem(with memberID: String, instanceID: String?) -> KafkaErrorCode? {
        if let instanceID {
            guard let current = staticMembers[instanceID] else { return .unknownMemberID }
            guard current == memberID else { return .fencedInstanceID }
        }
        return members[memberID] == nil ? .unknownMemberID : nil
    }

    func supports(_ protocolType: String, _ protocols: [MemberProtocol]) -> Bool {
        guard !members.isEmpty else { return !protocolType.isEmpty && !protocols.isEmpty }
        guard protocolType == self.protocolType else { return false }
        let common = commonProtocols
        return protocols.contains { common.contains($0.name) }
    }

    /// Names that every member supports.
    private var commonProtocols: Set<String> {
        var names = members.values.map { Set($0.protocols.map(\.name)) }
        guard var common = names.popLast() else { return [] }
        for other in names { common.formIntersection(other) }
        return common
    }

    /// The protocol that most members like best among those that all support; the earliest member decides a tie.
    func selectProtocol() -> String? {
        let common = commonProtocols
        let votes = orderedMembers.compactMap { member in member.protocols.first { common.contains($0.name) }?.name }
        var counts: [String: Int] = [:]
        for vote in votes { counts[vote, default: 0] += 1 }
        guard let most = counts.values.max() else { return nil }
        return votes.first { counts[$0] == most }
    }

    /// The topics that the members' assignor knows of; nil where the metadata cannot be read, which counts as every topic.
    var subscribedTopics: Set<String>? {
        guard protocolType == ConsumerProtocol.type else { return nil }
        var topics: Set<String> = []
        for member in members.values {
            guard let subscribed = ConsumerProtocol.subscribedTopics(member.metadata(for: protocolName)) else { return nil }
            topics.formUnion(subscribed)
        }
        return topics
    }

    // MARK: What outlives a restart

    private var snapshot: GroupSnapshot {
        GroupSnapshot(
            id: id, generation: generation, protocolType: protocolType ?? "", protocolName: protocolName, leaderID: leaderID,
            stateSince: stateSince,
            members: orderedMembers.map { member in
                GroupSnapshot.Member(
                    id: member.id, instanceID: member.instanceID, clientID: member.clientID, clientHost: member.clientHost,
                    sessionTimeout: member.sessionTimeout, rebalanceTimeout: member.rebalanceTimeout,
                    metadata: member.metadata(for: protocolName), assignment: member.assignment)
            })
    }

    mutating func persist() {
        let snapshot = snapshot
        stored = snapshot
        outbox.append(.persist(.group(snapshot)))
    }

    /// Takes up what was stored. Members have a whole session from now to be heard of.
    mutating func restore(_ snapshot: GroupSnapshot, now: CoordinatorTime) {
        generation = snapshot.generation
        protocolType = snapshot.protocolType.isEmpty ? nil : snapshot.protocolType
        protocolName = snapshot.protocolName
        leaderID = snapshot.leaderID
        members = [:]
        staticMembers = [:]
        for stored in snapshot.members {
            members[stored.id] = GroupMember(
                id: stored.id, instanceID: stored.instanceID, clientID: stored.clientID, clientHost: stored.clientHost,
                rebalanceTimeout: stored.rebalanceTimeout, sessionTimeout: stored.sessionTimeout,
                protocols: [MemberProtocol(name: snapshot.protocolName ?? "", metadata: stored.metadata)], assignment: stored.assignment,
                rank: takeRank(), isNew: false, hasSynced: true, deadline: now.instant.advanced(by: stored.sessionTimeout))
            if let instanceID = stored.instanceID { staticMembers[instanceID] = stored.id }
        }
        state = members.isEmpty ? .empty : .stable
        stateSince = snapshot.stateSince
        stored = snapshot
    }

    func describe() -> GroupDescription {
        GroupDescription(
            id: id, state: state.rawValue, protocolType: protocolType ?? "", protocolName: state == .stable ? protocolName ?? "" : "",
            members: orderedMembers.map { member in
                GroupDescription.Member(
                    id: member.id, instanceID: member.instanceID, clientID: member.clientID, clientHost: member.clientHost,
                    // Between generations neither means anything, and Kafka tells neither.
                    metadata: state == .stable ? member.metadata(for: protocolName) : [], assignment: state == .stable ? member.assignment : [])
            })
    }
}
