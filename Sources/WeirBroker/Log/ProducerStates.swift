package import WeirKafkaWire

/// A refusal that a client is told of.
package struct LogRejection: Error, Equatable, CustomStringConvertible {
    package var code: KafkaErrorCode
    /// For people: newer clients print it.
    package var message: String

    package init(_ code: KafkaErrorCode, _ message: String) {
        self.code = code
        self.message = message
    }
    package var description: String { "\(code): \(message)" }
}

/// What a partition knows of the producers that wrote to it with a producer id: their last sequence numbers and open transactions.
///
/// A value, derived from the batches of the log in their order (``record(_:baseOffset:)``): reading the log again gives the same. The rules are
/// those of KIP-98 and KIP-360.
struct ProducerStates: Equatable {
    /// What is remembered of a batch, so that a retry is recognised.
    struct Batch: Equatable {
        var firstSequence: Int32
        var lastSequence: Int32
        var baseOffset: Int64
        var lastOffset: Int64
        /// The largest timestamp, ms.
        var timestamp: Int64
    }

    struct Producer: Equatable {
        var epoch: Int16
        /// The last ``batchesMax`` of this epoch, the oldest first.
        var batches: [Batch] = []
        /// The offset of the open transaction's first record; nil without one.
        var transactionStart: Int64?
        /// Of the coordinator that wrote the last marker; -1 before the first.
        var coordinatorEpoch: Int32 = -1
        /// Broker's time of the last batch or marker, ms; by it the producer expires.
        var lastUse: Int64
    }

    /// Kafka's clients have at most five requests in flight with idempotence, so a retry is one of the last five batches.
    static let batchesMax = 5
    /// The producers remembered; past it the one not used for longest, without an open transaction, is forgotten.
    static let producersMax = 100_000

    private(set) var producers: [Int64: Producer] = [:]
    /// The open transactions in the order of their first offsets.
    private(set) var openTransactions: [(producerID: Int64, firstOffset: Int64)] = []

    init() {}

    /// The first offset of the oldest open transaction; nil without one.
    var firstUnstableOffset: Int64? { openTransactions.first?.firstOffset }

    static func == (left: ProducerStates, right: ProducerStates) -> Bool {
        left.producers == right.producers && left.openTransactions.elementsEqual(right.openTransactions, by: ==)
    }

    // MARK: Data

    enum Verdict: Equatable {
        case append
        /// A retry of a batch that is in the log already.
        case duplicate(Batch)
    }

    /// Decides whether a producer's batch may be appended, without changing anything.
    ///
    /// - Parameter batch: With a producer id.
    /// - Throws: ``LogRejection`` 47 (an older epoch), 45 (a gap in the sequence), 48 (a plain batch inside of a transaction).
    func check(_ batch: RecordBatchHeader) throws(LogRejection) -> Verdict {
        guard let producer = producers[batch.producerID] else { return .append }  // Forgotten or new: any sequence may start (KIP-360).
        guard batch.producerEpoch >= producer.epoch else {
            throw LogRejection(
                .invalidProducerEpoch, "producer \(batch.producerID) has epoch \(producer.epoch) here, the batch has \(batch.producerEpoch)")
        }
        if batch.producerEpoch > producer.epoch {
            guard batch.baseSequence == 0 else {
                throw LogRejection(
                    .outOfOrderSequenceNumber,
                    "producer \(batch.producerID) starts epoch \(batch.producerEpoch) with sequence number \(batch.baseSequence), not 0")
            }
        } else {
            if let known = producer.batches.first(where: { $0.firstSequence == batch.baseSequence && $0.lastSequence == batch.lastSequence }) {
                return .duplicate(known)
            }
            if let last = producer.batches.last, batch.baseSequence != RecordBatchHeader.sequence(last.lastSequence, plus: 1) {
                throw LogRejection(
                    .outOfOrderSequenceNumber,
                    "producer \(batch.producerID) sent sequence number \(batch.baseSequence) after \(last.lastSequence)")
            }
            // Only a marker of this epoch is known.
            if producer.batches.isEmpty, batch.baseSequence != 0 {
                throw LogRejection(
                    .outOfOrderSequenceNumber,
                    "producer \(batch.producerID) starts epoch \(batch.producerEpoch) with sequence number \(batch.baseSequence), not 0")
            }
        }
        guard producer.transactionStart == nil || batch.isTransactional else {
            throw LogRejection(.invalidTxnState, "producer \(batch.producerID) has an open transaction, and sent a batch outside of it")
        }
        return .append
    }

    /// Takes in a batch that is in the log now, at its base offset. Batches without a producer id change nothing.
    ///
    /// - Parameter now: The broker's time, ms; while the log is read again, the batch's own timestamp.
    mutating func record(_ batch: RecordBatchHeader, baseOffset: Int64, now: Int64) {
        guard batch.producerID >= 0, !batch.isControl else { return }
        var producer = producers[batch.producerID] ?? Producer(epoch: batch.producerEpoch, lastUse: now)
        if producer.epoch != batch.producerEpoch {
            producer.epoch = batch.producerEpoch
            producer.batches = []
        }
        let lastOffset = baseOffset + Int64(batch.lastOffsetDelta)
        if producer.batches.count == Self.batchesMax { producer.batches.removeFirst() }
        producer.batches.append(
            Batch(
                firstSequence: batch.baseSequence, lastSequence: batch.lastSequence, baseOffset: baseOffset, lastOffset: lastOffset,
                timestamp: batch.maxTimestamp))
        producer.lastUse = now
        if batch.isTransactional, producer.transactionStart == nil {
            producer.transactionStart = baseOffset
            openTransactions.append((batch.producerID, baseOffset))
        }
        if producers[batch.producerID] == nil, producers.count >= Self.producersMax { forgetOldest() }
        producers[batch.producerID] = producer
    }

    // MARK: Markers

    /// Decides whether a coordinator may end a producer's transaction, without changing anything.
    ///
    /// - Throws: ``LogRejection`` 47 for an older producer epoch, 52 for an older coordinator epoch.
    func checkMarker(producerID: Int64, epoch: Int16, coordinatorEpoch: Int32) throws(LogRejection) {
        guard let producer = producers[producerID] else { return }
        guard epoch >= producer.epoch else {
            throw LogRejection(.invalidProducerEpoch, "producer \(producerID) has epoch \(producer.epoch) here, the marker has \(epoch)")
        }
        guard coordinatorEpoch >= producer.coordinatorEpoch else {
            throw LogRejection(
                .transactionCoordinatorFenced,
                "the last marker of producer \(producerID) came from coordinator epoch \(producer.coordinatorEpoch), this one from \(coordinatorEpoch)"
            )
        }
    }

    /// Takes in a marker that is in the log now. One of a newer epoch fences the older one.
    ///
    /// - Returns: The first offset of the transaction that it ended; nil where none was open.
    mutating func recordMarker(producerID: Int64, epoch: Int16, coordinatorEpoch: Int32, now: Int64) -> Int64? {
        var producer = producers[producerID] ?? Producer(epoch: epoch, lastUse: now)
        if producer.epoch != epoch {
            producer.epoch = epoch
            producer.batches = []
        }
        let start = producer.transactionStart
        producer.transactionStart = nil
        producer.coordinatorEpoch = coordinatorEpoch
        producer.lastUse = now
        if start != nil { openTransactions.removeAll { $0.producerID == producerID } }
        if producers[producerID] == nil, producers.count >= Self.producersMax { forgetOldest() }
        producers[producerID] = producer
        return start
    }

    // MARK: Forgetting

    /// Forgets the producers that were not used since a time and have no open transaction (`producer.id.expiration.ms`).
    mutating func expire(before time: Int64) {
        producers = producers.filter { $0.value.transactionStart != nil || $0.value.lastUse >= time }
    }

    private mutating func forgetOldest() {
        let idle = producers.lazy.filter { $0.value.transactionStart == nil }
        guard let oldest = idle.min(by: { ($0.value.lastUse, $0.key) < ($1.value.lastUse, $1.key) }) else { return }
        producers[oldest.key] = nil
    }

    /// Restores what a snapshot held.
    init(producers: [Int64: Producer]) {
        self.producers = producers
        openTransactions = producers.compactMap { id, producer in producer.transactionStart.map { (id, $0) } }
            .sorted { $0.firstOffset < $1.firstOffset }
    }
}
