import CWeirSystem
import Glibc
import Logging
import WeirBase
import WeirKafkaWire
import WeirTransport

/// A client's connection: cuts requests out of the bytes, hands them to their handlers, and sends the answers in the order of the requests.
/// Used on the loop's thread.
///
/// Requests are handled as they come, up to a number in flight; answers that are ready early wait for those before them. Nothing is read while
/// too many requests are in flight or too many bytes wait for a client that does not read.
final class BrokerConnection: EventHandler {
    /// Bytes that may wait for the client before its next request is handled.
    private static let outputBytesMax = 32 << 20
    /// Bytes read in one turn, so that a busy connection does not starve the others.
    private static let turnBytesMax = 4 << 20
    private static let vectorsMax = 64
    /// A request before authentication is small.
    private static let unauthenticatedBytesMax = 64 << 10

    /// A client whose host vanished is noticed after this time.
    private static let deadAfterMilliseconds: Int32 = 60_000

    let id: ConnectionID
    private unowned let broker: Broker
    private unowned let server: BrokerServer
    private let port: StreamPort
    private let transport: any Transport
    private let peer: SocketAddress
    private let advertised: AdvertisedAddress
    private let clientHost: String
    private let requestBytesMax: Int
    private let inFlightMax: Int
    let authentication: SaslSession?

    private var input: FrameAssembler
    private var frames: [KafkaBytes] = []
    private var slots: [Slot] = []
    private var nextSequence: UInt64 = 0
    private var output: [KafkaBytes] = []
    private var outputHead = 0
    private var outputOffset = 0
    private var outputBytes = 0
    /// A fault delays the request at the front of `frames`.
    private var isDelayed = false
    private var closesAfterOutput = false
    /// The next answer is the last one.
    var closesWhenAnswered = false
    private var isClosed = false
    private var lastActivity: Instant

    private struct Slot {
        var sequence: UInt64
        /// nil while the answer is not there.
        var answer: Answer?
    }

    private struct Answer {
        var pieces: [KafkaBytes]
        var closes = false
    }

    init(
        id: ConnectionID, broker: Broker, server: BrokerServer, transport: any Transport, peer: SocketAddress, advertised: AdvertisedAddress
    ) {
        self.id = id
        self.broker = broker
        self.server = server
        self.transport = transport
        self.peer = peer
        self.advertised = advertised
        port = StreamPort(loop: broker.loop, transport: transport)
        clientHost = "/\(peer.host)"
        requestBytesMax = broker.properties.int("socket.request.max.bytes")
        inFlightMax = broker.properties.int("max.in.flight.requests.per.connection")
        authentication = broker.credentials.map { SaslSession(credentials: $0) }
        input = FrameAssembler()
        lastActivity = broker.now
    }

    func open() throws(TransportFailure) {
        weir_socket_tune(transport.descriptor, Self.deadAfterMilliseconds)
        try port.attach(self)
    }

    func close() {
        guard !isClosed else { return }
        isClosed = true
        port.close()
        frames = []
        slots = []
        output = []
        server.closed(id)
    }

    func closeIfIdle(for idle: Duration) {
        // Who waits for an answer is not idle.
        if slots.isEmpty, lastActivity.duration(to: broker.now) >= idle { close() }
    }

    func conditionsChanged() {
        guard !isClosed else { return }
        updatePause()
        flush()
        if !port.isReadingPaused { readLater() }
    }

    // MARK: Events

    func ready(_ events: IOEvents) {
        if port.shouldWrite(on: events) { flush() }
        if port.shouldRead(on: events) { read() }
        if events.contains(.hangup), port.isReadingPaused { close() }
    }

    func loopStopped() { close() }

    private var mayHandle: Bool {
        !isClosed && !closesAfterOutput && !isDelayed && slots.count < inFlightMax && outputBytes <= Self.outputBytesMax
            && !broker.conditions.isStalled
    }

    private func updatePause() {
        let paused = !mayHandle || !frames.isEmpty
        if port.isReadingPaused != paused { port.isReadingPaused = paused }
    }

    private func read() {
        var budget = Self.turnBytesMax
        while mayHandle && frames.isEmpty {
            guard budget > 0 else { return readLater() }
            switch input.read(from: port, scratch: server.scratch) {
            case .bytes(let count):
                budget -= count
                lastActivity = broker.now
                guard takeFrames() else { return }
                handleFrames()
            case .blocked: return updatePause()
            case .ended: return close()
            case .failed(let reason):
                broker.logger.debug("a connection broke", metadata: ["client.address": "\(peer)", "error": "\(reason)"])
                return close()
            }
        }
        updatePause()
    }

    /// Reads again behind what else the loop has to do: bytes that TLS holds do not make the descriptor readable.
    private func readLater() {
        broker.afterRound { [weak self] in
            guard let self, !isClosed else { return }
            handleFrames()
            read()
        }
    }

    /// Moves whole frames out of the assembler. Returns false when the connection had to be closed.
    private func takeFrames() -> Bool {
        let limit = authentication?.isAuthenticated == false ? min(requestBytesMax, Self.unauthenticatedBytesMax) : requestBytesMax
        do throws(DecodingFailure) {
            try input.takeFrames(limit: limit, into: &frames)
            return true
        } catch {
            refuse("a malformed request", error.description)
            return false
        }
    }

    private func handleFrames() {
        var handled = 0
        while handled < frames.count, mayHandle {
            let frame = frames[handled]
            handled += 1
            handle(frame)
        }
        // `close` forgets the frames.
        if !isClosed { frames.removeFirst(min(handled, frames.count)) }
        flush()
    }

    /// Closes the connection over what the client sent.
    private func refuse(_ what: StaticString, _ reason: String) {
        broker.logger.warning(
            "a connection is closed", metadata: ["client.address": "\(peer)", "reason": "\(what)", "error": "\(reason)"])
        close()
    }

    // MARK: Requests

    private func handle(_ frame: KafkaBytes) {
        if let authentication, authentication.takesRawTokens { return handleToken(frame, authentication) }
        do throws(DecodingFailure) {
            let (header, reader) = try KafkaMessage.header(of: frame)
            guard let api = ApiKey(rawValue: header.apiKey), let handler = broker.handler(of: api) else {
                return refuse("an unknown request", "API key \(header.apiKey), version \(header.apiVersion)")
            }
            let schema = ApiSchema.of(api)
            guard schema.versions.contains(header.apiVersion) else {
                guard api == .apiVersions else {
                    return refuse("a version that is not supported", "\(schema.name) version \(header.apiVersion)")
                }
                // KIP-511: answered in version 0, so that the client learns what it may ask for.
                return answer(
                    KafkaMessage.response(api, version: 0, correlationID: header.correlationID, body: broker.apiVersions(.unsupportedVersion)),
                    slot: takeSlot())
            }
            if let authentication, !authentication.isAuthenticated, !SaslSession.mayPrecede(api) {
                return refuse("not authenticated", "\(schema.name) before SaslAuthenticate")
            }
            let body = try KafkaMessage.requestBody(reader, api: schema, version: header.apiVersion)
            dispatch(Request(api: api, header: header, body: body, handler: handler), faults: broker.faults.request(of: api)[...])
        } catch {
            refuse("a malformed request", error.description)
        }
    }

    private struct Request {
        var api: ApiKey
        var header: RequestHeader
        var body: KafkaStruct
        var handler: RequestHandler
    }

    /// Does what the faults say, in their order, and unless one of them takes the request, has it handled.
    private func dispatch(_ request: Request, faults: ArraySlice<FaultAction>) {
        var faults = faults
        var ending = AnswerEnding.whole
        while let action = faults.popFirst() {
            switch action {
            case .close: return close()
            case .drop: return
            case .loseAnswer: ending = .lost
            case .truncate(let bytes): ending = .cut(bytes)
            case .delay(let time):
                isDelayed = true
                broker.schedule(after: time) { [weak self, faults] in
                    guard let self, !isClosed else { return }
                    isDelayed = false
                    dispatch(request, faults: faults)
                    handleFrames()
                    read()
                }
                return
            case .error(let code):
                let context = context(of: request, ending: ending)
                return context.reply(ErrorResponse.response(to: request.body, of: request.api, code: code))
            case .stopAnswering, .refuseConnections, .leaderless, .restart, .slowDisk:
                broker.perform(action)
                if isClosed { return }
            }
        }
        request.handler(request.body, context(of: request, ending: ending))
    }

    private enum AnswerEnding {
        case whole
        case lost
        case cut(Int)
    }

    private func context(of request: Request, ending: AnswerEnding) -> RequestContext {
        let slot = takeSlot()
        let header = request.header
        return RequestContext(
            apiKey: request.api, apiVersion: header.apiVersion, clientID: header.clientID, connection: id, clientHost: clientHost,
            advertised: advertised, isConnected: { [weak self] in self?.isClosed == false },
            answer: { [weak self] body in
                guard let self, !isClosed else { return }
                let pieces = body.map {
                    KafkaMessage.response(request.api, version: header.apiVersion, correlationID: header.correlationID, body: $0)
                }
                answered(pieces ?? [], slot: slot, ending: ending)
            })
    }

    private func answered(_ pieces: [KafkaBytes], slot: UInt64, ending: AnswerEnding) {
        switch ending {
        case .whole: answer(pieces, slot: slot)
        case .lost: answer([], slot: slot, closes: true)
        case .cut(let bytes):
            var left = bytes
            var cut: [KafkaBytes] = []
            for piece in pieces where left > 0 {
                cut.append(piece.slice(from: 0, count: min(left, piece.count)))
                left -= piece.count
            }
            answer(cut, slot: slot, closes: true)
        }
    }

    private func handleToken(_ frame: KafkaBytes, _ authentication: SaslSession) {
        // SaslHandshake version 0: tokens stand in frames of their own, without a header.
        switch authentication.step(frame.array) {
        case .challenge(let bytes), .success(let bytes):
            var writer = MessageWriter()
            writer.integer(Int32(bytes.count))
            bytes.withUnsafeBytes { writer.raw($0) }
            answer(writer.finish(), slot: takeSlot())
        case .failure(let reason): refuse("authentication failed", reason)
        }
    }

    // MARK: Answers

    private func takeSlot() -> UInt64 {
        let sequence = nextSequence
        nextSequence += 1
        slots.append(Slot(sequence: sequence))
        return sequence
    }

    /// Sends the answer of a slot once those before it are sent. No pieces: nothing is sent for it.
    private func answer(_ pieces: [KafkaBytes], slot sequence: UInt64, closes: Bool = false) {
        guard let first = slots.first?.sequence, sequence >= first else { preconditionFailure("an answer without a request") }
        slots[Int(sequence - first)].answer = Answer(pieces: pieces, closes: closes)
        guard sequence == first else { return }
        var done = 0
        while done < slots.count, !closesAfterOutput, let answer = slots[done].answer {
            done += 1
            for piece in answer.pieces where !piece.isEmpty {
                output.append(piece)
                outputBytes += piece.count
            }
            closesAfterOutput = answer.closes || closesWhenAnswered
        }
        slots.removeFirst(done)
        lastActivity = broker.now
        scheduleFlush()
    }

    private var flushIsScheduled = false

    /// Sends behind this turn, so that answers of several requests leave in one system call.
    private func scheduleFlush() {
        guard !flushIsScheduled else { return }
        flushIsScheduled = true
        server.needsFlush(self)
    }

    func flushScheduled() {
        flushIsScheduled = false
        guard !isClosed else { return }
        let wasPaused = port.isReadingPaused
        flush()
        guard !isClosed else { return }
        if wasPaused || !frames.isEmpty, mayHandle {
            handleFrames()
            if !isClosed { read() }
        } else {
            updatePause()
        }
    }

    private func flush() {
        guard !isClosed, !broker.conditions.isStalled else { return }
        while outputHead < output.count {
            let end = min(outputHead + Self.vectorsMax, output.count)
            let outcome = withUnsafeTemporaryAllocation(of: iovec.self, capacity: end - outputHead) { vectors in
                for index in outputHead..<end {
                    let skipped = index == outputHead ? outputOffset : 0
                    output[index].withUnsafeMutableBytes { bytes in
                        vectors.initializeElement(
                            at: index - outputHead, to: iovec(iov_base: bytes.baseAddress.map { $0 + skipped }, iov_len: bytes.count - skipped))
                    }
                }
                return port.write(UnsafeBufferPointer(vectors))
            }
            switch outcome {
            case .bytes(let count): sent(count)
            case .blocked: return
            case .ended, .failed: return close()
            }
        }
        output.removeAll(keepingCapacity: output.count < 256)
        outputHead = 0
        if closesAfterOutput { close() }
    }

    private func sent(_ count: Int) {
        outputBytes -= count
        outputOffset += count
        while outputHead < output.count, outputOffset >= output[outputHead].count {
            outputOffset -= output[outputHead].count
            output[outputHead] = .empty
            outputHead += 1
        }
    }
}
