public import WeirBase
public import WeirDataflow

extension KeyedStream where Row: BinaryCodable {
    /// Makes a row of every pair of rows that have one key, and of which the other stream's is between `interval`'s ends later than this
    /// stream's (Flink's interval join).
    ///
    ///     orders.keyed(by: \.id).intervalJoin(payments.keyed(by: \.order), between: .seconds(-5)...(.minutes(30))) { Paid($0, $1) }
    ///
    /// The result's event time is the later of both. Rows are kept as long as a partner may come; one behind the watermark is dropped.
    ///
    /// - Parameter interval: Of event time, both ends included; negative where the other stream's row comes first.
    /// - Complexity: O(rows of the other stream that the key keeps) a row.
    @inlinable
    @inline(__always)
    public func intervalJoin<Other: BinaryCodable, Result: Sendable>(
        _ other: KeyedStream<Key, Other>, between interval: ClosedRange<Duration>, file: StaticString = #fileID, line: Int = #line,
        _ combine: @escaping @Sendable (Row, Other) throws -> Result
    ) -> DataStream<Result> {
        let bounds = IntervalBounds(interval)
        return connect(other).process(
            state: { try IntervalState<Row, Other>($0) }, file: file, line: line,
            left: { row, state, context in
                guard let time = try bounds.accept(context.timestamp, context.watermark) else { return }
                for partner in state.right.elements where bounds.matches(left: time, right: partner.timestamp) {
                    try context.emit(combine(row, partner.row), timestamp: Swift.max(time, partner.timestamp))
                }
                state.left.append(TimestampedRow(row, timestamp: time))
                context.registerTimer(at: bounds.lastUse(left: time))
            },
            right: { row, state, context in
                guard let time = try bounds.accept(context.timestamp, context.watermark) else { return }
                for partner in state.left.elements where bounds.matches(left: partner.timestamp, right: time) {
                    try context.emit(combine(partner.row, row), timestamp: Swift.max(time, partner.timestamp))
                }
                state.right.append(TimestampedRow(row, timestamp: time))
                context.registerTimer(at: bounds.lastUse(right: time))
            },
            timer: { time, state, _ in
                state.left.elements = state.left.elements.filter { bounds.lastUse(left: $0.timestamp) > time }
                state.right.elements = state.right.elements.filter { bounds.lastUse(right: $0.timestamp) > time }
            }
        ).needingEventTime()
    }
}

/// The rows of both sides that may find a partner yet.
@usableFromInline
struct IntervalState<Left: BinaryCodable, Right: BinaryCodable> {
    @usableFromInline let left: ListState<TimestampedRow<Left>>
    @usableFromInline let right: ListState<TimestampedRow<Right>>
    @inlinable
    init(_ store: KeyedStateStore) throws {
        left = try store.list("left")
        right = try store.list("right")
    }
}

/// The interval of an ``KeyedStream/intervalJoin(_:between:file:line:_:)``, ms.
@usableFromInline
struct IntervalBounds: Sendable {
    private let lower: Int64
    private let upper: Int64

    @usableFromInline
    init(_ interval: ClosedRange<Duration>) {
        // Clamped like times, so that sums fit.
        let clamp = { (value: Int64) in min(max(value, .min / 4), .max / 4) }
        upper = clamp(-milliseconds(roundingUp: .zero - interval.upperBound))
        lower = clamp(milliseconds(roundingUp: interval.lowerBound))
    }

    /// The row's time; nil where it is late.
    ///
    /// - Throws: `JobFailure` for a row without event time.
    @usableFromInline
    func accept(_ time: Int64, _ watermark: Int64) throws -> Int64? {
        guard time != AnyBatch.noTimestamp else { throw untimedRows() }
        return time < watermark ? nil : min(max(time, .min / 4), .max / 4)
    }

    @usableFromInline
    func matches(left: Int64, right: Int64) -> Bool { left + lower <= right && right <= left + upper }

    /// Once the watermark is there, no partner comes any more.
    @usableFromInline
    func lastUse(left: Int64) -> Int64 { left + max(upper, 0) }
    @usableFromInline
    func lastUse(right: Int64) -> Int64 { right - min(lower, 0) }
}
