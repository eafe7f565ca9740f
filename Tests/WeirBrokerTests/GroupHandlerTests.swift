import Testing
import WeirBase
import WeirKafkaWire

@testable import WeirBroker

@Suite struct GroupHandlerTests {
    private let test: TestBroker
    private var client: WireClient { test.client }

    init() throws {
        test = try TestBroker()
        try client.createTopic("t", partitions: 3)
    }

    private func last(_ api: ApiKey, upTo version: Int16) -> Int16 {
        let versions = ApiSchema.of(api).versions
        return min(max(version, versions.lowest), versions.highest)
    }

    @Test(arguments: Int16(0)...9) func everyVersionServesAMembersWholeLife(version: Int16) throws {
        let joined = try client.join("g", version: version)
        let member = joined.string("memberId")
        #expect(joined.errorCode() == .none)
        #expect(joined.int32("generationId") == 1)
        #expect(joined.string("leader") == member)
        #expect(joined.string("protocolName") == "range")
        #expect(joined.structures("members").map { $0.string("memberId") } == [member])
        #expect(joined.structures("members").map { $0.bytes("metadata").array } == [[1, 2, 3]])

        let synced = try client.sync("g", member, 1, version: last(.syncGroup, upTo: version), assigning: [member: [9]])
        #expect(synced.errorCode() == .none)
        #expect(synced.bytes("assignment").array == [9])
        #expect(try client.heartbeat("g", member, 1, version: last(.heartbeat, upTo: version)) == .none)
        #expect(try client.heartbeat("g", member, 2, version: last(.heartbeat, upTo: version)) == .illegalGeneration)

        let commit = last(.offsetCommit, upTo: version)
        #expect(try client.commit("g", [("t", 1, 42)], member: member, generation: 1, metadata: "note", version: commit) == [.none])
        let fetch = last(.offsetFetch, upTo: version)
        #expect(
            try client.committed("g", topic: "t", partitions: [1, 0], version: fetch) == [.init(offset: 42, metadata: "note"), .init(offset: -1)])
        if fetch >= 2 {
            #expect(try client.committed("g", topic: "t", partitions: nil, version: fetch) == [.init(offset: 42, metadata: "note")])
        }

        let described = try client.call(.describeGroups, version: last(.describeGroups, upTo: version)) { $0["groups"] = .strings(["g", "none"]) }
            .structures("groups")
        #expect(described.map { $0.string("groupState") } == ["Stable", "Dead"])
        #expect(described[0].string("protocolData") == "range")
        let shown = described[0].structures("members")
        #expect(shown.map { $0.string("memberId") } == [member])
        #expect(shown.map { $0.string("clientHost") } == ["/127.0.0.1"])
        #expect(shown.map { $0.bytes("memberAssignment").array } == [[9]])

        #expect(try client.leave("g", "nobody", version: last(.leaveGroup, upTo: version)) == .unknownMemberID)
        #expect(try client.leave("g", member, version: last(.leaveGroup, upTo: version)) == .none)
        let deleted = try client.call(.deleteGroups, version: last(.deleteGroups, upTo: version)) { $0["groupsNames"] = .strings(["g", "g"]) }
        #expect(deleted.structures("results").map { $0.errorCode() } == [.none, .groupIDNotFound])
    }

    @Test(arguments: Int16(0)...4) func thisBrokerCoordinatesEverything(version: Int16) throws {
        for type in 0...(version == 0 ? 0 : 2) {
            let answer = try client.call(.findCoordinator, version: version) { request in
                request["key"] = "k"
                request["coordinatorKeys"] = .strings(["k"])
                request["keyType"] = .int(type)
            }
            let entry = version < 4 ? answer : answer.structures("coordinators")[0]
            #expect(entry.errorCode() == (type == 2 ? .invalidRequest : .none))
            guard type < 2 else { continue }
            #expect(entry.int32("nodeId") == 1)
            #expect("\(entry.string("host")):\(entry.int32("port"))" == test.broker.bootstrap)
        }
    }

    @Test func aSecondMemberWaitsForTheFirstToJoinAgain() throws {
        let first = try client.lead("g")
        let other = try test.connect()
        let pending = try other.call(.joinGroup) { WireClient.join(&$0, "g", "") }.string("memberId")
        try other.send(.joinGroup) { WireClient.join(&$0, "g", pending) }
        #expect(other.isSilent(forMilliseconds: 50))
        #expect(try client.heartbeat("g", first, 1) == .rebalanceInProgress)
        let again = try client.call(.joinGroup) { WireClient.join(&$0, "g", first) }
        let joined = try other.receive()
        #expect(again.int32("generationId") == 2)
        #expect(Set(again.structures("members").map { $0.string("memberId") }) == [first, pending])
        #expect(joined.string("leader") == first)
        #expect(joined.structures("members").isEmpty)
    }

    @Test func aMemberThatIsSilentIsTakenOutByTheClock() throws {
        let member = try client.lead("g", session: 150)
        let other = try test.connect()
        let pending = try other.call(.joinGroup) { WireClient.join(&$0, "g", "") }.string("memberId")
        let joined = try other.call(.joinGroup) { WireClient.join(&$0, "g", pending) }
        #expect(joined.errorCode() == .none)
        #expect(joined.string("leader") == pending)
        #expect(try client.heartbeat("g", member, 1) == .unknownMemberID)
    }

    @Test func offsetsOfPartitionsThatDoNotExistAreRefusedAlone() throws {
        let errors = try client.commit("g", [("t", 0, 1), ("t", 3, 1), ("none", 0, 1)])
        #expect(errors == [.none, .unknownTopicOrPartition, .unknownTopicOrPartition])
        #expect(try client.committed("g", topic: "t", partitions: [0, 3]) == [.init(offset: 1), .init(offset: -1)])
    }

    @Test func groupsAreListedByStateAndType() throws {
        _ = try client.lead("stable")
        _ = try client.commit("empty", [("t", 0, 1)])
        func list(_ states: [String], _ types: [String] = []) throws -> [String] {
            try client.call(.listGroups) { request in
                request["statesFilter"] = .strings(states)
                request["typesFilter"] = .strings(types)
            }.structures("groups").map { "\($0.string("groupId")) \($0.string("groupState")) \($0.string("protocolType")) \($0.string("groupType"))" }
        }
        #expect(try list([]) == ["empty Empty  classic", "stable Stable consumer classic"])
        #expect(try list(["stable"]) == ["stable Stable consumer classic"])
        #expect(try list(["Dead"]) == [])
        #expect(try list([], ["Classic"]).count == 2)
        #expect(try list([], ["consumer"]) == [])
    }

    @Test func offsetsGoWithTheirTopicOrByRequest() throws {
        try client.createTopic("u")
        _ = try client.commit("g", [("t", 0, 1), ("t", 1, 2), ("u", 0, 3)])
        let answer = try client.call(.offsetDelete) { request in
            request["groupId"] = "g"
            request.append(to: "topics") { topic in
                topic["name"] = "t"
                for index in [1, 5] { topic.append(to: "partitions") { $0["partitionIndex"] = .int(index) } }
            }
        }
        #expect(answer.errorCode() == .none)
        #expect(answer.structures("topics")[0].structures("partitions").map { $0.errorCode() } == [.none, .unknownTopicOrPartition])
        let deleted = try client.call(.deleteTopics, version: 5) { request in
            request["topicNames"] = .strings(["u"])
            request["timeoutMs"] = 1_000
        }
        #expect(deleted.structures("responses").map { $0.errorCode() } == [.none])
        #expect(try client.committed("g", topic: "t", partitions: nil) == [.init(offset: 1)])
    }

    @Test func severalGroupsAreAskedAtOnce() throws {
        _ = try client.commit("a", [("t", 0, 1)])
        _ = try client.commit("b", [("t", 0, 2)])
        let answer = try client.call(.offsetFetch) { request in
            for group in ["b", "none", "a"] {
                request.append(to: "groups") { entry in
                    entry["groupId"] = .string(group)
                    entry["topics"] = nil
                }
            }
        }
        let groups = answer.structures("groups")
        #expect(groups.map { $0.string("groupId") } == ["b", "none", "a"])
        #expect(groups.map { $0.structures("topics").flatMap { $0.structures("partitions") }.map { $0.int64("committedOffset") } } == [[2], [], [1]])
    }
}
