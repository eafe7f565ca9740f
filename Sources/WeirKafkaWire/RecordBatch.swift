package import WeirBase

/// The header of a record batch, format 2 (KIP-98), 61 bytes, big-endian.
///
///     | base offset: i64 | batch length: i32 | partition leader epoch: i32 | magic: i8 = 2 | crc: u32 | attributes: i16 |
///     | last offset delta: i32 | base timestamp: i64 | max timestamp: i64 | producer id: i64 | producer epoch: i16 |
///     | base sequence: i32 | records: i32 | … records, compressed or not |
///
/// The length counts what follows it; the CRC-32C covers what follows it, from the attributes on. So base offset and leader epoch, which
/// the broker sets, are outside of both.
package struct RecordBatchHeader: Sendable, Equatable {
    package static let bytes = 61
    /// Bytes before what the length counts.
    package static let lengthPrefixBytes = 12
    static let leaderEpochOffset = 12
    static let magicOffset = 16
    static let crcOffset = 17
    static let attributesOffset = 21
    static let lastOffsetDeltaOffset = 23
    static let baseTimestampOffset = 27
    static let maxTimestampOffset = 35
    static let producerIDOffset = 43
    static let producerEpochOffset = 51
    static let baseSequenceOffset = 53
    static let recordCountOffset = 57

    package var baseOffset: Int64
    /// Bytes of the whole batch, header and length included.
    package var totalBytes: Int
    package var partitionLeaderEpoch: Int32
    package var crc: UInt32
    package var attributes: Int16
    package var lastOffsetDelta: Int32
    package var baseTimestamp: Int64
    package var maxTimestamp: Int64
    /// -1 without idempotence.
    package var producerID: Int64
    package var producerEpoch: Int16
    package var baseSequence: Int32
    package var recordCount: Int32

    package var lastOffset: Int64 { baseOffset + Int64(lastOffsetDelta) }
    /// The sequence number of the last record; sequences wrap after `Int32.max` to 0.
    package var lastSequence: Int32 { Self.sequence(baseSequence, plus: lastOffsetDelta) }
    /// 0 none, 1 gzip, 2 snappy, 3 lz4, 4 zstd.
    package var codec: Int16 { attributes & 7 }
    /// Whether the timestamps are the broker's (LogAppendTime).
    package var isLogAppendTime: Bool { attributes & 8 != 0 }
    package var isTransactional: Bool { attributes & 16 != 0 }
    package var isControl: Bool { attributes & 32 != 0 }
    package var hasProducerID: Bool { producerID >= 0 }

    /// The sequence number `delta` after another.
    package static func sequence(_ base: Int32, plus delta: Int32) -> Int32 {
        guard base >= 0 else { return base }
        return Int32((Int64(base) + Int64(delta)) % (Int64(Int32.max) + 1))
    }

    /// Reads the header of the batch at an offset and checks its length, magic and counts, not its CRC.
    ///
    /// - Throws: ``DecodingFailure`` when fewer bytes are left than the batch has, or what is there is no batch of format 2.
    package init(_ bytes: KafkaBytes, at offset: Int = 0) throws(DecodingFailure) {
        try self.init(ofPartial: bytes, at: offset)
        guard totalBytes <= bytes.count - offset else {
            throw DecodingFailure(
                "a record batch of length \(totalBytes - Self.lengthPrefixBytes) in \(bytes.count - offset) bytes", offset: offset + 8)
        }
    }

    /// Reads the header of a batch whose end may not be there yet: of one that is read in pieces.
    ///
    /// - Throws: ``DecodingFailure`` when fewer bytes are left than a header has, or what is there is no batch of format 2.
    package init(ofPartial bytes: KafkaBytes, at offset: Int) throws(DecodingFailure) {
        guard offset >= 0, bytes.count - offset >= Self.bytes else {
            throw DecodingFailure("a record batch of \(bytes.count - offset) bytes: its header has \(Self.bytes)", offset: offset)
        }
        let length: Int32 = bytes.load(at: offset + 8)
        let magic: Int8 = bytes.load(at: offset + Self.magicOffset)
        guard magic == 2 else { throw DecodingFailure("records of format \(magic); only format 2 is supported", offset: offset + Self.magicOffset) }
        guard length >= Self.bytes - Self.lengthPrefixBytes else {
            throw DecodingFailure("a record batch of length \(length)", offset: offset + 8)
        }
        baseOffset = bytes.load(at: offset)
        totalBytes = Int(length) + Self.lengthPrefixBytes
        partitionLeaderEpoch = bytes.load(at: offset + Self.leaderEpochOffset)
        crc = bytes.load(at: offset + Self.crcOffset)
        attributes = bytes.load(at: offset + Self.attributesOffset)
        lastOffsetDelta = bytes.load(at: offset + Self.lastOffsetDeltaOffset)
        baseTimestamp = bytes.load(at: offset + Self.baseTimestampOffset)
        maxTimestamp = bytes.load(at: offset + Self.maxTimestampOffset)
        producerID = bytes.load(at: offset + Self.producerIDOffset)
        producerEpoch = bytes.load(at: offset + Self.producerEpochOffset)
        baseSequence = bytes.load(at: offset + Self.baseSequenceOffset)
        recordCount = bytes.load(at: offset + Self.recordCountOffset)
        guard recordCount >= 0, lastOffsetDelta >= 0 else {
            throw DecodingFailure("a record batch of \(recordCount) records, last offset delta \(lastOffsetDelta)", offset: offset)
        }
    }
}

/// Operations on the bytes of a batch.
package enum RecordBatch {
    /// Whether the CRC-32C of the batch at an offset is right; the header has been read from there.
    package static func hasValidCRC(_ header: RecordBatchHeader, in bytes: KafkaBytes, at offset: Int = 0) -> Bool {
        let covered = bytes.slice(
            from: offset + RecordBatchHeader.attributesOffset, count: header.totalBytes - RecordBatchHeader.attributesOffset)
        return covered.withUnsafeBytes { crc32c($0) } == header.crc
    }

    /// Writes what the broker decides into the batch at an offset: neither is covered by the CRC.
    package static func assign(baseOffset: Int64, leaderEpoch: Int32, in bytes: KafkaBytes, at offset: Int = 0) {
        bytes.store(baseOffset, at: offset)
        bytes.store(leaderEpoch, at: offset + RecordBatchHeader.leaderEpochOffset)
    }

    /// Makes the batch at an offset one of LogAppendTime: attribute, max timestamp and CRC.
    package static func setLogAppendTime(_ milliseconds: Int64, in bytes: KafkaBytes, at offset: Int = 0) throws(DecodingFailure) {
        let header = try RecordBatchHeader(bytes, at: offset)
        bytes.store(header.attributes | 8, at: offset + RecordBatchHeader.attributesOffset)
        bytes.store(milliseconds, at: offset + RecordBatchHeader.maxTimestampOffset)
        seal(bytes.slice(from: offset, count: header.totalBytes))
    }

    /// Computes the CRC of a whole batch and writes it.
    private static func seal(_ batch: KafkaBytes) {
        let crc = batch.slice(from: RecordBatchHeader.attributesOffset).withUnsafeBytes { crc32c($0) }
        batch.store(crc, at: RecordBatchHeader.crcOffset)
    }

    /// The control batch that ends a producer's transaction in a partition.
    ///
    /// Its one record has the key `| version: i16 = 0 | type: i16 (0 abort, 1 commit) |` and the value
    /// `| version: i16 = 0 | coordinator epoch: i32 |`.
    package static func marker(
        commit: Bool, producerID: Int64, producerEpoch: Int16, coordinatorEpoch: Int32, timestamp: Int64, baseOffset: Int64 = 0,
        leaderEpoch: Int32 = 0
    ) -> KafkaBytes {
        var key = MessageWriter(capacity: 4)
        key.integer(Int16(0))
        key.integer(Int16(commit ? 1 : 0))
        var value = MessageWriter(capacity: 6)
        value.integer(Int16(0))
        value.integer(coordinatorEpoch)
        let batch = build(
            [BatchRecord(key: key.finish()[0], value: value.finish()[0], timestamp: timestamp)], attributes: 16 | 32, producerID: producerID,
            producerEpoch: producerEpoch, baseSequence: -1)
        assign(baseOffset: baseOffset, leaderEpoch: leaderEpoch, in: batch)
        return batch
    }

    /// An uncompressed batch of records, at least one.
    package static func build(
        _ records: [BatchRecord], attributes: Int16 = 0, producerID: Int64 = -1, producerEpoch: Int16 = -1, baseSequence: Int32 = -1
    ) -> KafkaBytes {
        precondition(!records.isEmpty, "a batch has at least one record")
        precondition(attributes & 7 == 0, "compressed batches come from clients")
        let baseTimestamp = records[0].timestamp
        var body = MessageWriter(capacity: 512)
        for (index, record) in records.enumerated() { record.encode(to: &body, offsetDelta: index, baseTimestamp: baseTimestamp) }
        var writer = MessageWriter(capacity: RecordBatchHeader.bytes + body.count)
        writer.integer(Int64(0))
        writer.integer(Int32(RecordBatchHeader.bytes - RecordBatchHeader.lengthPrefixBytes + body.count))
        writer.integer(Int32(-1))
        writer.integer(Int8(2))
        writer.integer(UInt32(0))
        writer.integer(attributes)
        writer.integer(Int32(records.count - 1))
        writer.integer(baseTimestamp)
        writer.integer(records.map(\.timestamp).max() ?? baseTimestamp)
        writer.integer(producerID)
        writer.integer(producerEpoch)
        writer.integer(baseSequence)
        writer.integer(Int32(records.count))
        for piece in body.finish() { piece.withUnsafeBytes { writer.raw($0) } }
        let batch = writer.finish()[0]
        seal(batch)
        return batch
    }

    /// Reads the records of an uncompressed batch, one after the other.
    ///
    /// - Throws: ``DecodingFailure`` at the first record that is none; those before it were handed over.
    package static func forEachRecord(
        _ header: RecordBatchHeader, in bytes: KafkaBytes, at offset: Int = 0, _ body: (BatchRecord, _ offset: Int64) throws(DecodingFailure) -> Void
    ) throws(DecodingFailure) {
        guard header.codec == 0 else { throw DecodingFailure("the batch is compressed with codec \(header.codec)", offset: offset) }
        try forEachRecord(
            header, records: bytes.slice(from: offset + RecordBatchHeader.bytes, count: header.totalBytes - RecordBatchHeader.bytes), body)
    }

    /// The same with the batch's records apart from it: of a compressed batch, decompressed.
    package static func forEachRecord(
        _ header: RecordBatchHeader, records: KafkaBytes, _ body: (BatchRecord, _ offset: Int64) throws(DecodingFailure) -> Void
    ) throws(DecodingFailure) {
        var reader = MessageReader(records)
        for _ in 0..<header.recordCount {
            let (record, delta) = try BatchRecord.decode(&reader, header)
            try body(record, header.baseOffset + delta)
        }
        try reader.expectEnd()
    }
}

/// A record of a batch.
package struct BatchRecord: Sendable, Equatable {
    package var key: KafkaBytes?
    package var value: KafkaBytes?
    /// Milliseconds since 1970.
    package var timestamp: Int64
    package var headers: [(name: String, value: KafkaBytes?)]

    package init(key: KafkaBytes? = nil, value: KafkaBytes?, timestamp: Int64, headers: [(name: String, value: KafkaBytes?)] = []) {
        self.key = key
        self.value = value
        self.timestamp = timestamp
        self.headers = headers
    }

    package static func == (left: BatchRecord, right: BatchRecord) -> Bool {
        left.key == right.key && left.value == right.value && left.timestamp == right.timestamp
            && left.headers.elementsEqual(right.headers) { $0.name == $1.name && $0.value == $1.value }
    }

    /// `| length | attributes: i8 | timestamp delta | offset delta | key | value | headers |`, lengths and deltas as zigzag varints.
    fileprivate func encode(to writer: inout MessageWriter, offsetDelta: Int, baseTimestamp: Int64) {
        var body = MessageWriter()
        body.integer(Int8(0))
        body.varint(timestamp - baseTimestamp)
        body.varint(Int64(offsetDelta))
        Self.write(key, to: &body)
        Self.write(value, to: &body)
        body.varint(Int64(headers.count))
        for header in headers {
            var name = header.name
            body.varint(Int64(name.utf8.count))
            name.withUTF8 { body.raw(UnsafeRawBufferPointer($0)) }
            Self.write(header.value, to: &body)
        }
        writer.varint(Int64(body.count))
        for piece in body.finish() { writer.raw(piece) }
    }

    private static func write(_ bytes: KafkaBytes?, to writer: inout MessageWriter) {
        writer.varint(Int64(bytes?.count ?? -1))
        if let bytes { writer.raw(bytes) }
    }

    fileprivate static func decode(
        _ reader: inout MessageReader, _ header: RecordBatchHeader
    ) throws(DecodingFailure) -> (record: BatchRecord, offsetDelta: Int64) {
        var inner = MessageReader(try reader.take(try length(&reader) ?? 0))
        _ = try inner.integer(Int8.self)
        let timestampDelta = try inner.varint()
        let offsetDelta = try inner.varint()
        let key = try readBytes(&inner)
        let value = try readBytes(&inner)
        let count = try inner.varint()
        guard count >= 0, count <= inner.remaining else { throw DecodingFailure("\(count) headers", offset: inner.position) }
        var headers: [(name: String, value: KafkaBytes?)] = []
        for _ in 0..<count {
            let name = try readBytes(&inner) ?? .empty
            headers.append((String(decoding: name.array, as: UTF8.self), try readBytes(&inner)))
        }
        try inner.expectEnd()
        let timestamp = header.isLogAppendTime ? header.maxTimestamp : header.baseTimestamp &+ timestampDelta
        return (BatchRecord(key: key, value: value, timestamp: timestamp, headers: headers), offsetDelta)
    }

    private static func length(_ reader: inout MessageReader) throws(DecodingFailure) -> Int? {
        let length = try reader.varint()
        guard length >= -1, length <= Int64(reader.remaining) else { throw DecodingFailure("a length of \(length)", offset: reader.position) }
        return length == -1 ? nil : Int(length)
    }

    private static func readBytes(_ reader: inout MessageReader) throws(DecodingFailure) -> KafkaBytes? {
        guard let length = try length(&reader) else { return nil }
        return try reader.take(length)
    }
}
