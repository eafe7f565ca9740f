package import WeirCLI
package import WeirKafkaTransactions

/// What `weir kafka transactions` prints. Pure: the tests pin it.
package struct TransactionReport: Sendable {
    /// A transactional id of the sink, as its coordinator sees it.
    package struct Entry: Sendable, Equatable {
        package var id: TransactionalID
        package var session: ProducerSession
        /// `Empty`, `Ongoing`, `PrepareCommit`, `CompleteCommit`, …
        package var state: String
        /// Milliseconds since 1970; -1 if none is open.
        package var startedAt: Int64
        package var timeoutMilliseconds: Int64
        package var partitions: [String: [Int32]]
        /// The checkpoint that names the open transaction as prepared; nil where none that was read does.
        package var checkpoint: UInt64?
        /// What was done about it.
        package var outcome: Outcome?

        package init(
            id: TransactionalID, session: ProducerSession, state: String, startedAt: Int64, timeoutMilliseconds: Int64,
            partitions: [String: [Int32]] = [:], checkpoint: UInt64? = nil
        ) {
            self.id = id
            self.session = session
            self.state = state
            self.startedAt = startedAt
            self.timeoutMilliseconds = timeoutMilliseconds
            self.partitions = partitions
            self.checkpoint = checkpoint
        }

        package var isOpen: Bool { state == "Ongoing" }
    }

    package enum Outcome: Sendable, Equatable {
        case aborted
        case committed
        /// Left alone, as a checkpoint names it.
        case kept
        case lost(reason: String)
        case failed(reason: String)

        var word: String {
            switch self {
            case .aborted: "aborted"
            case .committed: "committed"
            case .kept: "kept"
            case .lost: "lost"
            case .failed: "failed"
            }
        }

        var reason: String {
            switch self {
            case .lost(let reason), .failed(let reason): reason
            case .aborted, .committed, .kept: ""
            }
        }

        var isFailure: Bool {
            switch self {
            case .lost, .failed: true
            case .aborted, .committed, .kept: false
            }
        }
    }

    package var prefix: String
    package var entries: [Entry]
    /// The checkpoints that were read; empty where none was given.
    package var checkpoints: [String]

    package init(prefix: String, entries: [Entry], checkpoints: [String] = []) {
        self.prefix = prefix
        self.entries = entries
        self.checkpoints = checkpoints
    }

    /// Says of each open transaction which checkpoint names it.
    package mutating func compare(with found: CheckpointTransactions) {
        checkpoints = found.directories
        for index in entries.indices where entries[index].isOpen {
            // A transaction that was never committed stays in the state of later checkpoints; its own is the newest that it can be of.
            entries[index].checkpoint =
                found.prepared.filter { $0.id == entries[index].id && $0.session == entries[index].session }.map(\.checkpoint).max()
        }
    }

    package func text(nowMs: Int64) -> String {
        guard !entries.isEmpty else { return "no transactional ids with the prefix \"\(oneLine(prefix))\"" }
        var table = TextTable(
            ("TRANSACTIONAL ID", .left), ("PRODUCER", .right), ("EPOCH", .right), ("STATE", .left), ("AGE", .right), ("PARTITIONS", .left),
            ("CHECKPOINT", .right), ("OUTCOME", .left))
        for entry in entries {
            table.add(
                entry.id.description, "\(entry.session.producerID)", "\(entry.session.epoch)", entry.state, age(entry, nowMs),
                partitions(entry), named(entry), outcome(entry))
        }
        let open = entries.filter(\.isOpen).count
        return table.text + "\n\n\(entries.count) transactional ids, \(open) with an open transaction"
    }

    private func age(_ entry: Entry, _ nowMs: Int64) -> String {
        entry.isOpen && entry.startedAt >= 0 ? formatElapsed(milliseconds: nowMs - entry.startedAt) : "-"
    }

    private func partitions(_ entry: Entry) -> String {
        let topics = entry.partitions.sorted { $0.key < $1.key }
        guard !topics.isEmpty else { return "-" }
        return topics.map { "\($0.key)/\($0.value.sorted().map(String.init).joined(separator: ","))" }.joined(separator: " ")
    }

    private func named(_ entry: Entry) -> String {
        guard entry.isOpen, !checkpoints.isEmpty else { return "-" }
        return entry.checkpoint.map { "\($0)" } ?? "none"
    }

    private func outcome(_ entry: Entry) -> String {
        guard let outcome = entry.outcome else { return "-" }
        return outcome.reason.isEmpty ? outcome.word : "\(outcome.word): \(outcome.reason)"
    }

    package func json() -> JSONValue {
        .object([
            "prefix": .string(prefix), "checkpoints": .array(checkpoints.map { .string($0) }),
            "transactions": .array(entries.map(json)),
        ])
    }

    private func json(_ entry: Entry) -> JSONValue {
        .object([
            "transactionalId": .string(entry.id.description), "subtask": .integer(Int64(entry.id.subtask)),
            "producerId": .integer(entry.session.producerID), "producerEpoch": .integer(Int64(entry.session.epoch)),
            "state": .string(entry.state), "startedMs": entry.startedAt >= 0 ? .integer(entry.startedAt) : .null,
            "timeoutMs": .integer(entry.timeoutMilliseconds),
            "partitions": .array(
                entry.partitions.sorted { $0.key < $1.key }.flatMap { topic in
                    topic.value.sorted().map { .object(["topic": .string(topic.key), "partition": .integer(Int64($0))]) }
                }),
            "checkpoint": entry.checkpoint.map { .unsigned($0) } ?? .null,
            "outcome": entry.outcome.map { .string($0.word) } ?? .null,
            "reason": .optional(entry.outcome?.reason ?? ""),
        ])
    }
}
