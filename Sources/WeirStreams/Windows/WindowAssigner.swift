/// Which time decides the window of a row.
public enum WindowTime: Sendable {
    /// The row's own, against the watermark.
    case event
    /// The wall clock of the worker, when the row comes. Results differ from run to run.
    case processing
}

/// How rows are assigned to windows by their time.
public struct WindowAssigner: Sendable, Equatable {
    @usableFromInline
    enum Kind: Sendable, Equatable {
        /// Side by side where size and slide are equal.
        case sliding(size: Duration, slide: Duration, offset: Duration)
        case session(gap: Duration)
        case global
    }

    @usableFromInline let kind: Kind
    @usableFromInline let time: WindowTime

    /// Windows of one size, side by side: every row is in exactly one.
    ///
    /// - Parameters:
    ///   - size: At least one millisecond, in whole milliseconds.
    ///   - offset: Moves the windows' starts away from the epoch; windows of a day in another time zone need it (`.hours(-8)` for days that
    ///     begin at midnight in UTC+8).
    public static func tumbling(_ size: Duration, offset: Duration = .zero, time: WindowTime = .event) -> WindowAssigner {
        WindowAssigner(kind: .sliding(size: size, slide: size, offset: offset), time: time)
    }

    /// Windows of one size that begin every `slide`: a row is in `size / slide` of them, or in none where the slide is longer than the size.
    ///
    /// In event time and without trigger, evictor or lateness, a row is added once, to a pane as long as the greatest common divisor of size and
    /// slide; a window that closes merges its panes.
    public static func sliding(_ size: Duration, every slide: Duration, offset: Duration = .zero, time: WindowTime = .event) -> WindowAssigner {
        WindowAssigner(kind: .sliding(size: size, slide: slide, offset: offset), time: time)
    }

    /// Windows a key that grow with each row, and end when no row has come for `gap`. Sessions that touch become one.
    public static func session(gap: Duration, time: WindowTime = .event) -> WindowAssigner {
        WindowAssigner(kind: .session(gap: gap), time: time)
    }

    /// One window a key that never ends: it gives results only by a trigger, ``WindowedStream/trigger(_:)``.
    public static let global = WindowAssigner(kind: .global, time: .event)

    /// Whether rows need an event time and the sources watermarks.
    var needsEventTime: Bool { time == .event && kind != .global }

    /// What is wrong with it, or nil.
    var problem: String? {
        let isWhole = { (duration: Duration) in duration.components.attoseconds % 1_000_000_000_000_000 == 0 }
        func problem(_ what: String, _ duration: Duration) -> String? {
            guard duration >= .milliseconds(1), isWhole(duration) else {
                return "\(what) of \(duration): it must be whole milliseconds and at least one"
            }
            return duration.components.seconds < 1 << 40 ? nil : "\(what) of \(duration): too long"
        }
        switch kind {
        case .global: return nil
        case .session(let gap): return problem("a session gap", gap)
        case .sliding(let size, let slide, let offset):
            if let problem = problem("a window", size) ?? problem("a window slide", slide) { return problem }
            guard isWhole(offset), offset > .zero - slide, offset < slide else {
                return "a window offset of \(offset): it must be less than the \(size == slide ? "window" : "slide"), in whole milliseconds"
            }
            return nil
        }
    }
}

/// A ``WindowAssigner`` in milliseconds, as operators use it.
@usableFromInline
struct WindowPlan: Sendable {
    @usableFromInline
    enum Kind: Sendable { case sliding, session, global }

    @usableFromInline let kind: Kind
    /// Of a session: the gap.
    @usableFromInline let size: Int64
    @usableFromInline let slide: Int64
    @usableFromInline let offset: Int64
    @usableFromInline let isEventTime: Bool

    @usableFromInline
    init(_ assigner: WindowAssigner) {
        isEventTime = assigner.time == .event
        let whole = { (duration: Duration) in max(1, milliseconds(roundingUp: duration)) }
        switch assigner.kind {
        case .sliding(let size, let slide, let offset):
            kind = .sliding
            self.size = whole(size)
            self.slide = whole(slide)
            self.offset = milliseconds(roundingUp: offset)
        case .session(let gap):
            kind = .session
            size = whole(gap)
            slide = size
            offset = 0
        case .global:
            kind = .global
            size = 1
            slide = 1
            offset = 0
        }
    }

    /// The start of the last window that begins at or before a time; at both ends of time, where no whole window is left, clamped.
    @inlinable
    func lastStart(at time: Int64) -> Int64 { floorToMultiple(of: slide, offset: offset, time) }
}

/// The greatest multiple of `step`, moved by `offset`, that is not above a time; times beyond a quarter of what fits are clamped.
@usableFromInline
func floorToMultiple(of step: Int64, offset: Int64, _ time: Int64) -> Int64 {
    let limit = Int64.max / 4
    let relative = min(max(time, -limit), limit) - offset
    var remainder = relative % step
    if remainder < 0 { remainder += step }
    return relative - remainder + offset
}

/// Windows as sequences of panes: the spans between any two ends of windows. Not generic, so that its loop is compiled once and well.
struct WindowPanes {
    /// Of a window.
    let size: Int64
    let slide: Int64
    let offset: Int64
    /// Divides size and slide.
    let pane: Int64

    init(_ plan: WindowPlan) {
        size = plan.size
        slide = plan.slide
        offset = plan.offset
        var (larger, smaller) = (size, slide)
        while smaller != 0 { (larger, smaller) = (smaller, larger % smaller) }
        pane = larger
    }

    /// Whether every window is one pane.
    var isTumbling: Bool { pane == size && size == slide }

    func start(of time: Int64) -> Int64 { floorToMultiple(of: pane, offset: offset, time) }

    /// The start of the last window with the pane; a window may lie before it where the slide is longer than the size.
    func lastWindow(of pane: Int64) -> Int64 { floorToMultiple(of: slide, offset: offset, pane) }

    /// The start of the first window that ends behind the pane's start.
    func firstWindow(of pane: Int64) -> Int64 { lastWindow(of: pane - size) + slide }

    /// Writes the start of every row's pane.
    ///
    /// - Returns: The least start.
    func fill(_ starts: UnsafeMutablePointer<Int64>, times: UnsafePointer<Int64>, count: Int) -> Int64 {
        var least = Int64.max
        var start = Int64.max
        var isFirst = true
        for row in 0..<count {
            let time = times[row]
            // Times come nearly in order: most rows are in the pane of the row before, and need no division.
            if isFirst || time < start || time &- start >= pane {
                start = self.start(of: time)
                isFirst = false
                if start < least { least = start }
            }
            starts[row] = start
        }
        return least
    }
}
