internal import CoreMetrics
internal import Dispatch
package import Logging
internal import Synchronization
package import WeirBase
package import WeirDataflow
internal import WeirGraph
internal import WeirStorage
package import WeirStreams
package import WeirTransport
package import WeirWire

/// What a worker reports to its JobManager. Called from any thread; the order of calls from one thread is kept.
package protocol WorkerReports: AnyObject, Sendable {
    func send(_ kind: WireMessageKind, _ payload: [UInt8])
}

/// One worker of one job: slots, channels to the job's other workers, and the reading and writing of state.
///
/// What comes from the JobManager is handled on the caller's thread and never blocks: state is read and written on queues of their own.
package final class WorkerRuntime: @unchecked Sendable {  // `state` by its lock; everything else never changes.
    struct Attempt {
        var epoch: Epoch
        var tasks: Set<SubtaskID>
        /// Those that have not reported an end.
        var live: Set<SubtaskID>
        var isCanceled = false
        var isDeployed = false
        var stateStore: TaskStateStore
        var channels: ExchangeEpoch
        /// The directories of savepoints that the JobManager has told.
        var savepoints: [UInt64: String] = [:]
        /// Snapshots of savepoints whose barrier was faster than their trigger.
        var waiting: [UInt64: [@Sendable (String) -> Void]] = [:]
    }

    private struct State {
        var attempt: Attempt?
        var slots: [SlotThread] = []
        var isStopped = false
    }

    let job: JobID
    let program: JobProgram
    let taskManager: String
    let exchange: DataExchange
    let logger: Logger
    private let pinsSlots: Bool
    private let clock: any WeirClock
    private let reports: any WorkerReports
    /// How far the sources of the job may go ahead of each other.
    let alignment = WatermarkAlignmentHub()
    private let state = Mutex(State())
    private let metricsExport: Mutex<MetricsExport>
    /// Writes snapshots, one after the other: their files compete for one disk.
    private let writing = DispatchQueue(label: "weir.worker.checkpoints")
    private let reading = DispatchQueue(label: "weir.worker.restore")

    package init(
        job: JobID, program: JobProgram, taskManager: String, exchange: DataExchange, pinsSlots: Bool, clock: any WeirClock,
        reports: any WorkerReports, logger: Logger
    ) {
        self.job = job
        self.program = program
        self.taskManager = taskManager
        self.exchange = exchange
        self.pinsSlots = pinsSlots
        self.clock = clock
        self.reports = reports
        self.logger = logger
        metricsExport = Mutex(
            MetricsExport(jobName: program.jobGraph.name, taskManager: taskManager, factory: MetricsSystem.factory))
    }

    // MARK: From the JobManager

    /// Starts an epoch. Answers at once; the tasks' progress follows as reports.
    ///
    /// - Throws: ``JobFailure`` for a plan that cannot be: another graph, subtasks that do not exist.
    package func deploy(_ message: WireDeploy) throws(JobFailure) {
        guard message.graphHash == program.jobGraph.hash else {
            throw JobFailure(
                domain: .user, recovery: .fail, message: "the worker defined another job graph than was submitted",
                cause: "define(in:) must add the same operators in every process: do not let it depend on time, randomness or the host")
        }
        let epoch = Epoch(message.epoch)
        let subtasks = message.tasks.map { SubtaskID(vertex: VertexID($0.subtask.vertex), index: $0.subtask.index) }
        guard let numbers = ChannelNumbering(edges: program.jobGraph.edges.map { (parallelism($0.from), parallelism($0.to)) }) else {
            throw JobFailure(domain: .configuration, recovery: .fail, message: "the job has more than 2^32 channels", cause: "lower its parallelism")
        }
        let peers = message.workers.map {
            ExchangePeer(index: $0.index, worker: WorkerID($0.worker), host: $0.host, port: UInt16(truncatingIfNeeded: $0.port))
        }
        let channels = exchange.beginEpoch(epoch, worker: message.workerIndex, peers: peers) { [weak self] failure in
            self?.channelsFailed(epoch, reason: failure.description)
        }
        let attempt = Attempt(
            epoch: epoch, tasks: Set(subtasks), live: Set(subtasks),
            stateStore: TaskStateStore(
                directory: message.checkpointDirectory, job: job, isIncremental: message.options[TaskStateStore.incrementalKey] != "false"),
            channels: channels)
        let previous = state.withLock { state -> Attempt? in
            let previous = state.attempt
            state.attempt = attempt
            return previous
        }
        if let previous {
            forEachSlot { $0.submit(.release(previous.epoch)) }
            previous.channels.close()
        }
        try ensureSlots(Int(message.slots))
        for subtask in subtasks { report(subtask, epoch, .deploying) }
        reading.async { [self] in
            do throws(JobFailure) {
                try install(message, epoch: epoch, channels: channels, numbers: numbers)
            } catch {
                failed(to: subtasks.first, epoch: epoch, error)
            }
        }
    }

    package func cancel(_ epoch: Epoch) {
        let (slots, unstarted) = state.withLock { state -> ([SlotThread], [SubtaskID]) in
            guard state.attempt?.epoch == epoch else { return ([], []) }
            state.attempt?.isCanceled = true
            // What is not yet on a slot ends here; the reading queue sees the mark and installs nothing.
            let unstarted = state.attempt?.isDeployed == true ? [] : (state.attempt?.live.sorted() ?? [])
            if !unstarted.isEmpty { state.attempt?.live = [] }
            return (state.slots, unstarted)
        }
        for subtask in unstarted { report(subtask, epoch, .canceled) }
        for slot in slots { slot.slot.submit(.cancel(epoch)) }
    }

    package func trigger(_ message: WireTriggerCheckpoint) {
        let epoch = Epoch(message.epoch)
        if message.savepoint { savepointIsAt(message.directory, checkpoint: message.checkpoint, epoch: epoch) }
        var flags: Barrier.Flags = message.savepoint ? .savepoint : []
        if message.stop { flags.insert(.stop) }
        if message.drain { flags.insert(.drain) }
        let barrier = Barrier(checkpoint: message.checkpoint, timestamp: message.timestampMs, flags: flags)
        for source in message.sources {
            let attempt = TaskAttempt(epoch: epoch, subtask: SubtaskID(vertex: VertexID(source.vertex), index: source.index))
            slot(of: attempt.subtask)?.submit(.trigger(attempt, barrier))
        }
    }

    package func checkpointCompleted(_ message: WireNotifyCheckpointComplete) {
        let epoch = Epoch(message.epoch)
        stateStore(of: epoch)?.completed(message.checkpoint)
        forEachSlot { $0.submit(.checkpointCompleted(epoch, CheckpointID(message.checkpoint))) }
    }

    package func checkpointAborted(_ message: WireNotifyCheckpointAborted) {
        let epoch = Epoch(message.epoch)
        state.withLock { state in
            guard state.attempt?.epoch == epoch else { return }
            state.attempt?.waiting[message.checkpoint] = nil
            state.attempt?.savepoints[message.checkpoint] = nil
        }
        stateStore(of: epoch)?.aborted(message.checkpoint)
        forEachSlot { $0.submit(.checkpointAborted(epoch, CheckpointID(message.checkpoint))) }
    }

    /// Ends the slots' threads; tasks are closed on them first.
    package func stop() {
        let (slots, attempt) = state.withLock { state -> ([SlotThread], Attempt?) in
            state.isStopped = true
            let slots = state.slots
            state.slots = []
            return (slots, state.attempt)
        }
        if let attempt {
            for slot in slots { slot.slot.submit(.release(attempt.epoch)) }
            attempt.channels.close()
        }
        for slot in slots { slot.stop() }
    }

    private func stateStore(of epoch: Epoch) -> TaskStateStore? {
        state.withLock { $0.attempt?.epoch == epoch ? $0.attempt?.stateStore : nil }
    }

    // MARK: Slots

    private func forEachSlot(_ body: (Slot) -> Void) { for thread in state.withLock({ $0.slots }) { body(thread.slot) } }

    private func parallelism(_ vertex: VertexID) -> Int { program.jobGraph.vertex(vertex)?.parallelism ?? 1 }

    private let slotOf = Mutex<[SubtaskID: Int]>([:])

    private func slot(of subtask: SubtaskID) -> Slot? {
        guard let index = slotOf.withLock({ $0[subtask] }) else { return nil }
        return state.withLock { $0.slots.indices.contains(index) ? $0.slots[index].slot : nil }
    }

    private func ensureSlots(_ count: Int) throws(JobFailure) {
        let missing = state.withLock { $0.isStopped ? 0..<0 : $0.slots.count..<max(count, $0.slots.count) }
        for index in missing {
            let thread: SlotThread
            do {
                thread = try SlotThread(
                    index: index, pinned: pinsSlots, operators: program.operators, clock: clock, taskManager: taskManager, alignment: alignment,
                    listener: self)
            } catch {
                throw error as? JobFailure ?? JobFailure(domain: .resource, recovery: .restart, message: "cannot start a slot", cause: "\(error)")
            }
            state.withLock { $0.slots.append(thread) }
        }
    }

    /// On the reading queue: reads state, builds the plans and hands them to the slots.
    private func install(_ message: WireDeploy, epoch: Epoch, channels: ExchangeEpoch, numbers: ChannelNumbering) throws(JobFailure) {
        var restored: [VertexID: [RestoredSubtask]] = [:]
        for vertex in message.restore {
            guard let parts = try readState(vertex, message: message, epoch: epoch) else { return }
            restored[VertexID(vertex.vertex)] = parts
        }
        let slots = state.withLock { $0.slots }
        let plans = try DeploymentBuilder(
            job: job, message: message, epoch: epoch, graph: program.jobGraph, exchange: channels, numbers: numbers, slots: slots.map(\.slot),
            restored: restored
        ).build()
        channels.activate()
        slotOf.withLock { table in
            table = [:]
            for (slot, plan) in plans { table[plan.attempt.subtask] = slot }
        }
        // Under the lock, so that a cancellation comes either before (nothing is installed) or behind every deployment.
        state.withLock { state in
            guard state.attempt?.epoch == epoch, state.attempt?.isCanceled == false else { return }
            state.attempt?.isDeployed = true
            for (slot, plan) in plans { slots[slot].slot.submit(.deploy(plan)) }
        }
    }

    /// - Returns: Nil where a file is damaged: the JobManager was told and restarts from another checkpoint.
    private func readState(_ vertex: WireVertexRestore, message: WireDeploy, epoch: Epoch) throws(JobFailure) -> [RestoredSubtask]? {
        var parts: [RestoredSubtask] = []
        let store = TaskStateStore(directory: message.restoreDirectory, job: job)
        for handle in vertex.handles {
            let subtask = SubtaskID(vertex: VertexID(handle.subtask.vertex), index: handle.subtask.index)
            do {
                parts.append(RestoredSubtask(subtask: subtask, operators: try store.read(handle)))
            } catch {
                var failed = WireRestoreFailed()
                failed.job = job.description
                failed.epoch = epoch.rawValue
                failed.checkpoint = message.restoreCheckpoint
                failed.path = handle.file.path.isEmpty ? "_metadata (state of subtask \(subtask))" : handle.file.path
                failed.reason = "\(error)"
                reports.send(.restoreFailed, encoded(failed))
                return nil
            }
        }
        return parts
    }

    // MARK: Reports

    private func report(_ subtask: SubtaskID, _ epoch: Epoch, _ state: WireTaskState, failure: JobFailure? = nil) {
        var message = WireTaskStateChanged()
        message.job = job.description
        message.epoch = epoch.rawValue
        message.subtask = subtask.wire
        message.state = state
        if let failure { message.failure = failure.wire }
        reports.send(.taskStateChanged, encoded(message))
    }

    private func failed(to subtask: SubtaskID?, epoch: Epoch, _ failure: JobFailure) {
        let live = state.withLock { state -> Bool in
            guard state.attempt?.epoch == epoch, state.attempt?.isCanceled == false else { return false }
            if let subtask { state.attempt?.live.remove(subtask) }
            return true
        }
        guard live, let subtask else { return }
        report(subtask, epoch, .failed, failure: failure)
    }

    private func ended(_ attempt: TaskAttempt) {
        let over = state.withLock { state -> ExchangeEpoch? in
            guard state.attempt?.epoch == attempt.epoch else { return nil }
            state.attempt?.live.remove(attempt.subtask)
            return state.attempt?.live.isEmpty == true ? state.attempt?.channels : nil
        }
        over?.close()
    }

    /// A connection to another worker broke: every task that uses it is lost with it.
    func channelsFailed(_ epoch: Epoch, reason: String) {
        let subtask = state.withLock { state -> SubtaskID? in
            guard state.attempt?.epoch == epoch, state.attempt?.isCanceled == false else { return nil }
            return state.attempt?.live.min()
        }
        guard let subtask else { return }
        report(subtask, epoch, .failed, failure: JobFailure(domain: .system, recovery: .restart, message: "a data connection is lost", cause: reason))
    }

    /// Metrics of all tasks, their times since the last call; published through swift-metrics, too.
    package func metrics() -> WireTaskMetricsReport? {
        let (slots, attempt) = state.withLock { ($0.slots, $0.attempt) }
        guard let attempt else { return nil }
        var message = WireTaskMetricsReport()
        message.job = job.description
        message.epoch = attempt.epoch.rawValue
        let names = Dictionary(program.jobGraph.vertices.map { ($0.id, $0.name) }, uniquingKeysWith: { first, _ in first })
        var samples: [MetricsExport.Sample] = []
        for thread in slots {
            for (task, metrics) in thread.slot.metrics where task.epoch == attempt.epoch {
                samples.append(.init(attempt: task, taskName: names[task.subtask.vertex] ?? "", metrics: TaskSample(metrics)))
            }
        }
        message.tasks = metricsExport.withLock { $0.publish(samples) }
        return message.tasks.isEmpty ? nil : message
    }
}

extension WorkerRuntime: SlotListener {
    package func taskStateChanged(_ task: TaskAttempt, to state: TaskState) {
        switch state {
        case .deploying, .finished: break  // Said when the deployment came, and at the end of its data.
        case .running: report(task.subtask, task.epoch, .running)
        case .finishing:
            // What a job did is asked for after its end too, and a short one has never sent its metrics with a heartbeat.
            if let last = metrics() { reports.send(.taskMetrics, encoded(last)) }
            report(task.subtask, task.epoch, .finished)
        case .failed(let failure):
            report(task.subtask, task.epoch, .failed, failure: failure)
            ended(task)
        case .canceled:
            report(task.subtask, task.epoch, .canceled)
            ended(task)
        }
    }

    package func snapshotTaken(_ task: TaskAttempt, barrier: Barrier, snapshot: TaskSnapshot) {
        let started = clock.now
        write(task, snapshot, isSavepoint: barrier.flags.contains(.savepoint)) { [self] result in
            switch result {
            case .success(let handle):
                var message = WireAcknowledgeCheckpoint()
                message.job = job.description
                message.epoch = task.epoch.rawValue
                message.checkpoint = barrier.checkpoint
                message.subtask = task.subtask.wire
                message.state = handle
                message.stateBytes = handle.file.length > 0 ? handle.file.length : UInt64(handle.inlineState.count)
                message.alignmentMs = snapshot.alignment.inSeconds * 1000
                message.syncMs = snapshot.capture.inSeconds * 1000
                message.asyncMs = started.duration(to: clock.now).inSeconds * 1000
                reports.send(.acknowledgeCheckpoint, encoded(message))
            case .failure(let failure): decline(task, barrier.checkpoint, failure)
            }
        }
    }

    package func checkpointDeclined(_ task: TaskAttempt, checkpoint: CheckpointID, reason: String) {
        decline(task, checkpoint.rawValue, JobFailure(domain: .system, recovery: .restart, message: reason))
    }

    private func decline(_ task: TaskAttempt, _ checkpoint: UInt64, _ failure: JobFailure) {
        var message = WireDeclineCheckpoint()
        message.job = job.description
        message.epoch = task.epoch.rawValue
        message.checkpoint = checkpoint
        message.subtask = task.subtask.wire
        message.reason = failure.wire
        reports.send(.declineCheckpoint, encoded(message))
    }

    /// Encodes a snapshot, once all of it is there, and writes its file on the writing queue. Small states travel inside the message.
    private func write(
        _ task: TaskAttempt, _ snapshot: TaskSnapshot, isSavepoint: Bool,
        then: @escaping @Sendable (Result<WireStateHandle, JobFailure>) -> Void
    ) {
        snapshot.resolve { [self] resolved in
            withPlace(of: snapshot.checkpoint.rawValue, task, isSavepoint: isSavepoint) { [self] store, directory in
                writing.async {
                    do throws(JobFailure) {
                        then(.success(try store.write(try resolved.get(), of: task, savepoint: directory)))
                    } catch {
                        then(.failure(error))
                    }
                }
            }
        }
    }

    /// Calls `body` with who writes the checkpoint, and for a savepoint its directory: at once, or when the JobManager has told it; never for an
    /// attempt that is over, since nobody waits for it.
    private func withPlace(
        of checkpoint: UInt64, _ task: TaskAttempt, isSavepoint: Bool, _ body: @escaping @Sendable (TaskStateStore, String?) -> Void
    ) {
        let place = state.withLock { state -> (store: TaskStateStore, directory: String?)? in
            guard let attempt = state.attempt, attempt.epoch == task.epoch else { return nil }
            guard isSavepoint else { return (attempt.stateStore, nil) }
            if let directory = attempt.savepoints[checkpoint] { return (attempt.stateStore, directory) }
            state.attempt?.waiting[checkpoint, default: []].append { body(attempt.stateStore, $0) }
            return nil
        }
        if let place { body(place.store, place.directory) }
    }

    private func savepointIsAt(_ directory: String, checkpoint: UInt64, epoch: Epoch) {
        let waiting = state.withLock { state -> [@Sendable (String) -> Void] in
            guard state.attempt?.epoch == epoch else { return [] }
            state.attempt?.savepoints[checkpoint] = directory
            return state.attempt?.waiting.removeValue(forKey: checkpoint) ?? []
        }
        for body in waiting { body(directory) }
    }
}
