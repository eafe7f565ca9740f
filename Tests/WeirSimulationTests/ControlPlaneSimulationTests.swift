import Foundation
import Testing
import WeirSimulation
import WeirTestKit

/// The control plane under faults drawn from seeds. `WEIR_SIMULATION_SEEDS=5000` soaks; `WEIR_SIMULATION_FIRST_SEED` moves the range.
@Suite struct ControlPlaneSimulationTests {
    static let firstSeed = ProcessInfo.processInfo.environment["WEIR_SIMULATION_FIRST_SEED"].flatMap { UInt64($0) } ?? 0
    static let seeds = ProcessInfo.processInfo.environment["WEIR_SIMULATION_SEEDS"].flatMap { UInt64($0) } ?? 300

    @Test func invariantsHoldUnderFaults() {
        var totals = Checks.Statistics()
        var failures = 0
        for seed in Self.firstSeed..<(Self.firstSeed + Self.seeds) {
            let simulation = Simulation(seed: seed)
            simulation.run()
            if let first = simulation.violations.first {
                failures += 1
                Issue.record("seed \(seed): \(first)")
                if failures == 5 { return }
            }
            totals.checkpoints += simulation.statistics.checkpoints
            totals.savepoints += simulation.statistics.savepoints
            totals.restores += simulation.statistics.restores
            totals.epochs += simulation.statistics.epochs
            totals.discarded += simulation.statistics.discarded
            totals.damaged += simulation.statistics.damaged
            totals.finished += simulation.statistics.finished
            totals.canceled += simulation.statistics.canceled
        }
        // A simulation in which nothing happens proves nothing.
        guard Self.seeds >= 100 else { return }
        #expect(totals.checkpoints > 1_000 && totals.restores > 100 && totals.savepoints > 10, "\(totals)")
        #expect(totals.finished > 10 && totals.canceled > 10 && totals.discarded > 1_000 && totals.damaged > 0, "\(totals)")
    }

    @Test(arguments: 0..<10 as Range<UInt64>) func theSameSeedGivesTheSameTrace(seed: UInt64) {
        let first = Simulation(seed: seed, keepsTrace: true)
        let second = Simulation(seed: seed, keepsTrace: true)
        first.run()
        second.run()
        #expect(first.trace.count > 100)
        #expect(first.trace == second.trace)
    }

    /// The order of a dictionary differs from process to process: what depends on it shows in the trace.
    @Test func theSameSeedGivesTheSameTraceInEveryProcess() throws {
        let seeds = max(30, Self.seeds / 10)
        let program = try LocalCluster.binaryDirectory() + "/weir-simulation"
        let processes = try (0..<3).map { _ in
            try ChildProcess(name: "weir-simulation", executable: program, arguments: ["\(Self.firstSeed)", "\(seeds)"])
        }
        let outputs = processes.map { $0.exitCode() == 0 ? $0.output : [] }
        #expect(outputs[0].count == Int(seeds))
        for output in outputs { #expect(output == outputs[0]) }
    }
}
