public import WeirBase

/// Folds rows into an accumulator of a few bytes, so that a window keeps that and not its rows.
///
/// Conform a struct, mark it and its methods `@inlinable` if it lies in a library, and the loop over a batch holds the folding
/// itself rather than a call.
public protocol AggregateFunction<Input, Output>: Sendable {
    associatedtype Input: Sendable
    /// What is kept a key. Plain numbers in a struct (`BitwiseCopyable`) lie inline in the state table.
    associatedtype Accumulator: BinaryCodable
    associatedtype Output

    func create() -> Accumulator
    func add(_ row: Input, to accumulator: inout Accumulator)
    /// Adds what `other` holds, for windows that are merged.
    func merge(_ other: Accumulator, into accumulator: inout Accumulator)
    func result(of accumulator: Accumulator) -> Output
}

/// Count, sum, minimum, maximum and mean of a number in each row.
///
///     .aggregate(Statistics(of: \.temperature)) { key, window, s in Summary(…, mean: s.mean) }
public struct Statistics<Input: Sendable>: AggregateFunction {
    @usableFromInline let value: @Sendable (Input) -> Double

    /// - Parameter value: The number of a row, e.g. a key path: `Statistics(of: \.temperature)`.
    @inlinable
    @inline(__always)
    public init(of value: @escaping @Sendable (Input) -> Double) { self.value = value }

    @inlinable
    @inline(__always)
    public func create() -> NumberSummary { NumberSummary() }
    @inlinable
    @inline(__always)
    public func add(_ row: Input, to accumulator: inout NumberSummary) { accumulator.add(value(row)) }
    @inlinable
    @inline(__always)
    public func merge(_ other: NumberSummary, into accumulator: inout NumberSummary) { accumulator.merge(other) }
    @inlinable
    @inline(__always)
    public func result(of accumulator: NumberSummary) -> NumberSummary { accumulator }
}

/// What ``Statistics`` finds.
public struct NumberSummary: BinaryCodable, BitwiseCopyable, Equatable {
    /// How many rows there were.
    public let count: Int
    /// The sum of their numbers, added in the order in which they came; 0 if there were no rows.
    public let sum: Double
    /// Infinity if there were no rows.
    public let minimum: Double
    /// Minus infinity if there were no rows.
    public let maximum: Double

    /// The summary of no rows.
    @inlinable
    public init() { self.init(count: 0, sum: 0, minimum: .infinity, maximum: -.infinity) }

    @inlinable
    init(count: Int, sum: Double, minimum: Double, maximum: Double) {
        self.count = count
        self.sum = sum
        self.minimum = minimum
        self.maximum = maximum
    }

    /// Not a number if there were no rows.
    @inlinable
    public var mean: Double { sum / Double(count) }

    /// Takes one more row into account.
    @inlinable
    @inline(__always)
    public mutating func add(_ value: Double) {
        self = NumberSummary(
            count: count &+ 1, sum: sum + value, minimum: value < minimum ? value : minimum, maximum: value > maximum ? value : maximum)
    }

    /// Takes in the rows of another summary.
    @inlinable
    public mutating func merge(_ other: NumberSummary) {
        self = NumberSummary(
            count: count &+ other.count, sum: sum + other.sum, minimum: Swift.min(minimum, other.minimum),
            maximum: Swift.max(maximum, other.maximum))
    }

    public static var schema: Schema {
        .record(
            name: "NumberSummary",
            fields: [.init("count", .int64), .init("sum", .double), .init("minimum", .double), .init("maximum", .double)])
    }

    @inlinable
    public func encode(into writer: inout ByteWriter) {
        writer.writeI64(Int64(count))
        writer.writeDouble(sum)
        writer.writeDouble(minimum)
        writer.writeDouble(maximum)
    }

    @inlinable
    public init(from reader: inout ByteReader) throws(DecodingFailure) {
        self.init(
            count: Int(try reader.readI64()), sum: try reader.readDouble(), minimum: try reader.readDouble(),
            maximum: try reader.readDouble())
    }
}

/// The number of rows.
public struct Count<Input: Sendable>: AggregateFunction {
    @inlinable
    public init() {}
    @inlinable
    @inline(__always)
    public func create() -> Int { 0 }
    @inlinable
    @inline(__always)
    public func add(_ row: Input, to accumulator: inout Int) { accumulator &+= 1 }
    @inlinable
    @inline(__always)
    public func merge(_ other: Int, into accumulator: inout Int) { accumulator &+= other }
    @inlinable
    @inline(__always)
    public func result(of accumulator: Int) -> Int { accumulator }
}

/// The sum of a number in each row. Integers wrap around on overflow.
public struct Sum<Input: Sendable, Number: Summable>: AggregateFunction {
    @usableFromInline let value: @Sendable (Input) -> Number

    /// - Parameter value: The number of a row, e.g. a key path: `Sum(of: \.amount)`.
    @inlinable
    @inline(__always)
    public init(of value: @escaping @Sendable (Input) -> Number) { self.value = value }

    @inlinable
    @inline(__always)
    public func create() -> Number { Number.zero }
    @inlinable
    @inline(__always)
    public func add(_ row: Input, to accumulator: inout Number) { accumulator.add(value(row)) }
    @inlinable
    @inline(__always)
    public func merge(_ other: Number, into accumulator: inout Number) { accumulator.add(other) }
    @inlinable
    @inline(__always)
    public func result(of accumulator: Number) -> Number { accumulator }
}

/// A number that ``Sum`` and ``KeyedStream/sum(_:)`` can add up without trapping.
public protocol Summable: BinaryCodable, AdditiveArithmetic {
    mutating func add(_ other: Self)
}

extension Summable where Self: FixedWidthInteger {
    @inlinable
    @inline(__always)
    public mutating func add(_ other: Self) { self &+= other }
}

extension Int: Summable {}
extension Int32: Summable {}
extension Int64: Summable {}
extension UInt32: Summable {}
extension UInt64: Summable {}
extension Double: Summable {
    @inlinable
    @inline(__always)
    public mutating func add(_ other: Double) { self += other }
}
extension Float: Summable {
    @inlinable
    @inline(__always)
    public mutating func add(_ other: Float) { self += other }
}
