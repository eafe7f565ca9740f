package import WeirBase

/// `restart-strategy.type`: whether and when a failed job runs again.
package enum RestartStrategyOptions: Sendable, Hashable {
    /// `none`: the first failure is the last.
    case none
    /// `fixed-delay`
    case fixedDelay(FixedDelayOptions)
    /// `exponential-delay`, the default.
    case exponentialDelay(ExponentialDelayOptions)
    /// `failure-rate`
    case failureRate(FailureRateOptions)

    var problems: [String] {
        switch self {
        case .none: []
        case .fixedDelay(let options): options.problems
        case .exponentialDelay(let options): options.problems
        case .failureRate(let options): options.problems
        }
    }

    /// - Throws: ``ConfigurationError`` with every problem.
    package func validate() throws(ConfigurationError) {
        let problems = problems
        guard problems.isEmpty else { throw ConfigurationError(problems) }
    }
}

/// The keys under `restart-strategy.fixed-delay`.
package struct FixedDelayOptions: Sendable, Hashable {
    /// `attempts`: restarts in the job's life; at least 1.
    package var attempts = 1
    /// `delay`: from the failure to the restart.
    package var delay = Duration.seconds(1)

    package init() {}

    var problems: [String] {
        var problems: [String] = []
        if attempts < 1 { problems.append("restart-strategy.fixed-delay.attempts: at least 1, not \(attempts)") }
        if delay < .zero { problems.append("restart-strategy.fixed-delay.delay: not negative") }
        return problems
    }
}

/// The keys under `restart-strategy.exponential-delay`.
package struct ExponentialDelayOptions: Sendable, Hashable {
    /// `initial-backoff`: the delay of the first restart; 0 restarts at once. Flink's is 1 s: ours lets a job recover within a second.
    package var initialBackoff = Duration.milliseconds(100)
    /// `max-backoff`
    package var maxBackoff = Duration.seconds(60)
    /// `backoff-multiplier`: from one delay to the next; more than 1. The step after a delay of 0 is 10 ms.
    package var multiplier = 1.5
    /// `jitter-factor`: the part of the delay that is added or taken at random; in `0...1`.
    package var jitterFactor = 0.1
    /// `reset-backoff-threshold`: a job that ran this long without failure begins again with the initial delay.
    package var resetThreshold = Duration.seconds(3_600)
    /// `attempts-before-reset-backoff`: restarts in a row before the job gives up; nil for no limit.
    package var attemptsBeforeReset: Int?

    package init() {}

    var problems: [String] {
        let prefix = "restart-strategy.exponential-delay"
        var problems: [String] = []
        if initialBackoff < .zero { problems.append("\(prefix).initial-backoff: not negative") }
        if maxBackoff < initialBackoff || maxBackoff <= .zero {
            problems.append("\(prefix).max-backoff: more than 0 and at least the initial-backoff, not \(formatDuration(maxBackoff))")
        }
        if !(multiplier > 1 && multiplier.isFinite) { problems.append("\(prefix).backoff-multiplier: more than 1, not \(multiplier)") }
        if !(0...1).contains(jitterFactor) { problems.append("\(prefix).jitter-factor: 0 to 1, not \(jitterFactor)") }
        if resetThreshold <= .zero { problems.append("\(prefix).reset-backoff-threshold: more than 0") }
        if let attempts = attemptsBeforeReset, attempts < 1 {
            problems.append("\(prefix).attempts-before-reset-backoff: at least 1, not \(attempts)")
        }
        return problems
    }
}

/// The keys under `restart-strategy.failure-rate`.
package struct FailureRateOptions: Sendable, Hashable {
    /// `max-failures-per-interval`: in `1...10000`.
    package var maxFailures = 1
    /// `failure-rate-interval`
    package var interval = Duration.seconds(60)
    /// `delay`: from the failure to the restart.
    package var delay = Duration.seconds(1)

    package init() {}

    var problems: [String] {
        let prefix = "restart-strategy.failure-rate"
        var problems: [String] = []
        if !(1...10_000).contains(maxFailures) { problems.append("\(prefix).max-failures-per-interval: 1 to 10000, not \(maxFailures)") }
        if interval <= .zero { problems.append("\(prefix).failure-rate-interval: more than 0") }
        if delay < .zero { problems.append("\(prefix).delay: not negative") }
        return problems
    }
}
