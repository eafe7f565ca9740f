import WeirBase
import WeirKafkaWire

/// Decides for all groups: who is a member, which generation holds, which offsets are committed.
///
/// A value: no I/O, clock, lock or task. The same events at the same times give the same effects. Effects are to be run in their order;
/// a reply may leave once the records before it are as durable as the broker promises.
struct GroupCoordinator: Sendable {
    enum Event: Sendable {
        case join(GroupJoin)
        case sync(GroupSync)
        case heartbeat(group: String, memberID: String, instanceID: String?, generation: Int32)
        case leave(group: String, [LeavingMember])
        case commit(OffsetCommit)
        case deleteGroups([String])
        case deleteOffsets(group: String, [TopicPartition])
    }

    enum Effect: Sendable, Equatable {
        case persist(CoordinatorRecord)
        case reply(RequestToken, GroupReply)
        case log(String, group: String, detail: String)
    }

    let options: GroupOptions
    private(set) var groups: [String: Group] = [:]
    /// No group needs a tick earlier. Only a bound: members that are heard of are due later than it says.
    private var groupsDue: Instant?
    private var expiryDue: Instant
    private var random: SplitMix64

    /// - Parameter seed: For the ids of members.
    init(options: GroupOptions, seed: UInt64, now: CoordinatorTime) {
        self.options = options
        random = SplitMix64(seed: seed)
        expiryDue = now.instant.advanced(by: options.offsetsRetentionCheckInterval)
    }

    /// When ``tick(now:)`` is due.
    var nextTick: Instant { min(groupsDue ?? expiryDue, expiryDue) }

    // MARK: Events

    mutating func handle(_ event: Event, request: RequestToken, now: CoordinatorTime) -> [Effect] {
        switch event {
        case .join(let join): return self.join(request, join, now: now)
        case .sync(let sync):
            if sync.group.isEmpty { return [.reply(request, .sync(.init(error: .invalidGroupID)))] }
            return withGroup(sync.group, now) { $0.sync(request, sync, now: now) }
                ?? [.reply(request, .sync(.init(error: .unknownMemberID)))]
        case .heartbeat(let group, let memberID, let instanceID, let generation):
            if group.isEmpty { return [.reply(request, .heartbeat(.invalidGroupID))] }
            return withGroup(group, now) { group in
                let error = group.heartbeat(memberID: memberID, instanceID: instanceID, generation: generation, now: now)
                group.outbox.append(.reply(request, .heartbeat(error)))
            } ?? [.reply(request, .heartbeat(.unknownMemberID))]
        case .leave(let group, let members):
            if group.isEmpty { return [.reply(request, .leave(.init(error: .invalidGroupID)))] }
            return withGroup(group, now) { group in
                let errors = group.leave(members, now: now)
                group.outbox.append(.reply(request, .leave(.init(members: errors))))
            } ?? [.reply(request, .leave(.init(members: members.map { _ in .unknownMemberID })))]
        case .commit(let commit): return self.commit(request, commit, now: now)
        case .deleteGroups(let names): return deleteGroups(request, names)
        case .deleteOffsets(let group, let partitions):
            if group.isEmpty { return [.reply(request, .deleteOffsets(.invalidGroupID, [:]))] }
            return withGroup(group, now) { group in
                let (error, results) = group.deleteOffsets(partitions)
                group.outbox.append(.reply(request, .deleteOffsets(error, results)))
            } ?? [.reply(request, .deleteOffsets(.groupIDNotFound, [:]))]
        }
    }

    /// Removes members that are not heard of, goes on with rebalances whose time is up, and expires offsets.
    mutating func tick(now: CoordinatorTime) -> [Effect] {
        var effects: [Effect] = []
        if let due = groupsDue, due <= now.instant {
            groupsDue = nil
            for id in groups.keys.sorted() { effects += withGroup(id, now) { $0.tick(now: now) } ?? [] }
        }
        if expiryDue <= now.instant {
            expiryDue = now.instant.advanced(by: options.offsetsRetentionCheckInterval)
            for id in groups.keys.sorted() {
                effects += withGroup(id, now) { $0.expireOffsets(now: now) } ?? []
                if groups[id]?.isUnused == true { effects.append(remove(id)) }
            }
        }
        return effects
    }

    /// The transaction of a producer ended: what it would have set in these groups holds, or is dropped.
    mutating func completeTransaction(producerID: Int64, groups: some Sequence<String>, commit: Bool, now: CoordinatorTime) -> [Effect] {
        groups.sorted().flatMap { withGroup($0, now) { $0.completeTransaction(producerID: producerID, commit: commit) } ?? [] }
    }

    /// Topics or partitions were deleted, and their offsets with them.
    mutating func partitionsDeleted(where isDeleted: (TopicPartition) -> Bool, now: CoordinatorTime) -> [Effect] {
        groups.keys.sorted().flatMap { id in
            withGroup(id, now) { group in
                let pending = group.offsets.pending.values.flatMap(\.keys)
                group.removeOffsets(Set(group.offsets.partitions + pending).filter(isDeleted))
            } ?? []
        }
    }

    // MARK: Questions

    /// Sorted by id.
    func list() -> [GroupDescription] { groups.keys.sorted().compactMap { groups[$0]?.describe() } }

    /// Nil for a group that does not exist.
    func describe(_ group: String) -> GroupDescription? { groups[group]?.describe() }

    func fetch(_ partition: TopicPartition, group: String, requireStable: Bool) -> FetchedOffset {
        groups[group]?.offsets.fetch(partition, requireStable: requireStable) ?? .none
    }

    /// Every partition with an offset in the group, sorted.
    func partitions(in group: String) -> [TopicPartition] { groups[group]?.offsets.partitions ?? [] }

    // MARK: Replay

    /// Takes up a record of the journal. Records of transactions are not its business.
    mutating func replay(_ record: CoordinatorRecord, now: CoordinatorTime) {
        switch record {
        case .group(let snapshot):
            var group = groups[snapshot.id] ?? Group(id: snapshot.id, options: options, now: now)
            group.restore(snapshot, now: now)
            put(group)
        case .groupRemoved(let id): groups[id] = nil
        case .offsets(let id, let offsets): replay(id, now) { $0.commit(offsets) }
        case .offsetsRemoved(let id, let partitions): replay(id, now) { $0.remove(partitions) }
        case .pendingOffsets(let id, let producerID, let offsets): replay(id, now) { $0.prepare(offsets, producerID: producerID) }
        case .pendingCompleted(let id, let producerID, let commit): replay(id, now) { $0.complete(producerID: producerID, commit: commit) }
        case .producerIDs, .transaction, .transactionRemoved: break
        }
    }

    private mutating func replay(_ id: String, _ now: CoordinatorTime, _ body: (inout GroupOffsets) -> Void) {
        var group = groups[id] ?? Group(id: id, options: options, now: now)
        body(&group.offsets)
        put(group)
    }

    /// Records from which a new coordinator becomes what this one is, save for members that are joining right now.
    func records() -> [CoordinatorRecord] {
        groups.keys.sorted().flatMap { id -> [CoordinatorRecord] in
            guard let group = groups[id] else { return [] }
            var records = group.offsets.records(group: id)
            // The generation in the making was never stored either.
            if let stored = group.stored { records.insert(.group(stored), at: 0) }
            return records
        }
    }

    // MARK: Groups

    private mutating func withGroup(_ id: String, _ now: CoordinatorTime, _ body: (inout Group) -> Void) -> [Effect]? {
        // Taken out, so that it is changed in place.
        guard var group = groups.removeValue(forKey: id) else { return nil }
        body(&group)
        let effects = group.take()
        put(group)
        return effects
    }

    private mutating func put(_ group: Group) {
        if let due = group.nextDeadline { groupsDue = min(groupsDue ?? due, due) }
        groups[group.id] = group
    }

    private mutating func remove(_ id: String) -> Effect {
        groups[id] = nil
        return .persist(.groupRemoved(id))
    }

    private mutating func join(_ request: RequestToken, _ join: GroupJoin, now: CoordinatorTime) -> [Effect] {
        func refused(_ error: KafkaErrorCode) -> [Effect] { [.reply(request, .join(.failed(error, memberID: join.memberID)))] }
        guard !join.group.isEmpty else { return refused(.invalidGroupID) }
        guard (options.sessionTimeoutMin...options.sessionTimeoutMax).contains(join.sessionTimeout) else { return refused(.invalidSessionTimeout) }
        if groups[join.group] == nil {
            guard join.memberID.isEmpty else { return refused(.unknownMemberID) }
            guard groups.count < options.groupsMax else { return refused(.policyViolation) }
            groups[join.group] = Group(id: join.group, options: options, now: now)
        }
        let newID = newMemberID(join)
        return withGroup(join.group, now) { $0.join(request, join, newMemberID: newID, now: now) } ?? []
    }

    private mutating func commit(_ request: RequestToken, _ commit: OffsetCommit, now: CoordinatorTime) -> [Effect] {
        func refused(_ error: KafkaErrorCode) -> [Effect] { [.reply(request, .commit(commit.offsets.mapValues { _ in error }))] }
        if groups[commit.group] == nil {
            guard commit.generation < 0 || commit.producerID != nil else { return refused(.illegalGeneration) }
            guard groups.count < options.groupsMax else { return refused(.policyViolation) }
            groups[commit.group] = Group(id: commit.group, options: options, now: now)
        }
        return withGroup(commit.group, now) { group in
            let results = group.commit(commit, now: now)
            group.outbox.append(.reply(request, .commit(results)))
        } ?? []
    }

    private mutating func deleteGroups(_ request: RequestToken, _ names: [String]) -> [Effect] {
        var effects: [Effect] = []
        let errors = names.map { name -> KafkaErrorCode in
            guard let group = groups[name] else { return .groupIDNotFound }
            guard group.state == .empty else { return .nonEmptyGroup }
            effects.append(remove(name))
            return .none
        }
        return effects + [.reply(request, .deleteGroups(errors))]
    }

    /// As Kafka makes them: what a person recognises, then 128 random bits as a UUID.
    private mutating func newMemberID(_ join: GroupJoin) -> String {
        let (high, low) = (hexadecimal(random.next()), hexadecimal(random.next()))
        func part(_ text: String, _ range: Range<Int>) -> Substring { text.dropFirst(range.lowerBound).prefix(range.count) }
        let uuid = "\(part(high, 0..<8))-\(part(high, 8..<12))-\(part(high, 12..<16))-\(part(low, 0..<4))-\(part(low, 4..<16))"
        return "\(join.instanceID ?? join.clientID)-\(uuid)"
    }
}
