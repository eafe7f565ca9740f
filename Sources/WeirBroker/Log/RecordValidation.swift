internal import WeirKafkaWire

/// What a client may append to a partition: one record batch of format 2, whole and true to its own header.
enum RecordValidation {
    /// - Returns: The batch's header; its base offset is the client's and means nothing.
    /// - Throws: ``LogRejection`` 2 for damaged bytes, 10 for too many, 43 for an older format, 87 for a batch that contradicts itself.
    static func check(_ records: KafkaBytes, maxBytes: Int) throws(LogRejection) -> RecordBatchHeader {
        guard records.count >= RecordBatchHeader.bytes else {
            // The formats 0 and 1 have shorter headers, and their magic byte in the same place.
            if records.count > 16, (records.load(at: 16) as Int8) < 2 { throw oldFormat }
            throw LogRejection(.corruptMessage, "\(records.count) bytes are less than a record batch's header")
        }
        guard (records.load(at: 16) as Int8) >= 2 else { throw oldFormat }
        let header: RecordBatchHeader
        do { header = try RecordBatchHeader(records) } catch { throw LogRejection(.corruptMessage, "\(error)") }
        guard header.totalBytes == records.count else {
            throw LogRejection(
                .invalidRecord, "one record batch a partition and request: \(records.count - header.totalBytes) bytes follow the first")
        }
        guard header.totalBytes <= maxBytes else {
            throw LogRejection(.messageTooLarge, "a record batch of \(header.totalBytes) bytes; max.message.bytes is \(maxBytes)")
        }
        guard RecordBatch.hasValidCRC(header, in: records) else { throw LogRejection(.corruptMessage, "the record batch has a wrong checksum") }
        try checkFields(header)
        if header.codec == 0 { try checkRecords(header, records) }
        return header
    }

    private static let oldFormat = LogRejection(.unsupportedForMessageFormat, "records of format 0 or 1; this broker takes format 2 (Kafka 0.11)")

    private static func checkFields(_ header: RecordBatchHeader) throws(LogRejection) {
        guard header.recordCount > 0, header.lastOffsetDelta == header.recordCount - 1 else {
            throw LogRejection(
                .invalidRecord, "a record batch of \(header.recordCount) records whose last offset delta is \(header.lastOffsetDelta)")
        }
        guard header.codec <= 4 else { throw LogRejection(.unsupportedCompressionType, "an unknown compression codec, \(header.codec)") }
        guard !header.isControl else { throw LogRejection(.invalidRecord, "control batches are written by the broker alone") }
        if header.producerID >= 0 {
            guard header.producerEpoch >= 0, header.baseSequence >= 0 else {
                throw LogRejection(
                    .invalidRecord,
                    "a producer id with epoch \(header.producerEpoch) and sequence number \(header.baseSequence); neither may be negative")
            }
        } else if header.isTransactional {
            throw LogRejection(.invalidRecord, "a transactional record batch without a producer id")
        }
    }

    /// Walks the records of an uncompressed batch, so that no consumer ever meets one that it cannot read. Runs for every record that is
    /// produced: on raw memory, without allocating.
    private static func checkRecords(_ header: RecordBatchHeader, _ records: KafkaBytes) throws(LogRejection) {
        let fault = records.withUnsafeBytes { bytes -> Int32? in
            var cursor = RecordCursor(bytes: UnsafeRawBufferPointer(rebasing: bytes[RecordBatchHeader.bytes...]))
            for index in 0..<header.recordCount where !cursor.skipRecord(offsetDelta: index) { return index }
            return cursor.isAtEnd ? nil : header.recordCount
        }
        if let fault { throw LogRejection(.invalidRecord, "record \(fault) of the batch is malformed") }
    }
}

/// Reads over the records of a batch, checking every length.
private struct RecordCursor {
    let bytes: UnsafeRawBufferPointer
    private var position = 0

    init(bytes: UnsafeRawBufferPointer) { self.bytes = bytes }

    var isAtEnd: Bool { position == bytes.count }

    /// - Returns: Whether there is a well-formed record with this offset delta; then the cursor is past it.
    mutating func skipRecord(offsetDelta: Int32) -> Bool {
        guard let length = varint(), length > 0, length <= Int64(bytes.count - position) else { return false }
        let end = position + Int(length)
        position += 1  // Attributes, unused.
        guard varint() != nil, varint() == Int64(offsetDelta), skipBytes(end, nullable: true), skipBytes(end, nullable: true) else { return false }
        guard let headers = varint(), headers >= 0, headers <= Int64(end - min(position, end)) else { return false }
        for _ in 0..<headers {
            guard skipBytes(end, nullable: false), skipBytes(end, nullable: true) else { return false }
        }
        return position == end
    }

    private mutating func skipBytes(_ end: Int, nullable: Bool) -> Bool {
        guard let length = varint() else { return false }
        if length == -1 { return nullable }
        guard length >= 0, position <= end, length <= Int64(end - position) else { return false }
        position += Int(length)
        return true
    }

    /// A zigzag varint of at most 64 bits.
    private mutating func varint() -> Int64? {
        var value: UInt64 = 0
        var shift: UInt64 = 0
        while position < bytes.count, shift < 64 {
            let byte = bytes[position]
            position += 1
            value |= UInt64(byte & 0x7F) << shift
            if byte < 0x80 { return Int64(bitPattern: value >> 1) ^ -Int64(bitPattern: value & 1) }
            shift += 7
        }
        return nil
    }
}
