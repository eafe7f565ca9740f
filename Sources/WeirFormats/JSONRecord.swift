/// A value with a JSON form, read from a cursor straight into its fields.
///
/// `@Record` makes structs conform; conform other types by hand with the `read…` and `write…` functions.
public protocol JSONRecord: Sendable {
    /// Reads the value at the cursor and leaves the cursor behind it.
    ///
    /// - Throws: ``JSONFailure`` where the document is no such value; never traps.
    init(json: inout JSONReader) throws(JSONFailure)
    func encode(json: inout JSONWriter)
    /// What a field of the type is when its document does not have it; nil, which is the default, where that is a failure.
    static var valueOfMissingField: Self? { get }
}

extension JSONRecord {
    @inlinable @inline(__always)
    public static var valueOfMissingField: Self? { nil }
}

extension Int: JSONRecord {
    @inlinable @inline(__always)
    public init(json: inout JSONReader) throws(JSONFailure) { self = try json.readInteger(Int.self) }
    @inlinable @inline(__always)
    public func encode(json: inout JSONWriter) { json.writeInteger(Int64(self)) }
}

extension Int32: JSONRecord {
    @inlinable @inline(__always)
    public init(json: inout JSONReader) throws(JSONFailure) { self = try json.readInteger(Int32.self) }
    @inlinable @inline(__always)
    public func encode(json: inout JSONWriter) { json.writeInteger(Int64(self)) }
}

extension Int64: JSONRecord {
    @inlinable @inline(__always)
    public init(json: inout JSONReader) throws(JSONFailure) { self = try json.readInteger(Int64.self) }
    @inlinable @inline(__always)
    public func encode(json: inout JSONWriter) { json.writeInteger(self) }
}

extension UInt8: JSONRecord {
    @inlinable @inline(__always)
    public init(json: inout JSONReader) throws(JSONFailure) { self = try json.readInteger(UInt8.self) }
    @inlinable @inline(__always)
    public func encode(json: inout JSONWriter) { json.writeInteger(UInt64(self)) }
}

extension UInt32: JSONRecord {
    @inlinable @inline(__always)
    public init(json: inout JSONReader) throws(JSONFailure) { self = try json.readInteger(UInt32.self) }
    @inlinable @inline(__always)
    public func encode(json: inout JSONWriter) { json.writeInteger(UInt64(self)) }
}

extension UInt64: JSONRecord {
    @inlinable @inline(__always)
    public init(json: inout JSONReader) throws(JSONFailure) { self = try json.readInteger(UInt64.self) }
    @inlinable @inline(__always)
    public func encode(json: inout JSONWriter) { json.writeInteger(self) }
}

extension Double: JSONRecord {
    @inlinable @inline(__always)
    public init(json: inout JSONReader) throws(JSONFailure) { self = try json.readDouble() }
    @inlinable @inline(__always)
    public func encode(json: inout JSONWriter) { json.writeDouble(self) }
}

extension Float: JSONRecord {
    @inlinable
    public init(json: inout JSONReader) throws(JSONFailure) { self = try json.readFloat() }
    @inlinable
    public func encode(json: inout JSONWriter) { json.writeFloat(self) }
}

extension Bool: JSONRecord {
    @inlinable @inline(__always)
    public init(json: inout JSONReader) throws(JSONFailure) { self = try json.readBool() }
    @inlinable @inline(__always)
    public func encode(json: inout JSONWriter) { json.writeBool(self) }
}

extension String: JSONRecord {
    @inlinable @inline(__always)
    public init(json: inout JSONReader) throws(JSONFailure) { self = try json.readString() }
    @inlinable @inline(__always)
    public func encode(json: inout JSONWriter) { json.writeString(self) }
}

/// `null` and, as a field, nothing at all are nil.
extension Optional: JSONRecord where Wrapped: JSONRecord {
    @inlinable @inline(__always)
    public init(json: inout JSONReader) throws(JSONFailure) { self = json.readNull() ? .none : .some(try Wrapped(json: &json)) }
    @inlinable @inline(__always)
    public func encode(json: inout JSONWriter) {
        switch self {
        case .some(let value): value.encode(json: &json)
        case .none: json.writeNull()
        }
    }
    @inlinable @inline(__always)
    public static var valueOfMissingField: Wrapped?? { .some(.none) }
}

extension Array: JSONRecord where Element: JSONRecord {
    @inlinable
    public init(json: inout JSONReader) throws(JSONFailure) {
        self.init()
        var more = try json.beginArray()
        while more {
            append(try Element(json: &json))
            more = try json.nextElement()
        }
    }
    @inlinable
    public func encode(json: inout JSONWriter) {
        json.writeLiteral("[")
        var isFirst = true
        for element in self {
            if !isFirst { json.writeLiteral(",") }
            isFirst = false
            element.encode(json: &json)
        }
        json.writeLiteral("]")
    }
}
