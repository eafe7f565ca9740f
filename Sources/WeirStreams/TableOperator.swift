internal import WeirBase
internal import WeirDataflow

/// Runs a function on every batch, with a table of one value a key.
final class TableOperator<Row: Sendable, State: BinaryCodable, Result: Sendable>: AnyOperator {
    private let declare: @Sendable (KeyedStateStore) throws -> StateTable<State>
    private let output: RowOutput<Result>
    private let hasher: @Sendable (Batch<Row>) -> Void
    private let body: @Sendable (StateTable<State>, Batch<Row>, RowOutput<Result>) throws -> Void
    private var opened: (store: KeyedStateStore, table: StateTable<State>)?

    init(
        declare: @escaping @Sendable (KeyedStateStore) throws -> StateTable<State>, output: RowOutput<Result>,
        hasher: @escaping @Sendable (Batch<Row>) -> Void,
        body: @escaping @Sendable (StateTable<State>, Batch<Row>, RowOutput<Result>) throws -> Void
    ) {
        self.declare = declare
        self.output = output
        self.hasher = hasher
        self.body = body
    }

    override func open(_ context: OperatorContext) throws {
        let store = try KeyedStateStore(context, migration: RecordMigration())
        opened = (store, try declare(store))
    }

    override func process(_ batch: AnyBatch, input: Int) throws {
        let batch = unsafeDowncast(batch, to: Batch<Row>.self)
        guard let opened else { return }
        if !batch.hasKeyHashes {
            hasher(batch)
            batch.hasKeyHashes = true
        }
        try body(opened.table, batch, output)
        try opened.store.checkMemory()
    }

    override func flush() throws { try output.flush() }
    override func snapshot(into builder: SnapshotBuilder) throws { opened?.store.snapshot(into: builder) }
    override func restore(from state: RestoredState) throws { try opened?.store.restore(from: state) }
}
