import Synchronization
import Testing
import WeirBase
import WeirBroker
import WeirDataflow
import WeirFormats
import WeirGraph
import WeirKafkaWire
import WeirStreams
import WeirTestKit

@testable import WeirKafka

/// A broker with topics of its own for one test: the embedded one in this process, or the one at KAFKA_BOOTSTRAP.
///
/// Topics and groups are written with short names in the tests; ``subscript(_:)`` gives the one that the broker knows, which no other test has.
final class KafkaCluster {
    let bootstrap: String
    private let broker: Broker?
    private let suffix: String
    private let topics: [String]

    /// - Parameters:
    ///   - topics: Names and partitions.
    ///   - isEmbedded: Takes the embedded broker even where there is another: the test lets something go wrong in it.
    ///   - properties: Of the embedded broker.
    init(_ topics: KeyValuePairs<String, Int32>, isEmbedded: Bool = false, properties: [String: String] = [:]) throws {
        suffix = hexadecimal(UInt64.random(in: 0 ... .max))
        let external = isEmbedded ? nil : externalBootstrap()
        if let external {
            broker = nil
            bootstrap = external
        } else {
            var options = BrokerOptions()
            options.properties = properties
            let broker = try Broker(options: options)
            try broker.start()
            self.broker = broker
            bootstrap = broker.bootstrap
        }
        self.topics = topics.map(\.key)
        let administration = try TopicAdministration(bootstrap: bootstrap)
        for (name, partitions) in topics { try administration.create(self[name], partitions: partitions) }
    }

    deinit {
        if let broker { return broker.stop() }
        guard let administration = try? TopicAdministration(bootstrap: bootstrap) else { return }
        for topic in topics { administration.delete(self[topic]) }
    }

    /// The name under which the broker knows a topic or group.
    subscript(name: String) -> String { "\(name)-\(suffix)" }

    // MARK: What goes wrong, in the embedded broker

    private var embedded: Broker {
        guard let broker else { preconditionFailure("only the embedded broker lets things go wrong") }
        return broker
    }

    /// The next request of an API fails.
    func fail(_ api: ApiKey, _ code: KafkaErrorCode) { embedded.faults.add(.on(api, .error(code))) }

    func setBroker(up: Bool) {
        embedded.run { $0.endConditions() }
        if !up { embedded.run { $0.perform(.refuseConnections(.seconds(3_600))) } }
    }

    /// Writes values to one partition, and waits until they are there.
    func write(_ topic: String, _ partition: Int32, _ values: [String?], timestamp: Int64 = 0) throws {
        let producer = try KafkaProducerHandle(properties: ["bootstrap.servers": bootstrap, "linger.ms": "0"], topic: self[topic])
        for value in values {
            if var value {
                let outcome = value.withUTF8 {
                    producer.produce(key: nil, value: UnsafeRawBufferPointer($0), partition: partition, timestamp: timestamp)
                }
                #expect(outcome == .queued)
            } else {
                let outcome = producer.produce(key: nil, value: nil, partition: partition, timestamp: timestamp)
                #expect(outcome == .queued)
            }
        }
        let isFlushed = producer.flush(timeout: .seconds(10))
        let failure = producer.events.takeDeliveryFailure()
        #expect(isFlushed)
        #expect(failure == nil)
    }
}

struct TestClock: WeirClock {
    private static let origin = ContinuousClock.now
    var now: Instant { Instant(nanoseconds: Self.origin.duration(to: .now).inNanoseconds) }
    var wallTime: WallTime { WallTime(milliseconds: 1_700_000_000_000 + now.nanoseconds / 1_000_000) }
}

/// Counts how often it was woken, and lets a test wait for it.
final class TestWaker: Waker {
    private let count = Atomic<Int>(0)
    var woken: Int { count.load(ordering: .acquiring) }
    func wake() { count.add(1, ordering: .acquiringAndReleasing) }
}

final class RowCollector<Row: Sendable>: Collector<Row> {
    var rows: [Row] = []
    var timestamps: [Int64] = []
    override func emit(_ batch: Batch<Row>) throws {
        for index in 0..<batch.count {
            rows.append(batch.rows[index])
            timestamps.append(batch.timestamps[index])
        }
        batch.recycle()
    }
}

final class TestControl: ControlOutput {
    var watermarks: [Int64] = []
    var statuses: [Bool] = []
    func emitWatermark(_ watermark: Int64) throws { watermarks.append(watermark) }
    func emitStatus(idle: Bool) throws { statuses.append(idle) }
}

func makeContext(_ control: TestControl, subtask: Int = 0, of parallelism: Int = 1, restored: Bool = false, waker: any Waker) -> OperatorContext {
    let context = OperatorContext(
        operatorID: OperatorID(uid: "test"), operatorName: "test", subtask: subtask, parallelism: parallelism, maxParallelism: 128,
        keyGroups: 0..<1, isRestored: restored, waker: waker, clock: TestClock())
    context.control = control
    return context
}

/// One subtask of a source, driven as a task would drive it.
final class SourceHarness<Source: StreamSourceDescriptor> {
    let collector = RowCollector<Source.Row>()
    let control = TestControl()
    let waker = TestWaker()
    let context: OperatorContext
    let source: AnySource
    private(set) var isFinished = false

    init(
        _ descriptor: Source, watermarks: WatermarkStrategy<Source.Row> = .none, subtask: Int = 0, of parallelism: Int = 1,
        restoring state: [[UInt8]]? = nil, list: String = "kafka.positions"
    ) throws {
        try descriptor.validate()
        context = makeContext(control, subtask: subtask, of: parallelism, restored: state != nil, waker: waker)
        source = try descriptor.makeSource(
            SourceSetup(uid: "test", name: "test", watermarks: watermarks, output: collector))
        try source.open(context)
        if let state { try source.restore(from: RestoredState(checkpoint: 1, lists: [list: state], unions: [list: state])) }
        try source.start()
    }

    deinit { source.close() }

    var rows: [Source.Row] { collector.rows }
    func counter(_ name: String) -> Int { context.counter(name).value }

    /// Polls until `condition` holds. A source that says it is idle is called again only once it asked for it.
    func run(seconds: Double = 20, budget: Int = 1_024, until condition: () -> Bool = { false }) async throws {
        let end = ContinuousClock.now + .seconds(seconds)
        while !isFinished, !condition(), ContinuousClock.now < end {
            let woken = waker.woken
            switch try source.poll(budget: budget) {
            case .more: continue
            case .finished: isFinished = true
            case .idle(let wakeAfter):
                let wake = wakeAfter.map { ContinuousClock.now + $0 } ?? end
                while waker.woken == woken, !condition(), ContinuousClock.now < min(wake, end) { try await Task.sleep(for: .milliseconds(1)) }
            }
        }
    }

    func snapshot(_ checkpoint: UInt64 = 1, list: String = "kafka.positions") throws -> [[UInt8]] {
        let builder = SnapshotBuilder(checkpoint: checkpoint)
        try source.snapshot(into: builder)
        return builder.operatorState[list] ?? []
    }
}

/// What a closure fails with.
func failure(of body: () async throws -> Void) async -> JobFailure? {
    do {
        try await body()
        return nil
    } catch {
        return error as? JobFailure
    }
}
