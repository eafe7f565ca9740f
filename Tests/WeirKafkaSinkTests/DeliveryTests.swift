import CRdKafka
import Testing
import WeirBase
import WeirBroker
import WeirDataflow
import WeirFormats
import WeirKafkaWire
import WeirStreams

@testable import WeirKafka

/// What a sink writes, and what it does about the broker's faults, without transactions.
@Suite(.serialized) struct DeliveryTests {
    private typealias Sink = KafkaSink<KafkaRowSchema<StringFormat>>

    private func sink(_ broker: TestBroker, _ topic: String = "out") -> Sink {
        .kafka(broker.bootstrap, topic: topic, format: StringFormat())
    }

    @Test func everythingIsWrittenOnceTheBarrierPassed() throws {
        let broker = try TestBroker()
        let harness = try SinkHarness(sink(broker).property("linger.ms", "60000"))
        let rows = (0..<2_000).map { "row \($0)" }
        for start in stride(from: 0, to: rows.count, by: 500) { try harness.write(Array(rows[start..<(start + 500)]), timestamp: 1_000) }
        #expect(try broker.values().isEmpty)
        _ = try harness.snapshot(1)
        let written = try broker.records()
        #expect(written.map(\.value) == rows)
        #expect(written.allSatisfy { $0.timestamp == 1_000 })
        #expect(harness.counter("numRecordsOut") == 2_000)
        #expect(harness.counter("numBytesOut") == rows.reduce(0) { $0 + $1.utf8.count })
    }

    @Test func rowsBehindTheBarrierWaitForTheFlush() throws {
        let broker = try TestBroker()
        let harness = try SinkHarness(sink(broker))
        try harness.write(["a"])
        broker.faults.add(.on(.produce, 1, .delay(.milliseconds(300))))
        let pending = try harness.barrier(1)
        #expect(try !harness.sink.isReady())
        #expect(!pending.isThere)
        _ = try pending.wait()
        #expect(try harness.sink.isReady())
    }

    @Test func withoutAGuaranteeABarrierWaitsForNothing() throws {
        let broker = try TestBroker()
        let harness = try SinkHarness(sink(broker).delivery(.none).property("linger.ms", "60000"))
        try harness.write(["a"])
        #expect(try harness.barrier(1).isThere)
        #expect(try harness.sink.isReady())
        #expect(try broker.values().isEmpty)
        harness.sink.endOfInputOrFail()
        try harness.waitUntilReady()
        #expect(try broker.values() == ["a"])
    }

    @Test func theEndOfInputFlushes() throws {
        let broker = try TestBroker()
        let harness = try SinkHarness(sink(broker))
        try harness.write(["a", ""])
        harness.sink.endOfInputOrFail()
        try harness.waitUntilReady()
        #expect(try broker.values() == ["a", ""])
    }

    @Test func keysChoosePartitionsAsJavaDoes() throws {
        let broker = try TestBroker(["out": 4])
        let harness = try SinkHarness(sink(broker).keyed(by: \.self))
        try harness.write(["21", "foobar", "a-little-bit-long-string"])
        _ = try harness.snapshot(1)
        // Kafka's own murmur2 test vectors: -973932308, -790332482, -985981536; positive modulo 4.
        let expected: [String: Int32] = [
            "21": (0x7FFF_FFFF & -973_932_308) % 4, "foobar": (0x7FFF_FFFF & -790_332_482) % 4,
            "a-little-bit-long-string": (0x7FFF_FFFF & -985_981_536) % 4,
        ]
        let found = try broker.records(partitions: 4)
        #expect(Dictionary(uniqueKeysWithValues: found.map { ($0.value ?? "", $0.partition) }) == expected)
        #expect(found.allSatisfy { $0.key == $0.value })
    }

    @Test func eachSubtaskCanWriteAPartitionOfItsOwn() throws {
        let broker = try TestBroker(["out": 3])
        for subtask in 0..<4 {
            let harness = try SinkHarness(sink(broker).partitioner(.fixed).keyed(by: \.self), subtask: subtask, of: 4)
            try harness.write(["a \(subtask)", "b \(subtask)"])
            _ = try harness.snapshot(1)
        }
        let found = try broker.records(partitions: 3).map { "\($0.partition): \($0.value ?? "")" }
        #expect(Set(found) == ["0: a 0", "0: b 0", "0: a 3", "0: b 3", "1: a 1", "1: b 1", "2: a 2", "2: b 2"])
    }

    @Test func aRowChoosesTopicPartitionHeadersAndDeletion() throws {
        let broker = try TestBroker(["out": 1, "other": 2])
        let configured = sink(broker).keyed { String($0.prefix(1)) }.topic { $0.hasSuffix("!") ? "other" : "out" }
            .headers { [.init("length", Array("\($0.count)".utf8)), .init("none", nil), .init("length", [])] }
            .upserting { $0.hasSuffix("-") }
        let harness = try SinkHarness(configured)
        try harness.write(["a", "b-"])
        _ = try harness.snapshot(1)
        let written = try broker.records()
        #expect(written.map(\.key) == ["a", "b"])
        #expect(written.map(\.value) == ["a", nil])
        #expect(written[0].headers == [.init("length", Array("1".utf8)), .init("none", nil), .init("length", [])])

        let placed = try SinkHarness(sink(broker, "other").partition { $0 == "second" ? 1 : 0 })
        try placed.write(["first", "second"])
        _ = try placed.snapshot(1)
        #expect(try broker.records("other", partitions: 2).map { "\($0.partition) \($0.value ?? "")" } == ["0 first", "1 second"])
    }

    private struct Routing: KafkaRecordSerializationSchema {
        func serialize(_ row: String, timestamp: Int64, into record: inout KafkaProducerRecord) throws -> Bool {
            guard row != "drop" else { return false }
            record.timestamp = 42
            record.value.writeBytes(Array("<\(row)>".utf8))
            return true
        }
    }

    @Test func aSchemaOfOnesOwnSaysEverythingAndMayDropRows() throws {
        let broker = try TestBroker()
        let harness = try SinkHarness(KafkaSink(broker.bootstrap, topic: "out", schema: Routing()))
        try harness.write(["a", "drop", "b"], timestamp: 7)
        _ = try harness.snapshot(1)
        let written = try broker.records()
        #expect(written.map(\.value) == ["<a>", "<b>"])
        #expect(written.allSatisfy { $0.timestamp == 42 && $0.key == nil })
        #expect(harness.counter("numRecordsOut") == 2)
    }

    @Test func optionsWinOverTheProgram() throws {
        let broker = try TestBroker(["out": 1, "elsewhere": 1])
        let options = [
            "kafka.test.topic": "elsewhere", "kafka.property.bootstrap.servers": broker.bootstrap, "kafka.other.topic": "nowhere",
        ]
        let harness = try SinkHarness(KafkaSink("127.0.0.1:1", topic: "out", format: StringFormat()), settings: options)
        try harness.write(["a"])
        _ = try harness.snapshot(1)
        #expect(try broker.values("elsewhere") == ["a"])
        let failed = failure {
            _ = try SinkHarness(sink(broker), settings: ["kafka.test.lost-transactions": "maybe", "kafka.test.discard-prepared": "yes"])
        }
        #expect(failed?.recovery == .fail)
        #expect(failed?.cause?.contains("it can be fail or skip") == true && failed?.cause?.contains("it can be true or false") == true)
    }

    // MARK: Faults

    @Test func aFullQueueHoldsUpTheOperatorAndLosesNothing() throws {
        let broker = try TestBroker()
        let harness = try SinkHarness(sink(broker).property("queue.buffering.max.messages", "50").property("linger.ms", "1"))
        let rows = (0..<1_000).map { "\($0)" }
        try harness.write(rows)
        _ = try harness.snapshot(1)
        #expect(harness.counter("queueFull") > 0)
        #expect(try broker.values() == rows)
    }

    @Test func aFullQueueThatNeverDrainsIsAFailure() throws {
        let broker = try TestBroker()
        let harness = try SinkHarness(sink(broker).property("queue.buffering.max.messages", "5").flushTimeout(.milliseconds(300)))
        broker.faults.add(.on(nil, 1...1_000_000, .drop))
        let failed = failure { try harness.write((0..<10).map { "\($0)" }) }
        #expect(failed?.message.contains("was full for 300 ms") == true)
    }

    @Test func aCancelledTaskWaitsForNoRoomAndTakesNoCheckpointOfWhatItDropped() throws {
        let broker = try TestBroker()
        let harness = try SinkHarness(sink(broker).property("queue.buffering.max.messages", "5"))
        broker.faults.add(.on(nil, 1...1_000_000, .drop))
        harness.cancellation.cancel()
        let begun = ContinuousClock.now
        try harness.write((0..<10).map { "\($0)" })
        #expect(ContinuousClock.now - begun < .seconds(2))
        #expect(failure { _ = try harness.snapshot(1) }?.message == "the task is being cancelled")
    }

    @Test func aFailedDeliveryIsToldOnceWithItsPlace() throws {
        let broker = try TestBroker()
        let harness = try SinkHarness(sink(broker))
        broker.faults.add(.on(.produce, 1, .error(.messageTooLarge)))
        try harness.write(["lost"])
        let failed = failure { _ = try harness.snapshot(1) }
        #expect(failed?.message == "a record could not be written to out[0] at the Kafka broker \(broker.bootstrap)")
        #expect(failed?.recovery == .restart)
        #expect(failure { _ = try harness.sink.isReady() } == failed, "the task fails too")
    }

    @Test(arguments: [
        (KafkaErrorCode.messageTooLarge, "Broker: Message size too large: write smaller records, or raise the topic's max.message.bytes"),
        (.topicAuthorizationFailed, "Broker: Topic authorization failed: allow the sink's user to write the topic"),
    ])
    func whatTheBrokerRefusesIsToldWithWhatToDo(code: KafkaErrorCode, cause: String) throws {
        let broker = try TestBroker()
        let harness = try SinkHarness(sink(broker))
        broker.faults.add(.on(.produce, 1, .error(code)))
        try harness.write(["lost"])
        let failed = failure { _ = try harness.snapshot(1) }
        #expect(failed?.message == "a record could not be written to out[0] at the Kafka broker \(broker.bootstrap)")
        #expect(failed?.cause == cause)
    }

    @Test func aRecordAboveTheClientsLimitIsRefused() throws {
        let broker = try TestBroker()
        let harness = try SinkHarness(sink(broker).property("message.max.bytes", "1000"))
        let failed = failure { try harness.write([String(repeating: "x", count: 2_000)]) }
        #expect(failed?.message == "a record of 2000 bytes for the Kafka topic \"out\" was refused")
        #expect(failed?.cause?.contains("Message size too large") == true)
    }

    @Test func aBrokerThatDoesNotAnswerFailsTheBarrierInTime() throws {
        let broker = try TestBroker()
        let harness = try SinkHarness(sink(broker).flushTimeout(.milliseconds(400)))
        broker.faults.add(.on(nil, 1...1_000_000, .drop))
        try harness.write(["x"])
        let start = ContinuousClock.now
        let failed = failure { _ = try harness.snapshot(1) }
        #expect(failed?.message.contains("1 records for the Kafka topic \"out\" were not written within 400 ms") == true)
        #expect(ContinuousClock.now - start < .seconds(5))
    }

    @Test func aBrokerThatComesBackLosesNothing() throws {
        let broker = try TestBroker()
        let harness = try SinkHarness(sink(broker).property("reconnect.backoff.max.ms", "100"))
        broker.faults.add(.on(.produce, 1, .refuseConnections(.milliseconds(500))))
        try harness.write(["a", "b"])
        _ = try harness.snapshot(1)
        #expect(Set(try broker.values()) == ["a", "b"])
    }

    @Test func aMissingTopicIsNamed() throws {
        let broker = try TestBroker(properties: ["auto.create.topics.enable": "false"])
        let failed = failure { _ = try SinkHarness(sink(broker, "nowhere").lookupTimeout(.milliseconds(500))) }
        #expect(failed?.message.contains("the Kafka topic \"nowhere\" does not exist") == true)
        #expect(failed?.recovery == .fail)
    }

    @Test func anUnreachableBrokerIsNamed() throws {
        let failed = failure {
            _ = try SinkHarness(KafkaSink("127.0.0.1:1", topic: "a", format: StringFormat()).lookupTimeout(.milliseconds(500)))
        }
        #expect(failed?.message.contains("no Kafka broker at 127.0.0.1:1") == true)
    }

    private struct Unprepared: SerializationSchema {
        func prepare() throws { throw JobFailure(domain: .external, recovery: .restart, message: "no registry") }
        func encode(_ row: String, into writer: inout ByteWriter) throws {}
    }

    @Test func aFormatThatCannotBePreparedFailsTheTask() throws {
        let broker = try TestBroker()
        let failed = failure { _ = try SinkHarness(KafkaSink(broker.bootstrap, topic: "out", format: Unprepared())) }
        #expect(failed?.message == "no registry")
    }
}

extension AnyOperator {
    func endOfInputOrFail() {
        do { try endOfInput() } catch { Issue.record("\(error)") }
    }
}
