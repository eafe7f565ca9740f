public import WeirBase

extension KeyedStream where Row: BinaryCodable {
    /// Makes a row of every pair of rows that have one key and lie in one window (Flink's window join).
    ///
    ///     orders.keyed(by: \.id).join(payments.keyed(by: \.order), in: .tumbling(.minutes(5))) { order, payment in Paid(order, payment) }
    ///
    /// Both streams need watermarks. A window keeps its rows; rows that come after its end are dropped.
    @inlinable
    @inline(__always)
    public func join<Other: BinaryCodable, Result: Sendable>(
        _ other: KeyedStream<Key, Other>, in assigner: WindowAssigner, file: StaticString = #fileID, line: Int = #line,
        _ combine: @escaping @Sendable (Row, Other) throws -> Result
    ) -> DataStream<Result> {
        coGroup(other, in: assigner, file: file, line: line) { (_, left, right, context: WindowContext<Result>) in
            for row in left {
                for partner in right { try context.emit(combine(row, partner)) }
            }
        }
    }

    /// Gives all rows of both streams that have one key and lie in one window to a function, also where one side has none: outer joins.
    @inlinable
    @inline(__always)
    public func coGroup<Other: BinaryCodable, Result: Sendable>(
        _ other: KeyedStream<Key, Other>, in assigner: WindowAssigner, file: StaticString = #fileID, line: Int = #line,
        _ body: @escaping @Sendable (Key, [Row], [Other], WindowContext<Result>) throws -> Void
    ) -> DataStream<Result> {
        connect(other).stream.window(assigner, file: file, line: line).process(file: file, line: line) {
            (key, rows: [Either<Row, Other>], context: WindowContext<Result>) in
            var left: [Row] = []
            var right: [Other] = []
            for row in rows {
                switch row {
                case .left(let row): left.append(row)
                case .right(let row): right.append(row)
                }
            }
            try body(key, left, right, context)
        }
    }
}
