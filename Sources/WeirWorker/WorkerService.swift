internal import SwiftProtobuf
internal import WeirGraph
internal import Glibc
package import Logging
internal import Synchronization
internal import WeirBase
internal import WeirDataflow
package import WeirStreams
package import WeirTransport
package import WeirWire

/// A worker on the network: registers with the JobManager, obeys it, and reports to it.
///
/// It lives as long as its connection to the JobManager: a worker that nobody directs would only hold resources and write to sinks.
package final class WorkerService: @unchecked Sendable {  // `client` and `runtime` are set once, before the loop runs any of their callbacks.
    private let settings: WorkerSettings
    private let loop: EventLoop
    private let logger: Logger
    private let onEnd: @Sendable (String) -> Void
    private let program: JobProgram
    private let exchange: DataExchange
    private var client: RPCClient?
    private var runtime: WorkerRuntime?
    private let hasEnded = Atomic<Bool>(false)

    /// Connects and registers.
    ///
    /// - Parameter onEnd: Called once, on the loop, when the JobManager is gone or refuses the worker.
    /// - Throws: ``TransportFailure`` when no data port can be bound.
    package init(
        settings: WorkerSettings, program: JobProgram, loop: EventLoop, logger: Logger, onEnd: @escaping @Sendable (String) -> Void
    ) throws {
        self.settings = settings
        self.program = program
        self.loop = loop
        self.logger = logger
        self.onEnd = onEnd
        var exchangeOptions = DataExchangeOptions()
        exchangeOptions.host = settings.bindHost
        exchange = try DataExchange(job: settings.job, options: exchangeOptions, logger: logger)
        let runtime = WorkerRuntime(
            job: settings.job, program: program, taskManager: settings.taskManager, exchange: exchange, pinsSlots: settings.pinsSlots,
            clock: SystemClock(), reports: self, logger: logger)
        self.runtime = runtime
        var seed = SystemRandomNumberGenerator()
        var options = RPCClientOptions(
            host: settings.jobManagerHost, port: settings.jobManagerPort,
            identity: RPCIdentity(role: .worker, clusterID: settings.clusterID, clientID: settings.worker, software: "weir 0.1.0"), seed: seed.next())
        options.reconnect = nil
        let client = RPCClient(loop: loop, options: options, handlers: Self.handlers(runtime), logger: logger) { [weak self] event in
            switch event {
            case .connected(let connection): self?.register(connection)
            case .disconnected(let failure, _): self?.end("the connection to the JobManager is lost: \(failure)")
            }
        }
        self.client = client
    }

    package func start() { client?.start() }

    /// Ends the tasks and the connection. Not from a slot's thread or the loop.
    package func stop() {
        hasEnded.store(true, ordering: .relaxed)
        runtime?.stop()
        exchange.shutDown()
        client?.close()
    }

    private func end(_ reason: String) {
        guard !hasEnded.exchange(true, ordering: .relaxed) else { return }
        onEnd(reason)
    }

    private func register(_ connection: RPCConnection) {
        var message = WireRegisterWorker()
        message.worker = settings.worker
        message.job = settings.job.description
        message.taskManager = settings.taskManager
        message.graphHash = program.jobGraph.hash
        message.dataHost = settings.dataHost
        message.dataPort = UInt32(exchange.port)
        message.pid = UInt32(getpid())
        message.slots = UInt32(settings.slots)
        connection.send(.registerWorker, payload: encoded(message), deadline: .seconds(10)) { [weak self] result in
            guard let self else { return }
            switch result {
            case .failure(let failure): end("the JobManager refuses the worker: \(failure)")
            case .success(let bytes):
                let interval = (try? WireRegisterWorkerReply(serializedBytes: bytes))?.heartbeatIntervalMs ?? 1_000
                beat(every: .milliseconds(max(interval, 10)))
            }
        }
    }

    private func beat(every interval: Duration) {
        guard !hasEnded.load(ordering: .relaxed) else { return }
        var message = WireHeartbeat()
        message.sender = settings.worker
        message.alignment = runtime?.alignment.minima ?? [:]
        client?.connection?.send(.heartbeat, payload: encoded(message), deadline: .seconds(30)) { [weak self] result in
            guard case .success(let bytes) = result, let reply = try? WireHeartbeatReply(serializedBytes: bytes) else { return }
            self?.runtime?.alignment.setRemote(reply.alignment)
        }
        if let metrics = runtime?.metrics() { send(.taskMetrics, encoded(metrics)) }
        _ = loop.schedule(after: interval) { [weak self] in self?.beat(every: interval) }
    }

    private static func handlers(_ runtime: WorkerRuntime) -> RPCHandlers {
        var handlers = RPCHandlers()
        handlers.onRequest(.deploy) { (_, message: WireDeploy, reply: RPCReply<WireEmpty>) in
            do throws(JobFailure) {
                try runtime.deploy(message)
                reply.send(WireEmpty())
            } catch {
                reply.fail(.invalid, error.message, hint: error.cause ?? "", failure: error.wire)
            }
        }
        handlers.onRequest(.cancelTasks) { (_, message: WireCancelTasks, reply: RPCReply<WireEmpty>) in
            runtime.cancel(Epoch(message.epoch))
            reply.send(WireEmpty())
        }
        handlers.onOneWay(.triggerCheckpoint) { (_, message: WireTriggerCheckpoint) in runtime.trigger(message) }
        handlers.onOneWay(.notifyCheckpointComplete) { (_, message: WireNotifyCheckpointComplete) in runtime.checkpointCompleted(message) }
        handlers.onOneWay(.notifyCheckpointAborted) { (_, message: WireNotifyCheckpointAborted) in runtime.checkpointAborted(message) }
        return handlers
    }
}

extension WorkerService: WorkerReports {
    package func send(_ kind: WireMessageKind, _ payload: [UInt8]) { client?.connection?.sendOneWay(kind, payload: payload) }
}
