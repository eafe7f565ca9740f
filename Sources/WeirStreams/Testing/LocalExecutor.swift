internal import Synchronization
package import WeirBase
internal import WeirDataflow
internal import WeirGraph

/// Runs a job on the caller's thread: for tests and measurements.
///
/// As many slots as the job is wide, run in turn, joined by local channels. The same program, rows and clock give the same run. Checkpoints are
/// taken and restored through their encoded form, as a cluster does.
package final class LocalExecutor {
    private let program: JobProgram
    private let slots: [Slot]
    private let log = EventLog()
    private let epoch = Epoch(1)
    private let clock: any WeirClock
    private var checkpoint: UInt64 = 0
    private let sources: [TaskAttempt]

    /// - Parameters:
    ///   - program: As built by ``JobContext/build()``.
    ///   - snapshot: What to restore; possibly taken at another parallelism.
    /// - Throws: `JobFailure` if an operator cannot be made, opened or restored.
    package init(
        _ program: JobProgram, clock: any WeirClock, restoring snapshot: LocalSnapshot? = nil, settings: [String: String] = [:]
    ) throws {
        self.program = program
        self.clock = clock
        let graph = program.jobGraph
        let alignment = WatermarkAlignmentHub()
        slots = (0..<graph.slotsNeeded).map { [log] _ in
            Slot(
                environment: SlotEnvironment(operators: program.operators, clock: clock, waker: SlotWaker(thread: NoWaker()), alignment: alignment),
                listener: log)
        }
        sources = graph.subtasks.filter { graph.vertex($0.vertex)?.isSource == true }.map { [epoch] in TaskAttempt(epoch: epoch, subtask: $0) }
        let channels = LocalChannels(graph)
        for subtask in graph.subtasks {
            let restore = snapshot.map { $0.restored(for: subtask, in: graph) }
            slots[Int(subtask.index)].submit(
                .deploy(channels.plan(TaskAttempt(epoch: epoch, subtask: subtask), restore: restore, settings: settings)))
        }
        checkpoint = snapshot?.checkpoint ?? 0
        for slot in slots { _ = slot.runOnce() }
        try log.check()
    }

    /// Runs every slot once. Returns whether anything was done.
    ///
    /// - Throws: The failure of a task.
    package func step() throws -> Bool {
        var progress = false
        for slot in slots where slot.runOnce() { progress = true }
        try log.check()
        return progress
    }

    package var isFinished: Bool { log.finished == program.jobGraph.subtasks.count }

    /// Runs until the data ends.
    package func run() throws {
        while !isFinished {
            if try step() || isFinished { continue }
            try waitForDeadline()
        }
    }

    /// Nothing can be done now: time has to pass. A clock that stands still is moved on.
    private func waitForDeadline() throws {
        guard let deadline = slots.compactMap({ $0.nextDeadline() }).min() else {
            throw JobFailure(domain: .system, recovery: .fail, message: "the job stands still: no task can go on")
        }
        (clock as? ManualClock)?.advance(to: deadline)
    }

    /// Takes a checkpoint of the job as it is, and encodes it.
    package func snapshot() throws -> LocalSnapshot {
        checkpoint += 1
        let barrier = Barrier(checkpoint: checkpoint, timestamp: clock.wallTime.milliseconds)
        for task in sources { slots[Int(task.subtask.index)].submit(.trigger(task, barrier)) }
        while log.snapshots(of: checkpoint).count < program.jobGraph.subtasks.count {
            if try !step() { throw JobFailure(domain: .system, recovery: .fail, message: "the checkpoint does not complete") }
        }
        let parts = log.snapshots(of: checkpoint)
        for slot in slots { slot.submit(.checkpointCompleted(epoch, CheckpointID(checkpoint))) }
        return LocalSnapshot(checkpoint: checkpoint, parts: parts)
    }

    /// Rows that an operator counted under a name, over all its subtasks.
    package func counter(_ name: String, of operatorName: String) -> Int {
        slots.flatMap(\.metrics).flatMap(\.metrics.operators).filter { $0.name == operatorName }.flatMap(\.counters)
            .filter { $0.name == name }.reduce(0) { $0 + $1.value }
    }
}

/// The encoded state of a whole job at a barrier.
package struct LocalSnapshot: Sendable {
    struct Operator: Sendable {
        let id: OperatorID
        let keyed: [RestoredState.Keyed]
        let lists: [String: [[UInt8]]]
    }

    package let checkpoint: UInt64
    /// In the order of the subtasks.
    let operators: [Operator]

    init(checkpoint: UInt64, parts: [SubtaskID: TaskSnapshot]) {
        self.checkpoint = checkpoint
        operators = parts.sorted { $0.key < $1.key }.flatMap { _, snapshot in
            snapshot.operators.map { part in
                Operator(
                    id: part.operatorID,
                    keyed: part.keyed.map { keyed in
                        var writer = ByteWriter()
                        keyed.part.encode(into: &writer)
                        return RestoredState.Keyed(name: keyed.name, keyGroups: keyed.keyGroups, bytes: writer.finish())
                    }, lists: part.operatorState)
            }
        }
    }

    func restored(for subtask: SubtaskID, in graph: JobGraph) -> [OperatorID: RestoredState] {
        guard let vertex = graph.vertex(subtask.vertex) else { return [:] }
        let own = KeyGroups.range(subtask: Int(subtask.index), parallelism: vertex.parallelism, maxParallelism: graph.maxParallelism)
        var states: [OperatorID: RestoredState] = [:]
        for node in vertex.nodes {
            let parts = operators.filter { $0.id == node.operatorID }
            guard !parts.isEmpty else { continue }
            var unions: [String: [[UInt8]]] = [:]
            for part in parts { unions.merge(part.lists) { $0 + $1 } }
            let lists = unions.mapValues { entries in
                entries.indices.filter { $0 % vertex.parallelism == Int(subtask.index) }.map { entries[$0] }
            }
            states[node.operatorID] = RestoredState(
                checkpoint: checkpoint, keyed: parts.flatMap(\.keyed).filter { $0.keyGroups.overlaps(own) }, lists: lists, unions: unions)
        }
        return states
    }
}

/// A clock that stands still until it is moved.
package final class ManualClock: WeirClock {
    private let nanoseconds = Atomic<Int64>(0)
    package init() {}
    package var now: Instant { Instant(nanoseconds: nanoseconds.load(ordering: .relaxed)) }
    package var wallTime: WallTime { WallTime(milliseconds: nanoseconds.load(ordering: .relaxed) / 1_000_000) }
    package func advance(by duration: Duration) { nanoseconds.add(duration.inNanoseconds, ordering: .relaxed) }
    package func advance(to instant: Instant) { nanoseconds.store(max(now.nanoseconds, instant.nanoseconds), ordering: .relaxed) }
}

/// Makes the channels of a job, one a pair of subtasks that an edge joins.
private struct LocalChannels {
    let graph: JobGraph
    /// By edge, then sender, then receiver.
    private let channels: [[[LocalChannel]]]

    init(_ graph: JobGraph) {
        self.graph = graph
        channels = graph.edges.map { edge in
            let senders = graph.vertex(edge.from)?.parallelism ?? 0
            let receivers = edge.partitioner == .forward ? 1 : graph.vertex(edge.to)?.parallelism ?? 0
            return (0..<senders).map { _ in (0..<receivers).map { _ in LocalChannel() } }
        }
    }

    func plan(_ attempt: TaskAttempt, restore: [OperatorID: RestoredState]?, settings: [String: String]) -> TaskPlan {
        let index = Int(attempt.subtask.index)
        var inputs: [TaskPlan.Input] = []
        var outputs: [TaskPlan.Output] = []
        for (edge, channels) in zip(graph.edges, channels) {
            if edge.from == attempt.subtask.vertex {
                outputs.append(.init(edge: edge, channels: channels[index].map { .local($0) }))
            }
            if edge.to == attempt.subtask.vertex {
                let ends = edge.partitioner == .forward ? [channels[index][0]] : channels.map { $0[index] }
                inputs.append(.init(edge: edge, channels: ends.map { .local($0) }))
            }
        }
        return TaskPlan(attempt: attempt, graph: graph, inputs: inputs, outputs: outputs, isCheckpointed: true, restore: restore, settings: settings)
    }
}

/// What the slots tell.
private final class EventLog: SlotListener {
    private struct State {
        var finished: Set<TaskAttempt> = []
        var failure: JobFailure?
        var snapshots: [UInt64: [SubtaskID: TaskSnapshot]] = [:]
    }
    private let state = Mutex(State())

    func taskStateChanged(_ task: TaskAttempt, to taskState: TaskState) {
        state.withLock { state in
            switch taskState {
            // Tasks that have nothing left to do; those under checkpointing would wait for one more.
            case .finishing, .finished: state.finished.insert(task)
            case .failed(let failure): state.failure = state.failure ?? failure
            case .deploying, .running, .canceled: break
            }
        }
    }

    func snapshotTaken(_ task: TaskAttempt, barrier: Barrier, snapshot: TaskSnapshot) {
        snapshot.resolve { [self] resolved in
            state.withLock { state in
                switch resolved {
                case .success(let snapshot): state.snapshots[barrier.checkpoint, default: [:]][task.subtask] = snapshot
                case .failure(let failure): state.failure = state.failure ?? failure
                }
            }
        }
    }

    func checkpointDeclined(_ task: TaskAttempt, checkpoint: CheckpointID, reason: String) {
        state.withLock { state in
            state.failure =
                state.failure ?? JobFailure(domain: .system, recovery: .fail, message: "task \(task) declined checkpoint \(checkpoint): \(reason)")
        }
    }

    var finished: Int { state.withLock { $0.finished.count } }
    func snapshots(of checkpoint: UInt64) -> [SubtaskID: TaskSnapshot] { state.withLock { $0.snapshots[checkpoint] ?? [:] } }
    func check() throws {
        if let failure = state.withLock({ $0.failure }) { throw failure }
    }
}
