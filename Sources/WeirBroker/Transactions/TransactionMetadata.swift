import WeirBase

/// Where a transactional id stands; the raw values are Kafka's.
enum TransactionState: UInt8, Sendable, CaseIterable {
    /// No transaction since the producer was initialised.
    case empty = 0
    case ongoing = 1
    /// Decided and stored: nothing can undo it. The markers are being written.
    case prepareCommit = 2
    case prepareAbort = 3
    case completeCommit = 4
    case completeAbort = 5

    /// As ListTransactions and DescribeTransactions say it.
    var name: String {
        switch self {
        case .empty: "Empty"
        case .ongoing: "Ongoing"
        case .prepareCommit: "PrepareCommit"
        case .prepareAbort: "PrepareAbort"
        case .completeCommit: "CompleteCommit"
        case .completeAbort: "CompleteAbort"
        }
    }

    var isPrepared: Bool { self == .prepareCommit || self == .prepareAbort }
}

/// A transactional id: the producer that holds it, and its transaction.
struct TransactionMetadata: Sendable, Equatable {
    let transactionalID: String
    var producerID: Int64
    var epoch: Int16
    /// The producer id before the last exhaustion of epochs: tells a retry of the request that changed it (KIP-360).
    var lastProducerID: Int64 = -1
    /// The epoch before the last one that the producer itself asked for; -1 after a fence.
    var lastEpoch: Int16 = -1
    var timeoutMilliseconds: Int32
    var state = TransactionState.empty
    /// The partitions of the transaction, and of those the markers are still owed to.
    var partitions: Set<TopicPartition> = []
    /// Groups with offsets in the transaction.
    var groups: Set<String> = []
    /// When the first partition or group was added; nil outside of a transaction.
    var startedAt: WallTime?
    var updatedAt: WallTime

    /// One epoch is left to fence with: no producer gets the last one.
    static let epochMax = Int16.max - 1

    var identity: ProducerIdentity { ProducerIdentity(id: producerID, epoch: epoch) }

    /// Of partitions and groups.
    var namesBytes: Int { partitions.reduce(groups.reduce(0) { $0 + $1.utf8.count }) { $0 + $1.topic.utf8.count } }

    var deadline: WallTime? {
        guard state == .ongoing else { return nil }
        return startedAt?.advanced(byMilliseconds: Int64(timeoutMilliseconds))
    }
}

/// What ends a transaction in the logs of its partitions and the offsets of its groups.
struct TransactionMarkers: Sendable, Equatable {
    var transactionalID: String
    var producer: ProducerIdentity
    var commit: Bool
    /// Sorted.
    var partitions: [TopicPartition]
    /// Sorted.
    var groups: [String]

    init(_ transaction: TransactionMetadata) {
        precondition(transaction.state.isPrepared, "markers of \(transaction.transactionalID) before its end is decided")
        transactionalID = transaction.transactionalID
        producer = transaction.identity
        commit = transaction.state == .prepareCommit
        partitions = transaction.partitions.sorted()
        groups = transaction.groups.sorted()
    }
}
