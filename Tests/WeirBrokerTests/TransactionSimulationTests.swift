import Foundation
import Testing

@testable import WeirBroker

@Suite struct TransactionSimulationTests {
    private static let seeds = ProcessInfo.processInfo.environment["WEIR_SIMULATION_SEEDS"].flatMap { UInt64($0) } ?? 300

    @Test func whateverCrashesNoTransactionShowsInPartAndNothingStaysOpen() {
        var committed = 0
        var crashes = 0
        for seed in 0..<Self.seeds {
            var simulation = TransactionSimulation(seed: seed)
            simulation.run(steps: 2_000)
            #expect(simulation.problems.isEmpty, "seed \(seed): \(simulation.problems.prefix(3))")
            committed += simulation.attempts.count { $0.outcome == .committed }
            crashes += simulation.crashes
        }
        #expect(committed > 5 * Int(Self.seeds), "transactions do commit")
        #expect(crashes > 5 * Int(Self.seeds), "and the broker does crash")
    }

    @Test func aSeedGivesTheSameRunTwice() {
        var first = TransactionSimulation(seed: 7)
        var second = TransactionSimulation(seed: 7)
        first.run(steps: 1_000)
        second.run(steps: 1_000)
        for partition in TransactionSimulation.partitions { #expect(first.logs[partition]?.written == second.logs[partition]?.written) }
        #expect(first.attempts.count == second.attempts.count)
    }
}
