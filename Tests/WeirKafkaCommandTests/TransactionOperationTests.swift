import Testing
import WeirBase
import WeirCLI
import WeirKafkaCommand
import WeirKafkaTransactions
import WeirKafkaWire
import WeirTransport

/// Against the embedded broker: what is listed, what is aborted, what is committed, and what is left alone.
@Suite(.serialized) struct TransactionOperationTests {
    private func id(_ subtask: Int, _ index: Int, prefix: String = "p") -> TransactionalID {
        TransactionalID(prefix: prefix, subtask: subtask, index: index)
    }

    private func operation(_ broker: TestBroker, prefix: String = "p", timeout: Duration = .seconds(10)) throws -> TransactionOperation {
        TransactionOperation(prefix: prefix, client: try broker.client(), clock: SystemClock(), timeout: timeout)
    }

    private func checkpoint(_ transactions: PreparedTransaction..., prefixes: [String] = ["p"]) -> CheckpointTransactions {
        var found = CheckpointTransactions()
        found.directories = ["/cp/chk-1"]
        found.prefixes = prefixes
        found.prepared = transactions
        return found
    }

    @Test func theSinksIdsAreListedAndNobodyElses() throws {
        let broker = try TestBroker()
        let first = try broker.open(id(0, 0), checkpoint: 1, partitions: [1, 0])
        _ = try broker.open(id(10, 0), checkpoint: 1)
        _ = try broker.open(id(2, 0), checkpoint: 1)
        _ = try broker.open(id(0, 0, prefix: "p-1"), checkpoint: 1)
        _ = try broker.open(id(0, 0, prefix: "pp"), checkpoint: 1)
        let report = try operation(broker).list()
        #expect(report.entries.map(\.id) == [id(0, 0), id(2, 0), id(10, 0)])
        let entry = try #require(report.entries.first)
        #expect(entry.session == first.session)
        #expect(entry.isOpen && entry.timeoutMilliseconds == 60_000 && entry.startedAt > 0)
        #expect(entry.partitions["out"]?.sorted() == [0, 1])
    }

    @Test func whatTheCheckpointNamesIsSaid() throws {
        let broker = try TestBroker()
        let named = try broker.open(id(0, 0), checkpoint: 5)
        _ = try broker.open(id(0, 1), checkpoint: 5)
        // Of an older session: nothing that is open now.
        var older = try broker.open(id(0, 2), checkpoint: 5)
        older.session.epoch -= 1
        var report = try operation(broker).list()
        report.compare(with: checkpoint(named, older))
        #expect(report.entries.map(\.checkpoint) == [5, nil, nil])
        #expect(report.abortable.map(\.id) == [id(0, 1), id(0, 2)])
    }

    @Test func abortEndsWhatIsOpenFencesItsProducerAndKeepsWhatACheckpointNames() throws {
        let broker = try TestBroker()
        let named = try broker.open(id(0, 0), checkpoint: 5)
        let lingering = try broker.open(id(0, 1), checkpoint: 6)
        var report = try operation(broker).list()
        report.compare(with: checkpoint(named))
        try operation(broker).abort(&report)
        #expect(report.entries.map(\.outcome) == [.kept, .aborted])
        #expect(try broker.state(id(0, 0)) == "Ongoing")
        #expect(try broker.state(id(0, 1)) != "Ongoing")
        #expect(try broker.marker(id(0, 1)) == .marker(nil))
        let client = try broker.client()
        defer { client.close() }
        let code = try client.endTransaction(id(0, 1), lingering.session, commit: true, patience())
        #expect([.invalidProducerEpoch, .producerFenced].contains(code), "\(code)")
    }

    @Test func commitDoesExactlyWhatTheCheckpointNames() throws {
        let broker = try TestBroker()
        let named = try broker.open(id(0, 0), checkpoint: 5)
        _ = try broker.open(id(0, 1), checkpoint: 6)
        let other = try broker.open(id(0, 0, prefix: "q"), checkpoint: 5)
        let found = checkpoint(named, other, prefixes: ["p", "q"])
        let report = try operation(broker).commit(from: "/cp/chk-1", found)
        #expect(report.entries.map(\.id) == [id(0, 0)])
        #expect(report.entries.map(\.outcome) == [.committed])
        #expect(try broker.marker(id(0, 0)) == .marker(named.marker))
        #expect(try broker.state(id(0, 1)) == "Ongoing")
        #expect(try broker.state(other.id) == "Ongoing")
        // Once more: it is committed already.
        #expect(try operation(broker).commit(from: "/cp/chk-1", found).entries.map(\.outcome) == [.committed])
    }

    @Test func whatWasAbortedMeanwhileIsToldAsLost() throws {
        let broker = try TestBroker()
        let named = try broker.open(id(0, 0), checkpoint: 5)
        var report = try operation(broker).list()
        try operation(broker).abort(&report)
        let outcome = try operation(broker).commit(from: "/cp/chk-1", checkpoint(named)).entries.first?.outcome
        guard case .lost(let reason) = outcome else {
            Issue.record("\(String(describing: outcome))")
            return
        }
        #expect(reason.hasPrefix("3 records: ") && reason.hasSuffix("nothing was ever committed"), "\(reason)")
    }

    @Test func aCheckpointOfAnotherSinkIsRefused() throws {
        let broker = try TestBroker()
        func failure(_ found: CheckpointTransactions) throws -> CommandFailure? {
            do {
                _ = try operation(broker).commit(from: "/cp/chk-1", found)
                return nil
            } catch let failure as CommandFailure { return failure }
        }
        #expect(
            try failure(checkpoint(prefixes: ["q", "r"]))
                == CommandFailure("the checkpoint /cp/chk-1 tells nothing of a sink with the prefix \"p\"", hint: "it has \"q\", \"r\""))
        #expect(try failure(checkpoint(prefixes: []))?.hint == "it has no exactly-once Kafka sink")
    }

    @Test func noBrokerIsToldWithWhatToDo() throws {
        let client = try TransactionClient(bootstrap: "127.0.0.1:1")
        let operation = TransactionOperation(prefix: "p", client: client, clock: SystemClock(), timeout: .seconds(2))
        #expect {
            try operation.list()
        } throws: { error in
            let text = "\(error)"
            return text.hasPrefix("error: the transactions of \"p\" cannot be listed: no broker answers: 127.0.0.1:1: Connection refused")
                && text.contains("\nhint: check that --bootstrap is right")
        }
    }
}
