public import WeirBase

/// Turns batches of one row type into frames of bytes and back.
///
/// The body of a batch frame, all integers little-endian:
///
///     | rows: u32 | timestamps: u8 | row 0 | row 1 | ... | timestamp column |
///
/// Rows are in their own binary coding, back to back. `timestamps` says what the column holds: 0 nothing (no row has event time), 1 one i64
/// which all rows share, 2 one i64 a row. Key hashes do not travel: the receiver's keyed operator computes them.
public struct BatchCodec: Sendable {
    /// A frame is closed before it would grow past this; only a single row that is larger makes a larger frame.
    public static let frameBytesTarget = 32 * 1024
    /// The largest row that can travel.
    public static let rowBytesMax = 16 * 1024 * 1024
    /// The most rows a frame is believed to have, whatever it says: rows may be of no bytes at all.
    public static let frameRowsMax = 65_536

    @usableFromInline static let headerBytes = 5

    /// Writes rows from the given one on while they fit into so many bytes, at least one; returns the row behind the last written.
    @usableFromInline let encodeRows: @Sendable (_ batch: AnyBatch, _ from: Int, _ writer: inout ByteWriter, _ limit: Int) -> Int
    /// Reads so many rows into a new batch. Their timestamps are not set.
    @usableFromInline let decodeRows: @Sendable (_ reader: inout ByteReader, _ rows: Int) throws(DecodingFailure) -> AnyBatch

    /// - Important: Call it where `Row` is concrete: the loops are specialised there.
    @inlinable
    @inline(__always)
    public init<Row: BinaryCodable>(_: Row.Type) {
        let pool = BatchPool<Row>()
        encodeRows = { batch, from, writer, limit in
            let rows = unsafeDowncast(batch, to: Batch<Row>.self).rows
            let count = min(batch.count, from &+ BatchCodec.frameRowsMax)
            var row = from
            while row < count {
                let mark = writer.count
                rows[row].encode(into: &writer)
                // Each row takes up to eight bytes more in the timestamp column.
                if writer.count &+ 8 &* (row &- from &+ 1) > limit, row > from {
                    writer.truncate(to: mark)
                    break
                }
                row &+= 1
            }
            return row
        }
        decodeRows = { (reader: inout ByteReader, rows: Int) throws(DecodingFailure) -> AnyBatch in
            let batch = rows <= pool.capacity ? pool.take() : Batch<Row>(capacity: rows)
            let base = batch.rows
            for row in 0..<rows {
                (base + row).initialize(to: try Row(from: &reader))
                batch.count = row &+ 1  // So that a damaged row leaves a batch that can be freed.
            }
            return batch
        }
    }

    /// Writes the body of one frame behind what `writer` holds.
    ///
    /// - Parameter limit: Bytes that `writer` may hold altogether, unless the first row alone takes more.
    /// - Returns: The row behind the last written.
    package func encode(_ batch: AnyBatch, from: Int, into writer: inout ByteWriter, limit: Int) -> Int {
        let start = writer.count
        writer.writeU32(0)
        writer.writeU8(0)
        let end = encodeRows(batch, from, &writer, limit)
        writer.patchU32(UInt32(end - from), at: start)
        let timestamps = UnsafeBufferPointer(start: batch.timestamps + from, count: end - from)
        let first = timestamps.first ?? AnyBatch.noTimestamp
        var differing: Int64 = 0
        for timestamp in timestamps { differing |= timestamp ^ first }
        if differing != 0 {
            Self.patchU8(2, at: start + 4, in: &writer)
            let column = writer.reserve(timestamps.count * 8)
            for (row, timestamp) in timestamps.enumerated() {
                column.storeBytes(of: timestamp.littleEndian, toByteOffset: row * 8, as: Int64.self)
            }
        } else if first != AnyBatch.noTimestamp {
            Self.patchU8(1, at: start + 4, in: &writer)
            writer.writeI64(first)
        }
        return end
    }

    /// Reads the body of one frame, all of it.
    ///
    /// - Throws: `DecodingFailure` for any bytes that ``encode(_:from:into:limit:)`` cannot have written; nothing is kept then.
    package func decode(_ reader: inout ByteReader) throws(DecodingFailure) -> AnyBatch {
        let start = reader.position
        let rows = Int(try reader.readU32())
        guard (1...Self.frameRowsMax).contains(rows) else { throw DecodingFailure("a batch of \(rows) rows", offset: start) }
        let form = try reader.readU8()
        guard form <= 2 else { throw DecodingFailure("an unknown form of timestamps, \(form)", offset: start + 4) }
        let batch = try decodeRows(&reader, rows)
        switch form {
        case 0: batch.timestamps.update(repeating: AnyBatch.noTimestamp, count: rows)
        case 1: batch.timestamps.update(repeating: try reader.readI64(), count: rows)
        default:
            let column = try reader.readBytes(rows * 8)
            for row in 0..<rows {
                batch.timestamps[row] = Int64(littleEndian: column.loadUnaligned(fromByteOffset: row * 8, as: Int64.self))
            }
        }
        try reader.expectEnd()
        return batch
    }

    private static func patchU8(_ value: UInt8, at offset: Int, in writer: inout ByteWriter) {
        let end = writer.count
        writer.truncate(to: offset)
        writer.writeU8(value)
        _ = writer.reserve(end - offset - 1)  // The bytes behind are still there.
    }
}
