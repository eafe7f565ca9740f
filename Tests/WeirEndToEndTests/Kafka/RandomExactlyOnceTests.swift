import Foundation
import Testing
import WeirBase
import WeirTestKit

/// Exactly once, whatever is killed when: each seed draws what happens, and the output is a plain fold of the input, key by key and in order.
///
/// `WEIR_EXACTLY_ONCE_SEEDS=100` runs that many, `WEIR_EXACTLY_ONCE_SEED` begins elsewhere.
@Suite(.serialized) struct RandomExactlyOnceTests {
    private static let environment = ProcessInfo.processInfo.environment
    private static let count = environment["WEIR_EXACTLY_ONCE_SEEDS"].flatMap { UInt64($0) } ?? 10
    private static let first = environment["WEIR_EXACTLY_ONCE_SEED"].flatMap { UInt64($0) } ?? 1
    private static let taskManagers = 3
    private static let slots = 2
    /// Jobs that one cluster runs, one after the other.
    private static let seedsPerCluster: UInt64 = 10

    @Test func theOutputIsAFoldOfTheInputWhateverIsKilledWhen() throws {
        var (cluster, broker) = try Self.cluster()
        defer { cluster.stop() }
        for seed in Self.first..<(Self.first + Self.count) {
            let plan = ExactlyOncePlan(seed: seed)
            if seed > Self.first, (seed - Self.first) % Self.seedsPerCluster == 0 {
                cluster.stop()
                (cluster, broker) = try Self.cluster()
            }
            let begun = ContinuousClock.now
            do {
                var options = SummingRun.Options()
                options.name = "seed-\(seed)"
                options.keys = plan.keys
                options.perSecond = plan.perSecond
                options.seed = seed
                let run = try SummingRun(cluster, broker, options)
                let problems = try run.carryOut(plan, slots: Self.slots)
                #expect(problems.isEmpty, "\(plan):\n\(problems.joined(separator: "\n"))")
                print("\(plan): \(run.seen.rows) totals, \((ContinuousClock.now - begun).inMilliseconds) ms")
            } catch {
                Issue.record("\(plan): \(error)")
                // What is left of the cluster says nothing about the seeds that follow.
                cluster.stop()
                (cluster, broker) = try Self.cluster()
            }
            fflush(nil)
        }
    }

    private static func cluster() throws -> (LocalCluster, BrokerProcess) {
        try SummingRun.cluster(taskManagers: taskManagers, slots: slots, interval: "100ms")
    }
}
