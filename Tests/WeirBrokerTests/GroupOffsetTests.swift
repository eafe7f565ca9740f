import Testing
import WeirBase
import WeirKafkaWire

@testable import WeirBroker

@Suite struct GroupOffsetTests {
    private let a = partition("a")
    private let b = partition("b", 3)

    @Test func aGroupWithoutMembersTakesOffsetsFromAnyone() {
        let bench = GroupBench()
        #expect(bench.offset(a) == nil)
        #expect(bench.commit([a: 42, b: 7], metadata: "note") == [a: .none, b: .none])
        #expect(bench.offset(a) == 42)
        #expect(bench.coordinator.partitions(in: "g") == [a, b])
        #expect(bench.commit([a: 17]) == [a: .none], "offsets may go back")
        #expect(bench.offset(a) == 17)
    }

    @Test func onlyMembersOfTheGenerationCommitForAGroupThatHasSome() {
        let bench = GroupBench()
        let member = bench.stableGroup(1)[0]
        #expect(bench.commit([a: 1]) == [a: .unknownMemberID])
        #expect(bench.commit([a: 1], member: "nobody", generation: 1) == [a: .unknownMemberID])
        #expect(bench.commit([a: 1], member: member, generation: 0) == [a: .illegalGeneration])
        #expect(bench.commit([a: 1], member: member, generation: 1) == [a: .none])
        #expect(bench.commit([a: 1], member: member, generation: 1, group: "unknown") == [a: .illegalGeneration])
    }

    @Test func membersCommitUntilTheyHearOfTheNextGeneration() {
        let bench = GroupBench()
        let members = bench.stableGroup(2)
        _ = bench.join(members[1], metadata: [9])
        #expect(bench.commit([a: 1], member: members[0], generation: 2) == [a: .none], "before it gives its partitions up")
        _ = bench.join(members[0])
        #expect(bench.commit([a: 2], member: members[0], generation: 3) == [a: .rebalanceInProgress])
        #expect(bench.offset(a) == 1)
    }

    @Test func metadataHasALimit() {
        let bench = GroupBench { $0.offsetMetadataBytesMax = 4 }
        #expect(bench.commit([a: 1], metadata: "1234") == [a: .none])
        #expect(bench.commit([b: 1], metadata: "12345") == [b: .offsetMetadataTooLarge])
        #expect(bench.offset(b) == nil)
    }

    @Test func aCommitHasALimit() {
        let bench = GroupBench { $0.commitBytesMax = 10 }
        #expect(bench.commit([a: 1, b: 1], metadata: "1234") == [a: .none, b: .none])
        #expect(bench.commit([a: 2, b: 2], metadata: "12345") == [a: .invalidCommitOffsetSize, b: .invalidCommitOffsetSize])
        #expect(bench.offset(a) == 1)
    }

    // MARK: Transactions

    @Test func offsetsInATransactionShowWhenItCommits() {
        let bench = GroupBench()
        _ = bench.commit([a: 1])
        #expect(bench.commit([a: 5, b: 6], producer: 9) == [a: .none, b: .none])
        #expect(bench.offset(a) == 1)
        #expect(bench.coordinator.fetch(a, group: "g", requireStable: true) == .unstable)
        #expect(bench.coordinator.fetch(b, group: "g", requireStable: false) == FetchedOffset.none)
        bench.run(bench.coordinator.completeTransaction(producerID: 9, groups: ["g", "other"], commit: true, now: bench.now))
        #expect(bench.offset(a, stable: true) == 5)
        #expect(bench.offset(b, stable: true) == 6)
        #expect(bench.records.last == .pendingCompleted(group: "g", producerID: 9, commit: true))
    }

    @Test func offsetsOfAnAbortedTransactionVanish() {
        let bench = GroupBench()
        _ = bench.commit([a: 1])
        _ = bench.commit([a: 5, b: 6], producer: 9)
        bench.run(bench.coordinator.completeTransaction(producerID: 9, groups: ["g"], commit: false, now: bench.now))
        #expect(bench.offset(a, stable: true) == 1)
        #expect(bench.offset(b, stable: true) == nil)
    }

    @Test func aCommitAfterTheTransactionsOwnWins() {
        let bench = GroupBench()
        _ = bench.commit([a: 5], producer: 9)
        _ = bench.commit([a: 8])
        bench.run(bench.coordinator.completeTransaction(producerID: 9, groups: ["g"], commit: true, now: bench.now))
        #expect(bench.offset(a, stable: true) == 8)
    }

    @Test func producersThatNameTheirMemberAreHeldToIt() {
        let bench = GroupBench()
        let member = bench.stableGroup(1)[0]
        #expect(bench.commit([a: 1], producer: 9) == [a: .none], "before version 3 nobody said for whom")
        #expect(bench.commit([a: 1], member: member, generation: 0, producer: 9) == [a: .illegalGeneration])
        #expect(bench.commit([a: 1], member: "zombie", generation: 1, producer: 9) == [a: .unknownMemberID])
        #expect(bench.commit([a: 1], member: member, generation: 1, producer: 9) == [a: .none])
    }

    // MARK: Deletion and expiry

    @Test func offsetsOfTopicsThatMembersReadStay() throws {
        let bench = GroupBench()
        let subscription: [UInt8] = [0, 1, 0, 0, 0, 1, 0, 1, UInt8(ascii: "a"), 0, 0, 0, 0]
        let member = try #require(bench.joined(bench.join(metadata: subscription))).memberID
        _ = bench.sync(member, 1, assigning: [:])
        _ = bench.commit([a: 1, b: 2], member: member, generation: 1)
        let request = bench.send(.deleteOffsets(group: "g", [a, b]))
        #expect(bench.replies[request] == .deleteOffsets(.none, [a: .groupSubscribedToTopic, b: .none]))
        #expect(bench.offset(a) == 1)
        #expect(bench.offset(b) == nil)
        let unknown = bench.send(.deleteOffsets(group: "unknown", [a]))
        #expect(bench.replies[unknown] == .deleteOffsets(.groupIDNotFound, [:]))
    }

    @Test func onlyEmptyGroupsAreDeleted() {
        let bench = GroupBench()
        let member = bench.stableGroup(1)[0]
        _ = bench.commit([a: 1], member: member, generation: 1)
        let refused = bench.send(.deleteGroups(["g", "unknown"]))
        #expect(bench.replies[refused] == .deleteGroups([.nonEmptyGroup, .groupIDNotFound]))
        _ = bench.leave(LeavingMember(memberID: member))
        let deleted = bench.send(.deleteGroups(["g"]))
        #expect(bench.replies[deleted] == .deleteGroups([.none]))
        #expect(bench.coordinator.describe("g") == nil)
        #expect(bench.offset(a) == nil)
        #expect(bench.records.last == .groupRemoved("g"))
    }

    @Test func deletedTopicsTakeTheirOffsetsAlong() {
        let bench = GroupBench()
        _ = bench.commit([a: 1, b: 2])
        _ = bench.commit([b: 3], producer: 9)
        bench.run(bench.coordinator.partitionsDeleted(where: { $0.topic == "b" }, now: bench.now))
        bench.run(bench.coordinator.completeTransaction(producerID: 9, groups: ["g"], commit: true, now: bench.now))
        #expect(bench.offset(a) == 1)
        #expect(bench.offset(b) == nil)
    }

    @Test func offsetsOfAGroupWithoutMembersExpireAfterTheirCommit() {
        let bench = GroupBench { $0.offsetsRetention = .seconds(3_600) }
        _ = bench.commit([a: 1])
        bench.pass(1_800)
        _ = bench.commit([b: 1])
        bench.pass(2_400)
        #expect(bench.offset(a) == nil)
        #expect(bench.offset(b) == 1)
        bench.pass(3_600)
        #expect(bench.coordinator.describe("g") == nil, "nothing is left of the group")
        #expect(bench.records.last == .groupRemoved("g"))
    }

    @Test func offsetsOfAnEmptyGroupExpireAfterItBecameEmpty() {
        let bench = GroupBench { $0.offsetsRetention = .seconds(3_600) }
        let member = bench.stableGroup(1)[0]
        _ = bench.commit([a: 1], member: member, generation: 1)
        for _ in 0..<1_000 {
            bench.pass(9)
            #expect(bench.heartbeat(member, 1) == KafkaErrorCode.none)
        }
        #expect(bench.offset(a) == 1, "nothing expires under a reader, here one whose subscription cannot be read")
        _ = bench.leave(LeavingMember(memberID: member))
        bench.pass(3_500)
        #expect(bench.offset(a) == 1)
        bench.pass(800)
        #expect(bench.offset(a) == nil)
    }

    @Test func anExpiryThatTheClientAskedForHolds() {
        let bench = GroupBench { $0.offsetsRetention = .seconds(3_600) }
        _ = bench.commit([a: 1], expiresAfter: 10_000)
        bench.pass(9_000)
        #expect(bench.offset(a) == 1)
        bench.pass(1_700)
        #expect(bench.offset(a) == nil)
    }

    @Test func offsetsInAnOpenTransactionKeepTheirPartitionFromExpiring() {
        let bench = GroupBench { $0.offsetsRetention = .seconds(3_600) }
        _ = bench.commit([a: 1])
        _ = bench.commit([a: 2], producer: 9)
        bench.pass(10_000)
        #expect(bench.offset(a) == 1)
    }

    // MARK: Restart

    @Test(arguments: [false, true]) func groupsAndOffsetsComeBackFromTheJournal(compacted: Bool) throws {
        let bench = GroupBench()
        let members = bench.stableGroup(2, instances: ["x", nil])
        _ = bench.commit([a: 1, b: 2], member: members[0], generation: 2, instance: "x")
        _ = bench.commit([a: 5], producer: 9)
        _ = bench.commit([b: 9], member: members[0], generation: 2, instance: "x")
        _ = bench.commit([b: 4], producer: 10)
        _ = bench.commit([b: 11], member: members[0], generation: 2, instance: "x")
        _ = bench.commit([a: 3], group: "simple")
        let records = compacted ? bench.coordinator.records() : bench.records

        let again = GroupBench()
        for record in records { again.coordinator.replay(record, now: again.now) }
        #expect(again.coordinator.list() == bench.coordinator.list())
        #expect(again.offset(a) == 1)
        #expect(again.offset(b) == 11)
        #expect(again.offset(a, group: "simple") == 3)
        again.run(again.coordinator.completeTransaction(producerID: 9, groups: ["g"], commit: true, now: again.now))
        again.run(again.coordinator.completeTransaction(producerID: 10, groups: ["g"], commit: true, now: again.now))
        #expect(again.offset(a, stable: true) == 5)
        #expect(again.offset(b, stable: true) == 11, "the later commit still wins")
        #expect(again.heartbeat(members[1], 2) == KafkaErrorCode.none, "members go on as if nothing had happened")
        again.pass(10)
        #expect(again.heartbeat(members[1], 2) == .unknownMemberID, "and are due within a session")
    }
}
