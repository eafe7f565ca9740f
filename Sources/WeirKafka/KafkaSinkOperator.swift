public import WeirBase
public import WeirDataflow
public import WeirFormats

/// The part of a sink subtask that does not depend on the type of its rows: the producer, back pressure and failures.
@usableFromInline
final class KafkaWriter {
    /// How long one wait for room lasts. Successful deliveries wake nobody, so a longer wait would only leave the queue empty.
    private static let waitMilliseconds: Int32 = 5

    let settings: KafkaSinkSettings
    var producer: KafkaProducerHandle?
    private var context: OperatorContext?
    private var recordsOut: Counter?
    private var bytesOut: Counter?
    @usableFromInline let writesEventTime: Bool

    init(settings: KafkaSinkSettings) {
        self.settings = settings
        writesEventTime = settings.writesEventTime
    }

    /// Connects and asks for the topic.
    func start(_ context: OperatorContext) throws {
        self.context = context
        recordsOut = context.counter("numRecordsOut")
        bytesOut = context.counter("numBytesOut")
        let producer = try KafkaProducerHandle(properties: settings.properties, topic: settings.topic)
        // A broker that makes topics when asked needs a moment for it.
        let deadline = context.clock.now.advanced(by: min(settings.lookupTimeout, .seconds(3)))
        while true {
            do {
                _ = try producer.partitionCount(timeout: settings.lookupTimeout, missing: context.isRestored ? .restart : .fail)
                break
            } catch {
                guard error.message.hasPrefix("the Kafka topic"), context.clock.now < deadline else { throw error }
                producer.waitForRoom(milliseconds: 100)
            }
        }
        self.producer = consume producer
    }

    /// Hands a record to the client, waiting for room if there is none.
    @usableFromInline
    func write(key: UnsafeRawBufferPointer?, value: UnsafeRawBufferPointer, timestamp: Int64) throws {
        let time = writesEventTime && timestamp > 0 && timestamp != .max ? timestamp : 0
        guard producer != nil else { throw failure("a sink that is not open was written to", nil, .system) }
        switch producer!.produce(key: key, value: value, timestamp: time) {
        case .queued: break
        case .queueFull: try writeWithRoom(key: key, value: value, timestamp: time)
        case .refused(let reason):
            throw failure("a record of \(value.count) bytes for the Kafka topic \"\(settings.topic)\" was refused", reason, .external)
        }
        bytesOut?.add(value.count + (key?.count ?? 0))
    }

    private func writeWithRoom(key: UnsafeRawBufferPointer?, value: UnsafeRawBufferPointer, timestamp: Int64) throws {
        guard let context else { return }
        let deadline = context.clock.now.advanced(by: settings.flushTimeout)
        context.counter("queueFull").add(1)
        while context.clock.now < deadline {
            producer!.waitForRoom(milliseconds: Self.waitMilliseconds)
            try checkDeliveries()
            switch producer!.produce(key: key, value: value, timestamp: timestamp) {
            case .queued: return
            case .queueFull: continue
            case .refused(let reason): throw failure("a record for the Kafka topic \"\(settings.topic)\" was refused", reason, .external)
            }
        }
        throw failure(
            "the queue of \(producer?.pending ?? 0) records for the Kafka topic \"\(settings.topic)\" at \(settings.bootstrap) was full for"
                + " \(formatDuration(settings.flushTimeout))", producer?.events.explanation, .external)
    }

    /// After a batch.
    @usableFromInline
    func finishBatch(rows: Int) throws {
        recordsOut?.add(rows)
        producer?.poll()
        try checkDeliveries()
    }

    /// Waits until every record was written.
    ///
    /// - Throws: The first delivery that failed, or that the broker did not answer in time.
    @usableFromInline
    func flushAll() throws {
        guard producer != nil, let context else { return }
        let deadline = context.clock.now.advanced(by: settings.flushTimeout)
        while !producer!.flush(timeout: .milliseconds(100)) {
            try checkDeliveries()
            guard context.clock.now < deadline else {
                throw failure(
                    "\(producer?.pending ?? 0) records for the Kafka topic \"\(settings.topic)\" were not written within"
                        + " \(formatDuration(settings.flushTimeout)): is the broker \(settings.bootstrap) overloaded or gone?",
                    producer?.events.explanation, .external)
            }
        }
        try checkDeliveries()
    }

    private func checkDeliveries() throws {
        guard let failed = producer?.events.takeDeliveryFailure() else { return }
        context?.counter("numRecordsOutErrors").add(1)
        let place = failed.partition >= 0 ? "\(failed.topic)[\(failed.partition)]" : failed.topic
        throw failure("a record could not be written to \(place) at the Kafka broker \(settings.bootstrap)", failed.reason, .external)
    }

    private func failure(_ message: String, _ cause: String?, _ domain: JobFailure.Domain) -> JobFailure {
        JobFailure(domain: domain, recovery: .restart, message: message, cause: cause)
    }

    func close() { producer = nil }
}

/// One subtask of a Kafka sink. Generic and inlinable: the loop over the rows is compiled in the job's module, with its format.
@usableFromInline
final class KafkaSinkOperator<Format: SerializationSchema>: AnyOperator {
    @usableFromInline let writer: KafkaWriter
    @usableFromInline let format: Format
    @usableFromInline let key: KafkaSink<Format>.Key?
    @usableFromInline var valueBytes = ByteWriter(capacity: 1_024)
    @usableFromInline var keyBytes = ByteWriter(capacity: 64)
    private var context: OperatorContext?

    @usableFromInline
    init(settings: KafkaSinkSettings, format: Format, key: KafkaSink<Format>.Key?) {
        writer = KafkaWriter(settings: settings)
        self.format = format
        self.key = key
    }

    @usableFromInline
    override func open(_ context: OperatorContext) throws { self.context = context }

    @usableFromInline
    override func start() throws { if let context { try writer.start(context) } }

    @inlinable
    override func process(_ batch: AnyBatch, input: Int) throws {
        let typed = unsafeDowncast(batch, to: Batch<Format.Row>.self)
        for index in 0..<typed.count {
            valueBytes.removeAll()
            try format.encode(typed.rows[index], into: &valueBytes)
            let time = typed.timestamps[index]
            if let key {
                keyBytes.removeAll()
                key(typed.rows[index], &keyBytes)
                try keyBytes.withBytes { key in try valueBytes.withBytes { try writer.write(key: key, value: $0, timestamp: time) } }
            } else {
                try valueBytes.withBytes { try writer.write(key: nil, value: $0, timestamp: time) }
            }
        }
        try writer.finishBatch(rows: typed.count)
        typed.recycle()
    }

    @usableFromInline
    override func snapshot(into builder: SnapshotBuilder) throws { try writer.flushAll() }

    @usableFromInline
    override func endOfInput() throws { try writer.flushAll() }

    @usableFromInline
    override func close() { writer.close() }
}
