import Foundation
import Testing
import WeirBase
import WeirTestKit
import WeirWire

/// Savepoints on real processes: taken, moved, restored at another parallelism, and what the job writes in all.
@Suite(.serialized) struct SavepointTests {
    private static let rows: UInt64 = 24_000
    private static let seed: UInt64 = 20_261_125

    /// A cluster of six slots and the windowed job of the tests, exactly once into files.
    private final class Bench {
        let cluster: LocalCluster
        let output: String

        init() throws {
            cluster = try LocalCluster(settings: ["execution.checkpointing.interval": "200ms"])
            output = cluster.directory + "/windows"
            try cluster.startJobManager()
            for number in 1...3 { try cluster.startTaskManager("tm-\(number)", slots: 2) }
        }

        /// Submits the job, with options of `weir run` and of the job.
        func run(_ name: String, parallelism: Int, _ options: [String] = [], job: [String] = [], perSecond: Int = 6_000) throws {
            let words =
                ["run", "-d", "-p", "\(parallelism)", "--name", name] + options + [cluster.binaries + "/weir-testjob", "--", "--output", output]
                + ["--rows", "\(rows)", "--per-second", "\(perSecond)", "--devices", "50", "--seed", "\(seed)"] + job
            try expectSuccess(words)
        }

        @discardableResult func expectSuccess(_ words: [String]) throws -> [String] {
            let (code, output) = try cluster.weir(words)
            guard code == 0 else {
                throw JobFailure(
                    domain: .system, recovery: .fail, message: "weir \(words.joined(separator: " "))", cause: output.joined(separator: "\n"))
            }
            return output
        }

        func running(_ name: String) throws {
            _ = try cluster.wait(for: name, "RUNNING with windows") { info in
                info.summary.state == .running && info.tasks.contains { $0.metrics.recordsOut > 2_000 }
            }
        }

        /// The path that a command printed as JSON.
        func path(_ output: [String]) throws -> String {
            let object = try JSONSerialization.jsonObject(with: Data(output.joined(separator: "\n").utf8)) as? [String: Any]
            return try #require(object?["path"] as? String)
        }

        func problems(rows: UInt64 = SavepointTests.rows) throws -> [String] {
            try WindowDifferences(directory: output, expected: SeededRows(seed: seed, devices: 50).fold(count: rows)).problems
        }
    }

    @Test(arguments: [(2, 1), (2, 3), (3, 2), (1, 6)])
    func aStoppedJobGoesOnFromItsSavepointAtAnotherParallelism(before: Int, after: Int) throws {
        let bench = try Bench()
        defer { bench.cluster.stop() }
        try bench.run("first", parallelism: before)
        try bench.running("first")
        let output = try bench.expectSuccess(["stop", "first", "--savepoint-dir", bench.cluster.directory + "/saved", "--json"])
        // It is FINISHED when the command returns, and not later.
        #expect(output.contains { $0.contains("\"FINISHED\"") }, "\(output)")
        let path = try bench.path(output)
        let moved = bench.cluster.directory + "/moved"
        try FileManager.default.moveItem(atPath: path, toPath: moved)
        let size = try FileManager.default.contentsOfDirectory(atPath: moved).sorted()

        try bench.run("second", parallelism: after, ["--from", moved])
        let end = try bench.cluster.wait(for: "second", "FINISHED") { $0.summary.state == .finished || $0.summary.state == .failed }
        #expect(end.summary.state == .finished && end.checkpoints.restoredFrom > 0)
        let problems = try bench.problems()
        #expect(problems.isEmpty, "\(problems.count) differences: \(problems.prefix(5))")
        // It was not claimed: nothing of it is gone.
        #expect(try FileManager.default.contentsOfDirectory(atPath: moved).sorted() == size)
    }

    @Test func aJobThatGoesOnIsNotDisturbedByItsSavepoint() throws {
        let bench = try Bench()
        defer { bench.cluster.stop() }
        try bench.run("first", parallelism: 2)
        try bench.running("first")
        let path = try bench.path(try bench.expectSuccess(["savepoint", "first", bench.cluster.directory + "/saved", "--json"]))
        #expect(FileManager.default.fileExists(atPath: path + "/_metadata"))
        let inspected = try bench.expectSuccess(["savepoint", "inspect", path])
        #expect(inspected.contains { $0.hasPrefix("windows") && $0.contains("parallelism 2") }, "\(inspected)")
        #expect(inspected.contains { $0.contains("windows") && $0.contains("64") }, "key groups a subtask: \(inspected)")
        let json =
            try JSONSerialization.jsonObject(
                with: Data(try bench.expectSuccess(["savepoint", "inspect", path, "--json"]).joined(separator: "\n").utf8)) as? [String: Any]
        let operators = try #require(json?["operators"] as? [[String: Any]])
        #expect(operators.compactMap { $0["uid"] as? String } == ["measurements", "windows", "files"])
        let history = try bench.expectSuccess(["checkpoints", "first"])
        #expect(history.contains { $0.contains("savepoint") && $0.contains("COMPLETED") && $0.contains(path) }, "\(history)")
        _ = try bench.cluster.wait(for: "first", "FINISHED") { $0.summary.state == .finished }
        #expect(try bench.problems().isEmpty)
        #expect(FileManager.default.fileExists(atPath: path + "/_metadata"), "the end of the job does not touch it")
        var bytes = try Data(contentsOf: URL(fileURLWithPath: path + "/_metadata"))
        bytes[bytes.count / 2] ^= 1
        try bytes.write(to: URL(fileURLWithPath: path + "/_metadata"))
        let damaged = try bench.cluster.weir(["savepoint", "inspect", path])
        #expect(damaged.code == 1 && damaged.output.contains { $0.contains(path + "/_metadata") }, "\(damaged.output)")
    }

    @Test func aDrainedJobHasWrittenEveryWindow() throws {
        let bench = try Bench()
        defer { bench.cluster.stop() }
        try bench.run("first", parallelism: 1)
        try bench.running("first")
        try bench.expectSuccess(["stop", "first", "--drain", "--savepoint-dir", bench.cluster.directory + "/saved"])
        var count: UInt64 = 0
        for name in try FileManager.default.contentsOfDirectory(atPath: bench.output) where name.hasPrefix("part-") {
            for line in try String(contentsOfFile: bench.output + "/" + name, encoding: .utf8).split(separator: "\n") {
                count += UInt64(line.split(separator: " ")[2]) ?? 0
            }
        }
        // One source subtask emits the rows in their order: what was read is a beginning of them, and all of it is in windows.
        #expect(count > 2_000 && count < Self.rows)
        #expect(try bench.problems(rows: count).isEmpty)
    }

    @Test func aClaimedSavepointIsDeletedOnceNewerCheckpointsStandForIt() throws {
        let bench = try Bench()
        defer { bench.cluster.stop() }
        try bench.run("first", parallelism: 2)
        try bench.running("first")
        let path = try bench.path(try bench.expectSuccess(["stop", "first", "--savepoint-dir", bench.cluster.directory + "/saved", "--json"]))
        try bench.run("second", parallelism: 2, ["--from", path, "--claim"])
        _ = try bench.cluster.wait(for: "second", "FINISHED") { $0.summary.state == .finished }
        #expect(!FileManager.default.fileExists(atPath: path))
        #expect(try bench.problems().isEmpty)
    }

    @Test func stateThatNoOperatorClaimsIsRefusedByNameUnlessAllowed() throws {
        let bench = try Bench()
        defer { bench.cluster.stop() }
        try bench.run("first", parallelism: 1)
        try bench.running("first")
        let path = try bench.path(try bench.expectSuccess(["stop", "first", "--savepoint-dir", bench.cluster.directory + "/saved", "--json"]))
        let input = bench.cluster.directory + "/words"
        try "a b".write(toFile: input, atomically: true, encoding: .utf8)
        func other(_ options: [String]) throws -> (code: Int32, output: [String]) {
            try bench.cluster.weir(
                ["run", "-d", "--from", path] + options
                    + [bench.cluster.binaries + "/WordCount", "--", "--input", input, "--output", bench.cluster.directory + "/counts"])
        }
        let refused = try other([])
        #expect(refused.code == 1)
        #expect(refused.output.contains { $0.contains("measurements") && $0.contains("--allow-unclaimed-state") }, "\(refused.output)")
        let allowed = try other(["--allow-unclaimed-state"])
        #expect(allowed.code == 0, "\(allowed.output)")
    }

    @Test func mistakesAreToldInWords() throws {
        let bench = try Bench()
        defer { bench.cluster.stop() }
        try bench.run("first", parallelism: 1)
        try bench.running("first")
        let nowhere = try bench.cluster.weir(["savepoint", "first"])
        #expect(nowhere.code == 1 && nowhere.output.contains { $0.contains("execution.checkpointing.savepoint-dir") }, "\(nowhere.output)")
        let file = bench.cluster.directory + "/file"
        try "x".write(toFile: file, atomically: true, encoding: .utf8)
        let impossible = try bench.cluster.weir(["savepoint", "first", file])
        #expect(impossible.code == 1 && impossible.output.contains { $0.contains(file) }, "\(impossible.output)")
        let missing = try bench.cluster.weir([
            "run", "--from", file + "-not", bench.cluster.binaries + "/weir-testjob", "--", "--output", bench.output,
        ])
        #expect(missing.code == 1 && missing.output.contains { $0.contains(file + "-not") }, "\(missing.output)")
        // The job has not noticed.
        #expect(try bench.cluster.wait(for: "first", "RUNNING") { $0.summary.state == .running }.summary.restarts == 0)
    }
}
