public import WeirBase
public import WeirDataflow

extension KeyedStream where Row: BinaryCodable {
    /// Handles the rows of two streams with the same keys together: one function for each, state and timers in common.
    ///
    ///     .keyed(by: \.id).connect(rules.keyed(by: \.id)).process(
    ///         state: { try $0.value("rule", of: Rule.self) },
    ///         left: { order, rule, context in if rule.value?.allows(order) ?? true { try context.emit(order) } },
    ///         right: { new, rule, context in rule.value = new })
    @inlinable
    @inline(__always)
    public func connect<Other: BinaryCodable>(_ other: KeyedStream<Key, Other>) -> ConnectedStreams<Key, Row, Other> {
        let leftKey = key
        let rightKey = other.key
        let both = base.map { Either<Row, Other>.left($0) }.union(other.base.map { Either<Row, Other>.right($0) })
        return ConnectedStreams(
            stream: both.keyed(by: { row in
                switch row {
                case .left(let left): leftKey(left)
                case .right(let right): rightKey(right)
                }
            }))
    }
}

/// Two streams whose rows of one key are handled together (Flink's `ConnectedStreams`).
public struct ConnectedStreams<Key: RecordKey, Left: BinaryCodable, Right: BinaryCodable> {
    /// The rows of both, by key.
    public let stream: KeyedStream<Key, Either<Left, Right>>

    @usableFromInline
    init(stream: KeyedStream<Key, Either<Left, Right>>) { self.stream = stream }

    /// Runs closures with state and timers on the rows of each key.
    ///
    /// - Parameters:
    ///   - state: Declares the states of a subtask; several as a tuple.
    ///   - left: Called for every row of the first stream.
    ///   - right: Called for every row of the other.
    ///   - timer: Called when the watermark has passed a registered timer.
    @inlinable
    @inline(__always)
    public func process<State, Result: Sendable>(
        state: @escaping @Sendable (KeyedStateStore) throws -> State, file: StaticString = #fileID, line: Int = #line,
        left: @escaping @Sendable (Left, State, ProcessContext<Key, Result>) throws -> Void,
        right: @escaping @Sendable (Right, State, ProcessContext<Key, Result>) throws -> Void,
        timer: @escaping @Sendable (Int64, State, ProcessContext<Key, Result>) throws -> Void = { _, _, _ in }
    ) -> DataStream<Result> {
        stream.process(state: state, timer: timer, file: file, line: line) { row, state, context in
            switch row {
            case .left(let row): try left(row, state, context)
            case .right(let row): try right(row, state, context)
            }
        }
    }

    /// Passes on what one of two functions makes of each row, without state.
    @inlinable
    @inline(__always)
    public func map<Result: Sendable>(
        file: StaticString = #fileID, line: Int = #line, left: @escaping @Sendable (Left) throws -> Result,
        right: @escaping @Sendable (Right) throws -> Result
    ) -> DataStream<Result> {
        process(
            state: { _ in () }, file: file, line: line, left: { row, _, context in try context.emit(left(row)) },
            right: { row, _, context in try context.emit(right(row)) })
    }
}
