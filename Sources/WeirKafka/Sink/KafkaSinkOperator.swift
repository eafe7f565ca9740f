public import WeirDataflow

/// One subtask of a Kafka sink. Generic and inlinable: the loop over the rows is compiled in the job's module, with its schema.
@usableFromInline
final class KafkaSinkOperator<Schema: KafkaRecordSerializationSchema>: AnyOperator {
    @usableFromInline let writer: KafkaWriter
    @usableFromInline let schema: Schema
    @usableFromInline var record = KafkaProducerRecord()

    @usableFromInline
    init(settings: KafkaSinkSettings, schema: Schema, uid: String) {
        writer = KafkaWriter(settings: settings, uid: uid)
        self.schema = schema
    }

    @usableFromInline
    override func open(_ context: OperatorContext) throws { try writer.open(context) }

    @usableFromInline
    override func restore(from state: RestoredState) throws { try writer.restore(from: state) }

    @usableFromInline
    override func start() throws {
        let schema = schema
        try writer.start { try schema.prepare() }
    }

    @usableFromInline
    override func isReady() throws -> Bool { try writer.isReady() }

    @inlinable
    override func process(_ batch: AnyBatch, input: Int) throws {
        let typed = unsafeDowncast(batch, to: Batch<Schema.Row>.self)
        var written = 0
        for index in 0..<typed.count {
            let time = typed.timestamps[index]
            record.reset()
            guard try schema.serialize(typed.rows[index], timestamp: time, into: &record) else { continue }
            try writer.write(record, timestamp: time)
            written += 1
        }
        try writer.finishBatch(records: written)
        typed.recycle()
    }

    @usableFromInline
    override func processingTime(_ now: Int64) throws { writer.processingTime(now) }

    @usableFromInline
    override func snapshot(into builder: SnapshotBuilder) throws { try writer.snapshot(into: builder) }

    @usableFromInline
    override func checkpointCompleted(_ checkpoint: UInt64) throws { writer.checkpointCompleted(checkpoint) }

    @usableFromInline
    override func checkpointAborted(_ checkpoint: UInt64) throws { writer.checkpointAborted(checkpoint) }

    @usableFromInline
    override func endOfInput() throws { writer.endOfInput() }

    @usableFromInline
    override func cancel() { writer.cancel() }

    @usableFromInline
    override func isSettled() throws -> Bool { try writer.isSettled() }

    @usableFromInline
    override func close() { writer.close() }
}
