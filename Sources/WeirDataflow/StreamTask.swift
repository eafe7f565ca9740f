package import WeirBase

/// The states of a task that its slot reports.
package enum TaskState: Sendable, Equatable {
    case deploying
    case running
    /// The data has ended: for the job the task is finished. It goes on answering barriers, and waits for a checkpoint that contains the end.
    case finishing
    /// That checkpoint is complete, or none is taken. A checkpointed task still answers barriers until it is released.
    case finished
    case failed(JobFailure)
    case canceled
}

/// What a slot tells the outside, on the slot's thread. Must not block.
package protocol SlotListener: AnyObject, Sendable {
    func taskStateChanged(_ task: TaskAttempt, to state: TaskState)
    /// The task passed the barrier. Encode the snapshot on another thread.
    func snapshotTaken(_ task: TaskAttempt, barrier: Barrier, snapshot: TaskSnapshot)
    /// The task will not take part in the checkpoint.
    func checkpointDeclined(_ task: TaskAttempt, checkpoint: CheckpointID, reason: String)
}

/// What one task did, read from any thread.
package final class TaskMetrics: Sendable {
    package let rowsIn = Counter()
    package let busyNanoseconds = Counter()
    package let idleNanoseconds = Counter()
    package let backPressuredNanoseconds = Counter()
    /// Event time, milliseconds since 1970; `Int64.min` before the first watermark.
    package let watermark = Counter()
    private let portRows: [Counter]
    private let portBatches: [Counter]
    private let outputBytes: [Counter]
    private let inputBytes: [Counter]
    private let operatorCounters: [(name: String, rowsIn: Counter, own: CounterTable)]

    init(chain: ChainNode, builder: TaskBuilder) {
        portRows = builder.ports.map(\.rows)
        portBatches = builder.ports.map(\.batches)
        outputBytes = builder.remoteOutputs.map(\.bytes)
        inputBytes = builder.remoteInputs.map(\.bytes)
        var counters: [(name: String, rowsIn: Counter, own: CounterTable)] = []
        chain.visit { counters.append(($0.name, $0.rowsIn, $0.context.counters)) }
        operatorCounters = counters
        watermark.set(.min)
    }

    package var rowsOut: Int { Self.sum(portRows) }
    package var batchesOut: Int { Self.sum(portBatches) }
    package var bytesOut: Int { Self.sum(outputBytes) }
    package var bytesIn: Int { Self.sum(inputBytes) }

    private static func sum(_ counters: [Counter]) -> Int { counters.reduce(0) { $0 + $1.value } }

    /// Rows into each operator of the chain, and the counters that operators made themselves.
    package var operators: [(name: String, rowsIn: Int, counters: [(name: String, value: Int, isGauge: Bool)])] {
        operatorCounters.map { ($0.name, $0.rowsIn.value, $0.own.values) }
    }
}

/// One subtask of a vertex at work: a gate or a source, a chain of operators, and output ports.
///
/// Belongs to one slot, whose thread makes all calls.
package final class StreamTask {
    package let attempt: TaskAttempt
    package let metrics: TaskMetrics
    package let cancellation: CancellationFlag
    package private(set) var state = TaskState.deploying
    private let head: ChainNode
    private let source: AnySource?
    private let ports: [OutputPort]
    private let isCheckpointed: Bool
    private let restore: [OperatorID: RestoredState]?
    private let environment: SlotEnvironment
    private let listener: any SlotListener
    private var gate: InputGate
    private let alignment: BarrierAlignment
    /// The last barrier passed whose announcement is still to come, unless its checkpoint ends before.
    private var unannounced: Barrier?
    /// Until when the task takes no rows, so that those that a barrier overtook are known soon.
    private var emptyingUntil: Instant?
    private static let emptyingMax = Duration.milliseconds(20)
    private let restoreChannels: ChannelRestore?

    /// The last barrier passed: older ones are of no interest.
    private var lastCheckpoint: UInt64 = 0
    /// The first checkpoint that can contain the end of data.
    private var finalCheckpoint: UInt64?
    /// Nothing is emitted by its own until this savepoint is decided on: neither by a source nor by timers of processing time.
    private var stoppedBy: UInt64?
    /// Since when barriers are waited for.
    private var aligningSince: Instant?
    private var wakeSourceAt: Instant?
    /// Whether rows may lie in unfilled batches, and since when.
    private var unflushedSince: Instant?
    private var accountedUntil: Instant?
    private var wasBlocked = false
    private var wasIdle = false
    /// An operator was not ready at the last look.
    private var isHeld = false
    /// The chain has seen the end of its data.
    private var hasEnded = false
    /// Cancelled, and waiting for operators to settle.
    private var isCanceling = false

    /// - Throws: `JobFailure` if plan and code do not fit together, or if an operator cannot be made.
    package init(plan: TaskPlan, environment: SlotEnvironment, listener: any SlotListener) throws {
        var builder = try TaskBuilder(plan: plan, environment: environment)
        head = try builder.makeChain()
        alignment = try BarrierAlignment(settings: plan.settings)
        gate = try builder.makeGate(alignment)
        restoreChannels = plan.restore.map { _ in builder.makeChannelRestore() }
        ports = builder.ports
        source = head.operation as? AnySource
        guard (source == nil) != plan.inputs.isEmpty else {
            throw TaskBuilder.mismatch(source == nil ? "\(head.name) has no input and is no source" : "source \(head.name) has an input")
        }
        metrics = TaskMetrics(chain: head, builder: builder)
        head.context.backPressuredNanoseconds = metrics.backPressuredNanoseconds
        attempt = plan.attempt
        cancellation = builder.cancellation
        isCheckpointed = plan.isCheckpointed
        restore = plan.restore
        self.environment = environment
        self.listener = listener
    }

    /// Opens and restores the operators, the last of the chain first: when the head emits, all behind it are ready.
    package func open() throws {
        var nodes: [ChainNode] = []
        head.visit { nodes.append($0) }
        for node in nodes.reversed() {
            try node.call { operation in
                try operation.open(node.context)
                if let state = restore?[node.operatorID] { try operation.restore(from: state) }
            }
        }
        try restoreChannels?.restore(&gate)
        for node in nodes.reversed() { try node.call { try $0.start() } }
        change(to: .running)
    }

    private var isOver: Bool { state == .finishing || state == .finished }
    private var isBlocked: Bool { ports.contains { $0.isBlocked } }

    private func change(to state: TaskState) {
        self.state = state
        listener.taskStateChanged(attempt, to: state)
    }

    // MARK: Work

    /// Does one piece of work: at most one batch, one poll or one control element.
    ///
    /// - Parameter now: The time at the call.
    /// - Returns: Whether there was any, and when the piece ended.
    package func step(now: Instant) throws -> (progress: Bool, end: Instant) {
        account(until: now)
        let progress = try work(now: now)
        let end = environment.clock.now
        if progress { metrics.busyNanoseconds.add(Int(end.nanoseconds &- now.nanoseconds)) }
        accountedUntil = progress ? end : now
        wasIdle = !progress && !wasBlocked
        return (progress, end)
    }

    /// Time since the last step in which the task could not go on. Time in which it waited for others of its slot is not counted.
    private func account(until now: Instant) {
        guard let from = accountedUntil, now > from else { return }
        let passed = Int(now.nanoseconds &- from.nanoseconds)
        if wasBlocked {
            metrics.backPressuredNanoseconds.add(passed)
        } else if wasIdle {
            metrics.idleNanoseconds.add(passed)
        }
    }

    private func work(now: Instant) throws -> Bool {
        if isCanceling { return settle() }
        if try overtake(now: now) { return true }
        let progress = try drainPorts()
        wasBlocked = isBlocked
        if wasBlocked { return progress }
        isHeld = try !areReady()
        wasBlocked = isHeld
        if isHeld { return progress }
        if hasEnded, !isOver {
            finished()
            return true
        }
        if try callBacks() { return true }
        if isBlocked { return true }
        let worked = try source.map { try poll($0, now: now) } ?? takeInput()
        return try flushIfDue(now: now, worked: worked) || worked || progress
    }

    private func areReady() throws -> Bool {
        var ready = true
        try head.visit { node in
            if ready { ready = try node.call { try $0.isReady() } }
        }
        return ready
    }

    /// Rows must not wait in unfilled batches when nothing comes, nor for longer than the buffer timeout.
    private func flushIfDue(now: Instant, worked: Bool) throws -> Bool {
        if worked {
            guard let since = unflushedSince else {
                unflushedSince = now
                return false
            }
            guard since.duration(to: now) >= environment.bufferTimeout else { return false }
        }
        guard unflushedSince != nil else { return false }
        unflushedSince = nil
        try head.flush()
        return true
    }

    private func callBacks() throws -> Bool {
        guard !isOver, stoppedBy == nil else { return false }
        var earliest = Int64.max
        head.visit { earliest = min(earliest, $0.context.callBackAt) }
        guard earliest < .max else { return false }
        let wallTime = environment.clock.wallTime.milliseconds
        guard earliest <= wallTime else { return false }
        try head.visit { node in
            guard node.context.takeCallBack(now: wallTime) else { return }
            try node.call { try $0.processingTime(wallTime) }
        }
        unflushedSince = unflushedSince ?? environment.clock.now
        return true
    }

    private func poll(_ source: AnySource, now: Instant) throws -> Bool {
        guard !hasEnded, stoppedBy == nil else { return false }
        let before = head.emissions
        defer { metrics.watermark.set(Int(head.watermark)) }
        wakeSourceAt = nil
        switch try head.call({ _ in try source.poll(budget: environment.pollBudget) }) {
        case .more: return true
        case .idle(let wakeAfter):
            wakeSourceAt = wakeAfter.map { now.advanced(by: $0) }
            try head.flush()
            unflushedSince = nil
            return head.emissions != before
        case .finished:
            try finish()
            return true
        }
    }

    private func takeInput() throws -> Bool {
        let next = try gate.next()
        if gate.isAligning, aligningSince == nil { aligningSince = environment.clock.now }
        guard let event = next else { return false }
        try handle(event)
        return true
    }

    private func handle(_ event: GateEvent) throws {
        switch event {
        case .batch(let batch, let input):
            metrics.rowsIn.add(batch.count)
            try head.process(batch, input: input)
        case .watermark(let watermark):
            metrics.watermark.set(Int(watermark))
            try head.receiveWatermark(watermark)
        case .status(let idle): try head.receiveStatus(idle: idle)
        case .barrier(let barrier): try pass(barrier)
        case .overtakingBarrier(let barrier, let inFlight): try pass(barrier, inFlight: inFlight)
        case .alignmentCanceled(let checkpoint):
            aligningSince = nil
            listener.checkpointDeclined(attempt, checkpoint: checkpoint, reason: "a newer barrier came before all of its barriers")
        case .endOfData: try finish()
        }
    }

    private func finish() throws {
        try head.end()
        hasEnded = true
        unflushedSince = nil
        isHeld = try !areReady()
        if !isHeld { finished() }
    }

    /// Nothing is left to be done but to take part in checkpoints.
    private func finished() {
        change(to: .finishing)
        if !isCheckpointed { change(to: .finished) }
    }

    // MARK: Checkpoints

    /// - Parameter inFlight: The rows that the barrier overtook, once they are all known.
    private func pass(_ barrier: Barrier, inFlight: DeferredState? = nil) throws {
        lastCheckpoint = barrier.checkpoint
        let started = environment.clock.now
        var captured = try head.capture(at: barrier)
        try head.forward(barrier)
        captured.capture = started.duration(to: environment.clock.now)
        captured.alignment = aligningSince?.duration(to: started) ?? .zero
        aligningSince = nil
        if barrier.flags.contains(.stop) { stoppedBy = barrier.checkpoint }
        // What follows must overtake, too: a barrier that waited once in a full channel waits in each behind it.
        if inFlight != nil || alignment.overtakes(barrier, wallTime: environment.clock.wallTime.milliseconds) {
            head.announce(barrier)
            unannounced = nil
        } else if alignment.overtakingBegins(barrier) != nil {
            unannounced = barrier
        }
        unflushedSince = nil
        if hasEnded, finalCheckpoint == nil { finalCheckpoint = barrier.checkpoint }
        listener.snapshotTaken(attempt, barrier: barrier, snapshot: inFlight.map(captured.adding(inFlight:)) ?? captured)
    }

    /// Takes and passes on a barrier that overtakes rows, whether the task can go on otherwise or not.
    ///
    /// - Returns: Whether there was one, or the task should do nothing else yet.
    private func overtake(now: Instant) throws -> Bool {
        guard alignment.overtakesAfter != nil else { return false }
        let wallTime = gate.isAligning || unannounced != nil ? environment.clock.wallTime.milliseconds : 0
        if let barrier = unannounced, alignment.overtakes(barrier, wallTime: wallTime) {
            unannounced = nil
            head.announce(barrier)
        }
        guard try gate.lookOut(wallTime: wallTime) else {
            // What the senders had waiting comes within a moment, now that there is room; a batch of a slow operator would take longer.
            guard let until = emptyingUntil, gate.isEmptying, now < until else {
                emptyingUntil = nil
                return false
            }
            _ = try drainPorts()
            return true
        }
        emptyingUntil = now.advanced(by: Self.emptyingMax)
        while let event = gate.takeEvent() { try handle(event) }
        return true
    }

    private func drainPorts() throws -> Bool {
        var progress = false
        for port in ports where port.isBlocked {
            if try port.drain() { progress = true }
        }
        return progress
    }

    /// Starts a checkpoint at a source.
    package func trigger(_ barrier: Barrier) throws {
        guard source != nil else {
            listener.checkpointDeclined(attempt, checkpoint: barrier.id, reason: "only sources are triggered")
            return
        }
        guard !isCanceling else {
            listener.checkpointDeclined(attempt, checkpoint: barrier.id, reason: "the task is being cancelled")
            return
        }
        guard barrier.checkpoint > lastCheckpoint else {
            listener.checkpointDeclined(attempt, checkpoint: barrier.id, reason: "checkpoint \(lastCheckpoint) was passed already")
            return
        }
        if barrier.flags.contains(.drain), !hasEnded { try finish() }
        try pass(barrier)
    }

    package func checkpointCompleted(_ checkpoint: CheckpointID) throws {
        forgetAnnouncement(of: checkpoint)
        try head.visit { node in try node.call { try $0.checkpointCompleted(checkpoint.rawValue) } }
        if state == .finishing, let finalCheckpoint, checkpoint.rawValue >= finalCheckpoint { change(to: .finished) }
    }

    package func checkpointAborted(_ checkpoint: CheckpointID) throws {
        forgetAnnouncement(of: checkpoint)
        if source == nil {
            gate.abort(checkpoint)
            if !gate.isAligning { aligningSince = nil }
        }
        if stoppedBy == checkpoint.rawValue { stoppedBy = nil }
        try head.visit { node in try node.call { try $0.checkpointAborted(checkpoint.rawValue) } }
    }

    private func forgetAnnouncement(of checkpoint: CheckpointID) {
        if let barrier = unannounced, barrier.checkpoint <= checkpoint.rawValue { unannounced = nil }
    }

    // MARK: The end

    /// Whether the slot can forget the task.
    package var isGone: Bool {
        switch state {
        case .finished: !isCheckpointed && !isBlocked  // Its last elements must leave first.
        case .failed, .canceled: true
        case .deploying, .running, .finishing: false
        }
    }

    package func fail(_ error: any Error) {
        let failure =
            error as? JobFailure ?? JobFailure(domain: .system, recovery: .restart, message: "the task failed", cause: "\(error)")
        change(to: .failed(failure))
    }

    /// Ends the task: at once, or once its operators have settled.
    package func cancel() {
        guard !isCanceling, !isGone else { return }
        isCanceling = true
        cancellation.cancel()
        head.visit { $0.operation?.cancel() }
        _ = settle()
    }

    /// - Returns: Whether the cancellation has ended.
    private func settle() -> Bool {
        do {
            var settled = true
            try head.visit { node in
                if try !node.call({ try $0.isSettled() }) { settled = false }
            }
            guard settled else { return false }
            change(to: .canceled)
        } catch {
            fail(error)
        }
        return true
    }

    /// Closes the operators, the head first. The task is not used afterwards.
    package func close() {
        gate.cancelRecording(upTo: .max, because: "the task has ended")
        head.visit { $0.operation?.close() }
    }

    /// When the task wants to run again though nothing comes in: nil for never.
    package func nextDeadline(now: Instant) -> Instant? {
        guard !isCanceling else { return nil }
        let overtaking = overtakingDeadline(now: now)
        guard !isBlocked, !isHeld, !isOver else { return overtaking }
        var deadline = stoppedBy == nil ? wakeSourceAt : nil
        if let overtaking { deadline = min(deadline ?? overtaking, overtaking) }
        var callBack = Int64.max
        head.visit { callBack = min(callBack, $0.context.callBackAt) }
        if callBack < .max {
            let wait = max(0, callBack &- environment.clock.wallTime.milliseconds)
            let time = now.advanced(by: .milliseconds(wait))
            deadline = min(deadline ?? time, time)
        }
        return deadline
    }

    /// When a barrier begins to overtake rows.
    private func overtakingDeadline(now: Instant) -> Instant? {
        guard let begins = [gate.overtakingBegins, unannounced.flatMap(alignment.overtakingBegins)].compactMap({ $0 }).min() else { return nil }
        return now.advanced(by: .milliseconds(max(0, begins &- environment.clock.wallTime.milliseconds)))
    }
}
