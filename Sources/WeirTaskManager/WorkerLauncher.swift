package import WeirBase

/// Everything that a worker is started with.
package struct WorkerLaunch: Sendable, Equatable {
    package var job: String
    package var worker: WorkerID
    /// The job's binary; empty for a launcher that needs no artifact.
    package var executable: String
    package var arguments: [String]
    /// The whole environment of the worker, the `WEIR_` variables included.
    package var environment: [String: String]
    package var standardOutputPath: String
    package var standardErrorPath: String

    package init(
        job: String, worker: WorkerID, executable: String, arguments: [String], environment: [String: String], standardOutputPath: String,
        standardErrorPath: String
    ) {
        self.job = job
        self.worker = worker
        self.executable = executable
        self.arguments = arguments
        self.environment = environment
        self.standardOutputPath = standardOutputPath
        self.standardErrorPath = standardErrorPath
    }
}

/// How a worker ended.
package struct WorkerExit: Sendable, Equatable {
    package enum Status: Sendable, Equatable {
        case exited(Int32)
        case signaled(Int32)
    }

    package var status: Status
    /// The last lines of its stderr, oldest first: at most ``StandardErrorTail/linesMax`` of at most
    /// ``StandardErrorTail/bytesMax`` together.
    package var standardErrorTail: [String]

    package init(status: Status, standardErrorTail: [String]) {
        self.status = status
        self.standardErrorTail = standardErrorTail
    }
}

/// A worker could not be started at all.
package struct WorkerLaunchFailure: Error, Sendable, Equatable, CustomStringConvertible {
    package var message: String
    package init(_ message: String) { self.message = message }
    package var description: String { message }
}

/// A worker that runs.
package protocol RunningWorkerHandle: Sendable {
    var pid: UInt32 { get }
    /// Asks it to end, and ends it by force after `grace`. Returns at once; the exit is reported as every exit is.
    func stop(grace: Duration)
}

/// Starts workers: as processes in production, on threads in the embedded mini-cluster.
package protocol WorkerLauncher: Sendable {
    /// Whether the job's binary must be on this host before ``launch(_:onExit:)``.
    var needsArtifact: Bool { get }

    /// Starts one worker. Called on one thread, which lives as long as the TaskManager.
    ///
    /// - Parameter onExit: Called once, from any thread, after the worker has ended. It may be called before this function returns.
    func launch(_ launch: WorkerLaunch, onExit: @escaping @Sendable (WorkerExit) -> Void) throws(WorkerLaunchFailure) -> any RunningWorkerHandle
}
