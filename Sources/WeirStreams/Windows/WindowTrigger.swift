public import WeirBase
internal import WeirDataflow

/// What becomes of a window after its ``WindowTrigger`` was asked.
public enum TriggerResult: Sendable, Equatable {
    case proceed
    /// The window gives its results, and keeps what it holds.
    case fire
    /// What the window holds is thrown away.
    case purge
    case fireAndPurge

    @inlinable var fires: Bool { self == .fire || self == .fireAndPurge }
    @inlinable var purges: Bool { self == .purge || self == .fireAndPurge }
}

/// Decides when a window gives its results (Flink's `Trigger`).
///
/// One value serves all windows; what it must remember of one is its `State`, which is checkpointed with the window.
public protocol WindowTrigger<Row>: Sendable {
    associatedtype Row: Sendable
    associatedtype State: BinaryCodable

    /// What is wrong with it, in words; nil if nothing is. The job is refused with it.
    var problem: String? { get }

    /// The state of a new window.
    func create() -> State

    /// A row was added to the window.
    func element(_ row: Row, timestamp: Int64, in window: TimeWindow, state: inout State, _ context: TriggerContext) -> TriggerResult

    /// The watermark has reached the window's last time; in windows of processing time, the wall clock has.
    func end(of window: TimeWindow, state: inout State, _ context: TriggerContext) -> TriggerResult

    /// The watermark has reached a timer of ``TriggerContext/registerTimer(at:)``.
    func timer(at time: Int64, in window: TimeWindow, state: inout State, _ context: TriggerContext) -> TriggerResult

    /// The wall clock has reached a timer of ``TriggerContext/registerProcessingTimeTimer(at:)``.
    func processingTimeTimer(at time: Int64, in window: TimeWindow, state: inout State, _ context: TriggerContext) -> TriggerResult

    /// Two sessions became one, `window`: adds what `other` remembers. Timers of the former windows are gone; those that are still needed must be
    /// registered again.
    func merge(_ other: State, into state: inout State, window: TimeWindow, _ context: TriggerContext)

    /// Whether a state says no more than that of a new window: then a global window that was purged is forgotten.
    func isInitial(_ state: State) -> Bool
}

extension WindowTrigger {
    @inlinable public var problem: String? { nil }
    @inlinable
    public func end(of window: TimeWindow, state: inout State, _ context: TriggerContext) -> TriggerResult { .proceed }
    @inlinable
    public func timer(at time: Int64, in window: TimeWindow, state: inout State, _ context: TriggerContext) -> TriggerResult { .proceed }
    @inlinable
    public func processingTimeTimer(at time: Int64, in window: TimeWindow, state: inout State, _ context: TriggerContext) -> TriggerResult {
        .proceed
    }
    @inlinable
    public func isInitial(_ state: State) -> Bool { false }
}

/// What a ``WindowTrigger`` can ask, for the window at hand. Only to be used during the call.
public final class TriggerContext {
    /// No rows with an earlier or equal event time should come any more.
    @exclusivity(unchecked) public internal(set) final var watermark = Int64.min
    /// Whether the windows are of event time.
    public let isEventTime: Bool
    @exclusivity(unchecked) @usableFromInline final var window: Int64 = 0
    private let context: OperatorContext
    private let currentKey: CurrentKey
    let timers: TimerQueue
    let processingTimers: TimerQueue

    init(isEventTime: Bool, store: KeyedStateStore, context: OperatorContext) throws {
        self.isEventTime = isEventTime
        self.context = context
        currentKey = store.currentKey
        timers = try store.timers("window-timers")
        processingTimers = try store.timers("window-processing-timers")
    }

    /// The wall clock, milliseconds since the epoch.
    public func processingTime() -> Int64 { context.processingTime() }

    /// Has ``WindowTrigger/timer(at:in:state:_:)`` called for this window once the watermark has reached `time`, once for equal times.
    public func registerTimer(at time: Int64) {
        timers.register(hash: currentKey.hash, keyBytes: currentKey.bytes, namespace: window, time: time)
    }

    public func deleteTimer(at time: Int64) {
        timers.delete(hash: currentKey.hash, keyBytes: currentKey.bytes, namespace: window, time: time)
    }

    /// Has ``WindowTrigger/processingTimeTimer(at:in:state:_:)`` called for this window once the wall clock has reached `time`.
    public func registerProcessingTimeTimer(at time: Int64) {
        processingTimers.register(hash: currentKey.hash, keyBytes: currentKey.bytes, namespace: window, time: time)
        context.callBack(atProcessingTime: time)
    }

    public func deleteProcessingTimeTimer(at time: Int64) {
        processingTimers.delete(hash: currentKey.hash, keyBytes: currentKey.bytes, namespace: window, time: time)
    }
}
