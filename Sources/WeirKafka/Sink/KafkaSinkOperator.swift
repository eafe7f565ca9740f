public import WeirDataflow

/// Makes the records of a batch's rows and writes them.
@usableFromInline
typealias KafkaEncode<Schema: KafkaRecordSerializationSchema> = @Sendable (KafkaSinkOperator<Schema>, Batch<Schema.Row>) throws -> Void

/// One subtask of a Kafka sink.
@usableFromInline
final class KafkaSinkOperator<Schema: KafkaRecordSerializationSchema>: AnyOperator {
    @usableFromInline let writer: KafkaWriter
    @usableFromInline let schema: Schema
    /// Used for all rows.
    @usableFromInline let record = KafkaProducerRecord()
    private let encode: KafkaEncode<Schema>

    init(settings: KafkaSinkSettings, schema: Schema, encode: @escaping KafkaEncode<Schema>, uid: String) {
        writer = KafkaWriter(settings: settings, uid: uid)
        self.schema = schema
        self.encode = encode
    }

    override func open(_ context: OperatorContext) throws { try writer.open(context) }

    override func restore(from state: RestoredState) throws { try writer.restore(from: state) }

    override func start() throws {
        let schema = schema
        try writer.start { try schema.prepare() }
    }

    override func isReady() throws -> Bool { try writer.isReady() }

    override func process(_ batch: AnyBatch, input: Int) throws {
        let typed = unsafeDowncast(batch, to: Batch<Schema.Row>.self)
        try encode(self, typed)
        typed.recycle()
    }

    override func processingTime(_ now: Int64) throws { writer.processingTime(now) }

    override func snapshot(into builder: SnapshotBuilder) throws { try writer.snapshot(into: builder) }

    override func checkpointCompleted(_ checkpoint: UInt64) throws { writer.checkpointCompleted(checkpoint) }

    override func checkpointAborted(_ checkpoint: UInt64) throws { writer.checkpointAborted(checkpoint) }

    override func endOfInput() throws { writer.endOfInput() }

    override func cancel() { writer.cancel() }

    override func isSettled() throws -> Bool { try writer.isSettled() }

    override func close() { writer.close() }
}

extension KafkaSinkOperator {
    /// The loop over the rows. Inlined into the closure that is made where the schema is concrete: in the job's module.
    @inlinable
    @inline(__always)
    func encodeRows(of batch: Batch<Schema.Row>) throws {
        let schema = schema
        var record = record  // Shares the memory of its bytes.
        var written = 0
        for index in 0..<batch.count {
            let time = batch.timestamps[index]
            record.reset()
            guard try schema.serialize(batch.rows[index], timestamp: time, into: &record) else { continue }
            try writer.write(record, timestamp: time)
            written += 1
        }
        try writer.finishBatch(records: written)
    }
}
