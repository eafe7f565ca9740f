package import WeirBase

extension ControlOptions {
    /// The cluster's keys that the control plane reads.
    package static let keys: [ConfigurationKey] = [
        .init("heartbeat.interval", .duration, default: "1s", "how often silent TaskManagers and workers are looked for"),
        .init("heartbeat.timeout", .duration, default: "10s", "silence after which a TaskManager or worker is lost"),
        .init("worker.start-timeout", .duration, default: "120s", "from the start of a worker to its registration"),
        .init("cluster.evenly-spread-out-slots", .boolean, default: "false", "spread a job's slots over all TaskManagers"),
        .init("jobmanager.jobs-max", .integer(1...1_000_000), default: "1000", "jobs at a time; more are refused"),
        .init("jobstore.max-capacity", .integer(0...1_000_000), default: "100", "ended jobs that are still listed"),
        .init("jobmanager.taskmanagers-max", .integer(1...1_000_000), default: "10000", "TaskManagers at a time; more are refused"),
    ]

    /// - Throws: ``ConfigurationError`` with every problem that the keys' kinds alone do not show.
    package init(_ configuration: Configuration) throws(ConfigurationError) {
        self.init()
        heartbeatInterval = configuration.duration("heartbeat.interval") ?? heartbeatInterval
        heartbeatTimeout = configuration.duration("heartbeat.timeout") ?? heartbeatTimeout
        workerStartTimeout = configuration.duration("worker.start-timeout") ?? workerStartTimeout
        evenlySpreadOutSlots = configuration.boolean("cluster.evenly-spread-out-slots") ?? evenlySpreadOutSlots
        jobsMax = configuration.integer("jobmanager.jobs-max") ?? jobsMax
        endedJobsMax = configuration.integer("jobstore.max-capacity") ?? endedJobsMax
        taskManagersMax = configuration.integer("jobmanager.taskmanagers-max") ?? taskManagersMax
        try validate()
    }
}

extension JobOptions {
    /// The job's keys that the control plane reads.
    package static let keys: [ConfigurationKey] =
        checkpointKeys + restartKeys + [
            .init("task.cancellation.timeout", .duration, default: "30s", "a worker whose tasks are not cancelled by then is killed"),
            .init(
                "taskmanager.memory.managed.size", .bytes, default: "",
                "keyed state that one operator of one subtask may have; not set: no limit"),
        ]

    private static let checkpointKeys: [ConfigurationKey] = [
        .init("execution.checkpointing.interval", .duration, default: "10s", "from one trigger to the next; 0 for no checkpoints"),
        .init("execution.checkpointing.timeout", .duration, default: "10min", "the age at which a checkpoint is aborted"),
        .init("execution.checkpointing.min-pause", .duration, default: "0ms", "from the end of a checkpoint to the next trigger"),
        .init("execution.checkpointing.max-concurrent-checkpoints", .integer(1...100), default: "1", "checkpoints in flight at a time"),
        .init(
            "execution.checkpointing.tolerable-failed-checkpoints", .integer(0...1_000_000), default: "0",
            "checkpoints that may fail in a row before the job does"),
        .init("execution.checkpointing.num-retained", .integer(1...1000), default: "2", "completed checkpoints that are kept"),
        .init(
            "execution.checkpointing.mode", .oneOf(CheckpointOptions.Mode.allCases.map(\.rawValue)),
            default: CheckpointOptions.Mode.exactlyOnce.rawValue, "whether a row may count twice after a restore"),
        .init(
            "execution.checkpointing.unaligned.enabled", .boolean, default: "false", "barriers may overtake rows; these become part of the checkpoint"
        ),
        .init(
            "execution.checkpointing.aligned-checkpoint-timeout", .duration, default: "0ms",
            "the age of a checkpoint at which its barriers begin to overtake rows, if they may"),
        .init(
            "execution.checkpointing.incremental", .boolean, default: "true",
            "checkpoints refer to what earlier ones wrote and has not changed since"),
        .init(
            "execution.checkpointing.externalized-checkpoint-retention",
            .oneOf(CheckpointOptions.Retention.allCases.map(\.rawValue)), default: CheckpointOptions.Retention.retainOnCancellation.rawValue,
            "what becomes of the checkpoints of a job that is cancelled or has failed"),
    ]

    private static let restartKeys: [ConfigurationKey] = [
        .init(
            "restart-strategy.type", .oneOf(["none", "fixed-delay", "exponential-delay", "failure-rate"]), default: "exponential-delay",
            "whether and when a failed job runs again"),
        .init("restart-strategy.fixed-delay.attempts", .integer(1...Int.max), default: "1", "restarts in the job's life"),
        .init("restart-strategy.fixed-delay.delay", .duration, default: "1s", "from a failure to the restart"),
        .init("restart-strategy.exponential-delay.initial-backoff", .duration, default: "100ms", "the delay of the first restart"),
        .init("restart-strategy.exponential-delay.max-backoff", .duration, default: "1min", "the longest delay"),
        .init(
            "restart-strategy.exponential-delay.backoff-multiplier", .number(1...1e6), default: "1.5", "from one delay to the next"),
        .init("restart-strategy.exponential-delay.jitter-factor", .number(0...1), default: "0.1", "the random part of a delay"),
        .init(
            "restart-strategy.exponential-delay.reset-backoff-threshold", .duration, default: "1h",
            "time without failure after which delays begin anew"),
        .init(
            "restart-strategy.exponential-delay.attempts-before-reset-backoff", .integer(1...Int.max), default: "",
            "restarts in a row before the job gives up; not set: no limit"),
        .init("restart-strategy.failure-rate.max-failures-per-interval", .integer(1...10_000), default: "1", "failures that are survived"),
        .init("restart-strategy.failure-rate.failure-rate-interval", .duration, default: "1min", "the interval in which they count"),
        .init("restart-strategy.failure-rate.delay", .duration, default: "1s", "from a failure to the restart"),
    ]

    /// - Throws: ``ConfigurationError`` with every problem that the keys' kinds alone do not show.
    package init(_ configuration: Configuration) throws(ConfigurationError) {
        self.init()
        readCheckpointing(configuration)
        readRestartStrategy(configuration)
        cancellationTimeout = configuration.duration("task.cancellation.timeout") ?? cancellationTimeout
        try validate()
    }

    private mutating func readCheckpointing(_ configuration: Configuration) {
        let prefix = "execution.checkpointing"
        if let interval = configuration.duration("\(prefix).interval") { checkpointing.interval = interval == .zero ? nil : interval }
        checkpointing.timeout = configuration.duration("\(prefix).timeout") ?? checkpointing.timeout
        checkpointing.minPause = configuration.duration("\(prefix).min-pause") ?? checkpointing.minPause
        checkpointing.maxConcurrent = configuration.integer("\(prefix).max-concurrent-checkpoints") ?? checkpointing.maxConcurrent
        checkpointing.tolerableFailed = configuration.integer("\(prefix).tolerable-failed-checkpoints") ?? checkpointing.tolerableFailed
        checkpointing.retained = configuration.integer("\(prefix).num-retained") ?? checkpointing.retained
        checkpointing.mode = configuration.string("\(prefix).mode").flatMap(CheckpointOptions.Mode.init(rawValue:)) ?? checkpointing.mode
        checkpointing.isUnaligned = configuration.boolean("\(prefix).unaligned.enabled") ?? checkpointing.isUnaligned
        checkpointing.alignedTimeout = configuration.duration("\(prefix).aligned-checkpoint-timeout") ?? checkpointing.alignedTimeout
        if let retention = configuration.string("\(prefix).externalized-checkpoint-retention") {
            checkpointing.retention = CheckpointOptions.Retention(rawValue: retention) ?? checkpointing.retention
        }
    }

    private mutating func readRestartStrategy(_ configuration: Configuration) {
        let prefix = "restart-strategy"
        switch configuration.string("\(prefix).type") {
        case "none":
            restartStrategy = .none
        case "fixed-delay":
            var options = FixedDelayOptions()
            options.attempts = configuration.integer("\(prefix).fixed-delay.attempts") ?? options.attempts
            options.delay = configuration.duration("\(prefix).fixed-delay.delay") ?? options.delay
            restartStrategy = .fixedDelay(options)
        case "failure-rate":
            var options = FailureRateOptions()
            options.maxFailures = configuration.integer("\(prefix).failure-rate.max-failures-per-interval") ?? options.maxFailures
            options.interval = configuration.duration("\(prefix).failure-rate.failure-rate-interval") ?? options.interval
            options.delay = configuration.duration("\(prefix).failure-rate.delay") ?? options.delay
            restartStrategy = .failureRate(options)
        default:
            let prefix = "\(prefix).exponential-delay"
            var options = ExponentialDelayOptions()
            options.initialBackoff = configuration.duration("\(prefix).initial-backoff") ?? options.initialBackoff
            options.maxBackoff = configuration.duration("\(prefix).max-backoff") ?? options.maxBackoff
            options.multiplier = configuration.number("\(prefix).backoff-multiplier") ?? options.multiplier
            options.jitterFactor = configuration.number("\(prefix).jitter-factor") ?? options.jitterFactor
            options.resetThreshold = configuration.duration("\(prefix).reset-backoff-threshold") ?? options.resetThreshold
            options.attemptsBeforeReset = configuration.integer("\(prefix).attempts-before-reset-backoff")
            restartStrategy = .exponentialDelay(options)
        }
    }
}
