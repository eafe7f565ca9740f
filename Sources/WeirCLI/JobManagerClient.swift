internal import Dispatch
internal import Logging
package import SwiftProtobuf
internal import Synchronization
package import WeirTransport
package import WeirWire

/// Where the JobManager is and how this command introduces itself.
package struct JobManagerAddress: Sendable, Equatable {
    package var host: String
    package var port: UInt16
    /// Empty: any cluster.
    package var clusterID: String

    package init(host: String, port: UInt16, clusterID: String = "") {
        self.host = host
        self.port = port
        self.clusterID = clusterID
    }

    package var text: String { host.contains(":") ? "[\(host)]:\(port)" : "\(host):\(port)" }

    /// Parses "host:port", "host", "[v6]:port"; nil for anything else.
    package init?(_ text: String, defaultPort: UInt16, clusterID: String = "") {
        var host = Substring(text)
        var port = defaultPort
        if text.hasPrefix("[") {
            guard let end = text.firstIndex(of: "]") else { return nil }
            host = text[text.index(after: text.startIndex)..<end]
            let rest = text[text.index(after: end)...]
            if !rest.isEmpty {
                guard rest.hasPrefix(":"), let number = UInt16(rest.dropFirst()), number > 0 else { return nil }
                port = number
            }
        } else if let colon = text.lastIndex(of: ":"), text.firstIndex(of: ":") == colon {
            host = text[..<colon]
            guard let number = UInt16(text[text.index(after: colon)...]), number > 0 else { return nil }
            port = number
        }
        guard !host.isEmpty else { return nil }
        self.init(host: String(host), port: port, clusterID: clusterID)
    }
}

/// One connection to the JobManager for one command; its requests block.
package final class JobManagerClient {
    package let address: JobManagerAddress
    private let loop: EventLoop
    private let client: RPCClient
    private let connection: RPCConnection

    /// Connects and shakes hands.
    package init(_ address: JobManagerAddress) throws(CommandFailure) {
        self.address = address
        do {
            loop = try EventLoop(name: "weir-cli")
        } catch {
            throw CommandFailure(error.description)
        }
        let identity = RPCIdentity(role: .client, clusterID: address.clusterID, clientID: "weir-cli", software: "weir \(weirVersion)")
        var options = RPCClientOptions(host: address.host, port: address.port, identity: identity, seed: 0)
        options.reconnect = nil
        let logger = Logger(label: "weir-cli") { _ in SwiftLogNoOpLogHandler() }
        let outcome = Outcome<Result<RPCConnection, RPCFailure>>()
        client = RPCClient(loop: loop, options: options, logger: logger) { event in
            switch event {
            case .connected(let connection): outcome.give(.success(connection))
            case .disconnected(let failure, _): outcome.give(.failure(failure))
            }
        }
        client.start()
        switch outcome.take() {
        case .success(let connection): self.connection = connection
        case .failure(let failure):
            loop.shutDown()
            throw Self.unreachable(address, failure)
        }
    }

    deinit {
        client.close()
        loop.shutDown()
    }

    /// Sends a request and waits for its reply.
    package func request<Reply: Message>(
        _ kind: WireMessageKind, _ message: some Message, deadline: Duration = .seconds(30), as reply: Reply.Type = Reply.self
    ) throws(RPCFailure) -> Reply {
        let outcome = Outcome<Result<Reply, RPCFailure>>()
        connection.send(kind, message, deadline: deadline, as: Reply.self) { outcome.give($0) }
        return try outcome.take().get()
    }

    /// As ``request(_:_:deadline:as:)``, with the failure in words.
    package func ask<Reply: Message>(
        _ kind: WireMessageKind, _ message: some Message, to purpose: String, deadline: Duration = .seconds(30), as reply: Reply.Type = Reply.self
    ) throws(CommandFailure) -> Reply {
        do {
            return try request(kind, message, deadline: deadline)
        } catch {
            throw Self.inWords(error, purpose: purpose, address: address)
        }
    }

    /// All jobs that the JobManager knows.
    package func jobs(includeTerminated: Bool) throws(CommandFailure) -> [WireJobSummary] {
        var request = WireListJobs()
        request.includeTerminated = includeTerminated
        return try ask(.listJobs, request, to: "list the jobs", as: WireJobList.self).jobs
    }

    /// The job that a person means, see ``JobResolution``.
    package func resolve(_ text: String) throws(CommandFailure) -> WireJobSummary {
        try JobResolution.resolve(text, in: try jobs(includeTerminated: true))
    }

    package func info(job: String) throws(RPCFailure) -> WireJobInfo {
        var request = WireGetJob()
        request.job = job
        return try self.request(.getJob, request, deadline: .seconds(10), as: WireJobInfo.self)
    }

    static func unreachable(_ address: JobManagerAddress, _ failure: RPCFailure) -> CommandFailure {
        if failure.isPermanent {
            return CommandFailure("the JobManager at \(address.text) refused the connection: \(failure.message)", hint: failure.hint)
        }
        return CommandFailure(
            "cannot reach the JobManager at \(address.text): \(failure.message)",
            hint: "start one with `jobmanager`, or say where it is with --jobmanager HOST:PORT (or jobmanager.rpc.address and .port)")
    }

    static func inWords(_ failure: RPCFailure, purpose: String, address: JobManagerAddress) -> CommandFailure {
        switch failure.kind {
        case .refused:
            let detail = failure.failure.map { describe($0) } ?? ""
            return CommandFailure("cannot \(purpose): \(failure.message)", detail: detail, hint: failure.hint)
        case .deadlineExceeded:
            return CommandFailure("cannot \(purpose): the JobManager at \(address.text) does not answer", hint: "see its log")
        default:
            return CommandFailure(
                "cannot \(purpose): the connection to the JobManager at \(address.text) was lost: \(failure.message)", hint: failure.hint)
        }
    }
}

/// A value that one thread gives, once, and another waits for.
private final class Outcome<Value: Sendable>: Sendable {
    private let value = Mutex<Value?>(nil)
    private let ready = DispatchSemaphore(value: 0)

    /// Only the first value counts.
    func give(_ new: Value) {
        let first = value.withLock { value in
            guard value == nil else { return false }
            value = new
            return true
        }
        if first { ready.signal() }
    }

    func take() -> Value {
        ready.wait()
        guard let value = value.withLock({ $0 }) else { preconditionFailure("signalled without a value") }
        return value
    }
}

/// Of this release; the three binaries and the job's runtime bear the same.
package let weirVersion = "0.1.0"
