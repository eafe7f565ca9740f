internal import WeirBase
internal import WeirKafkaWire

extension PartitionLog {
    /// Deletes records below an offset, as DeleteRecords asks: they are gone at once for readers, their segments once all of one is.
    ///
    /// - Parameter offset: At most the high watermark; -1 is the high watermark.
    /// - Returns: The new first offset of the log.
    /// - Throws: ``LogRejection`` 1 for an offset past the high watermark, 56 where the disk refuses.
    package func deleteRecords(before offset: Int64) throws(LogRejection) -> Int64 {
        let target = offset == -1 ? highWatermark : offset
        guard target >= 0, target <= highWatermark else {
            throw LogRejection(.offsetOutOfRange, "offset \(offset) is not in \(logStartOffset)...\(highWatermark)")
        }
        guard target > logStartOffset else { return logStartOffset }
        do throws(LogFailure) {
            // On the disk before any segment goes: a crash in between must not bring deleted records back.
            try RecoveredLog.writeLogStart(target, storage)
            logStartOffset = target
            aborted.removeAll(endedBefore: target)
            while segments.count > 1, segments[0].endOffset <= target { try removeFirstSegment() }
        } catch {
            throw LogRejection(.kafkaStorageError, "\(error)")
        }
        return logStartOffset
    }

    /// Deletes the oldest segments that the topic's `retention.ms` and `retention.bytes` no longer keep. An open transaction's records stay.
    ///
    /// - Parameter now: The broker's time, ms.
    /// - Returns: How many segments went.
    package func retain(now: Int64) throws(LogFailure) -> Int {
        var removed = 0
        while let first = segments.first, !first.isEmpty, isExpired(first, now: now) {
            guard first.endOffset <= producers.firstUnstableOffset ?? .max else { break }
            // The last one is closed first, so that the next record still gets the next offset.
            if segments.count == 1 { try roll() }
            try removeFirstSegment()
            removed += 1
        }
        return removed
    }

    private func isExpired(_ segment: LogSegment, now: Int64) -> Bool {
        if let keep = configuration.retentionMilliseconds, segment.index.maxTimestamp >= 0 {
            let (age, overflow) = now.subtractingReportingOverflow(segment.index.maxTimestamp)
            if overflow || age > keep { return true }
        }
        guard let keep = configuration.retentionBytes, segments.count > 1 else { return false }
        return sizeBytes - segment.bytes.count >= keep
    }

    private func removeFirstSegment() throws(LogFailure) {
        let segment = segments[0]
        precondition(segments.count > 1, "the last segment of a log holds its end")
        try segment.bytes.remove()
        try storage.remove(.index(segment.baseOffset))
        try storage.remove(.producers(segment.baseOffset))
        segments.removeFirst()
        logStartOffset = max(logStartOffset, segments[0].baseOffset)
        aborted.removeAll(endedBefore: logStartOffset)
    }

    /// Forgets producers that were silent since a time, ms.
    package func expireProducers(before time: Int64) { producers.expire(before: time) }

    /// Removes the log with all of its files. Nothing may be asked of it afterwards.
    func removeAll() throws(LogFailure) {
        for segment in segments { try segment.bytes.remove() }
        try storage.removeAll()
    }
}
