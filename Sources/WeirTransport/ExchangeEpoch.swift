import Synchronization
package import WeirBase

/// A data connection of an epoch ended, or could not be made.
package struct ExchangeFailure: Error, Sendable, Equatable, CustomStringConvertible {
    /// The other worker's number within the epoch.
    package var peer: UInt32
    package var worker: WorkerID
    package var message: String

    package var description: String { "lost the data connection with worker \(worker): \(message)" }
}

/// The channels of one worker in one epoch.
///
/// Open them all, then ``activate()``: from then on channels of other workers are admitted and own ones connected. ``close()`` ends all.
package final class ExchangeEpoch: @unchecked Sendable {
    // @unchecked: `setup` and `report` guard themselves; `senders`, `receivers`, `inputs` and `phase` are touched by the loop's thread
    // alone.
    private struct Setup {
        var outputs: [UInt32: [RemoteOutput]] = [:]
        var inputs: [UInt32: [RemoteInput]] = [:]
        var isActivated = false
    }

    enum Phase { case new, active, closed }

    package let epoch: Epoch
    package let worker: UInt32
    let peers: [UInt32: ExchangePeer]
    private let exchange: DataExchange
    private let setup = Mutex(Setup())
    private let report: Mutex<(@Sendable (ExchangeFailure) -> Void)?>

    // Loop-confined.
    private(set) var phase = Phase.new
    private var senders: [ExchangeSender] = []
    private var receivers: [UInt32: ExchangeReceiver] = [:]
    private var inputs: [UInt32: [RemoteInput]] = [:]

    init(
        epoch: Epoch, worker: UInt32, peers: [ExchangePeer], exchange: DataExchange,
        onFailure: @escaping @Sendable (ExchangeFailure) -> Void
    ) {
        self.epoch = epoch
        self.worker = worker
        self.peers = Dictionary(peers.map { ($0.index, $0) }) { first, _ in first }
        self.exchange = exchange
        report = Mutex(onFailure)
    }

    /// Makes the sending end of a channel; its number is used once between two workers.
    ///
    /// - Parameters:
    ///   - peer: The receiving worker's number; one of the epoch's peers.
    ///   - wake: Called from the network thread when ``RemoteOutput/trySend(_:)`` is worth another try after it returned false.
    /// - Precondition: The epoch is not activated yet.
    package func openOutput(channel: UInt32, to peer: UInt32, wake: @escaping @Sendable () -> Void) -> RemoteOutput {
        precondition(peers[peer] != nil, "worker \(peer) is not part of the epoch")
        let output = RemoteOutput(channel: channel, options: exchange.options, wake: wake)
        setup.withLock { setup in
            precondition(!setup.isActivated, "channels are opened before the epoch is activated")
            setup.outputs[peer, default: []].append(output)
        }
        return output
    }

    /// Makes the receiving end of a channel.
    ///
    /// - Parameters:
    ///   - peer: The sending worker's number; one of the epoch's peers.
    ///   - wake: Called from the network thread when the first frame comes to an empty queue.
    /// - Precondition: The epoch is not activated yet.
    package func openInput(channel: UInt32, from peer: UInt32, wake: @escaping @Sendable () -> Void) -> RemoteInput {
        precondition(peers[peer] != nil, "worker \(peer) is not part of the epoch")
        let input = RemoteInput(channel: channel, options: exchange.options, wake: wake)
        setup.withLock { setup in
            precondition(!setup.isActivated, "channels are opened before the epoch is activated")
            setup.inputs[peer, default: []].append(input)
        }
        return input
    }

    /// Connects to the workers that own channels lead to, and admits those that channels come from.
    package func activate() {
        let (outputs, inputs) = setup.withLock { setup in
            setup.isActivated = true
            return (setup.outputs, setup.inputs)
        }
        exchange.loop.perform { [self] in
            guard phase == .new else { return }
            phase = .active
            self.inputs = inputs
            for index in outputs.keys.sorted() {
                guard let peer = peers[index], let outputs = outputs[index] else { continue }
                let sender = exchange.makeSender(to: peer, of: self, outputs: outputs)
                senders.append(sender)
            }
            exchange.activated(self)
        }
    }

    /// Ends all channels: outputs take nothing more, inputs give nothing more, no failure is reported from here on.
    package func close() {
        report.withLock { $0 = nil }
        let (outputs, inputs) = setup.withLock { setup in
            setup.isActivated = true
            return (setup.outputs, setup.inputs)
        }
        for output in outputs.values.joined() { output.close() }
        for input in inputs.values.joined() { input.close() }
        exchange.loop.perform { [self] in shut() }
    }

    func shut() {
        guard phase != .closed else { return }
        phase = .closed
        for sender in senders { sender.close(sayingGoodbye: true) }
        for receiver in receivers.values { receiver.close(sayingGoodbye: true) }
        senders = []
        receivers = [:]
        inputs = [:]
        exchange.ended(self)
    }

    func connectSenders() {
        for sender in senders { sender.connect(transports: exchange.transports) }
    }

    /// Decides on a connection whose hello names this job and epoch.
    func decide(_ receiver: ExchangeReceiver, _ hello: ExchangeHello) {
        guard hello.receiver == worker, let sender = peers[hello.sender] else {
            return receiver.refuse(
                ExchangeHelloReply(
                    .unknownWorker, "worker \(hello.sender) means worker \(hello.receiver) of epoch \(epoch), this is worker \(worker)"))
        }
        guard receivers[hello.sender] == nil else {
            return receiver.refuse(ExchangeHelloReply(.duplicate, "worker \(hello.sender) is connected already"))
        }
        receivers[hello.sender] = receiver
        receiver.admit(to: self, sender: sender, inputs: inputs[hello.sender] ?? [])
    }

    /// Reports the first failure; the epoch is over then, and those that follow say nothing new.
    func fail(_ failure: ExchangeFailure) {
        let report = report.withLock { $0.take() }
        report?(failure)
    }
}
