public import WeirBase
public import WeirDataflow

extension KeyedStream {
    /// Groups the rows of each key into windows of event time.
    ///
    /// A window closes when the watermark passes its end: then it gives its result, and is forgotten. Rows that come later are dropped, and
    /// counted as `numLateRecordsDropped`. The sources upstream need a watermark strategy.
    @inlinable
    @inline(__always)
    public func window(_ assigner: WindowAssigner) -> WindowedStream<Key, Row> { WindowedStream(stream: self, assigner: assigner) }
}

/// The rows of each key in windows, to be aggregated.
public struct WindowedStream<Key: RecordKey, Row: Sendable> {
    @usableFromInline let stream: KeyedStream<Key, Row>
    @usableFromInline let assigner: WindowAssigner

    @usableFromInline
    init(stream: KeyedStream<Key, Row>, assigner: WindowAssigner) {
        self.stream = stream
        self.assigner = assigner
    }

    /// Folds the rows of each window as they come, and makes one row a key and window when it closes.
    ///
    ///     .aggregate(Statistics(of: \.temperature)) { key, window, s in Summary(id: key, from: window.start, mean: s.mean) }
    ///
    /// The row's event time is the last of the window.
    @inlinable
    @inline(__always)
    public func aggregate<Aggregation: AggregateFunction, Result: Sendable>(
        _ aggregation: Aggregation, file: StaticString = #fileID, line: Int = #line,
        _ emit: @escaping @Sendable (Key, TimeWindow, Aggregation.Output) throws -> Result
    ) -> DataStream<Result> where Aggregation.Input == Row {
        let key = stream.key
        return adding(
            "window", file, line, tables: { try $0.windows("windows") },
            add: { (tables: WindowedTables<Aggregation.Accumulator>, batch, starts) in
                let rows = batch.rows
                tables.update(
                    count: batch.count, hashes: batch.keyHashes, namespace: { starts[$0] }, key: { key(rows[$0]) },
                    initial: { _ in aggregation.create() }, body: { aggregation.add(rows[$0], to: &$1) })
            },
            fire: { table, window, output in
                try table.forEach { _, keyBytes, accumulator in
                    let row = try emit(Key(keyBytes: keyBytes), window, aggregation.result(of: accumulator))
                    try output.append(row, timestamp: window.lastTimestamp)
                }
            })
    }

    /// As ``aggregate(_:file:line:_:)``, with rows of key, window and result.
    @inlinable
    @inline(__always)
    public func aggregate<Aggregation: AggregateFunction>(
        _ aggregation: Aggregation, file: StaticString = #fileID, line: Int = #line
    ) -> DataStream<WindowResult<Key, Aggregation.Output>> where Aggregation.Input == Row, Aggregation.Output: BinaryCodable {
        aggregate(aggregation, file: file, line: line) { WindowResult(key: $0, window: $1, value: $2) }
    }

    /// Combines the rows of each window into one.
    @inlinable
    @inline(__always)
    public func reduce(
        _ combine: @escaping @Sendable (Row, Row) throws -> Row, file: StaticString = #fileID, line: Int = #line
    ) -> DataStream<Row> where Row: BinaryCodable {
        let key = stream.key
        return adding(
            "window", file, line, tables: { try $0.windows("windows") },
            add: { (tables: WindowedTables<Row>, batch, starts) in
                let rows = batch.rows
                let hashes = batch.keyHashes
                for index in 0..<batch.count {
                    let hash = hashes[index]
                    let (state, isNew) = key(rows[index]).withKeyBytes { tables.table(starts[index]).upsert(hash: hash, keyBytes: $0) }
                    if isNew {
                        state.initialize(to: rows[index])
                    } else {
                        state.pointee = try combine(state.pointee, rows[index])
                    }
                }
            },
            fire: { table, window, output in
                try table.forEach { _, _, row in try output.append(row, timestamp: window.lastTimestamp) }
            })
    }

    @usableFromInline
    func adding<State: BinaryCodable, Result: Sendable>(
        _ operation: String, _ file: StaticString, _ line: Int, tables: @escaping @Sendable (KeyedStateStore) throws -> WindowedTables<State>,
        add: @escaping @Sendable (WindowedTables<State>, Batch<Row>, UnsafePointer<Int64>) throws -> Void,
        fire: @escaping @Sendable (StateTable<State>, TimeWindow, RowOutput<Result>) throws -> Void
    ) -> DataStream<Result> {
        let place = Place(file, line)
        if let problem = assigner.problem { stream.stream.job.report(problem, at: place) }
        let assigner = self.assigner
        let hasher = stream.hasher
        let code = OperatorCode<Result> { _, _, output in
            WindowOperator(
                windows: WindowFinder(assigner), declare: tables, output: RowOutput(output), hasher: hasher, add: add, fire: fire)
        }
        return stream.stream.adding(operation, place, code, needsEventTime: true)
    }
}

/// What a window of a key came to.
public struct WindowResult<Key: RecordKey, Value: BinaryCodable>: BinaryCodable {
    public var key: Key
    public var windowStart: Int64
    public var windowEnd: Int64
    public var value: Value

    @inlinable
    public init(key: Key, window: TimeWindow, value: Value) {
        self.key = key
        windowStart = window.start
        windowEnd = window.end
        self.value = value
    }

    public static var schema: Schema {
        .record(
            name: "WindowResult",
            fields: [
                .init("key", Key.schema), .init("windowStart", .int64), .init("windowEnd", .int64), .init("value", Value.schema),
            ])
    }

    @inlinable
    public func encode(into writer: inout ByteWriter) {
        key.encode(into: &writer)
        writer.writeI64(windowStart)
        writer.writeI64(windowEnd)
        value.encode(into: &writer)
    }

    @inlinable
    public init(from reader: inout ByteReader) throws(DecodingFailure) {
        let key = try Key(from: &reader)
        let window = TimeWindow(start: try reader.readI64(), end: try reader.readI64())
        self.init(key: key, window: window, value: try Value(from: &reader))
    }
}

extension WindowResult: Equatable where Value: Equatable {}
extension WindowResult: Hashable where Value: Hashable {}
