import WeirBase
public import WeirDataflow
import WeirKafkaTransactions

/// The part of a sink subtask that does not depend on the type of its rows: the producer of the moment, back pressure, failures, metrics.
@usableFromInline
final class KafkaWriter {
    /// How long one wait for room lasts. Successful deliveries wake nobody, so a longer wait would only leave the queue empty.
    private static let roomMilliseconds: Int32 = 5
    private static let metricsMilliseconds: Int64 = 1_000

    private struct Metrics {
        let records: Counter
        let bytes: Counter
        let errors: Counter
        let queueFull: Counter
        let sendTime: Counter
        let committed: Counter
        let lost: Counter
        let age: Counter
        let deadline: Counter

        init(_ context: OperatorContext) {
            records = context.counter("numRecordsOut")
            bytes = context.counter("numBytesOut")
            errors = context.counter("numRecordsOutErrors")
            queueFull = context.counter("queueFull")
            sendTime = context.counter("currentSendTime")
            committed = context.counter("transactionsCommitted")
            lost = context.counter("transactionsLost")
            age = context.counter("openTransactionAge")
            deadline = context.counter("transactionDeadline")
            // States from the start: a number that is added to shows as a sum.
            for gauge in [sendTime, age, deadline] { gauge.set(0) }
        }
    }

    private let declared: KafkaSinkSettings
    private let uid: String
    private(set) var settings: KafkaSinkSettings
    private var context: OperatorContext?
    private var metrics: Metrics?
    private var restored: [SinkState] = []
    private var delivery: (any KafkaSinkDelivering)?
    private var producer: KafkaProducer?
    private var hasBegun = false
    /// Handed over since `begin`.
    private var records: UInt64 = 0
    // Used on the slot's thread alone, by calls that do not nest: checking that would cost two calls a record.
    @exclusivity(unchecked) private var waiting = KafkaWaitingRecords()
    @exclusivity(unchecked) private var writesEventTime: Bool
    private var fixedPartition: Int32?
    /// Rows were dropped since the task was cancelled: no checkpoint may be taken of what was written.
    private var isTruncated = false

    @usableFromInline
    init(settings: KafkaSinkSettings, uid: String) {
        declared = settings
        self.settings = settings
        writesEventTime = settings.writesEventTime
        self.uid = uid
    }

    // MARK: Life

    @usableFromInline
    func open(_ context: OperatorContext) throws {
        self.context = context
        metrics = Metrics(context)
        do throws(ConfigurationError) {
            settings = try declared.configured(by: context.settings, uid: uid)
        } catch {
            throw JobFailure(
                domain: .configuration, recovery: .fail, message: "the options of the Kafka sink \"\(uid)\" are wrong", cause: error.description)
        }
    }

    @usableFromInline
    func restore(from state: RestoredState) throws {
        for entry in state.union(SinkState.listName) {
            do {
                restored.append(try SinkState(decoding: entry))
            } catch {
                throw JobFailure(
                    domain: .system, recovery: .fail, message: "the Kafka transactions of checkpoint \(state.checkpoint) are damaged",
                    cause: String(describing: error))
            }
        }
    }

    @usableFromInline
    func start(prepare: @escaping @Sendable () throws -> Void) throws {
        guard let context else { return }
        let environment = KafkaSinkEnvironment(
            settings: settings, subtask: context.subtask, parallelism: context.parallelism, isRestored: context.isRestored,
            waker: context.waker, clock: context.clock, cancellation: context.cancellation)
        // Transactions that a checkpoint names are committed even if the sink writes none any more.
        if settings.delivery != .exactlyOnce, restored.contains(where: { if case .transaction = $0 { true } else { false } }) {
            throw JobFailure(
                domain: .configuration, recovery: .fail,
                message: "the restored checkpoint names transactions of the Kafka sink \"\(uid)\" that wait for their commit, and the sink is not"
                    + " exactly-once any more", cause: "restore it once as it was and stop it with a savepoint; then change it")
        }
        let delivery: any KafkaSinkDelivering =
            settings.delivery == .exactlyOnce
            ? TransactionalDelivery(environment, restored: restored) : PlainDelivery(environment)
        restored = []
        self.delivery = delivery
        delivery.start(prepare: prepare)
        context.callBack(atProcessingTime: context.processingTime() &+ Self.metricsMilliseconds)
    }

    @usableFromInline
    func isReady() throws -> Bool {
        guard let delivery else { return false }
        producer = try delivery.producer()
        return producer != nil
    }

    @usableFromInline
    func cancel() {
        producer = nil
        delivery?.cancel()
    }

    @usableFromInline
    func isSettled() throws -> Bool { try delivery?.isSettled() ?? true }

    @usableFromInline
    func close() {
        producer = nil
        delivery?.close()
        delivery = nil
    }

    // MARK: Records

    /// Writes a record: it goes to the client with others, at the latest in ``finishBatch(records:)``.
    @usableFromInline
    func write(_ record: borrowing KafkaProducerRecord, timestamp: Int64) throws {
        let time = record.timestamp ?? (writesEventTime && timestamp > 0 && timestamp != .max ? timestamp : 0)
        guard record.topic == nil, record.headers.isEmpty else { return try writeApart(record, time) }
        if waiting.isFull { try handOver() }
        record.key.withBytes { key in
            record.value.withBytes { value in
                waiting.append(
                    key: record.hasKey || key.count > 0 ? key : nil, value: record.isTombstone ? nil : value, partition: record.partition,
                    timestamp: time)
            }
        }
    }

    /// A record that needs more than key, value, partition and time.
    private func writeApart(_ record: borrowing KafkaProducerRecord, _ time: Int64) throws {
        try handOver()
        guard !isTruncated, let producer = try writable() else { return }
        let topic = record.topic ?? settings.topic
        let partition = record.partition ?? fixedPartition
        let headers = record.headers
        let isTombstone = record.isTombstone
        let hasKey = record.hasKey || record.key.count > 0
        let bytes = (hasKey ? record.key.count : 0) + (isTombstone ? 0 : record.value.count)
        metrics?.bytes.add(bytes)
        var deadline: Instant?
        while true {
            let outcome = record.key.withBytes { key in
                record.value.withBytes { value in
                    producer.produce(
                        topic: topic, key: hasKey ? key : nil, value: isTombstone ? nil : value, partition: partition, timestamp: time,
                        headers: headers)
                }
            }
            if try settle(outcome, producer, bytes: bytes, topic: topic, &deadline) { break }
        }
        records += 1
    }

    /// Hands what waits to the client, waiting for room if there is none.
    private func handOver() throws {
        guard waiting.count > 0 else { return }
        defer { waiting.removeAll() }
        guard !isTruncated, let producer = try writable() else { return }
        metrics?.bytes.add(waiting.byteCount)
        let topic = settings.topic
        var next = 0
        var deadline: Instant?
        while next < waiting.count, !isTruncated {
            let (taken, outcome) = producer.produce(waiting, from: next, topic: topic, partition: fixedPartition)
            next += taken
            records += UInt64(taken)
            if taken > 0 { deadline = nil }
            _ = try settle(outcome, producer, bytes: next < waiting.count ? waiting.byteCount(of: next) : 0, topic: topic, &deadline)
        }
    }

    /// Deals with what became of a record.
    ///
    /// - Parameters:
    ///   - bytes: Of its key and value.
    ///   - deadline: Until when room is waited for; nil before the first wait.
    /// - Returns: Whether that was all; false to try again.
    /// - Throws: That the record was refused, or that there was no room in time.
    private func settle(
        _ outcome: KafkaProducer.Outcome, _ producer: KafkaProducer, bytes: Int, topic: String, _ deadline: inout Instant?
    ) throws -> Bool {
        switch outcome {
        case .queued: return true
        case .refused(let reason): throw refused(producer, bytes: bytes, topic: topic, reason)
        case .queueFull: break
        }
        guard let context, !context.isCanceled else {
            isTruncated = true
            return true
        }
        let now = context.clock.now
        if deadline == nil { metrics?.queueFull.add(1) }
        let end = deadline ?? now.advanced(by: settings.flushTimeout)
        deadline = end
        guard now < end else {
            throw JobFailure(
                domain: .external, recovery: .restart,
                message: "the queue of \(producer.pending) records for the Kafka topic \"\(topic)\" at \(settings.bootstrap) was full for"
                    + " \(formatDuration(settings.flushTimeout))", cause: producer.events.explanation)
        }
        producer.poll(waitMilliseconds: Self.roomMilliseconds)
        guard producer.events.deliveriesFailed == 0 else {
            throw refused(producer, bytes: bytes, topic: topic, "a record before it was not delivered")
        }
        return false
    }

    private func refused(_ producer: KafkaProducer, bytes: Int, topic: String, _ reason: String) -> JobFailure {
        if let failed = deliveryFailure(producer) { return failed }
        metrics?.errors.add(1)
        return JobFailure(
            domain: .external, recovery: .restart, message: "a record of \(bytes) bytes for the Kafka topic \"\(topic)\" was refused", cause: reason)
    }

    /// The producer, with a transaction begun; nil if the task was cancelled while none was ready.
    private func writable() throws -> KafkaProducer? {
        if producer == nil { try waitUntilReady() }
        guard let producer else { return nil }
        if !hasBegun {
            hasBegun = true
            records = 0
            delivery?.begin()
            if settings.partitioner == .fixed, fixedPartition == nil, let context, let count = delivery?.partitionCount, count > 0 {
                fixedPartition = Int32(context.subtask % count)
            }
        }
        return producer
    }

    /// Rows came although the sink was not ready: from an operator that emits in its own time. They wait on the slot's thread, in slices.
    private func waitUntilReady() throws {
        guard let context else { return }
        while try !isReady() {
            guard !context.isCanceled else {
                isTruncated = true
                return
            }
            waitNanoseconds(Int64(Self.roomMilliseconds) * 1_000_000)
        }
    }

    /// After a batch.
    @usableFromInline
    func finishBatch(records: Int) throws {
        try handOver()
        metrics?.records.add(records)
        guard let producer else { return }
        producer.poll()
        if let failed = deliveryFailure(producer) { throw failed }
    }

    private func deliveryFailure(_ producer: KafkaProducer) -> JobFailure? {
        guard let failed = producer.events.takeDeliveryFailure() else { return nil }
        metrics?.errors.add(1)
        let place = failed.partition >= 0 ? "\(failed.topic)[\(failed.partition)]" : failed.topic
        return JobFailure(
            domain: .external, recovery: .restart, message: "a record could not be written to \(place) at the Kafka broker \(settings.bootstrap)",
            cause: failed.reason)
    }

    // MARK: Checkpoints

    @usableFromInline
    func snapshot(into builder: SnapshotBuilder) throws {
        producer = nil
        guard !isTruncated else {
            let state = DeferredState()
            state.fulfil(.failure(JobFailure(domain: .system, recovery: .restart, message: "the task is being cancelled")))
            builder.addList(SinkState.listName, state)
            return
        }
        if let state = delivery?.barrier(builder.checkpoint, records: hasBegun ? records : 0) { builder.addList(SinkState.listName, state) }
        hasBegun = false
        records = 0
    }

    @usableFromInline
    func checkpointCompleted(_ checkpoint: UInt64) { delivery?.checkpointCompleted(checkpoint) }

    @usableFromInline
    func checkpointAborted(_ checkpoint: UInt64) { delivery?.checkpointAborted(checkpoint) }

    @usableFromInline
    func endOfInput() {
        producer = nil
        delivery?.endOfInput()
        updateMetrics()
    }

    // MARK: Metrics

    @usableFromInline
    func processingTime(_ now: Int64) {
        updateMetrics()
        context?.callBack(atProcessingTime: now &+ Self.metricsMilliseconds)
    }

    private func updateMetrics() {
        guard let metrics, let context, let delivery else { return }
        if let producer { metrics.sendTime.set(producer.events.statistics.roundTripMicroseconds / 1_000) }
        metrics.committed.add(delivery.transactionsCommitted - metrics.committed.value)
        metrics.lost.add(delivery.transactionsLost - metrics.lost.value)
        let begun = delivery.oldestBegun
        metrics.age.set(begun.map { Int(max(0, context.processingTime() - $0)) } ?? 0)
        metrics.deadline.set(begun.map { Int($0 &+ settings.transactionTimeoutMilliseconds) } ?? 0)
    }
}
