import Testing
import WeirBase

@testable import WeirControl

@Suite struct ControlOptionsTests {
    @Test func defaultsAreValid() throws {
        try ControlOptions().validate()
        try JobOptions().validate()
        try ControlOptions(Configuration(keys: ControlOptions.keys)).validate()
        #expect(try ControlOptions(Configuration(keys: ControlOptions.keys)) == ControlOptions())
        #expect(try JobOptions(Configuration(keys: JobOptions.keys)) == JobOptions())
    }

    @Test func everyProblemIsReportedAtOnce() {
        var options = JobOptions()
        options.checkpointing.interval = .milliseconds(9)
        options.checkpointing.maxConcurrent = 0
        options.checkpointing.retained = 1_001
        options.cancellationTimeout = .zero
        var restart = ExponentialDelayOptions()
        restart.multiplier = 1
        restart.jitterFactor = 1.5
        options.restartStrategy = .exponentialDelay(restart)
        let error = #expect(throws: ConfigurationError.self) { try options.validate() }
        #expect(error?.problems.count == 6)
        #expect(error?.problems.allSatisfy { $0.contains(":") && $0.contains(".") } == true)
    }

    @Test func aPauseNeedsOneCheckpointAtATime() {
        var options = CheckpointOptions()
        options.minPause = .seconds(1)
        #expect(options.problems.isEmpty)
        options.maxConcurrent = 2
        #expect(options.problems.count == 1)
    }

    @Test func keysAreRead() throws {
        var configuration = Configuration(keys: JobOptions.keys)
        try configuration.merge(
            [
                "execution.checkpointing.interval": "0", "execution.checkpointing.num-retained": "5",
                "restart-strategy.type": "failure-rate", "restart-strategy.failure-rate.max-failures-per-interval": "7",
                "restart-strategy.failure-rate.delay": "2s", "task.cancellation.timeout": "3s",
            ], origin: "test")
        let options = try JobOptions(configuration)
        #expect(options.checkpointing.interval == nil)
        #expect(options.checkpointing.retained == 5)
        #expect(options.cancellationTimeout == .seconds(3))
        var expected = FailureRateOptions()
        expected.maxFailures = 7
        expected.delay = .seconds(2)
        #expect(options.restartStrategy == .failureRate(expected))
    }

    @Test func clusterKeysAreCheckedAgainstEachOther() throws {
        var configuration = Configuration(keys: ControlOptions.keys)
        try configuration.merge(["heartbeat.interval": "10s", "heartbeat.timeout": "15s"], origin: "test")
        let error = #expect(throws: ConfigurationError.self) { try ControlOptions(configuration) }
        #expect(error?.problems.count == 1)
    }
}
