import WeirBase
import WeirDataflow

/// How the records of one sink subtask get to the broker, whatever is promised about them.
///
/// Called on the slot's thread, and never waits. What takes time runs elsewhere, and the task's waker is called when it is done.
protocol KafkaSinkDelivering: AnyObject {
    /// Begins to connect.
    ///
    /// - Parameter prepare: What the schema wants done first, on a thread that may wait.
    func start(prepare: @escaping @Sendable () throws -> Void)

    /// The producer to write to; nil while what came before is not on the broker, or no producer is there.
    ///
    /// - Throws: What went wrong.
    func producer() throws -> KafkaProducer?

    /// The first record behind ``start(prepare:)`` or a barrier is about to be written.
    func begin()

    /// The barrier of a checkpoint.
    ///
    /// - Parameter records: Written since ``begin()``.
    /// - Returns: What the checkpoint waits for; nil for nothing.
    func barrier(_ checkpoint: UInt64, records: UInt64) -> DeferredState?

    func checkpointCompleted(_ checkpoint: UInt64)
    func checkpointAborted(_ checkpoint: UInt64)

    /// No more records come.
    func endOfInput()

    func cancel()
    /// Whether everything is done that the subtask owes after ``cancel()``.
    func isSettled() throws -> Bool

    /// Lets go of everything, at its own pace.
    func close()

    /// How many partitions the sink's topic has; 0 before that is known.
    var partitionCount: Int { get }
    /// When the oldest transaction that is not committed began, milliseconds since 1970.
    var oldestBegun: Int64? { get }
    var transactionsLost: Int { get }
    var transactionsCommitted: Int { get }
}

/// What the lanes of a sink work with.
struct KafkaSinkEnvironment: Sendable {
    let settings: KafkaSinkSettings
    let subtask: Int
    let parallelism: Int
    let isRestored: Bool
    let waker: any Waker
    let clock: any WeirClock
    let cancellation: CancellationFlag

    func failure(
        _ message: String, _ cause: String?, domain: JobFailure.Domain = .external, recovery: JobFailure.Recovery = .restart
    ) -> JobFailure {
        JobFailure(domain: domain, recovery: recovery, message: message, cause: cause)
    }

    /// A record that was not delivered, told once.
    func deliveryFailure(_ producer: KafkaProducer) -> JobFailure? {
        guard let failed = producer.events.takeDeliveryFailure() else { return nil }
        let place = failed.partition >= 0 ? "\(failed.topic)[\(failed.partition)]" : failed.topic
        return failure("a record could not be written to \(place) at the Kafka broker \(settings.bootstrap)", failed.reason)
    }

    /// Waits until every record was written.
    ///
    /// - Throws: The first delivery that failed, or that the broker did not answer in time, or that the task was cancelled.
    func flush(_ producer: KafkaProducer) throws(JobFailure) {
        let deadline = clock.now.advanced(by: settings.flushTimeout)
        while !producer.flush(milliseconds: 50) {
            if let failed = deliveryFailure(producer) { throw failed }
            if cancellation.isCanceled { throw failure("the task was cancelled", nil, domain: .system) }
            guard clock.now < deadline else {
                throw failure(
                    "\(producer.pending) records for the Kafka topic \"\(settings.topic)\" were not written within"
                        + " \(formatDuration(settings.flushTimeout)): is the broker \(settings.bootstrap) overloaded or gone?",
                    producer.events.explanation)
            }
        }
        if let failed = deliveryFailure(producer) { throw failed }
    }

    /// Asks how many partitions the sink's topic has.
    func lookUpTopic(_ producer: KafkaProducer) throws(JobFailure) -> Int {
        // A broker that makes topics when asked needs a moment for it.
        let deadline = clock.now.advanced(by: min(settings.lookupTimeout, .seconds(3)))
        while true {
            do throws(JobFailure) {
                return try producer.partitionCount(
                    of: settings.topic, timeout: settings.lookupTimeout, missing: isRestored ? .restart : .fail)
            } catch {
                guard error.message.hasPrefix("the Kafka topic"), clock.now < deadline, !cancellation.isCanceled else { throw error }
                producer.poll(waitMilliseconds: 100)
            }
        }
    }
}
