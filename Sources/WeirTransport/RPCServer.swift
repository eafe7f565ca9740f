import CWeirSystem
package import Logging
import SwiftProtobuf
import Synchronization
import WeirWire

/// Listens for connections of the RPC, checks their handshakes and serves them on one event loop.
package final class RPCServer: @unchecked Sendable {
    // @unchecked: `connections` and `refused` are touched by the loop's thread alone; all else never changes.
    package let options: RPCServerOptions
    private let loop: EventLoop
    private let handlers: RPCHandlers
    private let logger: Logger
    private let transports: any TransportProvider
    private let onOpen: @Sendable (RPCConnection) -> Void
    private let onClose: @Sendable (RPCConnection, RPCFailure) -> Void
    private let listener: Listener

    private var connections: [ObjectIdentifier: RPCConnection] = [:]
    private var isStopped = false

    /// Binds the port and starts to serve.
    ///
    /// - Parameters:
    ///   - onOpen: Called on the loop's thread after a handshake, before any message of the connection.
    ///   - onClose: Called on the loop's thread once for each connection that was opened, as soon as it ended.
    /// - Throws: When the address cannot be bound.
    /// - Important: Blocks while the host's name is resolved.
    package init(
        loop: EventLoop, options: RPCServerOptions, handlers: RPCHandlers, logger: Logger,
        transports: any TransportProvider = PlainTransportProvider(),
        onOpen: @escaping @Sendable (RPCConnection) -> Void = { _ in },
        onClose: @escaping @Sendable (RPCConnection, RPCFailure) -> Void = { _, _ in }
    ) throws(TransportFailure) {
        self.loop = loop
        self.options = options
        self.handlers = handlers
        self.logger = logger
        self.transports = transports
        self.onOpen = onOpen
        self.onClose = onClose
        listener = try Listener(host: options.host, port: options.port, loop: loop, logger: logger)
        loop.run { [self] in
            do {
                try listener.start { [weak self] descriptor, peer in self?.accept(descriptor, peer) }
            } catch {
                logger.error("cannot accept connections", metadata: ["error": "\(error)"])
            }
        }
    }

    /// The port that it listens on, also when the options said 0.
    package var port: UInt16 { listener.address.port }

    /// Where it listens, numeric.
    package var address: String { listener.address.description }

    /// Stops listening and ends all connections.
    package func stop() {
        loop.perform { [self] in
            isStopped = true
            listener.stop()
            let open = Array(connections.values)
            for connection in open { connection.close(RPCFailure(.closed, "the server stops")) }
        }
    }

    private func accept(_ descriptor: Int32, _ peer: SocketAddress) {
        let transport: any Transport
        do {
            transport = try transports.accepted(descriptor)
        } catch {
            return log("connection refused", peer.description, "\(error)")
        }
        // Beyond the limit, a few connections are kept just long enough to say so.
        guard connections.count < options.connectionsMax + 16, !isStopped else {
            transport.close()
            return log("connection refused", peer.description, "more than \(options.connectionsMax) connections are open")
        }
        let isOver = connections.count >= options.connectionsMax
        weir_socket_tune(descriptor, Int32(clamping: options.limits.unreachableTimeout.clampedNanoseconds / 1_000_000))
        let connection = RPCConnection(
            loop: loop, transport: transport, remoteAddress: peer.description, identity: options.identity, limits: options.limits,
            handlers: handlers, logger: logger)
        let key = ObjectIdentifier(connection)
        connection.onHandshakeFrame = { [weak self, weak connection] frame in
            guard let self, let connection else { return }
            handshake(connection, frame, isOver: isOver)
        }
        do {
            try connection.attach { [weak self, weak connection] failure in
                guard let self, let connection else { return }
                connections[key] = nil
                ended(connection, failure)
            }
            connections[key] = connection
        } catch {
            transport.close()
            log("connection refused", peer.description, "\(error)")
        }
    }

    private func handshake(_ connection: RPCConnection, _ frame: Frame, isOver: Bool) {
        guard frame.type == .request, frame.messageKind == .handshake,
            let handshake = try? WireHandshake(serializedBytes: frame.payload)
        else { return connection.end(RPCFailure(.protocolViolation, "the first frame is no handshake")) }
        var verdict = RPCHandshake.judge(handshake, identity: options.identity, acceptedRoles: options.acceptedRoles)
        if isOver, case .success = verdict {
            verdict = .failure(
                RPCFailure(.refused(.overloaded), "more than \(options.connectionsMax) connections are open", hint: "try again later"))
        }
        switch verdict {
        case .success(let version):
            connection.open(
                as: RPCPeer(
                    role: handshake.role, clusterID: handshake.clusterID, clientID: handshake.clientID, software: handshake.software,
                    version: version, address: connection.remoteAddress))
            let reply = RPCHandshake.reply(options.identity, version: version, limits: options.limits)
            connection.responder(toHandshake: frame).reply(payload: (try? reply.serializedBytes()) ?? [])
            onOpen(connection)
        case .failure(let failure):
            // A wrong magic is not a peer that would understand a reply.
            guard case .refused(let code) = failure.kind else { return connection.end(failure) }
            log("handshake refused", connection.remoteAddress, failure.message)
            connection.responder(toHandshake: frame).fail(code, failure.message, hint: failure.hint)
            connection.endAfterFlush()
        }
    }

    private func ended(_ connection: RPCConnection, _ failure: RPCFailure) {
        let wasOpen = connection.peer.version > 0
        if failure.kind == .protocolViolation || failure.kind == .overloaded {
            log("connection closed", "\(connection.peer)", failure.message)
        } else {
            logger.debug(
                "connection ended", metadata: ["peer": "\(connection.peer)", "reason": "\(failure.message)"])
        }
        if wasOpen { onClose(connection, failure) }
    }

    private func log(_ message: Logger.Message, _ peer: String, _ reason: String) {
        logger.warning(message, metadata: ["peer": "\(peer)", "reason": "\(reason)"])
    }
}
