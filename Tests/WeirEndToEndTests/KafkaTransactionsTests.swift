import Foundation
import Testing
import WeirBase
import WeirTestKit
import WeirWire

/// `weir kafka transactions` on what a real job leaves that was killed between the completion of a checkpoint and the commit of its
/// transactions, and is not restored.
@Suite(.serialized) struct KafkaTransactionsTests {
    private struct Leftover {
        var cluster: LocalCluster
        var bootstrap: String
        /// The directory of the job's latest checkpoint.
        var checkpoint: String

        func transactions(_ arguments: String...) throws -> (code: Int32, text: String) {
            let run = try cluster.weir(["kafka", "transactions", "--bootstrap", bootstrap, "--prefix", "windows"] + arguments)
            return (run.code, run.output.joined(separator: "\n"))
        }

        /// Committed records of the topic, within a short time.
        func committed() throws -> [String] {
            let reader = try TopicReader(bootstrap: bootstrap, topic: "windows", partitions: 1)
            var values: [String] = []
            while let value = reader.next(milliseconds: values.isEmpty ? 1_500 : 500) { values.append(String(decoding: value, as: UTF8.self)) }
            return values
        }
    }

    /// Two subtasks have each prepared a transaction, the checkpoint is complete, and nothing was ever committed.
    private func leftover() throws -> Leftover {
        let cluster = try LocalCluster(settings: ["execution.checkpointing.interval": "300ms", "restart-strategy.type": "none"])
        try cluster.startJobManager()
        try cluster.startTaskManager("tm-1", slots: 2)
        let bootstrap = try cluster.startBroker(topics: "windows:1")
        let kill = cluster.directory + "/kill"
        try Data().write(to: URL(fileURLWithPath: kill))
        let run = try cluster.weir([
            "run", "-d", "-p", "2", "--name", "killed", cluster.binaries + "/weir-testjob", "--", "--output", cluster.directory + "/none", "--rows",
            "1000000", "--per-second", "5000", "--windows-to", bootstrap, "--kill-before-commit-file", kill,
        ])
        #expect(run.code == 0, "\(run.output)")
        let end = try cluster.wait(for: "killed", "failed") { $0.summary.state == .failed }
        let latest = try #require(end.checkpoints.recent.last { $0.state == .completed })
        return Leftover(cluster: cluster, bootstrap: bootstrap, checkpoint: latest.path)
    }

    private func json(_ text: String) throws -> [[String: Any]] {
        let object = try #require(try JSONSerialization.jsonObject(with: Data(text.utf8)) as? [String: Any])
        return try #require(object["transactions"] as? [[String: Any]])
    }

    @Test func whatTheCheckpointNamesIsListedAndCommitted() throws {
        let left = try leftover()
        defer { left.cluster.stop() }
        #expect(try left.committed().isEmpty)

        let list = try left.transactions("--checkpoint", left.checkpoint, "--json")
        #expect(list.code == 0, "\(list.text)")
        let named = try json(list.text).filter { $0["checkpoint"] is NSNumber }
        #expect(!named.isEmpty && named.allSatisfy { $0["state"] as? String == "Ongoing" }, "\(list.text)")
        // The directory of the job stands for its checkpoints.
        let job = (left.checkpoint as NSString).deletingLastPathComponent
        #expect(try left.transactions("--checkpoint", job).text.contains("Ongoing"))

        let commit = try left.transactions("--commit-from", left.checkpoint)
        #expect(commit.code == 0, "\(commit.text)")
        #expect(commit.text.split(separator: "\n").filter { $0.hasSuffix("  committed") }.count == named.count, "\(commit.text)")
        let windows = try left.committed()
        #expect(!windows.isEmpty && Set(windows).count == windows.count, "each window once: \(windows)")
        // Again: nothing changes.
        #expect(try left.transactions("--commit-from", left.checkpoint).code == 0)
        #expect(try left.committed() == windows)
    }

    @Test func abortAsksAndThenReadersSeeNothing() throws {
        let left = try leftover()
        defer { left.cluster.stop() }
        let kept = try left.transactions("--abort", "--yes", "--checkpoint", left.checkpoint)
        #expect(kept.code == 0 && kept.text.contains("  kept"), "\(kept.text)")

        let command = "\(left.cluster.binaries)/weir kafka transactions --bootstrap \(left.bootstrap) --prefix windows --abort"
        for answer in ["echo n", "true"] {
            let asked = try ChildProcess(name: "sh", executable: "/bin/sh", arguments: ["-c", "\(answer) | \(command)"])
            #expect(asked.exitCode() == 1)
            let words = asked.output.joined(separator: "\n")
            #expect(words.contains("? Their rows are never seen. [y/N]") && words.contains("error: nothing was aborted"), "\(words)")
        }

        let aborted = try left.transactions("--abort", "--yes")
        #expect(aborted.code == 0 && aborted.text.contains("  aborted"), "\(aborted.text)")
        #expect(aborted.text.hasSuffix(" 0 with an open transaction"), "\(aborted.text)")
        #expect(try left.committed().isEmpty)

        let lost = try left.transactions("--commit-from", left.checkpoint)
        #expect(lost.code == 1 && lost.text.contains("  lost: "), "\(lost.text)")
    }

    @Test func mistakesAreTold() throws {
        let cluster = try LocalCluster()
        defer { cluster.stop() }
        func words(_ arguments: String...) throws -> (code: Int32, text: String) {
            let run = try cluster.weir(["kafka", "transactions"] + arguments)
            return (run.code, run.output.joined(separator: "\n"))
        }
        #expect(try words("--prefix", "p").code == 64)
        let both = try words("--bootstrap", "h:1", "--prefix", "p", "--abort", "--commit-from", "/cp")
        #expect(both.code == 64 && both.text.contains("--abort and --commit-from exclude each other"), "\(both.text)")
        let missing = try words("--bootstrap", "127.0.0.1:1", "--prefix", "p", "--commit-from", cluster.directory + "/chk-7")
        #expect(missing.code == 1)
        #expect(
            missing.text == """
                error: cannot read the checkpoint \(cluster.directory)/chk-7: No such file or directory
                hint: name the directory of a checkpoint or savepoint; weir info shows that of a job's latest
                """)
        let unreachable = try words("--bootstrap", "127.0.0.1:1", "--prefix", "p")
        #expect(unreachable.code == 1 && unreachable.text.contains("no broker answers: 127.0.0.1:1: Connection refused"), "\(unreachable.text)")
    }
}
