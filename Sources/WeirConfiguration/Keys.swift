package import WeirBase

/// The configuration keys of the three processes.
package enum ConfigurationKeys {
    package static let all: [ConfigurationKey] = cluster + checkpointing + restart

    private static let cluster: [ConfigurationKey] = [
        .init("cluster.id", .string, default: "weir", "Processes of another cluster id are refused."),
        .init("jobmanager.rpc.address", .string, default: "127.0.0.1", "Where TaskManagers and the CLI find the JobManager."),
        .init("jobmanager.rpc.port", .integer(0...65_535), default: "6123", "Its port; 0 lets the system choose, and is printed."),
        .init("jobmanager.bind-host", .string, default: "127.0.0.1", "The address that the JobManager listens on."),
        .init("jobmanager.storage.dir", .string, default: "", "Job graphs and uploaded binaries; default <io.tmp.dirs>/weir-jobmanager-<user id>."),
        .init("taskmanager.numberOfTaskSlots", .integer(1...1_024), default: "1", "Slots that a TaskManager offers; each is a thread."),
        .init("taskmanager.bind-host", .string, default: "127.0.0.1", "The address that workers listen on for data."),
        .init("taskmanager.host", .string, default: "", "The address at which other workers reach them; default: the bind host."),
        .init("taskmanager.resource-id", .string, default: "", "The TaskManager's name; default tm-<host>-<process id>."),
        .init("taskmanager.log.dir", .string, default: "", "Workers' stdout and stderr; default <io.tmp.dirs>/weir-taskmanager-<resource id>/log."),
        .init("io.tmp.dirs", .string, default: "/tmp", "Scratch space."),
        .init("heartbeat.interval", .duration, default: "1s", "From one heartbeat to the next."),
        .init("heartbeat.timeout", .duration, default: "10s", "Silence after which a process counts as lost; a closed connection counts at once."),
        .init("slot.request.timeout", .duration, default: "5min", "How long a job waits for slots before it fails."),
        .init("task.cancellation.timeout", .duration, default: "10s", "After it, a worker whose tasks do not stop is killed."),
        .init("worker.start.timeout", .duration, default: "30s", "How long a worker may take from spawn to registration."),
        .init("parallelism.default", .integer(1...32_768), default: "1", "The parallelism of a job that does not say."),
        .init("pipeline.max-parallelism", .integer(1...32_768), default: "128", "Key groups of a job that does not say."),
    ]

    private static let checkpointing: [ConfigurationKey] = [
        .init("execution.checkpointing.interval", .duration, default: "", "From one checkpoint to the next; not set: no checkpoints."),
        .init("execution.checkpointing.timeout", .duration, default: "10min", "The age at which a checkpoint is aborted."),
        .init("execution.checkpointing.min-pause", .duration, default: "0ms", "From the end of one to the start of the next."),
        .init("execution.checkpointing.max-concurrent-checkpoints", .integer(1...16), default: "1", "Checkpoints under way at once."),
        .init(
            "execution.checkpointing.tolerable-failed-checkpoints", .integer(0...1_000_000), default: "0",
            "Failures in a row before the job restarts."),
        .init(
            "execution.checkpointing.num-retained", .integer(1...1_000), default: "2",
            "Completed checkpoints kept; with one, a damaged file loses the state."),
        .init(
            "execution.checkpointing.dir", .string, default: "",
            "A directory that every process reaches; not set: <jobmanager.storage.dir>/checkpoints."),
    ]

    private static let restart: [ConfigurationKey] = [
        .init(
            "restart-strategy.type", .oneOf(["none", "fixed-delay", "exponential-delay", "failure-rate"]), default: "exponential-delay",
            "What follows a failure."),
        .init("restart-strategy.fixed-delay.attempts", .integer(0...1_000_000_000), default: "1", "Restarts before the job fails."),
        .init("restart-strategy.fixed-delay.delay", .duration, default: "1s", "The pause before each."),
        .init("restart-strategy.exponential-delay.initial-backoff", .duration, default: "100ms", "The first pause."),
        .init("restart-strategy.exponential-delay.max-backoff", .duration, default: "1min", "The longest."),
        .init("restart-strategy.exponential-delay.backoff-multiplier", .number(1...100), default: "1.5", "From one pause to the next."),
        .init("restart-strategy.exponential-delay.jitter-factor", .number(0...1), default: "0.1", "The part of a pause that is random."),
        .init("restart-strategy.exponential-delay.reset-backoff-threshold", .duration, default: "1h", "Time without failure that resets the pause."),
        .init(
            "restart-strategy.exponential-delay.attempts-before-reset-backoff", .integer(0...1_000_000_000), default: "1000000000",
            "Restarts before the job fails."),
        .init(
            "restart-strategy.failure-rate.max-failures-per-interval", .integer(1...1_000_000), default: "1",
            "More than this many in an interval fail the job."),
        .init("restart-strategy.failure-rate.failure-rate-interval", .duration, default: "1min", "That interval."),
        .init("restart-strategy.failure-rate.delay", .duration, default: "1s", "The pause before each restart."),
    ]
}
