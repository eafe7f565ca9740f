package import WeirBase

/// What holds for the whole cluster.
package struct ControlOptions: Sendable, Hashable {
    /// `heartbeat.interval`: how often silence is checked; at least 10 ms.
    package var heartbeatInterval = Duration.seconds(1)
    /// `heartbeat.timeout`: a TaskManager or worker silent for longer is lost; at least twice the interval. A lost connection counts at
    /// once and does not wait for it.
    package var heartbeatTimeout = Duration.seconds(10)
    /// `worker.start-timeout`: from the start of a worker until it has registered, the artifact's download included.
    package var workerStartTimeout = Duration.seconds(120)
    /// `cluster.evenly-spread-out-slots`: whether a job's slots go over all TaskManagers rather than fill one after the other.
    package var evenlySpreadOutSlots = false
    /// `jobmanager.jobs-max`: jobs that have not ended; more are refused.
    package var jobsMax = 1_000
    /// `jobstore.max-capacity`: ended jobs kept for `weir list`; the oldest is forgotten first.
    package var endedJobsMax = 100
    /// `jobmanager.taskmanagers-max`: more are refused.
    package var taskManagersMax = 10_000

    package init() {}

    var problems: [String] {
        var problems: [String] = []
        if heartbeatInterval < .milliseconds(10) { problems.append("heartbeat.interval: at least 10 ms, not \(formatDuration(heartbeatInterval))") }
        if heartbeatTimeout < heartbeatInterval * 2 {
            problems.append("heartbeat.timeout: at least twice heartbeat.interval, not \(formatDuration(heartbeatTimeout))")
        }
        if workerStartTimeout <= .zero { problems.append("worker.start-timeout: more than 0") }
        if jobsMax < 1 { problems.append("jobmanager.jobs-max: at least 1, not \(jobsMax)") }
        if endedJobsMax < 0 { problems.append("jobstore.max-capacity: at least 0, not \(endedJobsMax)") }
        if taskManagersMax < 1 { problems.append("jobmanager.taskmanagers-max: at least 1, not \(taskManagersMax)") }
        return problems
    }

    /// - Throws: ``ConfigurationError`` with every problem.
    package func validate() throws(ConfigurationError) {
        let problems = problems
        guard problems.isEmpty else { throw ConfigurationError(problems) }
    }
}

/// What holds for one job.
package struct JobOptions: Sendable, Hashable {
    package var checkpointing = CheckpointOptions()
    package var restartStrategy = RestartStrategyOptions.exponentialDelay(ExponentialDelayOptions())
    /// `task.cancellation.timeout`: a worker whose tasks are not cancelled by then is killed.
    package var cancellationTimeout = Duration.seconds(30)

    package init() {}

    var problems: [String] {
        var problems = checkpointing.problems + restartStrategy.problems
        if cancellationTimeout <= .zero { problems.append("task.cancellation.timeout: more than 0") }
        return problems
    }

    /// - Throws: ``ConfigurationError`` with every problem.
    package func validate() throws(ConfigurationError) {
        let problems = problems
        guard problems.isEmpty else { throw ConfigurationError(problems) }
    }
}

/// When checkpoints are taken and how many are kept: the keys under `execution.checkpointing`.
package struct CheckpointOptions: Sendable, Hashable {
    /// What becomes of the retained checkpoints of a job that is cancelled or has failed. Those of a finished job are deleted.
    package enum Retention: String, Sendable, Hashable, CaseIterable {
        /// Kept in both cases.
        case retainOnCancellation = "RETAIN_ON_CANCELLATION"
        /// Deleted when the job is cancelled, kept when it has failed.
        case deleteOnCancellation = "DELETE_ON_CANCELLATION"
        /// Deleted in both cases: they serve the job's own recovery alone.
        case never = "NO_EXTERNALIZED_CHECKPOINTS"
    }

    package enum Mode: String, Sendable, Hashable, CaseIterable {
        case exactlyOnce = "EXACTLY_ONCE"
        case atLeastOnce = "AT_LEAST_ONCE"
    }

    /// `execution.checkpointing.interval`: from one trigger to the next; at least 10 ms. Nil: none but the final one.
    package var interval: Duration? = .seconds(10)
    /// `execution.checkpointing.timeout`: the age at which a checkpoint is aborted; at least 10 ms.
    package var timeout = Duration.seconds(600)
    /// `execution.checkpointing.min-pause`: from the end of a checkpoint to the next trigger.
    package var minPause = Duration.zero
    /// `execution.checkpointing.max-concurrent-checkpoints`: in `1...100`.
    package var maxConcurrent = 1
    /// `execution.checkpointing.tolerable-failed-checkpoints`: how many may fail in a row before the job does.
    package var tolerableFailed = 0
    /// `execution.checkpointing.num-retained`: in `1...1000`. Not Flink's 1: a damaged checkpoint is only survived with one before it.
    package var retained = 2
    /// `execution.checkpointing.externalized-checkpoint-retention`.
    package var retention = Retention.retainOnCancellation
    /// `execution.checkpointing.mode`: whether rows may count twice after a restore.
    package var mode = Mode.exactlyOnce
    /// `execution.checkpointing.unaligned.enabled`: whether barriers may overtake rows.
    package var isUnaligned = false
    /// `execution.checkpointing.aligned-checkpoint-timeout`: the age of a checkpoint at which its barriers begin to overtake rows.
    package var alignedTimeout = Duration.zero

    package init() {}

    var problems: [String] {
        let prefix = "execution.checkpointing"
        var problems: [String] = []
        if let interval, interval < .milliseconds(10) {
            problems.append("\(prefix).interval: at least 10 ms, not \(formatDuration(interval))")
        }
        if timeout < .milliseconds(10) { problems.append("\(prefix).timeout: at least 10 ms, not \(formatDuration(timeout))") }
        if minPause < .zero { problems.append("\(prefix).min-pause: not negative") }
        if !(1...100).contains(maxConcurrent) {
            problems.append("\(prefix).max-concurrent-checkpoints: 1 to 100, not \(maxConcurrent)")
        }
        if maxConcurrent > 1, minPause > .zero {
            problems.append("\(prefix).max-concurrent-checkpoints: must be 1 with a min-pause, since the pause begins when none is in flight")
        }
        if isUnaligned, mode == .atLeastOnce {
            problems.append("\(prefix).unaligned.enabled: only with \(prefix).mode EXACTLY_ONCE, since AT_LEAST_ONCE aligns nothing")
        }
        if isUnaligned, maxConcurrent > 1 {
            problems.append("\(prefix).max-concurrent-checkpoints: must be 1 with unaligned.enabled, since a barrier overtakes the one before it")
        }
        if alignedTimeout < .zero { problems.append("\(prefix).aligned-checkpoint-timeout: not negative") }
        if tolerableFailed < 0 { problems.append("\(prefix).tolerable-failed-checkpoints: at least 0, not \(tolerableFailed)") }
        if !(1...1000).contains(retained) { problems.append("\(prefix).num-retained: 1 to 1000, not \(retained)") }
        return problems
    }

    /// - Throws: ``ConfigurationError`` with every problem.
    package func validate() throws(ConfigurationError) {
        let problems = problems
        guard problems.isEmpty else { throw ConfigurationError(problems) }
    }
}
