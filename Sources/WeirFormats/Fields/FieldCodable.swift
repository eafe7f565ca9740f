/// A value that Avro, CSV and formats of one's own read and write field by field.
///
/// `@Record` makes structs conform; conform other types by hand, each as one of the values of ``FieldType``:
///
///     extension Celsius: FieldCodable {
///         static var fieldType: FieldType { .double }
///         init<Source: FieldReader>(fields reader: inout Source) throws(FormatFailure) { degrees = try reader.readDouble() }
///         func encode<Target: FieldWriter>(fields writer: inout Target) throws(FormatFailure) { try writer.writeDouble(degrees) }
///     }
public protocol FieldCodable: Sendable {
    /// What the other two requirements read and write.
    static var fieldType: FieldType { get }

    /// Reads the value at the cursor and leaves the cursor behind it.
    ///
    /// - Throws: What is wrong with the bytes; never traps on any.
    init<Source: FieldReader>(fields reader: inout Source) throws(FormatFailure)

    /// - Throws: Why the format cannot hold the value.
    func encode<Target: FieldWriter>(fields writer: inout Target) throws(FormatFailure)

    /// What a field of the type is when a record does not have it; nil, which is the default, where that is a failure.
    static var valueWhenAbsent: Self? { get }
}

extension FieldCodable {
    @inlinable @inline(__always)
    public static var valueWhenAbsent: Self? { nil }
}

extension Bool: FieldCodable {
    public static var fieldType: FieldType { .bool }
    @inlinable @inline(__always)
    public init<Source: FieldReader>(fields reader: inout Source) throws(FormatFailure) { self = try reader.readBool() }
    @inlinable @inline(__always)
    public func encode<Target: FieldWriter>(fields writer: inout Target) throws(FormatFailure) { try writer.writeBool(self) }
}

extension Int: FieldCodable {
    public static var fieldType: FieldType { .int64 }
    @inlinable @inline(__always)
    public init<Source: FieldReader>(fields reader: inout Source) throws(FormatFailure) { self = try reader.readInteger(Int.self) }
    @inlinable @inline(__always)
    public func encode<Target: FieldWriter>(fields writer: inout Target) throws(FormatFailure) { try writer.writeInteger(self) }
}

extension Int32: FieldCodable {
    public static var fieldType: FieldType { .int32 }
    @inlinable @inline(__always)
    public init<Source: FieldReader>(fields reader: inout Source) throws(FormatFailure) { self = try reader.readInteger(Int32.self) }
    @inlinable @inline(__always)
    public func encode<Target: FieldWriter>(fields writer: inout Target) throws(FormatFailure) { try writer.writeInteger(self) }
}

extension Int64: FieldCodable {
    public static var fieldType: FieldType { .int64 }
    @inlinable @inline(__always)
    public init<Source: FieldReader>(fields reader: inout Source) throws(FormatFailure) { self = try reader.readInteger(Int64.self) }
    @inlinable @inline(__always)
    public func encode<Target: FieldWriter>(fields writer: inout Target) throws(FormatFailure) { try writer.writeInteger(self) }
}

extension UInt8: FieldCodable {
    public static var fieldType: FieldType { .uint8 }
    @inlinable @inline(__always)
    public init<Source: FieldReader>(fields reader: inout Source) throws(FormatFailure) { self = try reader.readInteger(UInt8.self) }
    @inlinable @inline(__always)
    public func encode<Target: FieldWriter>(fields writer: inout Target) throws(FormatFailure) { try writer.writeInteger(self) }
}

extension UInt32: FieldCodable {
    public static var fieldType: FieldType { .uint32 }
    @inlinable @inline(__always)
    public init<Source: FieldReader>(fields reader: inout Source) throws(FormatFailure) { self = try reader.readInteger(UInt32.self) }
    @inlinable @inline(__always)
    public func encode<Target: FieldWriter>(fields writer: inout Target) throws(FormatFailure) { try writer.writeInteger(self) }
}

extension UInt64: FieldCodable {
    public static var fieldType: FieldType { .uint64 }
    @inlinable @inline(__always)
    public init<Source: FieldReader>(fields reader: inout Source) throws(FormatFailure) { self = try reader.readInteger(UInt64.self) }
    @inlinable @inline(__always)
    public func encode<Target: FieldWriter>(fields writer: inout Target) throws(FormatFailure) { try writer.writeInteger(self) }
}

extension Double: FieldCodable {
    public static var fieldType: FieldType { .double }
    @inlinable @inline(__always)
    public init<Source: FieldReader>(fields reader: inout Source) throws(FormatFailure) { self = try reader.readDouble() }
    @inlinable @inline(__always)
    public func encode<Target: FieldWriter>(fields writer: inout Target) throws(FormatFailure) { try writer.writeDouble(self) }
}

extension Float: FieldCodable {
    public static var fieldType: FieldType { .float }
    @inlinable @inline(__always)
    public init<Source: FieldReader>(fields reader: inout Source) throws(FormatFailure) { self = try reader.readFloat() }
    @inlinable @inline(__always)
    public func encode<Target: FieldWriter>(fields writer: inout Target) throws(FormatFailure) { try writer.writeFloat(self) }
}

extension String: FieldCodable {
    public static var fieldType: FieldType { .string }
    @inlinable @inline(__always)
    public init<Source: FieldReader>(fields reader: inout Source) throws(FormatFailure) { self = try reader.readString() }
    @inlinable @inline(__always)
    public func encode<Target: FieldWriter>(fields writer: inout Target) throws(FormatFailure) { try writer.writeString(self) }
}

/// Null and, as a field, nothing at all are nil. Optionals inside each other become one: none of them is told from the others.
extension Optional: FieldCodable where Wrapped: FieldCodable {
    public static var fieldType: FieldType { Wrapped.fieldType.isOptional ? Wrapped.fieldType : .optional(Wrapped.fieldType) }
    @inlinable @inline(__always)
    public init<Source: FieldReader>(fields reader: inout Source) throws(FormatFailure) {
        self = try reader.readNull() ? .none : .some(try Wrapped(fields: &reader))
    }
    @inlinable @inline(__always)
    public func encode<Target: FieldWriter>(fields writer: inout Target) throws(FormatFailure) {
        switch self {
        case .some(let value): try value.encode(fields: &writer)
        case .none: try writer.writeNull()
        }
    }
    @inlinable @inline(__always)
    public static var valueWhenAbsent: Wrapped?? { .some(.none) }
}

/// Arrays of `UInt8` are bytes.
extension Array: FieldCodable where Element: FieldCodable {
    public static var fieldType: FieldType { Element.self == UInt8.self ? .bytes : .array(Element.fieldType) }
    @inlinable
    public init<Source: FieldReader>(fields reader: inout Source) throws(FormatFailure) {
        if Element.self == UInt8.self {
            // The same type under another name.
            self = unsafeBitCast(try reader.readBytes(), to: [Element].self)
            return
        }
        self.init()
        var place = try reader.beginArray()
        while try reader.nextElement(&place) { append(try Element(fields: &reader)) }
    }
    @inlinable
    public func encode<Target: FieldWriter>(fields writer: inout Target) throws(FormatFailure) {
        if Element.self == UInt8.self {
            try writer.writeBytes(unsafeBitCast(self, to: [UInt8].self))
            return
        }
        var place = try writer.beginArray(count: count)
        for element in self {
            try writer.nextElement(&place)
            try element.encode(fields: &writer)
        }
        try writer.endArray(place)
    }
}
