internal import WeirBase

/// The binary form of keyed state, version 2 of proto-docs/checkpoint-format.md; all integers are little-endian. Version 1 is read, too.
///
/// Header, 32 bytes:
///
///     | magic "WEIRKSTA": 8 bytes | version: u16 = 2 | kind: u8 | reserved: u8 = 0 | header crc: u32 |
///     | schema fingerprint: u64   | rows: u64 |
///
/// `kind` is 1 for a table, 2 for a table a namespace (windows), 3 for timers. The header crc is CRC-32C of the 12 bytes before
/// it, then of the 16 bytes after it.
///
/// The schema, which version 1 does not have:
///
///     | text bytes: u32 | crc of the 4 bytes before it and the text: u32 | text |
///
/// Blocks of rows, each with a header of 20 bytes:
///
///     | payload bytes: u32 | rows: u32 | namespace: i64 | crc: u32 | payload |
///
/// The crc is CRC-32C of the 16 bytes before it, then of the payload. The namespace is 0 but for kind 2. The last block has
/// no payload and no rows. The rows of all blocks add up to those of the header.
///
/// A row:
///
///     | hash: u64 | key bytes: varint | key | value in its binary form |
///
/// The value of a timer is `| namespace: i64 | time: i64 |`. The hash is `KeyHash` of the key: it decides the row's key group, so
/// that a part can be read by any subtask, which takes the rows of its own key groups and leaves the rest.
@usableFromInline
enum StateFormat {
    static let magic: [UInt8] = Array("WEIRKSTA".utf8)
    static let version: UInt16 = 2
    static let headerBytes = 32
    /// A text of more is refused.
    static let schemaBytesMax = 1 << 20
    static let blockHeaderBytes = 20
    /// A block is closed when its payload reaches this.
    static let blockBytes = 65_536
    static let rowBytesMin = 9

    enum Kind: UInt8 {
        case table = 1
        case windows = 2
        case timers = 3
    }

    static func headerCRC(_ header: UnsafeRawBufferPointer) -> UInt32 {
        let first = crc32c(UnsafeRawBufferPointer(rebasing: header[0..<12]))
        return crc32c(UnsafeRawBufferPointer(rebasing: header[16..<32]), seed: first)
    }
}

/// Writes a header and blocks of rows.
struct StateBlockWriter {
    private var block = ByteWriter(capacity: StateFormat.blockBytes + 4_096)
    private var rows: UInt32 = 0
    private var namespace: Int64 = 0

    /// - Parameter expectedBytes: About what will be written: room for it is made at once, because growing copies.
    init(kind: StateFormat.Kind, schema: Schema, rows: Int, expectedBytes: Int = 0, into writer: inout ByteWriter) {
        let start = writer.count
        _ = writer.reserve(expectedBytes + StateFormat.headerBytes + 2 * StateFormat.blockHeaderBytes)
        writer.truncate(to: start)
        Self.writeHeader(kind: kind, schema: schema, rows: rows, into: &writer)
    }

    /// Writes blocks behind a header that is there already, or will be put in front.
    init(namespace: Int64) { self.namespace = namespace }

    static func writeHeader(kind: StateFormat.Kind, schema: Schema, rows: Int, into writer: inout ByteWriter) {
        var header = ByteWriter(capacity: StateFormat.headerBytes)
        header.writeBytes(StateFormat.magic)
        header.writeU16(StateFormat.version)
        header.writeU8(kind.rawValue)
        header.writeU8(0)
        header.writeU32(0)
        header.writeU64(schema.fingerprint)
        header.writeU64(UInt64(rows))
        header.patchU32(header.withBytes { StateFormat.headerCRC($0) }, at: 12)
        header.withBytes { writer.writeBytes($0) }
        let text = Array(schema.canonical.utf8)
        var described = ByteWriter(capacity: 8 + text.count)
        described.writeU32(UInt32(text.count))
        let first = described.withBytes { crc32c($0) }
        described.writeU32(text.withUnsafeBytes { crc32c($0, seed: first) })
        described.writeBytes(text)
        described.withBytes { writer.writeBytes($0) }
    }

    mutating func begin(namespace: Int64, into writer: inout ByteWriter) {
        flush(into: &writer)
        self.namespace = namespace
    }

    @inline(__always)
    mutating func row(hash: UInt64, key: UnsafeRawBufferPointer, into writer: inout ByteWriter, value: (inout ByteWriter) -> Void) {
        block.writeU64(hash)
        block.writeVarint(UInt64(key.count))
        block.writeBytes(key)
        value(&block)
        rows += 1
        if block.count >= StateFormat.blockBytes { flush(into: &writer) }
    }

    /// Closes the block at hand.
    mutating func flush(into writer: inout ByteWriter) {
        if rows > 0 { writeBlock(into: &writer) }
    }

    mutating func finish(into writer: inout ByteWriter) {
        flush(into: &writer)
        namespace = 0
        writeBlock(into: &writer)
    }

    private mutating func writeBlock(into writer: inout ByteWriter) {
        precondition(block.count <= UInt32.max, "a state value of more than 4 GiB")
        var header = ByteWriter(capacity: StateFormat.blockHeaderBytes)
        header.writeU32(UInt32(block.count))
        header.writeU32(rows)
        header.writeI64(namespace)
        let first = header.withBytes { crc32c($0) }
        header.writeU32(block.withBytes { crc32c($0, seed: first) })
        header.withBytes { writer.writeBytes($0) }
        block.withBytes { writer.writeBytes($0) }
        block.removeAll()
        rows = 0
    }
}

/// Reads what ``StateBlockWriter`` wrote and lends row by row; whatever is damaged throws.
struct StateBlockReader {
    let rows: UInt64
    let fingerprint: UInt64
    /// What the values were written with; nil in version 1.
    let schema: Schema?

    init(expecting kind: StateFormat.Kind, from reader: inout ByteReader) throws(DecodingFailure) {
        let start = reader.position
        let header = try reader.readBytes(StateFormat.headerBytes)
        guard header.prefix(8).elementsEqual(StateFormat.magic) else { throw DecodingFailure("no keyed state: wrong magic", offset: start) }
        var fields = ByteReader(UnsafeRawBufferPointer(rebasing: header[8...]))
        let version = try fields.readU16()
        let kindByte = try fields.readU8()
        _ = try fields.readU8()
        let crc = try fields.readU32()
        fingerprint = try fields.readU64()
        rows = try fields.readU64()
        guard crc == StateFormat.headerCRC(header) else { throw DecodingFailure("keyed state: damaged header", offset: start) }
        guard (1...StateFormat.version).contains(version) else {
            throw DecodingFailure(
                "keyed state of format version \(version); this build reads versions 1 to \(StateFormat.version)", offset: start + 8)
        }
        guard let found = StateFormat.Kind(rawValue: kindByte), found == kind else {
            throw DecodingFailure("keyed state of kind \(kindByte), expected \(kind.rawValue) (\(kind))", offset: start + 10)
        }
        schema = version == 1 ? nil : try Self.readSchema(from: &reader)
        guard schema?.fingerprint ?? fingerprint == fingerprint else {
            throw DecodingFailure("keyed state: its schema is not the one of its fingerprint", offset: start + 16)
        }
    }

    private static func readSchema(from reader: inout ByteReader) throws(DecodingFailure) -> Schema {
        let start = reader.position
        let count = try reader.readBytes(4)
        let bytes = Int(UInt32(littleEndian: count.loadUnaligned(as: UInt32.self)))
        let crc = try reader.readU32()
        guard bytes <= StateFormat.schemaBytesMax else { throw DecodingFailure("keyed state: a schema of \(bytes) bytes", offset: start) }
        let text = try reader.readBytes(bytes)
        guard crc == crc32c(text, seed: crc32c(count)) else { throw DecodingFailure("keyed state: a schema with a wrong checksum", offset: start) }
        return try Schema(canonical: String(decoding: text, as: UTF8.self))
    }

    /// - Parameter row: Gets namespace, hash, key, and a reader at the row's value, which it must read to its end.
    func forEachRow(
        from reader: inout ByteReader,
        _ row: (Int64, UInt64, UnsafeRawBufferPointer, inout ByteReader) throws(DecodingFailure) -> Void
    ) throws(DecodingFailure) {
        var seen: UInt64 = 0
        while true {
            let start = reader.position
            let header = try reader.readBytes(16)
            let crc = try reader.readU32()
            var fields = ByteReader(header)
            let payloadBytes = Int(try fields.readU32())
            let blockRows = try fields.readU32()
            let namespace = try fields.readI64()
            let payload = try reader.readBytes(payloadBytes)
            guard crc == crc32c(payload, seed: crc32c(header)) else {
                throw DecodingFailure("keyed state: a block with a wrong checksum", offset: start)
            }
            guard blockRows > 0 else {
                guard payloadBytes == 0 else { throw DecodingFailure("keyed state: a block of no rows with a payload", offset: start) }
                guard seen == rows else { throw DecodingFailure("keyed state: \(seen) rows, \(rows) expected", offset: start) }
                return
            }
            var values = ByteReader(payload)
            do throws(DecodingFailure) {
                for _ in 0..<blockRows {
                    let hash = try values.readU64()
                    let key = try values.readBytes(try values.readCount())
                    try row(namespace, hash, key, &values)
                }
                try values.expectEnd()
            } catch {
                throw DecodingFailure("keyed state: \(error.message)", offset: start + StateFormat.blockHeaderBytes + error.offset)
            }
            seen += UInt64(blockRows)
        }
    }
}
