import Foundation
import Glibc
import Testing
import WeirBase
import WeirCLI
import WeirTestKit
import WeirWire

/// A worker that is stopped for longer than anyone waits for it, and goes on after its successor has taken over its output.
@Suite(.serialized) struct FrozenWorkerTests {
    /// The published files of a sink, by name.
    private func published(in directory: String) throws -> [String: Data] {
        var files: [String: Data] = [:]
        for name in try FileManager.default.contentsOfDirectory(atPath: directory) where name.hasPrefix("part-") {
            files[name] = try Data(contentsOf: URL(fileURLWithPath: directory + "/" + name))
        }
        return files
    }

    @Test func whatItWritesAfterItsSuccessorBeganIsNotInTheOutput() throws {
        let rows: UInt64 = 160_000
        let cluster = try LocalCluster(settings: [
            "execution.checkpointing.interval": "200ms", "restart-strategy.type": "fixed-delay", "restart-strategy.fixed-delay.delay": "50ms",
            "restart-strategy.fixed-delay.attempts": "100", "heartbeat.interval": "100ms", "heartbeat.timeout": "1s",
        ])
        defer { cluster.stop() }
        try cluster.startJobManager()
        for id in ["tm-1", "tm-2"] { try cluster.startTaskManager(id, slots: 1) }
        let output = cluster.directory + "/windows"
        let submitted = try cluster.weir([
            "run", "-d", "--name", "frozen", cluster.binaries + "/weir-testjob", "--", "--output", output, "--rows", "\(rows)", "--per-second",
            "20000", "--devices", "500",
        ])
        #expect(submitted.code == 0, "\(submitted.output)")
        for _ in 0..<2 {
            let before = try cluster.wait(for: "frozen", "RUNNING, with output") { info in
                info.summary.state == .running && (try? published(in: output).isEmpty) == false
            }
            let host = try #require(before.tasks.first?.taskManager)
            let taskManager = try #require(cluster.taskManagers[host]?.pid)
            let workers = try cluster.workers(of: host)
            #expect(workers.count == 1)
            for pid in [taskManager] + workers { kill(pid, SIGSTOP) }
            // Whatever happens, no stopped process is left behind.
            defer { for pid in [taskManager] + workers { kill(pid, SIGCONT) } }
            _ = try cluster.wait(for: "frozen", "RUNNING elsewhere") { info in
                info.summary.state == .running && info.epoch > before.epoch && info.tasks.allSatisfy { $0.taskManager != host }
            }
            let files = try published(in: output)
            // The worker alone: its TaskManager, which would end it at once, sleeps on. It ends itself when it finds that it is not wanted.
            for pid in workers { kill(pid, SIGCONT) }
            try cluster.wait("seen the worker go") { _ in workers.allSatisfy { ProcessTable.parent(of: $0) == nil } }
            kill(taskManager, SIGCONT)
            try cluster.wait("its TaskManager back") { $0.taskManagers.count == 2 }
            for (name, bytes) in try published(in: output) where files[name] != nil { #expect(files[name] == bytes, "\(name) has changed") }
        }
        let end = try cluster.wait(for: "frozen", "FINISHED") { $0.summary.state.isTerminal }
        #expect(end.summary.state == .finished)
        #expect(end.summary.restarts == 2)
        let differences = try WindowDifferences(directory: output, expected: SeededRows(seed: 1, devices: 500).fold(count: rows))
        #expect(differences.problems.isEmpty, "\(differences.problems.prefix(5))")
        #expect(differences.lines > 500)
    }
}
