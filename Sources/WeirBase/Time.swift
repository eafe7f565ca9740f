/// A point on a monotonic clock; only differences mean something.
package struct Instant: Hashable, Sendable, Comparable, CustomStringConvertible {
    package var nanoseconds: Int64
    package init(nanoseconds: Int64) { self.nanoseconds = nanoseconds }
    package func advanced(by duration: Duration) -> Instant { Instant(nanoseconds: nanoseconds &+ duration.inNanoseconds) }
    package func duration(to other: Instant) -> Duration { .nanoseconds(other.nanoseconds &- nanoseconds) }
    package static func < (left: Instant, right: Instant) -> Bool { left.nanoseconds < right.nanoseconds }
    package var description: String { "\(nanoseconds) ns" }
}

/// Milliseconds since 1970-01-01T00:00:00Z.
package struct WallTime: Hashable, Sendable, Comparable, CustomStringConvertible {
    package var milliseconds: Int64
    package init(milliseconds: Int64) { self.milliseconds = milliseconds }
    package static func < (left: WallTime, right: WallTime) -> Bool { left.milliseconds < right.milliseconds }
    package var description: String { "\(milliseconds)" }
}

/// Where time comes from: the system in production, a counter in the simulator.
package protocol WeirClock: Sendable {
    var now: Instant { get }
    var wallTime: WallTime { get }
}

extension Duration {
    /// The whole duration in nanoseconds; clamps at ±292 years.
    package var inNanoseconds: Int64 {
        let (seconds, attoseconds) = components
        let (whole, overflow) = seconds.multipliedReportingOverflow(by: 1_000_000_000)
        guard !overflow else { return seconds < 0 ? .min : .max }
        let (sum, carried) = whole.addingReportingOverflow(attoseconds / 1_000_000_000)
        return carried ? (seconds < 0 ? .min : .max) : sum
    }

    /// The whole duration in milliseconds, rounded towards zero.
    public var inMilliseconds: Int64 { inNanoseconds / 1_000_000 }

    package var inSeconds: Double { Double(inNanoseconds) / 1e9 }
}

/// Parses "10s", "500 ms", "5min", "1h", "2d", "100us", "7ns"; a bare number is milliseconds, as in Flink's configuration.
///
/// - Returns: nil for anything else, for negative values and for values past 292 years.
package func parseDuration(_ text: String) -> Duration? {
    guard let (number, unit) = splitNumber(text) else { return nil }
    let factor: Int64
    switch unit {
    case "ns", "nano", "nanos": factor = 1
    case "us", "µs", "micro", "micros": factor = 1_000
    case "", "ms", "milli", "millis": factor = 1_000_000
    case "s", "sec", "secs", "second", "seconds": factor = 1_000_000_000
    case "m", "min", "minute", "minutes": factor = 60_000_000_000
    case "h", "hour", "hours": factor = 3_600_000_000_000
    case "d", "day", "days": factor = 86_400_000_000_000
    default: return nil
    }
    let (product, overflow) = number.multipliedReportingOverflow(by: factor)
    return overflow ? nil : .nanoseconds(product)
}

/// Prints a duration with the largest unit that leaves it whole: "1500 ms", "10 s".
package func formatDuration(_ duration: Duration) -> String {
    let nanoseconds = duration.inNanoseconds
    let units: [(Int64, String)] = [
        (86_400_000_000_000, "d"), (3_600_000_000_000, "h"), (60_000_000_000, "min"), (1_000_000_000, "s"), (1_000_000, "ms"), (1_000, "us"),
    ]
    for (size, name) in units where nanoseconds >= size && nanoseconds % size == 0 { return "\(nanoseconds / size) \(name)" }
    return nanoseconds == 0 ? "0 ms" : "\(nanoseconds) ns"
}

/// A number of bytes, written "64mb" or "32 KiB" in configuration; units are powers of 1,024.
public struct ByteCount: Hashable, Sendable, Comparable, CustomStringConvertible {
    public var bytes: Int
    public init(bytes: Int) { self.bytes = bytes }

    /// Parses "512", "512b", "32kb", "64 mb", "1g", "1TiB"; nil for anything else.
    public init?(_ text: String) {
        guard let (number, unit) = splitNumber(text) else { return nil }
        let shift: Int
        switch unit {
        case "", "b", "bytes": shift = 0
        case "k", "kb", "kib": shift = 10
        case "m", "mb", "mib": shift = 20
        case "g", "gb", "gib": shift = 30
        case "t", "tb", "tib": shift = 40
        default: return nil
        }
        let (product, overflow) = number.multipliedReportingOverflow(by: 1 << Int64(shift))
        guard !overflow else { return nil }
        self.init(bytes: Int(product))
    }

    public static func < (left: ByteCount, right: ByteCount) -> Bool { left.bytes < right.bytes }

    public var description: String {
        for (shift, unit) in [(40, "tb"), (30, "gb"), (20, "mb"), (10, "kb")] where bytes >= 1 << shift && bytes % (1 << shift) == 0 {
            return "\(bytes >> shift) \(unit)"
        }
        return "\(bytes) bytes"
    }
}

/// "64 MB" → (64, "mb"). Digits, optional blanks, a unit in lower case.
private func splitNumber(_ text: String) -> (Int64, String)? {
    var value: Int64 = 0
    var digits = 0
    var rest = Substring(text)
    while rest.first == " " { rest.removeFirst() }
    while let digit = rest.first?.wholeNumberValue, rest.first?.isASCII == true {
        let (shifted, overflow) = value.multipliedReportingOverflow(by: 10)
        let (sum, carried) = shifted.addingReportingOverflow(Int64(digit))
        guard !overflow, !carried else { return nil }
        value = sum
        digits += 1
        rest.removeFirst()
    }
    guard digits > 0 else { return nil }
    while rest.first == " " { rest.removeFirst() }
    while rest.last == " " { rest.removeLast() }
    return (value, rest.lowercased())
}

/// A small fast generator whose whole state is its seed (Steele, Lea, Flood: "Fast splittable pseudorandom number generators", 2014).
package struct SplitMix64: RandomNumberGenerator, Sendable {
    private var state: UInt64
    package init(seed: UInt64) { state = seed }
    package mutating func next() -> UInt64 {
        state &+= 0x9E37_79B9_7F4A_7C15
        var z = state
        z = (z ^ (z >> 30)) &* 0xBF58_476D_1CE4_E5B9
        z = (z ^ (z >> 27)) &* 0x94D0_49BB_1331_11EB
        return z ^ (z >> 31)
    }
}
