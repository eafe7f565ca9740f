/// A span of time, `start..<end` in milliseconds since the epoch.
public struct TimeWindow: Hashable, Sendable, CustomStringConvertible {
    public let start: Int64
    /// The first time behind the window.
    public let end: Int64

    @inlinable
    public init(start: Int64, end: Int64) {
        self.start = start
        self.end = end
    }

    /// All of time: the one window of ``WindowAssigner/global``.
    public static let global = TimeWindow(start: .min, end: .max)

    /// The last time in the window: its results carry it, and the window closes once the watermark has reached it.
    @inlinable public var lastTimestamp: Int64 { end - 1 }
    @inlinable public var isGlobal: Bool { start == .min }

    /// Whether the windows share a time, or one begins where the other ends: sessions that do are one.
    @inlinable
    func touches(_ other: TimeWindow) -> Bool { start <= other.end && end >= other.start }

    @inlinable
    func union(_ other: TimeWindow) -> TimeWindow { TimeWindow(start: Swift.min(start, other.start), end: Swift.max(end, other.end)) }

    public var description: String { isGlobal ? "global" : "[\(start), \(end))" }
}
