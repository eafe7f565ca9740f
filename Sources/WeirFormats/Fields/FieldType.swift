/// What a field can hold, in the words that formats need: the names that documents use, and whether a field may be missing.
///
/// `Schema` describes the same values for Weir's own binary form.
public indirect enum FieldType: Hashable, Sendable {
    case bool, int32, int64, uint8, uint32, uint64, float, double, string, bytes
    case optional(FieldType)
    case array(FieldType)
    /// - Parameter name: The type's, `Outer.Reading`.
    case record(name: String, fields: [Field])

    public struct Field: Hashable, Sendable {
        /// As documents have it: the property's, unless `@Field` says otherwise.
        public var name: String
        public var type: FieldType
        /// Whether the record can be made without the field.
        public var hasDefault: Bool

        public init(_ name: String, _ type: FieldType, hasDefault: Bool = false) {
            self.name = name
            self.type = type
            self.hasDefault = hasDefault
        }
    }

    /// The type of the property that `property`, which is never called, returns.
    @inlinable
    public static func of<Record, Value: FieldCodable>(_ property: (Record) -> Value) -> FieldType { Value.fieldType }

    var isOptional: Bool {
        if case .optional = self { true } else { false }
    }

    /// The type without the optionals around it.
    var unwrapped: FieldType {
        if case .optional(let wrapped) = self { wrapped.unwrapped } else { self }
    }

    /// The type as Swift writes it, for messages.
    var description: String {
        switch self {
        case .bool: "Bool"
        case .int32: "Int32"
        case .int64: "Int64"
        case .uint8: "UInt8"
        case .uint32: "UInt32"
        case .uint64: "UInt64"
        case .float: "Float"
        case .double: "Double"
        case .string: "String"
        case .bytes: "[UInt8]"
        case .optional(let wrapped): "\(wrapped.description)?"
        case .array(let element): "[\(element.description)]"
        case .record(let name, _): name
        }
    }
}
