import Synchronization
import Testing
import WeirBase
import WeirDataflow
import WeirGraph
import WeirStreams

/// Connectors as other modules write them, and a job in the words of the documentation on top of them.
@Suite struct ConnectorShapeTests {
    struct TelemetryAggregate: StreamDefinition {
        var bootstrap = "localhost:9092"
        var windowSeconds = 15

        func define(in job: JobContext) throws {
            try job.source(
                .queue(bootstrap, topics: ["telemetries"], format: .json(Reading.self)).starting(at: .earliest),
                watermarks: .boundedOutOfOrderness(.seconds(5), timestamp: \.time), uid: "readings"
            )
            .filter { $0.value.isFinite }
            .keyed(by: \.id)
            .window(.tumbling(.seconds(windowSeconds)))
            .aggregate(Statistics(of: \.value)) { key, window, s in
                Summary(key, window.start, s.count, s.minimum, s.maximum)
            }
            .uid("per-container")
            .sink(to: .queue(bootstrap, topic: "summaries", format: .json(Summary.self)), uid: "summaries")
        }
    }

    @Test func theDocumentedJobCompilesAndRuns() throws {
        TestQueue.shared.clear()
        TestQueue.shared.put("telemetries", [Reading("a", 1, 1), Reading("a", 14_999, 3), Reading("b", 15_000, .nan), Reading("a", 15_000, 5)])
        let job = JobContext(name: "TelemetryAggregate")
        try TelemetryAggregate().define(in: job)
        let program = try job.build()
        #expect(program.graph.nodes.map(\.uid).filter { !$0.hasPrefix("filter-") } == ["readings", "per-container", "summaries"])
        #expect(program.jobGraph.vertices.map(\.name) == ["queue(telemetries) -> filter", "window -> queue(summaries)"])
        try LocalExecutor(program, clock: ManualClock()).run()
        let out: [Summary] = TestQueue.shared.take("summaries")
        #expect(out == [Summary("a", 0, 2, 1, 3), Summary("a", 15_000, 1, 5, 5)])
    }

    @Test func theGraphIsTheSameInEveryProcess() throws {
        func hash() throws -> UInt64 {
            let job = JobContext(name: "TelemetryAggregate")
            try TelemetryAggregate().define(in: job)
            return try job.build().jobGraph.hash
        }
        #expect(try hash() == hash())
    }
}

// MARK: - A connector

final class TestQueue: Sendable {
    static let shared = TestQueue()
    private let topics = Mutex<[String: [any Sendable]]>([:])
    func clear() { topics.withLock { $0 = [:] } }
    func put(_ topic: String, _ rows: [any Sendable]) { topics.withLock { $0[topic, default: []] += rows } }
    func take<Row>(_ topic: String) -> [Row] { topics.withLock { $0.removeValue(forKey: topic) ?? [] }.compactMap { $0 as? Row } }
}

struct TestFormat<Row: Sendable>: Sendable {
    static func json(_ type: Row.Type) -> TestFormat<Row> { TestFormat<Row>() }
}

struct TestQueueSource<Row: Sendable>: StreamSourceDescriptor {
    enum Start: Sendable { case earliest, latest }
    let topics: [String]
    var name: String { "queue(\(topics.joined(separator: ",")))" }
    func starting(at start: Start) -> TestQueueSource { self }

    final class Operator: AnySource {
        let setup: SourceSetup<Row>
        let topics: [String]
        var watermarks: SplitWatermarks
        var context: OperatorContext?
        init(_ setup: SourceSetup<Row>, _ topics: [String]) {
            self.setup = setup
            self.topics = topics
            watermarks = SplitWatermarks(setup.watermarks)
        }
        override func open(_ context: OperatorContext) throws {
            self.context = context
            watermarks.addSplit(now: 0)
        }
        override func poll(budget: Int) throws -> SourceStatus {
            let batch = Batch<Row>(topics.flatMap { TestQueue.shared.take($0) as [Row] }.map { ($0, AnyBatch.noTimestamp) })
            guard !batch.isEmpty, let context else { return .finished }
            if let stamp = setup.watermarks.stamp {
                watermarks.observe(split: 0, greatest: stamp(batch.rows, batch.timestamps, batch.count), now: 0)
            }
            try setup.output.emit(batch)
            try watermarks.send(now: 0, to: context)
            return .more
        }
    }

    func makeSource(_ setup: SourceSetup<Row>) throws -> AnySource { Operator(setup, topics) }
}

extension StreamSourceDescriptor {
    static func queue<Row: Sendable>(
        _ bootstrap: String, topics: [String], format: TestFormat<Row>
    ) -> Self where Self == TestQueueSource<Row> { TestQueueSource(topics: topics) }
}

struct TestQueueSink<Row: Sendable>: StreamSinkDescriptor {
    let topic: String
    var name: String { "queue(\(topic))" }

    final class Operator: AnyOperator {
        let topic: String
        init(_ topic: String) { self.topic = topic }
        override func process(_ batch: AnyBatch, input: Int) throws {
            guard let batch = batch as? Batch<Row> else { return }
            TestQueue.shared.put(topic, (0..<batch.count).map { batch.rows[$0] })
            batch.recycle()
        }
    }

    func makeSink(_ setup: SinkSetup) throws -> AnyOperator { Operator(topic) }
}

extension StreamSinkDescriptor {
    static func queue<Row: Sendable>(_ bootstrap: String, topic: String, format: TestFormat<Row>) -> Self
    where Self == TestQueueSink<Row> { TestQueueSink(topic: topic) }
}
