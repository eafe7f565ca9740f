import CRdKafka
import Dispatch
import Synchronization
import WeirBase
import WeirDataflow

/// Writes records that cannot be read to a topic of their own, on a thread that may wait.
///
/// At least once: a checkpoint waits for the letters before its barrier (``flush()``), so that no record is neither read nor kept.
final class KafkaDeadLetters: Sendable {
    /// Letters that may be on their way; the source reads no further while there are more.
    private static let outstandingMax = 10_000
    /// How long a full queue or a flush is waited for.
    private static let timeoutMilliseconds = 60_000
    private static let sliceMilliseconds: Int32 = 100
    private static let farewellMilliseconds: Int32 = 1_000

    struct Letter: Sendable, Equatable {
        var key: [UInt8]?
        var value: [UInt8]?
        var headers: [KafkaRecord.Header]
        /// 0: none.
        var timestamp: Int64
    }

    private let topic: String
    private let properties: KafkaProperties
    private let wake: @Sendable () -> Void
    private let queue = DispatchQueue(label: "weir.kafka.dead-letters")
    private let outstanding = Atomic<Int>(0)
    private let isClosed = Atomic<Bool>(false)
    private let failure = Mutex<JobFailure?>(nil)
    private let producer = Mutex<KafkaLetterProducer?>(nil)
    /// Whether letters were written since the last flush; of the source's thread alone.
    private let isDirty = Atomic<Bool>(false)

    init(topic: String, properties: KafkaProperties, wake: @escaping @Sendable () -> Void) {
        self.topic = topic
        self.properties = properties
        self.wake = wake
    }

    /// Whether the source may go on.
    ///
    /// - Throws: The first letter that could not be written.
    func hasRoom() throws -> Bool {
        if let failure = failure.withLock({ $0 }) { throw failure }
        return outstanding.load(ordering: .relaxed) < Self.outstandingMax
    }

    func write(_ letter: Letter) {
        outstanding.add(1, ordering: .relaxed)
        isDirty.store(true, ordering: .relaxed)
        queue.async { [self] in
            guard failure.withLock({ $0 }) == nil, !isClosed.load(ordering: .relaxed) else { return }
            do throws(JobFailure) {
                try produce(letter)
            } catch {
                fail(error)
            }
        }
    }

    /// What a checkpoint waits for: everything that was written before the call. nil if there is nothing.
    func flush() -> DeferredState? {
        guard isDirty.exchange(false, ordering: .relaxed) else { return nil }
        let state = DeferredState()
        queue.async { [self] in
            do throws(JobFailure) {
                try settle()
                state.fulfil(.success([]))
            } catch {
                fail(error)
                state.fulfil(.failure(error))
            }
        }
        return state
    }

    /// Gives what was not flushed a moment to be written, on its own thread, and returns at once.
    func close() {
        isClosed.store(true, ordering: .relaxed)
        queue.async { [self] in
            guard let last = producer.withLock({ $0.take() }) else { return }
            _ = last.flush(milliseconds: Self.farewellMilliseconds)
        }
    }

    // MARK: On the queue

    private func produce(_ letter: Letter) throws(JobFailure) {
        let producer = try connected()
        var waited = 0
        while true {
            switch producer.produce(letter) {
            case .none:
                outstanding.store(producer.pending, ordering: .relaxed)
                return
            case .full where waited < Self.timeoutMilliseconds && !isClosed.load(ordering: .relaxed):
                producer.wait(milliseconds: Self.sliceMilliseconds)
                waited += Int(Self.sliceMilliseconds)
            case .full: throw unwritten("the client's queue was full for \(Self.timeoutMilliseconds / 1_000) s")
            case .refused(let reason): throw unwritten(reason)
            }
        }
    }

    private func settle() throws(JobFailure) {
        if let failure = failure.withLock({ $0 }) { throw failure }
        let producer = try connected()
        var waited = 0
        while !producer.flush(milliseconds: Self.sliceMilliseconds) {
            waited += Int(Self.sliceMilliseconds)
            guard waited < Self.timeoutMilliseconds, !isClosed.load(ordering: .relaxed) else {
                throw unwritten(producer.events.explanation ?? "no answer came in time")
            }
        }
        outstanding.store(0, ordering: .relaxed)
        wake()
        if let failed = producer.events.takeDeliveryFailure() { throw unwritten(failed.reason) }
    }

    private func connected() throws(JobFailure) -> KafkaLetterProducer {
        if let known = producer.withLock({ $0 }) { return known }
        let made = try KafkaLetterProducer(topic: topic, properties: properties)
        producer.withLock { $0 = made }
        return made
    }

    private func unwritten(_ reason: String) -> JobFailure {
        JobFailure(
            domain: .external, recovery: .restart,
            message: "a record that cannot be read could not be written to the dead-letter topic \"\(topic)\" at"
                + " \(properties["bootstrap.servers"] ?? "")", cause: reason)
    }

    private func fail(_ reason: JobFailure) {
        failure.withLock { $0 = $0 ?? reason }
        wake()
    }
}

/// The one owner of a producer's handle.
private final class KafkaLetterProducer: @unchecked Sendable {  // librdkafka's handle locks for itself; nothing here changes after init.
    enum Obstacle { case none, full, refused(String) }

    let events = KafkaEvents()
    private let handle: OpaquePointer
    private let topic: String

    init(topic: String, properties: KafkaProperties) throws(JobFailure) {
        handle = try makeClient(
            RD_KAFKA_PRODUCER, properties: properties, forced: ["delivery.report.only.error": "true", "enable.idempotence": "true"],
            events: events, purpose: "dead letters to \(topic)")
        self.topic = topic
    }

    deinit {
        rd_kafka_purge(handle, RD_KAFKA_PURGE_F_QUEUE | RD_KAFKA_PURGE_F_INFLIGHT | RD_KAFKA_PURGE_F_NON_BLOCKING)
        rd_kafka_destroy(handle)
    }

    var pending: Int { Int(rd_kafka_outq_len(handle)) }

    func wait(milliseconds: Int32) { rd_kafka_poll(handle, milliseconds) }

    func flush(milliseconds: Int32) -> Bool { rd_kafka_flush(handle, milliseconds) == RD_KAFKA_RESP_ERR_NO_ERROR }

    func produce(_ letter: KafkaDeadLetters.Letter) -> Obstacle {
        rd_kafka_poll(handle, 0)
        let headers = rd_kafka_headers_new(letter.headers.count)
        for header in letter.headers {
            _ = (header.value ?? []).withUnsafeBytes { value in
                rd_kafka_header_add(headers, header.key, -1, header.value == nil ? nil : start(of: value), header.value?.count ?? 0)
            }
        }
        let error = (letter.key ?? []).withUnsafeBytes { key in
            (letter.value ?? []).withUnsafeBytes { value in
                weir_kafka_produce_with_headers(
                    handle, topic, weir_kafka_partition_any, letter.key == nil ? nil : start(of: key), key.count,
                    letter.value == nil ? nil : start(of: value), value.count, letter.timestamp, headers)
            }
        }
        switch error {
        case RD_KAFKA_RESP_ERR_NO_ERROR: return .none
        case RD_KAFKA_RESP_ERR__QUEUE_FULL:
            rd_kafka_headers_destroy(headers)
            return .full
        default:
            rd_kafka_headers_destroy(headers)
            return .refused(describe(error))
        }
    }

    /// An address for bytes that are there: an empty buffer may have none, which Kafka would take for null.
    private func start(of bytes: UnsafeRawBufferPointer) -> UnsafeRawPointer { bytes.baseAddress ?? UnsafeRawPointer(bitPattern: 8)! }
}

extension KafkaReader {
    /// A record that the schema refused.
    ///
    /// - Throws: Where the record is and what it begins with, unless such records are to be skipped; a failure that is not the record's.
    @usableFromInline
    func poison(_ record: KafkaRecord, split: Int, _ error: any Error) throws {
        if let failure = error as? JobFailure { throw failure }
        metrics?.deserializationErrors.add(1)
        let partition = splits[split].position.split
        switch settings.poison {
        case .skip: break
        case .fail:
            throw JobFailure(
                domain: .user, recovery: .fail,
                message: "the record at offset \(record.offset) of \(partition) cannot be read: it begins with \(firstBytes(record.value))",
                cause: String(describing: error))
        case .deadLetter(let topic):
            guard let context else { return }
            let waker = context.waker
            let letters = deadLetters ?? KafkaDeadLetters(topic: topic, properties: settings.deadLetterProperties) { waker.wake() }
            deadLetters = letters
            letters.write(Self.letter(record, partition, error))
        }
    }

    private static func letter(_ record: KafkaRecord, _ partition: KafkaPartition, _ error: any Error) -> KafkaDeadLetters.Letter {
        var headers = record.headers
        let place = [
            ("weir.topic", partition.topic), ("weir.partition", "\(partition.partition)"), ("weir.offset", "\(record.offset)"),
            ("weir.error", String(describing: error)),
        ]
        for (name, text) in place { headers.append(KafkaRecord.Header(name, Array(text.utf8))) }
        return KafkaDeadLetters.Letter(
            key: record.key.map { [UInt8]($0) }, value: record.value.map { [UInt8]($0) }, headers: headers, timestamp: max(0, record.timestamp))
    }

    /// Whether dead letters leave room for more records.
    ///
    /// - Throws: A dead letter that could not be written.
    func hasRoomForMore() throws -> Bool { try deadLetters?.hasRoom() ?? true }
}
