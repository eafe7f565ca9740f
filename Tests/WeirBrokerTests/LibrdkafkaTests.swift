import CRdKafka
import Foundation
import Testing
import WeirBase
import WeirKafkaWire

@testable import WeirBroker

/// The broker under the system's librdkafka, which the connectors use too.
@Suite struct LibrdkafkaTests {
    private let test: TestBroker

    init() throws {
        test = try TestBroker { $0.properties["group.min.session.timeout.ms"] = "1" }
        try test.client.createTopic("t", partitions: 4)
    }

    private var bootstrap: String { test.broker.bootstrap }

    private func producer(_ id: String, _ more: [String: String] = [:]) throws -> TransactionalProducer {
        try TransactionalProducer(bootstrap, id: id, more)
    }

    private func read(from offset: Int64 = 0, _ isolation: String = "read_committed", partition: Int32 = 0) throws -> [Int] {
        try PartitionReader(bootstrap, "t", partition, from: offset, isolation: isolation).readToEnd()
    }

    // MARK: Transactions

    @Test func readersOfCommittedRecordsSeeThoseAloneFromAnyOffset() throws {
        let producer = try producer("T")
        for (commit, numbers) in [(true, 0..<5), (false, 100..<105), (true, 10..<15), (true, 20..<25)] {
            try producer.begin()
            for number in numbers { try producer.send(number, "t") }
            try producer.flush()
            try commit ? producer.commit() : producer.abort()
        }
        // 0-4, commit 5, aborted 6-10, abort 11, 12-16, commit 17, 18-22, commit 23.
        let all = Array(0..<5) + Array(10..<15) + Array(20..<25)
        for (offset, hidden) in [(0, 0), (3, 3), (5, 5), (8, 5), (11, 5), (12, 5), (14, 7), (17, 10), (18, 10), (20, 12), (23, 15)] {
            #expect(try read(from: Int64(offset)) == Array(all.dropFirst(hidden)), "from offset \(offset)")
        }
        #expect(try read("read_uncommitted") == Array(0..<5) + Array(100..<105) + Array(10..<25).filter { $0 < 15 || $0 >= 20 })
    }

    @Test func anOpenTransactionHoldsLaterRecordsBack() throws {
        let (first, second) = (try producer("A"), try producer("B"))
        try first.begin()
        try first.send(1, "t")
        try first.flush()
        try second.begin()
        try second.send(2, "t")
        try second.commit()
        #expect(try read() == [])
        try first.send(3, "t")
        try first.abort()
        #expect(try read() == [2])
    }

    @Test func aSecondProducerShutsTheFirstOut() throws {
        let first = try producer("T")
        try first.begin()
        try first.send(1, "t")
        try first.flush()
        let second = try producer("T")
        let failure = try #require(throws: TransactionalProducer.Failure.self) { try first.commit() }
        #expect(failure.isFatal, "\(failure)")
        #expect(first.fatalError == RD_KAFKA_RESP_ERR__FENCED)
        #expect(try read() == [])
        try second.begin()
        try second.send(2, "t")
        try second.commit()
        #expect(try read() == [2])
    }

    @Test func aTransactionThatIsAbortedWithRecordsOnTheirWayLeavesNoneBehind() throws {
        let producer = try producer("T", ["linger.ms": "50"])
        for round in 0..<3 {
            try producer.begin()
            for number in 0..<50 { try producer.send(1_000 + number, "t") }
            try producer.abort()
            try producer.begin()
            try producer.send(round, "t")
            try producer.commit()
        }
        #expect(try read() == [0, 1, 2])
    }

    @Test func anotherProcessEndsTheTransactionOfOneThatIsGone() throws {
        let identity: ProducerIdentity
        do {
            let producer = try producer("T", ["statistics.interval.ms": "20"])
            try producer.begin()
            for number in 0..<5 { try producer.send(number, "t") }
            try producer.flush()
            identity = try producer.identity()
        }
        #expect(try read() == [], "it is open still")
        let client = test.client
        #expect(
            try client.end("T", ProducerIdentity(id: identity.id + 1_000, epoch: identity.epoch), commit: true, version: 1)
                == .invalidProducerIDMapping)
        #expect(try client.end("T", ProducerIdentity(id: identity.id, epoch: identity.epoch + 1), commit: true, version: 1) == .invalidProducerEpoch)
        #expect(try client.end("T", identity, commit: true, version: 1) == .none)
        #expect(try read() == [0, 1, 2, 3, 4])
        #expect(try client.end("T", identity, commit: true, version: 1) == .none)
        #expect(try client.end("T", identity, commit: false, version: 1) == .invalidTxnState)
        let next = try producer("T")
        try next.begin()
        try next.send(5, "t")
        try next.commit()
        #expect(try read() == [0, 1, 2, 3, 4, 5])
        #expect(try client.end("T", identity, commit: true, version: 1) == .invalidProducerEpoch)
    }

    @Test func offsetsAreSentWithTheTransaction() throws {
        let producer = try producer("T")
        func committed() throws -> Int64 { try test.client.committed("g", topic: "t", partitions: [0])[0].offset }
        for (offset, commit, expected) in [(3, true, 3), (5, false, 3), (4, true, 4)] as [(Int64, Bool, Int64)] {
            try producer.begin()
            let before = try committed()
            try producer.sendOffset(offset, "t", group: "g")
            #expect(try committed() == before)
            try commit ? producer.commit() : producer.abort()
            #expect(try committed() == expected)
        }
    }

    // MARK: Groups

    @Test(arguments: ["range", "cooperative-sticky"]) func membersShareTheirPartitionsAndTakeOverFromTheDead(strategy: String) throws {
        let settings = [
            "group.id": "g", "partition.assignment.strategy": strategy, "session.timeout.ms": "1000", "heartbeat.interval.ms": "100",
            "auto.offset.reset": "earliest",
        ]
        let first = try GroupConsumer(bootstrap, settings, topic: "t")
        try GroupConsumer.poll([first]) { first.assigned == 4 }
        var second: GroupConsumer? = try GroupConsumer(bootstrap, settings, topic: "t")
        try GroupConsumer.poll([first, second]) { first.assigned == 2 && second?.assigned == 2 }
        second?.close()
        second = nil
        try GroupConsumer.poll([first]) { first.assigned == 4 }
        // One that joins as librdkafka does and is never heard of again.
        let silent = try test.connect()
        let name = strategy
        let pending = try silent.call(.joinGroup) { WireClient.join(&$0, "g", "", session: 500, protocols: [name]) }
        #expect(pending.errorCode() == .memberIDRequired)
        try GroupConsumer.poll([first]) { first.assigned == 4 }
    }

    @Test func aStaticMemberComesBackToItsPartitions() throws {
        func settings(_ instance: String) -> [String: String] {
            ["group.id": "g", "group.instance.id": instance, "session.timeout.ms": "30000", "heartbeat.interval.ms": "100"]
        }
        let first = try GroupConsumer(bootstrap, settings("a"), topic: "t")
        var second: GroupConsumer? = try GroupConsumer(bootstrap, settings("b"), topic: "t")
        try GroupConsumer.poll([first, second]) { first.assigned == 2 && second?.assigned == 2 }
        let generation = first.generation
        // It goes without leaving, as static members do.
        second?.close()
        second = nil
        let again = try GroupConsumer(bootstrap, settings("b"), topic: "t")
        try GroupConsumer.poll([first, again]) { again.assigned == 2 }
        #expect(first.assigned == 2)
        #expect(first.generation == generation, "nobody else was asked to join again")
    }

    @Test func aGroupGoesOnWhereItCommitted() throws {
        for number in 0..<10 { _ = try test.client.produce("t", batch(value: "\(number)")) }
        let settings = ["group.id": "g", "auto.offset.reset": "earliest", "enable.auto.commit": "false", "session.timeout.ms": "6000"]
        do {
            let consumer = try GroupConsumer(bootstrap, settings, topic: "t")
            try GroupConsumer.poll([consumer]) { consumer.numbers.count >= 10 }
            #expect(rd_kafka_commit(consumer.handle, nil, 0) == RD_KAFKA_RESP_ERR_NO_ERROR)
            consumer.close()
        }
        for number in 10..<13 { _ = try test.client.produce("t", batch(value: "\(number)")) }
        let consumer = try GroupConsumer(bootstrap, settings, topic: "t")
        try GroupConsumer.poll([consumer]) { consumer.numbers.count >= 3 }
        #expect(consumer.numbers == [10, 11, 12])
    }
}

@Suite struct LibrdkafkaRestartTests {
    @Test func anOpenTransactionOutlivesARestartOfTheBroker() throws {
        let directory = TestDirectory()
        let test = try TestBroker { $0.storage = .directory(directory.path + "/data") }
        try test.client.createTopic("t")
        let producer = try TransactionalProducer(test.broker.bootstrap, id: "T", [:])
        try producer.begin()
        for number in 0..<3 { try producer.send(number, "t") }
        try producer.flush()
        test.broker.run { $0.restart(after: .milliseconds(50)) }
        for number in 3..<6 { try producer.send(number, "t") }
        try producer.commit()
        #expect(try PartitionReader(test.broker.bootstrap, "t", 0, from: 0, isolation: "read_committed").readToEnd() == [0, 1, 2, 3, 4, 5])
    }
}
