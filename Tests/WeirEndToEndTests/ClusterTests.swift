import Foundation
import Testing
import WeirBase
import WeirTestKit
import WeirWire

/// Real processes on free ports: what users do, and what goes wrong for them.
@Suite(.serialized) struct ClusterTests {
    @Test(arguments: [TelemetryScenario.Victim.taskManager, .worker], [false, true])
    func theTelemetryJobSurvivesAKillExactly(victim: TelemetryScenario.Victim, exactlyOnce: Bool) throws {
        var lines: [String] = []
        let outcome = try TelemetryScenario(readings: 12_000, perSecond: 2_000, victim: victim, exactlyOnce: exactlyOnce) { lines.append($0) }.run()
        #expect(outcome.isExact, "\(lines.joined(separator: "\n"))")
        #expect(outcome.restarts == 1)
        #expect(outcome.windows > 100)
    }

    @Test func aJobWithoutSlotsWaitsAndCanBeCanceled() throws {
        let cluster = try LocalCluster()
        defer { cluster.stop() }
        try cluster.startJobManager()
        let file = cluster.directory + "/words.txt"
        try "a b a".write(toFile: file, atomically: true, encoding: .utf8)
        let run = try cluster.weir(["run", "-d", cluster.binaries + "/WordCount", "--", "--input", file, "--output", cluster.directory + "/out"])
        #expect(run.code == 0, "\(run.output)")
        let waiting = try cluster.wait(for: "WordCount", "waiting for slots") { $0.summary.state == .waitingForResources }
        #expect(waiting.summary.statusMessage.contains("slot"), "\(waiting.summary.statusMessage)")
        #expect(try cluster.weir(["cancel", "WordCount"]).code == 0)
        _ = try cluster.wait(for: "WordCount", "canceled") { $0.summary.state == .canceled }
    }

    @Test func aRestartedJobManagerTakesUpTheJob() throws {
        let cluster = try LocalCluster()
        defer { cluster.stop() }
        try cluster.startJobManager()
        let file = cluster.directory + "/words.txt"
        try "a b a".write(toFile: file, atomically: true, encoding: .utf8)
        let run = try cluster.weir(["run", "-d", cluster.binaries + "/WordCount", "--", "--input", file, "--output", cluster.directory + "/out"])
        #expect(run.code == 0, "\(run.output)")
        let before = try cluster.wait(for: "WordCount", "waiting for slots") { $0.summary.state == .waitingForResources }
        cluster.killJobManager()
        try cluster.startJobManager()
        try cluster.startTaskManager("tm-1", slots: 1)
        let after = try cluster.wait(for: "WordCount", "finished") { $0.summary.state == .finished }
        #expect(after.summary.job == before.summary.job)
        #expect(after.epoch > before.epoch)
        #expect(try counts(in: cluster.directory + "/out") == ["a": 2, "b": 1])
    }

    /// Started from nothing, the job would have lost its state without a word.
    @Test func aJobWhoseCheckpointsAreAllDamagedIsNotTakenUp() throws {
        let cluster = try LocalCluster()
        defer { cluster.stop() }
        try cluster.startJobManager()
        let file = cluster.directory + "/words.txt"
        try "a".write(toFile: file, atomically: true, encoding: .utf8)
        _ = try cluster.weir(["run", "-d", cluster.binaries + "/WordCount", "--", "--input", file, "--output", cluster.directory + "/out"])
        let job = try cluster.wait(for: "WordCount", "waiting") { $0.summary.state == .waitingForResources }.summary.job
        cluster.killJobManager()
        let checkpoint = cluster.directory + "/jobmanager/checkpoints/\(job)/chk-1"
        try FileManager.default.createDirectory(atPath: checkpoint, withIntermediateDirectories: true)
        try Data("damaged".utf8).write(to: URL(fileURLWithPath: checkpoint + "/_metadata"))
        let restarted = try cluster.startJobManager()
        let line = try restarted.line(containing: "is not taken up")
        #expect(line.contains(job))
        #expect(restarted.output.contains { $0.contains(checkpoint + "/_metadata") })
        #expect(try cluster.weir(["list", "--all"]).output.contains("no jobs"))
    }

    @Test func wordCountRunsAloneAndOnACluster() throws {
        let cluster = try LocalCluster()
        defer { cluster.stop() }
        let file = cluster.directory + "/words.txt"
        try "to be or not to be\nthat is the question\n".write(toFile: file, atomically: true, encoding: .utf8)
        let alone = try ChildProcess(
            name: "WordCount", executable: cluster.binaries + "/WordCount", arguments: ["--input", file, "--output", cluster.directory + "/alone"])
        #expect(alone.exitCode() == 0, "\(alone.output)")
        #expect(alone.output.allSatisfy { !$0.contains("warning") }, "\(alone.output)")
        #expect(try counts(in: cluster.directory + "/alone") == ["to": 2, "be": 2, "or": 1, "not": 1, "that": 1, "is": 1, "the": 1, "question": 1])

        try cluster.startJobManager()
        try cluster.startTaskManager("tm-1", slots: 2)
        let run = try cluster.weir([
            "run", "-p", "2", cluster.binaries + "/WordCount", "--", "--input", file, "--output", cluster.directory + "/cluster",
        ])
        #expect(run.code == 0, "\(run.output)")
        #expect(try counts(in: cluster.directory + "/cluster") == counts(in: cluster.directory + "/alone"))
        let end = try cluster.wait(for: "WordCount", "FINISHED") { $0.summary.state == .finished }
        #expect(end.tasks.allSatisfy { $0.state == .finished })
        #expect(end.tasks.filter { $0.subtask.vertex == 0 }.map(\.metrics.recordsOut).reduce(0, +) == 10)
    }

    /// The last count of each word.
    private func counts(in directory: String) throws -> [String: Int] {
        var counts: [String: Int] = [:]
        for name in try FileManager.default.contentsOfDirectory(atPath: directory) {
            for line in try String(contentsOfFile: directory + "/" + name, encoding: .utf8).split(separator: "\n") {
                let parts = line.split(separator: " ")
                guard parts.count == 2, let count = Int(parts[1]) else { continue }
                counts[String(parts[0])] = max(counts[String(parts[0])] ?? 0, count)
            }
        }
        return counts
    }
}
