internal import WeirBase

/// What a job asks of its checkpoints. What is nil stays as the cluster or the command line has it.
public struct CheckpointOverrides: Sendable, Equatable {
    /// The time from one trigger to the next (`execution.checkpointing.interval`).
    public var interval: Duration?
    /// The age at which a checkpoint is aborted (`execution.checkpointing.timeout`).
    public var timeout: Duration?
    /// The time from the end of one checkpoint to the next trigger (`execution.checkpointing.min-pause`).
    public var minPause: Duration?
    /// How many may be under way (`execution.checkpointing.max-concurrent-checkpoints`).
    public var concurrentMax: Int?
    /// How many may fail in a row before the job does (`execution.checkpointing.tolerable-failed-checkpoints`).
    public var failuresTolerated: Int?
    /// How many completed ones are kept (`execution.checkpointing.num-retained`).
    public var retained: Int?
    /// Whether barriers may overtake rows, which then become part of the checkpoint (`execution.checkpointing.unaligned.enabled`).
    public var isUnaligned: Bool?
    /// The age of a checkpoint at which its barriers begin to overtake rows, if they may (`execution.checkpointing.aligned-checkpoint-timeout`).
    public var alignedTimeout: Duration?
    /// Where they are written (`execution.checkpointing.dir`).
    public var directory: String?

    public init() {}

    var settings: [String: String] {
        var settings: [String: String] = [:]
        settings["execution.checkpointing.interval"] = interval.map(formatDuration)
        settings["execution.checkpointing.timeout"] = timeout.map(formatDuration)
        settings["execution.checkpointing.min-pause"] = minPause.map(formatDuration)
        settings["execution.checkpointing.max-concurrent-checkpoints"] = concurrentMax.map(String.init)
        settings["execution.checkpointing.tolerable-failed-checkpoints"] = failuresTolerated.map(String.init)
        settings["execution.checkpointing.num-retained"] = retained.map(String.init)
        settings["execution.checkpointing.unaligned.enabled"] = isUnaligned.map(String.init)
        settings["execution.checkpointing.aligned-checkpoint-timeout"] = alignedTimeout.map(formatDuration)
        settings["execution.checkpointing.dir"] = directory
        return settings
    }
}

/// What happens when a job fails: Flink's strategies.
public enum RestartStrategy: Sendable, Equatable {
    case none
    case fixedDelay(attempts: Int, delay: Duration)
    case exponentialDelay(initial: Duration, limit: Duration, multiplier: Double = 2, jitter: Double = 0.1, resetAfter: Duration = .seconds(3_600))
    case failureRate(failuresMax: Int, per: Duration, delay: Duration)

    var settings: [String: String] {
        switch self {
        case .none: return ["restart-strategy.type": "none"]
        case .fixedDelay(let attempts, let delay):
            return [
                "restart-strategy.type": "fixed-delay", "restart-strategy.fixed-delay.attempts": "\(attempts)",
                "restart-strategy.fixed-delay.delay": formatDuration(delay),
            ]
        case .exponentialDelay(let initial, let limit, let multiplier, let jitter, let resetAfter):
            return [
                "restart-strategy.type": "exponential-delay",
                "restart-strategy.exponential-delay.initial-backoff": formatDuration(initial),
                "restart-strategy.exponential-delay.max-backoff": formatDuration(limit),
                "restart-strategy.exponential-delay.backoff-multiplier": "\(multiplier)",
                "restart-strategy.exponential-delay.jitter-factor": "\(jitter)",
                "restart-strategy.exponential-delay.reset-backoff-threshold": formatDuration(resetAfter),
            ]
        case .failureRate(let failuresMax, let per, let delay):
            return [
                "restart-strategy.type": "failure-rate",
                "restart-strategy.failure-rate.max-failures-per-interval": "\(failuresMax)",
                "restart-strategy.failure-rate.failure-rate-interval": formatDuration(per),
                "restart-strategy.failure-rate.delay": formatDuration(delay),
            ]
        }
    }
}
