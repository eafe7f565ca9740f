public import WeirBase

// What the code that `@Record` writes calls. Each is generic over a field's type, so that the code need not name it.

extension Schema {
    /// The schema of the property that `property`, which is never called, returns.
    @inlinable
    public static func of<Record, Value: BinaryCodable>(_ property: (Record) -> Value) -> Schema { Value.schema }
}

extension ByteReader {
    /// Reads a value of the type that the place it is assigned to has.
    @inlinable @inline(__always)
    public mutating func read<Value: BinaryCodable>() throws(DecodingFailure) -> Value { try Value(from: &self) }
}

extension JSONReader {
    /// Nothing yet of the property that `property`, which is never called, returns.
    @inlinable @inline(__always)
    public static func unread<Record, Value: JSONRecord>(_ property: (Record) -> Value) -> Value? { nil }

    /// Reads a field's value; strict mode refuses a second one.
    @inlinable @inline(__always)
    public mutating func read<Value: JSONRecord>(into field: inout Value?) throws(JSONFailure) {
        if isStrict, field != nil { throw duplicateField() }
        field = .some(try Value(json: &self))
    }

    // For these types, the compiler does not always find the way through the protocol, and calls it a record.

    @inlinable @inline(__always)
    public mutating func read(into field: inout Int?) throws(JSONFailure) {
        if isStrict, field != nil { throw duplicateField() }
        field = try readInteger(Int.self)
    }

    @inlinable @inline(__always)
    public mutating func read(into field: inout Int32?) throws(JSONFailure) {
        if isStrict, field != nil { throw duplicateField() }
        field = try readInteger(Int32.self)
    }

    @inlinable @inline(__always)
    public mutating func read(into field: inout Int64?) throws(JSONFailure) {
        if isStrict, field != nil { throw duplicateField() }
        field = try readInteger(Int64.self)
    }

    @inlinable @inline(__always)
    public mutating func read(into field: inout UInt32?) throws(JSONFailure) {
        if isStrict, field != nil { throw duplicateField() }
        field = try readInteger(UInt32.self)
    }

    @inlinable @inline(__always)
    public mutating func read(into field: inout UInt64?) throws(JSONFailure) {
        if isStrict, field != nil { throw duplicateField() }
        field = try readInteger(UInt64.self)
    }

    @inlinable @inline(__always)
    public mutating func read(into field: inout Double?) throws(JSONFailure) {
        if isStrict, field != nil { throw duplicateField() }
        field = try readDouble()
    }

    @inlinable @inline(__always)
    public mutating func read(into field: inout Bool?) throws(JSONFailure) {
        if isStrict, field != nil { throw duplicateField() }
        field = try readBool()
    }

    @inlinable @inline(__always)
    public mutating func read(into field: inout String?) throws(JSONFailure) {
        if isStrict, field != nil { throw duplicateField() }
        field = try readString()
    }

    @usableFromInline @inline(never)
    mutating func duplicateField() -> JSONFailure { failure(.duplicateField, "a second value for the field", at: cursor) }

    /// What was read of a field, or what the type has for a missing one.
    @inlinable @inline(__always)
    public mutating func required<Value: JSONRecord>(
        _ field: consuming Value?, _ name: StaticString, of record: StaticString
    ) throws(JSONFailure) -> Value {
        if let value = field { return value }
        if let value = Value.valueOfMissingField { return value }
        throw missingField(name, of: record)
    }

    @usableFromInline @inline(never)
    mutating func missingField(_ name: StaticString, of record: StaticString) -> JSONFailure {
        failure(.missingField, "required field \"\(name)\" of \(record) is missing", at: cursor, field: "\(name)")
    }
}
