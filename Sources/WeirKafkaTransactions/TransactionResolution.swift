package import WeirBase
package import WeirKafkaWire

/// How it ended with a transaction that a completed checkpoint names.
package enum TransactionOutcome: Equatable, Sendable {
    case committed
    /// It was aborted, by its time-out or by another producer, and its records will never be seen.
    case lost(reason: String)
    /// Nobody knows yet: no answer in time, or one that says that asking is forbidden.
    case unknown(JobFailure)
}

/// Commits one prepared transaction from outside the producer that wrote it, and finds out what became of it.
///
/// A value: no I/O and no clock. The caller does what ``step`` says, tells the answer, and asks again:
///
///     checking ──marker says committed──────────────────────────────▶ committed
///        │ marker says nothing of it
///        ▼
///      ending ──EndTxn 0───────────────────────────────────────────▶ committed
///        │ 47, 48, 49, 90, 105: it is not open (any more)
///        ▼
///     confirming ──stable marker says committed──▶ committed    else ──▶ lost
///
/// Why this is right. The marker is committed by the transaction itself. In one session transactions follow each other, and the next one
/// begins only once the one before is committed: a marker of the session at or above the checkpoint is the proof. As long as the marker is
/// the one from before the session, or an older one of it, the session's open transaction can only be this one, so that EndTxn commits this
/// one or none. A marker of another session which was not there when this session began is of a later session, and the coordinator lets one
/// begin only after it ended this session's transaction: at or above the checkpoint, whoever wrote it had this transaction behind it.
package struct TransactionResolution: Sendable {
    package enum Step: Equatable, Sendable {
        /// Ask for the marker. `stable`: wait for transactions that are just being completed (OffsetFetch's `require_stable`).
        case fetchMarker(stable: Bool)
        /// Send EndTxn with commit.
        case endTransaction
        /// Wait that long, then go on with the step that follows.
        case wait(Duration)
        case done(TransactionOutcome)
    }

    package enum Answer: Equatable, Sendable {
        case marker(CommitMarker?)
        /// The group holds an offset which no sink wrote.
        case foreignMarker(String)
        case markerFailed(KafkaErrorCode)
        case ended(KafkaErrorCode)
        /// No broker, a broken connection, or no answer in time: what was asked may have been done or not.
        case unreachable(String)
        case waited
    }

    private enum Phase { case checking, ending, confirming }

    package static let backoffFirst = Duration.milliseconds(20)
    package static let backoffMax = Duration.seconds(1)

    private let transaction: PreparedTransaction
    private let giveUpAt: Instant
    private var phase = Phase.checking
    private var backoff = TransactionResolution.backoffFirst
    private var refusal: KafkaErrorCode?
    package private(set) var step = Step.fetchMarker(stable: false)

    /// - Parameter giveUpAt: When to stop asking a broker that gives no answer.
    package init(_ transaction: PreparedTransaction, giveUpAt: Instant) {
        self.transaction = transaction
        self.giveUpAt = giveUpAt
    }

    package mutating func handle(_ answer: Answer, now: Instant) {
        switch answer {
        case .waited: step = request
        case .marker(let marker): read(marker)
        case .foreignMarker(let metadata):
            finish(
                "the group \(transaction.id.markerGroup) holds an offset that no Kafka sink of Weir wrote (\"\(metadata)\")",
                cause: "give the sink a transactional id prefix of its own", recovery: .fail)
        case .markerFailed(let code): markerFailed(code, now: now)
        case .ended(let code): ended(code, now: now)
        case .unreachable(let reason): retry(reason, now: now)
        }
    }

    private var request: Step {
        switch phase {
        case .checking: .fetchMarker(stable: false)
        case .ending: .endTransaction
        case .confirming: .fetchMarker(stable: true)
        }
    }

    /// Whether a marker proves that the transaction was committed; nil if it says nothing of it.
    private func isCommitted(by marker: CommitMarker?) -> Bool {
        guard let marker, marker != transaction.baseMarker else { return false }
        return marker.checkpoint >= transaction.checkpoint
    }

    private mutating func read(_ marker: CommitMarker?) {
        if isCommitted(by: marker) {
            step = .done(.committed)
        } else if phase == .confirming {
            let found = marker.map { "the last commit was \($0)" } ?? "nothing was ever committed"
            step = .done(.lost(reason: "\(Self.describe(refusal ?? .none)); \(found)"))
        } else {
            phase = .ending
            step = request
        }
    }

    private mutating func markerFailed(_ code: KafkaErrorCode, now: Instant) {
        switch code {
        case .groupAuthorizationFailed, .topicAuthorizationFailed:
            finish(
                "the commit marker of transaction \(transaction.id) may not be read",
                cause: "allow the sink's user to read the group "
                    + "\(transaction.id.markerGroup) (all groups with the sink's prefix): \(Self.describe(code))", recovery: .restart)
        default: retry("reading the commit marker gave \(Self.describe(code))", now: now)
        }
    }

    private mutating func ended(_ code: KafkaErrorCode, now: Instant) {
        switch code {
        case .none: step = .done(.committed)
        case .invalidProducerEpoch, .producerFenced, .invalidTxnState, .invalidProducerIDMapping, .transactionalIDNotFound, .unknownProducerID:
            refusal = code
            phase = .confirming
            backoff = Self.backoffFirst
            step = request
        case .transactionalIDAuthorizationFailed, .clusterAuthorizationFailed:
            finish(
                "transaction \(transaction.id) may not be committed",
                cause: "allow the sink's user to write the transactional id "
                    + "(all ids with the sink's prefix): \(Self.describe(code))", recovery: .restart)
        default: retry("EndTxn gave \(Self.describe(code))", now: now)
        }
    }

    private mutating func retry(_ reason: String, now: Instant) {
        guard now < giveUpAt else {
            return finish(
                "transaction \(transaction.id) of checkpoint \(transaction.checkpoint) could not be committed in time", cause: reason,
                recovery: .restart)
        }
        step = .wait(min(backoff, max(.milliseconds(1), now.duration(to: giveUpAt))))
        backoff = min(backoff * 2, Self.backoffMax)
    }

    private mutating func finish(_ message: String, cause: String, recovery: JobFailure.Recovery) {
        step = .done(.unknown(JobFailure(domain: .external, recovery: recovery, message: message, cause: cause)))
    }

    /// An error code of the coordinator in words.
    package static func describe(_ code: KafkaErrorCode) -> String {
        switch code {
        case .none: "no error"
        case .coordinatorLoadInProgress: "14: the coordinator is loading"
        case .coordinatorNotAvailable: "15: the coordinator is not available"
        case .notCoordinator: "16: the coordinator has moved"
        case .groupAuthorizationFailed: "30: not authorized for the group"
        case .clusterAuthorizationFailed: "31: not authorized for the cluster"
        case .invalidProducerEpoch: "47: the producer's epoch is over (the transaction timed out, or another producer took its id)"
        case .invalidTxnState: "48: no such transaction is open (it was aborted)"
        case .invalidProducerIDMapping: "49: the producer id is unknown or expired"
        case .invalidTransactionTimeout: "50: the transaction time-out is above the broker's transaction.max.timeout.ms"
        case .concurrentTransactions: "51: another transaction of the id is being completed"
        case .transactionalIDAuthorizationFailed: "53: not authorized for the transactional id"
        case .unstableOffsetCommit: "88: a transaction with offsets of the group is not completed"
        case .producerFenced: "90: another producer took the transactional id"
        case .transactionalIDNotFound: "105: the transactional id is unknown or expired"
        default: "error \(code.rawValue)"
        }
    }
}
