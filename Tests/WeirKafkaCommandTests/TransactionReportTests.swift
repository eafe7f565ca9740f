import ArgumentParser
import Testing
import WeirCLI
import WeirKafkaCommand
import WeirKafkaTransactions

@Suite struct TransactionReportTests {
    private func report() -> TransactionReport {
        var open = TransactionReport.Entry(
            id: TransactionalID(prefix: "p", subtask: 0, index: 0), session: ProducerSession(producerID: 4_711, epoch: 2), state: "Ongoing",
            startedAt: 10_000, timeoutMilliseconds: 60_000, partitions: ["out": [2, 0], "alerts": [1]], checkpoint: 12)
        open.outcome = .kept
        let idle = TransactionReport.Entry(
            id: TransactionalID(prefix: "p", subtask: 1, index: 0), session: ProducerSession(producerID: 5, epoch: 0), state: "CompleteCommit",
            startedAt: -1, timeoutMilliseconds: 60_000)
        return TransactionReport(prefix: "p", entries: [open, idle], checkpoints: ["/cp/chk-12"])
    }

    @Test func theTable() {
        #expect(
            report().text(nowMs: 14_200) == """
                TRANSACTIONAL ID  PRODUCER  EPOCH  STATE             AGE  PARTITIONS        CHECKPOINT  OUTCOME
                p-0-0                 4711      2  Ongoing         4.2 s  alerts/1 out/0,2          12  kept
                p-1-0                    5      0  CompleteCommit      -  -                          -  -

                2 transactional ids, 1 with an open transaction
                """)
        #expect(TransactionReport(prefix: "p", entries: []).text(nowMs: 0) == "no transactional ids with the prefix \"p\"")
    }

    @Test func theJSON() {
        #expect(
            report().json().line
                == #"{"prefix":"p","checkpoints":["/cp/chk-12"],"transactions":["#
                + #"{"transactionalId":"p-0-0","subtask":0,"producerId":4711,"producerEpoch":2,"state":"Ongoing","startedMs":10000,"timeoutMs":60000,"#
                + #""partitions":[{"topic":"alerts","partition":1},{"topic":"out","partition":0},{"topic":"out","partition":2}],"#
                + #""checkpoint":12,"outcome":"kept","reason":null},"#
                + #"{"transactionalId":"p-1-0","subtask":1,"producerId":5,"producerEpoch":0,"state":"CompleteCommit","startedMs":null,"#
                + #""timeoutMs":60000,"partitions":[],"checkpoint":null,"outcome":null,"reason":null}]}"#)
    }

    private func exitCode(_ words: String...) -> Int32 {
        do {
            _ = try KafkaCommand.parseAsRoot(["transactions", "--bootstrap", "h:1", "--prefix", "p"] + words)
            return 0
        } catch { return KafkaCommand.exitCode(for: error).rawValue }
    }

    @Test func mistakesAreUsageErrors() {
        #expect(exitCode() == 0)
        #expect(exitCode("--abort", "--yes", "--json", "--checkpoint", "/a", "--checkpoint", "/b", "--kafka", "security.protocol=plaintext") == 0)
        #expect(exitCode("--abort", "--commit-from", "/cp") == 64)
        #expect(exitCode("--abort", "--json") == 64)
        #expect(exitCode("--bootstrap", "h:x") == 64)
        #expect(exitCode("--prefix", "") == 64)
        for property in ["nonsense", "=x", "client.id=x", "security.protocol=SSL"] { #expect(exitCode("--kafka", property) == 64, "\(property)") }
    }
}
