import Foundation
import Testing
import WeirBase
import WeirTestKit
import WeirWire

/// The moments at which a worker is killed, along the two phases of a commit. The numbers are those of `proto-docs/kafka-transactions.md`.
enum KillPoint: String, CaseIterable {
    /// 1: the barrier has passed.
    case beforeTheFlush
    /// Records are on their way, and the broker does not answer.
    case duringTheFlush
    /// 2: everything is on the broker but the marker.
    case beforeTheMarker
    /// 3: prepared, and nobody knows.
    case beforeTheAcknowledgement
    /// The checkpoint knows, and waits for another subtask.
    case beforeTheCheckpointIsComplete
    /// 4: the checkpoint is complete, and nothing is committed.
    case beforeTheCommit
    /// EndTxn is sent, and the broker does not answer.
    case duringTheCommit
    /// 6: committed, before anything else begins.
    case afterTheCommit
}

extension SummingRun {
    /// Kills a worker at such a moment, and waits until the job runs again.
    func kill(_ point: KillPoint) throws {
        let before = try running()
        switch point {
        case .beforeTheFlush: try killAt(step: 1)
        case .duringTheFlush: try killWithoutAnAnswer(step: 1)
        case .beforeTheMarker: try killAt(step: 2)
        case .beforeTheAcknowledgement: try killAt(step: 3)
        case .beforeTheCheckpointIsComplete: try killWhoHasAcknowledged()
        case .beforeTheCommit: try killAt(step: 4)
        case .duringTheCommit: try killWithoutAnAnswer(step: 5)
        case .afterTheCommit: try killAt(step: 6)
        }
        try running(after: before.epoch)
    }

    private func killAt(step: Int) throws {
        try give("kill-\(step)")
        try waitUntilTaken("kill-\(step)")
    }

    private func killWithoutAnAnswer(step: Int) throws {
        let pid = try pause(at: step)
        broker.suspend()
        try goOn()
        // For the request to be sent. Were it not yet, the worker would die a moment earlier than meant: as exact, only less telling.
        usleep(30_000)
        Glibc.kill(pid, SIGKILL)
        broker.resume()
    }

    private func killWhoHasAcknowledged() throws {
        let pid = try pause(at: 3)
        // For the other one to acknowledge, which nothing tells here. Were it late, it would die a moment earlier than meant.
        usleep(100_000)
        let others = try cluster.taskManagers.keys.flatMap { try cluster.workers(of: $0) }.filter { $0 != pid }
        #expect(!others.isEmpty)
        for other in others { Glibc.kill(other, SIGKILL) }
        release()
    }
}

/// KAFKA.md's scenarios of the two-phase commit on real processes: JobManager, TaskManagers, workers and the broker.
@Suite(.serialized) struct CommitStepTests {
    private static let cancellations = ProcessInfo.processInfo.environment["WEIR_CANCELLATIONS"].flatMap { Int($0) } ?? 5

    /// Scenarios 24 and 31. One worker of two dies, the other one is kept.
    @Test func aWorkerKilledAtAnyStepOfACommitLeavesEachResultOnceAndInOrder() throws {
        let (cluster, broker) = try SummingRun.cluster(taskManagers: 2, slots: 1)
        defer { cluster.stop() }
        let run = try SummingRun(cluster, broker)
        run.feed()
        try run.submit(parallelism: 2)
        try run.running()
        try run.catchUp()
        for point in KillPoint.allCases {
            try run.kill(point)
            try run.catchUp()
            #expect(run.seen.gapsAndRepetitions.isEmpty, "\(point): \(run.seen.gapsAndRepetitions.prefix(3))")
        }
        #expect(try run.info().summary.restarts >= KillPoint.allCases.count)
        let problems = try run.finish()
        #expect(problems.isEmpty, "\(problems.joined(separator: "\n"))")
    }

    /// Scenario 33. The job outlives the broker's absence without a restart.
    @Test func aBrokerKilledDuringAnyPhaseAndStartedAgainLosesAndRepeatsNothing() throws {
        let (cluster, broker) = try SummingRun.cluster(taskManagers: 2, slots: 1)
        defer { cluster.stop() }
        let run = try SummingRun(cluster, broker)
        run.feed()
        try run.submit(parallelism: 2)
        try run.running()
        try run.catchUp()
        let outage: UInt32 = 500_000
        // While rows are written, in the flush, between the phases, and when the commit is about to be asked for.
        for step in [nil, 1, 3, 5] {
            if let step { _ = try run.pause(at: step) }
            broker.kill()
            if step == 3 { try broker.startAgain() }
            if step != nil { try run.goOn() }
            if step != 3 {
                usleep(outage)
                try broker.startAgain()
            }
            try run.catchUp()
            #expect(run.seen.gapsAndRepetitions.isEmpty, "step \(step ?? 0): \(run.seen.gapsAndRepetitions.prefix(3))")
        }
        #expect(try run.info().summary.restarts == 0)
        let problems = try run.finish()
        #expect(problems.isEmpty, "\(problems.joined(separator: "\n"))")
    }

    /// Answers lost, coordinators that moved or are busy, and a worker killed in the middle of it.
    @Test func aBrokerThatAnswersBadlyLosesAndRepeatsNothing() throws {
        let (cluster, broker) = try SummingRun.cluster(
            taskManagers: 1, slots: 2,
            faults: """
                on EndTxn 2 lose-answer
                on EndTxn 4-5 error 16
                on EndTxn 7-11 error 51
                on EndTxn 14 drop
                on EndTxn 17-18 lose-answer
                on InitProducerId 3 lose-answer
                on InitProducerId 8-9 error 14
                on AddOffsetsToTxn 4 error 51
                on TxnOffsetCommit 5 lose-answer
                on AddPartitionsToTxn 9 lose-answer
                on Produce 15 lose-answer
                """)
        defer { cluster.stop() }
        var options = SummingRun.Options()
        options.settings["kafka.property.socket.timeout.ms"] = "2000"
        let run = try SummingRun(cluster, broker, options)
        run.feed()
        try run.submit(parallelism: 2)
        try run.running()
        try run.catchUp()
        for point in [KillPoint.duringTheCommit, .beforeTheCommit] {
            try run.kill(point)
            try run.catchUp()
            #expect(run.seen.gapsAndRepetitions.isEmpty, "\(point): \(run.seen.gapsAndRepetitions.prefix(3))")
        }
        let problems = try run.finish()
        #expect(problems.isEmpty, "\(problems.joined(separator: "\n"))")
    }

    /// Scenario 29. The worker dies between the phases, and nobody is there until the transaction's time is over.
    @Test func aTransactionThatExpiredInALongOutageFailsTheJobNamingIt() throws {
        let (cluster, broker) = try SummingRun.cluster(taskManagers: 1, slots: 1)
        defer { cluster.stop() }
        var options = SummingRun.Options()
        options.settings["kafka.property.transaction.timeout.ms"] = "1000"
        let run = try SummingRun(cluster, broker, options)
        run.feed()
        try run.submit(parallelism: 1)
        try run.running()
        try run.catchUp()
        _ = try run.pause(at: 5)
        let open = try run.openTransactions()
        #expect(!open.isEmpty)
        cluster.killTaskManager("tm-1")
        run.release()
        try run.wait("the transactions have timed out") { try run.openTransactions().isEmpty }
        try cluster.startTaskManager("tm-2", slots: 1)
        let failed = try cluster.wait(for: options.name, "FAILED") { $0.summary.state == .failed }
        let failure = try #require(failed.failures.last?.failure)
        let words = try #require(failure.message.firstMatch(of: #/^transaction (sums-0-\d) of checkpoint (\d+) is lost: its (\d+) records for /#))
        #expect(open.contains(String(words.1)))
        let lost = try #require(Int(words.3))
        let last = try #require(failed.checkpoints.recent.last { $0.state == .completed })
        #expect("\(last.checkpoint)" == words.2)

        // Whoever chooses so goes on without them, and misses nothing else.
        try run.submit(parallelism: 1, from: last.path, settings: ["kafka.totals.lost-transactions": "skip"])
        try run.running()
        let seenBefore = run.seen.rows
        try run.feeder?.stop()
        try run.catchUp()
        try run.cancel()
        #expect(try run.openTransactions() == [])
        #expect(run.seen.rows > seenBefore)
        #expect(run.seen.rows == (run.feeder?.written ?? 0) - lost)
        for (key, totals) in run.seen.totals {
            #expect(zip(totals, totals.dropFirst()).allSatisfy { $0.count < $1.count }, "\(key): nothing twice, and in order")
        }
    }

    /// Scenario 31, with a checkpoint a second.
    @Test func readersWaitForNoTransactionOfATaskThatIsGone() throws {
        let (cluster, broker) = try SummingRun.cluster(taskManagers: 2, slots: 1, interval: "1s")
        defer { cluster.stop() }
        let run = try SummingRun(cluster, broker)
        run.feed()
        try run.submit(parallelism: 2)
        let before = try run.running()
        try run.catchUp()
        // A third of a second into the transaction that the next checkpoint will commit.
        let completed = try run.info().checkpoints.completed
        _ = try cluster.wait(for: run.options.name, "at its next checkpoint") { $0.checkpoints.completed > completed }
        try run.wait("rows are in open transactions") { try run.ends(committed: true) != run.ends(committed: false) }
        try cluster.killWorkers(of: "tm-1")
        let atDeath = try run.ends(committed: false)
        try run.running(after: before.epoch)
        let again = ContinuousClock.now
        try run.wait("readers see past what the dead left") { zip(try run.ends(committed: true), atDeath).allSatisfy { $0 >= $1 } }
        let waited = ContinuousClock.now - again
        print("after a kill, readers were past what the dead had written \(waited.inMilliseconds) ms after RUNNING")
        #expect(waited < .seconds(2), "one checkpoint, and what the machine needs for it")

        let later = try run.info().checkpoints.completed
        _ = try cluster.wait(for: run.options.name, "at another checkpoint") { $0.checkpoints.completed > later }
        try run.wait("rows are in open transactions") { try run.ends(committed: true) != run.ends(committed: false) }
        try run.cancel()
        #expect(try run.openTransactions() == [])
        #expect(try run.ends(committed: true) == run.ends(committed: false))
        try run.feeder?.stop()
    }

    /// Scenario 31: whatever a checkpoint is at when the job is cancelled. One is nearly always under way.
    @Test func cancellationsLeaveNoTransactionOpen() throws {
        let (cluster, broker) = try SummingRun.cluster(taskManagers: 1, slots: 2, interval: "20ms")
        defer { cluster.stop() }
        let run = try SummingRun(cluster, broker)
        run.feed()
        var checkpoint: String?
        for round in 1...Self.cancellations {
            try run.submit(parallelism: 2, from: checkpoint)
            try run.running()
            try run.catchUp()
            usleep(UInt32(round % 5) * 7_000)
            checkpoint = try run.cancel()
            #expect(try run.openTransactions() == [], "round \(round)")
        }
        try run.submit(parallelism: 1, from: checkpoint)
        let problems = try run.finish()
        #expect(problems.isEmpty, "\(problems.joined(separator: "\n"))")
    }

    /// Scenario 23.
    @Test func atLeastOnceRepeatsAfterKillsAndLosesNothing() throws {
        let (cluster, broker) = try SummingRun.cluster(taskManagers: 2, slots: 1)
        defer { cluster.stop() }
        var options = SummingRun.Options()
        options.delivery = "atLeastOnce"
        let run = try SummingRun(cluster, broker, options)
        run.feed()
        try run.submit(parallelism: 2)
        _ = try run.running()
        // Something to go back to: rows may come again from there on.
        var info = try cluster.wait(for: run.options.name, "at its first checkpoint") { $0.checkpoints.completed > 0 }
        for victim in ["tm-1", "tm-2", "tm-1"] {
            try run.catchUp()
            try cluster.killWorkers(of: victim)
            info = try run.running(after: info.epoch)
        }
        try run.feeder?.stop()
        try run.catchUp()
        try run.cancel()
        let problems = try run.differencesFromFold()
        #expect(problems.isEmpty, "\(problems.joined(separator: "\n"))")
        #expect(run.seen.rows > run.seen.covered, "something was written again")
    }

    /// Scenario 26: a worker dies at a step of a commit just before each change.
    @Test func everyChangeOfParallelismKeepsEachResultOnce() throws {
        let (cluster, broker) = try SummingRun.cluster(taskManagers: 3, slots: 2)
        defer { cluster.stop() }
        let run = try SummingRun(cluster, broker)
        run.feed()
        try run.submit(parallelism: 1)
        try run.running()
        let points: [KillPoint] = [
            .beforeTheFlush, .beforeTheCommit, .duringTheCommit, .beforeTheAcknowledgement, .afterTheCommit, .beforeTheCommit, .duringTheFlush,
        ]
        for (parallelism, point) in zip([2, 1, 2, 3, 2, 3, 5], points) {
            try run.catchUp()
            try run.kill(point)
            try run.submit(parallelism: parallelism, from: try run.cancel())
            try run.running()
            try run.catchUp()
            #expect(run.seen.gapsAndRepetitions.isEmpty, "to \(parallelism): \(run.seen.gapsAndRepetitions.prefix(3))")
        }
        try run.submit(parallelism: 3, from: try run.cancel())
        try run.running()
        try run.catchUp()
        let problems = try run.finish()
        #expect(problems.isEmpty, "\(problems.joined(separator: "\n"))")
    }
}
