import WeirBase

extension AvroPlan {
    /// How rows become bytes of a schema.
    ///
    /// - Throws: Why some rows, or none, can be written: a field that only one of the two has, or types that do not go together.
    static func writing(_ schema: AvroSchema, from type: FieldType) throws(AvroSchemaFailure) -> AvroPlan {
        var builder = AvroWritePlanBuilder(schema)
        let root = try builder.bind(schema.root, type, "")
        return AvroPlan(builder.tables, root: root)
    }
}

/// Fits a row's type into a schema.
///
/// A union's branches are: that of null or -1, that of the value or -1, and the value's node.
struct AvroWritePlanBuilder {
    private(set) var tables = AvroPlan.Tables()
    private let schema: AvroSchema
    private var defaults: AvroDefaultEncoder

    init(_ schema: AvroSchema) {
        self.schema = schema
        defaults = AvroDefaultEncoder(schema)
    }

    mutating func bind(_ s: Int, _ type: FieldType, _ place: String) throws(AvroSchemaFailure) -> Int32 {
        let shape = schema.nodes[s].shape
        let value = type.unwrapped
        switch (shape, value) {
        case (.union(let branches), _): return try union(s, branches, type, place)
        case (.null, _) where type.isOptional: return tables.append(.init(kind: .null), place: place)
        case (.array(let items), .array(let element)):
            let item = try bind(items, element, place + "[]")
            return tables.append(.init(kind: .array, first: item), place: place)
        case (.map(let values), .array(.record(_, let fields))): return try map(s, values, fields, value, place)
        case (.record(let written), .record(let name, let fields)): return try record(s, written, name, fields, place)
        case (.enumeration(let symbols, _), .string):
            tables.symbolIndices.append([String: Int](uniqueKeysWithValues: symbols.enumerated().map { ($1, $0) }))
            return tables.append(
                .init(kind: .enumeration, count: Int32(symbols.count), first: Int32(tables.symbolIndices.count - 1)), place: place)
        case (.fixed(let bytes), .bytes): return tables.append(.init(kind: .fixed, count: Int32(bytes)), place: place)
        case (_, _):
            guard let kind = Self.kind(of: shape, for: value) else { throw refusal(s, type, place) }
            return tables.append(.init(kind: kind), place: place)
        }
    }

    private func refusal(_ s: Int, _ type: FieldType, _ place: String) -> AvroSchemaFailure {
        AvroSchemaFailure("\(place.isEmpty ? "the record" : place) is \(schema.describe(s)) in the schema, which \(type.description) cannot become")
    }

    /// Integers are checked as they come; nothing loses precision.
    private static func kind(of shape: AvroSchema.Shape, for type: FieldType) -> AvroPlan.Kind? {
        switch (type, shape) {
        case (.bool, .boolean): .boolean
        case (.int32, .int), (.int64, .int), (.uint8, .int), (.uint32, .int), (.uint64, .int): .int
        case (.int32, .long), (.int64, .long), (.uint8, .long), (.uint32, .long), (.uint64, .long): .long
        case (.float, .float): .float
        case (.float, .double), (.double, .double): .double
        case (.string, .string), (.bytes, .string): .string
        case (.string, .bytes), (.bytes, .bytes): .bytes
        default: nil
        }
    }

    private mutating func union(_ s: Int, _ branches: [Int], _ type: FieldType, _ place: String) throws(AvroSchemaFailure) -> Int32 {
        let null = branches.firstIndex { schema.nodes[$0].shape == .null } ?? -1
        // Of an int and a long, an Int64 takes the long: the type that a schema made of the row would have.
        let preferred = Self.preferred(type.unwrapped)
        let sorted = branches.indices.sorted { left, right in
            (schema.nodes[branches[left]].shape.typeName == preferred ? 0 : 1, left)
                < (schema.nodes[branches[right]].shape.typeName == preferred ? 0 : 1, right)
        }
        for position in sorted where schema.nodes[branches[position]].shape != .null {
            guard let node = try? bind(branches[position], type.unwrapped, place) else { continue }
            let first = Int32(tables.branches.count)
            tables.branches += [Int32(null), Int32(position), node]
            return tables.append(.init(kind: .union, count: Int32(branches.count), first: first), place: place)
        }
        guard null >= 0, branches.count == 1, type.isOptional else { throw refusal(s, type, place) }
        let first = Int32(tables.branches.count)
        tables.branches += [Int32(null), -1, 0]
        return tables.append(.init(kind: .union, count: 1, first: first), place: place)
    }

    private static func preferred(_ type: FieldType) -> String {
        switch type {
        case .bool: "boolean"
        case .int32, .uint8: "int"
        case .int64, .uint32, .uint64: "long"
        case .float: "float"
        case .double: "double"
        case .string: "string"
        case .bytes: "bytes"
        case .array: "array"
        case .record, .optional: "record"
        }
    }

    private mutating func map(
        _ s: Int, _ values: Int, _ fields: [FieldType.Field], _ type: FieldType, _ place: String
    ) throws(AvroSchemaFailure) -> Int32 {
        guard let key = fields.firstIndex(where: { $0.name == "key" && $0.type == .string }),
            let value = fields.firstIndex(where: { $0.name == "value" }), fields.count == 2
        else {
            throw AvroSchemaFailure(
                "\(place) is \(schema.describe(s)) in the schema: an array of records with the fields key, a String, and value becomes one, but not "
                    + type.description)
        }
        let keyNode = tables.append(.init(kind: .string), place: place + "[].key")
        let valueNode = try bind(values, fields[value].type, place + "[].value")
        let first = tables.append([
            (.init(field: Int32(key), node: keyNode), place + "[].key"), (.init(field: Int32(value), node: valueNode), place + "[].value"),
        ])
        let item = tables.append(.init(kind: .record, first: first), place: place + "[]")
        return tables.append(.init(kind: .array, first: item), place: place)
    }

    private mutating func record(
        _ s: Int, _ written: [AvroSchema.Field], _ name: String, _ fields: [FieldType.Field], _ place: String
    ) throws(AvroSchemaFailure) -> Int32 {
        let whose = schema.nodes[s].name ?? ""
        for field in fields where !written.contains(where: { $0.name == field.name }) {
            throw AvroSchemaFailure("record \(whose) has no field \"\(field.name)\", and that of \(name) would be lost")
        }
        var steps: [(step: AvroPlan.Step, place: String)] = []
        for field in written {
            let inner = place.isEmpty ? field.name : "\(place).\(field.name)"
            if let index = fields.firstIndex(where: { $0.name == field.name }) {
                steps.append((.init(field: Int32(index), node: try bind(field.type, fields[index].type, inner)), inner))
            } else if let value = field.defaultValue {
                tables.constants.append(try defaults.encode(value, as: field.type, place: "the default of \(inner)"))
                steps.append((.init(field: AvroPlan.Step.skip, node: 0, constant: Int32(tables.constants.count - 1)), inner))
            } else {
                throw AvroSchemaFailure("field \"\(field.name)\" of record \(whose) has no default, and \(name) has no such field")
            }
        }
        return tables.append(.init(kind: .record, first: tables.append(steps)), place: place)
    }
}
