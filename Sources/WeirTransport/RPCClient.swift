import CWeirSystem
package import Logging
import SwiftProtobuf
import Synchronization
import WeirBase
import WeirWire

/// Keeps a connection to a server: connects, shakes hands, and comes back after a loss, if its options say so.
///
/// Once started, it lives until ``close()``, until it gives up, or until the loop ends, also when nobody holds it.
package final class RPCClient: @unchecked Sendable {
    // @unchecked: `current` guards itself; the rest of the state is touched by the loop's thread alone.

    package enum Event: Sendable {
        /// Comes before any message of the connection.
        case connected(RPCConnection)
        /// A connection, or an attempt at one, failed. `retryIn` nil: the client has given up.
        case disconnected(RPCFailure, retryIn: Duration?)
    }

    package let options: RPCClientOptions
    private let loop: EventLoop
    private let handlers: RPCHandlers
    private let logger: Logger
    private let transports: any TransportProvider
    private let onEvent: @Sendable (Event) -> Void
    private let current = Mutex<RPCConnection?>(nil)

    // Loop-confined.
    private var identity: RPCIdentity
    private var connector: Connector?
    private var connecting: RPCConnection?
    private var retryTimer: TimerID?
    private var stopHandler: UInt64?
    private var failures = 0
    private var random: SplitMix64
    private var isStopped = false
    private var isStarted = false
    private var waiters: [@Sendable (Result<RPCConnection, RPCFailure>) -> Void] = []

    /// - Parameter onEvent: Called on the loop's thread.
    package init(
        loop: EventLoop, options: RPCClientOptions, handlers: RPCHandlers = RPCHandlers(), logger: Logger,
        transports: any TransportProvider = PlainTransportProvider(), onEvent: @escaping @Sendable (Event) -> Void = { _ in }
    ) {
        self.loop = loop
        self.options = options
        self.handlers = handlers
        self.logger = logger
        self.transports = transports
        self.onEvent = onEvent
        identity = options.identity
        random = SplitMix64(seed: options.seed)
    }

    /// The connection, while there is one.
    package var connection: RPCConnection? { current.withLock { $0 } }

    /// Starts connecting, once.
    package func start() {
        loop.perform { [self] in
            guard !isStarted, !isStopped else { return }
            isStarted = true
            stopHandler = loop.atStop { [weak self] in self?.close() }
            connect()
        }
    }

    /// Starts connecting, if that was not done, and waits for a connection.
    ///
    /// - Throws: The first failure of an attempt when the client does not reconnect; with reconnection, only when it gives up.
    package func connected() async throws(RPCFailure) -> RPCConnection {
        let result: Result<RPCConnection, RPCFailure> = await withCheckedContinuation { continuation in
            let accepted = loop.perform { [self] in
                if let connection { return continuation.resume(returning: .success(connection)) }
                guard !isStopped else {
                    return continuation.resume(returning: .failure(RPCFailure(.notConnected, "the client was closed")))
                }
                waiters.append { continuation.resume(returning: $0) }
                start()
            }
            if !accepted { continuation.resume(returning: .failure(RPCFailure(.closed, "the event loop has ended"))) }
        }
        return try result.get()
    }

    /// Ends the connection, and the attempts at one, for good.
    package func close() {
        loop.perform { [self] in
            stop()
            if let retryTimer { loop.cancel(retryTimer) }
            retryTimer = nil
            connector?.cancel()
            connector = nil
            let failure = RPCFailure(.closed, "the client was closed")
            connecting?.end(failure)
            connection?.end(failure)
            resume(.failure(failure))
        }
    }

    private func connect() {
        guard !isStopped else { return }
        connector = Connector.connect(
            loop: loop, host: options.host, port: options.port, timeout: options.connectTimeout
        ) { [self] result in
            connector = nil
            switch result {
            case .success(let descriptor): shakeHands(descriptor)
            case .failure(let failure):
                failed(RPCFailure(.notConnected, failure.description, hint: "is the server running, and is the address right?"))
            }
        }
    }

    private func shakeHands(_ descriptor: Int32) {
        weir_socket_tune(descriptor, Int32(clamping: options.limits.unreachableTimeout.clampedNanoseconds / 1_000_000))
        let connection: RPCConnection
        do {
            connection = RPCConnection(
                loop: loop, transport: try transports.connected(descriptor, host: options.host),
                remoteAddress: "\(options.host):\(options.port)", identity: identity, limits: options.limits, handlers: handlers,
                logger: logger)
            try connection.attach { [self, weak connection] failure in
                guard let connection else { return }
                ended(connection, failure)
            }
        } catch {
            return failed(RPCFailure(.notConnected, error.description))
        }
        connecting = connection
        connection.onHandshakeFrame = { [weak self, weak connection] frame in
            guard let self, let connection else { return }
            handshakeReply(connection, frame)
        }
        connection.startHandshake(RPCHandshake.message(identity))
    }

    private func handshakeReply(_ connection: RPCConnection, _ frame: Frame) {
        guard frame.type.isResponse, frame.messageKind == .handshake else {
            return connection.end(RPCFailure(.protocolViolation, "the server did not answer the handshake"))
        }
        if frame.type == .errorResponse {
            guard let reply = try? WireErrorReply(serializedBytes: frame.payload) else {
                return connection.end(RPCFailure(.protocolViolation, "the server's refusal does not parse"))
            }
            return connection.end(RPCFailure(reply: reply))
        }
        guard let reply = try? WireHandshakeReply(serializedBytes: frame.payload) else {
            return connection.end(RPCFailure(.protocolViolation, "the handshake reply does not parse"))
        }
        if let failure = RPCHandshake.check(reply, identity: identity) { return connection.end(failure) }
        // From here on another cluster at the same address is noticed.
        identity.clusterID = reply.clusterID
        connection.open(
            as: RPCPeer(
                role: reply.role, clusterID: reply.clusterID, clientID: "", software: reply.software, version: reply.version,
                address: connection.remoteAddress))
        connecting = nil
        failures = 0
        current.withLock { $0 = connection }
        onEvent(.connected(connection))
        resume(.success(connection))
    }

    private func ended(_ connection: RPCConnection, _ failure: RPCFailure) {
        if connecting === connection { connecting = nil }
        current.withLock { if $0 === connection { $0 = nil } }
        failed(failure)
    }

    private func failed(_ failure: RPCFailure) {
        failures += 1
        guard let backoff = options.reconnect, !isStopped, !failure.isPermanent, !loop.isStopping else {
            stop()
            onEvent(.disconnected(failure, retryIn: nil))
            return resume(.failure(failure))
        }
        let delay = backoff.delay(attempt: failures, using: &random)
        logger.info(
            "not connected, trying again",
            metadata: [
                "peer": "\(options.host):\(options.port)", "reason": "\(failure.message)", "attempt": "\(failures)",
                "retry.in": "\(delay)",
            ])
        onEvent(.disconnected(failure, retryIn: delay))
        guard !isStopped else { return }
        retryTimer = loop.schedule(after: delay) { [self] in
            retryTimer = nil
            connect()
        }
    }

    private func stop() {
        isStopped = true
        if let stopHandler { loop.cancelAtStop(stopHandler) }
        stopHandler = nil
    }

    private func resume(_ result: Result<RPCConnection, RPCFailure>) {
        let waiting = waiters
        waiters = []
        for waiter in waiting { waiter(result) }
    }
}
