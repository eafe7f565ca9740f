import Testing
import WeirBase
import WeirKafkaWire

@testable import WeirBroker

@Suite struct GroupMembershipTests {
    @Test func aLoneMemberLeadsItsGenerationAndGetsItsAssignment() throws {
        let bench = GroupBench()
        let reply = try #require(bench.joined(bench.join(metadata: [7, 8])))
        #expect(reply.error == .none)
        #expect(reply.generation == 1)
        #expect(reply.leaderID == reply.memberID)
        #expect(reply.protocolName == "range")
        #expect(reply.members == [.init(id: reply.memberID, instanceID: nil, metadata: [7, 8])])
        #expect(bench.state == "CompletingRebalance")

        let sync = try #require(bench.synced(bench.sync(reply.memberID, 1, assigning: [reply.memberID: [9]])))
        #expect(sync == .init(protocolType: "consumer", protocolName: "range", assignment: [9]))
        #expect(bench.state == "Stable")
        #expect(bench.heartbeat(reply.memberID, 1) == KafkaErrorCode.none)
    }

    @Test func aDynamicMemberIsToldItsIDBeforeItJoins() throws {
        let bench = GroupBench()
        let refused = try #require(bench.joined(bench.join(known: true)))
        #expect(refused.error == .memberIDRequired)
        #expect(refused.memberID.hasPrefix("client-"))
        #expect(bench.state == "Empty")
        let reply = try #require(bench.joined(bench.join(refused.memberID, known: true)))
        #expect(reply.error == .none)
        #expect(reply.memberID == refused.memberID)
    }

    @Test func aMemberIDThatNobodyUsesLapsesAndTheRebalanceGoesOn() throws {
        let bench = GroupBench()
        let pending = try #require(bench.joined(bench.join(session: 6, known: true)))
        let waiting = bench.join(session: 30)
        #expect(bench.joined(waiting) == nil, "the one with the id may still come")
        bench.pass(6)
        #expect(bench.joined(waiting)?.error == KafkaErrorCode.none)
        #expect(bench.joined(bench.join(pending.memberID))?.error == .unknownMemberID)
    }

    @Test func aSecondMemberMakesTheFirstJoinAgain() throws {
        let bench = GroupBench()
        let first = bench.stableGroup(1)[0]
        let second = bench.join()
        #expect(bench.state == "PreparingRebalance")
        #expect(bench.joined(second) == nil)
        #expect(bench.heartbeat(first, 1) == .rebalanceInProgress)

        let again = try #require(bench.joined(bench.join(first)))
        let reply = try #require(bench.joined(second))
        #expect(again.generation == 2)
        #expect(again.leaderID == first)
        #expect(again.members.map(\.id) == [first, reply.memberID])
        #expect(reply.leaderID == first)
        #expect(reply.members.isEmpty, "only the leader assigns")

        let waiting = bench.sync(reply.memberID, 2)
        #expect(bench.synced(waiting) == nil, "nothing is assigned yet")
        let sync = bench.sync(first, 2, assigning: [first: [1], reply.memberID: [2]])
        #expect(bench.synced(sync)?.assignment == [1])
        #expect(bench.synced(waiting)?.assignment == [2])
    }

    @Test func aMemberThatDoesNotJoinAgainIsDroppedAfterTheRebalanceTimeout() throws {
        let bench = GroupBench()
        let first = try #require(bench.joined(bench.join(session: 300, rebalance: 20)))
        _ = bench.sync(first.memberID, 1, assigning: [first.memberID: []])
        let second = bench.join(session: 300, rebalance: 20)
        bench.pass(19.9)
        #expect(bench.joined(second) == nil)
        bench.pass(0.1)
        let reply = try #require(bench.joined(second))
        #expect(reply.generation == 2)
        #expect(reply.leaderID == reply.memberID)
        #expect(reply.members.map(\.id) == [reply.memberID])
        #expect(bench.heartbeat(first.memberID, 1) == .unknownMemberID)
    }

    @Test func aMemberThatIsNotHeardOfIsRemovedAfterItsSession() {
        let bench = GroupBench()
        let members = bench.stableGroup(2)
        bench.pass(9)
        #expect(bench.heartbeat(members[0], 2) == KafkaErrorCode.none)
        bench.pass(1)
        #expect(bench.heartbeat(members[0], 2) == .rebalanceInProgress, "the other one's session ended")
        #expect(bench.heartbeat(members[1], 2) == .unknownMemberID)
    }

    @Test func theSessionOfAMemberWhoseJoinWaitsGoesOn() throws {
        let bench = GroupBench()
        let first = bench.stableGroup(1)[0]
        let second = bench.join(rebalance: 60)
        _ = bench.join(first)
        // Two members are in; a third makes the first wait for the second.
        let reply = try #require(bench.joined(second))
        _ = bench.sync(first, 2, assigning: [:])
        _ = bench.sync(reply.memberID, 2)
        let waiting = bench.join(first, metadata: [2])
        bench.pass(30)
        #expect(bench.joined(waiting)?.error == KafkaErrorCode.none, "the second member was lost, the first waited longer than its session")
    }

    @Test func aNewMemberWhoseClientGaveUpIsDroppedAfterFiveMinutes() throws {
        let bench = GroupBench()
        let first = try #require(bench.joined(bench.join(session: 1_000, rebalance: 1_000)))
        _ = bench.sync(first.memberID, 1, assigning: [:])
        let second = bench.join(session: 10)
        bench.pass(299.9)
        #expect(bench.joined(second) == nil)
        bench.pass(0.1)
        #expect(bench.joined(second)?.error == .unknownMemberID)
    }

    @Test func aMemberThatNeverAsksForItsAssignmentIsDropped() throws {
        let bench = GroupBench()
        let first = try #require(bench.joined(bench.join(session: 300, rebalance: 20)))
        _ = bench.sync(first.memberID, 1, assigning: [:])
        let second = bench.join(session: 300, rebalance: 20)
        _ = bench.join(first.memberID, session: 300, rebalance: 20)
        let silent = try #require(bench.joined(second)).memberID
        _ = bench.sync(first.memberID, 2, assigning: [:])
        #expect(bench.state == "Stable")
        bench.pass(20)
        #expect(bench.heartbeat(first.memberID, 2) == .rebalanceInProgress)
        #expect(bench.heartbeat(silent, 2) == .unknownMemberID)
    }

    /// As Kafka's: an assignment of the generation before is nobody's any more.
    @Test func duringARebalanceNoAssignmentIsDescribed() throws {
        let bench = GroupBench()
        let members = bench.stableGroup(2)
        #expect(try #require(bench.coordinator.describe("g")).members.contains { !$0.assignment.isEmpty })
        _ = bench.leave(LeavingMember(memberID: members[0]))
        let description = try #require(bench.coordinator.describe("g"))
        #expect(description.state == "PreparingRebalance" && description.members.count == 1)
        #expect(description.members.allSatisfy { $0.assignment.isEmpty && $0.metadata.isEmpty })
    }

    @Test func theLastOneToLeaveLeavesAnEmptyGroup() {
        let bench = GroupBench()
        let members = bench.stableGroup(2)
        #expect(bench.leave(LeavingMember(memberID: members[0])) == [.none])
        #expect(bench.state == "PreparingRebalance")
        #expect(bench.leave(LeavingMember(memberID: members[1]), LeavingMember(memberID: "nobody")) == [.none, .unknownMemberID])
        #expect(bench.state == "Empty")
        #expect(bench.coordinator.describe("g")?.members.isEmpty == true)
    }

    @Test func aChangedSubscriptionStartsARebalanceAndAnUnchangedOneOnlyTellsTheGeneration() throws {
        let bench = GroupBench()
        let members = bench.stableGroup(2)
        let same = try #require(bench.joined(bench.join(members[1])))
        #expect(same.generation == 2)
        #expect(bench.state == "Stable")
        let changed = bench.join(members[1], metadata: [42])
        #expect(bench.joined(changed) == nil)
        #expect(bench.state == "PreparingRebalance")
    }

    @Test func aLeaderThatJoinsAgainStartsARebalance() {
        let bench = GroupBench()
        let members = bench.stableGroup(2)
        #expect(bench.joined(bench.join(members[0])) == nil)
        #expect(bench.state == "PreparingRebalance")
    }

    @Test func whoWaitsForAnAssignmentIsSentBackWhenTheGroupRebalances() {
        let bench = GroupBench()
        let members = bench.stableGroup(2)
        _ = bench.join(members[0])
        _ = bench.join(members[1])
        let waiting = bench.sync(members[1], 3)
        _ = bench.join()
        #expect(bench.synced(waiting)?.error == .rebalanceInProgress)
    }

    @Test func requestsOfAnotherGenerationOrMemberAreRefused() {
        let bench = GroupBench()
        let member = bench.stableGroup(1)[0]
        #expect(bench.heartbeat(member, 0) == .illegalGeneration)
        #expect(bench.heartbeat("nobody", 1) == .unknownMemberID)
        #expect(bench.synced(bench.sync(member, 2))?.error == .illegalGeneration)
        #expect(bench.synced(bench.sync(member, 1, protocolName: "roundrobin"))?.error == .inconsistentGroupProtocol)
        #expect(bench.joined(bench.join("nobody"))?.error == .unknownMemberID)
        #expect(bench.joined(bench.join("nobody", group: "unknown"))?.error == .unknownMemberID)
    }

    @Test func membersAgreeOnTheProtocolThatMostLikeBest() throws {
        let bench = GroupBench()
        let first = try #require(bench.joined(bench.join(protocols: ["sticky", "range"])))
        _ = bench.sync(first.memberID, 1, assigning: [:])
        let second = bench.join(protocols: ["range", "roundrobin"])
        let again = try #require(bench.joined(bench.join(first.memberID, protocols: ["sticky", "range"])))
        #expect(again.protocolName == "range", "sticky is not for all")
        #expect(bench.joined(second)?.protocolName == "range")
        #expect(bench.joined(bench.join(protocols: ["roundrobin"]))?.error == .inconsistentGroupProtocol)
        #expect(bench.joined(bench.join(protocols: ["range"], type: "connect"))?.error == .inconsistentGroupProtocol)
    }

    @Test func sessionTimeoutsHaveBounds() {
        let bench = GroupBench()
        #expect(bench.joined(bench.join(session: 5.999))?.error == .invalidSessionTimeout)
        #expect(bench.joined(bench.join(session: 1_800.001))?.error == .invalidSessionTimeout)
        #expect(bench.joined(bench.join(session: 6, group: ""))?.error == .invalidGroupID)
        #expect(bench.joined(bench.join(session: 6))?.error == KafkaErrorCode.none)
    }

    @Test func aFullGroupTakesNoMore() {
        let bench = GroupBench { $0.membersMax = 2 }
        let members = bench.stableGroup(2)
        #expect(bench.joined(bench.join())?.error == .groupMaxSizeReached)
        #expect(bench.heartbeat(members[0], 2) == KafkaErrorCode.none, "the group goes on")
    }

    @Test func membersAreNotLargerThanTheirGroupMayBe() throws {
        // 43 bytes are a member's id, 6 its client's, 5 its protocol's.
        let bench = GroupBench { $0.memberBytesMax = 2 * 43 + 2 * 6 + 2 * 5 + 300 }
        let first = try #require(bench.joined(bench.join(metadata: .init(repeating: 1, count: 200)))).memberID
        _ = bench.sync(first, 1, assigning: [:])
        #expect(bench.joined(bench.join(metadata: .init(repeating: 1, count: 200)))?.error == .groupMaxSizeReached)
        #expect(bench.heartbeat(first, 1) == KafkaErrorCode.none, "the group goes on")
        let second = bench.join(metadata: .init(repeating: 1, count: 90))
        _ = bench.join(first, metadata: .init(repeating: 1, count: 200))
        let member = try #require(bench.joined(second)).memberID
        let waiting = bench.sync(member, 2)
        #expect(bench.synced(bench.sync(first, 2, assigning: [first: .init(repeating: 2, count: 11)]))?.error == .unknownServerError)
        #expect(bench.synced(waiting)?.error == .unknownServerError)
        #expect(bench.heartbeat(first, 2) == .rebalanceInProgress)
    }

    @Test func thereAreNoMoreGroupsThanTheLimit() {
        let bench = GroupBench { $0.groupsMax = 2 }
        _ = bench.join(group: "a")
        #expect(bench.commit([partition("t"): 1], group: "b") == [partition("t"): .none])
        #expect(bench.joined(bench.join(group: "c"))?.error == .policyViolation)
        #expect(bench.commit([partition("t"): 1], group: "c") == [partition("t"): .policyViolation])
        #expect(bench.joined(bench.join(group: "b"))?.error == KafkaErrorCode.none)
    }

    @Test func anEmptyGroupWaitsForMoreMembersWhereItIsToldTo() throws {
        let bench = GroupBench { $0.initialRebalanceDelay = .seconds(3) }
        let first = bench.join()
        bench.pass(2)
        let second = bench.join()
        bench.pass(2.9)
        #expect(bench.joined(first) == nil, "the second one put it off")
        bench.pass(0.1)
        #expect(bench.joined(first)?.generation == nil || bench.joined(first)?.generation == 1)
        bench.pass(3)
        #expect(bench.joined(first)?.generation == 1)
        #expect(bench.joined(second)?.generation == 1)
    }

    @Test func aRepeatedJoinAnswersTheEarlierOne() throws {
        let bench = GroupBench()
        let members = bench.stableGroup(2)
        let earlier = bench.join(members[0])
        let later = bench.join(members[0])
        #expect(bench.joined(earlier)?.error == .rebalanceInProgress)
        _ = bench.join(members[1])
        #expect(bench.joined(later)?.error == KafkaErrorCode.none)
    }
}

/// Static members: KIP-345.
@Suite struct StaticMembershipTests {
    @Test func aStaticMemberThatComesBackTakesItsPlaceWithoutARebalance() throws {
        let bench = GroupBench()
        let members = bench.stableGroup(2, instances: ["a", "b"])
        let reply = try #require(bench.joined(bench.join(instance: "b")))
        #expect(reply.error == .none)
        #expect(reply.memberID != members[1])
        #expect(reply.generation == 2)
        #expect(bench.state == "Stable")
        #expect(bench.synced(bench.sync(reply.memberID, 2, instance: "b"))?.assignment == [1])
        #expect(bench.heartbeat(members[1], 2, instance: "b") == .fencedInstanceID, "its old self is shut out")
    }

    @Test(arguments: [false, true]) func aLeaderThatComesBackDoesNotAssign(skipping: Bool) throws {
        let bench = GroupBench()
        let members = bench.stableGroup(2, instances: ["a", "b"])
        let reply = try #require(bench.joined(bench.join(instance: "a", skipping: skipping)))
        if skipping {
            #expect(reply.leaderID == reply.memberID)
            #expect(reply.skipsAssignment)
            #expect(reply.members.count == 2, "it is the one that watches for changes of topics")
        } else {
            #expect(reply.leaderID == members[0], "it is not told that it leads")
            #expect(reply.members.isEmpty)
        }
        #expect(bench.state == "Stable")
    }

    @Test func aStaticMemberThatComesBackDuringTheAssignmentStartsARebalance() {
        let bench = GroupBench()
        let members = bench.stableGroup(2, instances: ["a", "b"])
        _ = bench.join(members[0], instance: "a")
        _ = bench.join(members[1], instance: "b")
        #expect(bench.state == "CompletingRebalance")
        #expect(bench.joined(bench.join(instance: "b")) == nil)
        #expect(bench.state == "PreparingRebalance")
    }

    @Test func aStaticMemberThatDoesNotJoinAgainStaysUntilItsSessionEnds() throws {
        let bench = GroupBench()
        let first = try #require(bench.joined(bench.join(instance: "a", session: 100, rebalance: 20)))
        _ = bench.sync(first.memberID, 1, instance: "a", assigning: [:])
        let second = bench.join(session: 100, rebalance: 20)
        bench.pass(20)
        let reply = try #require(bench.joined(second))
        #expect(reply.members.map(\.instanceID) == ["a", nil], "the new leader assigns to the absent one too")
        #expect(reply.leaderID == reply.memberID)
    }

    @Test func anOperatorRemovesAStaticMemberByItsInstance() {
        let bench = GroupBench()
        _ = bench.stableGroup(1, instances: ["a"])
        #expect(bench.leave(LeavingMember(memberID: "", instanceID: "z")) == [.unknownMemberID])
        #expect(bench.leave(LeavingMember(memberID: "other", instanceID: "a")) == [.fencedInstanceID])
        #expect(bench.leave(LeavingMember(memberID: "", instanceID: "a")) == [.none])
        #expect(bench.state == "Empty")
    }

    @Test func theOldSelfOfAStaticMemberThatWaitsIsFenced() {
        let bench = GroupBench()
        let members = bench.stableGroup(2, instances: ["a", "b"])
        let waiting = bench.join(members[0], instance: "a")
        let usurper = bench.join(instance: "a")
        #expect(bench.joined(waiting)?.error == .fencedInstanceID)
        #expect(bench.joined(usurper) == nil)
        _ = bench.join(members[1], instance: "b")
        #expect(bench.joined(usurper)?.error == KafkaErrorCode.none)
    }
}
