package import WeirBase

/// The head of a container file of the specification: the schema of its rows, how its blocks are compressed, and what stands behind each.
///
///     | 'O' 'b' 'j' 01 | metadata: a map of bytes | sync marker: 16 bytes |
///
/// The metadata has `avro.schema`, the text of the schema, and `avro.codec`; without the latter blocks are not compressed.
package struct AvroContainerHeader: Sendable {
    /// Bytes of a header, at most.
    package static let bytesMax = AvroSchema.textBytesMax + 1 << 20
    /// Entries of the metadata, at most.
    package static let entriesMax = 1_000
    private static let magic: [UInt8] = [0x4F, 0x62, 0x6A, 0x01]

    package let schema: AvroSchema
    package let codec: AvroCodec
    /// 16 bytes, random, so that a reader that begins in the middle of a file finds the next block.
    package let syncMarker: [UInt8]
    /// What stands before the first block.
    package let byteCount: Int

    /// - Parameter syncMarker: 16 random bytes.
    package init(schema: AvroSchema, codec: AvroCodec, syncMarker: [UInt8]) {
        precondition(syncMarker.count == 16, "a sync marker has 16 bytes")
        self.schema = schema
        self.codec = codec
        self.syncMarker = syncMarker
        var writer = ByteWriter()
        Self.encode(schema: schema, codec: codec, syncMarker: syncMarker, into: &writer)
        byteCount = writer.count
    }

    private init(schema: AvroSchema, codec: AvroCodec, syncMarker: [UInt8], byteCount: Int) {
        self.schema = schema
        self.codec = codec
        self.syncMarker = syncMarker
        self.byteCount = byteCount
    }

    package func encode(into writer: inout ByteWriter) { Self.encode(schema: schema, codec: codec, syncMarker: syncMarker, into: &writer) }

    private static func encode(schema: AvroSchema, codec: AvroCodec, syncMarker: [UInt8], into writer: inout ByteWriter) {
        writer.writeBytes(magic)
        AvroBinary.writeLong(2, into: &writer)
        for (key, value) in [("avro.codec", codec.rawValue), ("avro.schema", schema.text)] {
            AvroBinary.writeString(key, into: &writer)
            AvroBinary.writeString(value, into: &writer)
        }
        AvroBinary.writeLong(0, into: &writer)
        writer.writeBytes(syncMarker)
    }

    /// Reads the head of a file.
    ///
    /// - Parameter bytes: The file from its start, perhaps only some of it.
    /// - Returns: nil if more of the file is needed.
    /// - Throws: ``FormatFailure`` or ``AvroSchemaFailure`` where it is no container file that can be read.
    package static func parse(_ bytes: UnsafeRawBufferPointer) throws -> AvroContainerHeader? {
        guard bytes.prefix(4).elementsEqual(magic.prefix(bytes.count)) else {
            throw FormatFailure("Avro", .malformed, "no container file: it does not begin with \"Obj\" and 1", offset: 0)
        }
        var cursor = AvroContainerCursor(bytes, position: min(4, bytes.count))
        do {
            return try parse(&cursor)
        } catch AvroContainerCursor.Problem.short {
            guard bytes.count < bytesMax else { throw FormatFailure("Avro", .tooLarge, "a file header of more than \(bytesMax) bytes", offset: 0) }
            return nil
        } catch AvroContainerCursor.Problem.failure(let failure) {
            throw failure
        }
    }

    private static func parse(_ cursor: inout AvroContainerCursor) throws -> AvroContainerHeader {
        var schema: String?
        var codec = "null"
        var entries = 0
        while true {
            var count = try cursor.readLong()
            if count == 0 { break }
            if count < 0 {
                count = count.magnitude > UInt64(entriesMax) ? .max : -count
                _ = try cursor.readLong()
            }
            guard count <= Int64(entriesMax - entries) else { throw cursor.failure(.tooLarge, "more than \(entriesMax) entries of metadata") }
            entries += Int(count)
            for _ in 0..<count {
                let key = try cursor.readBytes(limit: bytesMax)
                let value = String(decoding: try cursor.readBytes(limit: bytesMax), as: UTF8.self)
                if key.elementsEqual("avro.schema".utf8) { schema = value }
                if key.elementsEqual("avro.codec".utf8) { codec = value }
            }
        }
        let syncMarker = [UInt8](try cursor.take(16))
        guard let schema else { throw cursor.failure(.malformed, "a container file without \"avro.schema\"") }
        guard let known = AvroCodec(rawValue: codec) else {
            let names = AvroCodec.allCases.map(\.rawValue).joined(separator: ", ")
            throw cursor.failure(.unknownSchema, "a container file of the codec \"\(codec)\": \(names) can be read")
        }
        return AvroContainerHeader(schema: try AvroSchema(parsing: schema), codec: known, syncMarker: syncMarker, byteCount: cursor.position)
    }
}

/// A block of a container file.
///
///     | rows: long | bytes: long | rows, perhaps compressed | sync marker: 16 bytes |
package struct AvroContainerBlock: Sendable, Equatable {
    /// Bytes of a block as it lies in a file, at most.
    package static let bytesMax = 64 << 20

    package let rows: Int
    /// The rows' bytes, from the start of the block.
    package let payload: Range<Int>
    /// All of the block.
    package let byteCount: Int

    /// - Parameter bytes: The file from the start of a block, perhaps only some of it.
    /// - Returns: nil if more of the file is needed.
    /// - Throws: Where the bytes are no block of the file.
    package static func parse(_ bytes: UnsafeRawBufferPointer, of header: AvroContainerHeader) throws(FormatFailure) -> AvroContainerBlock? {
        var cursor = AvroContainerCursor(bytes, position: 0)
        do throws(AvroContainerCursor.Problem) {
            let rows = try cursor.readLong()
            let count = try cursor.readLong()
            guard rows >= 0, rows <= Int64(Int32.max) else { throw cursor.failure(.malformed, "a block of \(rows) rows") }
            guard count >= 0, count <= Int64(bytesMax) else { throw cursor.failure(.tooLarge, "a block of \(count) bytes, of \(bytesMax) at most") }
            let start = cursor.position
            _ = try cursor.take(Int(count))
            guard try cursor.take(16).elementsEqual(header.syncMarker) else {
                throw cursor.failure(.malformed, "no sync marker behind a block: the file is damaged")
            }
            return AvroContainerBlock(rows: Int(rows), payload: start..<start + Int(count), byteCount: cursor.position)
        } catch {
            switch error {
            case .short: return nil
            case .failure(let failure): throw failure
            }
        }
    }

    /// Finds where a block begins: behind the first sync marker.
    ///
    /// - Returns: The index behind the marker; nil if there is none, and then the last 15 bytes may be the beginning of one.
    package static func start(in bytes: UnsafeRawBufferPointer, of header: AvroContainerHeader) -> Int? {
        guard bytes.count >= 16 else { return nil }
        for index in 0...(bytes.count - 16) where bytes[index] == header.syncMarker[0] {
            if bytes[index..<index + 16].elementsEqual(header.syncMarker) { return index + 16 }
        }
        return nil
    }
}

/// Reads the pieces between the rows of a container file.
private struct AvroContainerCursor {
    enum Problem: Error {
        /// What is there is right so far, and not all.
        case short
        case failure(FormatFailure)
    }

    private let bytes: UnsafeRawBufferPointer
    private(set) var position: Int

    init(_ bytes: UnsafeRawBufferPointer, position: Int) {
        self.bytes = bytes
        self.position = position
    }

    func failure(_ reason: FormatFailure.Reason, _ message: String) -> Problem {
        .failure(FormatFailure("Avro", reason, message, offset: position))
    }

    mutating func take(_ count: Int) throws(Problem) -> UnsafeRawBufferPointer {
        guard count <= bytes.count - position else { throw .short }
        defer { position += count }
        return UnsafeRawBufferPointer(rebasing: bytes[position..<position + count])
    }

    mutating func readLong() throws(Problem) -> Int64 {
        var bits: UInt64 = 0
        var shift: UInt64 = 0
        while true {
            let byte = try take(1)[0]
            if shift == 63, byte > 1 { throw failure(.malformed, "an integer of more than 64 bits") }
            bits |= UInt64(byte & 0x7F) << shift
            if byte < 0x80 { return Int64(bitPattern: bits >> 1) ^ -Int64(bits & 1) }
            shift += 7
        }
    }

    mutating func readBytes(limit: Int) throws(Problem) -> UnsafeRawBufferPointer {
        let count = try readLong()
        guard count >= 0, count <= Int64(limit) else { throw failure(.tooLarge, "a length of \(count), of \(limit) at most") }
        return try take(Int(count))
    }
}
