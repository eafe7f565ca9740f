internal import WeirBase
package import WeirKafkaWire

/// What a consumer may see.
package enum IsolationLevel: Int8, Sendable {
    case readUncommitted = 0
    case readCommitted = 1
}

/// The log of one partition: segments of record batches, and what follows from them about producers and transactions.
///
/// Offsets below ``highWatermark`` are in the log. There is one replica, so what is appended is at once visible to `read_uncommitted`;
/// `read_committed` sees the offsets below ``lastStableOffset``.
///
/// - Important: It has one owner, the broker's loop, and is touched on its thread alone.
package final class PartitionLog {
    /// Every leader epoch is this: the one replica never changes.
    package static let leaderEpoch: Int32 = 0

    package let topic: String
    package let partition: Int32
    package var configuration: LogConfiguration
    /// Told after an append or a marker, with the bytes that came.
    package var onAppend: ((_ bytes: Int) -> Void)?

    let storage: PartitionStorage
    /// At least one; appends go to the last.
    var segments: [LogSegment]
    var producers: ProducerStates
    var aborted: AbortedTransactions
    package internal(set) var logStartOffset: Int64
    /// What opening the log had to do.
    package let recovery: LogRecovery

    /// Opens what is there, and repairs what a crash left.
    ///
    /// - Throws: ``LogFailure`` where files cannot be read, or are damaged in a way that no crash explains.
    init(topic: String, partition: Int32, storage: PartitionStorage, configuration: LogConfiguration, now: Int64) throws(LogFailure) {
        self.topic = topic
        self.partition = partition
        self.storage = storage
        self.configuration = configuration
        let recovered = try RecoveredLog(storage, now: now)
        segments = recovered.segments
        producers = recovered.producers
        aborted = recovered.aborted
        logStartOffset = recovered.logStartOffset
        recovery = recovered.report
    }

    /// The offset that the next record gets.
    package var endOffset: Int64 { active.endOffset }
    package var highWatermark: Int64 { active.endOffset }
    /// Below it every transaction has ended.
    package var lastStableOffset: Int64 { max(min(producers.firstUnstableOffset ?? highWatermark, highWatermark), logStartOffset) }
    /// Of all segments together.
    package var sizeBytes: Int { segments.reduce(0) { $0 + $1.bytes.count } }

    var active: LogSegment { segments[segments.count - 1] }

    /// The first offset that a consumer cannot have.
    package func visibleEnd(_ isolation: IsolationLevel) -> Int64 { isolation == .readCommitted ? lastStableOffset : highWatermark }

    // MARK: Appending

    package struct Appended: Equatable {
        package var baseOffset: Int64
        package var lastOffset: Int64
        /// The broker's time where the topic has LogAppendTime, else -1.
        package var logAppendTime: Int64
        /// The batch was in the log already, at these offsets.
        package var isDuplicate: Bool
    }

    /// Appends a client's record batch; a retry of one of a producer's last five is answered with the offsets that it has.
    ///
    /// - Parameters:
    ///   - records: One whole batch. Its base offset and leader epoch are overwritten in place, with LogAppendTime also its timestamps and checksum.
    ///   - now: The broker's time, ms.
    /// - Throws: ``LogRejection``; the log is as before.
    package func append(_ records: KafkaBytes, now: Int64) throws(LogRejection) -> Appended {
        var header = try RecordValidation.check(records, maxBytes: configuration.maxMessageBytes)
        if header.hasProducerID, case .duplicate(let batch) = try producers.check(header) {
            return Appended(baseOffset: batch.baseOffset, lastOffset: batch.lastOffset, logAppendTime: appendTime(batch.timestamp), isDuplicate: true)
        }
        if configuration.timestampType == .logAppendTime {
            do {
                try RecordBatch.setLogAppendTime(now, in: records)
            } catch {
                throw LogRejection(.corruptMessage, "\(error)")
            }
        }
        header = try write(records, now: now)
        producers.record(header, baseOffset: header.baseOffset, now: now)
        onAppend?(records.count)
        return Appended(
            baseOffset: header.baseOffset, lastOffset: header.lastOffset, logAppendTime: appendTime(header.maxTimestamp), isDuplicate: false)
    }

    private func appendTime(_ timestamp: Int64) -> Int64 { configuration.timestampType == .logAppendTime ? timestamp : -1 }

    /// Appends the marker that ends a producer's transaction here; without an open one it is written all the same, and fences older epochs.
    ///
    /// - Returns: The marker's offset.
    /// - Throws: ``LogRejection`` for an older epoch of the producer or of the coordinator, or where the disk refuses.
    @discardableResult
    package func appendMarker(producerID: Int64, epoch: Int16, commit: Bool, coordinatorEpoch: Int32, now: Int64) throws(LogRejection) -> Int64 {
        try producers.checkMarker(producerID: producerID, epoch: epoch, coordinatorEpoch: coordinatorEpoch)
        let batch = RecordBatch.marker(
            commit: commit, producerID: producerID, producerEpoch: epoch, coordinatorEpoch: coordinatorEpoch, timestamp: now)
        let header = try write(batch, now: now)
        let marker = TransactionMarker(producerID: producerID, epoch: epoch, isCommit: commit, coordinatorEpoch: coordinatorEpoch)
        end(marker, at: header.baseOffset, producers: &producers, aborted: &aborted, now: now)
        onAppend?(batch.count)
        return header.baseOffset
    }

    private func write(_ batch: KafkaBytes, now: Int64) throws(LogRejection) -> RecordBatchHeader {
        do throws(LogFailure) {
            RecordBatch.assign(baseOffset: endOffset, leaderEpoch: Self.leaderEpoch, in: batch)
            let header: RecordBatchHeader
            do { header = try RecordBatchHeader(batch) } catch { preconditionFailure("a batch that was checked is none: \(error)") }
            if needsRoll(for: header) { try roll() }
            try active.append(batch, header)
            return header
        } catch {
            throw LogRejection(.kafkaStorageError, "\(error)")
        }
    }

    private func needsRoll(for header: RecordBatchHeader) -> Bool {
        guard !active.isEmpty else { return false }
        if active.bytes.count + header.totalBytes > configuration.segmentBytes { return true }
        if header.lastOffset - active.baseOffset > Int64(Int32.max) { return true }
        guard let first = active.index.firstTimestamp, first >= 0, header.maxTimestamp >= 0 else { return false }
        let (age, overflow) = header.maxTimestamp.subtractingReportingOverflow(first)
        return overflow || age > configuration.segmentMilliseconds
    }

    /// Closes the active segment and begins one at ``endOffset``.
    ///
    /// The order makes a crash at any point harmless: what was known of producers at the new segment's start and the closed segment's index are
    /// there before the new segment is.
    func roll() throws(LogFailure) {
        try storage.sync()
        try storage.write(.producers(endOffset), producers.encoded(at: endOffset))
        try storage.write(.index(active.baseOffset), active.sealed(aborted: aborted).encoded())
        segments.append(LogSegment(baseOffset: endOffset, bytes: try storage.open(endOffset, creating: true)))
    }

    /// Writes what makes the next start quick. The log may be used on afterwards.
    package func close() throws(LogFailure) {
        guard !active.isEmpty else { return }
        try storage.write(.producers(endOffset), producers.encoded(at: endOffset))
        try storage.write(.index(active.baseOffset), active.sealed(aborted: aborted).encoded())
    }

    // MARK: Reading

    package struct Fetched {
        package var records: KafkaBytes
        /// For `read_committed`, by first offset: whose records among ``records`` the consumer must skip; nil for `read_uncommitted`.
        package var abortedTransactions: [AbortedTransaction]?
    }

    /// Whole batches from the one that holds an offset on, in one segment.
    ///
    /// - Parameters:
    ///   - offset: In `logStartOffset...highWatermark`.
    ///   - atLeastOne: Whether the first batch is returned even where it is larger than `maxBytes`.
    /// - Throws: ``LogRejection`` 1 for an offset out of range, 56 where the disk refuses.
    package func read(
        from offset: Int64, maxBytes: Int, atLeastOne: Bool, isolation: IsolationLevel
    ) throws(LogRejection) -> Fetched {
        guard offset >= logStartOffset, offset <= highWatermark else {
            throw LogRejection(.offsetOutOfRange, "offset \(offset) is not in \(logStartOffset)...\(highWatermark)")
        }
        let limit = visibleEnd(isolation)
        guard offset < limit else { return Fetched(records: .empty, abortedTransactions: isolation == .readCommitted ? [] : nil) }
        let segment = segments[segmentIndex(of: offset)]
        do throws(LogFailure) {
            let read = try segment.read(from: offset, below: limit, maxBytes: maxBytes, atLeastOne: atLeastOne)
            guard isolation == .readCommitted else { return Fetched(records: read.records, abortedTransactions: nil) }
            return Fetched(
                records: read.records, abortedTransactions: read.records.isEmpty ? [] : aborted.overlapping(offset..<read.endOffset))
        } catch {
            throw LogRejection(.kafkaStorageError, "\(error)")
        }
    }

    /// The segment that holds an offset of the log, or would.
    private func segmentIndex(of offset: Int64) -> Int {
        var low = 0
        var high = segments.count
        while low < high {
            let middle = (low + high) / 2
            if segments[middle].baseOffset > offset { high = middle } else { low = middle + 1 }
        }
        return max(0, low - 1)
    }

    /// The first visible record at or after a time; nil where there is none.
    package func offset(
        forTimestamp timestamp: Int64, isolation: IsolationLevel
    ) throws(LogRejection) -> (offset: Int64, timestamp: Int64)? {
        do throws(LogFailure) {
            for segment in segments where segment.index.maxTimestamp >= timestamp && segment.endOffset > logStartOffset {
                guard let found = try segment.record(atOrAfter: timestamp, from: logStartOffset) else { continue }
                return found.offset < visibleEnd(isolation) ? found : nil
            }
            return nil
        } catch {
            throw LogRejection(.kafkaStorageError, "\(error)")
        }
    }

    /// The first record with the largest timestamp; nil in an empty log.
    package func offsetOfMaxTimestamp() throws(LogRejection) -> (offset: Int64, timestamp: Int64)? {
        var newest: LogSegment?
        for segment in segments where segment.index.maxTimestamp > newest?.index.maxTimestamp ?? -1 { newest = segment }
        do throws(LogFailure) {
            return try newest?.recordWithMaxTimestamp()
        } catch {
            throw LogRejection(.kafkaStorageError, "\(error)")
        }
    }
}

/// What a control batch says.
struct TransactionMarker: Equatable {
    var producerID: Int64
    var epoch: Int16
    var isCommit: Bool
    var coordinatorEpoch: Int32

    init(producerID: Int64, epoch: Int16, isCommit: Bool, coordinatorEpoch: Int32) {
        self.producerID = producerID
        self.epoch = epoch
        self.isCommit = isCommit
        self.coordinatorEpoch = coordinatorEpoch
    }

    /// Reads a control batch; nil for one that ends no transaction.
    init?(_ header: RecordBatchHeader, _ batch: KafkaBytes) {
        var marker: TransactionMarker?
        try? RecordBatch.forEachRecord(header, in: batch) { record, _ in
            guard let key = record.key, let value = record.value, key.count >= 4, value.count >= 6 else { return }
            let type: Int16 = key.load(at: 2)
            guard type == 0 || type == 1 else { return }
            marker = TransactionMarker(
                producerID: header.producerID, epoch: header.producerEpoch, isCommit: type == 1, coordinatorEpoch: value.load(at: 2))
        }
        guard let marker else { return nil }
        self = marker
    }
}

/// Takes in a marker that is in the log: closes the transaction and, where it was aborted, indexes it.
func end(
    _ marker: TransactionMarker, at offset: Int64, producers: inout ProducerStates, aborted: inout AbortedTransactions, now: Int64
) {
    let start = producers.recordMarker(
        producerID: marker.producerID, epoch: marker.epoch, coordinatorEpoch: marker.coordinatorEpoch, now: now)
    guard let start, !marker.isCommit else { return }
    aborted.add(
        AbortedTransaction(
            producerID: marker.producerID, firstOffset: start, markerOffset: offset,
            lastStableOffset: producers.firstUnstableOffset ?? offset + 1))
}
