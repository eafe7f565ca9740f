import WeirBase
import WeirKafkaWire

/// SyncGroup, Heartbeat, LeaveGroup, and members that are not heard of any more.
extension Group {
    mutating func sync(_ request: RequestToken, _ sync: GroupSync, now: CoordinatorTime) {
        if let problem = problem(with: sync) { return outbox.append(.reply(request, .sync(GroupReply.Sync(error: problem)))) }
        switch state {
        case .empty: outbox.append(.reply(request, .sync(GroupReply.Sync(error: .unknownMemberID))))
        case .preparingRebalance: outbox.append(.reply(request, .sync(GroupReply.Sync(error: .rebalanceInProgress))))
        case .completingRebalance:
            if let earlier = members[sync.memberID]?.awaitingSync {
                outbox.append(.reply(earlier, .sync(GroupReply.Sync(error: .rebalanceInProgress))))
            }
            members[sync.memberID]?.awaitingSync = request
            noteSynced(sync.memberID)
            if sync.memberID == leaderID { assign(sync.assignments, now: now) }
        case .stable:
            noteSynced(sync.memberID)
            members[sync.memberID]?.awaitingSync = request
            answerSync(sync.memberID, assignmentReply(sync.memberID), now: now)
        }
    }

    private func problem(with sync: GroupSync) -> KafkaErrorCode? {
        if let problem = problem(with: sync.memberID, instanceID: sync.instanceID) { return problem }
        if sync.generation != generation { return .illegalGeneration }
        if let type = sync.protocolType, type != protocolType { return .inconsistentGroupProtocol }
        if let name = sync.protocolName, name != protocolName { return .inconsistentGroupProtocol }
        return nil
    }

    private mutating func noteSynced(_ memberID: String) {
        members[memberID]?.hasSynced = true
        if members.values.allSatisfy(\.hasSynced) { syncDeadline = nil }
    }

    private func assignmentReply(_ memberID: String) -> GroupReply.Sync {
        GroupReply.Sync(protocolType: protocolType, protocolName: protocolName, assignment: members[memberID]?.assignment ?? [])
    }

    /// The leader has decided.
    private mutating func assign(_ assignments: [String: [UInt8]], now: CoordinatorTime) {
        guard members.values.reduce(0, { $0 + $1.bytes + (assignments[$1.id]?.count ?? 0) }) <= options.memberBytesMax else {
            // As Kafka says it when the group cannot be stored; whoever waits joins again.
            for member in orderedMembers { answerSync(member.id, .init(error: .unknownServerError), now: now) }
            return prepareRebalance("the leader's assignment is too large", now: now)
        }
        for member in orderedMembers { members[member.id]?.assignment = assignments[member.id] ?? [] }
        transition(to: .stable, now: now)
        persist()
        for member in orderedMembers { answerSync(member.id, assignmentReply(member.id), now: now) }
    }

    /// Answers a member that waits for its assignment, and starts its session anew: it could not send heartbeats meanwhile.
    mutating func answerSync(_ memberID: String, _ reply: GroupReply.Sync, now: CoordinatorTime) {
        guard let request = members[memberID]?.awaitingSync else { return }
        members[memberID]?.awaitingSync = nil
        extendSession(memberID, now: now)
        outbox.append(.reply(request, .sync(reply)))
    }

    mutating func extendSession(_ memberID: String, now: CoordinatorTime) {
        guard let member = members[memberID] else { return }
        members[memberID]?.deadline = now.instant.advanced(by: member.sessionTimeout)
    }

    mutating func heartbeat(memberID: String, instanceID: String?, generation: Int32, now: CoordinatorTime) -> KafkaErrorCode {
        if let problem = problem(with: memberID, instanceID: instanceID) { return problem }
        guard generation == self.generation else { return .illegalGeneration }
        guard state != .empty else { return .unknownMemberID }
        extendSession(memberID, now: now)
        return state == .preparingRebalance ? .rebalanceInProgress : .none
    }

    /// - Returns: What became of each, in the same order.
    mutating func leave(_ leaving: [LeavingMember], now: CoordinatorTime) -> [KafkaErrorCode] {
        leaving.map { member in
            if member.memberID.isEmpty {
                // An operator removes a static member by its instance id alone.
                guard let instanceID = member.instanceID, let current = staticMembers[instanceID] else { return .unknownMemberID }
                removeMember(current, now: now)
                return .none
            }
            if pendingMembers.removeValue(forKey: member.memberID) != nil {
                completeJoinIfAllJoined(now: now)
                return .none
            }
            if let problem = problem(with: member.memberID, instanceID: member.instanceID) { return problem }
            removeMember(member.memberID, now: now)
            return .none
        }
    }

    // MARK: Time

    mutating func tick(now: CoordinatorTime) {
        let lapsed = pendingMembers.filter { $0.value <= now.instant }.keys.sorted()
        for memberID in lapsed { pendingMembers[memberID] = nil }
        for id in orderedMembers.map(\.id) {
            // What became of those before may have started its session anew.
            guard let member = members[id], member.deadline <= now.instant else { continue }
            if member.isExcused {
                extendSession(member.id, now: now)
            } else {
                outbox.append(.log("member expired", group: self.id, detail: member.id))
                removeMember(member.id, now: now)
            }
        }
        if let deadline = joinWait?.deadline, deadline <= now.instant { joinWaitExpired(now: now) }
        if !lapsed.isEmpty { completeJoinIfAllJoined(now: now) }
        if let deadline = syncDeadline, deadline <= now.instant { dropUnsynced(now: now) }
    }

    /// Members that joined and never asked for their assignment hold partitions that nobody reads.
    private mutating func dropUnsynced(now: CoordinatorTime) {
        syncDeadline = nil
        let silent = orderedMembers.filter { !$0.hasSynced }.map(\.id)
        for memberID in silent { forget(memberID) }
        prepareRebalance("\(silent.count) members did not ask for their assignment", now: now)
    }
}
