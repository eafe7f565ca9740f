public import WeirBase
public import WeirDataflow
internal import WeirGraph

extension DataStream where Row: BinaryCodable {
    /// Brings the rows of one key to one subtask, so that state can be kept for them.
    ///
    ///     readings.keyed(by: \.containerID)
    ///
    /// - Parameter key: Gives the same key for equal rows, in every process. A key path or a function.
    @inlinable
    @inline(__always)
    public func keyed<Key: RecordKey>(by key: @escaping @Sendable (Row) -> Key) -> KeyedStream<Key, Row> {
        KeyedStream(self, operations: RowOperations(Row.self), key: key) { batch in
            let rows = batch.rows
            let hashes = batch.keyHashes
            for index in 0..<batch.count { hashes[index] = key(rows[index]).keyHash }
        }
    }

    /// Deals rows out to the subtasks of what follows in turn, a batch at a time.
    @inlinable
    @inline(__always)
    public func rebalance() -> DataStream { exchanged(.rebalance, RowOperations(Row.self)) }

    /// Gives every row to every subtask of what follows.
    @inlinable
    @inline(__always)
    public func broadcast() -> DataStream { exchanged(.broadcast, RowOperations(Row.self)) }

    /// Gives all rows to the first subtask of what follows.
    @inlinable
    @inline(__always)
    public func global() -> DataStream { exchanged(.global, RowOperations(Row.self)) }

    @usableFromInline
    func exchanged(_ kind: ExchangeKind, _ operations: RowOperations<Row>) -> DataStream {
        let partitioner: Partitioner =
            switch kind {
            case .rebalance: .rebalance
            case .broadcast: .broadcast
            case .global: .global
            }
        return partitioned(partitioner, TypedExchange(operations: operations, hasher: nil))
    }
}

@usableFromInline
enum ExchangeKind { case rebalance, broadcast, global }

/// A stream whose rows come to subtasks by their key: what keyed state is kept for.
public struct KeyedStream<Key: RecordKey, Row: Sendable> {
    @usableFromInline let stream: DataStream<Row>
    @usableFromInline let key: @Sendable (Row) -> Key
    @usableFromInline let hasher: @Sendable (Batch<Row>) -> Void

    @usableFromInline
    init(
        _ stream: DataStream<Row>, operations: RowOperations<Row>, key: @escaping @Sendable (Row) -> Key,
        hasher: @escaping @Sendable (Batch<Row>) -> Void
    ) {
        self.stream = stream.partitioned(.hash, TypedExchange(operations: operations, hasher: hasher))
        self.key = key
        self.hasher = hasher
    }

    // MARK: - Rolling aggregations: one row out for each row in

    /// Passes on, for each row, what its key's rows up to it come to.
    ///
    /// - Parameters:
    ///   - aggregation: Folds rows; its accumulator is the state of a key.
    ///   - emit: Makes a row of a key and its result so far.
    @inlinable
    @inline(__always)
    public func aggregate<Aggregation: AggregateFunction, Result: Sendable>(
        _ aggregation: Aggregation, file: StaticString = #fileID, line: Int = #line,
        _ emit: @escaping @Sendable (Key, Aggregation.Output) throws -> Result
    ) -> DataStream<Result> where Aggregation.Input == Row {
        let key = self.key
        return addingTable("aggregate", file, line, table: { try $0.table("state") }) { (table: StateTable<Aggregation.Accumulator>, batch, output) in
            let count = batch.count
            let result = output.batch(capacity: count)
            let rows = batch.rows
            let results = result.rows
            var made = 0
            do {
                try table.update(
                    count: count, hashes: batch.keyHashes, key: { key(rows[$0]) }, initial: { _ in aggregation.create() }
                ) { index, accumulator in
                    aggregation.add(rows[index], to: &accumulator)
                    (results + index).initialize(to: try emit(key(rows[index]), aggregation.result(of: accumulator)))
                    made = index &+ 1
                }
            } catch {
                result.count = made
                throw error
            }
            result.count = count
            result.timestamps.update(from: batch.timestamps, count: count)
            batch.recycle()
            try output.emit(result)
        }
    }

    /// Passes on, for each row, the sum of a number over its key's rows up to it.
    @inlinable
    @inline(__always)
    public func sum<Number: Summable>(
        _ value: @escaping @Sendable (Row) -> Number, file: StaticString = #fileID, line: Int = #line
    ) -> DataStream<KeyedValue<Key, Number>> {
        aggregate(Sum(of: value), file: file, line: line) { KeyedValue(key: $0, value: $1) }
    }

    /// Passes on, for each row, the rows of its key up to it combined into one.
    @inlinable
    @inline(__always)
    public func reduce(
        _ combine: @escaping @Sendable (Row, Row) throws -> Row, file: StaticString = #fileID, line: Int = #line
    ) -> DataStream<Row> where Row: BinaryCodable {
        let key = self.key
        return addingTable("reduce", file, line, table: { try $0.table("state") }) { (table: StateTable<Row>, batch, output) in
            // Rows give way to what they are reduced to: the batch goes on as it is.
            let rows = batch.rows
            let hashes = batch.keyHashes
            for index in 0..<batch.count {
                let hash = hashes[index]
                let (state, isNew) = key(rows[index]).withKeyBytes { table.upsert(hash: hash, keyBytes: $0) }
                if isNew {
                    state.initialize(to: rows[index])
                } else {
                    state.pointee = try combine(state.pointee, rows[index])
                    rows[index] = state.pointee
                }
            }
            try output.emit(batch)
        }
    }

    // MARK: - Adding operators

    /// Adds an operator with one value of state a key. The body owns the batch, whose key hashes are filled.
    @usableFromInline
    func addingTable<State: BinaryCodable, Result: Sendable>(
        _ operation: String, _ file: StaticString, _ line: Int, table: @escaping @Sendable (KeyedStateStore) throws -> StateTable<State>,
        body: @escaping @Sendable (StateTable<State>, Batch<Row>, RowOutput<Result>) throws -> Void
    ) -> DataStream<Result> {
        let hasher = self.hasher
        let code = OperatorCode<Result> { _, _, output in
            TableOperator(declare: table, output: RowOutput(output), hasher: hasher, body: body)
        }
        return stream.adding(operation, Place(file, line), code)
    }
}

/// A key and what belongs to it.
public struct KeyedValue<Key: RecordKey, Value: BinaryCodable>: BinaryCodable {
    /// The key, as the stream was keyed by.
    public var key: Key
    /// What belongs to it, e.g. its running sum.
    public var value: Value

    @inlinable
    public init(key: Key, value: Value) {
        self.key = key
        self.value = value
    }

    public static var schema: Schema {
        .record(name: "KeyedValue", fields: [.init("key", Key.schema), .init("value", Value.schema)])
    }

    @inlinable
    public func encode(into writer: inout ByteWriter) {
        key.encode(into: &writer)
        value.encode(into: &writer)
    }

    @inlinable
    public init(from reader: inout ByteReader) throws(DecodingFailure) {
        self.init(key: try Key(from: &reader), value: try Value(from: &reader))
    }
}

extension KeyedValue: Equatable where Value: Equatable {}
extension KeyedValue: Hashable where Value: Hashable {}
extension KeyedValue: BitwiseCopyable where Key: BitwiseCopyable, Value: BitwiseCopyable {}
