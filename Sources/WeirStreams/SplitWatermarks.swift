public import WeirDataflow

/// The watermark of a source subtask that reads several splits: the least of those that are not idle.
///
/// A value without a clock. A source keeps one, tells it the greatest event time of what it read from each split, and asks at the
/// end of each batch whether there is something to send. Splits are numbered by the source, in `0..<count`.
///
///     watermarks.observe(split: partition, greatest: time, now: now)
///     try watermarks.send(now: now, to: context)
public struct SplitWatermarks: Sendable {
    /// What the source has to send.
    public enum Change: Equatable, Sendable {
        /// The watermark rose; or it is where it was, but the source is idle no longer. `emitStatus(idle: false)`, then `emitWatermark`.
        case watermark(Int64)
        /// Every split is idle, and the source no longer holds back what is downstream: `emitStatus(idle: true)`.
        case idle
        case unchanged
    }

    private struct Split {
        var greatest = Int64.min
        var lastRow: Int64
        var isIdle = false
        var isFinished = false
    }

    private let bound: Int64?
    private let idleNanoseconds: Int64?
    private var splits: [Split] = []
    private var sent = Int64.min
    private var isIdle = false

    /// - Parameter strategy: Its bound and idle timeout are taken.
    public init<Row>(_ strategy: WatermarkStrategy<Row>) {
        bound = strategy.outOfOrdernessMilliseconds
        idleNanoseconds = strategy.idleTimeout.map { milliseconds(roundingUp: $0).multipliedReportingOverflow(by: 1_000_000) }
            .map { $0.overflow ? .max / 4 : $0.partialValue }
    }

    /// Adds a split that has had no rows.
    ///
    /// - Parameters:
    ///   - greatest: The greatest event time of what was read from the split before, if it was restored.
    ///   - now: Monotonic nanoseconds.
    /// - Returns: The split's number.
    @discardableResult
    public mutating func addSplit(greatest: Int64 = .min, now: Int64) -> Int {
        splits.append(Split(greatest: greatest, lastRow: now))
        return splits.count - 1
    }

    /// The greatest event time read from a split, to be put into its checkpointed position.
    public func greatest(split: Int) -> Int64 { splits[split].greatest }

    /// Rows were read from `split`, the latest at `greatest`; `now` in monotonic nanoseconds.
    @inline(__always)
    public mutating func observe(split: Int, greatest: Int64, now: Int64) {
        if greatest > splits[split].greatest { splits[split].greatest = greatest }
        splits[split].lastRow = now
        splits[split].isIdle = false
    }

    /// Nothing is known of the split's being without rows: its time until it is idle begins anew. An idle split stays idle.
    public mutating func hold(split: Int, now: Int64) {
        if !splits[split].isIdle { splits[split].lastRow = now }
    }

    /// The split has no more rows, for ever: it no longer holds others back.
    public mutating func finish(split: Int) { splits[split].isFinished = true }

    /// The watermark of one split; `Int64.min` before its first row, or if the strategy makes none.
    public func watermark(split: Int) -> Int64 {
        guard let bound, splits[split].greatest >= .min + bound + 1 else { return .min }
        return splits[split].greatest - bound - 1
    }

    /// The least watermark of the splits that are neither idle nor finished; `Int64.max` if there is none.
    public var least: Int64 {
        var least = Int64.max
        for index in splits.indices where !splits[index].isIdle && !splits[index].isFinished { least = min(least, watermark(split: index)) }
        return least
    }

    /// What to send after a batch, or when idleness is due. The watermark never falls.
    public mutating func advance(now: Int64) -> Change {
        guard let bound else { return .unchanged }
        var least = Int64.max
        var isAnyActive = false
        for index in splits.indices where !splits[index].isFinished {
            if let idleNanoseconds, now &- splits[index].lastRow >= idleNanoseconds { splits[index].isIdle = true }
            if splits[index].isIdle { continue }
            isAnyActive = true
            least = min(least, splits[index].greatest)
        }
        guard isAnyActive else {
            // Finished splits alone make no source idle: its end is told by the end of the data.
            guard !isIdle, splits.contains(where: { !$0.isFinished }) else { return .unchanged }
            isIdle = true
            return .idle
        }
        // A row at the time `least - bound` may still come, so the watermark is one before it.
        let candidate = least < .min + bound + 1 ? Int64.min : least - bound - 1
        let wasIdle = isIdle
        isIdle = false
        guard candidate > sent else { return wasIdle ? .watermark(sent) : .unchanged }
        sent = candidate
        return .watermark(candidate)
    }

    /// Sends what ``advance(now:)`` says.
    public mutating func send(now: Int64, to context: OperatorContext) throws {
        switch advance(now: now) {
        case .watermark(let time):
            try context.emitStatus(idle: false)
            try context.emitWatermark(time)
        case .idle: try context.emitStatus(idle: true)
        case .unchanged: break
        }
    }

    /// The time from `now` to when a split becomes idle, in nanoseconds; nil if none will.
    public func nextIdleness(now: Int64) -> Int64? {
        guard let idleNanoseconds else { return nil }
        var next: Int64?
        for split in splits where !split.isFinished && !split.isIdle {
            let remaining = max(0, split.lastRow &+ idleNanoseconds &- now)
            next = min(next ?? remaining, remaining)
        }
        return next
    }
}
