import Testing
import WeirBase
import WeirDataflow
import WeirFormats
import WeirKafkaWire
import WeirStreams

@testable import WeirKafka

/// One subtask of a sink, driven as a task would drive it.
final class SinkHarness<Sink: StreamSinkDescriptor> {
    let control = TestControl()
    let context: OperatorContext
    let sink: AnyOperator

    init(_ descriptor: Sink, subtask: Int = 0, of parallelism: Int = 1, restoring state: [String: [[UInt8]]]? = nil) throws {
        try descriptor.validate()
        context = makeContext(control, subtask: subtask, of: parallelism, restored: state != nil, waker: NoWaker())
        sink = try descriptor.makeSink(SinkSetup(uid: "test", name: "test"))
        try sink.open(context)
        if let state { try sink.restore(from: RestoredState(checkpoint: 1, lists: state, unions: state)) }
        try sink.start()
    }

    deinit { sink.close() }

    func write(_ rows: [Sink.Row], timestamp: Int64 = AnyBatch.noTimestamp) throws {
        try sink.process(Batch(rows.map { ($0, timestamp) }), input: 0)
    }

    func snapshot(_ checkpoint: UInt64 = 1) throws -> [String: [[UInt8]]] {
        let builder = SnapshotBuilder(checkpoint: checkpoint)
        try sink.prepareSnapshot(checkpoint)
        try sink.snapshot(into: builder)
        return builder.operatorState
    }
}

@Suite struct KafkaSinkTests {
    private func sink(_ cluster: KafkaCluster, _ topic: String) -> KafkaSink<StringFormat> {
        .kafka(cluster.bootstrap, topic: cluster[topic], format: StringFormat())
    }

    private func read(_ cluster: KafkaCluster, _ topic: String) async throws -> (rows: [String], timestamps: [Int64]) {
        let source = KafkaSource(cluster.bootstrap, topics: [cluster[topic]], format: StringFormat()).stopping(at: .latest)
        let harness = try SourceHarness(source)
        try await harness.run()
        #expect(harness.isFinished)
        return (harness.rows, harness.collector.timestamps)
    }

    @Test func everythingIsWrittenOnceTheBarrierPassed() async throws {
        let cluster = try KafkaCluster(["out": 1])
        let harness = try SinkHarness(sink(cluster, "out").property("linger.ms", "60000"))
        let rows = (0..<2_000).map { "row \($0)" }
        for start in stride(from: 0, to: rows.count, by: 500) { try harness.write(Array(rows[start..<(start + 500)]), timestamp: 1_000) }
        #expect(try await read(cluster, "out").rows.isEmpty)
        _ = try harness.snapshot()
        let written = try await read(cluster, "out")
        #expect(written.rows == rows)
        #expect(written.timestamps.allSatisfy { $0 == 1_000 })
        #expect(harness.context.counter("numRecordsOut").value == 2_000)
    }

    @Test func theEndOfInputFlushes() async throws {
        let cluster = try KafkaCluster(["out": 1])
        let harness = try SinkHarness(sink(cluster, "out"))
        try harness.write(["a", ""])
        try harness.sink.endOfInput()
        #expect(try await read(cluster, "out").rows == ["a", ""])
    }

    @Test func keysChoosePartitionsAsJavaDoes() async throws {
        let cluster = try KafkaCluster(["out": 4])
        let harness = try SinkHarness(sink(cluster, "out").keyed(by: \.self))
        try harness.write(["21", "foobar", "a-little-bit-long-string"])
        _ = try harness.snapshot()
        // Kafka's own murmur2 test vectors: -973932308, -790332482, -985981536; positive modulo 4.
        let expected: [String: Int32] = [
            "21": 0x7FFF_FFFF & -973_932_308, "foobar": 0x7FFF_FFFF & -790_332_482, "a-little-bit-long-string": 0x7FFF_FFFF & -985_981_536,
        ]
        for (key, hash) in expected {
            var counts: [Int32: Int64] = [:]
            for partition in 0..<Int32(4) { counts[partition] = partition == hash % 4 ? .max - 1 : 0 }
            let source = KafkaSource(cluster.bootstrap, topics: [cluster["out"]], format: StringFormat()).stopping(
                at: .offsets([cluster["out"]: counts]))
            let reading = try SourceHarness(source)
            try await reading.run(seconds: 5) { reading.rows.contains(key) }
            #expect(reading.rows.contains(key))
        }
    }

    @Test func aFullQueueHoldsUpTheOperatorAndLosesNothing() async throws {
        let cluster = try KafkaCluster(["out": 1])
        let harness = try SinkHarness(sink(cluster, "out").property("queue.buffering.max.messages", "50").property("linger.ms", "1"))
        let rows = (0..<1_000).map { "\($0)" }
        try harness.write(rows)
        _ = try harness.snapshot()
        #expect(harness.context.counter("queueFull").value > 0)
        #expect(try await read(cluster, "out").rows == rows)
    }

    @Test func aFullQueueThatNeverDrainsIsAFailure() async throws {
        let cluster = try KafkaCluster(["out": 1], isEmbedded: true)
        let harness = try SinkHarness(
            sink(cluster, "out").property("queue.buffering.max.messages", "5").flushTimeout(.milliseconds(300)))
        cluster.setBroker(up: false)
        let failed = await failure { try harness.write((0..<10).map { "\($0)" }) }
        #expect(failed?.message.contains("was full for 300 ms") == true)
    }

    @Test func aFailedDeliveryIsToldOnceWithItsPlace() async throws {
        let cluster = try KafkaCluster(["out": 1], isEmbedded: true)
        let harness = try SinkHarness(sink(cluster, "out"))
        cluster.fail(.produce, .messageTooLarge)
        try harness.write(["lost"])
        let failed = await failure { _ = try harness.snapshot() }
        #expect(failed?.message == "a record could not be written to \(cluster["out"])[0] at the Kafka broker \(cluster.bootstrap)")
        #expect(failed?.recovery == .restart)
        try harness.write(["kept"])
        _ = try harness.snapshot()
        #expect(try await read(cluster, "out").rows == ["kept"])
    }

    @Test func aBrokerThatDoesNotAnswerFailsTheBarrierInTime() async throws {
        let cluster = try KafkaCluster(["out": 1], isEmbedded: true)
        let harness = try SinkHarness(sink(cluster, "out").flushTimeout(.milliseconds(400)))
        cluster.setBroker(up: false)
        try harness.write(["x"])
        let start = ContinuousClock.now
        let failed = await failure { _ = try harness.snapshot() }
        #expect(failed?.message.contains("1 records for the Kafka topic \"\(cluster["out"])\" were not written within 400 ms") == true)
        #expect(ContinuousClock.now - start < .seconds(5))
    }

    @Test func aMissingTopicIsNamed() async throws {
        let cluster = try KafkaCluster(["out": 1], isEmbedded: true, properties: ["auto.create.topics.enable": "false"])
        let failed = await failure { _ = try SinkHarness(sink(cluster, "nowhere").lookupTimeout(.milliseconds(500))) }
        #expect(failed?.message.contains("the Kafka topic \"\(cluster["nowhere"])\" does not exist") == true)
    }

    @Test func anUnreachableBrokerIsNamed() async throws {
        let failed = await failure {
            _ = try SinkHarness(KafkaSink("127.0.0.1:1", topic: "a", format: StringFormat()).lookupTimeout(.milliseconds(500)))
        }
        #expect(failed?.message.contains("no Kafka broker at 127.0.0.1:1") == true)
    }
}
