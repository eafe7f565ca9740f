internal import WeirBase
internal import WeirControl
internal import WeirGraph
internal import WeirWire

/// What the shell remembers of a job beside the control plane's decisions: for display, and to persist it.
struct JobRecord {
    /// Bounds on what is kept for display.
    static let failuresMax = 20
    static let changesMax = 100

    struct Task {
        var worker: WorkerID
        var taskManager: TaskManagerID
        var slot: Int
        var state: TaskState
        var since: WallTime
        var metrics = WireTaskMetrics()
    }

    let id: JobID
    let submission: WireSubmitJob
    let graph: JobGraph
    let submitted: WallTime
    var ended: WallTime?
    var state = JobState.created
    var reason: String?
    var tasks: [SubtaskID: Task] = [:]
    var changes: [WireStateChange] = []
    var failures: [WireFailureRecord] = []
    var restoredFrom: CheckpointID?
    /// When the job stopped running; set while it waits for RUNNING.
    var failedAt: Instant?
    /// When the failure that was recorded last happened.
    var recordedAt: Instant?
    /// Every worker the job had, oldest first, with its TaskManager: where logs are.
    var workers: [(worker: WorkerID, taskManager: TaskManagerID)] = []
    /// The latest worker that ended, with the last lines of its stderr.
    var lastExit: (worker: WorkerID, standardError: [String])?

    mutating func deployed(_ plan: DeploymentPlan, on worker: WorkerID, at time: WallTime) {
        restoredFrom = plan.restore?.checkpoint ?? restoredFrom
        let taskManager = plan.workers.first { $0.worker == worker }?.taskManager ?? TaskManagerID("")
        for task in plan.tasks {
            tasks[task.subtask] = Task(worker: worker, taskManager: taskManager, slot: task.slot, state: .deploying, since: time)
        }
    }

    /// - Parameter snapshot: The job's after the change.
    mutating func changed(_ change: JobStateChange, snapshot: JobSnapshot?, now: Instant, at time: WallTime) {
        state = change.to
        reason = change.reason
        var entry = WireStateChange()
        entry.timestampMs = time.milliseconds
        entry.state = change.to.wire
        entry.epoch = change.epoch.rawValue
        changes.append(entry)
        if changes.count > Self.changesMax { changes.removeFirst() }
        switch change.to {
        case .restarting, .failing, .failed:
            if let failure = snapshot?.lastFailure, let happened = snapshot?.lastFailureAt, happened != recordedAt {
                recordedAt = happened
                var record = WireFailureRecord()
                record.timestampMs = time.milliseconds
                record.epoch = change.epoch.rawValue
                record.failure = failure.wire
                if let worker = snapshot?.lastFailedWorker {
                    record.worker = worker.rawValue
                    record.taskManager = workers.last { $0.worker == worker }?.taskManager.rawValue ?? ""
                    record.stderrTail = standardError(of: worker)
                }
                failures.append(record)
                if failures.count > Self.failuresMax { failures.removeFirst() }
                failedAt = failedAt ?? now
            }
        case .running:
            if let failedAt, !failures.isEmpty {
                let elapsed = failedAt.duration(to: now).inMilliseconds
                failures[failures.count - 1].runningAgainMs = UInt32(clamping: max(elapsed, 1))
            }
            failedAt = nil
        default: break
        }
        if change.to.isTerminal { ended = time }
    }

    /// The worker's exit tells more than its broken connection did.
    mutating func explained(_ worker: WorkerID, _ failure: JobFailure) {
        guard let index = failures.lastIndex(where: { $0.worker == worker.rawValue }) else { return }
        if reason == failures[index].failure.message { reason = failure.message }
        failures[index].failure = failure.wire
        failures[index].stderrTail = standardError(of: worker)
    }

    private func standardError(of worker: WorkerID) -> [String] {
        lastExit.flatMap { $0.worker == worker ? $0.standardError : nil } ?? []
    }
}
