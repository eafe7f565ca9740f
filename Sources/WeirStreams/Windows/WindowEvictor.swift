public import WeirBase

/// Takes rows out of a window when it fires (Flink's `Evictor`). A window with an evictor keeps its rows.
public protocol WindowEvictor<Row>: Sendable {
    associatedtype Row: BinaryCodable
    /// What is wrong with it, in words; nil if nothing is. The job is refused with it.
    var problem: String? { get }
    /// Before the window's function sees the rows, in the order in which they came. What is taken out is gone for ever.
    func evictBefore(_ rows: inout [TimestampedRow<Row>], of window: TimeWindow)
    /// After the window's function has seen them.
    func evictAfter(_ rows: inout [TimestampedRow<Row>], of window: TimeWindow)
}

extension WindowEvictor {
    @inlinable public var problem: String? { nil }
    @inlinable
    public func evictAfter(_ rows: inout [TimestampedRow<Row>], of window: TimeWindow) {}
}

/// Keeps the last rows.
public struct CountEvictor<Row: BinaryCodable>: WindowEvictor {
    @usableFromInline let count: Int
    @inlinable
    public init(_ count: Int) { self.count = count }
    public var problem: String? { count >= 1 ? nil : "an evictor that keeps \(count) rows: it must keep at least one" }
    @inlinable
    public func evictBefore(_ rows: inout [TimestampedRow<Row>], of window: TimeWindow) {
        if rows.count > count { rows.removeFirst(rows.count - count) }
    }
}

/// Keeps the rows whose time is less than `span` before the latest.
public struct TimeEvictor<Row: BinaryCodable>: WindowEvictor {
    @usableFromInline let span: Int64
    public let problem: String?
    /// - Parameter span: At least 1 ms.
    public init(_ span: Duration) {
        self.span = max(1, milliseconds(roundingUp: span))
        problem = span >= .milliseconds(1) ? nil : "an evictor that keeps \(span): it must be at least a millisecond"
    }
    @inlinable
    public func evictBefore(_ rows: inout [TimestampedRow<Row>], of window: TimeWindow) {
        guard let latest = rows.lazy.map(\.timestamp).max(), latest != .min else { return }
        let (cutoff, isBelowAll) = latest.subtractingReportingOverflow(span)
        if !isBelowAll { rows.removeAll { $0.timestamp <= cutoff } }
    }
}

/// Keeps the rows that are nearer to the last row than a threshold.
public struct DeltaEvictor<Row: BinaryCodable>: WindowEvictor {
    @usableFromInline let threshold: Double
    @usableFromInline let distance: @Sendable (Row, Row) -> Double
    @inlinable
    public init(threshold: Double, distance: @escaping @Sendable (Row, Row) -> Double) {
        self.threshold = threshold
        self.distance = distance
    }
    @inlinable
    public func evictBefore(_ rows: inout [TimestampedRow<Row>], of window: TimeWindow) {
        guard let last = rows.last else { return }
        rows.removeAll { distance($0.row, last.row) >= threshold }
    }
}

extension WindowEvictor {
    /// Keeps the last rows.
    @inlinable
    public static func count<R>(_ count: Int) -> Self where Self == CountEvictor<R> { CountEvictor(count) }
    /// Keeps the rows whose time is less than `span` before the latest.
    public static func time<R>(_ span: Duration) -> Self where Self == TimeEvictor<R> { TimeEvictor(span) }
    /// Keeps the rows that are nearer to the last row than a threshold.
    @inlinable
    public static func delta<R>(threshold: Double, distance: @escaping @Sendable (R, R) -> Double) -> Self where Self == DeltaEvictor<R> {
        DeltaEvictor(threshold: threshold, distance: distance)
    }
}
