import WeirBase
import WeirKafkaWire

/// Decides for all transactional ids: who may produce, and how each transaction ends (KIP-98, KIP-360).
///
/// A value: no I/O, clock, lock or task. Effects are to be run in their order; a reply or markers may leave once the records before
/// them are as durable as the broker promises. A transaction ends in two steps, and between them only forward:
///
///     Ongoing ──▶ PrepareCommit, stored ──▶ markers in every log, offsets in every group ──▶ CompleteCommit, stored
///
/// After a crash ``recover()`` writes the markers of whatever was prepared. Partitions may get a marker twice, which changes nothing.
struct TransactionCoordinator: Sendable {
    enum Event: Sendable {
        /// - Parameters:
        ///   - transactionalID: Nil for a producer that is idempotent only.
        ///   - expected: What the producer holds already and wants a new epoch for, since version 3.
        case initProducerID(transactionalID: String?, timeoutMilliseconds: Int32, expected: ProducerIdentity?)
        case addPartitions(transactionalID: String, ProducerIdentity, [TopicPartition])
        case addGroup(transactionalID: String, ProducerIdentity, group: String)
        case end(transactionalID: String, ProducerIdentity, commit: Bool)
    }

    enum Reply: Sendable, Equatable {
        case producer(KafkaErrorCode, ProducerIdentity)
        case done(KafkaErrorCode)
    }

    enum Effect: Sendable, Equatable {
        case persist(CoordinatorRecord)
        case reply(RequestToken, Reply)
        /// Answered by ``markersWritten(_:now:)``.
        case writeMarkers(TransactionMarkers)
        case log(String, transactionalID: String, detail: String)
    }

    /// Producer ids are set aside in the journal this many at a time.
    static let producerIDBlock: Int64 = 1_000

    let options: TransactionOptions
    private(set) var transactions: [String: TransactionMetadata] = [:]
    private var nextProducerID: Int64 = 0
    private var producerIDsBelow: Int64 = 0
    /// EndTxn requests by transactional id that are answered when the markers are written.
    private var ending: [String: RequestToken] = [:]
    /// No transaction needs a tick earlier: only a bound.
    private(set) var nextTick: WallTime?
    private var outbox: [Effect] = []

    init(options: TransactionOptions) { self.options = options }

    private mutating func take() -> [Effect] {
        let effects = outbox
        outbox = []
        return effects
    }

    // MARK: Events

    mutating func handle(_ event: Event, request: RequestToken, now: WallTime) -> [Effect] {
        switch event {
        case .initProducerID(let transactionalID, let timeout, let expected):
            initProducerID(request, transactionalID, timeoutMilliseconds: timeout, expected: expected, now: now)
        case .addPartitions(let transactionalID, let producer, let partitions):
            add(request, transactionalID, producer, partitions: partitions, groups: [], now: now)
        case .addGroup(let transactionalID, let producer, let group):
            add(request, transactionalID, producer, partitions: [], groups: [group], now: now)
        case .end(let transactionalID, let producer, let commit):
            end(request, transactionalID, producer, commit: commit, now: now)
        }
        return take()
    }

    /// Every log and group of a transaction has its markers, as durable as the broker promises.
    mutating func markersWritten(_ markers: TransactionMarkers, now: WallTime) -> [Effect] {
        guard var transaction = transactions[markers.transactionalID], transaction.state.isPrepared, transaction.identity == markers.producer else {
            preconditionFailure("markers of \(markers.transactionalID), \(markers.producer), were written for a transaction that is not prepared")
        }
        transaction.state = markers.commit ? .completeCommit : .completeAbort
        transaction.partitions = []
        transaction.groups = []
        store(transaction, now: now)
        if let request = ending.removeValue(forKey: markers.transactionalID) { outbox.append(.reply(request, .done(.none))) }
        return take()
    }

    /// Aborts transactions that are open for longer than their producers asked for, and forgets ids that nobody uses.
    mutating func tick(now: WallTime) -> [Effect] {
        guard let due = nextTick, due <= now else { return [] }
        nextTick = nil
        for id in transactions.keys.sorted() {
            guard let transaction = transactions[id] else { continue }
            if let deadline = transaction.deadline, deadline <= now {
                outbox.append(.log("transaction timed out", transactionalID: id, detail: "\(transaction.identity)"))
                abortFencing(transaction, now: now)
            } else if isExpired(transaction, now: now) {
                transactions[id] = nil
                outbox.append(.persist(.transactionRemoved(id)))
            }
            if let transaction = transactions[id] { plan(transaction) }
        }
        return take()
    }

    // MARK: Producers

    private mutating func newProducerID() -> Int64 {
        if nextProducerID == producerIDsBelow {
            producerIDsBelow += Self.producerIDBlock
            outbox.append(.persist(.producerIDs(below: producerIDsBelow)))
        }
        defer { nextProducerID += 1 }
        return nextProducerID
    }

    private mutating func refuseProducer(_ request: RequestToken, _ error: KafkaErrorCode) {
        outbox.append(.reply(request, .producer(error, .none)))
    }

    private mutating func initProducerID(
        _ request: RequestToken, _ transactionalID: String?, timeoutMilliseconds: Int32, expected: ProducerIdentity?, now: WallTime
    ) {
        guard let transactionalID else {
            let id = newProducerID()
            outbox.append(.reply(request, .producer(.none, ProducerIdentity(id: id, epoch: 0))))
            return
        }
        guard !transactionalID.isEmpty else { return refuseProducer(request, .invalidRequest) }
        guard timeoutMilliseconds > 0, Int64(timeoutMilliseconds) <= options.timeoutMax.inMilliseconds else {
            return refuseProducer(request, .invalidTransactionTimeout)
        }
        guard var transaction = transactions[transactionalID] else {
            guard transactions.count < options.transactionalIDsMax else { return refuseProducer(request, .policyViolation) }
            // A producer that expects an identity here outlived the expiry of its id: it gets a new one.
            let transaction = TransactionMetadata(
                transactionalID: transactionalID, producerID: newProducerID(), epoch: 0, timeoutMilliseconds: timeoutMilliseconds, updatedAt: now)
            return hand(transaction, to: request, now: now)
        }
        if let expected, !isKnown(expected, to: transaction) { return refuseProducer(request, .producerFenced) }
        switch transaction.state {
        case .prepareCommit, .prepareAbort: refuseProducer(request, .concurrentTransactions)
        case .ongoing:
            // This epoch is nobody's: the producer asks again once the transaction is aborted, and gets the next one.
            abortFencing(transaction, now: now)
            refuseProducer(request, .concurrentTransactions)
        case .empty, .completeCommit, .completeAbort:
            guard bump(&transaction, expected: expected) else { return refuseProducer(request, .producerFenced) }
            transaction.timeoutMilliseconds = timeoutMilliseconds
            transaction.state = .empty
            transaction.startedAt = nil
            hand(transaction, to: request, now: now)
        }
    }

    /// Whether the identity that a producer names is, or a moment ago was, the one that holds the id; its epoch is checked by ``bump(_:expected:)``.
    private func isKnown(_ expected: ProducerIdentity, to transaction: TransactionMetadata) -> Bool {
        expected.id == transaction.producerID
            || expected.id == transaction.lastProducerID && expected.epoch >= TransactionMetadata.epochMax
    }

    /// Gives the id to its next holder: the next epoch, or a new producer id where the epochs are used up.
    ///
    /// - Returns: False where `expected` is not the current holder and no retry of the request that made it so.
    private mutating func bump(_ transaction: inout TransactionMetadata, expected: ProducerIdentity?) -> Bool {
        let current = transaction.identity
        if current.epoch >= TransactionMetadata.epochMax, expected == nil || expected?.epoch == current.epoch {
            transaction.producerID = newProducerID()
            transaction.epoch = 0
            transaction.lastEpoch = expected == nil ? -1 : current.epoch
        } else if let expected {
            // A retry of the request that gave the current epoch gets it again: its answer was lost.
            if expected.epoch == transaction.lastEpoch { return true }
            guard expected.epoch == current.epoch else { return false }
            transaction.epoch += 1
            transaction.lastEpoch = current.epoch
        } else {
            transaction.epoch += 1
            transaction.lastEpoch = -1
        }
        transaction.lastProducerID = current.id
        return true
    }

    private mutating func hand(_ transaction: TransactionMetadata, to request: RequestToken, now: WallTime) {
        store(transaction, now: now)
        outbox.append(.reply(request, .producer(.none, transaction.identity)))
    }

    // MARK: Transactions

    private mutating func add(
        _ request: RequestToken, _ transactionalID: String, _ producer: ProducerIdentity, partitions: [TopicPartition], groups: [String],
        now: WallTime
    ) {
        func refused(_ error: KafkaErrorCode) -> Effect { .reply(request, .done(error)) }
        guard !transactionalID.isEmpty else { return outbox.append(refused(.invalidRequest)) }
        guard var transaction = transactions[transactionalID], transaction.producerID == producer.id else {
            return outbox.append(refused(.invalidProducerIDMapping))
        }
        guard transaction.epoch == producer.epoch else { return outbox.append(refused(.producerFenced)) }
        guard !transaction.state.isPrepared else { return outbox.append(refused(.concurrentTransactions)) }
        let isOngoing = transaction.state == .ongoing
        if isOngoing, transaction.partitions.isSuperset(of: partitions), transaction.groups.isSuperset(of: groups) {
            return outbox.append(refused(.none))
        }
        transaction.partitions.formUnion(partitions)
        transaction.groups.formUnion(groups)
        guard transaction.partitions.count + transaction.groups.count <= options.partitionsMax, transaction.namesBytes <= options.namesBytesMax else {
            return outbox.append(refused(.policyViolation))
        }
        transaction.state = .ongoing
        if !isOngoing { transaction.startedAt = now }
        store(transaction, now: now)
        outbox.append(.reply(request, .done(.none)))
    }

    private mutating func end(_ request: RequestToken, _ transactionalID: String, _ producer: ProducerIdentity, commit: Bool, now: WallTime) {
        guard !transactionalID.isEmpty else { return outbox.append(.reply(request, .done(.invalidRequest))) }
        guard var transaction = transactions[transactionalID], transaction.producerID == producer.id else {
            return outbox.append(.reply(request, .done(.invalidProducerIDMapping)))
        }
        guard transaction.epoch == producer.epoch else { return outbox.append(.reply(request, .done(.producerFenced))) }
        switch (transaction.state, commit) {
        case (.ongoing, _):
            transaction.state = commit ? .prepareCommit : .prepareAbort
            ending[transactionalID] = request
            prepare(transaction, now: now)
        case (.completeCommit, true), (.completeAbort, false):
            outbox.append(.reply(request, .done(.none)))
        case (.prepareCommit, true), (.prepareAbort, false):
            outbox.append(.reply(request, .done(.concurrentTransactions)))
        case (.empty, _), (.completeCommit, false), (.completeAbort, true), (.prepareCommit, false), (.prepareAbort, true):
            outbox.append(.reply(request, .done(.invalidTxnState)))
        }
    }

    /// Aborts an open transaction under the next epoch, which shuts its producer out, in the logs too.
    private mutating func abortFencing(_ transaction: TransactionMetadata, now: WallTime) {
        precondition(transaction.epoch < .max, "\(transaction.transactionalID) has no epoch left to fence with")
        var transaction = transaction
        transaction.epoch += 1
        transaction.lastEpoch = -1
        transaction.state = .prepareAbort
        prepare(transaction, now: now)
    }

    private mutating func prepare(_ transaction: TransactionMetadata, now: WallTime) {
        store(transaction, now: now)
        outbox.append(.writeMarkers(TransactionMarkers(transaction)))
    }

    private mutating func store(_ transaction: TransactionMetadata, now: WallTime) {
        var transaction = transaction
        transaction.updatedAt = now
        transactions[transaction.transactionalID] = transaction
        plan(transaction)
        outbox.append(.persist(.transaction(transaction)))
    }

    // MARK: Questions

    /// Whether records of a partition may join the producer's transaction: a late request must not open one that nobody ends (KIP-890).
    func verify(_ transactionalID: String, _ producer: ProducerIdentity, _ partition: TopicPartition) -> KafkaErrorCode {
        verify(transactionalID, producer) { $0.partitions.contains(partition) }
    }

    /// Whether offsets of a group may join the producer's transaction.
    func verify(_ transactionalID: String, _ producer: ProducerIdentity, group: String) -> KafkaErrorCode {
        verify(transactionalID, producer) { $0.groups.contains(group) }
    }

    private func verify(_ transactionalID: String, _ producer: ProducerIdentity, _ isPart: (TransactionMetadata) -> Bool) -> KafkaErrorCode {
        guard let transaction = transactions[transactionalID], transaction.producerID == producer.id else { return .invalidProducerIDMapping }
        // Clients take this, and not 90, for the answer of a log.
        guard transaction.epoch == producer.epoch else { return .invalidProducerEpoch }
        if transaction.state.isPrepared { return .concurrentTransactions }
        return transaction.state == .ongoing && isPart(transaction) ? .none : .invalidTxnState
    }

    /// Sorted by transactional id.
    var all: [TransactionMetadata] { transactions.values.sorted { $0.transactionalID < $1.transactionalID } }

    // MARK: Time

    private func expiry(_ transaction: TransactionMetadata) -> WallTime? {
        switch transaction.state {
        case .empty, .completeCommit, .completeAbort:
            transaction.updatedAt.advanced(byMilliseconds: options.transactionalIDExpiration.inMilliseconds)
        case .ongoing, .prepareCommit, .prepareAbort: nil
        }
    }

    private func isExpired(_ transaction: TransactionMetadata, now: WallTime) -> Bool { expiry(transaction).map { $0 <= now } ?? false }

    private mutating func plan(_ transaction: TransactionMetadata) {
        guard let due = transaction.deadline ?? expiry(transaction) else { return }
        nextTick = min(nextTick ?? due, due)
    }

    // MARK: Replay

    /// Takes up a record of the journal. Records of groups are not its business.
    mutating func replay(_ record: CoordinatorRecord) {
        switch record {
        case .producerIDs(let below):
            nextProducerID = max(nextProducerID, below)
            producerIDsBelow = nextProducerID
        case .transaction(let transaction):
            transactions[transaction.transactionalID] = transaction
            plan(transaction)
        case .transactionRemoved(let id): transactions[id] = nil
        case .group, .groupRemoved, .offsets, .offsetsRemoved, .pendingOffsets, .pendingCompleted: break
        }
    }

    /// After the replay: what was prepared is finished.
    func recover() -> [Effect] { all.filter(\.state.isPrepared).map { .writeMarkers(TransactionMarkers($0)) } }

    /// Records from which a new coordinator becomes what this one is.
    func records() -> [CoordinatorRecord] { [.producerIDs(below: producerIDsBelow)] + all.map { .transaction($0) } }
}
