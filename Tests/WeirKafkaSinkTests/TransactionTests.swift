import CRdKafka
import Foundation
import Synchronization
import Testing
import WeirBase
import WeirBroker
import WeirDataflow
import WeirFormats
import WeirGraph
import WeirKafkaTransactions
import WeirKafkaWire
import WeirStreams

@testable import WeirKafka

/// Exactly-once: what `read_committed` readers see of a sink, through every fault of its two-phase commit.
@Suite(.serialized) struct TransactionTests {
    private typealias Sink = KafkaSink<KafkaRowSchema<StringFormat>>

    private func sink(_ broker: TestBroker, prefix: String = "p") -> Sink {
        Sink(broker.bootstrap, topic: "out", format: StringFormat()).delivery(.exactlyOnce).transactionalIDPrefix(prefix)
            .property("reconnect.backoff.max.ms", "100")
    }

    private func waitForCommits(_ harness: SinkHarness<Sink>, _ count: Int, _ broker: TestBroker) throws {
        try wait("\(count) rows are committed") { try broker.values().count >= count }
    }

    @Test func rowsAreSeenWhenTheirCheckpointCompletes() throws {
        let broker = try TestBroker()
        let harness = try SinkHarness(sink(broker))
        try harness.write(["a", "b"])
        let state = try harness.snapshot(1)
        #expect(state.transactions.map(\.records) == [2])
        try harness.write(["c"])
        #expect(try broker.values().isEmpty)
        try harness.sink.checkpointCompleted(1)
        try waitForCommits(harness, 2, broker)
        #expect(try broker.values() == ["a", "b"])
        _ = try harness.checkpoint(2)
        try waitForCommits(harness, 3, broker)
        #expect(try broker.values() == ["a", "b", "c"])
        try harness.cancel()
        #expect(try broker.openTransactions().isEmpty)
    }

    @Test func twoCheckpointsInFlightAreCommittedWithTheNewer() throws {
        let broker = try TestBroker()
        let harness = try SinkHarness(sink(broker))
        for checkpoint in 1...3 {
            try harness.write(["\(checkpoint)"])
            let state = try harness.snapshot(UInt64(checkpoint))
            #expect(state.transactions.map(\.checkpoint) == (1...checkpoint).map(UInt64.init))
        }
        try harness.sink.checkpointCompleted(2)
        try waitForCommits(harness, 2, broker)
        #expect(try broker.values() == ["1", "2"])
        try harness.sink.checkpointCompleted(3)
        try waitForCommits(harness, 3, broker)
    }

    @Test func thePoolIsReusedCheckpointAfterCheckpoint() throws {
        let broker = try TestBroker()
        let harness = try SinkHarness(sink(broker))
        for checkpoint in 1...12 {
            try harness.write(["\(checkpoint)"])
            try harness.checkpoint(UInt64(checkpoint))
            try waitForCommits(harness, checkpoint, broker)
        }
        #expect(try broker.values() == (1...12).map { "\($0)" })
        let client = try broker.client()
        #expect(try client.listTransactions(patience())?.map(\.name).sorted() == ["p-0-0", "p-0-1", "p-0-2"])
    }

    @Test func aCheckpointWithoutRowsCommitsNothing() throws {
        let broker = try TestBroker()
        let harness = try SinkHarness(sink(broker))
        for checkpoint in 1...5 { #expect(try harness.checkpoint(UInt64(checkpoint)).transactions.isEmpty) }
        #expect(broker.faults.requestCount(of: .endTxn) == 0)
        try harness.write(["a"])
        try harness.checkpoint(6)
        try waitForCommits(harness, 1, broker)
        #expect(try broker.records().map(\.offset) == [0])
    }

    // MARK: Recovery

    /// Writes rows, prepares them, and vanishes without a word, as a process does that is killed.
    private func prepareAndVanish(_ broker: TestBroker, _ rows: [String], checkpoint: UInt64 = 1) throws -> (state: [[UInt8]], SinkHarness<Sink>) {
        let harness = try SinkHarness(sink(broker))
        try harness.write(rows)
        return (try harness.snapshot(checkpoint), harness)
    }

    @Test func whatACheckpointNamesIsCommittedByTheNextProcess() throws {
        let broker = try TestBroker()
        let (state, old) = try prepareAndVanish(broker, ["a", "b"])
        try old.write(["never"])
        #expect(try broker.values().isEmpty)
        let harness = try SinkHarness(sink(broker), restoring: state)
        #expect(try broker.values() == ["a", "b"])
        try wait("nothing of the old one is open") { try broker.openTransactions().isEmpty }
        try harness.write(["c"])
        try harness.checkpoint(2)
        try waitForCommits(harness, 3, broker)
        #expect(try broker.values() == ["a", "b", "c"])
    }

    @Test func committingTwiceChangesNothing() throws {
        let broker = try TestBroker()
        let (state, old) = try prepareAndVanish(broker, ["a"])
        try old.sink.checkpointCompleted(1)
        try waitForCommits(old, 1, broker)
        let first = try SinkHarness(sink(broker), restoring: state)
        // Long after, when the id has had other sessions and other commits.
        try first.write(["b"])
        try first.checkpoint(2)
        try waitForCommits(first, 2, broker)
        _ = try SinkHarness(sink(broker), restoring: state)
        #expect(try broker.values() == ["a", "b"])
    }

    @Test func anAnswerThatIsLostIsAskedForAgain() throws {
        let broker = try TestBroker()
        let (state, old) = try prepareAndVanish(broker, ["a"])
        broker.faults.add(.on(.endTxn, 1, .loseAnswer))
        _ = try SinkHarness(sink(broker), restoring: state)
        #expect(try broker.values() == ["a"])
        old.close()

        let harness = try SinkHarness(sink(broker, prefix: "q"))
        try harness.write(["b"])
        broker.faults.add(.on(.endTxn, 1, .loseAnswer))
        try harness.checkpoint(1)
        try waitForCommits(harness, 2, broker)
        #expect(try broker.values() == ["a", "b"])
    }

    @Test(arguments: [KafkaErrorCode.notCoordinator, .coordinatorNotAvailable, .coordinatorLoadInProgress, .concurrentTransactions])
    func aCoordinatorThatIsNotReadyIsAskedAgain(code: KafkaErrorCode) throws {
        let broker = try TestBroker()
        let (state, old) = try prepareAndVanish(broker, ["a"])
        broker.faults.add(.on(.endTxn, 1...4, .error(code)))
        _ = try SinkHarness(sink(broker), restoring: state)
        #expect(try broker.values() == ["a"])
        old.close()
    }

    /// Longer than librdkafka asks by itself: for the producer's own commit, and for one from outside it.
    @Test func aCommitWaitsAsLongAsAnotherOneIsBeingCompleted() throws {
        let broker = try TestBroker()
        let harness = try SinkHarness(sink(broker, prefix: "q"))
        try harness.write(["a"])
        _ = try harness.snapshot(1)
        let (state, old) = try prepareAndVanish(broker, ["b"])
        broker.faults.add(.on(.endTxn, 1...1_000_000, .error(.concurrentTransactions)))
        let begun = ContinuousClock.now
        try harness.sink.checkpointCompleted(1)
        let next = try SinkHarness(sink(broker), restoring: state, waits: false)
        while ContinuousClock.now - begun < .seconds(5) {
            #expect(try !next.sink.isReady())
            usleep(50_000)
        }
        let asked = broker.faults.requestCount(of: .endTxn)
        #expect((6...200).contains(asked), "asked \(asked) times: again and again, and not without a pause")
        #expect(try broker.values().isEmpty)
        broker.faults.removeAll()
        try next.waitUntilReady()
        try waitForCommits(harness, 2, broker)
        #expect(try Set(broker.values()) == ["a", "b"])
        old.close()
    }

    @Test func aBrokerThatRestartsBetweenThePhasesLosesNothing() throws {
        let broker = try TestBroker()
        let harness = try SinkHarness(sink(broker))
        try harness.write(["a"])
        _ = try harness.snapshot(1)
        broker.faults.add(.on(.endTxn, 1, .refuseConnections(.milliseconds(500))))
        try harness.sink.checkpointCompleted(1)
        try waitForCommits(harness, 1, broker)
        try harness.write(["b"])
        try harness.checkpoint(2)
        try waitForCommits(harness, 2, broker)
        #expect(try broker.values() == ["a", "b"])
    }

    // MARK: Losses

    @Test func aTransactionThatExpiredFailsTheJobNamingIt() throws {
        let broker = try TestBroker()
        let (state, old) = try prepareAndVanish(broker, ["a", "b"])
        let lost = try #require(state.transactions.first)
        // As its time-out does: aborted, and the producer fenced.
        let client = try broker.client()
        _ = try client.fence(lost.id, timeoutMilliseconds: 60_000, patience()) { _ in }
        let failed = failure { _ = try SinkHarness(sink(broker), restoring: state) }
        #expect(failed?.message.hasPrefix("transaction p-0-0 of checkpoint 1 is lost: its 2 records") == true)
        #expect(failed?.recovery == .fail)

        let harness = try SinkHarness(sink(broker).onLostTransaction(.skip), restoring: state)
        try harness.sink.processingTime(0)
        #expect(harness.counter("transactionsLost") == 1)
        try harness.write(["c"])
        try harness.checkpoint(2)
        try waitForCommits(harness, 1, broker)
        #expect(try broker.values() == ["c"])
        old.close()
    }

    @Test func aForkCanLeaveAloneWhatItsSavepointNames() throws {
        let broker = try TestBroker()
        let (state, old) = try prepareAndVanish(broker, ["a"])
        let fork = try SinkHarness(sink(broker, prefix: "fork"), restoring: state, settings: ["kafka.test.discard-prepared": "true"])
        try fork.write(["b"])
        #expect(try broker.openTransactions().contains("p-0-0"))
        // The job that it was forked from goes on.
        try old.sink.checkpointCompleted(1)
        try wait("a is committed") { try broker.values() == ["a"] }
        try fork.checkpoint(2)
        try wait("b is committed") { try broker.values() == ["a", "b"] }
    }

    // MARK: What lingers

    @Test func aChangedPrefixCleansUpUnderTheOldOne() throws {
        let broker = try TestBroker()
        let (state, old) = try prepareAndVanish(broker, ["a"])
        try old.write(["never"])
        try wait("the second transaction is open") { try broker.openTransactions().count == 2 }
        let harness = try SinkHarness(sink(broker, prefix: "new"), restoring: state)
        #expect(try broker.openTransactions().isEmpty)
        try harness.write(["b"])
        try harness.checkpoint(2)
        try waitForCommits(harness, 2, broker)
        #expect(try broker.values() == ["a", "b"])
    }

    @Test(arguments: [(1, 2), (2, 1), (2, 3), (3, 5), (5, 3)])
    func anotherParallelismCommitsAndCleansUpForAllFormerSubtasks(from: Int, to: Int) throws {
        let broker = try TestBroker()
        var state: [[UInt8]] = []
        var old: [SinkHarness<Sink>] = []
        for subtask in 0..<from {
            let harness = try SinkHarness(sink(broker), subtask: subtask, of: from)
            try harness.write(["named \(subtask)"])
            state += try harness.snapshot(1)
            try harness.write(["lingers \(subtask)"])
            old.append(harness)
        }
        try wait("all are open") { try broker.openTransactions().count == 2 * from }
        var new: [SinkHarness<Sink>] = []
        for subtask in 0..<to { new.append(try SinkHarness(sink(broker), subtask: subtask, of: to, restoring: state)) }
        #expect(try broker.openTransactions().isEmpty)
        #expect(Set(try broker.values()) == Set((0..<from).map { "named \($0)" }))
        for (subtask, harness) in new.enumerated() {
            try harness.write(["new \(subtask)"])
            try harness.checkpoint(2)
        }
        try wait("the new rows are committed") { try broker.values().count == from + to }
    }

    @Test func idsThatNoCheckpointTellsOfAreCleanedUpToo() throws {
        let broker = try TestBroker()
        var old: [SinkHarness<Sink>] = []
        for subtask in 0..<3 {
            old.append(try SinkHarness(sink(broker), subtask: subtask, of: 3))
            try old[subtask].write(["lingers"])
        }
        try wait("all are open") { try broker.openTransactions().count == 3 }
        // Started anew without any state, and narrower.
        let harness = try SinkHarness(sink(broker))
        #expect(try broker.openTransactions().isEmpty)
        try harness.write(["a"])
        try harness.checkpoint(1)
        try waitForCommits(harness, 1, broker)
    }

    @Test func aCancelledTaskCommitsWhatItOwesAndAbortsTheRest() throws {
        let broker = try TestBroker()
        let harness = try SinkHarness(sink(broker))
        try harness.write(["a"])
        _ = try harness.snapshot(1)
        try harness.write(["b"])
        _ = try harness.snapshot(2)
        try harness.write(["c"])
        broker.faults.add(.on(.endTxn, 1, .delay(.milliseconds(200))))
        try harness.sink.checkpointCompleted(1)
        try harness.sink.checkpointAborted(2)
        try harness.cancel()
        #expect(try broker.openTransactions().isEmpty)
        #expect(try broker.values() == ["a"])
    }

    @Test func aTransactionWhoseCheckpointMayYetCompleteOutlivesItsTask() throws {
        let broker = try TestBroker()
        let harness = try SinkHarness(sink(broker))
        try harness.write(["a"])
        let state = try harness.snapshot(1)
        try harness.cancel()
        #expect(try broker.openTransactions() == ["p-0-0"])
        _ = try SinkHarness(sink(broker), restoring: state)
        #expect(try broker.values() == ["a"])
    }

    // MARK: Words

    @Test func aPrefixThatIsMissingIsTold() {
        let sink = Sink("h:1", topic: "t", format: StringFormat()).delivery(.exactlyOnce)
        let error = #expect(throws: ConfigurationError.self) { try sink.validate() }
        #expect(error?.description.contains("add .transactionalIDPrefix") == true)
        #expect(throws: ConfigurationError.self) { try sink.transactionalIDPrefix("p").property("acks", "1").validate() }
        #expect(throws: ConfigurationError.self) { try sink.transactionalIDPrefix("p").property("security.protocol", "ssl").validate() }
        #expect(throws: ConfigurationError.self) { try sink.transactionalIDPrefix("p").property("transactional.id", "x").validate() }
        #expect(throws: Never.self) { try sink.transactionalIDPrefix("p").validate() }
    }

    @Test func aPrefixThatTwoSinksShareIsTold() throws {
        func build(_ prefixes: [String]) throws {
            let job = JobContext(name: "test", parallelism: 1)
            let rows = try job.source(.collection(["a"]), uid: "rows")
            for (index, prefix) in prefixes.enumerated() {
                let sink = Sink("h:1", topic: "t\(index)", format: StringFormat()).delivery(.exactlyOnce).transactionalIDPrefix(prefix)
                rows.sink(to: sink, uid: "sink-\(index)")
            }
            _ = try job.build()
        }
        let error = #expect(throws: GraphError.self) { try build(["p", "p"]) }
        #expect(error?.problems.count == 1)
        #expect(error?.problems.first?.contains("the transactional id prefix \"p\"") == true, "\(error?.problems ?? [])")
        #expect(throws: Never.self) { try build(["p", "q"]) }
    }

    @Test func aTimeoutAboveTheBrokersIsTold() throws {
        let broker = try TestBroker()
        let configured = sink(broker).property("transaction.timeout.ms", "3600000")
        let failed = failure { _ = try SinkHarness(configured) }
        #expect(failed?.message.contains("the broker refuses a transaction.timeout.ms of 3600000") == true)
        #expect(failed?.recovery == .fail)
        let findings = configured.preflight(PreflightSetup(uid: "u", name: "n", parallelism: 1, settings: [:]))
        #expect(findings.contains { $0.severity == .error && $0.message.contains("the broker allows up to 900000") })
    }

    @Test func anotherProducerWithTheSameIdFailsTheTask() throws {
        let broker = try TestBroker()
        let first = try SinkHarness(sink(broker))
        try first.write(["a"])
        _ = try SinkHarness(sink(broker))
        let failed = failure {
            try first.write(["b"])
            _ = try first.snapshot(1)
        }
        #expect(failed != nil)
        #expect(try broker.values().isEmpty)
    }
}
