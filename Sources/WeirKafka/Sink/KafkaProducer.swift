import CRdKafka
import Synchronization
import WeirBase
import WeirKafkaTransactions

/// An error of a call about transactions, as librdkafka sorts it.
struct KafkaTransactionError: Sendable {
    var code: rd_kafka_resp_err_t
    var reason: String
    /// The producer is good for nothing any more.
    var isFatal: Bool
    /// The same call may succeed later.
    var isRetriable: Bool

    /// Takes over the error object; nil for success.
    init?(_ error: OpaquePointer?) {
        guard let error else { return nil }
        code = rd_kafka_error_code(error)
        reason = String(cString: rd_kafka_error_string(error))
        isFatal = rd_kafka_error_is_fatal(error) != 0
        isRetriable = rd_kafka_error_is_retriable(error) != 0
        rd_kafka_error_destroy(error)
    }

    /// Whether another producer with the same transactional id is the reason.
    var isFenced: Bool {
        code == RD_KAFKA_RESP_ERR__FENCED || code == RD_KAFKA_RESP_ERR_PRODUCER_FENCED || code == RD_KAFKA_RESP_ERR_INVALID_PRODUCER_EPOCH
    }
}

/// A producer of librdkafka, of one transactional id or of none.
///
/// The slot's thread writes to it; flushing, transactions and the end are another thread's, since they wait. librdkafka's handle locks for
/// itself. The last reference goes on that other thread: destroying joins librdkafka's threads.
final class KafkaProducer: @unchecked Sendable {  // `topics` is the writing thread's; everything else never changes after init.
    /// How often librdkafka tells its statistics: the session of a transactional producer is in them and nowhere else.
    private static let statisticsMilliseconds = (transactional: 200, plain: 1_000)

    /// What became of a record that was handed over.
    enum Outcome: Equatable {
        case queued
        /// The client holds as much as it may: wait for room and try again.
        case queueFull
        case refused(String)
    }

    /// Properties that a sink's guarantee depends on: nobody else sets them.
    static let reservedProperties = ["transactional.id", "enable.gapless.guarantee", "delivery.report.only.error"]

    let handle: OpaquePointer
    let events = KafkaEvents()
    let bootstrap: String
    let transactionalID: TransactionalID?
    private let queue: OpaquePointer?
    private var topics: [String: OpaquePointer] = [:]
    private var lastTopic: (name: String, handle: OpaquePointer)?

    /// - Parameters:
    ///   - properties: librdkafka's; `bootstrap.servers` is needed.
    ///   - timeoutMilliseconds: `transaction.timeout.ms`, for a transactional producer.
    /// - Throws: A configuration failure that names the property that is refused.
    init(properties: KafkaProperties, transactionalID: TransactionalID?, timeoutMilliseconds: Int64, purpose: String) throws(JobFailure) {
        // The partition of a key as Java's clients choose it, so that topics written by both stay in order.
        let defaults: KafkaProperties = ["partitioner": "murmur2_random"]
        // A call-back for each record that was written would cost as much as the record.
        var forced: KafkaProperties = [
            "delivery.report.only.error": "true", "statistics.interval.ms": "\(Self.statisticsMilliseconds.plain)",
        ]
        if let transactionalID {
            forced["statistics.interval.ms"] = "\(Self.statisticsMilliseconds.transactional)"
            forced["transactional.id"] = transactionalID.description
            forced["transaction.timeout.ms"] = "\(timeoutMilliseconds)"
            forced["enable.idempotence"] = "true"
        }
        self.transactionalID = transactionalID
        bootstrap = properties["bootstrap.servers"] ?? ""
        handle = try makeClient(
            RD_KAFKA_PRODUCER, properties: defaults.merging(properties), forced: forced, events: events, purpose: purpose)
        queue = rd_kafka_queue_get_main(handle)
        rd_kafka_queue_cb_event_enable(
            queue, { _, opaque in if let opaque { KafkaEvents.of(opaque).wakeUp() } }, Unmanaged.passUnretained(events).toOpaque())
    }

    deinit {
        if let queue {
            rd_kafka_queue_cb_event_enable(queue, nil, nil)
            rd_kafka_queue_destroy(queue)
        }
        // What is still queued here belongs to no checkpoint: it comes again, or was given up.
        rd_kafka_purge(handle, RD_KAFKA_PURGE_F_QUEUE | RD_KAFKA_PURGE_F_INFLIGHT | RD_KAFKA_PURGE_F_NON_BLOCKING)
        for topic in topics.values { rd_kafka_topic_destroy(topic) }
        rd_kafka_destroy(handle)  // Leaves a transaction open. Nothing calls back after this line.
    }

    /// Records that were handed over and neither written nor given up yet.
    var pending: Int { Int(rd_kafka_outq_len(handle)) }

    // MARK: Writing

    private func topic(_ name: String) -> OpaquePointer? {
        if let lastTopic, lastTopic.name == name { return lastTopic.handle }
        let topic = topics[name] ?? rd_kafka_topic_new(handle, name, nil)
        guard let topic else { return nil }
        topics[name] = topic
        lastTopic = (name, topic)
        return topic
    }

    /// Hands a record over, which is copied.
    ///
    /// - Parameters:
    ///   - partition: nil to choose by the key.
    ///   - value: nil for a tombstone.
    ///   - timestamp: Milliseconds since 1970; 0 for now.
    func produce(
        topic name: String, key: UnsafeRawBufferPointer?, value: UnsafeRawBufferPointer?, partition: Int32?, timestamp: Int64,
        headers: [KafkaProducerRecord.Header]
    ) -> Outcome {
        guard let topic = topic(name) else { return .refused("\"\(name)\" is no name for a Kafka topic") }
        let partition = partition ?? weir_kafka_partition_any
        let error: rd_kafka_resp_err_t
        if headers.isEmpty {
            error = weir_kafka_produce(
                handle, topic, partition, key.map(start), key?.count ?? 0, value.map(start), value?.count ?? 0, timestamp)
        } else {
            let list = makeHeaders(headers)
            error = weir_kafka_produce_headers(
                handle, topic, partition, key.map(start), key?.count ?? 0, value.map(start), value?.count ?? 0, timestamp, list)
            if error != RD_KAFKA_RESP_ERR_NO_ERROR { rd_kafka_headers_destroy(list) }
        }
        return outcome(error)
    }

    /// Hands records over, which are copied, up to one that is not taken.
    ///
    /// - Parameters:
    ///   - start: The first record to hand over.
    ///   - partition: For records that say none; nil to choose by the key.
    /// - Returns: How many were taken, and what became of the one behind them, if there is one.
    func produce(
        _ records: borrowing KafkaWaitingRecords, from start: Int, topic name: String, partition: Int32?
    ) -> (taken: Int, outcome: Outcome) {
        guard let topic = topic(name) else { return (0, .refused("\"\(name)\" is no name for a Kafka topic")) }
        let (taken, error) = records.produce(from: start, handle, topic, partition: partition ?? weir_kafka_partition_any)
        return (taken, outcome(error))
    }

    private func outcome(_ error: rd_kafka_resp_err_t) -> Outcome {
        switch error {
        case RD_KAFKA_RESP_ERR_NO_ERROR: .queued
        case RD_KAFKA_RESP_ERR__QUEUE_FULL: .queueFull
        default: .refused(explain(error))
        }
    }

    private func makeHeaders(_ headers: [KafkaProducerRecord.Header]) -> OpaquePointer? {
        let list = rd_kafka_headers_new(headers.count)
        for header in headers {
            if let value = header.value {
                _ = value.withUnsafeBytes { rd_kafka_header_add(list, header.key, -1, start(of: $0), $0.count) }
            } else {
                rd_kafka_header_add(list, header.key, -1, nil, 0)
            }
        }
        return list
    }

    /// An error in words, with what made the producer unusable if something did.
    func explain(_ error: rd_kafka_resp_err_t) -> String {
        var text = [CChar](repeating: 0, count: 512)
        let fatal = rd_kafka_fatal_error(handle, &text, text.count)
        return fatal == RD_KAFKA_RESP_ERR_NO_ERROR ? describe(error) : "\(describe(fatal)): \(string(text))"
    }

    /// Serves call-backs: failed deliveries, statistics.
    func poll(waitMilliseconds: Int32 = 0) { rd_kafka_poll(handle, waitMilliseconds) }

    // MARK: Waiting

    /// Sends everything now, whatever `linger.ms` says, and waits for the answers.
    ///
    /// - Returns: Whether nothing is pending any more.
    func flush(milliseconds: Int32) -> Bool { rd_kafka_flush(handle, milliseconds) == RD_KAFKA_RESP_ERR_NO_ERROR }

    /// Gets a session from the coordinator. May be called again after a retriable error.
    func initTransactions(milliseconds: Int32) -> KafkaTransactionError? {
        KafkaTransactionError(rd_kafka_init_transactions(handle, milliseconds))
    }

    /// Local: the broker hears of a transaction with its first record.
    func beginTransaction() -> KafkaTransactionError? { KafkaTransactionError(rd_kafka_begin_transaction(handle)) }

    /// Makes the marker a part of the transaction. May be called again after a retriable error.
    func writeMarker(_ marker: CommitMarker, topic: String, milliseconds: Int32) -> KafkaTransactionError? {
        guard let transactionalID, let list = rd_kafka_topic_partition_list_new(1) else {
            preconditionFailure("a marker is written by a transactional producer")
        }
        defer { rd_kafka_topic_partition_list_destroy(list) }
        let entry = rd_kafka_topic_partition_list_add(list, topic, 0)
        entry?.pointee.offset = Int64(clamping: marker.checkpoint)
        let metadata = Array(marker.metadata.utf8CString)
        // Freed with the list, which takes it for its own.
        entry?.pointee.metadata = metadata.withUnsafeBytes { weir_kafka_copy($0.baseAddress, $0.count) }
        entry?.pointee.metadata_size = metadata.count - 1
        guard let group = rd_kafka_consumer_group_metadata_new(transactionalID.markerGroup) else {
            preconditionFailure("librdkafka is out of memory")
        }
        defer { rd_kafka_consumer_group_metadata_destroy(group) }
        return KafkaTransactionError(rd_kafka_send_offsets_to_transaction(handle, list, group, milliseconds))
    }

    /// After a time-out the producer cannot be used any more.
    func commitTransaction(milliseconds: Int32) -> KafkaTransactionError? {
        KafkaTransactionError(rd_kafka_commit_transaction(handle, milliseconds))
    }

    func abortTransaction(milliseconds: Int32) -> KafkaTransactionError? {
        KafkaTransactionError(rd_kafka_abort_transaction(handle, milliseconds))
    }

    func partitionCount(of topic: String, timeout: Duration, missing recovery: JobFailure.Recovery) throws(JobFailure) -> Int {
        try lookUpPartitionCount(handle, topic: topic, bootstrap: bootstrap, timeout: timeout, missing: recovery, events: events)
    }
}

/// An address for bytes that are there: an empty buffer may have none, which Kafka would take for null.
private func start(of bytes: UnsafeRawBufferPointer) -> UnsafeRawPointer {
    bytes.baseAddress ?? UnsafeRawPointer(bitPattern: 8)!
}

/// What librdkafka tells of a producer every now and then, as a JSON text.
final class KafkaProducerStatistics: Sendable {
    private struct State {
        var session: ProducerSession?
        var roundTripMicroseconds = 0
    }

    private let state = Mutex(State())

    /// The producer's session; nil before its first.
    var session: ProducerSession? { state.withLock { $0.session } }
    /// The average round trip of requests to the slowest broker.
    var roundTripMicroseconds: Int { state.withLock { $0.roundTripMicroseconds } }

    func take(_ json: UnsafeRawBufferPointer) {
        var found = State()
        if let producerID = Self.number(behind: "\"producer_id\":", in: json), producerID >= 0,
            let epoch = Self.number(behind: "\"producer_epoch\":", in: json), let epoch = Int16(exactly: epoch), epoch >= 0
        {
            found.session = ProducerSession(producerID: Int64(producerID), epoch: epoch)
        }
        var from = 0
        while let rtt = Self.end(of: "\"rtt\":", in: json, from: from) {
            from = rtt
            if let average = Self.number(behind: "\"avg\":", in: json, from: rtt) {
                found.roundTripMicroseconds = max(found.roundTripMicroseconds, average)
            }
        }
        state.withLock { state in
            if found.session != nil { state.session = found.session }
            state.roundTripMicroseconds = found.roundTripMicroseconds
        }
    }

    private static func end(of name: StaticString, in json: UnsafeRawBufferPointer, from: Int = 0) -> Int? {
        guard let base = json.baseAddress, from < json.count,
            let found = weir_kafka_find(base + from, json.count - from, name.utf8Start, name.utf8CodeUnitCount)
        else { return nil }
        return base.distance(to: found) + name.utf8CodeUnitCount
    }

    private static func number(behind name: StaticString, in json: UnsafeRawBufferPointer, from: Int = 0) -> Int? {
        guard var position = end(of: name, in: json, from: from) else { return nil }
        while position < json.count, json[position] == UInt8(ascii: " ") { position += 1 }
        let isNegative = position < json.count && json[position] == UInt8(ascii: "-")
        if isNegative { position += 1 }
        var value = 0
        var digits = 0
        while position < json.count, (UInt8(ascii: "0")...UInt8(ascii: "9")).contains(json[position]), digits < 18 {
            value = value * 10 + Int(json[position] - UInt8(ascii: "0"))
            position += 1
            digits += 1
        }
        return digits == 0 ? nil : isNegative ? -value : value
    }
}
