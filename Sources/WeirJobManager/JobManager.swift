internal import Dispatch
internal import Glibc
package import Logging
internal import Synchronization
package import WeirBase
internal import WeirControl
internal import WeirTransport
internal import WeirWire

/// A running JobManager: its RPC server and its core, on one loop thread, and one thread for storage.
package final class JobManager: Sendable {
    package static let software = "weir 0.1.0"

    private let loop: EventLoop
    private let core: JobManagerCore
    private let server: RPCServer
    package let port: UInt16
    package let storageDirectory: String

    /// Binds the port, takes up the jobs of an earlier JobManager with the same storage directory, and serves.
    ///
    /// - Parameter usesArtifacts: False in the embedded cluster, whose workers need no binary.
    /// - Throws: ``ConfigurationError``, ``TransportFailure`` when the address cannot be bound, ``JobFailure`` when the storage directory
    ///   cannot be used.
    package init(configuration: Configuration, logger: Logger, usesArtifacts: Bool = true) throws {
        let directory = Self.storageDirectory(configuration)
        storageDirectory = directory
        let store = try JobStore(directory: directory, checkpoints: configuration.string("execution.checkpointing.dir"), usesArtifacts: usesArtifacts)
        let loop = try EventLoop(name: "jobmanager")
        let environment = JobManagerThreads(loop: loop)
        var seed = SystemRandomNumberGenerator()
        let core = try JobManagerCore(
            configuration: configuration, jobStore: store, environment: environment, seed: seed.next(), logger: logger)
        self.loop = loop
        self.core = core
        let clusterID = configuration.string("cluster.id") ?? "weir"
        var options = RPCServerOptions(
            identity: RPCIdentity(role: .jobManager, clusterID: clusterID, clientID: "jobmanager", software: Self.software))
        options.host = configuration.string("jobmanager.bind-host") ?? "127.0.0.1"
        options.port = UInt16(clamping: configuration.integer("jobmanager.rpc.port") ?? 6123)
        let peers = PeerTable()
        server = try RPCServer(
            loop: loop, options: options, handlers: Self.handlers(core, peers), logger: logger,
            onOpen: { peers.add($0) },
            onClose: { connection, failure in
                if let peer = peers.remove(connection) { core.disconnected(peer, reason: failure.message) }
            })
        port = server.port
        loop.run {
            core.start()
            core.recover()
        }
    }

    /// Stops serving and ends the threads. Jobs go on nowhere: their workers end when the connection closes, and are taken up again by the next
    /// JobManager with this storage directory.
    package func stop() {
        loop.run { [core] in core.isStopping = true }
        server.stop()
        loop.shutDown()
    }

    /// `jobmanager.storage.dir`, or a directory of the user's own below `io.tmp.dirs`.
    package static func storageDirectory(_ configuration: Configuration) -> String {
        configuration.string("jobmanager.storage.dir") ?? "\(configuration.string("io.tmp.dirs") ?? "/tmp")/weir-jobmanager-\(getuid())"
    }

    private static func handlers(_ core: JobManagerCore, _ peers: PeerTable) -> RPCHandlers {
        var handlers = RPCHandlers()
        let taskManager: Set<WireRole> = [.taskManager]
        let worker: Set<WireRole> = [.worker]
        let client: Set<WireRole> = [.client]
        let requests: [(WireMessageKind, Set<WireRole>)] = [
            (.registerTaskManager, taskManager), (.registerWorker, worker), (.heartbeat, [.taskManager, .worker]), (.fetchArtifact, taskManager),
            (.submitJob, client), (.listJobs, client), (.getJob, client), (.cancelJob, client), (.fetchLogs, client), (.getCluster, client),
            (.beginUpload, client), (.uploadChunk, client), (.triggerSavepoint, client), (.getCheckpoints, client),
        ]
        for (kind, roles) in requests {
            handlers.onRawRequest(kind, from: roles) { connection, payload, responder in
                guard let peer = peers[connection] else { return }
                core.receive(
                    kind, payload, from: peer,
                    Responder { result in
                        switch result {
                        case .success(let bytes): responder.reply(payload: bytes)
                        case .failure(let refusal): responder.fail(refusal.code, refusal.message, hint: refusal.hint)
                        }
                    })
            }
        }
        let oneWays: [(WireMessageKind, Set<WireRole>)] = [
            (.workerExited, taskManager), (.taskStateChanged, worker), (.acknowledgeCheckpoint, worker), (.declineCheckpoint, worker),
            (.restoreFailed, worker), (.taskMetrics, worker),
        ]
        for (kind, roles) in oneWays {
            handlers.onRawOneWay(kind, from: roles) { connection, payload in
                guard let peer = peers[connection] else { return }
                core.receive(kind, payload, from: peer, nil)
            }
        }
        return handlers
    }
}

/// The JobManager's peers by connection.
private final class PeerTable: Sendable {
    private let table = Mutex<[ObjectIdentifier: ConnectionPeer]>([:])
    func add(_ connection: RPCConnection) { table.withLock { $0[ObjectIdentifier(connection)] = ConnectionPeer(connection) } }
    func remove(_ connection: RPCConnection) -> ConnectionPeer? { table.withLock { $0.removeValue(forKey: ObjectIdentifier(connection)) } }
    subscript(_ connection: RPCConnection) -> ConnectionPeer? { table.withLock { $0[ObjectIdentifier(connection)] } }
}

private final class ConnectionPeer: Peer {
    /// Deploying and starting workers moves files; everything else answers at once.
    private static let deadline = Duration.seconds(60)
    private let connection: RPCConnection
    init(_ connection: RPCConnection) { self.connection = connection }

    var label: String { "\(connection.peer)" }
    func send(_ kind: WireMessageKind, _ payload: [UInt8]) { connection.sendOneWay(kind, payload: payload) }
    func request(_ kind: WireMessageKind, _ payload: [UInt8], completion: @escaping @Sendable (Result<[UInt8], RequestFailure>) -> Void) {
        connection.send(kind, payload: payload, deadline: Self.deadline) { result in
            completion(result.mapError { RequestFailure(message: "\($0)") })
        }
    }
    func close(reason: String) { connection.close() }
}

/// The loop, its timers and the storage thread.
private final class JobManagerThreads: JobManagerEnvironment, @unchecked Sendable {  // `timers` is used on the loop alone.
    let clock: any WeirClock = SystemClock()
    private let loop: EventLoop
    private let storage = DispatchQueue(label: "weir.jobmanager.storage")
    private var timers: [WeirControl.TimerID: WeirTransport.TimerID] = [:]

    init(loop: EventLoop) { self.loop = loop }

    func setTimer(_ timer: WeirControl.TimerID, after delay: Duration, _ body: @escaping @Sendable () -> Void) {
        cancelTimer(timer)
        timers[timer] = loop.schedule(after: delay) { [weak self] in
            self?.timers[timer] = nil
            body()
        }
    }

    func cancelTimer(_ timer: WeirControl.TimerID) {
        if let running = timers.removeValue(forKey: timer) { loop.cancel(running) }
    }

    func store<Value: Sendable>(_ work: @escaping @Sendable () -> Value, then: @escaping @Sendable (Value) -> Void) {
        let loop = loop
        storage.async {
            let value = work()
            loop.run { then(value) }
        }
    }

    func randomID() -> JobID {
        var random = SystemRandomNumberGenerator()
        return JobID(high: random.next(), low: random.next())
    }
}
