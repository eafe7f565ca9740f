import Testing
import WeirBase
import WeirKafkaWire

@testable import WeirBroker

@Suite struct TransactionHandlerTests {
    private let test: TestBroker
    private var client: WireClient { test.client }

    init() throws {
        test = try TestBroker { $0.properties["transaction.abort.timed.out.transaction.cleanup.interval.ms"] = "1" }
        try client.createTopic("t", partitions: 3)
    }

    @Test(arguments: [true, false]) func recordsAndOffsetsShowTogetherOrNever(commit: Bool) throws {
        var producer = try client.beginTransaction("T", topic: "t", [0, 1])
        #expect(try client.produce("t", producer.batch(2), partition: 0, transactionalID: "T").code == .none)
        producer.next = 0
        #expect(try client.produce("t", producer.batch(3), partition: 1, transactionalID: "T").code == .none)
        #expect(try client.addOffsets("T", producer.identity, group: "g") == .none)
        #expect(
            try client.commitInTransaction("T", producer.identity, group: "g", [("t", 2, 9), ("none", 0, 1)]) == [.none, .unknownTopicOrPartition])
        #expect(try client.visibleRecords("t", 0) == 0)
        #expect(try client.committed("g", topic: "t", partitions: [2]) == [.init(offset: -1)])
        #expect(try client.committed("g", topic: "t", partitions: [2], stable: true) == [.init(code: .unstableOffsetCommit, offset: -1)])

        #expect(try client.end("T", producer.identity, commit: commit) == .none)
        #expect(try client.visibleRecords("t", 0) == (commit ? 2 : 0))
        #expect(try client.visibleRecords("t", 1) == (commit ? 3 : 0))
        #expect(try client.committed("g", topic: "t", partitions: [2], stable: true) == [.init(offset: commit ? 9 : -1)])
        #expect(try client.end("T", producer.identity, commit: commit) == .none)
        #expect(try client.end("T", producer.identity, commit: !commit) == .invalidTxnState)
    }

    @Test func versionsDifferInHowTheySayThatAProducerIsFenced() throws {
        let old = try client.beginTransaction("T", topic: "t", [0]).identity
        #expect(try client.initProducer("T").code == .concurrentTransactions)
        let (code, new) = try client.initProducer("T")
        #expect(code == .none)
        #expect(new == ProducerIdentity(id: old.id, epoch: old.epoch + 2))
        for version in Int16(0)...3 {
            let fenced: KafkaErrorCode = version < 2 ? .invalidProducerEpoch : .producerFenced
            #expect(try client.end("T", old, commit: true, version: version) == fenced)
            #expect(try client.addPartitions("T", old, topic: "t", [0], version: version) == [fenced])
            #expect(try client.addOffsets("T", old, group: "g", version: version) == fenced)
        }
        #expect(try client.initProducer("T", expected: old, version: 3).code == .invalidProducerEpoch)
        #expect(try client.initProducer("T", expected: old).code == .producerFenced)
        let (retried, same) = try client.initProducer("T", expected: new)
        #expect(retried == .none)
        #expect(same.epoch == new.epoch + 1)
    }

    @Test(arguments: Int16(0)...4) func everyVersionGivesProducerIDs(version: Int16) throws {
        let (code, producer) = try client.initProducer(nil, version: version)
        #expect(code == .none)
        #expect(producer.epoch == 0)
        #expect(try client.initProducer(nil, version: version).producer.id == producer.id + 1)
        #expect(try client.initProducer("", version: version).code == .invalidRequest)
        #expect(try client.initProducer("T", timeout: 900_001, version: version).code == .invalidTransactionTimeout)
        guard version >= 3 else { return }
        #expect(try client.initProducer("T", expected: ProducerIdentity(id: 1, epoch: -1), version: version).code == .invalidRequest)
    }

    @Test func aZombieWritesNothing() throws {
        var old = try client.beginTransaction("T", topic: "t", [0])
        _ = try client.produce("t", old.batch(2), transactionalID: "T")
        _ = try client.initProducer("T")
        #expect(try client.produce("t", old.batch(), transactionalID: "T").code == .invalidProducerEpoch, "the abort's marker shut it out")
        #expect(try client.visibleRecords("t") == 0)
    }

    @Test func recordsThatComeAfterTheirTransactionsEndOpenNothing() throws {
        var producer = try client.beginTransaction("T", topic: "t", [0])
        _ = try client.produce("t", producer.batch(), transactionalID: "T")
        _ = try client.end("T", producer.identity, commit: false)
        let late = producer.batch()
        #expect(try client.produce("t", late, transactionalID: "T").code == .invalidTxnState)
        #expect(try client.produce("t", late).code == .transactionalIDAuthorizationFailed)
        #expect(try client.produce("t", batch(3)).code == .none)
        #expect(try client.visibleRecords("t") == 3, "nothing holds its readers back")
    }

    @Test func partitionsAreAddedAllOrNone() throws {
        let (_, producer) = try client.initProducer("T")
        #expect(try client.addPartitions("T", producer, topic: "t", [0, 7]) == [.operationNotAttempted, .unknownTopicOrPartition])
        #expect(try client.describeTransaction("T").string("transactionState") == "Empty")
        #expect(try client.end("T", producer, commit: true) == .invalidTxnState)
        #expect(try client.addPartitions("T", ProducerIdentity(id: 99, epoch: 0), topic: "t", [0]) == [.invalidProducerIDMapping])
    }

    @Test func offsetsNeedTheirGroupInTheTransactionAndItsMember() throws {
        let member = try client.lead("g")
        let producer = try client.beginTransaction("T", topic: "t", [0]).identity
        let offsets: [(topic: String, partition: Int32, offset: Int64)] = [("t", 0, 5)]
        #expect(try client.commitInTransaction("T", producer, group: "g", offsets) == [.invalidTxnState])
        _ = try client.addOffsets("T", producer, group: "g")
        #expect(try client.commitInTransaction("T", producer, group: "", offsets) == [.invalidGroupID])
        #expect(try client.commitInTransaction("T", producer, group: "g", offsets, member: member, generation: 0) == [.illegalGeneration])
        #expect(try client.commitInTransaction("T", producer, group: "g", offsets, member: "zombie", generation: 1) == [.unknownMemberID])
        #expect(try client.commitInTransaction("T", ProducerIdentity(id: producer.id, epoch: 9), group: "g", offsets) == [.invalidProducerEpoch])
        #expect(try client.commitInTransaction("T", producer, group: "g", offsets, member: member, generation: 1) == [.none])
        for version in Int16(0)...2 {
            #expect(try client.commitInTransaction("T", producer, group: "g", offsets, version: version) == [.none])
        }
    }

    @Test func aTransactionThatIsOpenTooLongIsAborted() throws {
        var producer = try client.beginTransaction("T", topic: "t", [0], timeout: 60)
        _ = try client.produce("t", producer.batch(2), transactionalID: "T")
        _ = try client.produce("t", batch(3))
        // The reader is woken by the marker.
        try client.send(.fetch) {
            WireClient.fetch(&$0, [.init(topic: "t")], minBytes: 1, maxBytes: 1 << 20, maxWait: 20_000, isolation: .readCommitted)
        }
        let entry = try client.receive().structures("responses")[0].structures("partitions")[0]
        #expect(entry.int64("lastStableOffset") == 6)
        #expect(try client.visibleRecords("t") == 3)
        #expect(try client.describeTransaction("T").string("transactionState") == "CompleteAbort")
        #expect(try client.end("T", producer.identity, commit: true) == .producerFenced)
        #expect(try client.produce("t", producer.batch(), transactionalID: "T").code == .invalidProducerEpoch)
    }

    @Test func transactionsAreListedAndDescribed() throws {
        let open = try client.beginTransaction("open", topic: "t", [2, 0]).identity
        _ = try client.addOffsets("open", open, group: "g")
        let (_, idle) = try client.initProducer("idle")
        func list(_ states: [String] = [], producers: [Int64] = [], duration: Int64 = -1) throws -> (ids: [String], unknown: [String]) {
            let answer = try client.call(.listTransactions) { request in
                request["stateFilters"] = .strings(states)
                request["producerIdFilters"] = .ints(producers)
                request["durationFilter"] = .int(duration)
            }
            return (answer.structures("transactionStates").map { $0.string("transactionalId") }, answer.strings("unknownStateFilters"))
        }
        #expect(try list() == (["idle", "open"], []))
        #expect(try list(["Ongoing", "Odd"]) == (["open"], ["Odd"]))
        #expect(try list(producers: [idle.id]) == (["idle"], []))
        #expect(try list(duration: 3_600_000) == ([], []))

        let described = try client.describeTransaction("open")
        #expect(described.string("transactionState") == "Ongoing")
        #expect(described.int64("producerId") == open.id)
        #expect(described.int32("transactionTimeoutMs") == 60_000)
        #expect(described.int64("transactionStartTimeMs") > 0)
        let topics = described.structures("topics").map { ($0.string("topic"), $0.int32s("partitions")) }
        #expect(topics.map(\.0) == ["__consumer_offsets", "t"])
        #expect(topics.map(\.1) == [[Broker.offsetsPartition(of: "g")], [0, 2]])
        #expect(try client.describeTransaction("none").errorCode() == .transactionalIDNotFound)
    }

    @Test func groupsFallOnKafkasPartitions() {
        // Java: Utils.abs("group".hashCode()) % 50.
        #expect(Broker.offsetsPartition(of: "g") == 3)
        #expect(Broker.offsetsPartition(of: "console-consumer-12345") == 6)
    }

    // MARK: While an end is under way

    @Test func untilTheDiskHasTheEndEveryoneElseWaits() throws {
        var producer = try client.beginTransaction("T", topic: "t", [0])
        _ = try client.produce("t", producer.batch(2), transactionalID: "T")
        test.broker.run { $0.perform(.slowDisk(delay: .milliseconds(300), .seconds(20))) }
        let ending = try test.connect()
        try ending.send(.endTxn) { WireClient.end(&$0, "T", producer.identity, commit: true) }
        while try client.describeTransaction("T").string("transactionState") == "Ongoing" {}
        #expect(try client.end("T", producer.identity, commit: true) == .concurrentTransactions)
        #expect(try client.end("T", producer.identity, commit: false) == .invalidTxnState)
        #expect(try client.addPartitions("T", producer.identity, topic: "t", [1]) == [.concurrentTransactions])
        #expect(try client.initProducer("T").code == .concurrentTransactions)
        #expect(try ending.receive().errorCode() == .none)
        #expect(try client.visibleRecords("t") == 2)
    }
}
