import Foundation
import Synchronization
import Testing
import WeirBase
import WeirDataflow
import WeirGraph
import WeirStreams

@testable import WeirFiles

/// A directory that goes with the test.
final class TemporaryDirectory {
    let path: String

    init() throws {
        path = NSTemporaryDirectory() + "weir-files-" + UUID().uuidString
        try FileManager.default.createDirectory(atPath: path, withIntermediateDirectories: true)
    }

    deinit { try? FileManager.default.removeItem(atPath: path) }

    @discardableResult
    func write(_ name: String, _ text: String) throws -> String {
        try Data(text.utf8).write(to: URL(fileURLWithPath: "\(path)/\(name)"))
        return "\(path)/\(name)"
    }

    func read(_ name: String) throws -> String {
        String(decoding: try Data(contentsOf: URL(fileURLWithPath: "\(path)/\(name)")), as: UTF8.self)
    }

    var names: [String] { ((try? FileManager.default.contentsOfDirectory(atPath: path)) ?? []).sorted() }
}

struct TestClock: WeirClock {
    private static let origin = ContinuousClock.now
    var now: Instant { Instant(nanoseconds: Self.origin.duration(to: .now).inNanoseconds) }
    var wallTime: WallTime { WallTime(milliseconds: 0) }
}

final class TestWaker: Waker {
    private let count = Atomic<Int>(0)
    var woken: Int { count.load(ordering: .acquiring) }
    func wake() { count.add(1, ordering: .acquiringAndReleasing) }
}

final class RowCollector<Row: Sendable>: Collector<Row> {
    var rows: [Row] = []
    override func emit(_ batch: Batch<Row>) throws {
        for index in 0..<batch.count { rows.append(batch.rows[index]) }
        batch.recycle()
    }
}

final class TestControl: ControlOutput {
    var watermarks: [Int64] = []
    func emitWatermark(_ watermark: Int64) throws { watermarks.append(watermark) }
    func emitStatus(idle: Bool) throws {}
}

func makeContext(
    _ control: TestControl, subtask: Int, of parallelism: Int, restored: Bool, waker: any Waker, clock: any WeirClock = TestClock(),
    job: JobID = JobID(high: 0, low: 0), epoch: UInt32 = 1
) -> OperatorContext {
    let context = OperatorContext(
        operatorID: OperatorID(uid: "test"), operatorName: "test", subtask: subtask, parallelism: parallelism, maxParallelism: 128,
        keyGroups: 0..<1, isRestored: restored, waker: waker, clock: clock, job: job, epoch: Epoch(epoch))
    context.control = control
    return context
}

typealias Lists = [String: [[UInt8]]]

func merge(_ states: [Lists]) -> Lists { states.reduce(into: [:]) { $0.merge($1) { $0 + $1 } } }

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
        restoring state: Lists? = nil
    ) throws {
        try descriptor.validate()
        context = makeContext(control, subtask: subtask, of: parallelism, restored: state != nil, waker: waker)
        source = try descriptor.makeSource(SourceSetup(uid: "test", name: "test", watermarks: watermarks, output: collector))
        try source.open(context)
        if let state { try source.restore(from: RestoredState(checkpoint: 1, lists: state, unions: state)) }
        do { try source.start() } catch {
            source.close()
            throw error
        }
    }

    deinit { source.close() }

    var rows: [Source.Row] { collector.rows }

    /// Polls until `condition` holds or the source has finished; called again when it asked for it.
    func run(seconds: Double = 20, budget: Int = 1_024, until condition: () -> Bool = { false }) async throws {
        let end = ContinuousClock.now + .seconds(seconds)
        while !isFinished, !condition(), ContinuousClock.now < end {
            let woken = waker.woken
            switch try source.poll(budget: budget) {
            case .more: continue
            case .finished: isFinished = true
            case .idle: while waker.woken == woken, !condition(), ContinuousClock.now < end { try await Task.sleep(for: .milliseconds(1)) }
            }
        }
    }

    func snapshot() throws -> Lists {
        let builder = SnapshotBuilder(checkpoint: 1)
        try source.snapshot(into: builder)
        return builder.operatorState
    }
}

/// One subtask of a sink, in one attempt of a job.
final class SinkHarness<Sink: StreamSinkDescriptor> {
    let control = TestControl()
    let sink: AnyOperator
    private var checkpoint: UInt64 = 0

    /// - Parameters:
    ///   - isStarted: False for an attempt that stops before its last step to its first row: ``start()`` makes it.
    ///   - waits: Until the sink takes rows.
    init(
        _ descriptor: Sink, subtask: Int = 0, of parallelism: Int = 1, restoring state: Lists? = nil, job: UInt64 = 1, epoch: UInt32 = 1,
        clock: any WeirClock = TestClock(), isStarted: Bool = true, waits: Bool = true
    ) throws {
        try descriptor.validate()
        sink = try descriptor.makeSink(SinkSetup(uid: "test", name: "test"))
        let context = makeContext(
            control, subtask: subtask, of: parallelism, restored: state != nil, waker: NoWaker(), clock: clock,
            job: JobID(high: 0, low: job), epoch: epoch)
        try sink.open(context)
        if let state { try sink.restore(from: RestoredState(checkpoint: 1, lists: state, unions: state)) }
        if isStarted { try start(waits: waits) }
    }

    deinit { sink.close() }

    func start(waits: Bool = true) throws {
        try sink.start()
        if waits { try waitUntilReady() }
    }

    func waitUntilReady() throws {
        let end = ContinuousClock.now + .seconds(20)
        while try !sink.isReady() {
            try #require(ContinuousClock.now < end, "the sink is ready")
            usleep(1_000)
        }
    }

    func write(_ rows: [Sink.Row]) throws { try sink.process(Batch(rows.map { ($0, AnyBatch.noTimestamp) }), input: 0) }

    /// Passes the barrier of the next checkpoint, or of one that is named.
    func snapshot(_ number: UInt64? = nil, isSavepoint: Bool = false) throws -> Lists {
        checkpoint = number ?? checkpoint + 1
        let builder = SnapshotBuilder(checkpoint: checkpoint, isSavepoint: isSavepoint)
        try sink.snapshot(into: builder)
        return builder.operatorState
    }

    func complete() throws { try sink.checkpointCompleted(checkpoint) }

    /// The end of the rows, and the last checkpoint.
    func finish() throws {
        try sink.endOfInput()
        _ = try snapshot()
        try complete()
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
