import Glibc
import Logging
import Synchronization
import Testing
import WeirWire

@testable import WeirTransport

/// Collects what callbacks on other threads say.
final class Journal<Value: Sendable>: Sendable {
    private let entries = Mutex<[Value]>([])

    func append(_ value: Value) { entries.withLock { $0.append(value) } }
    var values: [Value] { entries.withLock { $0 } }
}

/// Waits until `condition` holds; false after `timeout`.
func eventually(within timeout: Duration = .seconds(10), _ condition: () -> Bool) async -> Bool {
    let clock = ContinuousClock()
    let end = clock.now + timeout
    while clock.now < end {
        if condition() { return true }
        try? await Task.sleep(for: .milliseconds(2))
    }
    return condition()
}

struct JournalLogHandler: LogHandler {
    let journal: Journal<String>
    var logLevel = Logger.Level.warning
    var metadata: Logger.Metadata = [:]

    subscript(metadataKey key: String) -> Logger.Metadata.Value? {
        get { metadata[key] }
        set { metadata[key] = newValue }
    }

    func log(event: LogEvent) {
        let fields = (event.metadata ?? [:]).sorted { $0.key < $1.key }.map { "\($0.key)=\($0.value)" }
        journal.append(([event.message.description] + fields).joined(separator: " "))
    }
}

func quietLogger(_ journal: Journal<String> = Journal()) -> Logger {
    Logger(label: "test") { _ in JournalLogHandler(journal: journal) }
}

/// A server on a free port of the loopback, on a loop of its own.
final class TestServer: Sendable {
    let loop: EventLoop
    let server: RPCServer
    let log = Journal<String>()
    let opened = Journal<RPCConnection>()
    let closed = Journal<RPCFailure>()

    init(handlers: RPCHandlers = RPCHandlers(), _ adjust: (inout RPCServerOptions) -> Void = { _ in }) throws {
        loop = try EventLoop(name: "server")
        var options = RPCServerOptions(identity: RPCIdentity(role: .jobManager, clusterID: "c1"))
        adjust(&options)
        let (opened, closed) = (opened, closed)
        server = try RPCServer(
            loop: loop, options: options, handlers: handlers, logger: quietLogger(log), onOpen: { opened.append($0) },
            onClose: { closed.append($1) })
    }

    deinit {
        server.stop()
        loop.shutDown()
    }

    func client(
        role: WireRole = .client, handlers: RPCHandlers = RPCHandlers(), events: Journal<RPCClient.Event> = Journal(),
        _ adjust: (inout RPCClientOptions) -> Void = { _ in }
    ) -> RPCClient {
        var options = RPCClientOptions(
            host: "127.0.0.1", port: server.port, identity: RPCIdentity(role: role, clientID: "test"), seed: 1)
        options.reconnect = nil
        adjust(&options)
        return RPCClient(loop: loop, options: options, handlers: handlers, logger: quietLogger()) { events.append($0) }
    }
}

/// A socket without any of the code under test.
final class RawSocket {
    let descriptor: Int32

    init(port: UInt16) throws {
        descriptor = socket(AF_INET, Int32(SOCK_STREAM.rawValue), 0)
        var address = sockaddr_in()
        address.sin_family = sa_family_t(AF_INET)
        address.sin_port = port.bigEndian
        address.sin_addr.s_addr = UInt32(0x7F00_0001).bigEndian
        let code = withUnsafePointer(to: &address) {
            $0.withMemoryRebound(to: sockaddr.self, capacity: 1) { connect(descriptor, $0, socklen_t(MemoryLayout<sockaddr_in>.size)) }
        }
        try #require(code == 0)
        var timeout = timeval(tv_sec: 10, tv_usec: 0)
        setsockopt(descriptor, SOL_SOCKET, SO_RCVTIMEO, &timeout, socklen_t(MemoryLayout<timeval>.size))
    }

    deinit {
        Glibc.close(descriptor)
    }

    func write(_ bytes: [UInt8]) {
        _ = send(descriptor, bytes, bytes.count, Int32(MSG_NOSIGNAL))
    }

    /// Everything until the peer closes; nil when it does not within 10 s.
    func readToEnd() -> [UInt8]? {
        var all: [UInt8] = []
        var chunk = [UInt8](repeating: 0, count: 4_096)
        while true {
            let count = recv(descriptor, &chunk, chunk.count, 0)
            if count == 0 || (count < 0 && errno == ECONNRESET) { return all }
            guard count > 0 else { return nil }
            all += chunk[..<count]
        }
    }
}

func shutdownWrites(_ socket: RawSocket) {
    shutdown(socket.descriptor, Int32(SHUT_WR))
}
