package import WeirBase

/// What the shell has to do, in order. Messages to one peer must leave in the order of their effects.
package enum ControlEffect: Sendable, Equatable {
    // MARK: To TaskManagers

    /// The registration is accepted. `stopWorkers`: those of its running workers that it has to kill at once.
    case acceptTaskManager(TaskManagerID, connection: ConnectionID, stopWorkers: [WorkerID])
    /// Close the connection: replaced, silent for too long, or refused. No ``ControlEvent/taskManagerLost(_:connection:reason:)`` needed.
    case disconnectTaskManager(TaskManagerID, connection: ConnectionID, reason: String)
    case startWorker(TaskManagerID, StartWorker)
    /// Through the TaskManager where it is connected, and close the worker's own connection. `kill` sends SIGKILL at once; otherwise the
    /// worker may end by itself within the TaskManager's grace period.
    case stopWorker(WorkerID, on: TaskManagerID, kill: Bool)

    // MARK: To workers

    case acceptWorker(WorkerID, connection: ConnectionID)
    case disconnectWorker(WorkerID, connection: ConnectionID, reason: String)
    case deploy(WorkerID, DeploymentPlan)
    /// Every task of the epoch that has not failed answers with CANCELED, finished ones too. What was sent before is done before: a sink
    /// told of a complete checkpoint commits first.
    case cancelTasks(WorkerID, JobID, Epoch)
    case triggerCheckpoint(WorkerID, CheckpointTrigger)
    case notifyCheckpointComplete(WorkerID, CheckpointNotice)
    case notifyCheckpointAborted(WorkerID, CheckpointNotice)

    // MARK: To the checkpoint storage

    /// Write `_metadata`, durably and atomically; answer with `checkpointPublished` or `checkpointPublishFailed`, always and within a
    /// bound: a restart waits for the answer, since only then is it known which checkpoint is the latest.
    case publishCheckpoint(CompletedCheckpoint)
    /// Delete `_metadata` first, then the files that no other checkpoint needs.
    case discardCheckpoint(JobID, CheckpointID, path: String, files: [StateFile])
    /// Delete the files of acknowledgements that belong to no checkpoint. Deleting one that is gone is no error.
    case discardState(JobID, [StateFile])

    // MARK: To the shell

    case setTimer(TimerID, after: Duration)
    case cancelTimer(TimerID)
    /// Also the moment to persist the epoch, see ``JobSubmission/firstEpoch``.
    case jobStateChanged(JobStateChange)
    /// Why a worker was lost of which first only the connection was seen to break: to be told in place of the failure told then.
    case failureExplained(JobID, WorkerID, JobFailure)
    case log(LogLevel, String, [LogField])
    case reply(RequestID, ControlReply)
}

package struct StartWorker: Sendable, Hashable {
    package var job: JobID
    package var worker: WorkerID
    package var artifact: ArtifactReference
    package var arguments: [String]
    /// Slots that the job holds on this TaskManager now; ``DeploymentPlan/slots`` decides.
    package var slots: Int

    package init(job: JobID, worker: WorkerID, artifact: ArtifactReference, arguments: [String], slots: Int) {
        self.job = job
        self.worker = worker
        self.artifact = artifact
        self.arguments = arguments
        self.slots = slots
    }
}

package struct CheckpointTrigger: Sendable, Hashable {
    package var job: JobID
    package var epoch: Epoch
    package var checkpoint: CheckpointID
    package var kind: CheckpointKind
    /// The source subtasks of the worker that inject the barrier, also those that have finished but still answer. A savepoint is told to
    /// every worker, also to one without: it must know the directory.
    package var sources: [SubtaskID]

    package init(job: JobID, epoch: Epoch, checkpoint: CheckpointID, kind: CheckpointKind, sources: [SubtaskID]) {
        self.job = job
        self.epoch = epoch
        self.checkpoint = checkpoint
        self.kind = kind
        self.sources = sources
    }
}

package struct CheckpointNotice: Sendable, Hashable {
    package var job: JobID
    package var epoch: Epoch
    package var checkpoint: CheckpointID
    /// The job ends with this checkpoint: `cancelTasks` follows, and no sink need begin another transaction.
    package var isFinal: Bool

    package init(job: JobID, epoch: Epoch, checkpoint: CheckpointID, isFinal: Bool) {
        self.job = job
        self.epoch = epoch
        self.checkpoint = checkpoint
        self.isFinal = isFinal
    }
}

package struct JobStateChange: Sendable, Hashable {
    package var job: JobID
    package var from: JobState
    package var to: JobState
    package var epoch: Epoch
    /// Why, for a person: the missing slots, the failure.
    package var reason: String?

    package init(job: JobID, from: JobState, to: JobState, epoch: Epoch, reason: String?) {
        self.job = job
        self.from = from
        self.to = to
        self.epoch = epoch
        self.reason = reason
    }
}

package enum ControlReply: Sendable, Equatable {
    case jobSubmitted(JobID)
    /// The job is CANCELLING or already ended in the given state; its end comes as ``ControlEffect/jobStateChanged(_:)``.
    case cancelAccepted(JobID, JobState)
    case savepointCompleted(JobID, CheckpointID, path: String)
    case refused(JobFailure)
}
