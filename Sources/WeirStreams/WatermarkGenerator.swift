/// Makes the watermarks of one split out of its rows, in a way of one's own.
///
///     struct Punctuated: WatermarkGenerator {
///         var last = Int64.min
///         mutating func onEvent(_ row: Reading, timestamp: Int64) { if row.isPunctuation { last = timestamp } }
///         func currentWatermark() -> Int64 { last }
///     }
///     try job.source(…, watermarks: .generated(timestamp: \.timestamp) { Punctuated() }, uid: "readings")
///
/// A source keeps one for each split; its own watermark is the least of them. What it keeps is not part of checkpoints, only the last
/// watermark is.
public protocol WatermarkGenerator<Row>: Sendable {
    associatedtype Row: Sendable

    /// Sees every row of the split in order.
    ///
    /// - Parameter timestamp: The row's event time, milliseconds since 1970.
    mutating func onEvent(_ row: Row, timestamp: Int64)

    /// "No more rows at or before this time"; `Int64.min` if nothing can be said yet. Asked after each batch; one that falls is ignored.
    func currentWatermark() -> Int64
}

/// A generator of one split, a batch at a time.
open class SplitGenerator<Row: Sendable> {
    public init() {}

    /// - Returns: The watermark after these rows.
    open func observe(_ rows: UnsafePointer<Row>, _ times: UnsafePointer<Int64>, _ count: Int) -> Int64 { .min }
}

@usableFromInline
final class TypedGenerator<Generator: WatermarkGenerator>: SplitGenerator<Generator.Row> {
    @usableFromInline var generator: Generator

    @inlinable
    init(_ generator: Generator) { self.generator = generator }

    @inlinable
    override func observe(_ rows: UnsafePointer<Generator.Row>, _ times: UnsafePointer<Int64>, _ count: Int) -> Int64 {
        for row in 0..<count { generator.onEvent(rows[row], timestamp: times[row]) }
        return generator.currentWatermark()
    }
}

/// Gives the rows of a source's splits their event times, and tells what to observe: one in each source subtask.
public struct SplitStamper<Row: Sendable> {
    @usableFromInline let stamp: WatermarkStrategy<Row>.Stamp?
    @usableFromInline let makeGenerator: (@Sendable () -> SplitGenerator<Row>)?
    @usableFromInline var generators: [SplitGenerator<Row>] = []

    /// - Parameter strategy: Where event times come from and how the watermarks follow.
    public init(_ strategy: WatermarkStrategy<Row>) {
        stamp = strategy.stamp
        makeGenerator = strategy.makeGenerator
    }

    /// Writes the event times of a split's rows beside them.
    ///
    /// - Returns: What ``SplitWatermarks/observe(split:greatest:now:)`` is to be told; `Int64.min` if there are no rows.
    @inlinable
    public mutating func stamp(split: Int, _ rows: UnsafePointer<Row>, _ times: UnsafeMutablePointer<Int64>, _ count: Int) -> Int64 {
        guard count > 0 else { return .min }
        var greatest = Int64.min
        if let stamp {
            greatest = stamp(rows, times, count)
        } else {
            for row in 0..<count { greatest = max(greatest, times[row]) }
        }
        return makeGenerator == nil ? greatest : generate(split, rows, times, count)
    }

    /// A watermark counts as the time behind it, as if the latest row had been there and nothing could be out of order.
    @usableFromInline @inline(never)
    mutating func generate(_ split: Int, _ rows: UnsafePointer<Row>, _ times: UnsafePointer<Int64>, _ count: Int) -> Int64 {
        guard let makeGenerator else { return .min }
        while generators.count <= split { generators.append(makeGenerator()) }
        let watermark = generators[split].observe(rows, times, count)
        return watermark == .max ? .max : watermark == .min ? .min : watermark + 1
    }
}
