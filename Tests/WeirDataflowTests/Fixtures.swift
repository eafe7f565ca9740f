import Synchronization
import WeirBase
import WeirGraph

@testable import WeirDataflow

/// Time that moves when told to.
final class TestClock: WeirClock {
    private let time = Mutex<Int64>(0)
    var now: Instant { Instant(nanoseconds: time.withLock { $0 }) }
    var wallTime: WallTime { WallTime(milliseconds: time.withLock { $0 } / 1_000_000) }
    func advance(milliseconds: Int64) { time.withLock { $0 += milliseconds * 1_000_000 } }
}

final class CountingWaker: Waker {
    let count = Atomic<Int>(0)
    func wake() { count.add(1, ordering: .relaxed) }
}

/// Remembers what a slot said.
final class Recorder: SlotListener {
    enum Said: Equatable {
        case state(TaskAttempt, TaskState)
        case snapshot(TaskAttempt, UInt64)
        case declined(TaskAttempt, UInt64)
    }
    let said = Mutex<[Said]>([])
    let snapshots = Mutex<[TaskAttempt: [UInt64: TaskSnapshot]]>([:])

    func taskStateChanged(_ task: TaskAttempt, to state: TaskState) { said.withLock { $0.append(.state(task, state)) } }
    func snapshotTaken(_ task: TaskAttempt, barrier: Barrier, snapshot: TaskSnapshot) {
        said.withLock { $0.append(.snapshot(task, barrier.checkpoint)) }
        snapshots.withLock { $0[task, default: [:]][barrier.checkpoint] = snapshot }
    }
    func checkpointDeclined(_ task: TaskAttempt, checkpoint: CheckpointID, reason: String) {
        said.withLock { $0.append(.declined(task, checkpoint.rawValue)) }
    }

    func states(_ task: TaskAttempt) -> [TaskState] {
        said.withLock { $0.compactMap { if case .state(task, let state) = $0 { state } else { nil } } }
    }
    func acknowledged(_ task: TaskAttempt) -> [UInt64] {
        said.withLock { $0.compactMap { if case .snapshot(task, let id) = $0 { id } else { nil } } }
    }
    func declined(_ task: TaskAttempt) -> [UInt64] {
        said.withLock { $0.compactMap { if case .declined(task, let id) = $0 { id } else { nil } } }
    }
    func failure(_ task: TaskAttempt) -> JobFailure? {
        states(task).compactMap { if case .failed(let failure) = $0 { failure } else { nil } }.first
    }
}

/// What an operator saw, shared with the test.
final class Trace: Sendable {
    enum Event: Equatable {
        case row(Int64)
        case watermark(Int64)
        case idle(Bool)
        case snapshot(UInt64)
        case completed(UInt64)
        case aborted(UInt64)
        case end
        case closed
        case cancel
        case time(Int64)
    }
    private let list = Mutex<[Event]>([])
    let lifecycle = Mutex<[String]>([])
    func add(_ event: Event) { list.withLock { $0.append(event) } }
    var events: [Event] { list.withLock { $0 } }
    var rows: [Int64] { events.compactMap { if case .row(let row) = $0 { row } else { nil } } }
    var watermarks: [Int64] { events.compactMap { if case .watermark(let time) = $0 { time } else { nil } } }
}

struct Broken: Error {}

/// Emits what is put into its script, in order.
final class ScriptedSource: AnySource {
    enum Step: Sendable {
        case rows([Int64])
        /// Rows, and nothing more for now.
        case rowsAndIdle([Int64])
        case watermark(Int64)
        case idle(Bool)
        case pause
        case fail
        case end
    }
    let collector: Collector<Int64>
    let script: Mutex<[Step]>
    var context: OperatorContext?
    var position: UInt64 = 0
    init(_ collector: Collector<Int64>, script: [Step]) {
        self.collector = collector
        self.script = Mutex(script)
    }
    override func open(_ context: OperatorContext) { self.context = context }
    override func restore(from state: RestoredState) throws {
        for entry in state.union("position") {
            position = try entry.withUnsafeBytes { bytes in
                var reader = ByteReader(bytes)
                return try reader.readU64()
            }
        }
        script.withLock { $0.removeFirst(Int(position)) }
    }
    override func poll(budget: Int) throws -> SourceStatus {
        guard let step = script.withLock({ $0.first }) else { return .idle(wakeAfter: nil) }
        if case .pause = step { return .idle(wakeAfter: .seconds(1)) }
        position += 1
        script.withLock { _ = $0.removeFirst() }
        switch step {
        case .rows(let rows): try collector.emit(Batch(rows: rows))
        case .rowsAndIdle(let rows):
            try collector.emit(Batch(rows: rows))
            return .idle(wakeAfter: nil)
        case .watermark(let time): try context?.emitWatermark(time)
        case .idle(let idle): try context?.emitStatus(idle: idle)
        case .fail: throw Broken()
        case .end: return .finished
        case .pause: break
        }
        return .more
    }
    override func snapshot(into builder: SnapshotBuilder) {
        var writer = ByteWriter()
        writer.writeU64(position)
        builder.addList("position", [writer.finish()])
    }
}

/// What a probe waits for, as the test says.
final class Hold: Sendable {
    let isReady = Atomic<Bool>(true)
    let isSettled = Atomic<Bool>(true)
    let fails = Atomic<Bool>(false)
    /// State that the snapshots of the probe wait for.
    let deferred = Mutex<[UInt64: DeferredState]>([:])
    /// Called while a row is being handled.
    let onRow = Mutex<(@Sendable (OperatorContext?) -> Void)?>(nil)
}

/// Records all calls and passes rows on. The state is the rows seen so far.
final class Probe: AnyOperator {
    let collector: Collector<Int64>
    let trace: Trace
    let failsAt: Int64?
    let callsBack: Bool
    let hold: Hold?
    private var context: OperatorContext?
    private var seen: [Int64] = []
    init(_ collector: Collector<Int64>, trace: Trace, failsAt: Int64? = nil, callsBack: Bool = false, hold: Hold? = nil) {
        self.callsBack = callsBack
        self.hold = hold
        self.collector = collector
        self.trace = trace
        self.failsAt = failsAt
    }
    override func open(_ context: OperatorContext) {
        self.context = context
        trace.lifecycle.withLock { $0.append(context.isRestored ? "open restored" : "open") }
    }
    override func restore(from state: RestoredState) { trace.lifecycle.withLock { $0.append("restore \(state.checkpoint)") } }
    override func start() { trace.lifecycle.withLock { $0.append("start") } }
    override func process(_ batch: AnyBatch, input: Int) throws {
        let batch = unsafeDowncast(batch, to: Batch<Int64>.self)
        for row in 0..<batch.count {
            if batch.rows[row] == failsAt { throw Broken() }
            trace.add(.row(batch.rows[row]))
            hold?.onRow.withLock { $0 }?(context)
            seen.append(batch.rows[row])
            if callsBack { context?.callBack(atProcessingTime: batch.rows[row]) }
        }
        try collector.emit(batch)
    }
    override func advanceWatermark(_ watermark: Int64) { trace.add(.watermark(watermark)) }
    override func isReady() throws -> Bool {
        if hold?.fails.load(ordering: .relaxed) == true { throw Broken() }
        return hold?.isReady.load(ordering: .relaxed) ?? true
    }
    override func cancel() { trace.add(.cancel) }
    override func isSettled() throws -> Bool {
        if hold?.fails.load(ordering: .relaxed) == true { throw Broken() }
        return hold?.isSettled.load(ordering: .relaxed) ?? true
    }
    override func inputStatus(idle: Bool) { trace.add(.idle(idle)) }
    override func processingTime(_ now: Int64) { trace.add(.time(now)) }
    override func snapshot(into builder: SnapshotBuilder) {
        trace.add(.snapshot(builder.checkpoint))
        var writer = ByteWriter()
        for row in seen { writer.writeI64(row) }
        builder.addKeyed("seen", keyGroups: 0..<128, EncodedStatePart(writer.finish()))
        if let hold {
            let state = DeferredState()
            hold.deferred.withLock { $0[builder.checkpoint] = state }
            builder.addList("deferred", state)
        }
    }
    override func checkpointCompleted(_ checkpoint: UInt64) { trace.add(.completed(checkpoint)) }
    override func checkpointAborted(_ checkpoint: UInt64) { trace.add(.aborted(checkpoint)) }
    override func endOfInput() { trace.add(.end) }
    override func close() { trace.add(.closed) }
}

/// Rows of an `Int64` state part written by ``Probe``.
func rows(of part: any KeyedStatePart) throws -> [Int64] {
    var writer = ByteWriter()
    part.encode(into: &writer)
    return try writer.finish().withUnsafeBytes { bytes in
        var reader = ByteReader(bytes)
        var rows: [Int64] = []
        while reader.remaining > 0 { rows.append(try reader.readI64()) }
        return rows
    }
}

/// Hashes `Int64` rows by themselves.
@Sendable func hashRows(_ batch: Batch<Int64>) {
    for row in 0..<batch.count { batch.keyHashes[row] = KeyHash.hash(UInt64(bitPattern: batch.rows[row])) }
}

/// A byte channel in memory with room for some frames.
final class BytePipe: ByteOutput, ByteInput {
    private let frames = Mutex<[[UInt8]]>([])
    let room: Int
    init(room: Int = .max) { self.room = room }
    func trySend(_ frame: [UInt8]) -> Bool {
        frames.withLock { frames in
            guard frames.count < room else { return false }
            frames.append(frame)
            return true
        }
    }
    func receive() -> [UInt8]? { frames.withLock { $0.isEmpty ? nil : $0.removeFirst() } }
    private let announced = Mutex<[UInt8]?>(nil)
    func announce(_ frame: [UInt8]) { announced.withLock { $0 = frame } }
    func takeAnnouncement() -> [UInt8]? { announced.withLock { $0.take() } }
}

/// Compares elements by what they carry.
enum Seen: Equatable {
    case rows([Int64])
    case watermark(Int64)
    case status(Bool)
    case barrier(UInt64)
    case end

    init(_ element: StreamElement) {
        switch element {
        case .batch(let batch): self = .rows(batch.int64Rows)
        case .watermark(let time): self = .watermark(time)
        case .status(let idle): self = .status(idle)
        case .barrier(let barrier): self = .barrier(barrier.checkpoint)
        case .endOfData: self = .end
        }
    }
}

extension AnyBatch {
    var int64Rows: [Int64] {
        guard let batch = self as? Batch<Int64> else { return [] }
        return (0..<count).map { batch.rows[$0] }
    }
}

extension Batch where Row == Int64 {
    convenience init(rows: [Int64]) { self.init(rows.map { ($0, $0) }) }
}

func barrier(_ checkpoint: UInt64) -> Barrier { Barrier(checkpoint: checkpoint, timestamp: 0) }

/// A graph of sources, an optional edge, and probes behind it, run on slots in this thread.
struct Harness {
    let clock = TestClock()
    let recorder = Recorder()
    let trace = Trace()
    var slot: Slot
    let graph: JobGraph
    let attempts: [TaskAttempt]

    /// A source vertex of some subtasks and a probe vertex with its subtasks, joined by a rebalance edge; or both in one chain.
    init(
        scripts: [[ScriptedSource.Step]], chained: Bool = false, failsAt: Int64? = nil, isCheckpointed: Bool = true, capacity: Int = 16,
        remote: Bool = false, partitioner: Partitioner = .rebalance, callsBack: Bool = false, sinks: Int = 1, hold: Hold? = nil,
        restore: [OperatorID: RestoredState]? = nil
    ) {
        let trace = trace
        let next = Atomic<Int>(0)
        let operations = RowOperations(Int64.self)
        let source = TypedNode<Int64>(nodeID: 1, operations: operations) { collector in
            ScriptedSource(collector, script: scripts[next.add(1, ordering: .relaxed).oldValue % scripts.count])
        }
        let probe = TypedNode<Int64>(nodeID: 2, operations: operations) {
            Probe($0, trace: trace, failsAt: failsAt, callsBack: callsBack, hold: hold)
        }
        let sourceNode = JobNode(id: 1, uid: "source", name: "source", kind: .source)
        let probeNode = JobNode(id: 2, uid: "probe", name: "probe", kind: .sink)
        let edge = JobEdge(id: 0, from: VertexID(0), fromNode: 1, to: VertexID(1), partitioner: partitioner)
        source.setKeyHasher(toNode: 2, hashRows)
        if chained {
            let vertex = JobVertex(
                id: VertexID(0), nodes: [sourceNode, probeNode], chainEdges: [ChainEdge(from: 1, to: 2)], parallelism: scripts.count)
            graph = JobGraph(name: "test", maxParallelism: 128, vertices: [vertex], edges: [])
        } else {
            graph = JobGraph(
                name: "test", maxParallelism: 128,
                vertices: [
                    JobVertex(id: VertexID(0), nodes: [sourceNode], parallelism: scripts.count),
                    JobVertex(id: VertexID(1), nodes: [probeNode], parallelism: sinks),
                ], edges: [edge])
        }
        slot = Slot(
            environment: SlotEnvironment(
                operators: OperatorTable([source, probe]), clock: clock, waker: SlotWaker(thread: NoWaker()), taskManager: "tm-1"),
            listener: recorder)
        let epoch = Epoch(1)
        attempts = graph.subtasks.map { TaskAttempt(epoch: epoch, subtask: $0) }
        var inputs: [[InputEnd]] = Array(repeating: [], count: sinks)
        for (index, _) in scripts.enumerated() {
            var outputs: [TaskPlan.Output] = []
            if !chained {
                var channels: [OutputEnd] = []
                for sink in 0..<sinks {
                    if remote {
                        let pipe = BytePipe(room: capacity)
                        channels.append(.remote(pipe))
                        inputs[sink].append(.remote(pipe))
                    } else {
                        let channel = LocalChannel(capacity: capacity)
                        channels.append(.local(channel))
                        inputs[sink].append(.local(channel))
                    }
                }
                outputs = [.init(edge: edge, channels: channels)]
            }
            slot.submit(
                .deploy(
                    TaskPlan(
                        attempt: attempts[index], graph: graph, inputs: [], outputs: outputs, isCheckpointed: isCheckpointed, restore: restore)))
        }
        guard !chained else { return }
        for sink in 0..<sinks {
            slot.submit(
                .deploy(
                    TaskPlan(
                        attempt: attempts[scripts.count + sink], graph: graph, inputs: [.init(edge: edge, channels: inputs[sink])], outputs: [],
                        isCheckpointed: isCheckpointed, restore: restore)))
        }
    }

    var sink: TaskAttempt { attempts[attempts.count - 1] }

    /// Runs until nothing moves.
    func run() {
        for _ in 0..<100_000 where !slot.runOnce() { return }
    }
}
