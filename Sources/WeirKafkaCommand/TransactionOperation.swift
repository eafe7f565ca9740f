internal import Glibc
package import WeirBase
package import WeirCLI
package import WeirKafkaTransactions
internal import WeirKafkaWire

/// Lists, aborts and commits the transactions of one sink.
package struct TransactionOperation {
    private let prefix: String
    private let client: TransactionClient
    private let clock: any WeirClock
    private let timeout: Duration

    /// - Parameters:
    ///   - client: Used by this thread alone meanwhile.
    ///   - timeout: How long to ask about one transaction before it counts as failed.
    package init(prefix: String, client: TransactionClient, clock: any WeirClock, timeout: Duration = .seconds(30)) {
        self.prefix = prefix
        self.client = client
        self.clock = clock
        self.timeout = timeout
    }

    private var patience: KafkaPatience { KafkaPatience(clock: clock, deadline: clock.now.advanced(by: timeout)) }

    private func pause(_ duration: Duration) { usleep(UInt32(clamping: max(0, duration.inNanoseconds) / 1_000)) }

    /// Every transactional id of the sink that the cluster remembers.
    package func list() throws(CommandFailure) -> TransactionReport {
        var report = TransactionReport(prefix: prefix, entries: [])
        do throws(KafkaClientFailure) {
            guard let listed = try client.listTransactions(patience) else {
                throw KafkaClientFailure("the brokers are older than Kafka 3.0 and do not list transactions; --commit-from needs no list")
            }
            for id in listed.compactMap({ TransactionalID($0.name, prefix: prefix) }).sorted() {
                if let entry = try describe(id) { report.entries.append(entry) }
            }
            return report
        } catch {
            throw CommandFailure(
                "the transactions of \"\(oneLine(prefix))\" cannot be listed: \(error.description)",
                hint: "check that --bootstrap is right, that the broker runs, and that the user may describe transactional ids")
        }
    }

    /// - Returns: nil for one that was forgotten meanwhile.
    private func describe(_ id: TransactionalID) throws(KafkaClientFailure) -> TransactionReport.Entry? {
        let patience = patience
        while true {
            switch try client.describe(id.description, patience) {
            case .success(let found):
                return TransactionReport.Entry(
                    id: id, session: found.session, state: found.state, startedAt: found.startedAt,
                    timeoutMilliseconds: found.timeoutMilliseconds, partitions: found.partitions)
            case .failure(.transactionalIDNotFound): return nil
            case .failure(let code):
                let isPassing = [.coordinatorNotAvailable, .notCoordinator, .coordinatorLoadInProgress].contains(code)
                guard isPassing, !patience.isOver else {
                    throw KafkaClientFailure("\(id) is not described: \(TransactionResolution.describe(code))")
                }
                pause(TransactionResolution.backoffFirst)
            }
        }
    }

    /// Aborts the open transactions that no checkpoint names, by a new session of each id: producers that still run are fenced off.
    package func abort(_ report: inout TransactionReport) {
        for index in report.entries.indices where report.entries[index].isOpen {
            let entry = report.entries[index]
            guard entry.checkpoint == nil else {
                report.entries[index].outcome = .kept
                continue
            }
            do throws(JobFailure) {
                let session = try client.fence(entry.id, timeoutMilliseconds: entry.timeoutMilliseconds, patience, pause: pause)
                report.entries[index].session = session
                report.entries[index].outcome = .aborted
            } catch {
                report.entries[index].outcome = .failed(reason: error.cause.map { "\(error.message): \($0)" } ?? error.message)
            }
        }
        refresh(&report)
    }

    /// Commits what a checkpoint names as prepared, each transaction or none of it.
    ///
    /// - Throws: If the checkpoint tells nothing of the sink.
    package func commit(from path: String, _ found: CheckpointTransactions) throws(CommandFailure) -> TransactionReport {
        guard found.prefixes.contains(prefix) else {
            let others = found.prefixes.map { "\"\(oneLine($0))\"" }.joined(separator: ", ")
            throw CommandFailure(
                "the checkpoint \(path) tells nothing of a sink with the prefix \"\(oneLine(prefix))\"",
                hint: others.isEmpty ? "it has no exactly-once Kafka sink" : "it has \(others)")
        }
        var report = TransactionReport(prefix: prefix, entries: [], checkpoints: found.directories)
        for transaction in found.prepared(prefix) {
            var entry = TransactionReport.Entry(
                id: transaction.id, session: transaction.session, state: "-", startedAt: transaction.begunAt,
                timeoutMilliseconds: transaction.timeoutMilliseconds, checkpoint: transaction.checkpoint)
            switch client.resolve(transaction, patience, pause: pause) {
            case .committed: entry.outcome = .committed
            case .lost(let reason): entry.outcome = .lost(reason: "\(transaction.records) records: \(reason)")
            case .unknown(let failure): entry.outcome = .failed(reason: failure.cause.map { "\(failure.message): \($0)" } ?? failure.message)
            }
            report.entries.append(entry)
        }
        refresh(&report)
        return report
    }

    /// Shows the states as they are now. What cannot be looked up keeps what is known of it.
    private func refresh(_ report: inout TransactionReport) {
        for index in report.entries.indices where report.entries[index].outcome != nil {
            guard let now = try? describe(report.entries[index].id) else { continue }
            report.entries[index].state = now.state
            report.entries[index].partitions = now.partitions
        }
    }
}

extension TransactionReport {
    /// The open ones that no checkpoint which was read names.
    package var abortable: [Entry] { entries.filter { $0.isOpen && $0.checkpoint == nil } }
}

extension CheckpointTransactions {
    /// Joins what another path told.
    package mutating func add(_ other: CheckpointTransactions) {
        directories += other.directories
        prefixes = Set(prefixes + other.prefixes).sorted()
        prepared = Self.ordered(Set(prepared + other.prepared))
    }
}
