import CWeirSystem
import Glibc
package import Logging

/// A listening socket. Hands accepted connections to its owner on the loop's thread.
package final class Listener: EventHandler, @unchecked Sendable {
    // @unchecked: after `open`, the state is touched by the loop's thread alone.
    package let address: SocketAddress
    private let descriptor: Int32
    private let loop: EventLoop
    private let logger: Logger
    private var registration: RegistrationID?
    private var isPaused = false
    private var onAccept: ((Int32, SocketAddress) -> Void)?

    /// Binds and listens; connections wait in the kernel until ``start(_:)``.
    ///
    /// - Important: Blocks while it resolves the name.
    package init(host: String, port: UInt16, loop: EventLoop, logger: Logger) throws(TransportFailure) {
        let candidates = try SocketAddress.resolve(host: host, port: port)
        var failure: TransportFailure?
        for candidate in candidates {
            let descriptor = weir_socket_stream(candidate.family)
            guard descriptor >= 0 else {
                failure = TransportFailure(operation: "open a socket for \(candidate)", code: -descriptor)
                continue
            }
            weir_socket_reuse_address(descriptor)
            let code = candidate.withPointer { bind(descriptor, $0, $1) == 0 && listen(descriptor, 512) == 0 ? 0 : errno }
            if code == 0, let bound = SocketAddress.local(of: descriptor) {
                self.descriptor = descriptor
                self.loop = loop
                self.logger = logger
                address = bound
                return
            }
            close(descriptor)
            failure = TransportFailure(operation: "listen on \(candidate)", code: code)
        }
        throw failure ?? TransportFailure(operation: "listen on \(host):\(port)", code: EADDRNOTAVAIL)
    }

    /// Begins to accept. On the loop's thread.
    package func start(_ onAccept: @escaping (Int32, SocketAddress) -> Void) throws(TransportFailure) {
        self.onAccept = onAccept
        registration = try loop.register(descriptor, for: .readable, self)
    }

    /// On the loop's thread.
    package func stop() {
        onAccept = nil
        guard let registration else { return }
        self.registration = nil
        loop.deregister(registration)
        close(descriptor)
    }

    package func ready(_ events: IOEvents) {
        // A bound per round keeps a flood of connections from starving those that are open.
        for _ in 0..<64 {
            guard let registration else { return }
            let (accepted, peer) = SocketAddress.accept(on: descriptor)
            if accepted >= 0 {
                onAccept?(accepted, peer)
                continue
            }
            switch -accepted {
            case EAGAIN: return
            case EINTR, ECONNABORTED: continue
            default:
                // No descriptors or memory left. The socket stays readable: without a pause the loop would spin.
                logger.error(
                    "cannot accept connections, pausing",
                    metadata: ["listener.address": "\(address)", "error": "\(errorText(-accepted))"])
                loop.change(registration, to: [])
                loop.schedule(after: .milliseconds(100)) { [weak self] in
                    guard let self, let registration = self.registration else { return }
                    loop.change(registration, to: .readable)
                }
                return
            }
        }
    }

    package func loopStopped() { stop() }
}
