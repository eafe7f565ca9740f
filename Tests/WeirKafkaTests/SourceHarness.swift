import Synchronization
import Testing
import WeirBase
import WeirDataflow
import WeirFormats
import WeirGraph
import WeirStreams

@testable import WeirKafka

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

func makeContext(
    _ control: TestControl, subtask: Int = 0, of parallelism: Int = 1, restored: Bool = false, waker: any Waker, settings: [String: String] = [:]
) -> OperatorContext {
    let context = OperatorContext(
        operatorID: OperatorID(uid: "test"), operatorName: "test", subtask: subtask, parallelism: parallelism, maxParallelism: 128,
        keyGroups: 0..<1, isRestored: restored, waker: waker, clock: TestClock(), settings: settings)
    context.control = control
    context.alignment = WatermarkAlignmentHub()
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

    convenience init(
        _ descriptor: Source, watermarks: WatermarkStrategy<Source.Row> = .none, subtask: Int = 0, of parallelism: Int = 1, restoring state: [[UInt8]]
    ) throws {
        try self.init(descriptor, watermarks: watermarks, subtask: subtask, of: parallelism, restoring: [KafkaReader.positionsName: state])
    }

    init(
        _ descriptor: Source, watermarks: WatermarkStrategy<Source.Row> = .none, subtask: Int = 0, of parallelism: Int = 1,
        restoring state: [String: [[UInt8]]]? = nil, settings: [String: String] = [:]
    ) throws {
        try descriptor.validate()
        context = makeContext(control, subtask: subtask, of: parallelism, restored: state != nil, waker: waker, settings: settings)
        source = try descriptor.makeSource(
            SourceSetup(uid: "test", name: "test", watermarks: watermarks, output: collector))
        try source.open(context)
        if let state { try source.restore(from: RestoredState(checkpoint: 1, lists: state, unions: state)) }
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

    func snapshot(_ checkpoint: UInt64 = 1) throws -> [[UInt8]] { try snapshots(checkpoint)[KafkaReader.positionsName] ?? [] }

    /// All lists that are known at the barrier.
    func snapshots(_ checkpoint: UInt64 = 1) throws -> [String: [[UInt8]]] {
        let builder = SnapshotBuilder(checkpoint: checkpoint)
        try source.snapshot(into: builder)
        return builder.operatorState
    }

    /// As a checkpoint gets it: once everything that was deferred is there.
    func settledSnapshot(_ checkpoint: UInt64 = 1) async -> Result<TaskSnapshot, JobFailure> {
        let builder = SnapshotBuilder(checkpoint: checkpoint)
        do {
            try source.snapshot(into: builder)
        } catch {
            return .failure(error as? JobFailure ?? JobFailure(domain: .system, recovery: .fail, message: "\(error)"))
        }
        let snapshot = TaskSnapshot(checkpoint: CheckpointID(checkpoint), operators: [builder.finish(operatorID: OperatorID(uid: "test"))])
        return await withCheckedContinuation { done in snapshot.resolve { done.resume(returning: $0) } }
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
