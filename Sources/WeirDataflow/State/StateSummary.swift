package import WeirBase

/// What a part of keyed state holds, without knowing the types of its job.
package struct StateSummary: Hashable, Sendable {
    package enum Kind: String, Hashable, Sendable {
        /// Value, list, map, reducing and aggregating state.
        case table
        /// A table a window.
        case windows
        case timers
    }

    package var kind: Kind
    /// Of the schema of the values: two states with the same one hold the same fields.
    package var fingerprint: UInt64
    /// The schema's text; nil in format version 1, which has the fingerprint alone.
    package var schema: String?
    package var rows: UInt64
    /// Namespaces, which are windows; 1 for a table that is not empty.
    package var namespaces: Int

    /// Reads the header and every block of a part, and checks all checksums.
    ///
    /// - Throws: `DecodingFailure` for anything that is not a whole part.
    /// - Complexity: O(bytes), without touching the rows.
    package init(_ bytes: [UInt8]) throws(DecodingFailure) {
        var result: Result<StateSummary, DecodingFailure> = .failure(DecodingFailure("no keyed state", offset: 0))
        bytes.withUnsafeBytes { raw in
            do throws(DecodingFailure) {
                var reader = ByteReader(raw)
                let summary = try StateSummary(&reader)
                try reader.expectEnd()
                result = .success(summary)
            } catch {
                result = .failure(error)
            }
        }
        self = try result.get()
    }

    private init(_ reader: inout ByteReader) throws(DecodingFailure) {
        let header = try reader.readBytes(StateFormat.headerBytes)
        guard header.prefix(8).elementsEqual(StateFormat.magic) else { throw DecodingFailure("no keyed state: wrong magic", offset: 0) }
        var fields = ByteReader(UnsafeRawBufferPointer(rebasing: header[8...]))
        let version = try fields.readU16()
        let kindByte = try fields.readU8()
        _ = try fields.readU8()
        guard try fields.readU32() == StateFormat.headerCRC(header) else { throw DecodingFailure("keyed state: damaged header", offset: 0) }
        guard (1...Self.versionMax).contains(version) else {
            throw DecodingFailure("keyed state of format version \(version); this build reads versions 1 to \(Self.versionMax)", offset: 8)
        }
        switch StateFormat.Kind(rawValue: kindByte) {
        case .table: kind = .table
        case .windows: kind = .windows
        case .timers: kind = .timers
        case nil: throw DecodingFailure("keyed state of kind \(kindByte)", offset: 10)
        }
        fingerprint = try fields.readU64()
        rows = try fields.readU64()
        if version >= Self.versionWithSchema { schema = try Self.readSchema(&reader) }
        namespaces = try Self.walk(&reader, rows: rows)
    }

    private static let versionMax: UInt16 = 2
    private static let versionWithSchema: UInt16 = 2

    private static func readSchema(_ reader: inout ByteReader) throws(DecodingFailure) -> String {
        let start = reader.position
        let count = try reader.readBytes(4)
        let crc = try reader.readU32()
        let text = try reader.readBytes(Int(UInt32(littleEndian: count.loadUnaligned(as: UInt32.self))))
        guard crc == crc32c(text, seed: crc32c(count)) else { throw DecodingFailure("keyed state: a schema with a wrong checksum", offset: start) }
        return String(decoding: text, as: UTF8.self)
    }

    /// - Returns: Namespaces seen; those of one follow each other.
    private static func walk(_ reader: inout ByteReader, rows: UInt64) throws(DecodingFailure) -> Int {
        var seen: UInt64 = 0
        var namespaces = 0
        var last: Int64?
        while true {
            let start = reader.position
            let header = try reader.readBytes(StateFormat.blockHeaderBytes - 4)
            let crc = try reader.readU32()
            var fields = ByteReader(header)
            let payload = try reader.readBytes(Int(try fields.readU32()))
            let blockRows = try fields.readU32()
            let namespace = try fields.readI64()
            guard crc == crc32c(payload, seed: crc32c(header)) else {
                throw DecodingFailure("keyed state: a block with a wrong checksum", offset: start)
            }
            if blockRows == 0 {
                guard payload.isEmpty, seen == rows else { throw DecodingFailure("keyed state: \(seen) rows, \(rows) expected", offset: start) }
                return namespaces
            }
            if namespace != last { namespaces += 1 }
            last = namespace
            seen &+= UInt64(blockRows)
        }
    }
}
