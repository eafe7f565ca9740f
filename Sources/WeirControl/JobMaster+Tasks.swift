import WeirBase
import WeirGraph

/// What the tasks report, failures, and what follows from them.
extension JobMaster {
    // MARK: Reports

    mutating func taskStateChanged(_ report: TaskStateReport, now: Instant) {
        let subtask = report.subtask
        guard report.epoch == epoch, isDeployed, let previous = tasks[subtask], worker(of: subtask)?.worker == report.worker,
            previous != .canceled, previous != .failed
        else {
            // Fenced off: its state belongs to no checkpoint of this epoch.
            if let state = report.finalState { absorb(coordinator.discardFenced(CheckpointID(0), state), now: now) }
            return
        }
        // A worker may send DEPLOYING after RUNNING only by a fault of its own; the later word must not hide that the task has finished.
        guard previous != .finished || report.state == .canceled || report.state == .failed else { return }
        tasks[subtask] = report.state
        switch state {
        case .deploying, .running:
            taskChangedWhileRunning(report, now: now)
        case .restarting, .cancelling, .failing:
            if let state = report.finalState { absorb(coordinator.discardFenced(CheckpointID(0), state), now: now) }
            if report.state == .canceled || report.state == .failed { awaitingCancel.remove(subtask) }
            advance(now: now)
        case .created, .waitingForResources, .canceled, .failed, .finished:
            break
        }
    }

    private mutating func taskChangedWhileRunning(_ report: TaskStateReport, now: Instant) {
        switch report.state {
        case .created, .deploying:
            break
        case .running:
            startCheckpointsIfAllRun(now: now)
        case .finished:
            absorb(coordinator.taskFinished(report.subtask, finalState: report.finalState, now: now), now: now)
            startCheckpointsIfAllRun(now: now)
            guard state == .running, tasks.values.allSatisfy({ $0 == .finished }) else { break }
            absorb(coordinator.allTasksFinished(now: now), now: now)
        case .failed:
            fail(failure(of: report), now: now)
        case .canceled:
            guard isFinishing else {
                let failure = JobFailure(domain: .system, recovery: .restart, message: "a task was cancelled that nobody cancelled")
                fail(placed(failure, report.subtask), now: now)
                break
            }
            awaitingCancel.remove(report.subtask)
            advance(now: now)
        }
    }

    private mutating func startCheckpointsIfAllRun(now: Instant) {
        guard state == .deploying, tasks.values.allSatisfy({ $0 == .running || $0 == .finished }) else { return }
        become(.running, now: now)
        let sources = Set(graph.vertices.filter(\.isSource).map(\.id))
        let subtasks = graph.subtasks
        absorb(
            coordinator.start(epoch: epoch, subtasks: subtasks, sources: subtasks.filter { sources.contains($0.vertex) }, now: now), now: now)
    }

    func worker(of subtask: SubtaskID) -> Assigned? { placement[subtask].map { assigned[$0.worker] } }

    private func failure(of report: TaskStateReport) -> JobFailure {
        let failure = report.failure ?? JobFailure(domain: .system, recovery: .restart, message: "a task failed without saying why")
        return placed(failure, report.subtask)
    }

    /// Completes a failure by where it happened.
    private func placed(_ failure: JobFailure, _ subtask: SubtaskID) -> JobFailure {
        var failure = failure
        let taskManager = worker(of: subtask)?.taskManager.rawValue ?? ""
        if failure.place == nil, let vertex = graph.vertex(subtask.vertex) {
            failure.place = .init(
                operatorName: vertex.name, subtask: Int(subtask.index), parallelism: vertex.parallelism, taskManager: taskManager)
        } else if failure.place?.taskManager.isEmpty == true {
            failure.place?.taskManager = taskManager
        }
        return failure
    }

    mutating func acknowledged(_ report: CheckpointAcknowledgement, now: Instant) {
        guard report.epoch == epoch, worker(of: report.state.subtask)?.worker == report.worker else {
            absorb(coordinator.discardFenced(report.checkpoint, report.state), now: now)
            return
        }
        absorb(coordinator.acknowledge(report.checkpoint, report.state, statistics: report.statistics, now: now), now: now)
    }

    mutating func declined(
        _ checkpoint: CheckpointID, worker: WorkerID, epoch: Epoch, subtask: SubtaskID, reason: String, now: Instant
    ) {
        guard epoch == self.epoch, self.worker(of: subtask)?.worker == worker else { return }
        absorb(coordinator.decline(checkpoint, by: subtask, reason: reason, now: now), now: now)
    }

    mutating func published(_ checkpoint: CheckpointID, path: String, now: Instant) {
        absorb(coordinator.published(checkpoint, path: path, now: now), now: now)
        cancelIfRequested(now: now)
        advance(now: now)
    }

    mutating func publishFailed(_ checkpoint: CheckpointID, reason: String, now: Instant) {
        absorb(coordinator.publishFailed(checkpoint, reason: reason, now: now), now: now)
        cancelIfRequested(now: now)
        advance(now: now)
    }

    private mutating func cancelIfRequested(now: Instant) {
        guard isCancelRequested, !coordinator.isPublishing else { return }
        isCancelRequested = false
        cancel(now: now)
    }

    mutating func restoreFailed(
        worker: WorkerID, epoch: Epoch, checkpoint: CheckpointID, path: String, reason: String, now: Instant
    ) {
        guard epoch == self.epoch, isDeployed, checkpoint == restoringFrom, assigned.contains(where: { $0.worker == worker }),
            state == .deploying || state == .running || state == .restarting
        else { return }
        absorb(coordinator.restoreFailed(checkpoint, path: path, reason: reason), now: now)
        let isHopeless = coordinator.latestCompleted == nil
        let failure = JobFailure(
            domain: .external, recovery: isHopeless ? .fail : .restart,
            message: isHopeless
                ? "checkpoint \(checkpoint) is damaged and no older one is left to restore from" : "checkpoint \(checkpoint) is damaged",
            cause: "\(path): \(reason)")
        // The strategy is not asked: each such restart uses up a checkpoint, so that they end by themselves.
        fail(failure, exempt: true, now: now)
    }

    // MARK: Failures

    /// - Parameter isExitAwaited: Its TaskManager is about to report how it ended, which says more. A restart does not wait for that; a job that
    ///   ends does, for what it ends with is what a person is told.
    mutating func workerLost(_ worker: WorkerID, failure: JobFailure, isExitAwaited: Bool = false, now: Instant) {
        guard let index = assigned.firstIndex(where: { $0.worker == worker && !$0.isLost }), holdsSlots else { return }
        assigned[index].isLost = true
        if isExitAwaited, state == .deploying || state == .running { awaitingExit = assigned[index] }
        for (subtask, slot) in placement where slot.worker == index {
            tasks[subtask] = .failed
            awaitingCancel.remove(subtask)
        }
        fail(failure, of: worker, now: now)
        advance(now: now)
    }

    /// The lost worker's exit says more than its broken connection did.
    mutating func explain(_ worker: WorkerID, failure: JobFailure) {
        guard lastFailedWorker == worker, lastFailure != nil else { return }
        lastFailure = failure
        if state == .restarting { reason = failure.message }
        if state == .failing { reason = Self.reason(failure, notRestarted: givenUpBecause) }
        log(.warning, "job failure explained", LogField("failure", "\(failure)"))
        outbox.append(.failureExplained(job, worker, failure))
    }

    /// A lost worker has ended, and how is known.
    mutating func exitReported(_ worker: WorkerID, now: Instant) {
        guard awaitingExit?.worker == worker else { return }
        stopAwaitingExit(now: now)
    }

    mutating func exitReportsLost(of taskManager: TaskManagerID, now: Instant) {
        guard awaitingExit?.taskManager == taskManager else { return }
        stopAwaitingExit(now: now)
    }

    mutating func exitReportTimedOut(_ epoch: Epoch, now: Instant) {
        guard epoch == self.epoch, awaitingExit != nil else { return }
        stopAwaitingExit(now: now)
    }

    private mutating func stopAwaitingExit(now: Instant) {
        awaitingExit = nil
        outbox.append(.cancelTimer(.exitReport(job, epoch)))
        advance(now: now)
    }

    private static func reason(_ failure: JobFailure, notRestarted why: String?) -> String {
        guard let why else { return failure.message }
        return "\(failure.message) (not restarted: \(why))"
    }

    /// - Parameters:
    ///   - worker: The one whose loss it is.
    ///   - exempt: Restart at once and without asking the strategy.
    mutating func fail(_ failure: JobFailure, of worker: WorkerID? = nil, exempt: Bool = false, now: Instant) {
        switch state {
        case .deploying, .running:
            break
        case .restarting:
            // A consequence of the failure that is being dealt with, unless it says that another attempt is pointless.
            guard failure.recovery == .fail else { return log(.debug, "failure while restarting", LogField("failure", "\(failure)")) }
            note(failure, of: worker, now: now)
            outbox.append(.cancelTimer(.restartDelay(job, epoch)))
            become(.failing, reason: failure.message, now: now)
            return advance(now: now)
        case .waitingForResources:
            // No task runs; but a warm worker may have shown that no task ever will.
            guard failure.recovery == .fail else { return }
            note(failure, of: worker, now: now)
            reason = failure.message
            return end(.failed, now: now)
        case .created, .cancelling, .failing, .canceled, .failed, .finished:
            return
        }
        note(failure, of: worker, now: now)
        stopFailed(failure.message)
        isFinishing = false
        absorb(coordinator.stop(), now: now)
        let decision: RestartStrategy.Decision =
            if failure.recovery == .fail {
                .giveUp(reason: "running again cannot help")
            } else if exempt {
                .restart(after: .zero)
            } else {
                strategy.failed(now: now, random: &random)
            }
        switch decision {
        case .restart(let delay):
            awaitingExit = nil
            restarts += 1
            hasDelayPassed = delay <= .zero
            if !hasDelayPassed { outbox.append(.setTimer(.restartDelay(job, epoch), after: delay)) }
            become(.restarting, reason: failure.message, now: now)
        case .giveUp(let reason):
            log(.error, "job failed and is not restarted", LogField("failure", "\(failure)"), LogField("reason", reason))
            givenUpBecause = reason
            become(.failing, reason: Self.reason(failure, notRestarted: reason), now: now)
            if awaitingExit != nil { outbox.append(.setTimer(.exitReport(job, epoch), after: Self.exitReportTimeout)) }
        }
        cancelTasks()
        advance(now: now)
    }

    /// A TaskManager sees the end of a worker within milliseconds, and reads the last lines of its stderr.
    static let exitReportTimeout = Duration.seconds(5)

    private mutating func note(_ failure: JobFailure, of worker: WorkerID?, now: Instant) {
        lastFailure = failure
        lastFailedWorker = worker
        lastFailureAt = now
        log(.warning, "job failure", LogField("failure", "\(failure)"))
    }

    // MARK: Cancelling tasks

    /// Tells the surviving workers to cancel. They stay warm: only what died is started anew.
    mutating func cancelTasks() {
        awaitingCancel = []
        if isDeployed {
            for (subtask, slot) in placement where !assigned[slot.worker].isLost {
                if let state = tasks[subtask], state != .canceled, state != .failed { awaitingCancel.insert(subtask) }
            }
            // Also workers whose tasks have all failed: what they hold for the epoch must go.
            for worker in assigned where !worker.isLost { outbox.append(.cancelTasks(worker.worker, job, epoch)) }
        }
        if !awaitingCancel.isEmpty { outbox.append(.setTimer(.cancellation(job, epoch), after: options.cancellationTimeout)) }
    }

    mutating func cancellationTimedOut(_ epoch: Epoch, now: Instant) {
        guard epoch == self.epoch, !awaitingCancel.isEmpty else { return }
        if isFinishing {
            let failure = JobFailure(
                domain: .system, recovery: .restart,
                message: "the sinks did not confirm the final checkpoint within \(formatDuration(options.cancellationTimeout))",
                cause: "tasks \(awaitingCancel.sorted().prefix(5).map(\.description).joined(separator: ", ")) did not end")
            return fail(failure, now: now)
        }
        guard state == .restarting || state == .cancelling || state == .failing else { return }
        let stuck = Set(awaitingCancel.compactMap { placement[$0]?.worker }).sorted()
        for index in stuck {
            let worker = assigned[index]
            log(
                .warning, "worker is killed: its tasks were not cancelled in time", LogField("worker.id", "\(worker.worker)"),
                LogField("timeout", formatDuration(options.cancellationTimeout)))
            assigned[index].isLost = true
            outbox.append(.stopWorker(worker.worker, on: worker.taskManager, kill: true))
        }
        for subtask in awaitingCancel { tasks[subtask] = .failed }
        awaitingCancel = []
        advance(now: now)
    }

    mutating func restartDelayPassed(_ epoch: Epoch, now: Instant) {
        guard epoch == self.epoch, state == .restarting else { return }
        hasDelayPassed = true
        advance(now: now)
    }

    /// Takes the next step once nothing holds it back any more.
    mutating func advance(now: Instant) {
        guard awaitingCancel.isEmpty else { return }
        switch state {
        case .restarting:
            // While `_metadata` is being written nobody knows which checkpoint is the latest.
            guard hasDelayPassed, !coordinator.isPublishing else { return }
            outbox.append(.cancelTimer(.cancellation(job, epoch)))
            wantsResources = true
        case .cancelling:
            end(.canceled, now: now)
        case .failing:
            guard awaitingExit == nil else { return }
            end(.failed, now: now)
        case .running:
            if isFinishing { end(.finished, now: now) }
        case .created, .waitingForResources, .deploying, .canceled, .failed, .finished:
            break
        }
    }

    mutating func end(_ end: JobState, now: Instant) {
        outbox.append(.cancelTimer(.cancellation(job, epoch)))
        let discard =
            switch end {
            case .finished: true
            case .canceled: options.checkpointing.retention != .retainOnCancellation
            default: options.checkpointing.retention == .never
            }
        absorb(coordinator.end(discardRetained: discard), now: now)
        become(end, reason: end == .failed ? reason : nil, now: now)
        if end == .finished, let stopped = stopping {
            outbox.append(.reply(stopped.request, .savepointCompleted(job, stopped.checkpoint, path: stopped.path)))
            stopping = nil
        }
    }

    // MARK: Checkpoints

    mutating func checkpointTimer(_ timer: CheckpointCoordinator.Timer, now: Instant) {
        absorb(coordinator.timerFired(timer, now: now), now: now)
    }

    private mutating func savepointCompleted(
        _ savepoint: CheckpointCoordinator.Savepoint, _ id: CheckpointID, path: String, now: Instant
    ) {
        guard savepoint.mode.endsJob else {
            outbox.append(.reply(savepoint.request, .savepointCompleted(job, id, path: path)))
            return
        }
        stopping = Stopping(request: savepoint.request, checkpoint: id, path: path)
        // Its tasks may have been lost while `_metadata` was being written.
        guard state == .running, coordinator.isActive else { return stopFailed("its tasks were lost before") }
        isFinishing = true
        absorb(coordinator.stop(), now: now)
        cancelTasks()
    }

    /// The savepoint is there, but not every sink is known to have committed what it names.
    mutating func stopFailed(_ reason: String) {
        guard let stopped = stopping else { return }
        stopping = nil
        let failure = JobFailure(
            domain: .external, recovery: .restart,
            message: "savepoint \(stopped.checkpoint) is complete at \(stopped.path), but the job was not stopped with it",
            cause: reason + "; a job that restores the savepoint commits what it names")
        outbox.append(.reply(stopped.request, .refused(failure)))
    }

    /// Turns what the coordinator wants into messages to workers and the shell.
    mutating func absorb(_ effects: [CheckpointCoordinator.Effect], now: Instant) {
        for effect in effects {
            switch effect {
            case .setTimer(let timer, let delay):
                outbox.append(.setTimer(timerID(timer), after: delay))
            case .cancelTimer(let timer):
                outbox.append(.cancelTimer(timerID(timer)))
            case .trigger(let id, let kind, let sources):
                for (index, worker) in assigned.enumerated() {
                    let own = sources.filter { placement[$0]?.worker == index }
                    guard !own.isEmpty || kind.isSavepoint, !worker.isLost else { continue }
                    let trigger = CheckpointTrigger(job: job, epoch: epoch, checkpoint: id, kind: kind, sources: own)
                    outbox.append(.triggerCheckpoint(worker.worker, trigger))
                }
            case .publish(let checkpoint):
                outbox.append(.publishCheckpoint(checkpoint))
            case .notifyComplete(let id, let isFinal):
                let notice = CheckpointNotice(job: job, epoch: epoch, checkpoint: id, isFinal: isFinal)
                for worker in assigned where !worker.isLost { outbox.append(.notifyCheckpointComplete(worker.worker, notice)) }
            case .notifyAborted(let id):
                let notice = CheckpointNotice(job: job, epoch: epoch, checkpoint: id, isFinal: false)
                for worker in assigned where !worker.isLost { outbox.append(.notifyCheckpointAborted(worker.worker, notice)) }
            case .discard(let files):
                outbox.append(.discardState(job, files))
            case .discardCheckpoint(let id, let path, let files):
                outbox.append(.discardCheckpoint(job, id, path: path, files: files))
            case .failJob(let failure):
                fail(failure, now: now)
            case .finalCheckpointCompleted:
                isFinishing = true
                absorb(coordinator.stop(), now: now)
                cancelTasks()
            case .savepointCompleted(let savepoint, let id, let path):
                savepointCompleted(savepoint, id, path: path, now: now)
            case .savepointFailed(let savepoint, let failure):
                outbox.append(.reply(savepoint.request, .refused(failure)))
            case .log(let level, let message, let fields):
                outbox.append(.log(level, message, fields))
            }
        }
    }

    private func timerID(_ timer: CheckpointCoordinator.Timer) -> TimerID {
        switch timer {
        case .trigger: .checkpointTrigger(job)
        case .timeout(let id): .checkpointTimeout(job, id)
        }
    }
}
