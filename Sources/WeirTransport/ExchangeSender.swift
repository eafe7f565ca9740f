import Glibc
import Synchronization
import WeirBase
import WeirWire

/// The connection to one other worker: sends the frames of all channels to it, and reads the credits that come back.
final class ExchangeSender: EventHandler, @unchecked Sendable {
    // @unchecked: `ready` guards itself; all else that changes is touched by the loop's thread alone.
    private struct Ready {
        var outputs: [RemoteOutput] = []
        var isScheduled = false
    }

    private struct Outgoing {
        var channel: UInt32
        var sequence: UInt32
        var bytes: [UInt8]
        var kind = ExchangeKind.data
    }

    private enum Phase { case connecting, hello, open, closed }

    private final class Channel {
        let output: RemoteOutput
        var nextSequence: UInt32 = 0

        init(_ output: RemoteOutput) {
            self.output = output
        }
    }

    /// Frames in one system call, two vectors each.
    private static let framesPerWrite = 64

    let peer: ExchangePeer
    private let loop: EventLoop
    private unowned let epoch: ExchangeEpoch
    private let hello: ExchangeHello
    private let options: DataExchangeOptions
    private let counters: ExchangeCounters
    private let ready = Mutex(Ready())

    // Loop-confined.
    private var phase = Phase.connecting
    private var channels: [UInt32: Channel] = [:]
    private var connector: Connector?
    private var port: StreamPort?
    private var timer: TimerID?
    private var input = FrameBuffer(capacity: 4 << 10)
    private var outgoing: [Outgoing] = []
    private var head = 0
    /// Bytes of the head's header and payload that are sent.
    private var offset = 0
    private var isBlocked = false
    private var helloBytes: [UInt8] = []
    private let vectors = UnsafeMutablePointer<iovec>.allocate(capacity: 2 * framesPerWrite)
    private let headers = UnsafeMutableRawPointer.allocate(byteCount: ExchangeHeader.byteCount * framesPerWrite, alignment: 16)

    init(
        peer: ExchangePeer, outputs: [RemoteOutput], epoch: ExchangeEpoch, hello: ExchangeHello, loop: EventLoop,
        options: DataExchangeOptions, counters: ExchangeCounters
    ) {
        self.peer = peer
        self.epoch = epoch
        self.hello = hello
        self.loop = loop
        self.options = options
        self.counters = counters
        for output in outputs {
            channels[output.channel] = Channel(output)
            output.attach(self)
        }
    }

    deinit {
        vectors.deallocate()
        headers.deallocate()
    }

    // MARK: From any thread

    /// A channel has frames. It is called once until ``RemoteOutput/drain(_:)`` took them.
    func markReady(_ output: RemoteOutput) {
        let schedules = ready.withLock { ready in
            ready.outputs.append(output)
            defer { ready.isScheduled = true }
            return !ready.isScheduled
        }
        if schedules { loop.run { [weak self] in self?.collect() } }
    }

    func refuse(frameOf bytes: Int, limit: Int) {
        loop.run { [weak self] in self?.fail("a frame has \(bytes) bytes, the limit is \(limit)") }
    }

    // MARK: On the loop's thread

    func connect(transports: any TransportProvider) {
        timer = loop.schedule(after: options.connectTimeout + options.epochWaitTimeout) { [weak self] in
            self?.fail("it did not admit the connection in time")
        }
        connector = Connector.connect(
            loop: loop, host: peer.host, port: peer.port, timeout: options.connectTimeout
        ) { [weak self] result in
            guard let self, phase == .connecting else {
                if case .success(let descriptor) = result { closeDescriptor(descriptor) }
                return
            }
            connector = nil
            switch result {
            case .success(let descriptor): connected(descriptor, transports)
            case .failure(let failure): fail("\(failure)")
            }
        }
    }

    private func connected(_ descriptor: Int32, _ transports: any TransportProvider) {
        tune(descriptor, options)
        do {
            let port = StreamPort(loop: loop, transport: try transports.connected(descriptor, host: peer.host))
            self.port = port
            try port.attach(self)
        } catch {
            return fail("\(error)")
        }
        phase = .hello
        let payload = hello.encoded()
        ExchangeHeader(payloadBytes: payload.count, channel: 0, sequence: 0, kind: .hello).append(payload, to: &helloBytes)
        flush()
    }

    func ready(_ events: IOEvents) {
        guard let port else { return }
        if port.shouldWrite(on: events) { flush() }
        if port.shouldRead(on: events) { receive() }
    }

    func loopStopped() { close(sayingGoodbye: false) }

    private func collect() {
        let outputs = ready.withLock { ready in
            ready.isScheduled = false
            let taken = ready.outputs
            ready.outputs = []
            return taken
        }
        guard phase == .open else { return }
        for output in outputs {
            guard let channel = channels[output.channel] else { continue }
            output.drain { bytes in
                outgoing.append(Outgoing(channel: output.channel, sequence: channel.nextSequence, bytes: bytes))
                channel.nextSequence &+= 1
            }
            if let bytes = output.takeAnnouncement() {
                outgoing.append(Outgoing(channel: output.channel, sequence: 0, bytes: bytes, kind: .announcement))
            }
        }
        if !isBlocked { flush() }
    }

    private func flush() {
        isBlocked = false
        while !helloBytes.isEmpty || head < outgoing.count {
            switch helloBytes.isEmpty ? gather(head, 0, 0) : writeHello() {
            case .bytes(let count): sent(count)
            case .blocked:
                isBlocked = true
                return
            case .ended: return fail("it closed the connection")
            case .failed(let reason): return fail(reason)
            }
        }
    }

    private func writeHello() -> IOOutcome {
        helloBytes.withUnsafeBytes { bytes in
            vectors[0] = iovec(iov_base: UnsafeMutableRawPointer(mutating: bytes.baseAddress), iov_len: bytes.count)
            return port?.write(UnsafeBufferPointer(start: vectors, count: 1)) ?? .ended
        }
    }

    /// Writes the frames from `index` on with one call. Recursive, because an array lends its bytes only within a closure: this is the
    /// way to send many without copying any.
    private func gather(_ index: Int, _ used: Int, _ bytes: Int) -> IOOutcome {
        guard index < outgoing.count, used < Self.framesPerWrite, bytes < 1 << 20 else {
            return port?.write(UnsafeBufferPointer(start: vectors, count: 2 * used)) ?? .ended
        }
        let frame = outgoing[index]
        let header = headers + used * ExchangeHeader.byteCount
        ExchangeHeader(payloadBytes: frame.bytes.count, channel: frame.channel, sequence: frame.sequence, kind: frame.kind).store(to: header)
        let skipped = index == head ? offset : 0
        let ofHeader = min(skipped, ExchangeHeader.byteCount)
        return frame.bytes.withUnsafeBytes { payload in
            let rest = UnsafeRawBufferPointer(rebasing: payload[(skipped - ofHeader)...])
            vectors[2 * used] = iovec(iov_base: header + ofHeader, iov_len: ExchangeHeader.byteCount - ofHeader)
            vectors[2 * used + 1] = iovec(iov_base: UnsafeMutableRawPointer(mutating: rest.baseAddress), iov_len: rest.count)
            return gather(index + 1, used + 1, bytes + rest.count)
        }
    }

    private func sent(_ count: Int) {
        guard helloBytes.isEmpty else {
            helloBytes.removeFirst(count)
            return
        }
        var left = count
        var finished: UInt64 = 0
        while left > 0 {
            let missing = ExchangeHeader.byteCount + outgoing[head].bytes.count - offset
            if left < missing {
                offset += left
                break
            }
            left -= missing
            offset = 0
            outgoing[head].bytes = []
            head += 1
            finished += 1
        }
        counters.sent(frames: finished, bytes: UInt64(count))
        if head == outgoing.count {
            outgoing.removeAll(keepingCapacity: true)
            head = 0
        } else if head >= 256 {
            outgoing.removeFirst(head)
            head = 0
        }
    }

    private func receive() {
        while phase == .hello || phase == .open {
            var outcome = IOOutcome.ended
            input.fill(minimum: 1_024) { room in
                outcome = port?.read(into: room) ?? .ended
                if case .bytes(let count) = outcome { return count }
                return 0
            }
            switch outcome {
            case .bytes:
                do throws(ExchangeViolation) {
                    while try decodeOne() {}
                } catch {
                    return fail("it broke the protocol: \(error.message)")
                }
            case .blocked: return
            case .ended: return fail("it closed the connection")
            case .failed(let reason): return fail(reason)
            }
        }
    }

    private func decodeOne() throws(ExchangeViolation) -> Bool {
        guard input.count >= ExchangeHeader.byteCount, phase != .closed else { return false }
        let parsed = input.withReadable { bytes in
            Result { () throws(ExchangeViolation) in
                try ExchangeHeader(parsing: bytes, payloadBytesMax: ExchangeHelloReply.byteCountMax)
            }
        }
        let header = try parsed.get()
        guard input.count >= ExchangeHeader.byteCount + header.payloadBytes else { return false }
        input.skip(ExchangeHeader.byteCount)
        let payload = input.take(header.payloadBytes) ?? []
        switch (header.kind, phase) {
        case (.helloReply, .hello): try admitted(ExchangeHelloReply(parsing: payload))
        case (.credit, .open):
            guard let channel = channels[header.channel] else {
                throw ExchangeViolation(message: "credits for channel \(header.channel), which it does not have")
            }
            guard payload.isEmpty, channel.output.grant(header.sequence) else {
                throw ExchangeViolation(message: "credits beyond the window of channel \(header.channel)")
            }
        case (.goodbye, .open): close(sayingGoodbye: false)
        default: throw ExchangeViolation(message: "a frame of kind \(header.kind) at the wrong time")
        }
        return true
    }

    private func admitted(_ reply: ExchangeHelloReply) {
        if let timer { loop.cancel(timer) }
        timer = nil
        guard reply.code == .accepted else { return fail("it refused the connection: \(reply.message)") }
        phase = .open
    }

    private func fail(_ reason: String) {
        guard phase != .closed else { return }
        close(sayingGoodbye: false)
        epoch.fail(ExchangeFailure(peer: peer.index, worker: peer.worker, message: reason))
    }

    /// Closes the connection; frames that were not sent are dropped.
    func close(sayingGoodbye: Bool) {
        guard phase != .closed else { return }
        // Within a frame a goodbye would be taken for its bytes.
        if sayingGoodbye, phase == .open, offset == 0, helloBytes.isEmpty { writeGoodbye(port) }
        phase = .closed
        if let timer { loop.cancel(timer) }
        timer = nil
        connector?.cancel()
        connector = nil
        port?.close()
        outgoing = []
        head = 0
        helloBytes = []
        for channel in channels.values { channel.output.close() }
    }
}

/// Tells the peer, if the kernel takes it now, that the end of the stream is meant.
func writeGoodbye(_ port: StreamPort?) {
    var bytes: [UInt8] = []
    ExchangeHeader(payloadBytes: 0, channel: 0, sequence: 0, kind: .goodbye).append(to: &bytes)
    bytes.withUnsafeBytes { bytes in
        withUnsafePointer(to: iovec(iov_base: UnsafeMutableRawPointer(mutating: bytes.baseAddress), iov_len: bytes.count)) {
            _ = port?.write(UnsafeBufferPointer(start: $0, count: 1))
        }
    }
}
