// Binary forms of the standard types: fixed width, little-endian; lengths are varints.

extension Int32: BinaryCodable {
    @inlinable public static var schema: Schema { .int32 }
    @inlinable public func encode(into writer: inout ByteWriter) { writer.writeI32(self) }
    @inlinable public init(from reader: inout ByteReader) throws(DecodingFailure) { self = try reader.readI32() }
}

extension Int64: BinaryCodable {
    @inlinable public static var schema: Schema { .int64 }
    @inlinable public func encode(into writer: inout ByteWriter) { writer.writeI64(self) }
    @inlinable public init(from reader: inout ByteReader) throws(DecodingFailure) { self = try reader.readI64() }
}

extension UInt8: BinaryCodable {
    @inlinable public static var schema: Schema { .uint8 }
    @inlinable public func encode(into writer: inout ByteWriter) { writer.writeU8(self) }
    @inlinable public init(from reader: inout ByteReader) throws(DecodingFailure) { self = try reader.readU8() }
}

extension UInt32: BinaryCodable {
    @inlinable public static var schema: Schema { .uint32 }
    @inlinable public func encode(into writer: inout ByteWriter) { writer.writeU32(self) }
    @inlinable public init(from reader: inout ByteReader) throws(DecodingFailure) { self = try reader.readU32() }
}

extension UInt64: BinaryCodable {
    @inlinable public static var schema: Schema { .uint64 }
    @inlinable public func encode(into writer: inout ByteWriter) { writer.writeU64(self) }
    @inlinable public init(from reader: inout ByteReader) throws(DecodingFailure) { self = try reader.readU64() }
}

extension Double: BinaryCodable {
    @inlinable public static var schema: Schema { .double }
    @inlinable public func encode(into writer: inout ByteWriter) { writer.writeDouble(self) }
    @inlinable public init(from reader: inout ByteReader) throws(DecodingFailure) { self = try reader.readDouble() }
}

extension Float: BinaryCodable {
    @inlinable public static var schema: Schema { .float }
    @inlinable public func encode(into writer: inout ByteWriter) { writer.writeFloat(self) }
    @inlinable public init(from reader: inout ByteReader) throws(DecodingFailure) { self = try reader.readFloat() }
}

extension String: BinaryCodable {
    @inlinable public static var schema: Schema { .string }
    @inlinable public func encode(into writer: inout ByteWriter) { writer.writeString(self) }
    @inlinable public init(from reader: inout ByteReader) throws(DecodingFailure) { self = try reader.readString() }
}

/// Eight bytes, on every platform.
extension Int: BinaryCodable {
    @inlinable public static var schema: Schema { .int64 }
    @inlinable public func encode(into writer: inout ByteWriter) { writer.writeI64(Int64(self)) }
    @inlinable public init(from reader: inout ByteReader) throws(DecodingFailure) { self = Int(try reader.readI64()) }
}

extension Bool: BinaryCodable {
    @inlinable public static var schema: Schema { .bool }
    @inlinable public func encode(into writer: inout ByteWriter) { writer.writeU8(self ? 1 : 0) }
    @inlinable public init(from reader: inout ByteReader) throws(DecodingFailure) {
        let offset = reader.position
        switch try reader.readU8() {
        case 0: self = false
        case 1: self = true
        case let byte: throw DecodingFailure("a Bool of \(byte)", offset: offset)
        }
    }
}

extension Optional: BinaryCodable where Wrapped: BinaryCodable {
    @inlinable public static var schema: Schema { .optional(Wrapped.schema) }
    @inlinable public func encode(into writer: inout ByteWriter) {
        switch self {
        case .none: writer.writeU8(0)
        case .some(let value):
            writer.writeU8(1)
            value.encode(into: &writer)
        }
    }
    @inlinable public init(from reader: inout ByteReader) throws(DecodingFailure) {
        self = try Bool(from: &reader) ? .some(try Wrapped(from: &reader)) : .none
    }
}

extension Array: BinaryCodable where Element: BinaryCodable {
    @inlinable public static var schema: Schema { .array(Element.schema) }
    @inlinable public func encode(into writer: inout ByteWriter) {
        writer.writeVarint(UInt64(count))
        for element in self { element.encode(into: &writer) }
    }
    @inlinable public init(from reader: inout ByteReader) throws(DecodingFailure) {
        let count = try reader.readCount()
        self.init()
        reserveCapacity(count)
        for _ in 0..<count { append(try Element(from: &reader)) }
    }
}

extension Int: RecordKey {
    @inlinable @inline(__always)
    public func withKeyBytes<Result>(_ body: (UnsafeRawBufferPointer) throws -> Result) rethrows -> Result {
        try withUnsafeBytes(of: UInt64(bitPattern: Int64(self)).littleEndian, body)
    }
    @inlinable public init(keyBytes: UnsafeRawBufferPointer) throws(DecodingFailure) {
        guard keyBytes.count == 8 else { throw DecodingFailure("a key of 8 bytes expected, not \(keyBytes.count)", offset: 0) }
        let word = UInt64(littleEndian: keyBytes.loadUnaligned(as: UInt64.self))
        self = Int(truncatingIfNeeded: word)
    }
    @inlinable @inline(__always) public var keyHash: UInt64 { KeyHash.hash(UInt64(bitPattern: Int64(self))) }
}

extension Int64: RecordKey {
    @inlinable @inline(__always)
    public func withKeyBytes<Result>(_ body: (UnsafeRawBufferPointer) throws -> Result) rethrows -> Result {
        try withUnsafeBytes(of: UInt64(bitPattern: Int64(self)).littleEndian, body)
    }
    @inlinable public init(keyBytes: UnsafeRawBufferPointer) throws(DecodingFailure) {
        guard keyBytes.count == 8 else { throw DecodingFailure("a key of 8 bytes expected, not \(keyBytes.count)", offset: 0) }
        let word = UInt64(littleEndian: keyBytes.loadUnaligned(as: UInt64.self))
        self = Int64(truncatingIfNeeded: word)
    }
    @inlinable @inline(__always) public var keyHash: UInt64 { KeyHash.hash(UInt64(bitPattern: Int64(self))) }
}

extension UInt64: RecordKey {
    @inlinable @inline(__always)
    public func withKeyBytes<Result>(_ body: (UnsafeRawBufferPointer) throws -> Result) rethrows -> Result {
        try withUnsafeBytes(of: UInt64(self).littleEndian, body)
    }
    @inlinable public init(keyBytes: UnsafeRawBufferPointer) throws(DecodingFailure) {
        guard keyBytes.count == 8 else { throw DecodingFailure("a key of 8 bytes expected, not \(keyBytes.count)", offset: 0) }
        let word = UInt64(littleEndian: keyBytes.loadUnaligned(as: UInt64.self))
        self = UInt64(truncatingIfNeeded: word)
    }
    @inlinable @inline(__always) public var keyHash: UInt64 { KeyHash.hash(UInt64(self)) }
}

extension Int32: RecordKey {
    @inlinable @inline(__always)
    public func withKeyBytes<Result>(_ body: (UnsafeRawBufferPointer) throws -> Result) rethrows -> Result {
        try withUnsafeBytes(of: UInt64(bitPattern: Int64(self)).littleEndian, body)
    }
    @inlinable public init(keyBytes: UnsafeRawBufferPointer) throws(DecodingFailure) {
        guard keyBytes.count == 8 else { throw DecodingFailure("a key of 8 bytes expected, not \(keyBytes.count)", offset: 0) }
        let word = UInt64(littleEndian: keyBytes.loadUnaligned(as: UInt64.self))
        self = Int32(truncatingIfNeeded: word)
    }
    @inlinable @inline(__always) public var keyHash: UInt64 { KeyHash.hash(UInt64(bitPattern: Int64(self))) }
}

extension UInt32: RecordKey {
    @inlinable @inline(__always)
    public func withKeyBytes<Result>(_ body: (UnsafeRawBufferPointer) throws -> Result) rethrows -> Result {
        try withUnsafeBytes(of: UInt64(self).littleEndian, body)
    }
    @inlinable public init(keyBytes: UnsafeRawBufferPointer) throws(DecodingFailure) {
        guard keyBytes.count == 8 else { throw DecodingFailure("a key of 8 bytes expected, not \(keyBytes.count)", offset: 0) }
        let word = UInt64(littleEndian: keyBytes.loadUnaligned(as: UInt64.self))
        self = UInt32(truncatingIfNeeded: word)
    }
    @inlinable @inline(__always) public var keyHash: UInt64 { KeyHash.hash(UInt64(self)) }
}

extension String: RecordKey {
    @inlinable @inline(__always)
    public func withKeyBytes<Result>(_ body: (UnsafeRawBufferPointer) throws -> Result) rethrows -> Result {
        var copy = self
        return try copy.withUTF8 { try body(UnsafeRawBufferPointer($0)) }
    }
    @inlinable public init(keyBytes: UnsafeRawBufferPointer) throws(DecodingFailure) {
        guard let text = String(validUTF8: keyBytes) else { throw DecodingFailure("invalid UTF-8 in a key", offset: 0) }
        self = text
    }
    @inlinable @inline(__always) public var keyHash: UInt64 { KeyHash.hash(self) }
}

extension Bool: RecordKey {}
extension UInt8: RecordKey {}
