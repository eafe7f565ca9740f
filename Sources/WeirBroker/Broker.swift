import Dispatch
package import Logging
package import WeirBase
package import WeirKafkaWire
package import WeirTransport

/// A Kafka broker on one node, for development and tests: not for production, where there is Kafka.
///
/// One event-loop thread owns everything: sockets, logs, coordinators. What is marked "on the loop" may be called on that thread only;
/// ``init(options:)``, ``start()``, ``stop()``, ``bootstrap``, ``faults`` and ``run(_:)`` on any other.
///
/// ```swift
/// let broker = try Broker(options: BrokerOptions())
/// try broker.start()
/// defer { broker.stop() }
/// connect(to: broker.bootstrap)
/// ```
package final class Broker: @unchecked Sendable {
    // @unchecked: `loop`, `options` and the like never change; `faults` guards itself; all else is touched by the loop's thread alone, but
    // for `listenAddress`, which `start` writes before it returns.

    /// The one node's id. It leads every partition and coordinates every group and transaction.
    package static let nodeID: Int32 = 1
    /// The epoch of every partition's leader: there is never another.
    package static let leaderEpoch: Int32 = 0

    package let options: BrokerOptions
    package let properties: ConfigValues
    package let logger: Logger
    /// What goes wrong on purpose; from any thread.
    package let faults: FaultInjector
    package let loop: EventLoop

    // On the loop.
    private var handlers: [ApiKey: RequestHandler] = [:]
    /// Rises when the data is closed, so that timers of the life before do nothing.
    private var life = 0
    private var server: BrokerServer?
    private var commit = GroupCommit()
    var storedTopics: TopicCatalogue?
    var storedLogs: LogDirectory?
    var storedCoordinators: Coordinators?
    private(set) var storedDirectory: DataDirectory?
    private(set) var clusterID = ""
    /// Whom the broker knows; nil when it asks for no authentication.
    let credentials: Credentials?
    /// What ``FaultAction`` has switched on for a time.
    var conditions = FaultConditions()
    private var listenAddress: SocketAddress?
    private var isOpen = false
    private var onFailure: (@Sendable (BrokerFailure) -> Void)?

    /// - Throws: ``BrokerFailure`` for properties that are wrong, and when the process has no threads or descriptors left.
    package init(options: BrokerOptions) throws(BrokerFailure) {
        self.options = options
        properties = try BrokerProperties.values(options.properties)
        logger = options.logger
        faults = FaultInjector(options.faults)
        let users = properties.string("sasl.users")
        credentials =
            users.isEmpty
            ? nil
            : try Credentials(users: users, mechanisms: properties.list("sasl.enabled.mechanisms")) { count in
                (0..<count).map { _ in UInt8.random(in: 0...UInt8.max) }
            }
        do {
            loop = try EventLoop(name: "broker")
        } catch {
            throw BrokerFailure(error.description)
        }
    }

    // MARK: From any thread

    /// Opens the data and listens. Returns when clients can connect.
    ///
    /// - Parameter onFailure: Called on the loop when the broker cannot go on, because its disk fails; it has closed its connections then.
    package func start(onFailure: (@Sendable (BrokerFailure) -> Void)? = nil) throws(BrokerFailure) {
        let outcome = onLoop { () -> Result<Void, BrokerFailure> in
            self.onFailure = onFailure
            do throws(BrokerFailure) {
                try self.open()
                return .success(())
            } catch {
                self.closeAll()
                return .failure(error)
            }
        }
        try outcome.get()
    }

    /// Where clients connect: "127.0.0.1:49152".
    package var bootstrap: String { onLoop { self.listenAddress.map { "\($0)" } ?? "" } }

    /// Closes the connections and files, and ends the thread. The broker cannot be started again.
    package func stop() {
        onLoop { self.closeAll() }
        loop.shutDown()
    }

    /// Runs a closure on the loop and waits for it. On the loop itself it runs at once.
    package func run<Value: Sendable>(_ body: @escaping @Sendable (Broker) -> Value) -> Value { onLoop { body(self) } }

    private func onLoop<Value>(_ body: @escaping () -> Value) -> Value {
        if loop.isCurrent { return body() }
        let exchange = LoopExchange(body)
        let done = DispatchSemaphore(value: 0)
        let accepted = loop.run {
            exchange.perform()
            done.signal()
        }
        if accepted { done.wait() } else { exchange.perform() }  // The loop has ended: nothing runs beside us.
        guard let value = exchange.value else { preconditionFailure("the loop did not run what it took") }
        return value
    }

    // MARK: On the loop

    package var topics: TopicCatalogue {
        guard let storedTopics else { preconditionFailure("the broker is not open") }
        return storedTopics
    }

    package var logs: LogDirectory {
        guard let storedLogs else { preconditionFailure("the broker is not open") }
        return storedLogs
    }

    package var coordinators: Coordinators {
        guard let storedCoordinators else { preconditionFailure("the broker is not open") }
        return storedCoordinators
    }

    /// Where the data is kept; nil in memory.
    package var directory: DataDirectory? { storedDirectory }

    package var now: Instant { options.clock.now }
    package var wallTime: WallTime { options.clock.wallTime }

    /// Says who answers the requests of an API. Each is registered once.
    package func register(_ api: ApiKey, _ handler: @escaping RequestHandler) {
        precondition(handlers.updateValue(handler, forKey: api) == nil, "\(api) has a handler already")
    }

    func handler(of api: ApiKey) -> RequestHandler? { handlers[api] }

    /// The APIs that have a handler, in their order.
    var handledAPIs: [ApiKey] { handlers.keys.sorted() }

    /// Runs a closure on the loop after a time, unless the broker stops or restarts before.
    @discardableResult
    package func schedule(after delay: Duration, _ body: @escaping () -> Void) -> TimerID {
        let life = life
        let box = LoopClosure(body)
        return loop.schedule(after: delay) { [weak self] in
            guard let self, self.life == life else { return }
            box.body()
        }
    }

    package func cancel(_ timer: TimerID) { loop.cancel(timer) }

    /// A file that was written: before the next acknowledgements leave, it is brought to the disk, if the options ask for that.
    package func markDirty(_ file: DataFile) {
        guard options.fsync else { return }
        commit.dirty[ObjectIdentifier(file)] = file
    }

    /// Runs a closure once what was written until now is as durable as the options ask: at once without fsync; with it, after one fdatasync
    /// of each dirty file behind this round of requests. Never runs when the disk fails: the broker ends then.
    package func afterCommit(_ body: @escaping () -> Void) {
        guard options.fsync || conditions.diskDelay != nil else { return body() }
        commit.waiting.append(body)
        guard !commit.isScheduled else { return }
        commit.isScheduled = true
        if let delay = conditions.diskDelay {
            schedule(after: delay) { [unowned self] in flushCommit() }
        } else {
            afterRound { [unowned self] in flushCommit() }
        }
    }

    /// Runs a closure behind this round of events, unless the broker stops before.
    func afterRound(_ body: @escaping () -> Void) {
        let life = life
        let box = LoopClosure(body)
        loop.run { [weak self] in
            guard let self, self.life == life else { return }
            box.body()
        }
    }

    private func flushCommit() {
        commit.isScheduled = false
        let files = commit.dirty.values.sorted { $0.path < $1.path }
        let waiting = commit.waiting
        commit.dirty = [:]
        commit.waiting = []
        do throws(BrokerFailure) {
            for file in files { try file.sync() }
            try storedLogs?.flush()
        } catch {
            return fail(error)
        }
        for body in waiting { body() }
    }

    /// The disk fails: what was acknowledged may be all that is there, so nothing more is.
    package func fail(_ failure: BrokerFailure) {
        guard isOpen else { return }
        logger.error("the broker ends: its disk fails", metadata: ["error": "\(failure)"])
        closeAll()
        onFailure?(failure)
    }

    // MARK: Life

    private func open() throws(BrokerFailure) {
        precondition(!isOpen, "the broker is open already")
        isOpen = true
        if storedTopics == nil { try openData() }
        for topic in options.topics where topics[topic.name] == nil {
            do {
                _ = try topics.create(topic.name, partitions: topic.partitions)
            } catch {
                throw BrokerFailure("cannot create the topic \(topic.name): \(error.asTopicFailure.message)")
            }
        }
        // After a restart clients expect the broker where it was.
        let server = try BrokerServer(broker: self, host: options.host, port: listenAddress?.port ?? options.port)
        self.server = server
        listenAddress = server.address
        for (delay, action) in faults.timed() { schedule(after: delay) { [unowned self] in perform(action) } }
    }

    private func openData() throws(BrokerFailure) {
        let makeID = { KafkaUUID(high: .random(in: 1 ... .max), low: .random(in: 1 ... .max)) }
        switch options.storage {
        case .memory: clusterID = "\(makeID())"
        case .directory(let path):
            let directory = try DataDirectory(path, makeID: makeID)
            storedDirectory = directory
            clusterID = directory.clusterID
        }
        storedTopics = try TopicCatalogue(properties: properties, file: storedDirectory?.topicFile, makeID: makeID)
        storedLogs = try LogDirectory(broker: self)
        storedCoordinators = try Coordinators(broker: self)
        registerSessionHandlers()
        registerAdminHandlers()
        registerLogHandlers()
        registerGroupHandlers()
        registerTransactionHandlers()
    }

    /// Ends the connections; the data stays open.
    private func closeServer() {
        isOpen = false
        server?.stop()
        server = nil
    }

    private func closeData() {
        life += 1
        handlers = [:]
        commit = GroupCommit()
        conditions = FaultConditions()
        storedCoordinators?.close()
        storedLogs?.close()
        storedDirectory?.close()
        storedCoordinators = nil
        storedLogs = nil
        storedTopics = nil
        storedDirectory = nil
    }

    private func closeAll() {
        closeServer()
        closeData()
    }

    /// Ends and begins again after a time, on the same port: from the disk, or in memory with what it had.
    func restart(after downtime: Duration) {
        logger.notice("the broker restarts", metadata: ["broker.downtime": "\(downtime)"])
        if case .directory = options.storage { closeAll() } else { closeServer() }
        let life = life
        loop.schedule(after: downtime) { [weak self] in
            guard let self, self.life == life else { return }
            do throws(BrokerFailure) {
                try open()
            } catch {
                isOpen = true
                fail(error)
            }
        }
    }

    var connections: BrokerServer? { server }
}

/// Acknowledgements that wait for the disk, and the files they wait for.
private struct GroupCommit {
    var dirty: [ObjectIdentifier: DataFile] = [:]
    var waiting: [() -> Void] = []
    var isScheduled = false
}

/// A closure that runs on the loop and is not `Sendable` itself.
private final class LoopClosure: @unchecked Sendable {
    // @unchecked: made and run on the loop's thread.
    let body: () -> Void
    init(_ body: @escaping () -> Void) { self.body = body }
}

/// A closure that another thread gives to the loop, and what it returned.
private final class LoopExchange<Value>: @unchecked Sendable {
    // @unchecked: the giver waits while the loop runs the closure.
    private let body: () -> Value
    private(set) var value: Value?
    init(_ body: @escaping () -> Value) { self.body = body }
    func perform() { value = body() }
}
