public import WeirBase
public import WeirDataflow

/// Windows that keep their rows, so that an evictor can take some out before or after the windows' function sees them.
public struct EvictingWindowedStream<Key: RecordKey, Trigger: WindowTrigger> where Trigger.Row: BinaryCodable {
    public typealias Row = Trigger.Row
    @usableFromInline typealias Evict = @Sendable (inout [TimestampedRow<Row>], TimeWindow) -> Void

    @usableFromInline let windows: WindowedStream<Key, Trigger>
    @usableFromInline let before: Evict
    @usableFromInline let after: Evict

    @usableFromInline
    init(windows: WindowedStream<Key, Trigger>, before: @escaping Evict, after: @escaping Evict) {
        self.windows = windows
        self.before = before
        self.after = after
    }

    /// Folds the rows that are left, and makes one row of each firing; none where no row is left.
    @inlinable
    @inline(__always)
    public func aggregate<Aggregation: AggregateFunction, Result: Sendable>(
        _ aggregation: Aggregation, file: StaticString = #fileID, line: Int = #line,
        _ emit: @escaping @Sendable (Key, TimeWindow, Aggregation.Output) throws -> Result
    ) -> DataStream<Result> where Aggregation.Input == Row {
        adding(file, line) { key, rows, context in
            guard !rows.isEmpty else { return }
            var accumulator = aggregation.create()
            for row in rows { aggregation.add(row.row, to: &accumulator) }
            try context.emit(emit(key, context.window, aggregation.result(of: accumulator)))
        }
    }

    /// As ``aggregate(_:file:line:_:)``, with rows of key, window and result.
    @inlinable
    @inline(__always)
    public func aggregate<Aggregation: AggregateFunction>(
        _ aggregation: Aggregation, file: StaticString = #fileID, line: Int = #line
    ) -> DataStream<WindowResult<Key, Aggregation.Output>> where Aggregation.Input == Row, Aggregation.Output: BinaryCodable {
        aggregate(aggregation, file: file, line: line) { WindowResult(key: $0, window: $1, value: $2) }
    }

    /// Combines the rows that are left into one.
    @inlinable
    @inline(__always)
    public func reduce(
        _ combine: @escaping @Sendable (Row, Row) throws -> Row, file: StaticString = #fileID, line: Int = #line
    ) -> DataStream<Row> {
        adding(file, line) { _, rows, context in
            guard var result = rows.first?.row else { return }
            for row in rows.dropFirst() { result = try combine(result, row.row) }
            try context.emit(result)
        }
    }

    /// Gives the rows that are left, in the order in which they came, to a function.
    @inlinable
    @inline(__always)
    public func process<Result: Sendable>(
        file: StaticString = #fileID, line: Int = #line,
        _ body: @escaping @Sendable (Key, [Row], WindowContext<Result>) throws -> Void
    ) -> DataStream<Result> {
        adding(file, line) { key, rows, context in try body(key, rows.map(\.row), context) }
    }

    @inlinable
    @inline(__always)
    func adding<Result: Sendable>(
        _ file: StaticString, _ line: Int,
        _ body: @escaping @Sendable (Key, [TimestampedRow<Row>], WindowContext<Result>) throws -> Void
    ) -> DataStream<Result> {
        let before = before
        let after = after
        return windows.addingTriggered(file, line) {
            (_: KeyedStateStore) -> WindowLogic<Key, Trigger, [TimestampedRow<Row>], Result>.Function in
            .init(
                add: { row, timestamp, contents in
                    if contents == nil { contents = [] }
                    contents!.append(TimestampedRow(row, timestamp: timestamp))
                },
                merge: { $1 = $0 + $1 },
                fire: { key, rows, context in
                    before(&rows, context.window)
                    try body(key, rows, context)
                    after(&rows, context.window)
                })
        }
    }
}
