internal import WeirBase

/// Where in a segment's bytes an offset or a timestamp is, to within ``intervalBytes``: one entry at least every so many bytes.
///
/// It is derived from the segment, and kept in a file of its own once the segment is closed (``LogSegment/sealed()``).
struct SegmentIndex: Equatable {
    struct Entry: Equatable {
        /// Of the batch at ``position``, from the segment's base offset.
        var offsetDelta: UInt32
        var position: UInt32
        /// The largest timestamp of the batches before; `Int64.min` at the first.
        var maxTimestampBefore: Int64
    }

    static let intervalBytes = 4_096

    private(set) var entries: [Entry] = []
    /// The largest timestamp in the segment, ms; -1 where it has no batch with one.
    private(set) var maxTimestamp: Int64 = -1
    /// The position of the first batch with ``maxTimestamp``.
    private(set) var maxTimestampPosition = 0
    /// The largest timestamp of the first batch, by which a segment ages; nil in an empty segment.
    private(set) var firstTimestamp: Int64?

    init() {}

    /// What a file held; nil where it contradicts itself.
    init?(entries: [Entry], maxTimestamp: Int64, maxTimestampPosition: Int, firstTimestamp: Int64?) {
        let pairs = zip(entries, entries.dropFirst())
        guard
            pairs.allSatisfy({ before, after in
                before.offsetDelta < after.offsetDelta && before.position < after.position && before.maxTimestampBefore <= after.maxTimestampBefore
            })
        else { return nil }
        self.entries = entries
        self.maxTimestamp = maxTimestamp
        self.maxTimestampPosition = maxTimestampPosition
        self.firstTimestamp = firstTimestamp
    }

    /// Takes in the batch that was appended at a position. Batches come in order.
    mutating func add(offsetDelta: Int64, position: Int, maxTimestamp timestamp: Int64) {
        precondition(position <= UInt32.max && offsetDelta <= UInt32.max, "a segment too large for its index")
        if entries.last.map({ position - Int($0.position) >= Self.intervalBytes }) ?? true {
            entries.append(
                Entry(
                    offsetDelta: UInt32(offsetDelta), position: UInt32(position), maxTimestampBefore: firstTimestamp == nil ? .min : maxTimestamp))
        }
        if firstTimestamp == nil { firstTimestamp = timestamp }
        if timestamp > maxTimestamp {
            maxTimestamp = timestamp
            maxTimestampPosition = position
        }
    }

    /// The position of a batch at or before the one that holds an offset, and less than an interval and a batch away.
    ///
    /// - Complexity: O(log n).
    func position(ofOffsetDelta delta: Int64) -> Int {
        let after = partition { $0.offsetDelta > delta }
        return after == 0 ? 0 : Int(entries[after - 1].position)
    }

    /// The position from which to look for the first batch whose largest timestamp is at or after a time.
    ///
    /// - Complexity: O(log n).
    func position(ofTimestamp timestamp: Int64) -> Int {
        let after = partition { $0.maxTimestampBefore >= timestamp }
        return after == 0 ? 0 : Int(entries[after - 1].position)
    }

    /// The first entry for which a condition holds that, once true, stays true; `entries.count` where it never does.
    private func partition(_ condition: (Entry) -> Bool) -> Int {
        var low = 0
        var high = entries.count
        while low < high {
            let middle = (low + high) / 2
            if condition(entries[middle]) { high = middle } else { low = middle + 1 }
        }
        return low
    }
}

/// What is kept about a closed segment: enough to use it without reading it again.
///
/// In a file, all integers little-endian (proto-docs/broker-log.md):
///
///     | magic "WRIX": u32 | version: u16 | zero: u16 | base offset: i64 | end offset: i64 | segment bytes: u64 |
///     | max timestamp: i64 | position of it: u32 | first timestamp: i64 | entries: u32 | aborted: u32 |
///     entries times | offset delta: u32 | position: u32 | max timestamp before: i64 |
///     aborted times | producer id: i64 | first offset: i64 | marker offset: i64 | last stable offset: i64 |
///     | CRC-32C of all before: u32 |
struct SealedSegment: Equatable {
    static let magic: UInt32 = 0x5849_5257
    static let version: UInt16 = 1

    var baseOffset: Int64
    var endOffset: Int64
    var segmentBytes: Int
    var index: SegmentIndex
    var aborted: [AbortedTransaction]

    func encoded() -> [UInt8] {
        var writer = ByteWriter(capacity: 80 + index.entries.count * 16 + aborted.count * 32)
        writer.writeU32(Self.magic)
        writer.writeU16(Self.version)
        writer.writeU16(0)
        writer.writeI64(baseOffset)
        writer.writeI64(endOffset)
        writer.writeU64(UInt64(segmentBytes))
        writer.writeI64(index.maxTimestamp)
        writer.writeU32(UInt32(index.maxTimestampPosition))
        writer.writeI64(index.firstTimestamp ?? -1)
        writer.writeU32(UInt32(index.entries.count))
        writer.writeU32(UInt32(aborted.count))
        for entry in index.entries {
            writer.writeU32(entry.offsetDelta)
            writer.writeU32(entry.position)
            writer.writeI64(entry.maxTimestampBefore)
        }
        for transaction in aborted { transaction.encode(to: &writer) }
        writer.appendChecksum()
        return writer.finish()
    }

    /// - Returns: nil for bytes that ``encoded()`` did not write: the segment is then read to build its index anew.
    init?(decoding bytes: [UInt8]) {
        let decoded = bytes.withUnsafeBytes { bytes -> SealedSegment? in
            guard var reader = checkedReader(bytes, magic: Self.magic, version: Self.version) else { return nil }
            return try? SealedSegment(from: &reader)
        }
        guard let decoded else { return nil }
        self = decoded
    }

    private init?(from reader: inout ByteReader) throws(DecodingFailure) {
        let baseOffset = try reader.readI64()
        let endOffset = try reader.readI64()
        let segmentBytes = try reader.readU64()
        let maxTimestamp = try reader.readI64()
        let maxTimestampPosition = Int(try reader.readU32())
        let firstTimestamp = try reader.readI64()
        let entryCount = Int(try reader.readU32())
        let abortedCount = Int(try reader.readU32())
        guard reader.remaining == entryCount * 16 + abortedCount * 32, baseOffset >= 0, endOffset >= baseOffset, segmentBytes <= UInt64(UInt32.max)
        else { return nil }
        var entries: [SegmentIndex.Entry] = []
        entries.reserveCapacity(entryCount)
        for _ in 0..<entryCount {
            entries.append(
                .init(offsetDelta: try reader.readU32(), position: try reader.readU32(), maxTimestampBefore: try reader.readI64()))
        }
        var aborted: [AbortedTransaction] = []
        for _ in 0..<abortedCount { aborted.append(try AbortedTransaction(from: &reader)) }
        guard
            let index = SegmentIndex(
                entries: entries, maxTimestamp: maxTimestamp, maxTimestampPosition: maxTimestampPosition,
                firstTimestamp: segmentBytes == 0 ? nil : firstTimestamp),
            entries.allSatisfy({ UInt64($0.position) < segmentBytes }), UInt64(maxTimestampPosition) <= segmentBytes
        else { return nil }
        self.init(baseOffset: baseOffset, endOffset: endOffset, segmentBytes: Int(segmentBytes), index: index, aborted: aborted)
    }

    init(baseOffset: Int64, endOffset: Int64, segmentBytes: Int, index: SegmentIndex, aborted: [AbortedTransaction]) {
        self.baseOffset = baseOffset
        self.endOffset = endOffset
        self.segmentBytes = segmentBytes
        self.index = index
        self.aborted = aborted
    }
}

extension ByteWriter {
    /// The CRC-32C of everything written so far.
    mutating func appendChecksum() { writeU32(withBytes { crc32c($0) }) }
}

/// A reader past the header `| magic: u32 | version: u16 | zero: u16 |` and without the checksum at the end; nil where any of them is wrong.
func checkedReader(_ bytes: UnsafeRawBufferPointer, magic: UInt32, version: UInt16) -> ByteReader? {
    guard bytes.count >= 12 else { return nil }
    let body = UnsafeRawBufferPointer(rebasing: bytes[..<(bytes.count - 4)])
    let checksum = UInt32(littleEndian: bytes.loadUnaligned(fromByteOffset: bytes.count - 4, as: UInt32.self))
    guard crc32c(body) == checksum else { return nil }
    var reader = ByteReader(body)
    guard (try? reader.readU32()) == magic, (try? reader.readU16()) == version, (try? reader.readU16()) == 0 else { return nil }
    return reader
}
