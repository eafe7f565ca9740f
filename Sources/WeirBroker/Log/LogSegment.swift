internal import WeirBase
internal import WeirKafkaWire

/// A stretch of a partition's log: record batches, one behind the other, as clients sent them.
///
/// The offsets of its batches follow each other without a gap, from ``baseOffset`` to below ``endOffset``.
final class LogSegment {
    let baseOffset: Int64
    let bytes: any SegmentBytes
    private(set) var index: SegmentIndex
    /// The offset after its last record.
    private(set) var endOffset: Int64

    init(baseOffset: Int64, bytes: any SegmentBytes) {
        self.baseOffset = baseOffset
        self.bytes = bytes
        index = SegmentIndex()
        endOffset = baseOffset
    }

    /// A segment whose bytes are not read again.
    init(_ sealed: SealedSegment, bytes: any SegmentBytes) {
        baseOffset = sealed.baseOffset
        self.bytes = bytes
        index = sealed.index
        endOffset = sealed.endOffset
    }

    var isEmpty: Bool { endOffset == baseOffset }

    func sealed(aborted: AbortedTransactions) -> SealedSegment {
        SealedSegment(
            baseOffset: baseOffset, endOffset: endOffset, segmentBytes: bytes.count, index: index,
            aborted: aborted.withMarkers(in: baseOffset..<endOffset))
    }

    /// Appends a batch whose base offset is ``endOffset``.
    func append(_ batch: KafkaBytes, _ header: RecordBatchHeader) throws(LogFailure) {
        let position = bytes.count
        try bytes.append(batch)
        index(header, at: position)
    }

    /// Takes in a batch that is in the bytes already.
    func index(_ header: RecordBatchHeader, at position: Int) {
        precondition(header.baseOffset == endOffset, "a batch with base offset \(header.baseOffset) at the end \(endOffset) of a segment")
        index.add(offsetDelta: header.baseOffset - baseOffset, position: position, maxTimestamp: header.maxTimestamp)
        endOffset = header.lastOffset + 1
    }

    // MARK: Reading

    struct Read {
        var records: KafkaBytes
        /// After the last record in ``records``; the offset asked for where there are none.
        var endOffset: Int64
    }

    /// Reads whole batches from the one that holds an offset on.
    ///
    /// - Parameters:
    ///   - offset: In `baseOffset..<endOffset`.
    ///   - limit: Batches that begin at or after it are left out.
    ///   - maxBytes: The most that is returned, but for the first batch.
    ///   - atLeastOne: Whether the first batch is returned whatever its size: else a consumer with small limits would never get past it.
    func read(from offset: Int64, below limit: Int64, maxBytes: Int, atLeastOne: Bool) throws(LogFailure) -> Read {
        var start = index.position(ofOffsetDelta: offset - baseOffset)
        while start < bytes.count {
            let wanted = max(maxBytes, RecordBatchHeader.bytes) + SegmentIndex.intervalBytes
            let chunk = try bytes.read(start..<min(bytes.count, start + wanted))
            var position = 0
            var first: Int?
            var end = 0
            var read = Read(records: .empty, endOffset: offset)
            while position < chunk.count, let header = try header(in: chunk, at: position, chunkStart: start) {
                if header.lastOffset < offset {
                    position += header.totalBytes
                    continue
                }
                guard header.baseOffset < limit else { return read }
                let from = first ?? position
                first = from
                let total = position + header.totalBytes - from
                if from == position, total > maxBytes || position + total > chunk.count {
                    guard atLeastOne || total <= maxBytes else { return read }
                    read.records = try bytes.read((start + position)..<(start + position + total))
                    read.endOffset = header.lastOffset + 1
                    return read
                }
                guard total <= maxBytes, position + header.totalBytes <= chunk.count else { break }
                position += header.totalBytes
                end = position
                read.records = chunk.slice(from: from, count: end - from)
                read.endOffset = header.lastOffset + 1
            }
            if first != nil { return read }
            precondition(position > 0, "a chunk without a whole header")
            start += position
        }
        return Read(records: .empty, endOffset: offset)
    }

    /// The header at a position of a chunk; nil where it is cut off by the chunk's end, but not by the segment's.
    private func header(in chunk: KafkaBytes, at position: Int, chunkStart: Int) throws(LogFailure) -> RecordBatchHeader? {
        if let header = try? RecordBatchHeader(ofPartial: chunk, at: position), chunkStart + position + header.totalBytes <= bytes.count {
            return header
        }
        if chunk.count - position < RecordBatchHeader.bytes, chunkStart + chunk.count < bytes.count { return nil }
        throw .damaged(bytes.name, "no record batch at byte \(chunkStart + position)")
    }

    enum ScanEnd: Equatable {
        /// The body wanted no more.
        case stopped
        case end
        /// What follows is no whole batch.
        case broken(at: Int)
    }

    /// Hands each batch from a position on to a body, until it returns false.
    ///
    /// - Parameters:
    ///   - position: Of a batch.
    ///   - blockBytes: How much is read at a time.
    func scan(
        from position: Int, blockBytes: Int = 64 << 10, _ body: (Int, RecordBatchHeader, KafkaBytes) throws(LogFailure) -> Bool
    ) throws(LogFailure) -> ScanEnd {
        var start = position
        var block = KafkaBytes.empty
        var blockStart = position
        while start < bytes.count {
            let present = blockStart + block.count - start
            if present < RecordBatchHeader.bytes {
                blockStart = start
                block = try bytes.read(start..<min(bytes.count, start + blockBytes))
            }
            guard let header = try? RecordBatchHeader(ofPartial: block, at: start - blockStart), header.totalBytes <= bytes.count - start else {
                return .broken(at: start)
            }
            if start + header.totalBytes > blockStart + block.count {
                blockStart = start
                block = try bytes.read(start..<min(bytes.count, start + max(blockBytes, header.totalBytes)))
            }
            guard try body(start, header, block.slice(from: start - blockStart, count: header.totalBytes)) else { return .stopped }
            start += header.totalBytes
        }
        return .end
    }

    // MARK: By time

    /// The first record at or after a time, from an offset on; nil where there is none.
    ///
    /// Of a compressed batch that cannot be opened (see ``RecordDecompression``) it is the first record: a consumer may then read earlier records
    /// than it asked for, never later ones.
    func record(atOrAfter timestamp: Int64, from offset: Int64) throws(LogFailure) -> (offset: Int64, timestamp: Int64)? {
        var found: (offset: Int64, timestamp: Int64)?
        let end = try scan(from: index.position(ofTimestamp: timestamp)) { (_, header, batch) throws(LogFailure) in
            guard header.maxTimestamp >= timestamp, header.lastOffset >= offset else { return true }
            found = try firstRecord(of: header, batch, from: offset) { $0 >= timestamp }
            return found == nil
        }
        if case .broken(let position) = end { throw .damaged(bytes.name, "no record batch at byte \(position)") }
        return found
    }

    /// The first record with the largest timestamp; of a compressed batch that cannot be opened its last one. Nil in a segment without timestamps.
    func recordWithMaxTimestamp() throws(LogFailure) -> (offset: Int64, timestamp: Int64)? {
        guard index.maxTimestamp >= 0 else { return nil }
        var found: (offset: Int64, timestamp: Int64)?
        let maxTimestamp = index.maxTimestamp
        let end = try scan(from: index.maxTimestampPosition) { (_, header, batch) throws(LogFailure) in
            found = try firstRecord(of: header, batch, from: 0, orElse: header.lastOffset) { $0 == maxTimestamp }
            return false
        }
        if case .broken(let position) = end { throw .damaged(bytes.name, "no record batch at byte \(position)") }
        return found
    }

    /// - Parameter fallback: The offset to give for a compressed batch that cannot be opened; its first one where nothing is said.
    private func firstRecord(
        of header: RecordBatchHeader, _ batch: KafkaBytes, from offset: Int64, orElse fallback: Int64? = nil, where matches: (Int64) -> Bool
    ) throws(LogFailure) -> (offset: Int64, timestamp: Int64)? {
        guard !header.isLogAppendTime else { return (max(header.baseOffset, offset), header.maxTimestamp) }
        var found: (offset: Int64, timestamp: Int64)?
        func consider(_ record: BatchRecord, _ recordOffset: Int64) {
            if found == nil, recordOffset >= offset, matches(record.timestamp) { found = (recordOffset, record.timestamp) }
        }
        guard header.codec == 0 else {
            if let records = RecordDecompression.records(of: header, in: batch),
                (try? RecordBatch.forEachRecord(header, records: records, consider)) != nil
            {
                return found
            }
            return (max(fallback ?? header.baseOffset, offset), header.maxTimestamp)
        }
        do {
            try RecordBatch.forEachRecord(header, in: batch, consider)
        } catch {
            throw .damaged(bytes.name, "a record of the batch at offset \(header.baseOffset): \(error)")
        }
        return found
    }
}
