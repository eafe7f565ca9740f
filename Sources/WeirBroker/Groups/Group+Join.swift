import WeirBase
import WeirKafkaWire

/// JoinGroup, and the rebalance up to the answers to it.
extension Group {
    /// Whether there is room for whoever joins: those that are in, up to the limit of those that are not.
    private func accepts(_ memberID: String) -> Bool {
        switch state {
        case .empty: true
        case .preparingRebalance:
            members[memberID]?.awaitingJoin != nil || members.values.count { $0.awaitingJoin != nil } < options.membersMax
        case .completingRebalance, .stable: members[memberID] != nil || members.count < options.membersMax
        }
    }

    /// Whether the members are few and small enough with whoever joins.
    private func hasRoom(for join: GroupJoin) -> Bool {
        let others = members.values.lazy.filter { $0.id != join.memberID }.reduce(0) { $0 + $1.bytes }
        let own = GroupMember.bytes(id: join.memberID, instanceID: join.instanceID, clientID: join.clientID, protocols: join.protocols)
        return others + own <= options.memberBytesMax
    }

    /// - Parameter newMemberID: The id for whoever joins without one.
    mutating func join(_ request: RequestToken, _ join: GroupJoin, newMemberID: String, now: CoordinatorTime) {
        // Ids that are given out but not used cost memory as members do.
        guard accepts(join.memberID), hasRoom(for: join), !join.memberID.isEmpty || pendingMembers.count < options.membersMax else {
            if members[join.memberID] != nil { removeMember(join.memberID, now: now) }
            pendingMembers[join.memberID] = nil
            return refuse(request, .groupMaxSizeReached)
        }
        guard supports(join.protocolType, join.protocols) else { return refuse(request, .inconsistentGroupProtocol, memberID: join.memberID) }
        if join.memberID.isEmpty {
            joinNew(request, join, memberID: newMemberID, now: now)
        } else {
            joinKnown(request, join, now: now)
        }
        completeJoinIfAllJoined(now: now)
    }

    private mutating func refuse(_ request: RequestToken, _ error: KafkaErrorCode, memberID: String = "") {
        outbox.append(.reply(request, .join(.failed(error, memberID: memberID))))
    }

    private mutating func joinNew(_ request: RequestToken, _ join: GroupJoin, memberID: String, now: CoordinatorTime) {
        if let instanceID = join.instanceID {
            if let old = staticMembers[instanceID] {
                replaceStaticMember(old, with: memberID, request, join, now: now)
            } else {
                add(request, join, memberID: memberID, now: now)
            }
        } else if join.requiresKnownMemberID {
            pendingMembers[memberID] = now.instant.advanced(by: join.sessionTimeout)
            refuse(request, .memberIDRequired, memberID: memberID)
        } else {
            add(request, join, memberID: memberID, now: now)
        }
    }

    private mutating func joinKnown(_ request: RequestToken, _ join: GroupJoin, now: CoordinatorTime) {
        if join.instanceID == nil, pendingMembers.removeValue(forKey: join.memberID) != nil {
            return add(request, join, memberID: join.memberID, now: now)
        }
        if let problem = problem(with: join.memberID, instanceID: join.instanceID) { return refuse(request, problem, memberID: join.memberID) }
        let hasChanged = members[join.memberID]?.protocols != join.protocols
        switch state {
        case .preparingRebalance:
            update(join.memberID, request, join)
        case .completingRebalance where !hasChanged:
            // Its answer was lost.
            answer(request, memberID: join.memberID)
        case .stable where !hasChanged && join.memberID != leaderID:
            answer(request, memberID: join.memberID)
        case .completingRebalance, .stable:
            // A leader that joins again wants a new assignment although no member changed: a topic has more partitions, say.
            update(join.memberID, request, join)
            prepareRebalance("member \(join.memberID) joined again", now: now)
        case .empty:
            refuse(request, .unknownMemberID, memberID: join.memberID)
        }
    }

    /// Tells a member of the generation that it belongs to.
    private mutating func answer(_ request: RequestToken, memberID: String, skipsAssignment: Bool = false, leader: String? = nil) {
        let reply = GroupReply.Join(
            memberID: memberID, generation: generation, protocolType: protocolType, protocolName: protocolName,
            leaderID: leader ?? leaderID ?? "", skipsAssignment: skipsAssignment,
            members: memberID == leaderID && leader == nil ? joinedMembers : [])
        outbox.append(.reply(request, .join(reply)))
    }

    private var joinedMembers: [GroupReply.Join.Member] {
        orderedMembers.map { GroupReply.Join.Member(id: $0.id, instanceID: $0.instanceID, metadata: $0.metadata(for: protocolName)) }
    }

    private mutating func add(_ request: RequestToken, _ join: GroupJoin, memberID: String, now: CoordinatorTime) {
        if members.isEmpty { protocolType = join.protocolType }
        members[memberID] = GroupMember(
            id: memberID, instanceID: join.instanceID, clientID: join.clientID, clientHost: join.clientHost,
            rebalanceTimeout: join.rebalanceTimeout, sessionTimeout: join.sessionTimeout, protocols: join.protocols, rank: takeRank(),
            awaitingJoin: request, deadline: now.instant.advanced(by: Self.newMemberJoinTimeout))
        if let instanceID = join.instanceID { staticMembers[instanceID] = memberID }
        if leaderID == nil { leaderID = memberID }
        if generation == 0 { joinWait?.memberAdded = true }
        prepareRebalance("member \(memberID) joined", now: now)
    }

    private mutating func update(_ memberID: String, _ request: RequestToken, _ join: GroupJoin) {
        // The client gave the earlier request up, or it would not ask again; whoever still reads its answer is told to join again.
        if let earlier = members[memberID]?.awaitingJoin { refuse(earlier, .rebalanceInProgress, memberID: memberID) }
        members[memberID]?.awaitingJoin = request
        members[memberID]?.protocols = join.protocols
        members[memberID]?.rebalanceTimeout = join.rebalanceTimeout
        members[memberID]?.sessionTimeout = join.sessionTimeout
    }

    /// A static member came back without its member id, because its process started anew: it takes its own place.
    private mutating func replaceStaticMember(
        _ oldID: String, with newID: String, _ request: RequestToken, _ join: GroupJoin, now: CoordinatorTime
    ) {
        guard let old = members.removeValue(forKey: oldID) else { preconditionFailure("static member \(oldID) of \(id) is not in the group") }
        // Two processes with one instance id: the newer one has the place.
        if let waiting = old.awaitingJoin { refuse(waiting, .fencedInstanceID, memberID: oldID) }
        if let waiting = old.awaitingSync { outbox.append(.reply(waiting, .sync(GroupReply.Sync(error: .fencedInstanceID)))) }
        var member = GroupMember(
            id: newID, instanceID: join.instanceID, clientID: join.clientID, clientHost: join.clientHost, rebalanceTimeout: join.rebalanceTimeout,
            sessionTimeout: join.sessionTimeout, protocols: join.protocols, assignment: old.assignment, rank: old.rank,
            isNew: false, hasSynced: old.hasSynced, deadline: now.instant.advanced(by: join.sessionTimeout))
        let oldLeader = leaderID
        if leaderID == oldID { leaderID = newID }
        if let instanceID = join.instanceID { staticMembers[instanceID] = newID }
        switch state {
        case .stable:
            members[newID] = member
            guard selectProtocol() == protocolName else {
                members[newID]?.awaitingJoin = request
                return prepareRebalance("static member \(newID) changed the group's protocol", now: now)
            }
            persist()
            if join.supportsSkippingAssignment {
                answer(request, memberID: newID, skipsAssignment: leaderID == newID)
            } else {
                // Told the old leader's id, a leader that came back does not assign: the group would not pass its assignment on.
                answer(request, memberID: newID, leader: oldLeader)
            }
        case .completingRebalance:
            // The leader may be assigning to the old id right now.
            member.awaitingJoin = request
            members[newID] = member
            prepareRebalance("static member \(newID) came back", now: now)
        case .preparingRebalance:
            member.awaitingJoin = request
            members[newID] = member
        case .empty:
            preconditionFailure("group \(id) is empty and has the static member \(oldID)")
        }
    }

    // MARK: The rebalance

    /// Asks every member to join again, unless they are being asked already.
    mutating func prepareRebalance(_ reason: String, now: CoordinatorTime) {
        guard state != .preparingRebalance else { return }
        if state == .completingRebalance {
            for member in orderedMembers {
                members[member.id]?.assignment = []
                answerSync(member.id, .init(error: .rebalanceInProgress), now: now)
            }
        }
        syncDeadline = nil
        if state == .empty, options.initialRebalanceDelay > .zero {
            joinWait = JoinWait(
                deadline: now.instant.advanced(by: options.initialRebalanceDelay),
                initialRemaining: max(.zero, rebalanceTimeout - options.initialRebalanceDelay))
        } else {
            joinWait = JoinWait(deadline: now.instant.advanced(by: rebalanceTimeout))
        }
        outbox.append(.log("rebalance started", group: id, detail: reason))
        transition(to: .preparingRebalance, now: now)
        completeJoinIfAllJoined(now: now)
    }

    mutating func completeJoinIfAllJoined(now: CoordinatorTime) {
        guard state == .preparingRebalance, joinWait?.initialRemaining == nil, pendingMembers.isEmpty,
            members.values.allSatisfy({ $0.awaitingJoin != nil })
        else { return }
        completeJoin(now: now)
    }

    /// The wait for members to join is over by the clock.
    mutating func joinWaitExpired(now: CoordinatorTime) {
        guard let wait = joinWait, state == .preparingRebalance else { return }
        if let remaining = wait.initialRemaining, wait.memberAdded, remaining > .zero {
            let delay = min(options.initialRebalanceDelay, remaining)
            joinWait = JoinWait(deadline: now.instant.advanced(by: delay), initialRemaining: remaining - delay)
            return
        }
        completeJoin(now: now)
    }

    private mutating func completeJoin(now: CoordinatorTime) {
        for member in orderedMembers where member.awaitingJoin == nil && member.instanceID == nil { forget(member.id) }
        guard !members.isEmpty else { return becomeEmpty(now: now) }
        if members[leaderID ?? ""]?.awaitingJoin == nil {
            guard let elected = orderedMembers.first(where: { $0.awaitingJoin != nil }) else {
                // Static members alone, and none of them came: their sessions decide.
                joinWait = JoinWait(deadline: now.instant.advanced(by: rebalanceTimeout))
                return
            }
            leaderID = elected.id
        }
        startGeneration()
        protocolName = selectProtocol()
        transition(to: .completingRebalance, now: now)
        for member in orderedMembers {
            members[member.id]?.awaitingJoin = nil
            members[member.id]?.isNew = false
            members[member.id]?.hasSynced = false
            members[member.id]?.deadline = now.instant.advanced(by: member.sessionTimeout)
            if let request = member.awaitingJoin { answer(request, memberID: member.id) }
        }
        syncDeadline = now.instant.advanced(by: rebalanceTimeout)
        outbox.append(.log("generation started", group: id, detail: "generation \(generation), \(members.count) members"))
    }

    private mutating func startGeneration() {
        generation = generation == .max ? 1 : generation + 1
        joinWait = nil
    }

    private mutating func becomeEmpty(now: CoordinatorTime) {
        startGeneration()
        protocolName = nil
        leaderID = nil
        transition(to: .empty, now: now)
        persist()
        outbox.append(.log("group is empty", group: id, detail: "generation \(generation)"))
    }

    /// Takes a member out, without asking the others to rebalance.
    mutating func forget(_ memberID: String) {
        guard let member = members.removeValue(forKey: memberID) else { return }
        if let instanceID = member.instanceID, staticMembers[instanceID] == memberID { staticMembers[instanceID] = nil }
        if leaderID == memberID { leaderID = orderedMembers.first?.id }
        // Without its id: whoever still listens joins anew.
        if let request = member.awaitingJoin { refuse(request, .unknownMemberID) }
        if let request = member.awaitingSync { outbox.append(.reply(request, .sync(GroupReply.Sync(error: .unknownMemberID)))) }
    }

    /// Takes a member out, and asks the others to rebalance.
    mutating func removeMember(_ memberID: String, now: CoordinatorTime) {
        forget(memberID)
        switch state {
        case .empty: break
        case .stable, .completingRebalance: prepareRebalance("member \(memberID) is gone", now: now)
        case .preparingRebalance: completeJoinIfAllJoined(now: now)
        }
    }
}
