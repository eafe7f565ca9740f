package import WeirBase

/// A read-only picture of one job for `weir list` and `weir info`.
package struct JobSnapshot: Sendable, Equatable {
    package var job: JobID
    package var name: String
    package var state: JobState
    /// When the state was entered.
    package var since: Instant
    package var submitted: Instant
    package var epoch: Epoch
    package var slotsNeeded: Int
    /// Slots held, or while waiting: slots that are free.
    package var slotsAvailable: Int
    package var tasks: TaskCounts
    package var vertices: [VertexSnapshot]
    /// What it waits for, or why it is in its state.
    package var reason: String?
    package var restarts: Int
    package var lastFailure: JobFailure?
    package var lastFailureAt: Instant?
    /// The worker whose loss the last failure was.
    package var lastFailedWorker: WorkerID?
    package var latestCheckpoint: CheckpointSnapshot?
    package var checkpointsCompleted: Int
    package var checkpointsFailed: Int
    package var checkpointsInProgress: Int
    /// The oldest first.
    package var retainedCheckpoints: [CompletedCheckpoint]
    /// Those that could not be restored and are kept for a person to look at.
    package var damagedCheckpoints: [CompletedCheckpoint]
    /// The id of the next checkpoint: no task writes for a lower one that is not in progress.
    package var nextCheckpoint: CheckpointID
    package var workers: [WorkerSnapshot]
}

package struct TaskCounts: Sendable, Hashable {
    package var total = 0
    package var created = 0
    package var deploying = 0
    package var running = 0
    package var finished = 0
    package var failed = 0
    package var canceled = 0

    package init() {}

    mutating func count(_ state: TaskState) {
        total += 1
        switch state {
        case .created: created += 1
        case .deploying: deploying += 1
        case .running: running += 1
        case .finished: finished += 1
        case .failed: failed += 1
        case .canceled: canceled += 1
        }
    }
}

package struct VertexSnapshot: Sendable, Hashable {
    package var vertex: VertexID
    package var name: String
    package var parallelism: Int
    package var tasks: TaskCounts
}

package struct CheckpointSnapshot: Sendable, Hashable {
    package var id: CheckpointID
    package var path: String
    /// From the trigger until `_metadata` was durable.
    package var duration: Duration
    package var sizeBytes: Int
    package var completedAt: Instant
}

package struct WorkerSnapshot: Sendable, Hashable {
    package var worker: WorkerID
    package var job: JobID
    package var taskManager: TaskManagerID
    package var isRegistered: Bool
    package var address: DataAddress?
}

package struct TaskManagerSnapshot: Sendable, Hashable {
    package var id: TaskManagerID
    package var host: String
    package var slots: Int
    package var freeSlots: Int
    package var lastHeartbeat: Instant
    package var workers: [WorkerSnapshot]
}

package struct ClusterSnapshot: Sendable, Hashable {
    package var taskManagers: [TaskManagerSnapshot]
    package var slots: Int
    package var freeSlots: Int
}
