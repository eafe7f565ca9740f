import Foundation
import Testing
import WeirBase
import WeirTestKit

/// Random kills under load: the windows are exact, and the job runs again; how soon is printed, and measured by `make bench`.
///
/// `WEIR_CHAOS_STRIKES=20` strikes that often with each kind; `WEIR_CHAOS_SEED` gives other moments.
@Suite(.serialized) struct ChaosTests {
    static let environment = ProcessInfo.processInfo.environment
    static let seed = environment["WEIR_CHAOS_SEED"].flatMap { UInt64($0) } ?? 1
    static let strikes = environment["WEIR_CHAOS_STRIKES"].flatMap { Int($0) } ?? 2
    static let load = ChaosScenario.Load(
        perSecond: environment["WEIR_CHAOS_RATE"].flatMap { Int($0) } ?? 10_000,
        devices: environment["WEIR_CHAOS_DEVICES"].flatMap { Int($0) } ?? 1_000)

    @Test func everyWindowIsExactAfterKillsAtRandomMoments() throws {
        let kinds: [ChaosScenario.Strike] = [.taskManager, .worker, .trap]
        var random = SplitMix64(seed: Self.seed)
        let outcome = try run(kinds.flatMap { Array(repeating: $0, count: Self.strikes) }.shuffled(using: &random))
        #expect(outcome.recoveries.count == kinds.count * Self.strikes)
        for recovery in outcome.recoveries { #expect(recovery.runningAgainMs > 0, "\(recovery.strike.rawValue) did not stop the job") }
    }

    @Test func everyWindowIsExactWhateverIsKilledWhen() throws {
        let strikes: [ChaosScenario.Strike] = [
            .duringCheckpoint, .duringStart, .duringRestore, .twice, .jobManager, .stoppedTaskManager, .stoppedHost,
        ]
        let outcome = try run((0..<max(1, Self.strikes / 4)).flatMap { _ in strikes })
        #expect(outcome.recoveries.count >= strikes.count)
    }

    private func run(_ strikes: [ChaosScenario.Strike]) throws -> ChaosScenario.Outcome {
        let outcome = try ChaosScenario(strikes: strikes, seed: Self.seed, load: Self.load) { line in
            print(line)
            fflush(nil)
        }.run()
        #expect(outcome.problems.isEmpty, "\(outcome.problems.prefix(10))")
        #expect(outcome.windows > 100)
        return outcome
    }
}
