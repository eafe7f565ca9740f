/// Versions from one to another, both included.
package struct VersionRange: Sendable, Equatable {
    package let lowest: Int16
    package let highest: Int16

    package func contains(_ version: Int16) -> Bool { version >= lowest && version <= highest }

    static let all = VersionRange(lowest: 0, highest: .max)
    static let none = VersionRange(lowest: 1, highest: 0)
}

/// The type of a field of a message.
package indirect enum FieldType: Sendable {
    case bool, int8, int16, uint16, int32, int64, float64, string, bytes, records, uuid
    case array(FieldType)
    case structure(StructSchema)

    /// Whether a value may stand in a field of this type. Null may stand in each: where the version does not allow it, the empty value is written.
    func accepts(_ value: KafkaValue) -> Bool {
        switch (self, value) {
        case (_, .null), (.bool, .bool), (.int64, .integer), (.float64, .double), (.string, .string), (.bytes, .bytes), (.records, .bytes),
            (.records, .pieces), (.uuid, .uuid):
            true
        case (.int8, .integer(let value)): Int8(exactly: value) != nil
        case (.int16, .integer(let value)): Int16(exactly: value) != nil
        case (.uint16, .integer(let value)): UInt16(exactly: value) != nil
        case (.int32, .integer(let value)): Int32(exactly: value) != nil
        case (.array(let element), .array(let values)): values.allSatisfy { element.accepts($0) }
        case (.structure(let schema), .structure(let value)): value.schema === schema
        default: false
        }
    }

    /// The value of a field that has no default of its own. A structure has none: null stands for one whose fields have their defaults.
    var zero: KafkaValue {
        switch self {
        case .bool: .bool(false)
        case .int8, .int16, .uint16, .int32, .int64: .integer(0)
        case .float64: .double(0)
        case .string: .string("")
        case .bytes, .records: .bytes(.empty)
        case .uuid: .uuid(.zero)
        case .array: .array([])
        case .structure: .null
        }
    }
}

/// A field of a message: which versions have it, and how.
package struct FieldSchema: Sendable {
    package let name: String
    package let type: FieldType
    /// The versions that have the field.
    package let versions: VersionRange
    /// The versions in which it may be null.
    package let nullable: VersionRange
    /// Its number in the tagged fields, for one that is written there.
    package let tag: UInt32?
    package let defaultValue: KafkaValue
}

/// The fields of a message or of a structure inside one, in the order in which they are written.
package final class StructSchema: Sendable {
    package let fields: [FieldSchema]
    let defaults: [KafkaValue]
    let hasTags: Bool
    private let indexes: [String: Int]

    init(_ fields: [FieldSchema]) {
        self.fields = fields
        defaults = fields.map(\.defaultValue)
        hasTags = fields.contains { $0.tag != nil }
        indexes = Dictionary(uniqueKeysWithValues: fields.enumerated().map { ($1.name, $0) })
    }

    /// The place of a field; traps for a name that is not in the schema.
    func index(of name: String) -> Int {
        guard let index = indexes[name] else {
            preconditionFailure("no field \(name) in the schema, which has \(fields.map(\.name).joined(separator: ", "))")
        }
        return index
    }
}

/// A request and its response, in every version that Weir speaks.
package struct ApiSchema: Sendable {
    package let key: ApiKey
    package let name: String
    package let versions: VersionRange
    /// The first version with compact lengths and tagged fields; `Int16.max` when there is none.
    package let flexibleFrom: Int16
    package let request: StructSchema
    package let response: StructSchema

    package func isFlexible(_ version: Int16) -> Bool { version >= flexibleFrom }

    /// The schema of an API. The tables are parsed once.
    package static func of(_ api: ApiKey) -> ApiSchema {
        guard let schema = table[api] else { preconditionFailure("the tables do not list the API \(api.rawValue)") }
        return schema
    }

    private static let table: [ApiKey: ApiSchema] = {
        var table: [ApiKey: ApiSchema] = [:]
        for text in [sessionSchemas, logSchemas, adminSchemas, groupSchemas, transactionSchemas] {
            var parser = SchemaParser(text)
            for schema in parser.parse() {
                precondition(table.updateValue(schema, forKey: schema.key) == nil, "the API \(schema.name) is listed twice")
            }
        }
        return table
    }()
}
