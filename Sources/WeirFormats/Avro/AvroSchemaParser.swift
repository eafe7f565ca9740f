/// Makes the types of a schema of its JSON.
struct AvroSchemaParser {
    private(set) var nodes: [AvroSchema.Node] = []
    /// Named types by their full names.
    private var named: [String: Int] = [:]

    /// - Parameter namespace: Of the type around; empty outside of all.
    /// - Returns: The type's index.
    mutating func parse(_ tree: JSONTree, namespace: String, depth: Int) throws(AvroSchemaFailure) -> Int {
        guard depth <= AvroSchema.depthMax else { throw AvroSchemaFailure("more than \(AvroSchema.depthMax) types inside each other") }
        switch tree {
        case .string(let name): return try reference(name, namespace: namespace)
        case .array(let branches): return try union(branches, namespace: namespace, depth: depth)
        case .object(let members): return try type(members, namespace: namespace, depth: depth)
        case .null, .bool, .integer, .number: throw AvroSchemaFailure("\(tree.text) is no type: a name, an object or a list of types is one")
        }
    }

    private mutating func append(_ node: AvroSchema.Node) throws(AvroSchemaFailure) -> Int {
        guard nodes.count < AvroSchema.typesMax else { throw AvroSchemaFailure("more than \(AvroSchema.typesMax) types") }
        nodes.append(node)
        return nodes.count - 1
    }

    private mutating func reference(_ name: String, namespace: String) throws(AvroSchemaFailure) -> Int {
        if let primitive = AvroSchema.Shape.primitives[name] { return try append(.init(shape: primitive)) }
        let full = Self.fullName(name, namespace: namespace)
        guard let index = named[full] else { throw AvroSchemaFailure("the type \"\(full)\" is not defined, or only further down") }
        return index
    }

    private mutating func union(_ branches: [JSONTree], namespace: String, depth: Int) throws(AvroSchemaFailure) -> Int {
        var indices: [Int] = []
        var kinds: Set<String> = []
        for branch in branches {
            let index = try parse(branch, namespace: namespace, depth: depth + 1)
            if case .union = nodes[index].shape { throw AvroSchemaFailure("a union directly inside a union") }
            guard kinds.insert(nodes[index].name ?? nodes[index].shape.typeName).inserted else {
                throw AvroSchemaFailure("a union with \(nodes[index].name ?? nodes[index].shape.typeName) twice")
            }
            indices.append(index)
        }
        guard !indices.isEmpty else { throw AvroSchemaFailure("a union without types") }
        return try append(.init(shape: .union(indices)))
    }

    private mutating func type(_ members: [String: JSONTree], namespace: String, depth: Int) throws(AvroSchemaFailure) -> Int {
        guard let type = members["type"] else { throw AvroSchemaFailure("a type without \"type\": \(Self.excerpt(members))") }
        guard case .string(let name) = type else { return try parse(type, namespace: namespace, depth: depth + 1) }
        switch name {
        case "record", "error": return try record(members, namespace: namespace, depth: depth)
        case "enum": return try enumeration(members, namespace: namespace)
        case "fixed": return try fixed(members, namespace: namespace)
        case "array":
            guard let items = members["items"] else { throw AvroSchemaFailure("an array without \"items\"") }
            return try append(.init(shape: .array(items: parse(items, namespace: namespace, depth: depth + 1))))
        case "map":
            guard let values = members["values"] else { throw AvroSchemaFailure("a map without \"values\"") }
            return try append(.init(shape: .map(values: parse(values, namespace: namespace, depth: depth + 1))))
        default:
            let index = try reference(name, namespace: namespace)
            // A primitive's node is its own; that of a named type belongs to all who name it.
            if nodes[index].name == nil { nodes[index].logical = Self.logicalType(members, of: nodes[index].shape) }
            return index
        }
    }

    // MARK: Named types

    private mutating func record(_ members: [String: JSONTree], namespace: String, depth: Int) throws(AvroSchemaFailure) -> Int {
        let name = try definedName(members, namespace: namespace, kind: "record")
        let inner = Self.namespace(of: name)
        let index = try append(.init(shape: .record([]), name: name, aliases: aliases(members, namespace: inner, of: name)))
        named[name] = index
        guard let list = members["fields"]?.arrayValue else { throw AvroSchemaFailure("record \(name) has no list of \"fields\"") }
        var fields: [AvroSchema.Field] = []
        var names: Set<String> = []
        for tree in list {
            guard let field = tree.objectValue, let fieldName = field["name"]?.stringValue, let type = field["type"] else {
                throw AvroSchemaFailure("a field of record \(name) without \"name\" and \"type\": \(tree.text.prefix(80))")
            }
            try Self.checkName(fieldName, what: "field of record \(name)")
            guard names.insert(fieldName).inserted else { throw AvroSchemaFailure("record \(name) has the field \"\(fieldName)\" twice") }
            var others: [String] = []
            for alias in field["aliases"]?.arrayValue ?? [] {
                guard let text = alias.stringValue else { throw AvroSchemaFailure("an alias of \(name).\(fieldName) is no string") }
                try Self.checkName(text, what: "alias of \(name).\(fieldName)")
                others.append(text)
            }
            let index = try parse(type, namespace: inner, depth: depth + 1)
            fields.append(.init(name: fieldName, aliases: others, type: index, defaultValue: field["default"]))
        }
        nodes[index].shape = .record(fields)
        return index
    }

    private mutating func enumeration(_ members: [String: JSONTree], namespace: String) throws(AvroSchemaFailure) -> Int {
        let name = try definedName(members, namespace: namespace, kind: "enum")
        guard let list = members["symbols"]?.arrayValue, !list.isEmpty else { throw AvroSchemaFailure("enum \(name) has no \"symbols\"") }
        var symbols: [String] = []
        for tree in list {
            guard let symbol = tree.stringValue else { throw AvroSchemaFailure("a symbol of enum \(name) is no string") }
            try Self.checkName(symbol, what: "symbol of enum \(name)")
            symbols.append(symbol)
        }
        guard Set(symbols).count == symbols.count else { throw AvroSchemaFailure("enum \(name) has a symbol twice") }
        let fallback = members["default"]?.stringValue
        if let fallback, !symbols.contains(fallback) { throw AvroSchemaFailure("the default \"\(fallback)\" of enum \(name) is none of its symbols") }
        let aliases = try aliases(members, namespace: Self.namespace(of: name), of: name)
        let index = try append(.init(shape: .enumeration(symbols: symbols, default: fallback), name: name, aliases: aliases))
        named[name] = index
        return index
    }

    private mutating func fixed(_ members: [String: JSONTree], namespace: String) throws(AvroSchemaFailure) -> Int {
        let name = try definedName(members, namespace: namespace, kind: "fixed")
        guard let size = members["size"]?.integerValue, size >= 0, size <= Int64(Int32.max) else {
            throw AvroSchemaFailure("fixed \(name) has no \"size\" of 0 to \(Int32.max) bytes")
        }
        let shape = AvroSchema.Shape.fixed(bytes: Int(size))
        let index = try append(
            .init(
                shape: shape, name: name, aliases: aliases(members, namespace: Self.namespace(of: name), of: name),
                logical: Self.logicalType(members, of: shape)))
        named[name] = index
        return index
    }

    private func definedName(_ members: [String: JSONTree], namespace: String, kind: String) throws(AvroSchemaFailure) -> String {
        guard let name = members["name"]?.stringValue else { throw AvroSchemaFailure("\(kind) without a \"name\": \(Self.excerpt(members))") }
        let full: String
        if name.contains(".") {
            full = name
        } else {
            full = Self.fullName(name, namespace: members["namespace"]?.stringValue ?? namespace)
        }
        for part in full.split(separator: ".", omittingEmptySubsequences: false) {
            try Self.checkName(String(part), what: "part of the name \(full)")
        }
        if AvroSchema.Shape.primitives[full] != nil { throw AvroSchemaFailure("a \(kind) cannot be called \(full)") }
        if named[full] != nil { throw AvroSchemaFailure("the type \"\(full)\" is defined twice") }
        return full
    }

    private func aliases(_ members: [String: JSONTree], namespace: String, of name: String) throws(AvroSchemaFailure) -> [String] {
        var aliases: [String] = []
        for tree in members["aliases"]?.arrayValue ?? [] {
            guard let alias = tree.stringValue else { throw AvroSchemaFailure("an alias of \(name) is no string") }
            aliases.append(Self.fullName(alias, namespace: namespace))
        }
        return aliases
    }

    // MARK: Names

    static func fullName(_ name: String, namespace: String) -> String {
        name.contains(".") || namespace.isEmpty ? name : "\(namespace).\(name)"
    }

    static func namespace(of full: String) -> String {
        full.lastIndex(of: ".").map { String(full[..<$0]) } ?? ""
    }

    /// - Throws: Unless the name is one or more of `A-Z a-z 0-9 _`, and does not begin with a digit.
    static func checkName(_ name: String, what: String) throws(AvroSchemaFailure) {
        let isName =
            !name.isEmpty
            && name.utf8.enumerated().allSatisfy { index, byte in
                switch byte {
                case UInt8(ascii: "a")...UInt8(ascii: "z"), UInt8(ascii: "A")...UInt8(ascii: "Z"), UInt8(ascii: "_"): true
                case UInt8(ascii: "0")...UInt8(ascii: "9"): index > 0
                default: false
                }
            }
        guard isName else {
            throw AvroSchemaFailure("\"\(name)\" is no name for a \(what): letters, digits and _ make one, and no digit begins it")
        }
    }

    private static func logicalType(_ members: [String: JSONTree], of shape: AvroSchema.Shape) -> AvroSchema.LogicalType? {
        switch (members["logicalType"]?.stringValue, shape) {
        case ("date", .int): return .date
        case ("timestamp-millis", .long): return .timestampMillis
        case ("timestamp-micros", .long): return .timestampMicros
        case ("decimal", .bytes), ("decimal", .fixed):
            let scale = members["scale"].map { $0.integerValue ?? -1 } ?? 0
            guard let precision = members["precision"]?.integerValue, precision >= 1, scale >= 0, scale <= precision, precision <= 1_000_000 else {
                return nil
            }
            return .decimal(precision: Int(precision), scale: Int(scale))
        default: return nil
        }
    }

    private static func excerpt(_ members: [String: JSONTree]) -> String { String(JSONTree.object(members).text.prefix(80)) }

    /// Defaults are known to be values of their fields, once all types are.
    func checkDefaults() throws(AvroSchemaFailure) {
        var encoder = AvroDefaultEncoder(AvroSchema(nodes: nodes, root: 0, text: ""))
        for node in nodes {
            guard case .record(let fields) = node.shape else { continue }
            for field in fields {
                guard let value = field.defaultValue else { continue }
                _ = try encoder.encode(value, as: field.type, place: "the default of \(node.name ?? "").\(field.name)")
            }
        }
    }
}
