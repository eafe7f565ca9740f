import WeirBase
import WeirKafkaWire

@testable import WeirKafkaTransactions

/// One row that the simulated job writes.
struct Row: Hashable, CustomStringConvertible {
    var key: Int
    var number: Int
    var description: String { "\(key)/\(number)" }
}

/// What matters here of a Kafka broker: sessions, transactions, markers, and a log that shows committed rows only.
struct ModelBroker {
    enum State: Equatable { case open, committed, aborted }

    struct Transaction {
        var id: TransactionalID
        var session: ProducerSession
        var state = State.open
        var marker: CommitMarker?
        var rows = 0
    }

    struct Coordinator {
        var session: ProducerSession
        var open: Int?
        /// How the last transaction of the session ended.
        var last: State?
    }

    /// Whether it can be asked for the transactions that are open: Kafka 3.0.
    let listsTransactions: Bool
    private(set) var ids: [TransactionalID: Coordinator] = [:]
    private(set) var transactions: [Transaction] = []
    private(set) var log: [(transaction: Int, row: Row)] = []
    private(set) var markers: [TransactionalID: CommitMarker] = [:]
    /// Committed, and not yet seen by those who fetch: Kafka's group coordinator takes them up a moment after the transaction's end.
    private(set) var laggingMarkers: [TransactionalID: CommitMarker] = [:]

    init(listsTransactions: Bool) { self.listsTransactions = listsTransactions }

    private func isCurrent(_ id: TransactionalID, _ session: ProducerSession) -> Bool { ids[id]?.session == session }

    private mutating func end(_ index: Int, _ state: State) {
        transactions[index].state = state
        let id = transactions[index].id
        ids[id]?.open = nil
        ids[id]?.last = state
        if state == .committed, let marker = transactions[index].marker { laggingMarkers[id] = marker }
    }

    // MARK: Requests

    mutating func initialise(_ id: TransactionalID) -> ProducerSession {
        if let open = ids[id]?.open { end(open, .aborted) }
        let session = ids[id].map { ProducerSession(producerID: $0.session.producerID, epoch: $0.session.epoch + 1) }
        let next = session ?? ProducerSession(producerID: Int64(1_000 + ids.count), epoch: 0)
        ids[id] = Coordinator(session: next)
        return next
    }

    private mutating func open(_ id: TransactionalID, _ session: ProducerSession) -> Int? {
        guard isCurrent(id, session) else { return nil }
        if let open = ids[id]?.open { return open }
        transactions.append(Transaction(id: id, session: session))
        ids[id]?.open = transactions.count - 1
        return transactions.count - 1
    }

    mutating func produce(_ id: TransactionalID, _ session: ProducerSession, _ row: Row) -> KafkaErrorCode {
        guard let index = open(id, session) else { return .invalidProducerEpoch }
        log.append((index, row))
        transactions[index].rows += 1
        return .none
    }

    mutating func commitMarker(_ id: TransactionalID, _ session: ProducerSession, _ marker: CommitMarker) -> KafkaErrorCode {
        guard let index = open(id, session) else { return .invalidProducerEpoch }
        transactions[index].marker = marker
        return .none
    }

    mutating func endTransaction(_ id: TransactionalID, _ session: ProducerSession, commit: Bool) -> KafkaErrorCode {
        guard let coordinator = ids[id] else { return .invalidProducerIDMapping }
        guard coordinator.session.producerID == session.producerID else { return .invalidProducerIDMapping }
        guard coordinator.session == session else { return .producerFenced }
        let wanted = commit ? State.committed : .aborted
        guard let open = coordinator.open else { return coordinator.last == wanted ? .none : .invalidTxnState }
        end(open, wanted)
        return .none
    }

    func fetchMarker(_ id: TransactionalID, stable: Bool) -> Result<CommitMarker?, KafkaErrorCode> {
        let isPending = laggingMarkers[id] != nil || ids[id]?.open.map { transactions[$0].marker != nil } == true
        return stable && isPending ? .failure(.unstableOffsetCommit) : .success(markers[id])
    }

    /// The ids with an open transaction, in order; none where that cannot be asked.
    func listOngoing() -> [TransactionalID] { listsTransactions ? ids.filter { $0.value.open != nil }.keys.sorted() : [] }

    // MARK: What happens by itself

    mutating func catchUp(_ id: TransactionalID) {
        if let marker = laggingMarkers.removeValue(forKey: id) { markers[id] = marker }
    }

    mutating func catchUp() { for id in laggingMarkers.keys.sorted() { catchUp(id) } }

    /// The broker aborts a transaction by its time-out, and fences its producer.
    mutating func expire(_ id: TransactionalID) {
        guard let open = ids[id]?.open else { return }
        end(open, .aborted)
        ids[id]?.session.epoch += 1
        ids[id]?.last = nil
    }

    // MARK: What readers see

    var openTransactions: [Transaction] { transactions.filter { $0.state == .open } }

    /// The numbers of a key, which has a partition to itself, that a `read_committed` reader sees: nothing behind the first open transaction.
    func committed(_ key: Int) -> [Int] {
        log.filter { $0.row.key == key }.prefix { transactions[$0.transaction].state != .open }
            .filter { transactions[$0.transaction].state == .committed }.map(\.row.number)
    }
}
