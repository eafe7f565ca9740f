import CWeirSystem
import Glibc
import Logging
import SwiftProtobuf
import Synchronization
package import WeirWire

/// One connection of the RPC. Both sides send requests and one-ways; either may be the one that opened it.
///
/// Its methods may be called from any thread. Messages of one thread leave in the order of the calls; those of the peer are handled in
/// the order in which it sent them, on the loop's thread. Completions run on the loop's thread too and must not block.
package final class RPCConnection: @unchecked Sendable {
    // @unchecked: `loop`, `limits` and the like never change; `outboundBytes` and `published` guard themselves; all else is touched by
    // the loop's thread alone.
    package typealias Completion = @Sendable (Result<[UInt8], RPCFailure>) -> Void

    enum Phase: Equatable {
        /// Server: nothing but a handshake is taken. Client: its reply is waited for.
        case handshaking
        case open
        /// What is queued is sent, then the connection ends; nothing is read any more.
        case closing
        case closed
    }

    struct Pending {
        var completion: Completion
        var timer: TimerID?
    }

    package let loop: EventLoop
    package let limits: RPCLimits
    let logger: Logger
    let handlers: RPCHandlers
    let identity: RPCIdentity
    let remoteAddress: String
    private let published = Mutex<RPCPeer?>(nil)
    /// Bytes given to `send` and not yet to the kernel, including those on their way to the loop: bounds what a slow peer costs.
    private let outboundBytes = Atomic<Int>(0)

    // Loop-confined.
    private let port: StreamPort
    private var input = FrameBuffer()
    private var decoder: FrameDecoder
    private var output: [[UInt8]] = []
    private var outputHead = 0
    private var outputOffset = 0
    private var pending: [UInt64: Pending] = [:]
    private var nextCorrelation: UInt64 = 1
    private var unanswered = 0
    var phase = Phase.handshaking
    var handshakeTimer: TimerID?
    /// Takes frames until the connection is open.
    var onHandshakeFrame: ((Frame) -> Void)?
    private var onEnd: ((RPCFailure) -> Void)?

    init(
        loop: EventLoop, transport: any Transport, remoteAddress: String, identity: RPCIdentity, limits: RPCLimits,
        handlers: RPCHandlers, logger: Logger
    ) {
        self.loop = loop
        self.limits = limits
        self.identity = identity
        self.handlers = handlers
        self.remoteAddress = remoteAddress
        self.logger = logger
        port = StreamPort(loop: loop, transport: transport)
        decoder = FrameDecoder(payloadBytesMax: min(limits.payloadBytesMax, Self.handshakePayloadBytesMax))
    }

    /// What an unknown peer can make this side hold.
    static let handshakePayloadBytesMax = 16 << 10

    // MARK: From any thread

    /// Who is at the other end.
    package var peer: RPCPeer {
        published.withLock { $0 }
            ?? RPCPeer(role: .unspecified, clusterID: "", clientID: "", software: "", version: 0, address: remoteAddress)
    }

    /// Sends a request.
    ///
    /// - Parameters:
    ///   - deadline: From now to the reply.
    ///   - completion: Called once, on the loop's thread and never within this call: with the reply's payload, or with why there is none.
    package func send(_ kind: WireMessageKind, payload: [UInt8], deadline: Duration, completion: @escaping Completion) {
        guard reserve(payload) else {
            finishElsewhere(completion, RPCFailure(.overloaded, "too many bytes wait for \(peer)"))
            return
        }
        let accepted = loop.perform { [self] in sendOnLoop(kind, payload, deadline, completion) }
        if !accepted { completion(.failure(RPCFailure(.closed, "the event loop has ended"))) }
    }

    /// Sends a message that wants no reply. It is lost, silently, when the connection is: ``RPCServer`` and ``RPCClient`` tell.
    package func sendOneWay(_ kind: WireMessageKind, payload: [UInt8]) {
        guard reserve(payload) else { return }
        loop.perform { [self] in
            enqueue(Frame(type: .oneWay, kind: UInt16(truncatingIfNeeded: kind.rawValue), correlation: 0, payload: payload))
        }
    }

    /// Ends the connection at once: what is queued is dropped, requests without a reply fail.
    package func close() {
        close(RPCFailure(.closed, "the connection to \(peer) was closed"))
    }

    func close(_ failure: RPCFailure) {
        loop.perform { [self] in end(failure) }
    }

    private func finishElsewhere(_ completion: @escaping Completion, _ failure: RPCFailure) {
        // Callers may hold a lock that the completion takes: it always runs on the loop.
        if !loop.run({ completion(.failure(failure)) }) { completion(.failure(failure)) }
    }

    /// Counts a message's bytes; false, and the connection ends, beyond the limit.
    private func reserve(_ payload: [UInt8]) -> Bool {
        let bytes = payload.count + FrameHeader.byteCount
        let total = outboundBytes.add(bytes, ordering: .relaxed).newValue
        guard total > limits.outboundBytesMax else { return true }
        outboundBytes.subtract(bytes, ordering: .relaxed)
        close(RPCFailure(.overloaded, "\(peer) does not keep up: more than \(limits.outboundBytesMax) bytes wait for it"))
        return false
    }

    // MARK: On the loop's thread

    func attach(onEnd: @escaping (RPCFailure) -> Void) throws(TransportFailure) {
        self.onEnd = onEnd
        try port.attach(self)
        handshakeTimer = loop.schedule(after: limits.handshakeTimeout) { [weak self] in
            self?.end(RPCFailure(.deadlineExceeded, "no handshake within \(self?.limits.handshakeTimeout ?? .zero)"))
        }
    }

    func open(as peer: RPCPeer) {
        if let handshakeTimer { loop.cancel(handshakeTimer) }
        handshakeTimer = nil
        onHandshakeFrame = nil
        phase = .open
        decoder.payloadBytesMax = limits.payloadBytesMax
        published.withLock { $0 = peer }
    }

    private func sendOnLoop(_ kind: WireMessageKind, _ payload: [UInt8], _ deadline: Duration, _ completion: @escaping Completion) {
        let refusal: RPCFailure? =
            switch phase {
            case .closing, .closed: RPCFailure(.notConnected, "the connection to \(peer) has ended")
            case .handshaking: RPCFailure(.notConnected, "the handshake with \(remoteAddress) is under way")
            case _ where pending.count >= limits.outboundRequestsMax:
                RPCFailure(.overloaded, "\(pending.count) requests wait for replies of \(peer)")
            default: nil
            }
        if let refusal {
            outboundBytes.subtract(payload.count + FrameHeader.byteCount, ordering: .relaxed)
            return finishElsewhere(completion, refusal)
        }
        let correlation = nextCorrelation
        nextCorrelation += 1
        let timer = loop.schedule(after: deadline) { [weak self] in
            guard let self, let expired = pending.removeValue(forKey: correlation) else { return }
            expired.completion(.failure(RPCFailure(.deadlineExceeded, "no reply to \(kind) from \(peer) within \(deadline)")))
        }
        pending[correlation] = Pending(completion: completion, timer: timer)
        enqueue(Frame(type: .request, kind: UInt16(truncatingIfNeeded: kind.rawValue), correlation: correlation, payload: payload))
    }

    /// Queues a frame whose bytes were reserved, and sends what the kernel takes.
    private func enqueue(_ frame: Frame) {
        guard phase == .open || phase == .handshaking else {
            outboundBytes.subtract(frame.payload.count + FrameHeader.byteCount, ordering: .relaxed)
            return
        }
        output.append(frame.encoded())
        // A queue that was not empty waits for the descriptor: trying again would only cost a call.
        if output.count - outputHead == 1 { flush() }
    }

    private func flush() {
        while outputHead < output.count {
            switch writeSome() {
            case .bytes(let count): sent(count)
            case .blocked: return
            case .ended: return end(RPCFailure(.connectionLost, "\(peer) closed the connection"))
            case .failed(let reason): return end(RPCFailure(.connectionLost, "lost the connection to \(peer): \(reason)"))
            }
        }
        output.removeAll(keepingCapacity: output.capacity <= 256)
        outputHead = 0
        if phase == .closing { end(RPCFailure(.closed, "the connection to \(peer) was closed")) }
    }

    private func writeSome() -> IOOutcome {
        output[outputHead].withUnsafeBytes { bytes in
            let rest = UnsafeMutableRawBufferPointer(mutating: UnsafeRawBufferPointer(rebasing: bytes[outputOffset...]))
            return withUnsafePointer(to: iovec(iov_base: rest.baseAddress, iov_len: rest.count)) {
                port.write(UnsafeBufferPointer(start: $0, count: 1))
            }
        }
    }

    private func sent(_ count: Int) {
        outputOffset += count
        outboundBytes.subtract(count, ordering: .relaxed)
        guard outputOffset == output[outputHead].count else { return }
        output[outputHead] = []
        outputHead += 1
        outputOffset = 0
        if outputHead > 256 {
            output.removeFirst(outputHead)
            outputHead = 0
        }
    }

    private func receive() {
        // The bound keeps one busy connection from starving the others; the descriptor stays readable.
        for _ in 0..<16 {
            guard phase == .open || phase == .handshaking else { return }
            var outcome = IOOutcome.ended
            input.fill(minimum: 4 << 10) { room in
                outcome = port.read(into: room)
                if case .bytes(let count) = outcome { return count }
                return 0
            }
            switch outcome {
            case .bytes: decode()
            case .blocked: return
            case .ended: return end(RPCFailure(.connectionLost, "\(peer) closed the connection"))
            case .failed(let reason): return end(RPCFailure(.connectionLost, "lost the connection to \(peer): \(reason)"))
            }
        }
        loop.run { [weak self] in self?.receive() }
    }

    private func decode() {
        do {
            while phase == .open || phase == .handshaking, let frame = try decoder.next(from: &input) {
                if let onHandshakeFrame { onHandshakeFrame(frame) } else { dispatch(frame) }
            }
        } catch {
            end(RPCFailure(.protocolViolation, "\(peer) sent no frame: \(error)"))
        }
    }

    private func dispatch(_ frame: Frame) {
        switch frame.type {
        case .response, .errorResponse:
            // Unknown: its deadline has passed.
            guard let waiting = pending.removeValue(forKey: frame.correlation) else { return }
            if let timer = waiting.timer { loop.cancel(timer) }
            waiting.completion(result(of: frame))
        case .request:
            handleRequest(frame)
        case .oneWay:
            guard let entry = handlers.entries[frame.kind], entry.isOneWay, entry.roles?.contains(peer.role) ?? true else {
                return end(RPCFailure(.protocolViolation, "\(peer) sent a one-way of kind \(frame.kind), which is not taken here"))
            }
            entry.body(self, frame.payload, RPCResponder { _, _ in })
        }
    }

    private func result(of frame: Frame) -> Result<[UInt8], RPCFailure> {
        guard frame.type == .errorResponse else { return .success(frame.payload) }
        guard let reply = try? WireErrorReply(serializedBytes: frame.payload) else {
            return .failure(RPCFailure(.protocolViolation, "\(peer) sent an error that does not parse"))
        }
        return .failure(RPCFailure(reply: reply))
    }

    private func handleRequest(_ frame: Frame) {
        unanswered += 1
        let responder = responder(to: frame)
        guard unanswered <= limits.inboundRequestsMax else {
            return responder.fail(
                .overloaded, "more than \(limits.inboundRequestsMax) requests wait for an answer", hint: "try again later")
        }
        guard let entry = handlers.entries[frame.kind], !entry.isOneWay else {
            return responder.fail(
                .unknownKind, "no handler for requests of kind \(frame.kind)", hint: "the two sides may be of different versions")
        }
        guard entry.roles?.contains(peer.role) ?? true else {
            return responder.fail(.notPermitted, "a \(peer.role) may not send requests of kind \(frame.messageKind)")
        }
        entry.body(self, frame.payload, responder)
    }

    func responder(to frame: Frame) -> RPCResponder {
        let (kind, correlation) = (frame.kind, frame.correlation)
        return RPCResponder { [weak self] type, payload in
            guard let self, reserve(payload) else { return }
            loop.perform { [self] in
                unanswered -= 1
                enqueue(Frame(type: type, kind: kind, correlation: correlation, payload: payload))
            }
        }
    }

    /// The handshake is not one of the requests that are counted.
    func responder(toHandshake frame: Frame) -> RPCResponder {
        unanswered += 1
        return responder(to: frame)
    }

    /// Sends a client's first frame; the reply goes to `onHandshakeFrame`.
    func startHandshake(_ handshake: WireHandshake) {
        let payload: [UInt8] = (try? handshake.serializedBytes()) ?? []
        guard reserve(payload) else { return }
        enqueue(Frame(type: .request, kind: UInt16(WireMessageKind.handshake.rawValue), correlation: 0, payload: payload))
    }

    /// Ends the connection after what is queued.
    func endAfterFlush() {
        guard phase == .open || phase == .handshaking else { return }
        phase = .closing
        // A peer that reads nothing must not keep the connection.
        loop.schedule(after: .seconds(2)) { [weak self] in self?.close() }
        flush()
    }

    func end(_ failure: RPCFailure) {
        guard phase != .closed else { return }
        phase = .closed
        if let handshakeTimer { loop.cancel(handshakeTimer) }
        port.close()
        output = []
        outputHead = 0
        onHandshakeFrame = nil
        let waiting = pending.sorted { $0.key < $1.key }
        pending = [:]
        let lost = failure.kind == .closed ? failure : RPCFailure(.connectionLost, failure.message, hint: failure.hint)
        for (_, request) in waiting {
            if let timer = request.timer { loop.cancel(timer) }
            request.completion(.failure(lost))
        }
        let onEnd = onEnd.take()
        onEnd?(failure)
    }
}

extension RPCConnection: EventHandler {
    package func ready(_ events: IOEvents) {
        if port.shouldWrite(on: events) { flush() }
        if port.shouldRead(on: events) {
            if phase == .closing { end(RPCFailure(.closed, "the connection to \(peer) was closed")) } else { receive() }
        }
    }

    package func loopStopped() {
        end(RPCFailure(.closed, "the event loop has ended"))
    }
}
