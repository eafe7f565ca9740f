import CWeirSystem
package import Glibc

/// What became of one attempt to read or write.
package enum IOOutcome: Equatable, Sendable {
    case bytes(Int)
    /// Nothing now; try again once the descriptor is ready for these. TLS may have to write in order to read, and the reverse.
    case blocked(on: IOEvents)
    /// The peer closed its direction.
    case ended
    case failed(String)
}

/// A byte stream over a connected, non-blocking socket, which it owns. Used on one thread.
///
/// TLS slides in here: a handshake happens inside the first reads and writes, and keys live in the object.
package protocol Transport: AnyObject {
    var descriptor: Int32 { get }
    /// Reads at most `room.count` bytes, which is not 0. The caller reads until ``IOOutcome/blocked(on:)``, or comes back by itself:
    /// bytes that a layer holds decrypted do not make the descriptor readable.
    func read(into room: UnsafeMutableRawBufferPointer) -> IOOutcome
    /// Writes some of the vectors' bytes, in order.
    func write(_ vectors: UnsafeBufferPointer<iovec>) -> IOOutcome
    /// Closes the descriptor, once; what was written and not sent yet is still sent by the kernel.
    func close()
}

/// Makes transports out of connected sockets: plain ones, or those of a TLS configuration.
package protocol TransportProvider: Sendable {
    /// For a connection that came in. Owns the descriptor from here on, also when it throws.
    func accepted(_ descriptor: Int32) throws(TransportFailure) -> any Transport
    /// For a connection to `host`. Owns the descriptor from here on, also when it throws.
    func connected(_ descriptor: Int32, host: String) throws(TransportFailure) -> any Transport
}

/// Bytes as they are.
package struct PlainTransportProvider: TransportProvider {
    package init() {}

    package func accepted(_ descriptor: Int32) -> any Transport { PlainTransport(descriptor: descriptor) }
    package func connected(_ descriptor: Int32, host: String) -> any Transport { PlainTransport(descriptor: descriptor) }
}

final class PlainTransport: Transport {
    let descriptor: Int32
    private var isOpen = true

    init(descriptor: Int32) {
        self.descriptor = descriptor
    }

    deinit {
        close()
    }

    func read(into room: UnsafeMutableRawBufferPointer) -> IOOutcome {
        while true {
            let received = weir_receive(descriptor, room.baseAddress, room.count)
            if received > 0 { return .bytes(received) }
            if received == 0 { return .ended }
            switch Int32(-received) {
            case EINTR: continue
            case EAGAIN: return .blocked(on: .readable)
            case let code: return .failed(errorText(code))
            }
        }
    }

    func write(_ vectors: UnsafeBufferPointer<iovec>) -> IOOutcome {
        while true {
            let sent = weir_send_vector(descriptor, vectors.baseAddress, vectors.count)
            if sent >= 0 { return .bytes(sent) }
            switch Int32(-sent) {
            case EINTR: continue
            case EAGAIN: return .blocked(on: .writable)
            case let code: return .failed(errorText(code))
            }
        }
    }

    func close() {
        guard isOpen else { return }
        isOpen = false
        Glibc.close(descriptor)
    }
}

/// A transport registered with a loop: keeps what reads and writes wait for, and watches exactly that. Used on the loop's thread.
package final class StreamPort {
    let loop: EventLoop
    private let transport: any Transport
    private var registration: RegistrationID?
    private var readWants: IOEvents = .readable
    private var writeWants: IOEvents = []
    private var watched: IOEvents = .readable

    /// The port holds the handler through the loop until ``close()``.
    package init(loop: EventLoop, transport: any Transport) {
        self.loop = loop
        self.transport = transport
    }

    package func attach(_ handler: any EventHandler) throws(TransportFailure) {
        registration = try loop.register(transport.descriptor, for: watched, handler)
    }

    package var isOpen: Bool { registration != nil }

    /// Whether the descriptor is watched for input. One who pauses reads again after resuming: what came meanwhile may tell of itself or not.
    package var isReadingPaused = false {
        didSet { watch() }
    }

    package func read(into room: UnsafeMutableRawBufferPointer) -> IOOutcome {
        guard isOpen else { return .ended }
        let outcome = transport.read(into: room)
        if case .blocked(let events) = outcome { readWants = events } else { readWants = .readable }
        watch()
        return outcome
    }

    package func write(_ vectors: UnsafeBufferPointer<iovec>) -> IOOutcome {
        guard isOpen else { return .ended }
        let outcome = transport.write(vectors)
        if case .blocked(let events) = outcome { writeWants = events } else { writeWants = [] }
        watch()
        return outcome
    }

    package func shouldRead(on events: IOEvents) -> Bool { !events.isDisjoint(with: readWants.union(.hangup)) }
    package func shouldWrite(on events: IOEvents) -> Bool { !events.isDisjoint(with: writeWants) }

    package func close() {
        guard let registration else { return }
        loop.deregister(registration)
        self.registration = nil
        transport.close()
    }

    private func watch() {
        let wanted = isReadingPaused ? writeWants : readWants.union(writeWants)
        guard wanted != watched, let registration else { return }
        watched = wanted
        loop.change(registration, to: wanted)
    }
}
