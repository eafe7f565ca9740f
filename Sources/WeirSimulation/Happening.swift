import WeirBase
import WeirControl

/// A direction of a connection; messages over one keep their order.
enum Link: Hashable {
    case fromTaskManager(TaskManagerID, ConnectionID)
    case toTaskManager(TaskManagerID, ConnectionID)
    case fromWorker(WorkerID)
    case toWorker(WorkerID)
    case data(from: WorkerID, to: WorkerID)
}

/// Everything that can be due in the simulated world.
indirect enum Happening {
    case delivered(Link, Happening)
    case event(ControlEvent)
    case timer(TimerID, UInt64)

    // The script.
    case submit(Int)
    case cancel(Int)
    case savepoint(Int, SavepointMode)
    case fault
    case calm
    case storagePublishes(CompletedCheckpoint)

    // TaskManagers.
    case taskManagerStarts(TaskManagerID)
    case taskManagerBeats(TaskManagerID, ConnectionID)
    case taskManagerNoticesLoss(TaskManagerID, ConnectionID)
    case taskManagerStartsWorker(TaskManagerID, StartWorker)
    case taskManagerStopsWorker(TaskManagerID, WorkerID)

    // Workers.
    case workerRegisters(WorkerID)
    case workerBeats(WorkerID)
    case workerEnds(WorkerID, WorkerExit.Status)
    case deploy(WorkerID, DeploymentPlan)
    case cancelTasks(WorkerID, Epoch)
    case trigger(WorkerID, CheckpointTrigger)
    case complete(WorkerID, CheckpointNotice)

    // Tasks, each in the epoch in which it was planned.
    case taskRestored(WorkerID, Epoch, SubtaskID)
    case taskEnds(WorkerID, Epoch, SubtaskID)
    case taskCancelled(WorkerID, Epoch, SubtaskID)
    case barrier(WorkerID, Epoch, to: SubtaskID, from: SubtaskID, CheckpointID, CheckpointKind)
    case endOfData(WorkerID, Epoch, to: SubtaskID, from: SubtaskID)
    case acknowledges(WorkerID, Epoch, CheckpointID, StateHandle)
}

struct SimulatedTaskManager {
    let id: TaskManagerID
    let slots: Int
    var isAlive = false
    /// The connection as the TaskManager sees it.
    var connection: ConnectionID?
    /// As the JobManager's shell sees it: where commands go.
    var acceptedAs: ConnectionID?
    /// Beats no more though its connection stands.
    var isSilent = false
}

struct SimulatedWorker {
    let id: WorkerID
    let job: JobID
    let taskManager: TaskManagerID
    let connection: ConnectionID
    var isAlive = true
    var isSilent = false
    var plan: DeploymentPlan?
    var tasks: [SubtaskID: SimulatedTask] = [:]
}

struct SimulatedTask {
    var state = TaskState.deploying
    /// Will not answer a cancellation: only killing helps.
    var isStuck = false
    var answersBarriers = true
    /// Upstream tasks whose barrier came, by checkpoint.
    var barriers: [CheckpointID: Set<SubtaskID>] = [:]
    var endedInputs: Set<SubtaskID> = []
    /// Handles by checkpoint, until it is complete: what an incremental checkpoint builds on.
    var acknowledged: [CheckpointID: StateHandle] = [:]
    var base: [StateFile] = []
}
