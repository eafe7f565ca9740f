/// How long to wait before trying again: `initial`, times `multiplier` after each failure, up to `maximum`.
package struct Backoff: Sendable, Equatable {
    package var initial: Duration
    package var maximum: Duration
    package var multiplier: Double
    /// The part of a delay that is drawn at random, in 0...1: at 0.2, a delay of 1 s is between 0.8 and 1.2 s. Keeps the peers of a
    /// restarted process from coming back all at the same moment.
    package var jitter: Double

    package init(
        initial: Duration = .milliseconds(50), maximum: Duration = .seconds(5), multiplier: Double = 2, jitter: Double = 0.2
    ) {
        self.initial = initial
        self.maximum = maximum
        self.multiplier = multiplier
        self.jitter = jitter
    }

    /// The delay before attempt `attempt`, which counts the failures since the last success, from 1.
    package func delay(attempt: Int, using random: inout some RandomNumberGenerator) -> Duration {
        // 2^60 nanoseconds are more than 30 years: beyond that the exponent only overflows.
        var nanoseconds = Double(initial.clampedNanoseconds)
        let limit = Double(maximum.clampedNanoseconds)
        for _ in 1..<max(2, min(attempt, 64)) where nanoseconds < limit && attempt > 1 { nanoseconds *= max(1, multiplier) }
        nanoseconds = min(nanoseconds, limit)
        let spread = min(max(jitter, 0), 1)
        nanoseconds *= spread == 0 ? 1 : Double.random(in: (1 - spread)...(1 + spread), using: &random)
        return .nanoseconds(Int64(nanoseconds))
    }
}
