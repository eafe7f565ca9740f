package import WeirBase
package import WeirGraph

/// Everything that can happen to the control plane. The shell reports events in the order in which it saw them.
package enum ControlEvent: Sendable {
    // MARK: TaskManagers

    case taskManagerRegistered(TaskManagerRegistration)
    case taskManagerHeartbeat(TaskManagerID, connection: ConnectionID)
    /// The connection closed. The TaskManager kills its workers when it notices the same.
    case taskManagerLost(TaskManagerID, connection: ConnectionID, reason: String)

    // MARK: Workers

    case workerRegistered(WorkerRegistration)
    case workerHeartbeat(WorkerID, connection: ConnectionID)
    case workerConnectionLost(WorkerID, connection: ConnectionID, reason: String)
    /// From the TaskManager: the artifact could not be fetched or the process not be spawned.
    case workerStartFailed(WorkerID, reason: String)
    /// From the TaskManager, which reaped the process.
    case workerExited(WorkerExit)

    // MARK: Jobs

    /// The shell has persisted graph and artifact before it reports this.
    case submitJob(RequestID, JobSubmission)
    case cancelJob(RequestID, JobID)
    /// Answered when the savepoint is complete; with a mode that ends the job, when the job is FINISHED.
    case triggerSavepoint(RequestID, JobID, directory: String, mode: SavepointMode)

    // MARK: Tasks

    case taskStateChanged(TaskStateReport)
    case checkpointAcknowledged(CheckpointAcknowledgement)
    case checkpointDeclined(job: JobID, worker: WorkerID, epoch: Epoch, checkpoint: CheckpointID, subtask: SubtaskID, reason: String)
    /// The worker could not read a state file: wrong checksum, cut short or gone. Other failures to restore are task failures.
    case restoreFailed(job: JobID, worker: WorkerID, epoch: Epoch, checkpoint: CheckpointID, path: String, reason: String)

    // MARK: The shell's own

    /// `_metadata` is durable at `path`.
    case checkpointPublished(job: JobID, checkpoint: CheckpointID, path: String)
    /// `_metadata` is **not** there: the shell removes what it may have written before it reports this.
    case checkpointPublishFailed(job: JobID, checkpoint: CheckpointID, reason: String)
    /// Another JobManager has become the owner of the job's directory: this one may write nothing of it any more.
    case jobFenced(JobID, JobFailure)
    case timerFired(TimerID)
}

package struct TaskManagerRegistration: Sendable, Hashable {
    package var id: TaskManagerID
    package var connection: ConnectionID
    package var slots: Int
    /// Where its workers can be reached; for display.
    package var host: String
    /// Workers that it still runs. Those that the control plane does not know, since a lost connection counts as their end, are stopped.
    package var runningWorkers: [WorkerID]

    package init(id: TaskManagerID, connection: ConnectionID, slots: Int, host: String, runningWorkers: [WorkerID] = []) {
        self.id = id
        self.connection = connection
        self.slots = slots
        self.host = host
        self.runningWorkers = runningWorkers
    }
}

package struct WorkerRegistration: Sendable, Hashable {
    package var worker: WorkerID
    package var job: JobID
    package var connection: ConnectionID
    /// ``JobGraph/hash`` of the graph that the worker's binary defined.
    package var graphHash: UInt64
    package var address: DataAddress

    package init(worker: WorkerID, job: JobID, connection: ConnectionID, graphHash: UInt64, address: DataAddress) {
        self.worker = worker
        self.job = job
        self.connection = connection
        self.graphHash = graphHash
        self.address = address
    }
}

package struct WorkerExit: Sendable, Hashable {
    package enum Status: Sendable, Hashable, CustomStringConvertible {
        case code(Int32)
        case signal(Int32)

        package var description: String {
            switch self {
            case .code(let code): "ended with exit code \(code)"
            case .signal(let signal): "was ended by \(signalInWords(signal))"
            }
        }
    }

    package var worker: WorkerID
    package var status: Status
    /// The last lines of stderr, oldest first.
    package var standardError: [String]
    /// It had been told to stop: then its end explains nothing, unless a fault of its own came first.
    package var isRequested: Bool

    package init(worker: WorkerID, status: Status, standardError: [String] = [], isRequested: Bool = false) {
        self.worker = worker
        self.status = status
        self.standardError = standardError
        self.isRequested = isRequested
    }

    /// The line of stderr that tells most: where Swift says what it trapped on, else the last one.
    var lastWords: String? {
        let said = standardError.filter { line in line.contains { !$0.isWhitespace } }
        let words = said.last { $0.contains("Fatal error") } ?? said.last
        guard words == nil, case .signal(let number) = status, [4, 5, 6, 7, 8, 11].contains(number) else { return words }
        return "it wrote nothing to its stderr; with SWIFT_BACKTRACE=enable=yes in the taskmanager's environment it says where it was"
    }

    /// Whether the worker ended by itself or by somebody else's hand, and not because it was told to.
    var isOfItsOwn: Bool {
        switch status {
        case .code, .signal(9), .signal(15): !isRequested
        case .signal: true
        }
    }
}

package struct JobSubmission: Sendable {
    package var job: JobID
    package var graph: JobGraph
    package var artifact: ArtifactReference
    package var arguments: [String]
    package var options: JobOptions
    /// Checkpoints to restore from, the best last: the one before is used where the last turns out damaged. One savepoint for
    /// `weir run --from-savepoint`; all retained checkpoints when a new JobManager takes the job over.
    package var restoreFrom: [CompletedCheckpoint]
    /// State that no operator of the graph claims is an error unless this is set.
    package var allowNonRestoredState: Bool
    /// The first epoch to use: larger than any that the job has used under an earlier JobManager.
    package var firstEpoch: Epoch
    /// Checkpoint ids start above this and above those in `restoreFrom`.
    package var lastCheckpoint: CheckpointID?

    package init(
        job: JobID, graph: JobGraph, artifact: ArtifactReference, arguments: [String] = [], options: JobOptions = JobOptions(),
        restoreFrom: [CompletedCheckpoint] = [], allowNonRestoredState: Bool = false, firstEpoch: Epoch = Epoch(1),
        lastCheckpoint: CheckpointID? = nil
    ) {
        self.job = job
        self.graph = graph
        self.artifact = artifact
        self.arguments = arguments
        self.options = options
        self.restoreFrom = restoreFrom
        self.allowNonRestoredState = allowNonRestoredState
        self.firstEpoch = firstEpoch
        self.lastCheckpoint = lastCheckpoint
    }
}

package struct TaskStateReport: Sendable, Equatable {
    package var job: JobID
    package var worker: WorkerID
    package var epoch: Epoch
    package var subtask: SubtaskID
    package var state: TaskState
    /// With `.failed`.
    package var failure: JobFailure?
    /// With `.finished`, from a task that answers no more barriers: the state after its last record, which counts in every later
    /// checkpoint. Nil, the usual case: the finished task goes on answering, barriers follow the end of data.
    package var finalState: StateHandle?

    package init(
        job: JobID, worker: WorkerID, epoch: Epoch, subtask: SubtaskID, state: TaskState, failure: JobFailure? = nil,
        finalState: StateHandle? = nil
    ) {
        self.job = job
        self.worker = worker
        self.epoch = epoch
        self.subtask = subtask
        self.state = state
        self.failure = failure
        self.finalState = finalState
    }
}

package struct CheckpointAcknowledgement: Sendable, Hashable {
    package var job: JobID
    package var worker: WorkerID
    package var epoch: Epoch
    package var checkpoint: CheckpointID
    /// `state.subtask` is the task that acknowledges.
    package var state: StateHandle
    package var statistics: SnapshotStatistics

    package init(
        job: JobID, worker: WorkerID, epoch: Epoch, checkpoint: CheckpointID, state: StateHandle,
        statistics: SnapshotStatistics = SnapshotStatistics()
    ) {
        self.job = job
        self.worker = worker
        self.epoch = epoch
        self.checkpoint = checkpoint
        self.state = state
        self.statistics = statistics
    }
}
