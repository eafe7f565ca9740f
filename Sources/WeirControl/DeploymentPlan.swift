package import WeirBase

/// Everything that one worker needs to run its share of a job in one epoch.
package struct DeploymentPlan: Hashable, Sendable {
    package var job: JobID
    package var epoch: Epoch
    /// Slot threads that the worker needs in this epoch; a warm worker may get more or fewer than last time.
    package var slots: Int
    /// By (vertex, index).
    package var tasks: [TaskDeployment]
    /// All workers of the job in this epoch with their data addresses; ``VertexPlacement/workers`` indexes it.
    package var workers: [WorkerEndpoint]
    /// Where every subtask of every vertex runs, by vertex id: both ends of every edge.
    package var placements: [VertexPlacement]
    /// Nil on a start from nothing.
    package var restore: RestorePlan?

    package init(
        job: JobID, epoch: Epoch, slots: Int, tasks: [TaskDeployment], workers: [WorkerEndpoint], placements: [VertexPlacement],
        restore: RestorePlan?
    ) {
        self.job = job
        self.epoch = epoch
        self.slots = slots
        self.tasks = tasks
        self.workers = workers
        self.placements = placements
        self.restore = restore
    }

    /// The worker that runs a subtask, or nil where the job has no such subtask.
    package func worker(of subtask: SubtaskID) -> WorkerEndpoint? {
        guard let placement = placements.first(where: { $0.vertex == subtask.vertex }) else { return nil }
        let index = Int(subtask.index)
        guard placement.workers.indices.contains(index) else { return nil }
        return workers[placement.workers[index]]
    }
}

package struct TaskDeployment: Hashable, Sendable {
    package var subtask: SubtaskID
    /// The worker's slot, in `0..<DeploymentPlan.slots`. One slot holds at most one subtask of a vertex.
    package var slot: Int
    /// Subtasks of the vertex.
    package var parallelism: Int

    package init(subtask: SubtaskID, slot: Int, parallelism: Int) {
        self.subtask = subtask
        self.slot = slot
        self.parallelism = parallelism
    }
}

package struct WorkerEndpoint: Hashable, Sendable {
    package var worker: WorkerID
    package var taskManager: TaskManagerID
    package var address: DataAddress

    package init(worker: WorkerID, taskManager: TaskManagerID, address: DataAddress) {
        self.worker = worker
        self.taskManager = taskManager
        self.address = address
    }
}

package struct VertexPlacement: Hashable, Sendable {
    package var vertex: VertexID
    /// By subtask index; the value indexes ``DeploymentPlan/workers``.
    package var workers: [Int]
    /// By subtask index: the slot within its worker.
    package var slots: [Int]

    package init(vertex: VertexID, workers: [Int], slots: [Int]) {
        self.vertex = vertex
        self.workers = workers
        self.slots = slots
    }
}

/// The checkpoint to restore from. A worker that finds a file damaged reports
/// ``ControlEvent/restoreFailed(job:worker:epoch:checkpoint:path:reason:)``.
package struct RestorePlan: Hashable, Sendable {
    package var checkpoint: CheckpointID
    package var kind: CheckpointKind
    package var maxParallelism: Int
    /// Whether incremental checkpoints may refer to its files; not to those of a savepoint, nor of one that is not the job's own.
    package var isShareable: Bool
    /// Those vertices that the worker runs, by vertex id.
    package var vertices: [VertexRestore]

    package init(checkpoint: CheckpointID, kind: CheckpointKind, maxParallelism: Int, isShareable: Bool, vertices: [VertexRestore]) {
        self.checkpoint = checkpoint
        self.kind = kind
        self.maxParallelism = maxParallelism
        self.isShareable = isShareable
        self.vertices = vertices
    }
}

/// The handles of all subtasks of all checkpointed vertices that share an operator with the vertex. State is matched by
/// operator inside the worker, so that a job that chains or scales differently still finds its own.
package struct VertexRestore: Hashable, Sendable {
    package var vertex: VertexID
    package var handles: [StateHandle]

    package init(vertex: VertexID, handles: [StateHandle]) {
        self.vertex = vertex
        self.handles = handles
    }
}
