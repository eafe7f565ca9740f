import Foundation
import Testing
import WeirBase
import WeirKafkaWire

@testable import WeirKafkaTransactions

/// The sink's decisions against every order of crashes, lost messages, zombies and rescalings that a seed draws.
@Suite struct SinkSimulationTests {
    private static var seeds: Range<UInt64> { 0..<(ProcessInfo.processInfo.environment["WEIR_SIMULATION_SEEDS"].flatMap(UInt64.init) ?? 100) }

    @Test func everyRowIsSeenOnceAndInOrderOrTheJobSaysWhichAreLost() {
        var finished = 0
        var lost = 0
        var restarts = 0
        for seed in Self.seeds {
            var simulation = SinkSimulation(seed: seed)
            let end = simulation.run()
            restarts += simulation.restarts
            #expect(simulation.problems.isEmpty, "seed \(seed): \(simulation.problems)")
            switch end {
            case .finished:
                finished += 1
                for key in 0..<simulation.keys {
                    let expected = (0..<simulation.total).filter { $0 % simulation.keys == key }.map { $0 / simulation.keys }
                    #expect(simulation.broker.committed(key) == expected, "seed \(seed), key \(key)")
                }
                #expect(simulation.broker.openTransactions.isEmpty, "seed \(seed)")
            case .lost(let transaction):
                lost += 1
                let mayExpire = simulation.expires
                #expect(mayExpire, "seed \(seed): \(transaction) is said to be lost, and nothing expired")
                let named = simulation.broker.transactions.filter { $0.session == transaction.session && $0.marker == transaction.marker }
                #expect(!named.isEmpty && named.allSatisfy { $0.state == .aborted }, "seed \(seed): \(transaction) is not lost: \(named)")
            case .stuck(let reason): Issue.record("seed \(seed) does not end: \(reason)")
            }
        }
        // The seeds must reach what they are for.
        #expect(finished > Self.seeds.count / 2)
        #expect(lost > 0)
        #expect(restarts > Self.seeds.count * 10)
    }

    @Test func theSameSeedGivesTheSameRun() {
        var first = SinkSimulation(seed: 11)
        var second = SinkSimulation(seed: 11)
        let ends = (first.run(), second.run())
        #expect(ends.0 == ends.1)
        #expect(first.steps == second.steps)
        #expect(first.broker.log.map(\.row) == second.broker.log.map(\.row))
    }
}
