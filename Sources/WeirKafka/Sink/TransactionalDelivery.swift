import CRdKafka
import Dispatch
import Glibc
import Synchronization
import WeirBase
import WeirDataflow
import WeirKafkaTransactions

/// Delivery in transactions: carries out what a ``TransactionalWriter`` decides.
///
/// Each producer has a lane, a queue on which what waits for the broker happens in order. One more lane recovers. The machine decides under
/// its lock and its effects are queued under it too, so that each lane sees them in the order of the decisions.
final class TransactionalDelivery: KafkaSinkDelivering, @unchecked Sendable {  // `state` and `lanes` by their locks, `recoveryClient` by its queue.
    private struct State {
        var writer: TransactionalWriter
        var deferred: [UInt64: DeferredState] = [:]
        var partitionCount = 0
        var committed = 0
        /// When a cancelled task's commits are given up.
        var settleBy: Instant?
        /// Steps of the recovery that are queued or under way.
        var recovering = 0
    }

    /// How long a cancelled task's commits are tried, within `task.cancellation.timeout`.
    private static let settleTimeout = Duration.seconds(20)
    private static let abortMilliseconds: Int32 = 5_000

    let environment: KafkaSinkEnvironment
    private let state: Mutex<State>
    private let lanes = Mutex<[Int: ProducerLane]>([:])
    private let recovery = DispatchQueue(label: "weir.kafka.recovery")
    /// Used on that queue alone.
    private var recoveryClient: TransactionClient?

    init(_ environment: KafkaSinkEnvironment, restored: [SinkState]) {
        self.environment = environment
        let settings = environment.settings
        var options = TransactionalWriter.Options(
            prefix: settings.prefix ?? "", subtask: environment.subtask, parallelism: environment.parallelism, markerTopic: settings.topic,
            timeoutMilliseconds: settings.transactionTimeoutMilliseconds)
        options.discardsPrepared = settings.discardsPrepared
        options.skipsLost = settings.lossPolicy == .skip
        state = Mutex(State(writer: TransactionalWriter(options, restored: restored)))
    }

    // MARK: Decisions

    /// Decides, and queues what follows. Not while holding a lane's lock.
    private func step(_ event: (inout TransactionalWriter) -> [TransactionalWriter.Effect]) {
        let answers = state.withLock { state -> [(DeferredState, DeferredState.Outcome)] in
            var answers: [(DeferredState, DeferredState.Outcome)] = []
            for effect in event(&state.writer) {
                switch effect {
                case .answer(let checkpoint, let entries):
                    if let part = state.deferred.removeValue(forKey: checkpoint) { answers.append((part, .success(entries.map { $0.encode() }))) }
                case .decline(let checkpoint, let failure):
                    if let part = state.deferred.removeValue(forKey: checkpoint) { answers.append((part, .failure(failure))) }
                case .resolve(let transaction): recover(&state) { [self] client in resolve(transaction, client) }
                case .fence(let id): recover(&state) { [self] (client) throws(JobFailure) in try fence(id, client) }
                case .fenceStrays(let filter): recover(&state) { [self] (client) throws(JobFailure) in try fenceStrays(filter, client) }
                default: queue(effect)
                }
            }
            return answers
        }
        for (part, outcome) in answers { part.fulfil(outcome) }
        environment.waker.wake()
    }

    private func queue(_ effect: TransactionalWriter.Effect) {
        switch effect {
        case .resolve, .fence, .fenceStrays: break  // See `recover(_:)`.
        case .startProducer(let index): lane(index).queue.async { [self] in start(index) }
        case .discardProducer(let index): lane(index).queue.async { [self] in lane(index).discard() }
        case .seal(let index, let marker): lane(index).queue.async { [self] in seal(index, marker) }
        case .commit(let index, let transaction): lane(index).queue.async { [self] in commit(index, transaction) }
        case .abort(let index): lane(index).queue.async { [self] in abort(index) }
        case .answer, .decline: break
        }
    }

    /// Queues a step of the recovery. A cancelled task has settled only when none is under way: it must not fence whoever comes next.
    private func recover(_ state: inout State, _ body: @escaping @Sendable (TransactionClient) throws(JobFailure) -> Void) {
        state.recovering += 1
        recovery.async { [self] in
            if !isCanceled {
                do throws(JobFailure) {
                    if recoveryClient == nil { recoveryClient = try client() }
                    if let recoveryClient { try body(recoveryClient) }
                } catch {
                    if !isCanceled { fail(error) }
                }
            }
            self.state.withLock { $0.recovering -= 1 }
            environment.waker.wake()
        }
    }

    private func lane(_ index: Int) -> ProducerLane {
        lanes.withLock { lanes in
            if let lane = lanes[index] { return lane }
            let lane = ProducerLane()
            lanes[index] = lane
            return lane
        }
    }

    private func fail(_ failure: JobFailure) { step { $0.failed(failure) } }

    private func passed(_ step: KafkaSinkStep, _ checkpoint: UInt64) { environment.settings.onStep?(step, checkpoint) }

    // MARK: On the slot's thread

    func start(prepare: @escaping @Sendable () throws -> Void) {
        recovery.async { [self] in
            do {
                try prepare()
                step { $0.start() }
            } catch {
                fail(
                    error as? JobFailure
                        ?? JobFailure(domain: .user, recovery: .restart, message: "the format of a Kafka sink is not ready", cause: "\(error)"))
            }
        }
    }

    func producer() throws -> KafkaProducer? {
        let index = try state.withLock { state -> Int? in
            if let failure = state.writer.failure { throw failure }
            return state.writer.isReady ? state.writer.current : nil
        }
        return index.flatMap { lane($0).producer }
    }

    func begin() {
        let time = environment.clock.wallTime.milliseconds
        state.withLock { if $0.writer.needsBegin { $0.writer.begin(at: time) } }
    }

    func barrier(_ checkpoint: UInt64, records: UInt64) -> DeferredState? {
        let part = DeferredState()
        state.withLock { $0.deferred[checkpoint] = part }
        step { $0.barrier(checkpoint, records: records) }
        return part
    }

    func checkpointCompleted(_ checkpoint: UInt64) {
        passed(.completed, checkpoint)
        step { $0.checkpointCompleted(checkpoint) }
    }

    func checkpointAborted(_ checkpoint: UInt64) { step { $0.checkpointAborted(checkpoint) } }

    func endOfInput() {}

    func cancel() {
        let now = environment.clock.now
        state.withLock { $0.settleBy = $0.settleBy ?? now.advanced(by: Self.settleTimeout) }
        step { $0.cancel() }
    }

    func isSettled() throws -> Bool {
        try state.withLock { state in
            guard state.writer.isSettled, state.recovering == 0 else { return false }
            if let failure = state.writer.failure { throw failure }
            return true
        }
    }

    func close() {
        cancel()
        let deferred = state.withLock { state in
            defer { state.deferred = [:] }
            return state.deferred
        }
        for part in deferred.values { part.fulfil(.failure(environment.failure("the task was closed", nil, domain: .system))) }
    }

    var partitionCount: Int { state.withLock { $0.partitionCount } }
    var oldestBegun: Int64? { state.withLock { $0.writer.oldestBegun } }
    var transactionsLost: Int { state.withLock { $0.writer.lostCount } }
    var transactionsCommitted: Int { state.withLock { $0.committed } }

    // MARK: On the lane of the recovery

    private var isCanceled: Bool { environment.cancellation.isCanceled }

    /// Patience that ends early with the task, unless it is for a commit, which is owed.
    private func patience(_ timeout: Duration) -> KafkaPatience {
        let cancellation = environment.cancellation
        return KafkaPatience(clock: environment.clock, deadline: environment.clock.now.advanced(by: timeout)) { cancellation.isCanceled }
    }

    private func client() throws(JobFailure) -> TransactionClient {
        do {
            return try TransactionClient(bootstrap: environment.settings.bootstrap)
        } catch {
            throw JobFailure(domain: .configuration, recovery: .fail, message: "a Kafka sink has no broker to ask", cause: error.description)
        }
    }

    private func pause(_ duration: Duration) {
        let slice = Duration.milliseconds(20)
        let end = environment.clock.now.advanced(by: duration)
        while environment.clock.now < end, !isCanceled { waitNanoseconds(min(slice, environment.clock.now.duration(to: end)).inNanoseconds) }
    }

    /// How long a transaction may still be committed.
    private func timeLeft(_ transaction: PreparedTransaction) -> Duration {
        .milliseconds(max(0, transaction.deadline - environment.clock.wallTime.milliseconds))
    }

    private func resolve(_ transaction: PreparedTransaction, _ client: TransactionClient) {
        let outcome = client.resolve(transaction, patience(max(timeLeft(transaction), environment.settings.flushTimeout)), pause: pause)
        if outcome == .committed { state.withLock { $0.committed += 1 } }
        guard !isCanceled || outcome == .committed else { return }
        step { $0.resolved(transaction, outcome) }
    }

    private func fence(_ id: TransactionalID, _ client: TransactionClient) throws(JobFailure) {
        try fenceNow(id, client)
        step { $0.fenced(id) }
    }

    private func fenceNow(_ id: TransactionalID, _ client: TransactionClient) throws(JobFailure) {
        _ = try client.fence(
            id, timeoutMilliseconds: environment.settings.transactionTimeoutMilliseconds, patience(environment.settings.flushTimeout), pause: pause)
    }

    private func fenceStrays(_ filter: StrayFilter, _ client: TransactionClient) throws(JobFailure) {
        // A courtesy to readers, not a need: such transactions end by their time-out too.
        var listed: [TransactionClient.Listed] = []
        do throws(KafkaClientFailure) { listed = try client.listTransactions(patience(environment.settings.lookupTimeout)) ?? [] } catch {}
        for found in listed where found.state == "Ongoing" {
            if let id = filter.stray(found.name) { try fenceNow(id, client) }
        }
        recoveryClient?.close()
        recoveryClient = nil
        step { $0.straysFenced() }
    }

    // MARK: On the lanes of the producers

    private func id(_ index: Int) -> TransactionalID {
        TransactionalID(prefix: environment.settings.prefix ?? "", subtask: environment.subtask, index: index)
    }

    private func start(_ index: Int) {
        guard !isCanceled else { return }
        do throws(JobFailure) {
            let producer = try KafkaProducer(
                properties: environment.settings.properties, transactionalID: id(index),
                timeoutMilliseconds: environment.settings.transactionTimeoutMilliseconds, purpose: environment.settings.purpose(id(index)))
            if partitionCount == 0 {
                let count = try environment.lookUpTopic(producer)
                state.withLock { $0.partitionCount = count }
            }
            try initialise(producer)
            let session = try session(of: producer)
            let base = try baseMarker(index)
            if let error = producer.beginTransaction() { throw transactionFailure("begin", producer, error) }
            lane(index).use(producer)
            step { $0.producerStarted(index, session: session, baseMarker: base) }
        } catch {
            if !isCanceled { fail(error) }
        }
    }

    private func initialise(_ producer: KafkaProducer) throws(JobFailure) {
        let deadline = environment.clock.now.advanced(by: environment.settings.flushTimeout)
        while let error = producer.initTransactions(milliseconds: 500) {
            guard error.isRetriable, environment.clock.now < deadline, !isCanceled else {
                throw transactionFailure("be initialised", producer, error)
            }
            if error.code != RD_KAFKA_RESP_ERR__TIMED_OUT { pause(.milliseconds(50)) }
        }
    }

    /// The session that librdkafka got: its statistics tell it soon.
    private func session(of producer: KafkaProducer) throws(JobFailure) -> ProducerSession {
        let deadline = environment.clock.now.advanced(by: environment.settings.lookupTimeout)
        while environment.clock.now < deadline, !isCanceled {
            if let session = producer.events.statistics.session { return session }
            producer.poll(waitMilliseconds: 50)
        }
        throw environment.failure(
            "the Kafka client does not tell the producer id of \(producer.transactionalID?.description ?? "")",
            "its statistics lack eos.producer_id: is librdkafka older than 1.6?", domain: .system)
    }

    /// The marker that stands when the session begins, once all transactions before it have ended for good.
    private func baseMarker(_ index: Int) throws(JobFailure) -> CommitMarker? {
        let client = try client()
        defer { client.close() }
        let patience = patience(environment.settings.flushTimeout)
        var reason = ""
        while !patience.isOver {
            do throws(KafkaClientFailure) {
                switch try client.fetchMarker(id(index), topic: environment.settings.topic, stable: true, patience) {
                case .marker(let marker): return marker
                case .foreignMarker(let metadata):
                    reason = "the group \(id(index).markerGroup) holds an offset that no Kafka sink of Weir wrote (\"\(metadata)\")"
                case .markerFailed(let code): reason = TransactionResolution.describe(code)
                default: break
                }
            } catch {
                reason = error.description
            }
            pause(.milliseconds(20))
        }
        throw environment.failure("the commit marker of \(id(index)) could not be read", reason)
    }

    private func transactionFailure(_ what: String, _ producer: KafkaProducer, _ error: KafkaTransactionError) -> JobFailure {
        let id = producer.transactionalID?.description ?? ""
        if error.code == RD_KAFKA_RESP_ERR_INVALID_TRANSACTION_TIMEOUT {
            return environment.failure(
                "the broker refuses a transaction.timeout.ms of \(environment.settings.transactionTimeoutMilliseconds): its"
                    + " transaction.max.timeout.ms is lower (15 minutes unless it was changed)",
                "lower the sink's property, or raise the broker's", domain: .configuration, recovery: .fail)
        }
        if error.isFenced {
            return environment.failure(
                "another producer took the transactional id \(id): another job with the prefix \"\(environment.settings.prefix ?? "")\", or this job's"
                    + " next attempt", error.reason)
        }
        return environment.failure(
            "the Kafka transaction of \(id) could not \(what)", producer.events.explanation.map { "\(error.reason); \($0)" } ?? error.reason)
    }

    private func seal(_ index: Int, _ marker: CommitMarker) {
        guard let producer = lane(index).producer else { return }
        do throws(JobFailure) {
            passed(.sealing, marker.checkpoint)
            try environment.flush(producer)
            passed(.flushed, marker.checkpoint)
            let deadline = environment.clock.now.advanced(by: environment.settings.flushTimeout)
            while let error = producer.writeMarker(marker, topic: environment.settings.topic, milliseconds: 1_000) {
                guard error.isRetriable, environment.clock.now < deadline, !isCanceled else {
                    throw transactionFailure("take up its commit marker", producer, error)
                }
                if error.code != RD_KAFKA_RESP_ERR__TIMED_OUT { pause(.milliseconds(50)) }
            }
            guard producer.events.statistics.session == marker.session else {
                throw environment.failure("the Kafka client began a new session of \(id(index)) by itself", producer.events.explanation)
            }
            passed(.prepared, marker.checkpoint)
            step { $0.sealed(index) }
        } catch {
            if !isCanceled { fail(error) }
        }
    }

    /// Patience for a commit, which is owed: a cancelled task has some time left for it.
    private func commitPatience(_ transaction: PreparedTransaction) -> KafkaPatience {
        let clock = environment.clock
        return KafkaPatience(clock: clock, deadline: clock.now.advanced(by: timeLeft(transaction))) { [self] in
            state.withLock { state in state.settleBy.map { clock.now >= $0 } ?? false }
        }
    }

    private func commit(_ index: Int, _ transaction: PreparedTransaction) {
        passed(.committing, transaction.checkpoint)
        let patience = commitPatience(transaction)
        if let producer = lane(index).producer {
            let limit = Int32(clamping: max(1, min(patience.remaining, .seconds(10)).inMilliseconds))
            if producer.commitTransaction(milliseconds: limit) == nil, producer.beginTransaction() == nil {
                return committed(index, transaction, .committed, keepsProducer: true)
            }
            // After an error the producer cannot be trusted to know. Whoever asks the coordinator can.
            lane(index).discard()
        }
        do throws(JobFailure) {
            let client = try client()
            defer { client.close() }
            let outcome = client.resolve(transaction, patience) { waitNanoseconds(min($0, .seconds(1)).inNanoseconds) }
            committed(index, transaction, outcome, keepsProducer: false)
        } catch {
            committed(index, transaction, .unknown(error), keepsProducer: false)
        }
    }

    private func committed(_ index: Int, _ transaction: PreparedTransaction, _ outcome: TransactionOutcome, keepsProducer: Bool) {
        if outcome == .committed {
            passed(.committed, transaction.checkpoint)
            state.withLock { $0.committed += 1 }
        }
        step { $0.committed(index, outcome, keepsProducer: keepsProducer) }
    }

    private func abort(_ index: Int) {
        let session = lane(index).producer?.events.statistics.session
        if let producer = lane(index).producer { _ = producer.abortTransaction(milliseconds: Self.abortMilliseconds) }
        lane(index).discard()
        if let session { shutOut(session, of: id(index)) }
        step { $0.aborted(index) }
    }

    /// Ends what librdkafka's abort may leave open: while the request that adds a transaction's first partition is on its way, librdkafka sees none
    /// to abort, and the broker opens one afterwards. The next epoch ends it, or keeps it from being opened. Only the session's own id gets one: if
    /// another took the id over meanwhile, nothing happens. A broker that cannot be asked ends it by its time-out.
    private func shutOut(_ session: ProducerSession, of id: TransactionalID) {
        let clock = environment.clock
        let patience = KafkaPatience(clock: clock, deadline: clock.now.advanced(by: .milliseconds(Int64(Self.abortMilliseconds)))) { false }
        guard let client = try? client() else { return }
        defer { client.close() }
        client.shutOut(session, of: id, timeoutMilliseconds: environment.settings.transactionTimeoutMilliseconds, patience) {
            waitNanoseconds($0.inNanoseconds)
        }
    }
}

/// A producer and the queue on which it waits for the broker.
final class ProducerLane: Sendable {
    let queue = DispatchQueue(label: "weir.kafka.producer")
    private let storage = Mutex<KafkaProducer?>(nil)

    var producer: KafkaProducer? { storage.withLock { $0 } }

    /// On the queue.
    func use(_ producer: KafkaProducer) {
        // A producer that nobody writes to has call-backs to be served too.
        producer.events.onWake { [queue, weak producer] in queue.async { [weak producer] in producer?.poll() } }
        storage.withLock { $0 = producer }
    }

    /// On the queue: destroying a producer waits for its threads.
    func discard() {
        let producer = storage.withLock { storage in
            defer { storage = nil }
            return storage
        }
        producer?.events.onWake(nil)
    }
}

/// Waits on a thread that may.
func waitNanoseconds(_ nanoseconds: Int64) { usleep(UInt32(clamping: max(0, nanoseconds) / 1_000)) }
