import Testing
import WeirBase

@testable import WeirControl

@Suite struct RestartStrategyTests {
    private func decisions(_ options: RestartStrategyOptions, at seconds: [Double]) -> [RestartStrategy.Decision] {
        var random = SplitMix64(seed: 1)
        var strategy = RestartStrategy(options)
        return seconds.map { strategy.failed(now: Instant(nanoseconds: Int64($0 * 1e9)), random: &random) }
    }

    private func isGivingUp(_ decision: RestartStrategy.Decision?) -> Bool {
        if case .giveUp = decision { return true }
        return false
    }

    @Test func noneGivesUpAtTheFirstFailure() {
        #expect(isGivingUp(decisions(.none, at: [0]).first))
    }

    @Test func fixedDelayRestartsAsOftenAsAllowed() {
        var options = FixedDelayOptions()
        options.attempts = 2
        options.delay = .seconds(3)
        let decisions = decisions(.fixedDelay(options), at: [0, 1, 2])
        #expect(decisions.prefix(2) == [.restart(after: .seconds(3)), .restart(after: .seconds(3))])
        #expect(isGivingUp(decisions.last))
    }

    private func exponential() -> ExponentialDelayOptions {
        var options = ExponentialDelayOptions()
        options.initialBackoff = .seconds(1)
        options.maxBackoff = .seconds(5)
        options.multiplier = 2
        options.jitterFactor = 0
        options.resetThreshold = .seconds(100)
        return options
    }

    @Test func exponentialDelayGrowsToItsMaximum() {
        #expect(
            decisions(.exponentialDelay(exponential()), at: [0, 1, 3, 7, 12])
                == [1, 2, 4, 5, 5].map { RestartStrategy.Decision.restart(after: .seconds($0)) })
    }

    @Test func exponentialDelayBeginsAnewAfterAQuietTime() {
        // The second failure set a delay of 2 s: the quiet time counts from its end.
        #expect(
            decisions(.exponentialDelay(exponential()), at: [0, 1, 102.9]).last == .restart(after: .seconds(4)))
        #expect(decisions(.exponentialDelay(exponential()), at: [0, 1, 103]).last == .restart(after: .seconds(1)))
    }

    @Test func exponentialDelayGivesUpAfterItsAttempts() {
        var options = exponential()
        options.attemptsBeforeReset = 2
        let decisions = decisions(.exponentialDelay(options), at: [0, 1, 2])
        #expect(decisions[1] == .restart(after: .seconds(2)))
        #expect(isGivingUp(decisions[2]))
    }

    @Test func anInitialBackoffOfZeroRestartsAtOnceButNotInABusyLoop() {
        var options = exponential()
        options.initialBackoff = .zero
        #expect(
            decisions(.exponentialDelay(options), at: [0, 0, 0])
                == [.zero, .milliseconds(10), .milliseconds(20)].map { RestartStrategy.Decision.restart(after: $0) })
    }

    @Test func jitterStaysWithinItsPart() {
        var options = exponential()
        options.jitterFactor = 0.5
        var delays: Set<Duration> = []
        for seed in 0..<200 as Range<UInt64> {
            var random = SplitMix64(seed: seed)
            var strategy = RestartStrategy(.exponentialDelay(options))
            guard case .restart(let delay) = strategy.failed(now: Instant(nanoseconds: 0), random: &random) else { continue }
            #expect(delay >= .milliseconds(500) && delay <= .milliseconds(1_500))
            delays.insert(delay)
        }
        #expect(delays.count > 150)
    }

    @Test func failureRateCountsWithinItsInterval() {
        var options = FailureRateOptions()
        options.maxFailures = 2
        options.interval = .seconds(10)
        options.delay = .seconds(1)
        let spread = decisions(.failureRate(options), at: [0, 5, 10, 16, 21])
        #expect(spread.allSatisfy { $0 == .restart(after: .seconds(1)) })
        #expect(isGivingUp(decisions(.failureRate(options), at: [0, 5, 9.9]).last))
    }
}
