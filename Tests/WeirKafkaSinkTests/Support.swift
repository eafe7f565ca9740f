import CRdKafka
import Foundation
import Logging
import Synchronization
import Testing
import WeirBase
import WeirBroker
import WeirDataflow
import WeirFormats
import WeirGraph
import WeirKafkaTransactions
import WeirKafkaWire
import WeirStreams

@testable import WeirKafka

/// The embedded broker in this process, with topics.
final class TestBroker: Sendable {
    let broker: Broker
    let bootstrap: String

    init(_ topics: KeyValuePairs<String, Int32> = ["out": 1], properties: [String: String] = [:]) throws {
        var options = BrokerOptions()
        options.topics = topics.map { .init(name: $0.key, partitions: $0.value) }
        options.properties = properties
        broker = try Broker(options: options)
        try broker.start()
        bootstrap = broker.bootstrap
    }

    deinit { broker.stop() }

    var faults: FaultInjector { broker.faults }

    func client() throws -> TransactionClient { try TransactionClient(bootstrap: bootstrap) }

    /// The transactional ids whose transaction is open.
    func openTransactions() throws -> [String] {
        let client = try client()
        defer { client.close() }
        return try client.listTransactions(patience())?.filter { $0.state == "Ongoing" }.map(\.name) ?? []
    }

    func records(_ topic: String = "out", partitions: Int32 = 1, committed: Bool = true) throws -> [TopicRecord] {
        try readTopic(bootstrap, topic, partitions: partitions, committed: committed)
    }

    func values(_ topic: String = "out", partitions: Int32 = 1, committed: Bool = true) throws -> [String] {
        try records(topic, partitions: partitions, committed: committed).map { $0.value ?? "<null>" }
    }
}

func patience(seconds: Int64 = 10) -> KafkaPatience {
    let clock = TestClock()
    return KafkaPatience(clock: clock, deadline: clock.now.advanced(by: .seconds(seconds)))
}

struct TestClock: WeirClock {
    private static let origin = ContinuousClock.now
    var now: Instant { Instant(nanoseconds: Self.origin.duration(to: .now).inNanoseconds) }
    var wallTime: WallTime { WallTime(milliseconds: Int64(Date().timeIntervalSince1970 * 1_000)) }
}

struct TopicRecord: Equatable {
    var partition: Int32
    var offset: Int64
    var key: String?
    var value: String?
    var timestamp: Int64
    var headers: [KafkaProducerRecord.Header] = []
}

/// Everything in a topic that a reader sees now, partition by partition, with librdkafka.
func readTopic(_ bootstrap: String, _ topic: String, partitions: Int32, committed: Bool = true) throws -> [TopicRecord] {
    let events = KafkaEvents()
    let client = try makeClient(
        RD_KAFKA_CONSUMER, properties: ["bootstrap.servers": bootstrap, "group.id": "test-reader"],
        forced: [
            "isolation.level": committed ? "read_committed" : "read_uncommitted", "enable.partition.eof": "true", "enable.auto.commit": "false",
            "auto.offset.reset": "earliest", "fetch.wait.max.ms": "10",
        ], events: events, purpose: "reading \(topic)")
    defer { rd_kafka_destroy_flags(client, RD_KAFKA_DESTROY_F_NO_CONSUMER_CLOSE) }
    let list = try #require(rd_kafka_topic_partition_list_new(partitions))
    for partition in 0..<partitions { rd_kafka_topic_partition_list_add(list, topic, partition)?.pointee.offset = weir_kafka_offset_earliest }
    rd_kafka_assign(client, list)
    rd_kafka_topic_partition_list_destroy(list)
    var records: [TopicRecord] = []
    var ended: Set<Int32> = []
    let end = ContinuousClock.now + .seconds(30)
    while ended.count < Int(partitions), ContinuousClock.now < end {
        guard let message = rd_kafka_consumer_poll(client, 100) else { continue }
        defer { rd_kafka_message_destroy(message) }
        if message.pointee.err == RD_KAFKA_RESP_ERR__PARTITION_EOF {
            ended.insert(message.pointee.partition)
            continue
        }
        guard message.pointee.err == RD_KAFKA_RESP_ERR_NO_ERROR else { continue }
        func text(_ bytes: UnsafeMutableRawPointer?, _ count: Int) -> String? {
            bytes.map { String(decoding: UnsafeRawBufferPointer(start: $0, count: count), as: UTF8.self) }
        }
        records.append(
            TopicRecord(
                partition: message.pointee.partition, offset: message.pointee.offset, key: text(message.pointee.key, message.pointee.key_len),
                value: text(message.pointee.payload, message.pointee.len), timestamp: rd_kafka_message_timestamp(message, nil),
                headers: headers(of: message)))
    }
    #expect(ended.count == Int(partitions), "the whole topic was read")
    return records.sorted { ($0.partition, $0.offset) < ($1.partition, $1.offset) }
}

private func headers(of message: UnsafeMutablePointer<rd_kafka_message_t>) -> [KafkaProducerRecord.Header] {
    var list: OpaquePointer?
    guard rd_kafka_message_headers(message, &list) == RD_KAFKA_RESP_ERR_NO_ERROR, let list else { return [] }
    var headers: [KafkaProducerRecord.Header] = []
    var name: UnsafePointer<CChar>?
    var value: UnsafeRawPointer?
    var count = 0
    while rd_kafka_header_get_all(list, headers.count, &name, &value, &count) == RD_KAFKA_RESP_ERR_NO_ERROR, let found = name {
        headers.append(.init(String(cString: found), value.map { [UInt8](UnsafeRawBufferPointer(start: $0, count: count)) }))
    }
    return headers
}

/// Waits for a condition, without ever taking longer than needed.
func wait(seconds: Double = 30, _ what: String = "", until condition: () throws -> Bool) throws {
    let end = ContinuousClock.now + .seconds(seconds)
    while try !condition() {
        guard ContinuousClock.now < end else { throw JobFailure(domain: .system, recovery: .fail, message: "waited in vain: \(what)") }
        usleep(1_000)
    }
}

final class TestControl: ControlOutput {
    func emitWatermark(_ watermark: Int64) throws {}
    func emitStatus(idle: Bool) throws {}
}

/// One subtask of a sink, driven as a task would drive it.
final class SinkHarness<Sink: StreamSinkDescriptor> {
    let control = TestControl()
    let context: OperatorContext
    let sink: AnyOperator
    let cancellation = CancellationFlag()
    private var isClosed = false

    init(
        _ descriptor: Sink, subtask: Int = 0, of parallelism: Int = 1, restoring state: [[UInt8]]? = nil, settings: [String: String] = [:],
        waits: Bool = true
    ) throws {
        try descriptor.validate()
        context = OperatorContext(
            operatorID: OperatorID(uid: "test"), operatorName: "test", subtask: subtask, parallelism: parallelism, maxParallelism: 128,
            keyGroups: 0..<1, isRestored: state != nil, waker: NoWaker(), clock: TestClock(), settings: settings, cancellation: cancellation)
        context.control = control
        sink = try descriptor.makeSink(SinkSetup(uid: "test", name: "test"))
        try sink.open(context)
        if let state {
            let lists = [SinkState.listName: state]
            try sink.restore(from: RestoredState(checkpoint: 1, lists: lists, unions: lists))
        }
        try sink.start()
        if waits { try waitUntilReady() }
    }

    deinit { close() }

    func close() {
        if !isClosed { sink.close() }
        isClosed = true
    }

    func counter(_ name: String) -> Int { context.counter(name).value }

    func waitUntilReady(seconds: Double = 30) throws { try wait(seconds: seconds, "the sink is ready") { try sink.isReady() } }

    /// - Parameter timestamp: Milliseconds since 1970.
    func write(_ rows: [Sink.Row], timestamp: Int64 = AnyBatch.noTimestamp) throws {
        try waitUntilReady()
        try sink.process(Batch(rows.map { ($0, timestamp) }), input: 0)
    }

    /// Passes a barrier; the state comes when it is there.
    func barrier(_ checkpoint: UInt64) throws -> PendingState {
        let builder = SnapshotBuilder(checkpoint: checkpoint)
        try sink.prepareSnapshot(checkpoint)
        try sink.snapshot(into: builder)
        let pending = PendingState()
        let snapshot = TaskSnapshot(checkpoint: CheckpointID(checkpoint), operators: [builder.finish(operatorID: context.operatorID)])
        snapshot.resolve { result in pending.result.withLock { $0 = result } }
        return pending
    }

    /// Passes a barrier and waits for the state.
    func snapshot(_ checkpoint: UInt64) throws -> [[UInt8]] { try barrier(checkpoint).wait() }

    /// A whole checkpoint. Waits until what it commits is committed.
    @discardableResult
    func checkpoint(_ checkpoint: UInt64) throws -> [[UInt8]] {
        let state = try snapshot(checkpoint)
        try sink.checkpointCompleted(checkpoint)
        return state
    }

    /// Cancels the task as a slot does, and waits until it has settled.
    func cancel() throws {
        cancellation.cancel()
        sink.cancel()
        try wait("the sink settles") { try sink.isSettled() }
        close()
    }
}

/// State that a snapshot waits for.
final class PendingState: Sendable {
    let result = Mutex<Result<TaskSnapshot, JobFailure>?>(nil)

    var isThere: Bool { result.withLock { $0 != nil } }

    func wait(seconds: Double = 30) throws -> [[UInt8]] {
        try WeirKafkaSinkTests.wait(seconds: seconds, "the snapshot is there") { isThere }
        guard let result = result.withLock({ $0 }) else { return [] }
        return try result.get().operators.flatMap { $0.operatorState[SinkState.listName] ?? [] }
    }
}

/// What a closure fails with.
func failure(of body: () throws -> Void) -> JobFailure? {
    do {
        try body()
        return nil
    } catch {
        return error as? JobFailure
    }
}

extension [[UInt8]] {
    /// The transactions that a sink's state names.
    var transactions: [PreparedTransaction] {
        compactMap { entry in if case .transaction(let transaction)? = try? SinkState(decoding: entry) { transaction } else { nil } }
    }
}
