internal import WeirDataflow

/// Runs a function on every batch. Stateless.
///
/// The function is specialised where the job is written; this class is not, and is entered once a batch.
final class BatchOperator<Row: Sendable, Result: Sendable>: AnyOperator {
    private let output: RowOutput<Result>
    private let body: @Sendable (Batch<Row>, RowOutput<Result>) throws -> Void

    init(output: RowOutput<Result>, body: @escaping @Sendable (Batch<Row>, RowOutput<Result>) throws -> Void) {
        self.output = output
        self.body = body
    }

    override func process(_ batch: AnyBatch, input: Int) throws { try body(unsafeDowncast(batch, to: Batch<Row>.self), output) }

    override func flush() throws { try output.flush() }
}

/// Runs a function on every batch, which ends there.
final class BatchSink<Row: Sendable>: AnyOperator {
    private let body: @Sendable (Batch<Row>) throws -> Void

    init(body: @escaping @Sendable (Batch<Row>) throws -> Void) { self.body = body }

    override func process(_ batch: AnyBatch, input: Int) throws {
        try body(unsafeDowncast(batch, to: Batch<Row>.self))
        batch.recycle()
    }
}
