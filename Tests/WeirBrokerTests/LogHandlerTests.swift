import Testing
import WeirBase
import WeirKafkaWire

@testable import WeirBroker

/// A broker in this process, stopped with the test.
final class TestBroker {
    let broker: Broker
    let client: WireClient

    init(_ change: (inout BrokerOptions) -> Void = { _ in }) throws {
        var options = BrokerOptions()
        change(&options)
        broker = try Broker(options: options)
        try broker.start()
        client = try WireClient(broker.bootstrap)
    }

    deinit { broker.stop() }

    func connect() throws -> WireClient { try WireClient(broker.bootstrap) }
}

@Suite struct LogHandlerTests {
    private let test: TestBroker
    private var client: WireClient { test.client }

    init() throws {
        test = try TestBroker()
        try client.createTopic("t", partitions: 3)
    }

    // MARK: Produce

    @Test(arguments: [1, -1] as [Int16]) func recordsAreAnsweredWithTheirOffset(acks: Int16) throws {
        #expect(try client.produce("t", batch(3), acks: acks) == .init(code: .none, baseOffset: 0))
        #expect(try client.produce("t", batch(2), acks: acks) == .init(code: .none, baseOffset: 3))
    }

    @Test func withoutAcknowledgementNothingIsAnswered() throws {
        try client.send(.produce, expectsAnswer: false) { WireClient.produce(&$0, "t", 0, batch(3), acks: 0, transactionalID: nil) }
        // A wrong one neither.
        try client.send(.produce, expectsAnswer: false) { WireClient.produce(&$0, "none", 0, batch(3), acks: 0, transactionalID: nil) }
        #expect(try client.produce("t", batch()) == .init(code: .none, baseOffset: 3))
    }

    @Test func whatCannotBeAppendedIsRefusedByPartition() throws {
        let answer = try client.call(.produce) { request in
            WireClient.produce(&request, "t", 0, batch(), acks: -1, transactionalID: nil)
            WireClient.produce(&request, "t", 3, batch(), acks: -1, transactionalID: nil)
            WireClient.produce(&request, "none", 0, batch(), acks: -1, transactionalID: nil)
            WireClient.produce(&request, "t", 1, KafkaBytes([1, 2, 3]), acks: -1, transactionalID: nil)
            WireClient.produce(&request, "t", 2, batch(), acks: -1, transactionalID: nil)
        }
        let entries = answer.structures("responses").flatMap { $0.structures("partitionResponses") }
        #expect(entries.map { $0.errorCode() } == [.none, .unknownTopicOrPartition, .unknownTopicOrPartition, .corruptMessage, .none])
        #expect(entries.map { $0.int64("baseOffset") } == [0, -1, -1, -1, 0])
        #expect(entries.map { $0.optionalString("errorMessage") == nil } == [true, false, false, false, true])
    }

    @Test func requiredAcknowledgementsThatCannotBeAreRefused() throws {
        #expect(try client.produce("t", batch(), acks: 2).code == .invalidRequiredAcks)
        try client.createTopic("two", config: ["min.insync.replicas": "2"])
        #expect(try client.produce("two", batch(), acks: -1).code == .notEnoughReplicas)
        #expect(try client.produce("two", batch(), acks: 1).code == .none)
    }

    @Test func aTopicsSettingsApplyToItsLog() throws {
        try client.createTopic("small", config: ["max.message.bytes": "200", "message.timestamp.type": "LogAppendTime"])
        #expect(try client.produce("small", batch(1, value: String(repeating: "x", count: 200))).code == .messageTooLarge)
        let answer = try client.call(.produce) { WireClient.produce(&$0, "small", 0, batch(), acks: 1, transactionalID: nil) }
        #expect(answer.structures("responses")[0].structures("partitionResponses")[0].int64("logAppendTimeMs") > 1_000_000)
    }

    @Test func withFsyncNothingIsAcknowledgedBeforeItIsOnTheDisk() throws {
        let directory = TestDirectory()
        let test = try TestBroker {
            $0.storage = .directory(directory.path + "/data")
            $0.fsync = true
        }
        try test.client.createTopic("t")
        for offset in 0..<5 as Range<Int64> {
            #expect(try test.client.produce("t", batch()) == .init(code: .none, baseOffset: offset))
            #expect(test.broker.run { $0.logs.needsSync } == false)
        }
    }

    // MARK: Fetch

    @Test func aFetchWaitsForRecordsAndIsAnsweredAsSoonAsTheyCome() throws {
        let reader = try test.connect()
        try reader.send(.fetch) {
            WireClient.fetch(&$0, [.init(topic: "t")], minBytes: 1, maxBytes: 1 << 20, maxWait: 30_000, isolation: .readUncommitted)
        }
        #expect(reader.isSilent(forMilliseconds: 50))
        let start = ContinuousClock.now
        _ = try client.produce("t", batch(3))
        let entry = try reader.receive().structures("responses")[0].structures("partitions")[0]
        #expect(try offsets(entry.bytes("records")) == [0...2])
        #expect(entry.int64("highWatermark") == 3)
        #expect(ContinuousClock.now - start < .seconds(10))
    }

    @Test func aFetchThatFindsTooLittleIsAnsweredWithItWhenItsTimeEnds() throws {
        _ = try client.produce("t", batch(3))
        let start = ContinuousClock.now
        let found = try client.fetch([.init(topic: "t")], minBytes: 100_000, maxWait: 100)
        #expect(ContinuousClock.now - start >= .milliseconds(100))
        #expect(try offsets(found[0].bytes("records")) == [0...2])
        #expect(try client.fetch([.init(topic: "t", offset: 3)], maxWait: 20)[0].bytes("records").isEmpty)
    }

    @Test func aFetchCountsWhatArrivesInAnyOfItsPartitions() throws {
        let reader = try test.connect()
        let size = Int32(batch(1, value: String(repeating: "x", count: 1_000)).count)
        try reader.send(.fetch) {
            WireClient.fetch(
                &$0, [.init(topic: "t"), .init(topic: "t", partition: 2)], minBytes: 3 * size, maxBytes: 1 << 20, maxWait: 30_000,
                isolation: .readUncommitted)
        }
        for partition in [0, 2] as [Int32] {
            _ = try client.produce("t", batch(1, value: String(repeating: "x", count: 1_000)), partition: partition)
        }
        #expect(reader.isSilent(forMilliseconds: 50))
        _ = try client.produce("t", batch(1, value: String(repeating: "x", count: 1_000)), partition: 0)
        let entries = try reader.receive().structures("responses").flatMap { $0.structures("partitions") }
        #expect(try entries.map { try offsets($0.bytes("records")).count } == [2, 1])
    }

    @Test func aCommittedFetchWaitsForTheMarkerAndKnowsTheAbortedTransactions() throws {
        var producer = TestProducer(id: 7)
        #expect(try client.produce("t", producer.batch(2)).code == .none)
        #expect(try client.fetch([.init(topic: "t")])[0].bytes("records").isEmpty == false)
        let reader = try test.connect()
        try reader.send(.fetch) {
            WireClient.fetch(&$0, [.init(topic: "t")], minBytes: 1, maxBytes: 1 << 20, maxWait: 30_000, isolation: .readCommitted)
        }
        _ = try client.produce("t", producer.batch())
        #expect(reader.isSilent(forMilliseconds: 50))
        let code = test.broker.run { broker -> KafkaErrorCode in
            do throws(LogRejection) {
                try broker.log("t", 0).appendMarker(producerID: 7, epoch: 0, commit: false, coordinatorEpoch: 0, now: 5)
                return .none
            } catch { return error.code }
        }
        #expect(code == .none)
        let entry = try reader.receive().structures("responses")[0].structures("partitions")[0]
        #expect(entry.int64("lastStableOffset") == 4)
        #expect(try offsets(entry.bytes("records")) == [0...1, 2...2, 3...3])
        let aborted = entry.structures("abortedTransactions")
        #expect(aborted.map { $0.int64("producerId") } == [7])
        #expect(aborted.map { $0.int64("firstOffset") } == [0])
    }

    @Test func onlyTheFirstBatchOfAnAnswerMayBeLargerThanTheLimits() throws {
        for partition in 0..<3 as Range<Int32> {
            for _ in 0..<3 { _ = try client.produce("t", batch(1, value: String(repeating: "x", count: 1_000)), partition: partition) }
        }
        let all = (0..<3 as Range<Int32>).map { WireClient.FetchedPartition(topic: "t", partition: $0) }
        let small = all.map { WireClient.FetchedPartition(topic: "t", partition: $0.partition, maxBytes: 10) }
        #expect(try client.fetch(small).map { try offsets($0.bytes("records")).count } == [1, 0, 0])
        #expect(try client.fetch(all, maxBytes: 10).map { try offsets($0.bytes("records")).count } == [1, 0, 0])
        #expect(try client.fetch(all, maxBytes: 5_000).map { try offsets($0.bytes("records")).count } == [3, 1, 0])
        #expect(try client.fetch(all).map { try offsets($0.bytes("records")).count } == [3, 3, 3])
    }

    @Test func fetchErrorsAreByPartitionAndDoNotWait() throws {
        _ = try client.produce("t", batch(3))
        let start = ContinuousClock.now
        let entries = try client.fetch(
            [
                .init(topic: "t", offset: 4), .init(topic: "t", partition: 9), .init(topic: "none"), .init(topic: "t", leaderEpoch: 1),
                .init(topic: "t", offset: 1, leaderEpoch: 0),
            ], minBytes: 100_000, maxWait: 30_000)
        #expect(ContinuousClock.now - start < .seconds(10))
        #expect(
            entries.map { $0.errorCode() } == [
                .offsetOutOfRange, .unknownTopicOrPartition, .unknownTopicOrPartition, .unknownLeaderEpoch, .none,
            ])
        #expect(entries.map { $0.int64("highWatermark") } == [-1, -1, -1, -1, 3])
        #expect(try offsets(entries[4].bytes("records")) == [0...2])
    }

    @Test func aFetchThatWaitsForADeletedTopicIsTold() throws {
        let reader = try test.connect()
        try reader.send(.fetch) {
            WireClient.fetch(&$0, [.init(topic: "t")], minBytes: 1, maxBytes: 1 << 20, maxWait: 30_000, isolation: .readUncommitted)
        }
        #expect(reader.isSilent(forMilliseconds: 50))
        _ = try client.call(.deleteTopics) { request in
            request["timeoutMs"] = 1_000
            request.append(to: "topics") { $0["name"] = "t" }
        }
        #expect(try reader.receive().structures("responses")[0].structures("partitions")[0].errorCode() == .unknownTopicOrPartition)
    }

    @Test func fetchSessionsAreDeclined() throws {
        let first = try client.call(.fetch) { request in
            WireClient.fetch(&request, [.init(topic: "t")], minBytes: 0, maxBytes: 1 << 20, maxWait: 0, isolation: .readUncommitted)
            request["sessionEpoch"] = 0
        }
        #expect(first.int32("sessionId") == 0)
        #expect(first.errorCode() == .none)
        let second = try client.call(.fetch) { $0["sessionId"] = 5 }
        #expect(second.errorCode() == .fetchSessionIDNotFound)
    }

    @Test func aPartitionWithoutALeaderRefusesEverything() throws {
        test.broker.run { $0.perform(.leaderless(topic: "t", partition: 1, .seconds(60))) }
        #expect(try client.produce("t", batch(), partition: 1).code == .notLeaderOrFollower)
        #expect(try client.fetch([.init(topic: "t", partition: 1)])[0].errorCode() == .notLeaderOrFollower)
        #expect(try listOffset(partition: 1, -1).code == .notLeaderOrFollower)
        #expect(try client.produce("t", batch(), partition: 0).code == .none)
    }

    // MARK: Offsets

    private struct Listed: Equatable {
        var code = KafkaErrorCode.none
        var offset: Int64
        var timestamp: Int64 = -1
    }

    private func listOffset(partition: Int32 = 0, _ timestamp: Int64, isolation: Int8 = 0) throws -> Listed {
        let answer = try client.call(.listOffsets) { request in
            request["isolationLevel"] = .int(isolation)
            request.append(to: "topics") { topic in
                topic["name"] = "t"
                topic.append(to: "partitions") { entry in
                    entry["partitionIndex"] = .int(partition)
                    entry["timestamp"] = .int(timestamp)
                }
            }
        }
        let entry = answer.structures("topics")[0].structures("partitions")[0]
        return Listed(code: entry.errorCode(), offset: entry.int64("offset"), timestamp: entry.int64("timestamp"))
    }

    @Test func offsetsAreListedByPositionAndTime() throws {
        #expect(try listOffset(-1) == Listed(offset: 0))
        #expect(try listOffset(-3) == Listed(offset: -1))
        _ = try client.produce("t", batch(3, timestamp: 1_000))
        _ = try client.produce("t", batch(3, timestamp: 500))
        var producer = TestProducer(id: 7)
        _ = try client.produce("t", producer.batch(2, timestamp: 2_000))
        #expect(try listOffset(-2) == Listed(offset: 0))
        #expect(try listOffset(-1) == Listed(offset: 8))
        #expect(try listOffset(-1, isolation: 1) == Listed(offset: 6))
        #expect(try listOffset(-3) == Listed(offset: 7, timestamp: 2_001))
        #expect(try listOffset(1_001) == Listed(offset: 1, timestamp: 1_001))
        #expect(try listOffset(1_500) == Listed(offset: 6, timestamp: 2_000))
        #expect(try listOffset(1_500, isolation: 1) == Listed(offset: -1))
        #expect(try listOffset(9_999) == Listed(offset: -1))
        #expect(try listOffset(-9) == Listed(code: .invalidRequest, offset: -1))
        #expect(try listOffset(partition: 5, -1).code == .unknownTopicOrPartition)
    }

    private func deleteRecords(before offset: Int64, partition: Int32 = 0) throws -> (code: KafkaErrorCode, lowWatermark: Int64) {
        let answer = try client.call(.deleteRecords) { request in
            request["timeoutMs"] = 1_000
            request.append(to: "topics") { topic in
                topic["name"] = "t"
                topic.append(to: "partitions") { entry in
                    entry["partitionIndex"] = .int(partition)
                    entry["offset"] = .int(offset)
                }
            }
        }
        let entry = answer.structures("topics")[0].structures("partitions")[0]
        return (entry.errorCode(), entry.int64("lowWatermark"))
    }

    @Test func recordsAreDeletedUpToAnOffset() throws {
        for _ in 0..<3 { _ = try client.produce("t", batch(2)) }
        #expect(try deleteRecords(before: 3) == (.none, 3))
        #expect(try listOffset(-2) == Listed(offset: 3))
        #expect(try client.fetch([.init(topic: "t", offset: 2)])[0].errorCode() == .offsetOutOfRange)
        #expect(try deleteRecords(before: 7) == (.offsetOutOfRange, -1))
        #expect(try deleteRecords(before: -1) == (.none, 6))
        #expect(try deleteRecords(before: 0, partition: 7) == (.unknownTopicOrPartition, -1))
    }

    // MARK: Producers

    @Test func producersAreDescribed() throws {
        var open = TestProducer(id: 9, epoch: 3)
        var plain = TestProducer(id: 4, isTransactional: false)
        _ = try client.produce("t", plain.batch(2, timestamp: 700))
        _ = try client.produce("t", open.batch(3, timestamp: 800))
        let answer = try client.call(.describeProducers) { request in
            request.append(to: "topics") { topic in
                topic["name"] = "t"
                topic["partitionIndexes"] = .ints([0, 8] as [Int32])
            }
        }
        let entries = answer.structures("topics")[0].structures("partitions")
        #expect(entries.map { $0.errorCode() } == [.none, .unknownTopicOrPartition])
        let producers = entries[0].structures("activeProducers")
        #expect(producers.map { $0.int64("producerId") } == [4, 9])
        #expect(producers.map { $0.int64("producerEpoch") } == [0, 3])
        #expect(producers.map { $0.int64("lastSequence") } == [1, 2])
        #expect(producers.map { $0.int64("lastTimestamp") } == [701, 802])
        #expect(producers.map { $0.int64("currentTxnStartOffset") } == [-1, 2])
    }
}
