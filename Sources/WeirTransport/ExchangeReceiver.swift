import Glibc
import Synchronization
import WeirBase
import WeirWire

/// The connection from one other worker: hands its frames to the channels, and sends their credits back.
final class ExchangeReceiver: EventHandler, @unchecked Sendable {
    // @unchecked: `owing` guards itself; all else that changes is touched by the loop's thread alone.
    private struct Owing {
        var inputs: [RemoteInput] = []
        var isScheduled = false
    }

    private enum Phase {
        /// Nothing but a hello is taken.
        case hello
        /// The hello names an epoch that this worker does not know yet.
        case waiting
        case open
        /// What is queued is sent, then the connection ends.
        case closing
        case closed
    }

    let address: String
    private let loop: EventLoop
    private let options: DataExchangeOptions
    private let counters: ExchangeCounters
    private let port: StreamPort
    private let owing = Mutex(Owing())
    /// Decides on a hello: later, by ``admit(to:inputs:)`` or ``refuse(_:)``.
    private let onHello: (ExchangeReceiver, ExchangeHello) -> Void
    /// Called once, when a connection ends that was not admitted.
    private let onEnd: (ExchangeReceiver, String) -> Void

    // Loop-confined.
    private var phase = Phase.hello
    private var timer: TimerID?
    private var epoch: ExchangeEpoch?
    private(set) var sender: ExchangePeer?
    private var inputs: [UInt32: RemoteInput] = [:]
    private var input = FrameBuffer(capacity: 4 << 10)
    private var output: [UInt8] = []
    private var outputOffset = 0

    init(
        transport: any Transport, address: String, loop: EventLoop, options: DataExchangeOptions, counters: ExchangeCounters,
        onHello: @escaping (ExchangeReceiver, ExchangeHello) -> Void, onEnd: @escaping (ExchangeReceiver, String) -> Void
    ) throws(TransportFailure) {
        self.address = address
        self.loop = loop
        self.options = options
        self.counters = counters
        self.onHello = onHello
        self.onEnd = onEnd
        port = StreamPort(loop: loop, transport: transport)
        try port.attach(self)
        timer = loop.schedule(after: options.connectTimeout) { [weak self] in self?.end("no hello in time") }
    }

    // MARK: From any thread

    /// A channel has credits to give back. It is called once until ``RemoteInput/takeOwed()`` took them.
    func markOwing(_ input: RemoteInput) {
        let schedules = owing.withLock { owing in
            owing.inputs.append(input)
            defer { owing.isScheduled = true }
            return !owing.isScheduled
        }
        if schedules { loop.run { [weak self] in self?.payCredits() } }
    }

    // MARK: On the loop's thread

    func ready(_ events: IOEvents) {
        if port.shouldWrite(on: events) { flush() }
        if port.shouldRead(on: events) { receive() }
    }

    func loopStopped() { close(sayingGoodbye: false) }

    /// Answers the hello and grants every channel its credits.
    func admit(to epoch: ExchangeEpoch, sender: ExchangePeer, inputs: [RemoteInput]) {
        guard phase == .waiting else { return }
        cancelTimer()
        phase = .open
        self.epoch = epoch
        self.sender = sender
        input.baseCapacity = 256 << 10
        let reply = ExchangeHelloReply(.accepted).encoded()
        ExchangeHeader(payloadBytes: reply.count, channel: 0, sequence: 0, kind: .helloReply).append(reply, to: &output)
        for input in inputs {
            self.inputs[input.channel] = input
            let units = input.attach(self)
            ExchangeHeader(payloadBytes: 0, channel: input.channel, sequence: units, kind: .credit).append(to: &output)
        }
        flush()
    }

    func refuse(_ verdict: ExchangeHelloReply) {
        guard phase == .waiting else { return }
        cancelTimer()
        phase = .closing
        let reply = verdict.encoded()
        ExchangeHeader(payloadBytes: reply.count, channel: 0, sequence: 0, kind: .helloReply).append(reply, to: &output)
        timer = loop.schedule(after: .seconds(2)) { [weak self] in self?.end("refused") }
        flush()
    }

    private func payCredits() {
        // While the peer does not read, the list keeps each channel once: that bounds what waits for it.
        guard phase == .open, output.isEmpty else { return }
        let inputs = owing.withLock { owing in
            owing.isScheduled = false
            let taken = owing.inputs
            owing.inputs = []
            return taken
        }
        for input in inputs {
            let units = input.takeOwed()
            ExchangeHeader(payloadBytes: 0, channel: input.channel, sequence: units, kind: .credit).append(to: &output)
        }
        flush()
    }

    private func flush() {
        while outputOffset < output.count {
            let outcome = output.withUnsafeBytes { bytes in
                let rest = UnsafeRawBufferPointer(rebasing: bytes[outputOffset...])
                return withUnsafePointer(to: iovec(iov_base: UnsafeMutableRawPointer(mutating: rest.baseAddress), iov_len: rest.count)) {
                    port.write(UnsafeBufferPointer(start: $0, count: 1))
                }
            }
            switch outcome {
            case .bytes(let count): outputOffset += count
            case .blocked: return
            case .ended: return end("it closed the connection")
            case .failed(let reason): return end(reason)
            }
        }
        output.removeAll(keepingCapacity: true)
        outputOffset = 0
        if phase == .closing { return end("refused") }
        if phase == .open, owing.withLock({ $0.isScheduled }) { loop.run { [weak self] in self?.payCredits() } }
    }

    private func receive() {
        // The bound keeps one busy connection from starving the others; the descriptor stays readable.
        for _ in 0..<4 {
            guard phase != .closed else { return }
            var outcome = IOOutcome.ended
            input.fill(minimum: phase == .open ? 128 << 10 : 1_024) { room in
                outcome = port.read(into: room)
                if case .bytes(let count) = outcome { return count }
                return 0
            }
            switch outcome {
            case .bytes(let count):
                counters.received(bytes: UInt64(count))
                do throws(ExchangeViolation) {
                    while try decodeOne() {}
                } catch {
                    return end("it broke the protocol: \(error.message)")
                }
            case .blocked: return
            case .ended: return end("it closed the connection")
            case .failed(let reason): return end(reason)
            }
        }
        loop.run { [weak self] in self?.receive() }
    }

    private func decodeOne() throws(ExchangeViolation) -> Bool {
        guard input.count >= ExchangeHeader.byteCount else { return false }
        let limit = phase == .open ? options.frameBytesMax : ExchangeHello.byteCountMax
        let parsed = input.withReadable { bytes in
            Result { () throws(ExchangeViolation) in try ExchangeHeader(parsing: bytes, payloadBytesMax: limit) }
        }
        let header = try parsed.get()
        guard input.count >= ExchangeHeader.byteCount + header.payloadBytes else { return false }
        input.skip(ExchangeHeader.byteCount)
        guard let payload = input.take(header.payloadBytes) else { return false }
        switch (header.kind, phase) {
        case (.data, .open):
            guard let channel = inputs[header.channel] else {
                throw ExchangeViolation(message: "data for channel \(header.channel), which it does not have")
            }
            counters.receivedFrame()
            let arrival = channel.arrive(payload, sequence: header.sequence)
            if case .violation(let message) = arrival { throw ExchangeViolation(message: message) }
        case (.announcement, .open):
            guard let channel = inputs[header.channel] else {
                throw ExchangeViolation(message: "an announcement for channel \(header.channel), which it does not have")
            }
            guard payload.count <= RemoteOutput.announcementBytesMax else {
                throw ExchangeViolation(message: "an announcement of \(payload.count) bytes, the limit is \(RemoteOutput.announcementBytesMax)")
            }
            channel.arrive(announcement: payload)
        case (.hello, .hello):
            let hello = try ExchangeHello(parsing: payload)
            phase = .waiting
            cancelTimer()
            timer = loop.schedule(after: options.epochWaitTimeout) { [weak self] in
                self?.refuse(ExchangeHelloReply(.staleEpoch, "this worker was not told of epoch \(hello.epoch) in time"))
            }
            onHello(self, hello)
        case (.goodbye, .open):
            close(sayingGoodbye: false)
            return false
        default: throw ExchangeViolation(message: "a frame of kind \(header.kind) at the wrong time")
        }
        return phase != .closed && phase != .closing
    }

    private func cancelTimer() {
        if let timer { loop.cancel(timer) }
        timer = nil
    }

    private func end(_ reason: String) {
        guard phase != .closed else { return }
        let (epoch, sender) = (epoch, sender)
        close(sayingGoodbye: false, reason: reason)
        if let epoch, let sender { epoch.fail(ExchangeFailure(peer: sender.index, worker: sender.worker, message: reason)) }
    }

    /// Closes the connection. Frames that came can still be taken from their channels.
    func close(sayingGoodbye: Bool, reason: String = "the epoch ended") {
        guard phase != .closed else { return }
        if sayingGoodbye, phase == .open, output.isEmpty { writeGoodbye(port) }
        phase = .closed
        cancelTimer()
        port.close()
        for input in inputs.values { input.detach() }
        inputs = [:]
        output = []
        outputOffset = 0
        if epoch == nil { onEnd(self, reason) }
        epoch = nil
    }
}
