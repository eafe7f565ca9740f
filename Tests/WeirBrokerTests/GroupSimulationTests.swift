import Foundation
import Testing
import WeirBase
import WeirKafkaWire

@testable import WeirBroker

/// Members that join, change, fall silent, come back and leave in any order, drawn from a seed.
private struct GroupSimulation {
    private struct Client {
        let instanceID: String?
        var memberID = ""
        var generation: Int32 = -1
        var isLeader = false
        var request: RequestToken?
        /// What its SyncGroup is to be answered with.
        var expected: [UInt8] = []
    }

    private let bench = GroupBench { $0.membersMax = 6 }
    private var random: SplitMix64
    private var clients: [Client]
    private var sent: Set<RequestToken> = []
    private(set) var problems: [String] = []
    private var generation: Int32 = 0
    private(set) var rebalances = 0
    private(set) var assignments = 0

    init(seed: UInt64) {
        random = SplitMix64(seed: seed)
        // The last two are one process and its successor.
        clients = [nil, nil, nil, nil, "a", "b", "b"].map { Client(instanceID: $0) }
    }

    private mutating func below(_ bound: Int) -> Int { Int(random.next() % UInt64(bound)) }

    mutating func run(steps: Int) {
        for _ in 0..<steps {
            let index = below(clients.count)
            switch below(20) {
            case 0..<11: act(index)
            case 11..<13: heartbeat(index)
            case 13: leave(index)
            case 14: forget(index)
            case 15: commit(index)
            case 16..<19: bench.pass(Double(below(4_000)) / 1_000)
            default: bench.pass(Double(below(70)))
            }
            check()
        }
        // Whoever waits is answered in the end, if only because its members are given up.
        for _ in 0..<10 { bench.pass(400) }
        let open = sent.filter { bench.replies[$0] == nil }
        if !open.isEmpty { problems.append("never answered: \(open.count)") }
        if bench.coordinator.describe("g")?.members.isEmpty == false { problems.append("silent members stay") }
    }

    private mutating func act(_ index: Int) {
        if let request = clients[index].request {
            guard let reply = bench.replies[request] else { return }
            clients[index].request = nil
            return handle(reply, index)
        }
        let client = clients[index]
        let protocols = below(5) == 0 ? ["range", "sticky"] : ["range"]
        let request = bench.join(
            client.memberID, instance: client.instanceID, protocols: protocols, metadata: [UInt8(below(2))], session: 10, rebalance: 30,
            known: client.instanceID == nil && below(4) != 0, skipping: below(2) == 0)
        remember(request, index)
    }

    private mutating func remember(_ request: RequestToken, _ index: Int) {
        sent.insert(request)
        clients[index].request = request
    }

    private mutating func handle(_ reply: GroupReply, _ index: Int) {
        switch reply {
        case .join(let join):
            if join.error == .memberIDRequired { clients[index].memberID = join.memberID }
            if join.error == .unknownMemberID || join.error == .groupMaxSizeReached || join.error == .fencedInstanceID {
                clients[index].memberID = ""
            }
            guard join.error == .none else { return }
            clients[index].memberID = join.memberID
            clients[index].generation = join.generation
            clients[index].isLeader = join.leaderID == join.memberID && !join.skipsAssignment
            guard below(10) != 0 else { return }  // It never asks for its assignment.
            let assignments = join.members.map { ($0.id, Self.assignment($0.id, join.generation)) }
            clients[index].expected = Self.assignment(join.memberID, join.generation)
            remember(
                bench.sync(
                    join.memberID, join.generation, instance: clients[index].instanceID,
                    assigning: clients[index].isLeader ? Dictionary(uniqueKeysWithValues: assignments) : [:]), index)
        case .sync(let sync):
            guard sync.error == .none else { return }
            assignments += 1
            // A static member that came back has what was given to its old self.
            if sync.assignment != clients[index].expected, !sync.assignment.isEmpty, clients[index].instanceID == nil {
                problems.append("another one's assignment: \(String(decoding: sync.assignment, as: UTF8.self))")
            }
        default: break
        }
    }

    private static func assignment(_ memberID: String, _ generation: Int32) -> [UInt8] { Array("\(memberID) \(generation)".utf8) }

    private mutating func heartbeat(_ index: Int) {
        _ = bench.heartbeat(clients[index].memberID, clients[index].generation, instance: clients[index].instanceID)
    }

    private mutating func leave(_ index: Int) {
        _ = bench.leave(LeavingMember(memberID: clients[index].memberID, instanceID: clients[index].instanceID))
        if below(2) == 0 { clients[index].memberID = "" }
    }

    /// Its process starts anew.
    private mutating func forget(_ index: Int) {
        clients[index].memberID = ""
        clients[index].request = nil
    }

    private mutating func commit(_ index: Int) {
        _ = bench.commit([partition("t"): Int64(below(100))], member: clients[index].memberID, generation: clients[index].generation)
    }

    private mutating func check() {
        // One that nobody uses is removed now and then, and begins anew.
        guard let group = bench.coordinator.groups["g"] else { return generation = 0 }
        if group.generation < generation { problems.append("generation \(group.generation) after \(generation)") }
        if group.generation != generation { rebalances += 1 }
        generation = group.generation
        if let leader = group.leaderID, group.members[leader] == nil { problems.append("the leader \(leader) is no member") }
        if group.members.isEmpty != (group.leaderID == nil) { problems.append("members without a leader, or the other way round") }
        if group.members.isEmpty, group.state == .stable || group.state == .completingRebalance { problems.append("\(group.state) without members") }
        if group.state == .empty, !group.members.isEmpty { problems.append("empty with members") }
        if (group.joinWait != nil) != (group.state == .preparingRebalance) { problems.append("\(group.state) and a wait for members") }
        for (instance, member) in group.staticMembers where group.members[member]?.instanceID != instance { problems.append("\(instance) is nobody") }
        for member in group.members.values {
            if let instance = member.instanceID, group.staticMembers[instance] != member.id { problems.append("\(member.id) has lost its place") }
            if member.awaitingJoin != nil, group.state != .preparingRebalance {
                problems.append("\(member.id) waits to join a group that is \(group.state)")
            }
            if member.awaitingSync != nil, group.state != .completingRebalance {
                problems.append("\(member.id) waits for an assignment: \(group.state)")
            }
        }
        if !Set(group.pendingMembers.keys).isDisjoint(with: group.members.keys) { problems.append("pending and joined at once") }
    }
}

@Suite struct GroupSimulationTests {
    private static let seeds = ProcessInfo.processInfo.environment["WEIR_SIMULATION_SEEDS"].flatMap { UInt64($0) } ?? 300

    @Test func whateverMembersDoTheGroupStaysWholeAndEveryRequestIsAnswered() {
        var rebalances = 0
        var assignments = 0
        for seed in 0..<Self.seeds {
            var simulation = GroupSimulation(seed: seed)
            simulation.run(steps: 400)
            #expect(simulation.problems.isEmpty, "seed \(seed): \(simulation.problems.prefix(3))")
            rebalances += simulation.rebalances
            assignments += simulation.assignments
        }
        #expect(rebalances > 10 * Int(Self.seeds), "groups do rebalance")
        #expect(assignments > 3 * Int(Self.seeds), "and members get their assignments")
    }
}
