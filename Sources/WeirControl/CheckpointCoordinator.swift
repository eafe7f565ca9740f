package import WeirBase

/// Decides when a checkpoint of one job starts, completes, fails and is discarded.
///
/// A value: no I/O, clock, lock or task. A checkpoint goes through these phases, and only the last makes it exist:
///
///     trigger → collecting acknowledgements → ready → publishing `_metadata` → retained
///
/// At most one is being published at a time, in order of their ids. Until storage has answered, nobody knows whether that checkpoint is
/// the latest: ``isPublishing`` holds a restart back. Otherwise a job could restore from the checkpoint before, abort the transactions
/// that the newer one names, and later restore from the newer one all the same.
package struct CheckpointCoordinator: Sendable {
    package enum Timer: Sendable, Hashable {
        case trigger
        case timeout(CheckpointID)
    }

    package enum Effect: Sendable, Equatable {
        case setTimer(Timer, after: Duration)
        case cancelTimer(Timer)
        case trigger(CheckpointID, CheckpointKind, sources: [SubtaskID])
        case publish(CompletedCheckpoint)
        case notifyComplete(CheckpointID, isFinal: Bool)
        case notifyAborted(CheckpointID)
        case discard([StateFile])
        case discardCheckpoint(CheckpointID, path: String, files: [StateFile])
        /// Too many checkpoints failed in a row.
        case failJob(JobFailure)
        /// The final checkpoint is complete: once the sinks have committed, the job has finished.
        case finalCheckpointCompleted
        case savepointCompleted(Savepoint, CheckpointID, path: String)
        case savepointFailed(Savepoint, JobFailure)
        case log(LogLevel, String, [LogField])
    }

    /// Who asked for a savepoint, and what follows it.
    package struct Savepoint: Sendable, Hashable {
        package var request: RequestID
        /// Where its own directory is made.
        package var directory: String
        package var mode: SavepointMode

        package init(request: RequestID, directory: String, mode: SavepointMode = .continues) {
            self.request = request
            self.directory = directory
            self.mode = mode
        }
    }

    enum Phase: Sendable, Hashable { case collecting, ready, publishing }

    struct Pending: Sendable {
        let id: CheckpointID
        let kind: CheckpointKind
        let epoch: Epoch
        let triggered: Instant
        var savepoint: Savepoint?
        var phase = Phase.collecting
        var acknowledged: [SubtaskID: StateHandle] = [:]
        /// Set when the phase becomes ready.
        var completed: CompletedCheckpoint?
    }

    /// More could hardly be wanted at a time; each holds the acknowledgements of all tasks in memory.
    package static let savepointsInFlightMax = 10

    let job: JobID
    let options: CheckpointOptions
    let maxParallelism: Int
    let vertices: [CheckpointVertex]

    var nextID: UInt64
    /// By id, ascending.
    package internal(set) var retained: [CompletedCheckpoint] { didSet { buildableFiles = nil } }
    /// Could not be restored. Kept out of use and out of every discard, for a person to look at.
    package internal(set) var damaged: [CompletedCheckpoint] = []
    /// By id, ascending.
    var pending: [Pending] = []
    /// Whether tasks have ever built on earlier checkpoints.
    var sharesFiles = false
    /// Files of dropped checkpoints that a task may yet build on, since it has not heard of a newer one. Once a checkpoint triggered after
    /// the drop completes, each task either named them in it, which keeps them, or never will again.
    var lingering: [(droppedAt: CheckpointID, files: [StateFile])] = [] { didSet { buildableFiles = nil } }
    /// The files that an acknowledgement may share: derived, since every acknowledgement asks.
    var buildableFiles: Set<String>?
    /// Files of checkpoints that are not ours to delete.
    var foreignFiles: Set<String>

    /// Whether all tasks run, in ``epoch``.
    package internal(set) var isActive = false
    var epoch = Epoch(0)
    var subtasks: [SubtaskID] = []
    var known: Set<SubtaskID> = []
    var sources: [SubtaskID] = []
    /// Of tasks that answer no more barriers.
    var finalStates: [SubtaskID: StateHandle] = [:]
    var allFinished = false
    /// Nil while active: no trigger is planned, since checkpoints are off or one was put off until another ends.
    var nextTrigger: Instant?
    /// A trigger was due while as many were in flight as may be.
    var isPostponed = false
    var lastEnd: Instant?
    var failuresInARow = 0
    /// Their files are the user's: an acknowledgement said twice must not cost them.
    var completedSavepoints: Set<CheckpointID> = []
    /// Set when the job has ended: whether what still gets published is deleted.
    var endedDiscarding: Bool?

    package internal(set) var completedCount = 0
    package internal(set) var failedCount = 0
    package internal(set) var latest: CheckpointSnapshot?
    package internal(set) var history = CheckpointHistory()

    var outbox: [Effect] = []

    package init(
        job: JobID, options: CheckpointOptions, maxParallelism: Int, vertices: [CheckpointVertex], restoreFrom: [CompletedCheckpoint] = [],
        lastCheckpoint: CheckpointID? = nil
    ) {
        self.job = job
        self.options = options
        self.maxParallelism = maxParallelism
        self.vertices = vertices
        retained = restoreFrom.sorted { $0.id < $1.id }
        foreignFiles = Set(restoreFrom.filter { !$0.isOwned }.flatMap { $0.handles.flatMap(\.files) }.map(\.path))
        nextID = max(lastCheckpoint?.rawValue ?? 0, retained.last?.id.rawValue ?? 0) + 1
    }

    /// What the next deployment restores from.
    package var latestCompleted: CompletedCheckpoint? { retained.last }

    package var isPublishing: Bool { pending.contains { $0.phase == .publishing } }

    package var inFlight: Int { pending.count }

    mutating func take() -> [Effect] {
        let effects = outbox
        outbox = []
        return effects
    }

    func fields(_ id: CheckpointID, _ more: LogField...) -> [LogField] {
        [LogField("job.id", "\(job)"), LogField("checkpoint.id", "\(id)")] + more
    }

    // MARK: The job's life

    /// All tasks of the epoch run (or have run to their end): checkpoints may begin.
    package mutating func start(epoch: Epoch, subtasks: [SubtaskID], sources: [SubtaskID], now: Instant) -> [Effect] {
        precondition(!isActive, "an epoch starts once, after the one before has stopped")
        isActive = true
        self.epoch = epoch
        self.subtasks = subtasks
        known = Set(subtasks)
        self.sources = sources
        failuresInARow = 0
        if let interval = options.interval { plan(now.advanced(by: interval), now: now) }
        checkAllPending(now: now)
        return take()
    }

    /// The tasks are cancelled or lost: everything in flight is given up, save what is being published.
    package mutating func stop() -> [Effect] {
        // While active, so that the tasks hear of it: what a sink wrote for them, nobody will ever commit.
        for checkpoint in pending where checkpoint.phase != .publishing {
            give(up: checkpoint.id, reason: "the tasks were stopped", now: nil)
        }
        isActive = false
        allFinished = false
        isPostponed = false
        if nextTrigger != nil {
            nextTrigger = nil
            outbox.append(.cancelTimer(.trigger))
        }
        let files = finalStates.values.flatMap(\.files)
        finalStates = [:]
        discard(files)
        discardLingering(before: CheckpointID(nextID))
        return take()
    }

    /// The job has ended.
    ///
    /// - Parameter discardRetained: Whether its checkpoints go with it, those too whose publication is still under way.
    package mutating func end(discardRetained: Bool) -> [Effect] {
        outbox += stop()
        endedDiscarding = discardRetained
        if discardRetained {
            while !retained.isEmpty { dropOldest() }
        }
        return take()
    }

    /// A task reported FINISHED. With a final state it answers no barrier any more.
    package mutating func taskFinished(_ subtask: SubtaskID, finalState: StateHandle?, now: Instant) -> [Effect] {
        guard let finalState else { return [] }
        guard finalStates[subtask] == nil else { return take() }
        if let unknown = unknownFile(finalState, of: .final) {
            // It was built on a checkpoint that has been dropped meanwhile; nobody will ask the task again, so only a restart helps.
            discard(finalState.ownFiles)
            let failure = JobFailure(
                domain: .system, recovery: .restart, message: "the final state of task \(subtask) cannot be used",
                cause: "it builds on \(unknown), which no retained checkpoint holds")
            outbox.append(.failJob(failure))
            return take()
        }
        finalStates[subtask] = finalState
        checkAllPending(now: now)
        return take()
    }

    /// Every task has finished: the final checkpoint, after which nothing is left to save.
    package mutating func allTasksFinished(now: Instant) -> [Effect] {
        guard isActive, !allFinished else { return [] }
        allFinished = true
        isPostponed = false
        tryTrigger(now: now)
        return take()
    }

    // MARK: Triggering

    package mutating func timerFired(_ timer: Timer, now: Instant) -> [Effect] {
        switch timer {
        case .trigger:
            guard isActive, let due = nextTrigger else { break }  // A cancelled timer that fired all the same.
            guard due <= now else {
                plan(due, now: now)
                break
            }
            nextTrigger = nil
            tryTrigger(now: now)
        case .timeout(let id):
            guard pending.contains(where: { $0.id == id && $0.phase == .collecting }) else { break }
            let missing = missingTasks(id)
            let names = missing.prefix(5).map(\.description).joined(separator: ", ")
            fail(
                id, now: now,
                reason: "it expired after \(formatDuration(options.timeout)), \(missing.count) tasks had not acknowledged: \(names)")
        }
        return take()
    }

    package mutating func trigger(_ savepoint: Savepoint, now: Instant) -> [Effect] {
        let inFlight = pending.filter { $0.savepoint != nil }.count
        guard isActive, !allFinished else {
            outbox.append(.savepointFailed(savepoint, refusal("the job's tasks are not all running")))
            return take()
        }
        guard finalStates.values.allSatisfy(\.files.isEmpty) else {
            outbox.append(.savepointFailed(savepoint, refusal("some of the job's tasks have finished for good")))
            return take()
        }
        if let last = pending.first(where: { $0.savepoint?.mode.endsJob == true }) {
            outbox.append(.savepointFailed(savepoint, refusal("the job is being stopped with savepoint \(last.id)")))
            return take()
        }
        guard inFlight < Self.savepointsInFlightMax else {
            outbox.append(.savepointFailed(savepoint, refusal("\(inFlight) savepoints are in flight already")))
            return take()
        }
        // The epoch tells it from one of the same number that the job took under an earlier JobManager.
        let directory = "\(savepoint.directory)/savepoint-\(job.description.prefix(12))-\(nextID)-\(epoch)"
        if !begin(.savepoint(directory: directory, mode: savepoint.mode), savepoint: savepoint, now: now) {
            outbox.append(.savepointFailed(savepoint, refusal("all sources have finished")))
        }
        return take()
    }

    private func refusal(_ reason: String) -> JobFailure {
        JobFailure(domain: .configuration, recovery: .fail, message: "no savepoint can be taken now", cause: reason)
    }

    private mutating func plan(_ due: Instant, now: Instant) {
        nextTrigger = due
        outbox.append(.setTimer(.trigger, after: max(.zero, now.duration(to: due))))
    }

    private mutating func tryTrigger(now: Instant) {
        // The job ends with it: a checkpoint behind it would let sinks commit what a job that restores the savepoint writes again.
        guard !pending.contains(where: { $0.savepoint?.mode.endsJob == true }) else {
            isPostponed = true
            return
        }
        if allFinished {
            // Neither pause nor concurrency matters: nothing is left that a checkpoint could disturb.
            guard !pending.contains(where: { $0.kind == .final && $0.epoch == epoch }) else { return }
            if nextTrigger != nil {
                nextTrigger = nil
                outbox.append(.cancelTimer(.trigger))
            }
            _ = begin(.final, now: now)
            return
        }
        guard let interval = options.interval else { return }
        // A barrier that overtakes rows would overtake that of a savepoint too, and so end it: savepoints under back pressure come first.
        guard pending.filter({ $0.savepoint == nil || options.isUnaligned }).count < options.maxConcurrent else {
            isPostponed = true
            return
        }
        if let end = lastEnd, end.advanced(by: options.minPause) > now {
            plan(end.advanced(by: options.minPause), now: now)
            return
        }
        _ = begin(.periodic, now: now)
        plan(now.advanced(by: interval), now: now)
    }

    /// - Returns: False where no source is left that could inject a barrier.
    private mutating func begin(_ kind: CheckpointKind, savepoint: Savepoint? = nil, now: Instant) -> Bool {
        let injecting = sources.filter { finalStates[$0] == nil }
        guard !injecting.isEmpty || finalStates.count == subtasks.count else { return false }
        let id = CheckpointID(nextID)
        nextID += 1
        pending.append(Pending(id: id, kind: kind, epoch: epoch, triggered: now, savepoint: savepoint))
        history.began(id, kind, tasks: subtasks.count, now: now)
        outbox.append(.setTimer(.timeout(id), after: options.timeout))
        if !injecting.isEmpty { outbox.append(.trigger(id, kind, sources: injecting)) }
        outbox.append(.log(.debug, "checkpoint triggered", fields(id, LogField("checkpoint.kind", "\(kind)"))))
        checkAllPending(now: now)
        return true
    }

    /// After a checkpoint has ended: the trigger that it was in the way of.
    mutating func ended(now: Instant) {
        lastEnd = now
        guard isActive, isPostponed else { return }
        isPostponed = false
        if nextTrigger != nil {
            nextTrigger = nil
            outbox.append(.cancelTimer(.trigger))
        }
        tryTrigger(now: now)
    }

    mutating func retryFinal(now: Instant) {
        plan(now.advanced(by: max(options.minPause, .milliseconds(100))), now: now)
    }
}
