import WeirBase

/// Draws from a seed. Written out, since a seed must give the same run under the next standard library too.
struct Draw {
    var generator: SplitMix64

    init(seed: UInt64) { generator = SplitMix64(seed: seed) }

    /// In `0..<bound`; 0 for an empty range.
    mutating func below(_ bound: Int) -> Int { bound <= 0 ? 0 : Int(generator.next() % UInt64(bound)) }

    mutating func within(_ range: ClosedRange<Int>) -> Int { range.lowerBound + below(range.count) }

    mutating func chance(_ perMille: Int) -> Bool { below(1000) < perMille }

    mutating func milliseconds(_ range: ClosedRange<Int>) -> Duration { .microseconds(within(range.lowerBound * 1000...range.upperBound * 1000)) }

    mutating func pick<T>(_ elements: [T]) -> T? { elements.isEmpty ? nil : elements[below(elements.count)] }

    /// Mostly short, now and then long: what makes messages of different connections overtake each other.
    mutating func latency() -> Duration { chance(50) ? milliseconds(20...400) : milliseconds(0...10) }
}
