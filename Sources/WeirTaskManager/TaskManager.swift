internal import CWeirSystem
internal import Glibc
package import Logging
internal import SwiftProtobuf
internal import Synchronization
internal import WeirBase
package import WeirTransport
internal import WeirWire

/// What a TaskManager tells the process that it lives in.
package enum TaskManagerEvent: Sendable, Equatable {
    /// The JobManager took the registration; comes again after each reconnection.
    case registered(jobManager: String)
    case disconnected(reason: String)
    /// Trying again is in vain, e.g. the JobManager is of another cluster.
    case refused(reason: String, hint: String)
}

/// Offers slots to a JobManager, and starts and supervises the workers that it asks for. Runs no user code.
///
/// One event loop owns all state and the connection. A second one fetches artifacts and spawns: what blocks the one does not delay
/// the heartbeats of the other, and its thread, which is the parent of the workers in the kernel's eyes, lives as long as this object's
/// process.
package final class TaskManager: @unchecked Sendable {
    // @unchecked: `client` and `cache` are set in init and never again; all other state is touched by the loop's thread alone.
    package let options: TaskManagerOptions
    private let loop: EventLoop
    /// Artifacts and spawns, one after the other: no process is forked while a binary is open for writing.
    private let work: EventLoop
    private let launcher: any WorkerLauncher
    private let logger: Logger
    private let onEvent: @Sendable (TaskManagerEvent) -> Void
    private let incarnation: UInt64
    private let source: JobManagerArtifacts
    private let cache: ArtifactCache
    private let client = Mutex<RPCClient?>(nil)

    // Loop-confined.
    private var workers: [String: WorkerEntry] = [:]
    private var logs = LogPaths()
    private var unreported: [WireWorkerExited] = []
    private var connection: RPCConnection?
    private var isRegistered = false
    private var heartbeatInterval: Duration
    private var heartbeatTimeout: Duration
    private var heartbeatTimer: TimerID?
    private var orphanTimer: TimerID?
    private var stopCompletions: [@Sendable () -> Void] = []
    private var isStopping = false

    /// Exits that wait for the JobManager; more are forgotten, oldest first: the registration tells what runs.
    static let unreportedMax = 1_000
    /// After this long a worker that does not heed SIGTERM is killed.
    package static let stopGrace = Duration.seconds(5)
    static let registrationDeadline = Duration.seconds(10)
    static let registrationRetry = Duration.seconds(1)

    private var workersMax: Int { max(16, 4 * options.slots) }

    /// - Throws: ``TransportFailure`` when the process has no threads or descriptors left.
    package init(
        options: TaskManagerOptions, launcher: any WorkerLauncher = ProcessWorkerLauncher(), logger: Logger,
        onEvent: @escaping @Sendable (TaskManagerEvent) -> Void = { _ in }
    ) throws(TransportFailure) {
        self.options = options
        self.launcher = launcher
        self.logger = logger
        self.onEvent = onEvent
        incarnation = UInt64.random(in: 1 ... .max)
        heartbeatInterval = options.heartbeatInterval
        heartbeatTimeout = options.heartbeatTimeout
        loop = try EventLoop(name: "weir-tm")
        work = try EventLoop(name: "weir-tm-work")
        source = JobManagerArtifacts()
        cache = ArtifactCache(directory: options.artifactDirectory, source: source, loop: work)
    }

    /// Connects to the JobManager, and keeps at it.
    package func start() {
        let identity = RPCIdentity(role: .taskManager, clusterID: options.clusterID, clientID: options.resourceID, software: "weir")
        var clientOptions = RPCClientOptions(
            host: options.jobManagerHost, port: options.jobManagerPort, identity: identity, seed: incarnation)
        // A JobManager that came back waits for its TaskManagers, and the jobs with it.
        clientOptions.reconnect = Backoff(initial: .milliseconds(20), maximum: .seconds(1))
        let client = RPCClient(loop: loop, options: clientOptions, handlers: handlers(), logger: logger) { [weak self] event in
            self?.connectionChanged(event)
        }
        self.client.withLock { $0 = client }
        client.start()
    }

    /// Stops all workers, then leaves the JobManager.
    ///
    /// - Parameter completion: Called once, on a thread of the TaskManager's, when no worker is left.
    package func stop(grace: Duration = TaskManager.stopGrace, completion: @escaping @Sendable () -> Void) {
        loop.perform { [self] in
            stopCompletions.append(completion)
            isStopping = true
            stopAll(grace: grace)
            finishStopIfDone()
        }
    }

    /// Ends the threads. Call it after ``stop(grace:completion:)``, never on a thread of the TaskManager's.
    package func shutDown() {
        client.withLock { $0 }?.close()
        loop.shutDown()
        work.shutDown()
    }

    private func finishStopIfDone() {
        guard isStopping, workers.isEmpty else { return }
        let completions = stopCompletions
        stopCompletions = []
        guard !completions.isEmpty else { return }
        work.run { [self] in
            cache.removeAll()
            // On its way to the JobManager is the report of the last exit: closing at once would drop it.
            loop.run { [self] in
                loop.schedule(after: .milliseconds(20)) { [self] in
                    client.withLock { $0 }?.close()
                    for completion in completions { completion() }
                }
            }
        }
    }

    // MARK: The connection

    private func connectionChanged(_ event: RPCClient.Event) {
        switch event {
        case .connected(let connection):
            self.connection = connection
            source.connection.withLock { $0 = connection }
            register(on: connection)
        case .disconnected(let failure, let retryIn):
            let wasRegistered = isRegistered
            connection = nil
            source.connection.withLock { $0 = nil }
            isRegistered = false
            if let heartbeatTimer { loop.cancel(heartbeatTimer) }
            heartbeatTimer = nil
            if wasRegistered, !isStopping {
                logger.notice("lost the JobManager", metadata: ["reason": "\(failure.message)"])
                armOrphanTimer()
            }
            if retryIn == nil, !isStopping {
                onEvent(.refused(reason: failure.message, hint: failure.hint))
            } else {
                onEvent(.disconnected(reason: failure.message))
            }
        }
    }

    /// Nobody can cancel workers without a JobManager: after this long they must not go on writing.
    private func armOrphanTimer() {
        guard orphanTimer == nil else { return }
        orphanTimer = loop.schedule(after: heartbeatTimeout) { [self] in
            orphanTimer = nil
            guard !isRegistered, !workers.isEmpty else { return }
            logger.warning(
                "stopping the workers: the JobManager did not come back", metadata: ["workers": "\(workers.count)", "after": "\(heartbeatTimeout)"])
            stopAll(grace: .zero)
        }
    }

    private func register(on connection: RPCConnection) {
        var message = WireRegisterTaskManager()
        message.taskManager = options.resourceID
        message.slots = UInt32(options.slots)
        message.pid = UInt32(getpid())
        message.host = options.host
        message.dataHost = options.dataHost
        message.incarnation = incarnation
        message.runningWorkers = workers.sorted { $0.key < $1.key }.map { worker, entry in
            var running = WireRunningWorker()
            running.worker = worker
            running.job = entry.request.job
            running.pid = entry.pid
            return running
        }
        connection.send(
            .registerTaskManager, message, deadline: Self.registrationDeadline, as: WireRegisterTaskManagerReply.self
        ) { [weak self] result in self?.registrationAnswered(result, on: connection) }
    }

    private func registrationAnswered(_ result: Result<WireRegisterTaskManagerReply, RPCFailure>, on connection: RPCConnection) {
        guard connection === self.connection, !isStopping else { return }
        switch result {
        case .failure(let failure):
            guard case .refused = failure.kind else { return connection.close() }
            logger.warning("the JobManager refused the registration; trying again", metadata: ["reason": "\(failure)"])
            loop.schedule(after: Self.registrationRetry) { [weak self] in
                guard let self, connection === self.connection, !isStopping else { return }
                register(on: connection)
            }
        case .success(let reply):
            isRegistered = true
            if let orphanTimer { loop.cancel(orphanTimer) }
            orphanTimer = nil
            if reply.heartbeatIntervalMs > 0 { heartbeatInterval = .milliseconds(reply.heartbeatIntervalMs) }
            if reply.heartbeatTimeoutMs > 0 { heartbeatTimeout = .milliseconds(reply.heartbeatTimeoutMs) }
            for worker in reply.stopWorkers { stopWorker(worker, grace: .zero) }
            let waiting = unreported
            unreported = []
            for exit in waiting { connection.sendOneWay(.workerExited, exit) }
            sendHeartbeat()
            let address = "\(options.jobManagerHost):\(options.jobManagerPort)"
            logger.notice("registered", metadata: ["jobmanager": "\(address)", "cluster.id": "\(reply.clusterID)"])
            onEvent(.registered(jobManager: address))
        }
    }

    private func scheduleHeartbeat() {
        if let heartbeatTimer { loop.cancel(heartbeatTimer) }
        heartbeatTimer = loop.schedule(after: heartbeatInterval) { [weak self] in self?.sendHeartbeat() }
    }

    private func sendHeartbeat() {
        guard let connection, isRegistered else { return }
        var message = WireHeartbeat()
        message.sender = options.resourceID
        let usage = ProcessUsage.current()
        message.residentBytes = usage.residentBytes
        message.cpuMs = usage.cpuMs
        connection.send(.heartbeat, message, deadline: heartbeatTimeout, as: WireHeartbeatReply.self) { [weak self] result in
            guard let self, connection === self.connection, case .failure(let failure) = result else { return }
            // A JobManager that was replaced does not know this TaskManager: a new connection registers it again.
            logger.warning("a heartbeat failed; connecting again", metadata: ["reason": "\(failure)"])
            connection.close()
        }
        scheduleHeartbeat()
    }

    // MARK: Requests of the JobManager

    private func handlers() -> RPCHandlers {
        var handlers = RPCHandlers()
        handlers.onRequest(.startWorker) { [weak self] (_, request: WireStartWorker, reply: RPCReply<WireStartWorkerReply>) in
            self?.startWorker(request, reply)
        }
        handlers.onRequest(.stopWorker) { [weak self] (_, request: WireStopWorker, reply: RPCReply<WireEmpty>) in
            self?.stopWorker(request.worker, grace: .milliseconds(request.graceMs))
            // One that is not there has stopped: the state that was asked for.
            reply.send(WireEmpty())
        }
        handlers.onRequest(.readLog) { [weak self] (_, request: WireReadLog, reply: RPCReply<WireLogChunk>) in
            self?.readLog(request, reply)
        }
        return handlers
    }

    private func startWorker(_ request: WireStartWorker, _ reply: RPCReply<WireStartWorkerReply>) {
        guard isName(request.worker), isName(request.job) else {
            return reply.fail(.invalid, "worker \"\(request.worker)\" of job \"\(request.job)\": not a name")
        }
        guard !isStopping else { return reply.fail(.unavailable, "TaskManager \(options.resourceID) is shutting down") }
        if let entry = workers[request.worker] {
            guard case .running = entry.phase else {
                workers[request.worker]?.replies.append(reply)
                return
            }
            return reply.send(Self.started(entry))
        }
        guard workers.count < workersMax else {
            return reply.fail(.overloaded, "TaskManager \(options.resourceID) has \(workers.count) workers, the most for \(options.slots) slots")
        }
        let directory = options.logDirectory + "/" + request.job
        let name = request.attempt > 1 ? "\(request.worker)-\(request.attempt)" : request.worker
        let logPath = "\(directory)/\(name).err"
        workers[request.worker] = WorkerEntry(request: request, logPath: logPath, replies: [reply])
        logs.add(worker: request.worker, path: logPath)
        work.run { [self] in
            if let problem = makeDirectories(directory) { return failStart(request.worker, problem) }
            guard launcher.needsArtifact else { return launchIfWanted(request.worker, executable: "") }
            cache.artifact(sha256: request.artifactSha256, bytes: request.artifactBytes) { [self] result in
                switch result {
                case .success(let path): launchIfWanted(request.worker, executable: path)
                case .failure(let failure): failStart(request.worker, "cannot fetch the job's binary: \(failure)")
                }
            }
        }
    }

    private static func started(_ entry: WorkerEntry) -> WireStartWorkerReply {
        var reply = WireStartWorkerReply()
        reply.pid = entry.pid
        reply.logPath = entry.logPath
        return reply
    }

    /// From any thread: asks the loop whether the worker is still wanted, and spawns it on the work thread.
    private func launchIfWanted(_ worker: String, executable: String) {
        loop.run { [self] in
            guard let entry = workers[worker] else { return }
            guard !entry.stopRequested else { return failStart(worker, "it was stopped before it started") }
            let launch = WorkerLaunch(
                job: entry.request.job, worker: WorkerID(worker), executable: executable, arguments: entry.request.arguments,
                environment: environment(for: entry.request), standardOutputPath: String(entry.logPath.dropLast(4)) + ".out",
                standardErrorPath: entry.logPath)
            work.run { [self] in
                do {
                    let handle = try launcher.launch(launch) { [self] exit in loop.run { [self] in exited(worker, exit) } }
                    loop.run { [self] in launched(worker, handle) }
                } catch {
                    failStart(worker, "\(error)")
                }
            }
        }
    }

    private func launched(_ worker: String, _ handle: any RunningWorkerHandle) {
        guard var entry = workers[worker] else { return handle.stop(grace: .zero) }
        entry.phase = .running(handle)
        let replies = entry.replies
        entry.replies = []
        workers[worker] = entry
        logger.notice("worker started", metadata: ["worker.id": "\(worker)", "job.id": "\(entry.request.job)", "pid": "\(handle.pid)"])
        for reply in replies { reply.send(Self.started(entry)) }
        if let exit = entry.earlyExit { return exited(worker, exit) }
        if entry.stopRequested { handle.stop(grace: entry.grace) }
    }

    /// From any thread.
    private func failStart(_ worker: String, _ problem: String) {
        loop.perform { [self] in
            guard let entry = workers.removeValue(forKey: worker) else { return }
            logger.warning("worker not started", metadata: ["worker.id": "\(worker)", "job.id": "\(entry.request.job)", "reason": "\(problem)"])
            // The answer is the one report: where it cannot arrive, the JobManager has counted the worker as lost with the connection.
            for reply in entry.replies {
                reply.fail(.internal, "TaskManager \(options.resourceID) cannot start worker \(worker): \(problem)")
            }
            finishStopIfDone()
        }
    }

    private func exited(_ worker: String, _ exit: WorkerExit) {
        guard var entry = workers[worker] else { return }
        guard case .running = entry.phase else {
            entry.earlyExit = exit
            workers[worker] = entry
            return
        }
        workers[worker] = nil
        var message = exitMessage(worker, entry)
        switch exit.status {
        case .exited(let code): message.exitCode = code
        case .signaled(let number): message.signal = number
        }
        message.stderrTail = exit.standardErrorTail
        logger.notice(
            "worker ended", metadata: ["worker.id": "\(worker)", "job.id": "\(entry.request.job)", "status": "\(exit.status)"])
        report(message)
        finishStopIfDone()
    }

    private func exitMessage(_ worker: String, _ entry: WorkerEntry) -> WireWorkerExited {
        var message = WireWorkerExited()
        message.worker = worker
        message.job = entry.request.job
        message.pid = entry.pid
        message.logPath = entry.logPath
        message.taskManager = options.resourceID
        message.requested = entry.stopRequested
        return message
    }

    private func report(_ message: WireWorkerExited) {
        if let connection, isRegistered { return connection.sendOneWay(.workerExited, message) }
        unreported.append(message)
        if unreported.count > Self.unreportedMax { unreported.removeFirst() }
    }

    private func stopAll(grace: Duration) {
        for worker in workers.keys.sorted() { stopWorker(worker, grace: grace) }
    }

    private func stopWorker(_ worker: String, grace: Duration) {
        guard workers[worker] != nil else { return }
        workers[worker]?.stopRequested = true
        workers[worker]?.grace = grace
        if case .running(let handle)? = workers[worker]?.phase { handle.stop(grace: grace) }
    }

    /// The log of a worker: its stderr, or its stdout under its id and ".out".
    private func readLog(_ request: WireReadLog, _ reply: RPCReply<WireLogChunk>) {
        let wantsOutput = request.worker.hasSuffix(".out") && logs[request.worker] == nil
        let worker = wantsOutput ? String(request.worker.dropLast(4)) : request.worker
        guard let errors = logs[worker] else {
            return reply.fail(.notFound, "TaskManager \(options.resourceID) has no log of worker \(worker)")
        }
        let path = wantsOutput ? String(errors.dropLast(4)) + ".out" : errors
        let resourceID = options.resourceID
        work.run {
            guard var chunk = LogReader.read(path: path, request: request) else {
                return reply.fail(.notFound, "TaskManager \(resourceID) cannot read \(path)")
            }
            chunk.worker = worker
            chunk.taskManager = resourceID
            reply.send(chunk)
        }
    }

    /// This process's environment without its own settings, then the request's, then what only the TaskManager knows.
    private func environment(for request: WireStartWorker) -> [String: String] {
        var result = processEnvironment().filter { !$0.key.hasPrefix("WEIR_") }
        // Swift's backtracer keeps a crashed process alive for a second or more, and nobody can restart its job meanwhile: only for who asks.
        if result["SWIFT_BACKTRACE"] == nil { result["SWIFT_BACKTRACE"] = "enable=no" }
        result.merge(request.environment) { _, new in new }
        let own = [
            "WEIR_MODE": "worker", "WEIR_WORKER_ID": request.worker, "WEIR_JOB_ID": request.job,
            "WEIR_JOBMANAGER_HOST": request.jobManagerHost.isEmpty ? options.jobManagerHost : request.jobManagerHost,
            "WEIR_JOBMANAGER_PORT": String(request.jobManagerPort == 0 ? UInt32(options.jobManagerPort) : request.jobManagerPort),
            "WEIR_CLUSTER_ID": connection?.peer.clusterID ?? options.clusterID, "WEIR_TASKMANAGER_ID": options.resourceID,
            "WEIR_BIND_HOST": options.bindHost, "WEIR_DATA_HOST": options.dataHost, "WEIR_SLOTS": String(request.slots),
            "WEIR_PIN_SLOTS": String(options.pinsSlots),
        ]
        return result.merging(own) { _, new in new }
    }
}
