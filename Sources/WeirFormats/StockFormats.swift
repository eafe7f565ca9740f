public import WeirBase

/// Rows of raw bytes, as they are.
public struct BytesFormat: DeserializationSchema, SerializationSchema {
    @inlinable public init() {}
    @inlinable
    public func decode(_ bytes: UnsafeRawBufferPointer) throws -> [UInt8] { [UInt8](bytes) }
    @inlinable
    public func encode(_ row: [UInt8], into writer: inout ByteWriter) { writer.writeBytes(row) }
}

/// Rows of UTF-8 text; invalid UTF-8 is a failure, not replaced.
public struct StringFormat: DeserializationSchema, SerializationSchema {
    @inlinable public init() {}
    @inlinable
    public func decode(_ bytes: UnsafeRawBufferPointer) throws -> String {
        guard let text = String(validating: bytes, as: UTF8.self) else { throw DecodingFailure("invalid UTF-8", offset: 0) }
        return text
    }
    @inlinable
    public func encode(_ row: String, into writer: inout ByteWriter) {
        var text = row
        text.withUTF8 { writer.writeBytes(UnsafeRawBufferPointer($0)) }
    }
}

/// Weir's own binary form, behind the fingerprint of its schema: rows of another shape are refused instead of misread.
///
///     | schema fingerprint: u64 | value |        little-endian
public struct BinaryFormat<Row: BinaryCodable>: DeserializationSchema, SerializationSchema {
    @usableFromInline let fingerprint: UInt64

    @inlinable
    public init(_ type: Row.Type = Row.self) { fingerprint = Row.schema.fingerprint }

    @inlinable
    public func decode(_ bytes: UnsafeRawBufferPointer) throws -> Row {
        var reader = ByteReader(bytes)
        guard try reader.readU64() == fingerprint else { throw wrongSchema() }
        let row = try Row(from: &reader)
        try reader.expectEnd()
        return row
    }

    @usableFromInline @inline(never)
    func wrongSchema() -> DecodingFailure {
        DecodingFailure("a record of another schema than \(Row.schema.canonical)", offset: 0)
    }

    @inlinable
    public func encode(_ row: Row, into writer: inout ByteWriter) {
        writer.writeU64(fingerprint)
        row.encode(into: &writer)
    }
}

/// One JSON document a record.
public struct JSONFormat<Row: JSONRecord>: DeserializationSchema, SerializationSchema {
    /// Whether unknown and duplicate fields are failures. Without, the former are skipped and the last of the latter counts.
    public let isStrict: Bool

    @inlinable
    public init(_ type: Row.Type = Row.self, strict: Bool = false) { isStrict = strict }

    /// - Throws: ``JSONFailure``.
    @inlinable
    public func decode(_ bytes: UnsafeRawBufferPointer) throws -> Row {
        var reader = JSONReader(bytes, strict: isStrict)
        let row = try Row(json: &reader)
        try reader.finish()
        return row
    }

    @inlinable
    public func encode(_ row: Row, into writer: inout ByteWriter) {
        var json = JSONWriter(writer)
        row.encode(json: &json)
        writer = json.bytes
    }
}

extension DeserializationSchema {
    /// JSON documents. Lenient unless `strict`: see ``JSONFormat/isStrict``.
    @inlinable
    public static func json<T>(_ type: T.Type, strict: Bool = false) -> JSONFormat<T> where Self == JSONFormat<T> {
        JSONFormat(type, strict: strict)
    }

    /// Weir's own binary form.
    @inlinable
    public static func binary<T>(_ type: T.Type) -> BinaryFormat<T> where Self == BinaryFormat<T> { BinaryFormat(type) }
}

extension DeserializationSchema where Self == StringFormat {
    /// UTF-8 text.
    @inlinable public static var string: StringFormat { StringFormat() }
}

extension DeserializationSchema where Self == BytesFormat {
    /// Raw bytes.
    @inlinable public static var bytes: BytesFormat { BytesFormat() }
}

extension SerializationSchema {
    /// JSON documents, without whitespace.
    @inlinable
    public static func json<T>(_ type: T.Type) -> JSONFormat<T> where Self == JSONFormat<T> { JSONFormat(type) }

    /// Weir's own binary form.
    @inlinable
    public static func binary<T>(_ type: T.Type) -> BinaryFormat<T> where Self == BinaryFormat<T> { BinaryFormat(type) }
}

extension SerializationSchema where Self == StringFormat {
    /// UTF-8 text.
    @inlinable public static var string: StringFormat { StringFormat() }
}

extension SerializationSchema where Self == BytesFormat {
    /// Raw bytes.
    @inlinable public static var bytes: BytesFormat { BytesFormat() }
}
