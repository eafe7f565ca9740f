package import WeirBase

/// Decides whether a failed job runs again, and when.
package struct RestartStrategy: Sendable {
    package enum Decision: Sendable, Hashable {
        case restart(after: Duration)
        /// The sentence completes "the job failed and is not restarted: …".
        case giveUp(reason: String)
    }

    private let options: RestartStrategyOptions
    /// Failures that led to a restart since the job was submitted, or with exponential delay since the last reset.
    private var attempts = 0
    private var nextBackoff: Duration?
    private var lastFailure: Instant?
    private var lastDelay = Duration.zero
    /// Failure rate: the latest failures, the oldest first; at most `maxFailures`.
    private var recentFailures: [Instant] = []

    package init(_ options: RestartStrategyOptions) { self.options = options }

    package mutating func failed(now: Instant, random: inout SplitMix64) -> Decision {
        switch options {
        case .none:
            return .giveUp(reason: "restart-strategy.type is none")
        case .fixedDelay(let options):
            guard attempts < options.attempts else { return .giveUp(reason: "all \(options.attempts) attempts of the fixed-delay strategy are used") }
            attempts += 1
            return .restart(after: options.delay)
        case .exponentialDelay(let options):
            return exponentialDelay(options, now: now, random: &random)
        case .failureRate(let options):
            return failureRate(options, now: now)
        }
    }

    private mutating func exponentialDelay(_ options: ExponentialDelayOptions, now: Instant, random: inout SplitMix64) -> Decision {
        if let last = lastFailure, last.duration(to: now) >= options.resetThreshold + lastDelay {
            attempts = 0
            nextBackoff = nil
        }
        if let limit = options.attemptsBeforeReset, attempts >= limit {
            return .giveUp(reason: "\(limit) restarts in a row did not help (exponential-delay)")
        }
        let backoff = nextBackoff ?? options.initialBackoff
        // A multiple of nothing stays nothing: a job that fails at once would restart in a busy loop.
        let grown = max(backoff * options.multiplier, .milliseconds(10))
        nextBackoff = min(grown, options.maxBackoff)
        attempts += 1
        lastFailure = now
        // The top 53 bits: a fraction in 0..<1. The standard library's generic random may use its bits otherwise one day.
        let fraction = Double(random.next() >> 11) / 9_007_199_254_740_992.0
        let jitter = backoff * (options.jitterFactor * (fraction * 2 - 1))
        lastDelay = min(max(backoff + jitter, .zero), options.maxBackoff)
        return .restart(after: lastDelay)
    }

    private mutating func failureRate(_ options: FailureRateOptions, now: Instant) -> Decision {
        if recentFailures.count >= options.maxFailures {
            if recentFailures[0].duration(to: now) < options.interval {
                return .giveUp(reason: "more than \(options.maxFailures) failures within \(formatDuration(options.interval)) (failure-rate)")
            }
            recentFailures.removeFirst()
        }
        recentFailures.append(now)
        return .restart(after: options.delay)
    }
}
