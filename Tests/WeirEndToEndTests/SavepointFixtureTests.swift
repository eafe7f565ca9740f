import Foundation
import Testing
import WeirBase
import WeirTestKit
import WeirWire

/// Savepoints of every released format, restored by this build: see `Fixtures/README.md`.
@Suite(.serialized) struct SavepointFixtureTests {
    private static let rows: UInt64 = 12_000
    private static let devices = 4_000
    private static let seed: UInt64 = 1
    private static let fixtures = URL(fileURLWithPath: #filePath).deletingLastPathComponent().appendingPathComponent("Fixtures").path

    private static func job(_ cluster: LocalCluster, _ output: String, perSecond: Int) -> [String] {
        [
            cluster.binaries + "/weir-testjob", "--", "--output", output, "--rows", "\(rows)", "--per-second", "\(perSecond)", "--devices",
            "\(devices)", "--seed", "\(seed)",
        ]
    }

    private func started() throws -> LocalCluster {
        let cluster = try LocalCluster()
        try cluster.startJobManager()
        for number in 1...2 { try cluster.startTaskManager("tm-\(number)", slots: 2) }
        return cluster
    }

    /// Does nothing unless `REWRITE` names the number of a fixture that is not there yet.
    @Test func aNewFixtureIsWrittenOnRequest() throws {
        guard let number = ProcessInfo.processInfo.environment["REWRITE"].flatMap({ Int($0) }) else { return }
        let fixture = Self.fixtures + "/savepoint-\(number)"
        try #require(!FileManager.default.fileExists(atPath: fixture), "a fixture is never written again")
        let cluster = try started()
        defer { cluster.stop() }
        let output = cluster.directory + "/windows"
        let run = try cluster.weir(["run", "-d", "-p", "2", "--name", "fixture"] + Self.job(cluster, output, perSecond: 4_000))
        #expect(run.code == 0, "\(run.output)")
        _ = try cluster.wait(for: "fixture", "RUNNING with windows") { info in info.tasks.contains { $0.metrics.recordsOut > 2_500 } }
        let stopped = try cluster.weir(["stop", "fixture", "--savepoint-dir", cluster.directory + "/saved", "--json"])
        #expect(stopped.code == 0, "\(stopped.output)")
        let path = (try JSONSerialization.jsonObject(with: Data(stopped.output.joined(separator: "\n").utf8)) as? [String: Any])?["path"] as? String
        try FileManager.default.createDirectory(atPath: fixture, withIntermediateDirectories: true)
        try FileManager.default.copyItem(atPath: try #require(path), toPath: fixture + "/saved")
        try FileManager.default.copyItem(atPath: output, toPath: fixture + "/windows")
    }

    @Test(arguments: [1, 2, 3]) func everyFixtureRestoresAndTheJobEndsExactly(parallelism: Int) throws {
        let fixtures = try FileManager.default.contentsOfDirectory(atPath: Self.fixtures).filter { $0.hasPrefix("savepoint-") }.sorted()
        #expect(!fixtures.isEmpty)
        let cluster = try started()
        defer { cluster.stop() }
        for name in fixtures {
            let fixture = Self.fixtures + "/" + name
            let inspected = try cluster.weir(["savepoint", "inspect", fixture + "/saved"])
            #expect(inspected.code == 0 && inspected.output.contains { $0.contains("all of them whole") }, "\(inspected.output)")
            let output = cluster.directory + "/" + name
            try FileManager.default.copyItem(atPath: fixture + "/windows", toPath: output)
            let run = try cluster.weir(
                ["run", "-d", "-p", "\(parallelism)", "--name", name, "--from", fixture + "/saved"] + Self.job(cluster, output, perSecond: 20_000))
            #expect(run.code == 0, "\(run.output)")
            let end = try cluster.wait(for: name, "FINISHED") { $0.summary.state == .finished || $0.summary.state == .failed }
            #expect(end.summary.state == .finished && end.checkpoints.restoredFrom > 0, "\(end.summary.statusMessage)")
            let expected = SeededRows(seed: Self.seed, devices: Self.devices).fold(count: Self.rows)
            let problems = try WindowDifferences(directory: output, expected: expected).problems
            #expect(problems.isEmpty, "\(problems.count) differences: \(problems.prefix(5))")
        }
    }
}
