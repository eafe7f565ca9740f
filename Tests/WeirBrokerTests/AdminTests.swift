import Testing
import WeirBase
import WeirKafkaWire

@testable import WeirBroker

/// Topics, partitions, metadata.
@Suite struct AdminTests {
    private let test: TestBroker
    private var client: WireClient { test.client }

    init() throws {
        test = try TestBroker { $0.properties["auto.create.topics.enable"] = "false" }
    }

    private func create(_ fill: (inout KafkaStruct) -> Void, validateOnly: Bool = false) throws -> [KafkaStruct] {
        try client.call(.createTopics) {
            $0["validateOnly"] = .bool(validateOnly)
            $0.append(to: "topics") { topic in
                topic["name"] = "t"
                topic["numPartitions"] = 2
                topic["replicationFactor"] = 1
                fill(&topic)
            }
        }.structures("topics")
    }

    private func metadata(_ names: [String]?, version: Int16? = nil, create: Bool = false) throws -> [KafkaStruct] {
        try client.call(.metadata, version: version) { request in
            request["allowAutoTopicCreation"] = .bool(create)
            if let names {
                for name in names { request.append(to: "topics") { $0["name"] = .string(name) } }
            } else {
                request["topics"] = .null
            }
        }.structures("topics")
    }

    // MARK: Creating

    @Test func aCreatedTopicIsInTheMetadata() throws {
        let created = try create { _ in }[0]
        #expect(created.errorCode() == .none)
        #expect((created.int32("numPartitions"), created.int16("replicationFactor")) == (2, 1))
        let topic = try #require(try metadata(["t"]).first)
        #expect(topic.uuid("topicId") == created.uuid("topicId"))
        #expect(topic.structures("partitions").map { $0.int32("partitionIndex") } == [0, 1])
        #expect(topic.structures("partitions").allSatisfy { $0.int32("leaderId") == 1 && $0.int32s("isrNodes") == [1] })
    }

    @Test func everyVersionOfMetadataAnswers() throws {
        _ = try create { _ in }
        for version in ApiSchema.of(.metadata).versions.lowest...ApiSchema.of(.metadata).versions.highest {
            #expect(try metadata(["t"], version: version).map { $0.string("name") } == ["t"])
            #expect(try metadata(version == 0 ? [] : nil, version: version).map { $0.string("name") } == ["t"])
        }
        #expect(try metadata([]).isEmpty, "no names: no topics, from version 1 on")
    }

    @Test func aTopicIsFoundByItsID() throws {
        let id = try create { _ in }[0].uuid("topicId")
        let answer = try client.call(.metadata) { request in
            for id in [id, KafkaUUID(high: 1, low: 2)] {
                request.append(to: "topics") {
                    $0["name"] = .null
                    $0["topicId"] = .uuid(id)
                }
            }
        }.structures("topics")
        #expect(answer.map { $0.errorCode() } == [.none, .unknownTopicID])
        #expect(answer[0].string("name") == "t")
    }

    @Test func whatCannotBeCreatedIsRefusedWithTheReason() throws {
        #expect(try create { $0["name"] = "" }[0].errorCode() == .invalidTopic)
        #expect(try create { $0["name"] = "." }[0].errorCode() == .invalidTopic)
        #expect(try create { $0["name"] = "a/b" }[0].errorCode() == .invalidTopic)
        #expect(try create { $0["numPartitions"] = 0 }[0].errorCode() == .invalidPartitions)
        #expect(try create { $0["replicationFactor"] = 2 }[0].errorCode() == .invalidReplicationFactor)
        let bad = try create { topic in
            topic.append(to: "configs") {
                $0["name"] = "retention.ms"
                $0["value"] = "soon"
            }
        }[0]
        #expect(bad.errorCode() == .invalidConfig)
        #expect(bad.optionalString("errorMessage") == "retention.ms is \"soon\": a whole number is expected")
        #expect(try create { _ in }[0].errorCode() == .none)
        #expect(try create { _ in }[0].errorCode() == .topicAlreadyExists)
    }

    @Test func aNameHas249CharactersAndNoMore() throws {
        #expect(try create { $0["name"] = .string(String(repeating: "a", count: 249)) }[0].errorCode() == .none)
        #expect(try create { $0["name"] = .string(String(repeating: "a", count: 250)) }[0].errorCode() == .invalidTopic)
    }

    @Test func validateOnlyCreatesNothing() throws {
        #expect(try create({ _ in }, validateOnly: true)[0].errorCode() == .none)
        #expect(try metadata(["t"])[0].errorCode() == .unknownTopicOrPartition)
    }

    @Test func partitionsCanBeAssignedByHandToTheOneBroker() throws {
        func assigned(_ brokers: [Int32]) throws -> KafkaErrorCode {
            try create { topic in
                topic["numPartitions"] = -1
                topic["replicationFactor"] = -1
                for (index, node) in brokers.enumerated() {
                    topic.append(to: "assignments") {
                        $0["partitionIndex"] = .int(index)
                        $0["brokerIds"] = .ints([node])
                    }
                }
            }[0].errorCode()
        }
        #expect(try assigned([1, 2]) == .invalidReplicaAssignment)
        #expect(try assigned([1, 1, 1]) == .none)
        #expect(try metadata(["t"])[0].structures("partitions").count == 3)
    }

    @Test func oneRequestNamesATopicOnce() throws {
        let answers = try client.call(.createTopics) { request in
            for name in ["x", "y", "x"] {
                request.append(to: "topics") {
                    $0["name"] = .string(name)
                    $0["numPartitions"] = 1
                    $0["replicationFactor"] = 1
                }
            }
        }.structures("topics")
        #expect(answers.map { $0.string("name") } == ["x", "y"])
        #expect(answers.map { $0.errorCode() } == [.invalidRequest, .none])
    }

    @Test func topicsAndPartitionsAreLimited() throws {
        let test = try TestBroker {
            $0.properties["max.topics"] = "2"
            $0.properties["max.partitions"] = "5"
        }
        try test.client.createTopic("a", partitions: 5)
        #expect(throws: WireClient.Failure.self) { try test.client.createTopic("b") }
        _ = try test.client.call(.deleteTopics) { $0.append(to: "topics") { $0["name"] = "a" } }
        try test.client.createTopic("b")
        try test.client.createTopic("c")
        #expect(throws: WireClient.Failure.self) { try test.client.createTopic("d") }
    }

    // MARK: Automatic creation

    @Test func askingForATopicCreatesItWhereThatIsSet() throws {
        let test = try TestBroker { $0.properties["num.partitions"] = "3" }
        func partitions(_ name: String, _ version: Int16, _ allow: Bool) throws -> Int? {
            let topic = try test.client.call(.metadata, version: version) {
                $0["allowAutoTopicCreation"] = .bool(allow)
                $0.append(to: "topics") { $0["name"] = .string(name) }
            }.structures("topics")[0]
            return topic.errorCode() == .none ? topic.structures("partitions").count : nil
        }
        #expect(try partitions("a", 12, false) == nil)
        #expect(try partitions("a", 12, true) == 3)
        #expect(try partitions("b", 1, false) == 3, "before version 4 nobody can decline")
        #expect(try metadata(["t"], create: true)[0].errorCode() == .unknownTopicOrPartition, "switched off by property")
    }

    // MARK: Changing

    @Test func partitionsAreAddedAndNeverTaken() throws {
        _ = try create { _ in }
        func grow(_ name: String, _ count: Int32, validateOnly: Bool = false) throws -> KafkaErrorCode {
            try client.call(.createPartitions) {
                $0["validateOnly"] = .bool(validateOnly)
                $0.append(to: "topics") {
                    $0["name"] = .string(name)
                    $0["count"] = .int(count)
                    $0["assignments"] = .null
                }
            }.structures("results")[0].errorCode()
        }
        #expect(try grow("t", 4, validateOnly: true) == .none)
        #expect(try metadata(["t"])[0].structures("partitions").count == 2)
        #expect(try grow("t", 4) == .none)
        #expect(try metadata(["t"])[0].structures("partitions").count == 4)
        #expect(try grow("t", 4) == .invalidPartitions)
        #expect(try grow("t", 1) == .invalidPartitions)
        #expect(try grow("nothing", 4) == .unknownTopicOrPartition)
        #expect(try client.produce("t", batch(1), partition: 3).code == .none)
    }

    @Test func aDeletedTopicIsGoneWithItsRecords() throws {
        let first = try create { _ in }[0].uuid("topicId")
        _ = try client.produce("t", batch(3))
        let answers = try client.call(.deleteTopics) { request in
            request.append(to: "topics") { $0["name"] = "t" }
            request.append(to: "topics") { $0["name"] = "nothing" }
            request.append(to: "topics") { $0["topicId"] = .uuid(KafkaUUID(high: 9, low: 9)) }
        }.structures("responses")
        #expect(answers.map { $0.errorCode() } == [.none, .unknownTopicOrPartition, .unknownTopicID])
        #expect(try client.produce("t", batch(1)).code == .unknownTopicOrPartition)
        #expect(try create { _ in }[0].uuid("topicId") != first)
        #expect(try client.produce("t", batch(1)).baseOffset == 0)
        let old = try client.call(.deleteTopics, version: 3) { $0["topicNames"] = .strings(["t"]) }
        #expect(old.structures("responses")[0].errorCode() == .none)
    }

    @Test func theClusterIsDescribed() throws {
        let cluster = try client.call(.describeCluster)
        #expect(cluster.int32("controllerId") == 1)
        #expect(cluster.structures("brokers").map { $0.int32("brokerId") } == [1])
        #expect(cluster.string("clusterId") == (try client.call(.metadata).string("clusterId")))
    }
}
