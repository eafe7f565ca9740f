public import WeirBase

/// Nothing to remember.
public struct NoTriggerState: BinaryCodable, BitwiseCopyable, Equatable {
    @inlinable
    public init() {}
    public static var schema: Schema { .record(name: "NoTriggerState", fields: []) }
    @inlinable
    public func encode(into writer: inout ByteWriter) {}
    @inlinable
    public init(from reader: inout ByteReader) throws(DecodingFailure) {}
}

/// The trigger of windows that were given no other: fires at the window's end, and at once for each row that comes behind it within the
/// allowed lateness. A global window has no end.
public struct EndOfWindowTrigger<Row: Sendable>: WindowTrigger {
    @inlinable
    public init() {}
    @inlinable
    public func create() -> NoTriggerState { NoTriggerState() }
    @inlinable
    public func element(
        _ row: Row, timestamp: Int64, in window: TimeWindow, state: inout NoTriggerState, _ context: TriggerContext
    ) -> TriggerResult { context.isEventTime && window.lastTimestamp <= context.watermark ? .fire : .proceed }
    @inlinable
    public func end(of window: TimeWindow, state: inout NoTriggerState, _ context: TriggerContext) -> TriggerResult { .fire }
    @inlinable
    public func merge(_ other: NoTriggerState, into state: inout NoTriggerState, window: TimeWindow, _ context: TriggerContext) {}
    @inlinable
    public func isInitial(_ state: NoTriggerState) -> Bool { true }
}

/// Fires when the wall clock reaches the window's last time, also in windows of event time (Flink's `ProcessingTimeTrigger`).
public struct ProcessingTimeTrigger<Row: Sendable>: WindowTrigger {
    @inlinable
    public init() {}
    @inlinable
    public func create() -> NoTriggerState { NoTriggerState() }
    @inlinable
    public func element(
        _ row: Row, timestamp: Int64, in window: TimeWindow, state: inout NoTriggerState, _ context: TriggerContext
    ) -> TriggerResult {
        if !window.isGlobal { context.registerProcessingTimeTimer(at: window.lastTimestamp) }
        return .proceed
    }
    @inlinable
    public func processingTimeTimer(
        at time: Int64, in window: TimeWindow, state: inout NoTriggerState, _ context: TriggerContext
    ) -> TriggerResult { time == window.lastTimestamp ? .fire : .proceed }
    @inlinable
    public func merge(_ other: NoTriggerState, into state: inout NoTriggerState, window: TimeWindow, _ context: TriggerContext) {
        context.registerProcessingTimeTimer(at: window.lastTimestamp)
    }
}

/// Fires with every n-th row of a window, counted from the last firing (Flink's `CountTrigger`). The end of a window does not fire it.
public struct CountTrigger<Row: Sendable>: WindowTrigger {
    @usableFromInline let count: Int
    /// - Parameter count: At least 1.
    @inlinable
    public init(_ count: Int) { self.count = count }
    public var problem: String? { count >= 1 ? nil : "a trigger for every \(count) rows: it needs at least one" }
    @inlinable
    public func create() -> Int { 0 }
    @inlinable
    public func element(_ row: Row, timestamp: Int64, in window: TimeWindow, state: inout Int, _ context: TriggerContext) -> TriggerResult {
        state &+= 1
        guard state >= count else { return .proceed }
        state = 0
        return .fire
    }
    @inlinable
    public func merge(_ other: Int, into state: inout Int, window: TimeWindow, _ context: TriggerContext) { state &+= other }
    @inlinable
    public func isInitial(_ state: Int) -> Bool { state == 0 }
}

/// Fires every `interval` of event time while a window has rows, and at its end (Flink's `ContinuousEventTimeTrigger`). Its times are multiples of the
/// interval since the epoch.
public struct ContinuousEventTimeTrigger<Row: Sendable>: WindowTrigger {
    @usableFromInline let interval: Int64
    public let problem: String?
    /// - Parameter interval: At least 1 ms.
    public init(every interval: Duration) {
        self.interval = max(1, milliseconds(roundingUp: interval))
        problem = interval >= .milliseconds(1) ? nil : "a trigger every \(interval): it must be at least a millisecond"
    }
    /// The time of its next firing; `Int64.max` without one.
    @inlinable
    public func create() -> Int64 { .max }
    @inlinable
    public func element(_ row: Row, timestamp: Int64, in window: TimeWindow, state: inout Int64, _ context: TriggerContext) -> TriggerResult {
        if window.lastTimestamp <= context.watermark, !window.isGlobal { return .fire }
        if state == .max { arm(behind: timestamp, &state, context) }
        return .proceed
    }
    @usableFromInline
    func arm(behind time: Int64, _ state: inout Int64, _ context: TriggerContext) {
        state = floorToMultiple(of: interval, offset: 0, time) + interval
        context.registerTimer(at: state)
    }
    @inlinable
    public func end(of window: TimeWindow, state: inout Int64, _ context: TriggerContext) -> TriggerResult { .fire }
    @inlinable
    public func timer(at time: Int64, in window: TimeWindow, state: inout Int64, _ context: TriggerContext) -> TriggerResult {
        guard time == state else { return .proceed }
        state = .max
        // Behind the window's end there is nothing more to come, and at the end of the data no time left.
        if window.isGlobal ? context.watermark < .max : time + interval < window.lastTimestamp { arm(behind: time, &state, context) }
        return .fire
    }
    @inlinable
    public func merge(_ other: Int64, into state: inout Int64, window: TimeWindow, _ context: TriggerContext) {
        state = Swift.min(state, other)
        if state != .max { context.registerTimer(at: state) }
    }
}

/// Fires every `interval` of processing time while a window has rows (Flink's `ContinuousProcessingTimeTrigger`), and at the end of windows of
/// processing time.
public struct ContinuousProcessingTimeTrigger<Row: Sendable>: WindowTrigger {
    @usableFromInline let interval: Int64
    public let problem: String?
    /// - Parameter interval: At least 1 ms.
    public init(every interval: Duration) {
        self.interval = max(1, milliseconds(roundingUp: interval))
        problem = interval >= .milliseconds(1) ? nil : "a trigger every \(interval): it must be at least a millisecond"
    }
    /// The time of its next firing; `Int64.max` without one.
    @inlinable
    public func create() -> Int64 { .max }
    @inlinable
    public func element(_ row: Row, timestamp: Int64, in window: TimeWindow, state: inout Int64, _ context: TriggerContext) -> TriggerResult {
        if state == .max { arm(behind: context.processingTime(), &state, context) }
        return .proceed
    }
    @usableFromInline
    func arm(behind time: Int64, _ state: inout Int64, _ context: TriggerContext) {
        state = floorToMultiple(of: interval, offset: 0, time) + interval
        context.registerProcessingTimeTimer(at: state)
    }
    @inlinable
    public func end(of window: TimeWindow, state: inout Int64, _ context: TriggerContext) -> TriggerResult { context.isEventTime ? .proceed : .fire }
    @inlinable
    public func processingTimeTimer(at time: Int64, in window: TimeWindow, state: inout Int64, _ context: TriggerContext) -> TriggerResult {
        guard time == state else { return .proceed }
        arm(behind: time, &state, context)
        return .fire
    }
    @inlinable
    public func merge(_ other: Int64, into state: inout Int64, window: TimeWindow, _ context: TriggerContext) {
        state = Swift.min(state, other)
        if state != .max { context.registerProcessingTimeTimer(at: state) }
    }
}

/// Fires when a row is further than a threshold from the row of the last firing (Flink's `DeltaTrigger`).
public struct DeltaTrigger<Row: BinaryCodable>: WindowTrigger {
    @usableFromInline let threshold: Double
    @usableFromInline let distance: @Sendable (Row, Row) -> Double
    /// - Parameter distance: Of a row (second) from the one of the last firing (first), or from the window's first.
    @inlinable
    public init(threshold: Double, distance: @escaping @Sendable (Row, Row) -> Double) {
        self.threshold = threshold
        self.distance = distance
    }
    @inlinable
    public func create() -> Row? { nil }
    @inlinable
    public func element(_ row: Row, timestamp: Int64, in window: TimeWindow, state: inout Row?, _ context: TriggerContext) -> TriggerResult {
        guard let last = state else {
            state = row
            return .proceed
        }
        guard distance(last, row) > threshold else { return .proceed }
        state = row
        return .fire
    }
    @inlinable
    public func merge(_ other: Row?, into state: inout Row?, window: TimeWindow, _ context: TriggerContext) { state = state ?? other }
}

/// Throws away what a window holds whenever another trigger fires (Flink's `PurgingTrigger`).
public struct PurgingTrigger<Inner: WindowTrigger>: WindowTrigger {
    @usableFromInline let inner: Inner
    @inlinable
    public init(_ inner: Inner) { self.inner = inner }
    @inlinable public var problem: String? { inner.problem }
    @inlinable
    func purging(_ result: TriggerResult) -> TriggerResult { result == .fire ? .fireAndPurge : result }
    @inlinable
    public func create() -> Inner.State { inner.create() }
    @inlinable
    public func element(
        _ row: Inner.Row, timestamp: Int64, in window: TimeWindow, state: inout Inner.State, _ context: TriggerContext
    ) -> TriggerResult { purging(inner.element(row, timestamp: timestamp, in: window, state: &state, context)) }
    @inlinable
    public func end(of window: TimeWindow, state: inout Inner.State, _ context: TriggerContext) -> TriggerResult {
        purging(inner.end(of: window, state: &state, context))
    }
    @inlinable
    public func timer(at time: Int64, in window: TimeWindow, state: inout Inner.State, _ context: TriggerContext) -> TriggerResult {
        purging(inner.timer(at: time, in: window, state: &state, context))
    }
    @inlinable
    public func processingTimeTimer(
        at time: Int64, in window: TimeWindow, state: inout Inner.State, _ context: TriggerContext
    ) -> TriggerResult { purging(inner.processingTimeTimer(at: time, in: window, state: &state, context)) }
    @inlinable
    public func merge(_ other: Inner.State, into state: inout Inner.State, window: TimeWindow, _ context: TriggerContext) {
        inner.merge(other, into: &state, window: window, context)
    }
    @inlinable
    public func isInitial(_ state: Inner.State) -> Bool { inner.isInitial(state) }
}

// MARK: - Leading-dot names

extension WindowTrigger {
    /// Fires at the window's end; the default.
    @inlinable
    public static func endOfWindow<R>() -> Self where Self == EndOfWindowTrigger<R> { EndOfWindowTrigger() }
    /// Fires when the wall clock reaches the window's last time.
    @inlinable
    public static func processingTime<R>() -> Self where Self == ProcessingTimeTrigger<R> { ProcessingTimeTrigger() }
    /// Fires with every n-th row.
    @inlinable
    public static func count<R>(_ count: Int) -> Self where Self == CountTrigger<R> { CountTrigger(count) }
    /// Fires every so often in event time, and at the window's end.
    public static func continuousEventTime<R>(every interval: Duration) -> Self where Self == ContinuousEventTimeTrigger<R> {
        ContinuousEventTimeTrigger(every: interval)
    }
    /// Fires every so often in processing time.
    public static func continuousProcessingTime<R>(every interval: Duration) -> Self where Self == ContinuousProcessingTimeTrigger<R> {
        ContinuousProcessingTimeTrigger(every: interval)
    }
    /// Fires when a row is further than a threshold from the row of the last firing.
    @inlinable
    public static func delta<R>(threshold: Double, distance: @escaping @Sendable (R, R) -> Double) -> Self where Self == DeltaTrigger<R> {
        DeltaTrigger(threshold: threshold, distance: distance)
    }
    /// Throws away what the window holds whenever the other fires.
    @inlinable
    public static func purging<Inner>(_ inner: Inner) -> Self where Self == PurgingTrigger<Inner> { PurgingTrigger(inner) }
}
