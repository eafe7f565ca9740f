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
    /// Since `begin`.
    private var records: UInt64 = 0
    private var fixedPartition: Int32?
    /// Rows were dropped since the task was cancelled: no checkpoint may be taken of what was written.
    private var isTruncated = false

    @usableFromInline
    init(settings: KafkaSinkSettings, uid: String) {
        declared = settings
        self.settings = settings
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

    /// Hands a record to the client, waiting for room if there is none.
    @usableFromInline
    func write(_ record: borrowing KafkaProducerRecord, timestamp: Int64) throws {
        if isTruncated { return }
        guard let producer = try writable() else { return }
        let time = record.timestamp ?? (settings.writesEventTime && timestamp > 0 && timestamp != .max ? timestamp : 0)
        let partition = record.partition ?? fixedPartition
        let topic = record.topic ?? settings.topic
        let headers = record.headers
        let isTombstone = record.isTombstone
        let hasKey = record.hasKey || record.key.count > 0
        var bytes = 0
        let outcome = record.key.withBytes { key in
            record.value.withBytes { value in
                bytes = (hasKey ? key.count : 0) + (isTombstone ? 0 : value.count)
                return hand(
                    over: producer, topic: topic, key: hasKey ? key : nil, value: isTombstone ? nil : value, partition: partition, timestamp: time,
                    headers: headers)
            }
        }
        records += 1
        metrics?.bytes.add(bytes)
        switch outcome {
        case .queued: break
        case .queueFull:  // The task was cancelled meanwhile.
            isTruncated = true
        case .refused(let reason):
            if let failed = deliveryFailure(producer) { throw failed }
            throw JobFailure(
                domain: .external, recovery: .restart,
                message: "a record of \(bytes) bytes for the Kafka topic \"\(topic)\" was refused", cause: reason)
        case .timedOut:
            throw JobFailure(
                domain: .external, recovery: .restart,
                message: "the queue of \(producer.pending) records for the Kafka topic \"\(topic)\" at \(settings.bootstrap) was full for"
                    + " \(formatDuration(settings.flushTimeout))", cause: producer.events.explanation)
        }
    }

    private enum Handed {
        case queued, queueFull, timedOut
        case refused(String)
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

    private func hand(
        over producer: KafkaProducer, topic: String, key: UnsafeRawBufferPointer?, value: UnsafeRawBufferPointer?, partition: Int32?,
        timestamp: Int64, headers: [KafkaProducerRecord.Header]
    ) -> Handed {
        var deadline: Instant?
        while true {
            switch producer.produce(topic: topic, key: key, value: value, partition: partition, timestamp: timestamp, headers: headers) {
            case .queued: return .queued
            case .refused(let reason): return .refused(reason)
            case .queueFull: break
            }
            guard let context else { return .queueFull }
            if context.isCanceled { return .queueFull }
            let now = context.clock.now
            if deadline == nil { metrics?.queueFull.add(1) }
            let end = deadline ?? now.advanced(by: settings.flushTimeout)
            deadline = end
            guard now < end else { return .timedOut }
            producer.poll(waitMilliseconds: Self.roomMilliseconds)
            if producer.events.deliveriesFailed > 0 { return .refused("a record before it was not delivered") }
        }
    }

    /// After a batch.
    @usableFromInline
    func finishBatch(records: Int) throws {
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
        metrics.committed.set(delivery.transactionsCommitted)
        metrics.lost.set(delivery.transactionsLost)
        let begun = delivery.oldestBegun
        metrics.age.set(begun.map { Int(max(0, context.processingTime() - $0)) } ?? 0)
        metrics.deadline.set(begun.map { Int($0 &+ settings.transactionTimeoutMilliseconds) } ?? 0)
    }
}
