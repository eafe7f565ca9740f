/// A format's cursor over one record: what `@Record` types read their fields from.
///
/// Each `read…` stands on a value and leaves the cursor behind it. None traps on any bytes.
public protocol FieldReader {
    /// Where in a record's fields the cursor is.
    associatedtype RecordPlace
    /// Where in an array the cursor is.
    associatedtype ArrayPlace

    mutating func beginRecord() throws(FormatFailure) -> RecordPlace
    /// Goes to the next field that the record has, in any order.
    ///
    /// - Returns: The field's index in the record's ``FieldType``; negative at the end of the record.
    mutating func nextField(_ place: inout RecordPlace) throws(FormatFailure) -> Int

    mutating func beginArray() throws(FormatFailure) -> ArrayPlace
    /// Goes to the next element; false: there is none, and the array has been read.
    mutating func nextElement(_ place: inout ArrayPlace) throws(FormatFailure) -> Bool

    /// Reads a null if there is one, and says so; anything else stays.
    mutating func readNull() throws(FormatFailure) -> Bool
    mutating func readBool() throws(FormatFailure) -> Bool
    /// Reads an integer; one that the type cannot hold is a failure.
    mutating func readInteger<T: FixedWidthInteger>(_ type: T.Type) throws(FormatFailure) -> T
    mutating func readDouble() throws(FormatFailure) -> Double
    mutating func readFloat() throws(FormatFailure) -> Float
    mutating func readString() throws(FormatFailure) -> String
    mutating func readBytes() throws(FormatFailure) -> [UInt8]

    /// A failure at the cursor, for types that refuse what they read.
    func failure(_ reason: FormatFailure.Reason, _ message: String) -> FormatFailure
}

/// Where `@Record` types write their fields.
public protocol FieldWriter {
    /// Where in a record's fields the writer is.
    associatedtype RecordPlace
    /// Where in an array the writer is.
    associatedtype ArrayPlace

    mutating func beginRecord() throws(FormatFailure) -> RecordPlace
    /// Goes to the next field that the format wants.
    ///
    /// - Returns: The field's index in the record's ``FieldType``; negative at the end of the record.
    mutating func nextField(_ place: inout RecordPlace) throws(FormatFailure) -> Int

    mutating func beginArray(count: Int) throws(FormatFailure) -> ArrayPlace
    /// Before each of the elements.
    mutating func nextElement(_ place: inout ArrayPlace) throws(FormatFailure)
    mutating func endArray(_ place: ArrayPlace) throws(FormatFailure)

    mutating func writeNull() throws(FormatFailure)
    mutating func writeBool(_ value: Bool) throws(FormatFailure)
    mutating func writeInteger<T: FixedWidthInteger>(_ value: T) throws(FormatFailure)
    mutating func writeDouble(_ value: Double) throws(FormatFailure)
    mutating func writeFloat(_ value: Float) throws(FormatFailure)
    mutating func writeString(_ value: String) throws(FormatFailure)
    mutating func writeBytes(_ value: [UInt8]) throws(FormatFailure)

    /// A failure for types that cannot write what they are.
    func failure(_ reason: FormatFailure.Reason, _ message: String) -> FormatFailure
}

// What the code that `@Record` writes calls. Each is generic over a field's type, so that the code need not name it.

extension FieldReader {
    /// Nothing yet of the property that `property`, which is never called, returns.
    @inlinable @inline(__always)
    public static func unread<Record, Value: FieldCodable>(_ property: (Record) -> Value) -> Value? { nil }

    /// Reads a field's value; the last one counts.
    @inlinable @inline(__always)
    public mutating func read<Value: FieldCodable>(into field: inout Value?) throws(FormatFailure) { field = .some(try Value(fields: &self)) }

    // For these types, the compiler does not always find the way through the protocol, and calls it a record.

    @inlinable @inline(__always)
    public mutating func read(into field: inout Int?) throws(FormatFailure) { field = try readInteger(Int.self) }
    @inlinable @inline(__always)
    public mutating func read(into field: inout Int32?) throws(FormatFailure) { field = try readInteger(Int32.self) }
    @inlinable @inline(__always)
    public mutating func read(into field: inout Int64?) throws(FormatFailure) { field = try readInteger(Int64.self) }
    @inlinable @inline(__always)
    public mutating func read(into field: inout Double?) throws(FormatFailure) { field = try readDouble() }
    @inlinable @inline(__always)
    public mutating func read(into field: inout Bool?) throws(FormatFailure) { field = try readBool() }
    @inlinable @inline(__always)
    public mutating func read(into field: inout String?) throws(FormatFailure) { field = try readString() }

    /// What was read of a field, or what the type has for a missing one.
    @inlinable @inline(__always)
    public func required<Value: FieldCodable>(
        _ field: consuming Value?, _ name: StaticString, of record: StaticString
    ) throws(FormatFailure) -> Value {
        if let value = field { return value }
        if let value = Value.valueWhenAbsent { return value }
        throw failure(.missingField, "required field \"\(name)\" of \(record) is missing")
    }
}
