/// How the rows of a source get their event time, and how far the source's watermark trails behind them.
///
/// Event times are milliseconds since the epoch. The watermark says "no more rows at or before this time": rows that come after
/// it all the same are late. A watermark is sent at the end of each batch in which it rose.
public struct WatermarkStrategy<Row: Sendable>: Sendable {
    /// Writes the event time of `count` rows to the column beside them, and returns the greatest; `Int64.min` if there are none.
    ///
    /// A batch at a time, so that the function that reads the time is inlined into the loop.
    public typealias Stamp = @Sendable (_ rows: UnsafePointer<Row>, _ times: UnsafeMutablePointer<Int64>, _ count: Int) -> Int64

    /// Assigns event times; nil leaves those that the source has set (Kafka's record time, for example).
    public let stamp: Stamp?

    /// How far behind the greatest event time the watermark is; nil if no watermarks are sent.
    public let outOfOrderness: Duration?

    /// After how long without rows a split stops holding the others back; nil means never.
    public internal(set) var idleTimeout: Duration?

    /// Makes the generator of one split; nil for the watermarks that ``outOfOrderness`` gives.
    public internal(set) var makeGenerator: (@Sendable () -> SplitGenerator<Row>)?

    /// With which other sources this one keeps together; nil if with none, and its splits run ahead of each other as they come.
    public internal(set) var alignment: WatermarkAlignment?

    /// Whether operators that need event time, such as windows, can stand behind the source.
    public var generatesWatermarks: Bool { outOfOrderness != nil }

    public init(stamp: Stamp?, outOfOrderness: Duration?) {
        self.stamp = stamp
        self.outOfOrderness = outOfOrderness
        self.idleTimeout = nil
        makeGenerator = nil
        alignment = nil
    }

    @usableFromInline
    init(stamp: Stamp?, makeGenerator: @escaping @Sendable () -> SplitGenerator<Row>) {
        self.init(stamp: stamp, outOfOrderness: .zero)
        self.makeGenerator = makeGenerator
    }

    /// Event times out of `timestamp`, at most `bound` out of order: rows that come later than that are late.
    ///
    /// - Parameters:
    ///   - bound: At least zero.
    ///   - timestamp: Milliseconds since the epoch. May be a key path: `\.timestamp`.
    @inlinable
    @inline(__always)
    public static func boundedOutOfOrderness(
        _ bound: Duration, timestamp: @escaping @Sendable (Row) -> Int64
    ) -> WatermarkStrategy<Row> {
        WatermarkStrategy(stamp: stamping(timestamp), outOfOrderness: bound)
    }

    /// As ``boundedOutOfOrderness(_:timestamp:)``, with the times that the source itself gives its rows.
    @inlinable
    public static func boundedOutOfOrderness(_ bound: Duration) -> WatermarkStrategy<Row> {
        WatermarkStrategy(stamp: nil, outOfOrderness: bound)
    }

    /// Event times that never fall within a split.
    @inlinable
    @inline(__always)
    public static func monotonous(timestamp: @escaping @Sendable (Row) -> Int64) -> WatermarkStrategy<Row> {
        WatermarkStrategy(stamp: stamping(timestamp), outOfOrderness: .zero)
    }

    /// Event times, given by the source, that never fall within a split.
    @inlinable
    public static var monotonous: WatermarkStrategy<Row> { WatermarkStrategy(stamp: nil, outOfOrderness: .zero) }

    /// No watermarks before the end of the data: for jobs without event time.
    @inlinable
    public static var none: WatermarkStrategy<Row> { WatermarkStrategy(stamp: nil, outOfOrderness: nil) }

    /// Watermarks as a generator of one's own makes them; see ``WatermarkGenerator``.
    ///
    /// - Parameter make: Makes the generator of one split.
    @inlinable
    @inline(__always)
    public static func generated<Generator: WatermarkGenerator>(
        timestamp: @escaping @Sendable (Row) -> Int64, by make: @escaping @Sendable () -> Generator
    ) -> WatermarkStrategy<Row> where Generator.Row == Row {
        WatermarkStrategy(stamp: stamping(timestamp)) { TypedGenerator(make()) }
    }

    /// Watermarks as a generator of one's own makes them, with the times that the source itself gives its rows.
    @inlinable
    public static func generated<Generator: WatermarkGenerator>(by make: @escaping @Sendable () -> Generator) -> WatermarkStrategy<Row>
    where Generator.Row == Row {
        WatermarkStrategy(stamp: nil) { TypedGenerator(make()) }
    }

    /// Keeps the splits of this source, and of all sources of the job with the same group, near each other in event time: one that is ahead of
    /// the least watermark of the group by more than `drift` is not read until the others have come nearer (Flink's
    /// `withWatermarkAlignment`). So no source fills the state of joins and windows with rows that wait for others.
    ///
    /// Sources without rows should have an ``idleness(_:)``: else the group waits for them. Sources of other processes are heard of about
    /// once a second.
    public func aligned(with group: String, within drift: Duration) -> WatermarkStrategy<Row> {
        var copy = self
        copy.alignment = WatermarkAlignment(group: group, maxDrift: drift)
        return copy
    }

    /// No longer waits for splits that have had no rows for `timeout`.
    public func idleness(_ timeout: Duration) -> WatermarkStrategy<Row> {
        var copy = self
        copy.idleTimeout = timeout
        return copy
    }

    @inlinable
    @inline(__always)
    static func stamping(_ timestamp: @escaping @Sendable (Row) -> Int64) -> Stamp {
        { rows, times, count in
            var greatest = Int64.min
            for row in 0..<count {
                let time = timestamp(rows[row])
                times[row] = time
                if time > greatest { greatest = time }
            }
            return greatest
        }
    }

    /// ``outOfOrderness`` in milliseconds, rounded up so that no row is late that the bound allows.
    public var outOfOrdernessMilliseconds: Int64? { outOfOrderness.map(milliseconds(roundingUp:)) }
}

/// Whole milliseconds, rounded up and clamped to what event time can hold.
@usableFromInline
func milliseconds(roundingUp duration: Duration) -> Int64 {
    let (seconds, attoseconds) = duration.components
    let (whole, overflow) = seconds.multipliedReportingOverflow(by: 1_000)
    if overflow { return seconds < 0 ? .min / 4 : .max / 4 }
    let part = attoseconds / 1_000_000_000_000_000
    let isExact = attoseconds % 1_000_000_000_000_000 == 0
    return whole + part + (isExact || attoseconds < 0 ? 0 : 1)
}
