internal import WeirTransport
internal import WeirWire

/// One worker of the TaskManager, from the request to its exit.
struct WorkerEntry {
    enum Phase {
        /// Its artifact is fetched, or its process is being spawned.
        case starting
        case running(any RunningWorkerHandle)
    }

    let request: WireStartWorker
    let logPath: String
    var phase = Phase.starting
    var stopRequested = false
    var grace = Duration.zero
    /// Those who wait for the start: a request that came twice is answered twice.
    var replies: [RPCReply<WireStartWorkerReply>]
    /// It was reported before the launch was.
    var earlyExit: WorkerExit?

    var pid: UInt32 {
        if case .running(let handle) = phase { handle.pid } else { 0 }
    }
}

/// Where workers' logs are: of those that run, and of the latest that ended.
struct LogPaths {
    static let pathsMax = 1_000

    private var paths: [String: String] = [:]
    private var order: [String] = []

    subscript(worker: String) -> String? { paths[worker] }

    mutating func add(worker: String, path: String) {
        if paths.updateValue(path, forKey: worker) == nil { order.append(worker) }
        while order.count > Self.pathsMax { paths[order.removeFirst()] = nil }
    }
}
