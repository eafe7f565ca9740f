/// A span of event time, `start..<end` in milliseconds since the epoch.
public struct TimeWindow: Hashable, Sendable, CustomStringConvertible {
    public let start: Int64
    /// The first time behind the window.
    public let end: Int64

    @inlinable
    public init(start: Int64, end: Int64) {
        self.start = start
        self.end = end
    }

    /// The last time in the window: its results carry it, and the window closes once the watermark has reached it.
    @inlinable public var lastTimestamp: Int64 { end - 1 }

    public var description: String { "[\(start), \(end))" }
}

/// How rows are assigned to windows by their event time.
public struct WindowAssigner: Sendable, Equatable {
    let size: Duration
    let offset: Duration

    /// Windows of one size, side by side: every row is in exactly one.
    ///
    /// - Parameters:
    ///   - size: At least one millisecond, in whole milliseconds.
    ///   - offset: Moves the windows' starts away from the epoch; windows of a day in another time zone need it.
    public static func tumbling(_ size: Duration, offset: Duration = .zero) -> WindowAssigner {
        WindowAssigner(size: size, offset: offset)
    }

    /// What is wrong with it, or nil.
    var problem: String? {
        let isWhole = { (duration: Duration) in duration.components.attoseconds % 1_000_000_000_000_000 == 0 }
        guard size >= .milliseconds(1), isWhole(size) else { return "a window of \(size): it must be whole milliseconds and at least one" }
        guard size.components.seconds < 1 << 40 else { return "a window of \(size): too long" }
        guard isWhole(offset), offset > .zero - size, offset < size else { return "a window offset of \(offset): it must be less than the window" }
        return nil
    }

    var sizeMilliseconds: Int64 { max(1, milliseconds(roundingUp: size)) }
    var offsetMilliseconds: Int64 { milliseconds(roundingUp: offset) }
}

/// Finds the windows of a batch's rows. Not generic, so that its loop is compiled once and well.
struct WindowFinder {
    let size: Int64
    let offset: Int64

    init(_ assigner: WindowAssigner) {
        size = assigner.sizeMilliseconds
        offset = assigner.offsetMilliseconds
    }

    /// Floors to a window's start; clamps at both ends of time, where no whole window is left.
    func start(of time: Int64) -> Int64 {
        let limit = Int64.max / 4
        let relative = min(max(time, -limit), limit) - offset
        var remainder = relative % size
        if remainder < 0 { remainder += size }
        return relative - remainder + offset
    }

    /// Writes the start of every row's window.
    ///
    /// - Returns: The least start.
    func fill(_ starts: UnsafeMutablePointer<Int64>, times: UnsafePointer<Int64>, count: Int) -> Int64 {
        var least = Int64.max
        var start = Int64.max
        var isFirst = true
        for row in 0..<count {
            let time = times[row]
            // Times come nearly in order: most rows are in the window of the row before, and need no division.
            if isFirst || time < start || time &- start >= size {
                start = self.start(of: time)
                isFirst = false
                if start < least { least = start }
            }
            starts[row] = start
        }
        return least
    }
}
