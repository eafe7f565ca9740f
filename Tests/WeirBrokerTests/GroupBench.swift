import Testing
import WeirBase
import WeirKafkaWire

@testable import WeirBroker

func partition(_ topic: String, _ number: Int32 = 0) -> TopicPartition { TopicPartition(topic: topic, partition: number) }

/// A group coordinator with a clock that moves when told to, and the answers it gave.
final class GroupBench {
    var coordinator: GroupCoordinator
    private var nanoseconds: Int64 = 0
    private(set) var records: [CoordinatorRecord] = []
    private(set) var replies: [RequestToken: GroupReply] = [:]
    private var lastRequest: UInt64 = 0

    var now: CoordinatorTime {
        CoordinatorTime(instant: Instant(nanoseconds: nanoseconds), wall: WallTime(milliseconds: 1_000_000 + nanoseconds / 1_000_000))
    }

    init(_ change: (inout GroupOptions) -> Void = { _ in }) {
        var options = GroupOptions()
        change(&options)
        coordinator = GroupCoordinator(
            options: options, seed: 1,
            now: CoordinatorTime(instant: Instant(nanoseconds: 0), wall: WallTime(milliseconds: 1_000_000)))
    }

    func run(_ effects: [GroupCoordinator.Effect]) {
        for effect in effects {
            switch effect {
            case .persist(let record): records.append(record)
            case .reply(let request, let reply):
                #expect(replies[request] == nil, "\(request) is answered once")
                replies[request] = reply
            case .log: break
            }
        }
    }

    func send(_ event: GroupCoordinator.Event) -> RequestToken {
        lastRequest += 1
        let request = RequestToken(lastRequest)
        run(coordinator.handle(event, request: request, now: now))
        return request
    }

    /// Lets time pass, ticking whenever a tick is due.
    func pass(_ seconds: Double) {
        let end = nanoseconds + Int64(seconds * 1e3) * 1_000_000
        while coordinator.nextTick.nanoseconds <= end {
            nanoseconds = max(nanoseconds, coordinator.nextTick.nanoseconds)
            run(coordinator.tick(now: now))
            if coordinator.nextTick <= now.instant { return #expect(Bool(false), "a tick that is due again at once would never end") }
        }
        nanoseconds = end
    }

    // MARK: Requests

    func join(
        _ memberID: String = "", instance: String? = nil, protocols: [String] = ["range"], metadata: [UInt8] = [1], session: Double = 10,
        rebalance: Double = 60, type: String = "consumer", group: String = "g", known: Bool = false, skipping: Bool = false
    ) -> RequestToken {
        send(
            .join(
                GroupJoin(
                    group: group, memberID: memberID, instanceID: instance, clientID: "client", clientHost: "/127.0.0.1", protocolType: type,
                    protocols: protocols.map { MemberProtocol(name: $0, metadata: metadata) }, sessionTimeout: .seconds(session),
                    rebalanceTimeout: .seconds(rebalance), requiresKnownMemberID: known, supportsSkippingAssignment: skipping)))
    }

    func sync(
        _ memberID: String, _ generation: Int32, instance: String? = nil, assigning: [String: [UInt8]] = [:], protocolName: String? = nil
    ) -> RequestToken {
        send(
            .sync(
                GroupSync(
                    group: "g", generation: generation, memberID: memberID, instanceID: instance, protocolName: protocolName, assignments: assigning))
        )
    }

    func heartbeat(_ memberID: String, _ generation: Int32, instance: String? = nil) -> KafkaErrorCode? {
        let request = send(.heartbeat(group: "g", memberID: memberID, instanceID: instance, generation: generation))
        guard case .heartbeat(let error) = replies[request] else { return nil }
        return error
    }

    func leave(_ members: LeavingMember...) -> [KafkaErrorCode]? {
        guard case .leave(let reply) = replies[send(.leave(group: "g", members))] else { return nil }
        return reply.members
    }

    func commit(
        _ offsets: [TopicPartition: Int64], member: String = "", generation: Int32 = -1, instance: String? = nil, producer: Int64? = nil,
        group: String = "g", metadata: String = "", expiresAfter: Double? = nil
    ) -> [TopicPartition: KafkaErrorCode]? {
        let values = offsets.mapValues { offset in
            CommittedOffset(
                offset: offset, metadata: metadata, committedAt: now.wall,
                expiresAt: expiresAfter.map { now.wall.advanced(byMilliseconds: Int64($0 * 1_000)) })
        }
        let commit = OffsetCommit(
            group: group, generation: generation, memberID: member, instanceID: instance, offsets: values, producerID: producer)
        guard case .commit(let results) = replies[send(.commit(commit))] else { return nil }
        return results
    }

    // MARK: Answers

    func joined(_ request: RequestToken) -> GroupReply.Join? {
        guard case .join(let reply) = replies[request] else { return nil }
        return reply
    }

    func synced(_ request: RequestToken) -> GroupReply.Sync? {
        guard case .sync(let reply) = replies[request] else { return nil }
        return reply
    }

    func offset(_ partition: TopicPartition, group: String = "g", stable: Bool = false) -> Int64? {
        guard case .committed(let value) = coordinator.fetch(partition, group: group, requireStable: stable) else { return nil }
        return value.offset
    }

    var state: String? { coordinator.describe("g")?.state }

    // MARK: Scenes

    /// A stable group of so many members, the leader first.
    func stableGroup(_ count: Int, instances: [String?] = []) -> [String] {
        let first = join(instance: instances.first ?? nil)
        guard let leader = joined(first)?.memberID else { return [] }
        var ids = [leader]
        _ = sync(leader, 1, instance: instances.first ?? nil, assigning: [leader: [0]])
        for index in 1..<max(count, 1) {
            let instance = index < instances.count ? instances[index] : nil
            let request = join(instance: instance)
            for (rejoining, id) in ids.enumerated() { _ = join(id, instance: rejoining < instances.count ? instances[rejoining] : nil) }
            guard let reply = joined(request) else { return [] }
            ids.append(reply.memberID)
            let assignment = Dictionary(uniqueKeysWithValues: ids.enumerated().map { ($1, [UInt8($0)]) })
            for (syncing, id) in ids.enumerated() {
                _ = sync(
                    id, reply.generation, instance: syncing < instances.count ? instances[syncing] : nil, assigning: id == leader ? assignment : [:])
            }
        }
        return ids
    }
}
