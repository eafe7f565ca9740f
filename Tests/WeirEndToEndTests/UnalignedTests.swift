import Foundation
import Testing
import WeirBase
import WeirTestKit
import WeirWire

/// Checkpoints of a job whose windows take about a hundredth of what its source could give.
@Suite(.serialized) struct UnalignedTests {
    private static let rows: UInt64 = 400_000
    private static let devices = 50

    /// Two workers with two slots, so that rows queue in rings and in the network; a row takes 250 us at the windows.
    private func start(_ settings: [String: String]) throws -> (cluster: LocalCluster, output: String, slowFile: String) {
        let cluster = try LocalCluster(
            settings: [
                "execution.checkpointing.interval": "1s", "cluster.evenly-spread-out-slots": "true", "restart-strategy.type": "fixed-delay",
                "restart-strategy.fixed-delay.delay": "100ms", "restart-strategy.fixed-delay.attempts": "100",
            ].merging(settings) { $1 })
        try cluster.startJobManager()
        for number in 1...2 { try cluster.startTaskManager("tm-\(number)", slots: 2) }
        let slowFile = cluster.directory + "/slow"
        try Data().write(to: URL(fileURLWithPath: slowFile))
        let output = cluster.directory + "/windows"
        let run = try cluster.weir([
            "run", "-d", "-p", "4", cluster.binaries + "/weir-testjob", "--", "--output", output, "--rows", "\(Self.rows)", "--devices",
            "\(Self.devices)", "--slow-file", slowFile, "--slow-microseconds", "4000",
        ])
        #expect(run.code == 0, "\(run.output)")
        _ = try cluster.wait(for: "TestJob", "RUNNING") { info in
            info.summary.state == .running && info.tasks.allSatisfy { $0.state == .running || $0.state == .finished }
        }
        return (cluster, output, slowFile)
    }

    @Test func unalignedCheckpointsOvertakeWhatIsQueuedAndRestoreExactly() throws {
        let (cluster, output, slowFile) = try start(["execution.checkpointing.unaligned.enabled": "true"])
        defer { cluster.stop() }
        let second = try cluster.wait(for: "TestJob", "with two checkpoints under back pressure") { $0.checkpoints.completed >= 2 }
        for checkpoint in second.checkpoints.recent where checkpoint.state == .completed {
            print("unaligned checkpoint \(checkpoint.checkpoint) behind a slow sink: \(checkpoint.durationMs) ms")
            #expect(checkpoint.durationMs < 20_000, "the rows in front of checkpoint \(checkpoint.checkpoint) take minutes")
        }
        #expect(second.checkpoints.failed == 0)
        try cluster.killWorkers(of: "tm-1")
        _ = try cluster.wait(for: "TestJob", "restored") {
            $0.epoch > second.epoch && $0.checkpoints.restoredFrom > 0 && $0.summary.state == .running
        }
        try FileManager.default.removeItem(atPath: slowFile)
        _ = try cluster.wait(for: "TestJob", timeout: .seconds(120), "FINISHED") { $0.summary.state == .finished }
        let differences = try WindowDifferences(
            directory: output, expected: SeededRows(seed: 1, devices: Self.devices).fold(count: Self.rows))
        #expect(differences.problems.isEmpty, "\(differences.problems.prefix(10))")
        #expect(differences.lines > 100)
    }

    @Test func anAlignedCheckpointWaitsForAllThatIsQueued() throws {
        let (cluster, _, _) = try start([:])
        defer { cluster.stop() }
        _ = try cluster.wait(for: "TestJob", "in a checkpoint") { $0.checkpoints.inProgress > 0 || $0.checkpoints.completed > 0 }
        let due = Date() + 2
        let info = try cluster.wait(for: "TestJob", "2 s into its first checkpoint") { _ in Date() >= due }
        #expect(info.checkpoints.completed == 0)
        #expect(info.checkpoints.inProgress == 1)
    }
}
