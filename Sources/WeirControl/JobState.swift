/// The life of a job. The raw values are what `weir list` prints.
package enum JobState: String, Sendable, Hashable, CaseIterable {
    case created = "CREATED"
    /// Holds no slots and asks for all it needs at once: two jobs that each hold half would wait for each other for ever.
    case waitingForResources = "WAITING_FOR_RESOURCES"
    /// Has slots; workers start, tasks deploy and restore.
    case deploying = "DEPLOYING"
    case running = "RUNNING"
    /// Failed and will be redeployed: surviving tasks are cancelled, then the restart delay passes.
    case restarting = "RESTARTING"
    case cancelling = "CANCELLING"
    /// Failed for good: surviving tasks are cancelled first.
    case failing = "FAILING"
    case canceled = "CANCELED"
    case failed = "FAILED"
    case finished = "FINISHED"

    package var isTerminal: Bool { self == .canceled || self == .failed || self == .finished }
}

/// The life of one execution attempt of a subtask, as its worker reports it.
package enum TaskState: String, Sendable, Hashable, CaseIterable {
    /// Known to the JobMaster, not yet reported by the worker.
    case created = "CREATED"
    case deploying = "DEPLOYING"
    /// Restored and processing. State files are no longer read after this.
    case running = "RUNNING"
    /// Read all of its input. Its operators stay open, answer barriers and commit until the tasks are cancelled: then it is CANCELED.
    case finished = "FINISHED"
    case failed = "FAILED"
    case canceled = "CANCELED"

    package var isTerminal: Bool { self == .finished || self == .failed || self == .canceled }
}
