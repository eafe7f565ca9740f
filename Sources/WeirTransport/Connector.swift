import CWeirSystem
import Glibc

/// Connects to the first address of a host that answers. Used on the loop's thread.
final class Connector: EventHandler, @unchecked Sendable {
    // @unchecked: the state is touched by the loop's thread alone; the resolving thread only carries the reference.
    typealias Completion = (Result<Int32, TransportFailure>) -> Void

    private let loop: EventLoop
    private let host: String
    private let port: UInt16
    private var addresses: [SocketAddress] = []
    private var attempt: (descriptor: Int32, registration: RegistrationID)?
    private var timer: TimerID?
    private var completion: Completion?
    private var failure: TransportFailure?

    private init(loop: EventLoop, host: String, port: UInt16, completion: @escaping Completion) {
        self.loop = loop
        self.host = host
        self.port = port
        self.completion = completion
    }

    /// Starts a connection; `completion` gets a connected descriptor, which it owns, or the last failure, on the loop's thread.
    ///
    /// - Parameter timeout: For everything, name resolution included.
    static func connect(
        loop: EventLoop, host: String, port: UInt16, timeout: Duration, completion: @escaping Completion
    ) -> Connector {
        loop.assertOnLoop()
        let connector = Connector(loop: loop, host: host, port: port, completion: completion)
        connector.timer = loop.schedule(after: timeout) {
            connector.finish(.failure(TransportFailure(operation: "connect to \(host):\(port)", code: ETIMEDOUT)))
        }
        if let numeric = try? SocketAddress.resolve(host: host, port: port, numericOnly: true) {
            connector.resolved(.success(numeric))
        } else {
            connector.resolveOnThread()
        }
        return connector
    }

    /// Gives up without calling the completion.
    func cancel() {
        completion = nil
        finish(.failure(TransportFailure(operation: "connect", code: ECANCELED)))
    }

    func ready(_ events: IOEvents) {
        guard let attempt else { return }
        let code = weir_socket_error(attempt.descriptor)
        loop.deregister(attempt.registration)
        self.attempt = nil
        if code == 0 {
            finish(.success(attempt.descriptor))
        } else {
            close(attempt.descriptor)
            failed(code)
        }
    }

    func loopStopped() {
        finish(.failure(TransportFailure(operation: "connect to \(host):\(port)", code: ECANCELED)))
    }

    /// Name servers may take seconds, and the C library offers no other way than to block.
    private func resolveOnThread() {
        var attributes = pthread_attr_t()
        pthread_attr_init(&attributes)
        defer { pthread_attr_destroy(&attributes) }
        pthread_attr_setdetachstate(&attributes, Int32(PTHREAD_CREATE_DETACHED))
        var thread = pthread_t()
        let reference = Unmanaged.passRetained(self)
        let code = pthread_create(
            &thread, &attributes,
            { argument in
                guard let argument else { return nil }
                let connector = Unmanaged<Connector>.fromOpaque(argument).takeRetainedValue()
                let result = Result { () throws(TransportFailure) in
                    try SocketAddress.resolve(host: connector.host, port: connector.port)
                }
                connector.loop.run { connector.resolved(result) }
                return nil
            }, reference.toOpaque())
        guard code != 0 else { return }
        reference.release()
        finish(.failure(TransportFailure(operation: "start a thread to resolve \(host)", code: code)))
    }

    private func resolved(_ result: Result<[SocketAddress], TransportFailure>) {
        guard completion != nil else { return }
        switch result {
        case .success(let found):
            addresses = found.reversed()
            tryNext()
        case .failure(let failure):
            finish(.failure(failure))
        }
    }

    private func tryNext() {
        guard let address = addresses.popLast() else {
            finish(.failure(failure ?? TransportFailure(operation: "connect to \(host):\(port)", code: EADDRNOTAVAIL)))
            return
        }
        let descriptor = weir_socket_stream(address.family)
        guard descriptor >= 0 else { return failed(-descriptor) }
        let code = address.withPointer { Glibc.connect(descriptor, $0, $1) == 0 ? 0 : errno }
        guard code == 0 || code == EINPROGRESS else {
            close(descriptor)
            return failed(code)
        }
        do {
            attempt = (descriptor, try loop.register(descriptor, for: .writable, self))
        } catch {
            close(descriptor)
            failed(error.code)
        }
    }

    private func failed(_ code: Int32) {
        failure = TransportFailure(operation: "connect to \(host):\(port)", code: code)
        tryNext()
    }

    private func finish(_ result: Result<Int32, TransportFailure>) {
        if let timer { loop.cancel(timer) }
        timer = nil
        addresses = []
        if let attempt {
            loop.deregister(attempt.registration)
            close(attempt.descriptor)
            self.attempt = nil
        }
        let completion = completion.take()
        completion?(result)
    }
}

func closeDescriptor(_ descriptor: Int32) {
    close(descriptor)
}
