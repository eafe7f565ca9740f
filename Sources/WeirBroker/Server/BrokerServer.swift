import Logging
import WeirBase
import WeirKafkaWire
import WeirTransport

/// The listening socket and the connections. Used on the loop's thread.
final class BrokerServer {
    private unowned let broker: Broker
    private let listener: Listener
    private var connections: [ConnectionID: BrokerConnection] = [:]
    private var nextConnection: UInt64 = 1
    private let connectionsMax: Int
    private var flushing: [BrokerConnection] = []
    /// Where connections read small requests into; what they need of it they copy at once.
    let scratch = UnsafeMutableRawBufferPointer.allocate(byteCount: 64 << 10, alignment: 16)

    var address: SocketAddress { listener.address }
    var connectionCount: Int { connections.count }

    init(broker: Broker, host: String, port: UInt16) throws(BrokerFailure) {
        self.broker = broker
        connectionsMax = broker.properties.int("max.connections")
        do {
            listener = try Listener(host: host, port: port, loop: broker.loop, logger: broker.logger)
            try listener.start { [unowned self] descriptor, peer in accept(descriptor, peer) }
        } catch {
            throw BrokerFailure(error.description)
        }
        scheduleIdleSweep()
    }

    deinit { scratch.deallocate() }

    func stop() {
        listener.stop()
        closeAll()
    }

    /// Has a connection send its answers behind this round of events.
    func needsFlush(_ connection: BrokerConnection) {
        flushing.append(connection)
        guard flushing.count == 1 else { return }
        broker.afterRound { [weak self] in
            guard let self else { return }
            let connections = flushing
            flushing = []
            for connection in connections { connection.flushScheduled() }
        }
    }

    func authentication(of id: ConnectionID) -> SaslSession? { connections[id]?.authentication }

    /// Closes a connection once what is answered until then is sent.
    func closeAfterAnswers(_ id: ConnectionID) { connections[id]?.closesWhenAnswered = true }

    func closed(_ id: ConnectionID) { connections[id] = nil }

    func conditionsChanged() {
        if broker.conditions.refusesConnections { closeAll() }
        for id in connections.keys.sorted() { connections[id]?.conditionsChanged() }
    }

    private func closeAll() {
        for id in connections.keys.sorted() { connections[id]?.close() }
    }

    private func accept(_ descriptor: Int32, _ peer: SocketAddress) {
        let transport: any Transport
        do {
            transport = try broker.options.transports.accepted(descriptor)
        } catch {
            broker.logger.info("a connection is refused", metadata: ["client.address": "\(peer)", "error": "\(error)"])
            return
        }
        guard connections.count < connectionsMax, !broker.conditions.refusesConnections else {
            if connections.count >= connectionsMax {
                broker.logger.warning(
                    "a connection is refused: there are too many", metadata: ["client.address": "\(peer)", "connections.max": "\(connectionsMax)"])
            }
            return transport.close()
        }
        let id = ConnectionID(nextConnection)
        nextConnection += 1
        let connection = BrokerConnection(
            id: id, broker: broker, server: self, transport: transport, peer: peer, advertised: advertised(descriptor))
        do {
            try connection.open()
            connections[id] = connection
            connection.conditionsChanged()
        } catch {
            transport.close()
            broker.logger.error("a connection cannot be watched", metadata: ["client.address": "\(peer)", "error": "\(error)"])
        }
    }

    /// The address given to a client: the one set by property, or where it connected to, which it can reach whatever this host is bound to.
    private func advertised(_ descriptor: Int32) -> AdvertisedAddress {
        let text = broker.properties.string("advertised.listener")
        if let colon = text.lastIndex(of: ":"), let port = UInt16(text[text.index(after: colon)...]) {
            return AdvertisedAddress(host: String(text[..<colon]), port: port)
        }
        let local = SocketAddress.local(of: descriptor) ?? listener.address
        return AdvertisedAddress(host: local.host, port: local.port)
    }

    private func scheduleIdleSweep() {
        guard let idle = broker.properties.milliseconds("connections.max.idle.ms") else { return }
        broker.schedule(after: min(max(idle / 4, .milliseconds(10)), .seconds(10))) { [weak self] in
            guard let self else { return }
            for id in connections.keys.sorted() { connections[id]?.closeIfIdle(for: idle) }
            scheduleIdleSweep()
        }
    }
}
