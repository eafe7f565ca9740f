import Dispatch
import Synchronization
import WeirBase
import WeirDataflow

/// Delivery without transactions: one producer, and at least once a flush at each barrier.
final class PlainDelivery: KafkaSinkDelivering, @unchecked Sendable {  // `state` by its lock, the rest never changes.
    private struct State {
        var producer: KafkaProducer?
        var failure: JobFailure?
        /// Flushes under way; rows wait for them, so that a barrier waits for what is before it alone.
        var flushing = 0
        var deferred: [DeferredState] = []
        var partitionCount = 0
        var isClosed = false
    }

    private let environment: KafkaSinkEnvironment
    private let lane = DispatchQueue(label: "weir.kafka.sink")
    private let state = Mutex(State())

    init(_ environment: KafkaSinkEnvironment) { self.environment = environment }

    func start(prepare: @escaping @Sendable () throws -> Void) {
        lane.async { [self] in
            do throws(JobFailure) {
                do { try prepare() } catch {
                    throw error as? JobFailure
                        ?? JobFailure(domain: .user, recovery: .restart, message: "the format of a Kafka sink is not ready", cause: "\(error)")
                }
                let producer = try KafkaProducer(
                    properties: environment.settings.properties, transactionalID: nil, timeoutMilliseconds: 0,
                    purpose: environment.settings.purpose(nil))
                let count = try environment.lookUpTopic(producer)
                serveEvents(of: producer)
                state.withLock { state in
                    guard !state.isClosed else { return }
                    state.partitionCount = count
                    state.producer = producer
                }
                environment.waker.wake()
            } catch {
                fail(error)
            }
        }
    }

    /// A producer that nobody writes to has call-backs to be served too.
    private func serveEvents(of producer: KafkaProducer) {
        producer.events.onWake { [lane, weak producer] in
            lane.async { [weak producer] in producer?.poll() }
        }
    }

    private func fail(_ failure: JobFailure) {
        let deferred = state.withLock { state in
            state.failure = state.failure ?? failure
            defer { state.deferred = [] }
            return state.deferred
        }
        for part in deferred { part.fulfil(.failure(failure)) }
        environment.waker.wake()
    }

    func producer() throws -> KafkaProducer? {
        try state.withLock { state in
            if let failure = state.failure { throw failure }
            return state.flushing == 0 ? state.producer : nil
        }
    }

    func begin() {}

    func barrier(_ checkpoint: UInt64, records: UInt64) -> DeferredState? {
        guard environment.settings.delivery == .atLeastOnce, records > 0 else { return nil }
        let part = DeferredState()
        flush(part)
        return part
    }

    func endOfInput() { flush(nil) }

    private func flush(_ part: DeferredState?) {
        let (producer, failure) = state.withLock { state in
            if state.failure == nil, state.producer != nil {
                state.flushing += 1
                if let part { state.deferred.append(part) }
            }
            return (state.producer, state.failure)
        }
        if let failure {
            part?.fulfil(.failure(failure))
            return
        }
        guard let producer else {
            part?.fulfil(.success([]))  // Nothing was ever written.
            return
        }
        lane.async { [self] in
            do throws(JobFailure) {
                try environment.flush(producer)
            } catch {
                state.withLock { $0.flushing -= 1 }
                return fail(error)
            }
            state.withLock { state in
                state.flushing -= 1
                state.deferred.removeAll { $0 === part }
            }
            part?.fulfil(.success([]))
            environment.waker.wake()
        }
    }

    func checkpointCompleted(_ checkpoint: UInt64) {}
    func checkpointAborted(_ checkpoint: UInt64) {}
    func cancel() {}
    func isSettled() throws -> Bool { true }

    func close() {
        let (producer, deferred) = state.withLock { state in
            state.isClosed = true
            defer { (state.producer, state.deferred) = (nil, []) }
            return (state.producer, state.deferred)
        }
        for part in deferred { part.fulfil(.failure(environment.failure("the task was closed", nil, domain: .system))) }
        producer?.events.onWake(nil)
        lane.async { _ = producer }  // The last reference goes there: destroying a producer waits for its threads.
    }

    var partitionCount: Int { state.withLock { $0.partitionCount } }
    var oldestBegun: Int64? { nil }
    var transactionsLost: Int { 0 }
    var transactionsCommitted: Int { 0 }
}
