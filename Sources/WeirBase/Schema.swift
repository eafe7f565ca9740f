/// The shape of a value in Weir's binary format: what codecs, state and formats agree on.
public indirect enum Schema: Hashable, Sendable {
    case bool, int32, int64, uint8, uint32, uint64, float, double, string, bytes
    case optional(Schema)
    case array(Schema)
    case record(name: String, fields: [Field])

    public struct Field: Hashable, Sendable {
        public var name: String
        public var schema: Schema
        public init(_ name: String, _ schema: Schema) {
            self.name = name
            self.schema = schema
        }
    }

    /// The schema as text, the same in every process: what ``fingerprint`` hashes.
    public var canonical: String {
        switch self {
        case .bool: "bool"
        case .int32: "int32"
        case .int64: "int64"
        case .uint8: "uint8"
        case .uint32: "uint32"
        case .uint64: "uint64"
        case .float: "float"
        case .double: "double"
        case .string: "string"
        case .bytes: "bytes"
        case .optional(let wrapped): wrapped.canonical + "?"
        case .array(let element): "[" + element.canonical + "]"
        case .record(let name, let fields): name + "{" + fields.map { $0.name + ":" + $0.schema.canonical }.joined(separator: ",") + "}"
        }
    }

    /// A hash of the whole shape, stable for ever; two schemas with one fingerprint read each other's bytes.
    public var fingerprint: UInt64 { KeyHash.hash(canonical) }
}

/// A value with a binary form, written and read field by field.
public protocol BinaryCodable: Sendable {
    static var schema: Schema { get }
    func encode(into writer: inout ByteWriter)
    /// - Throws: ``DecodingFailure`` where the bytes are no such value; never traps.
    init(from reader: inout ByteReader) throws(DecodingFailure)
}

/// What `@Record` makes of a struct.
public protocol Record: BinaryCodable {}

/// A value that can key a stream: equal keys have equal bytes, and the bytes make the key.
public protocol RecordKey: Hashable, BinaryCodable {
    /// Lends the key's bytes: UTF-8 of a string, eight little-endian bytes of an integer, the binary form of anything else.
    func withKeyBytes<Result>(_ body: (UnsafeRawBufferPointer) throws -> Result) rethrows -> Result
    init(keyBytes: UnsafeRawBufferPointer) throws(DecodingFailure)
    /// Equal to ``KeyHash/hash(_:seed:)`` of the key's bytes.
    var keyHash: UInt64 { get }
}

extension RecordKey {
    @inlinable
    public func withKeyBytes<Result>(_ body: (UnsafeRawBufferPointer) throws -> Result) rethrows -> Result {
        var writer = ByteWriter(capacity: 64)
        encode(into: &writer)
        let bytes = writer
        return try bytes.finish().withUnsafeBytes(body)
    }

    @inlinable
    public init(keyBytes: UnsafeRawBufferPointer) throws(DecodingFailure) {
        var reader = ByteReader(keyBytes)
        try self.init(from: &reader)
        try reader.expectEnd()
    }

    @inlinable
    public var keyHash: UInt64 { withKeyBytes { KeyHash.hash($0) } }
}
