import CWeirSystem
package import Logging
import Synchronization
package import WeirBase

/// The data connections of one worker process with the job's other workers: one listening port, one network thread, one connection for
/// each worker that it sends to.
package final class DataExchange: @unchecked Sendable {
    // @unchecked: `epochs`, `waiting` and `latest` are touched by the loop's thread alone; all else never changes or guards itself.
    package let options: DataExchangeOptions
    package let job: JobID
    let loop: EventLoop
    let transports: any TransportProvider
    private let listener: Listener
    private let logger: Logger
    private let totals = ExchangeCounters()

    private var epochs: [Epoch: ExchangeEpoch] = [:]
    private var waiting: [ObjectIdentifier: (receiver: ExchangeReceiver, hello: ExchangeHello?)] = [:]
    /// The highest epoch that was begun here.
    private var latest: Epoch?

    /// Listens and starts the network thread.
    ///
    /// - Throws: When the address cannot be bound.
    package init(
        job: JobID, options: DataExchangeOptions = DataExchangeOptions(), logger: Logger,
        transports: any TransportProvider = PlainTransportProvider()
    ) throws(TransportFailure) {
        precondition(options.creditsPerChannel > 0 && options.bufferBytes > 0, "a channel without credits moves nothing")
        self.job = job
        self.options = options
        self.logger = logger
        self.transports = transports
        let loop = try EventLoop(name: "weir-network")
        self.loop = loop
        do {
            listener = try Listener(host: options.host, port: options.port, loop: loop, logger: logger)
        } catch {
            loop.shutDown()
            throw error
        }
        loop.run { [self] in
            do {
                try listener.start { [weak self] descriptor, peer in self?.accept(descriptor, peer) }
            } catch {
                logger.error("cannot accept data connections", metadata: ["error": "\(error)"])
            }
        }
    }

    /// The port that it listens on, also when the options said 0.
    package var port: UInt16 { listener.address.port }

    package var counters: DataExchangeCounters { totals.values }

    /// Prepares an epoch. Connections of older ones that come from now on are refused; end those that are open by
    /// ``ExchangeEpoch/close()``.
    ///
    /// - Parameters:
    ///   - worker: This worker's number within the epoch.
    ///   - peers: The epoch's workers; this one may be among them.
    ///   - onFailure: Called at most once, on the network thread, when a connection is lost or cannot be made, unless the epoch was
    ///     closed before.
    package func beginEpoch(
        _ epoch: Epoch, worker: UInt32, peers: [ExchangePeer], onFailure: @escaping @Sendable (ExchangeFailure) -> Void
    ) -> ExchangeEpoch {
        ExchangeEpoch(epoch: epoch, worker: worker, peers: peers, exchange: self, onFailure: onFailure)
    }

    /// Closes every connection and ends the network thread, whose end it waits for. Nothing of the exchange is used afterwards.
    package func shutDown() {
        loop.run { [self] in
            listener.stop()
            for epoch in epochs.values.sorted(by: { $0.epoch < $1.epoch }) { epoch.shut() }
        }
        loop.shutDown()
    }

    // MARK: On the loop's thread

    func makeSender(to peer: ExchangePeer, of epoch: ExchangeEpoch, outputs: [RemoteOutput]) -> ExchangeSender {
        ExchangeSender(
            peer: peer, outputs: outputs, epoch: epoch,
            hello: ExchangeHello(job: job, epoch: epoch.epoch, sender: epoch.worker, receiver: peer.index, token: options.token),
            loop: loop, options: options, counters: totals)
    }

    func activated(_ epoch: ExchangeEpoch) {
        if let other = epochs[epoch.epoch], other !== epoch { other.shut() }
        epochs[epoch.epoch] = epoch
        latest = max(latest ?? epoch.epoch, epoch.epoch)
        epoch.connectSenders()
        // Other workers may have been faster than the message that told this one.
        let parked = waiting.values.compactMap { entry in entry.hello.map { (entry.receiver, $0) } }
        for (receiver, hello) in parked { decide(receiver, hello) }
    }

    func ended(_ epoch: ExchangeEpoch) {
        if epochs[epoch.epoch] === epoch { epochs[epoch.epoch] = nil }
    }

    private func accept(_ descriptor: Int32, _ peer: SocketAddress) {
        do {
            tune(descriptor, options)
            let transport = try transports.accepted(descriptor)
            guard waiting.count < options.waitingConnectionsMax else {
                transport.close()
                return log(peer.description, "more than \(options.waitingConnectionsMax) connections wait for their epoch")
            }
            let receiver = try ExchangeReceiver(
                transport: transport, address: peer.description, loop: loop, options: options, counters: totals,
                onHello: { [weak self] receiver, hello in
                    guard let self else { return }
                    waiting[ObjectIdentifier(receiver)] = (receiver, hello)
                    decide(receiver, hello)
                },
                onEnd: { [weak self] receiver, reason in
                    guard let self, waiting.removeValue(forKey: ObjectIdentifier(receiver)) != nil else { return }
                    log(receiver.address, reason)
                })
            waiting[ObjectIdentifier(receiver)] = (receiver, nil)
        } catch {
            log(peer.description, "\(error)")
        }
    }

    private func decide(_ receiver: ExchangeReceiver, _ hello: ExchangeHello) {
        var refusal: ExchangeHelloReply?
        if !hello.versions.contains(ExchangeHeader.version) {
            refusal = ExchangeHelloReply(.incompatible, "this side speaks version \(ExchangeHeader.version) of the data channel")
        } else if hello.token != options.token {
            refusal = ExchangeHelloReply(.unauthenticated, "the token is wrong")
        } else if hello.job != job {
            refusal = ExchangeHelloReply(.otherJob, "this worker runs job \(job), not \(hello.job)")
        } else if let epoch = epochs[hello.epoch] {
            waiting[ObjectIdentifier(receiver)] = nil
            return epoch.decide(receiver, hello)
        } else if let latest, hello.epoch <= latest {
            refusal = ExchangeHelloReply(.staleEpoch, "epoch \(hello.epoch) is over, this worker is at \(latest)")
        }
        guard let refusal else { return }  // A later epoch: the connection waits for it.
        waiting[ObjectIdentifier(receiver)] = nil
        log(receiver.address, refusal.message)
        receiver.refuse(refusal)
    }

    private func log(_ peer: String, _ reason: String) {
        logger.warning("data connection refused", metadata: ["peer": "\(peer)", "reason": "\(reason)", "job.id": "\(job)"])
    }
}

/// Totals that the network thread counts and anyone reads.
final class ExchangeCounters: Sendable {
    private let framesSent = Atomic<UInt64>(0)
    private let bytesSent = Atomic<UInt64>(0)
    private let framesReceived = Atomic<UInt64>(0)
    private let bytesReceived = Atomic<UInt64>(0)

    func sent(frames: UInt64, bytes: UInt64) {
        framesSent.add(frames, ordering: .relaxed)
        bytesSent.add(bytes, ordering: .relaxed)
    }

    func received(bytes: UInt64) { bytesReceived.add(bytes, ordering: .relaxed) }
    func receivedFrame() { framesReceived.add(1, ordering: .relaxed) }

    var values: DataExchangeCounters {
        DataExchangeCounters(
            framesSent: framesSent.load(ordering: .relaxed), bytesSent: bytesSent.load(ordering: .relaxed),
            framesReceived: framesReceived.load(ordering: .relaxed), bytesReceived: bytesReceived.load(ordering: .relaxed))
    }
}

func tune(_ descriptor: Int32, _ options: DataExchangeOptions) {
    weir_socket_tune(descriptor, Int32(clamping: options.unreachableTimeout.clampedNanoseconds / 1_000_000))
}
