import WeirBase

extension AvroPlan {
    /// How bytes of a writer's schema become rows.
    ///
    /// - Parameters:
    ///   - reader: The schema by which fields are found, promoted and given defaults, as the specification says. nil: the row's type takes
    ///     the writer's fields by their names, whatever the records are called.
    ///   - type: The row's.
    /// - Throws: Why no record can be read, or some field of every one cannot.
    static func reading(_ writer: AvroSchema, as reader: AvroSchema?, into type: FieldType) throws(AvroSchemaFailure) -> AvroPlan {
        var builder = AvroReadPlanBuilder(writer, reader)
        let root = try builder.bind(writer.root, reader?.root, type, "")
        return AvroPlan(builder.tables, root: root)
    }
}

/// Resolves a writer's schema against a reader's and a row's type.
struct AvroReadPlanBuilder {
    /// Types inside each other that are skipped, at most.
    private static let skipDepthMax = 256

    private(set) var tables = AvroPlan.Tables()
    private var writer: AvroSchema
    private let reader: AvroSchema?
    /// The nodes of types that no field takes, by the writer's index.
    private var skips: [Int: Int32] = [:]
    private var isEmpty: [Bool]
    private var defaults: AvroDefaultEncoder?

    init(_ writer: AvroSchema, _ reader: AvroSchema?) {
        self.writer = writer
        self.reader = reader
        isEmpty = Self.emptiness(writer)
        defaults = reader.map { AvroDefaultEncoder($0) }
    }

    /// Which types have values of no bytes only: records of such, and of themselves, among them.
    private static func emptiness(_ schema: AvroSchema) -> [Bool] {
        var isEmpty = schema.nodes.map { node in
            switch node.shape {
            case .null, .fixed(bytes: 0), .record: true
            default: false
            }
        }
        var changes = true
        while changes {
            changes = false
            for (index, node) in schema.nodes.enumerated() where isEmpty[index] {
                guard case .record(let fields) = node.shape, !fields.allSatisfy({ isEmpty[$0.type] }) else { continue }
                isEmpty[index] = false
                changes = true
            }
        }
        return isEmpty
    }

    // MARK: Types that a row takes

    /// - Parameters:
    ///   - w: The writer's type.
    ///   - r: The reader's, if there is one.
    ///   - place: Of the value in the row.
    mutating func bind(_ w: Int, _ r: Int?, _ type: FieldType, _ place: String) throws(AvroSchemaFailure) -> Int32 {
        if case .union(let branches) = writer.nodes[w].shape { return try union(branches, r, type, place) }
        if let r, let reader, case .union(let candidates) = reader.nodes[r].shape {
            return try bind(w, toOneOf: candidates.map { ($0, reader) }, type, place)
        }
        if let r, let reader { try checkPromotion(w, r, reader, place) }
        let shape = writer.nodes[w].shape
        if shape == .null {
            guard type.isOptional else { throw refusal(w, type, place) }
            return tables.append(.init(kind: .null, isEmpty: true), place: place)
        }
        let type = type.unwrapped
        switch (shape, type) {
        case (.array(let items), .array(let element)):
            let item = try bind(items, r.flatMap { partType($0) }, element, place + "[]")
            return tables.append(.init(kind: .array, first: item), place: place)
        case (.map(let values), .array(.record(_, let fields))):
            return try map(w, values, r.flatMap { partType($0) }, fields, type, place)
        case (.record, .record(let name, let fields)): return try record(w, r, name, fields, place)
        case (.enumeration(let symbols, _), .string): return enumeration(symbols, r, place)
        case (_, _):
            guard Self.accepts(r.flatMap { reader?.nodes[$0].shape } ?? shape, type), let kind = Self.kind(of: shape) else {
                throw refusal(w, type, place)
            }
            var node = AvroPlan.Node(kind: kind, isEmpty: isEmpty[w])
            if case .fixed(let bytes) = shape { node.count = Int32(bytes) }
            return tables.append(node, place: place)
        }
    }

    /// The reader's items of an array, or values of a map.
    private func partType(_ r: Int) -> Int? {
        switch reader?.nodes[r].shape {
        case .array(let items): items
        case .map(let values): values
        default: nil
        }
    }

    private func refusal(_ w: Int, _ type: FieldType, _ place: String) -> AvroSchemaFailure {
        AvroSchemaFailure("\(place.isEmpty ? "the record" : place) is \(writer.describe(w)) in the schema, which cannot become \(type.description)")
    }

    /// Each record says which branch it has: only those that no row can take are refused, once one comes.
    private mutating func union(_ branches: [Int], _ r: Int?, _ type: FieldType, _ place: String) throws(AvroSchemaFailure) -> Int32 {
        var children: [Int32] = []
        var first: AvroSchemaFailure?
        var hasBound = false
        for branch in branches {
            do throws(AvroSchemaFailure) {
                children.append(try bind(branch, r, type, place))
                hasBound = true
            } catch {
                if first == nil, writer.nodes[branch].shape != .null { first = error }
                tables.messages.append(error.message)
                children.append(tables.append(.init(kind: .refused, first: Int32(tables.messages.count - 1)), place: place))
            }
        }
        // A union of which only null fits is one of another type, save where it is nothing but null.
        let bindsOnlyNull = zip(branches, children).allSatisfy { writer.nodes[$0].shape == .null || tables.nodes[Int($1)].kind == .refused }
        if let first, !hasBound || bindsOnlyNull { throw first }
        guard hasBound else { throw AvroSchemaFailure("\(place) is null in the schema, which cannot become \(type.description)") }
        let start = Int32(tables.branches.count)
        tables.branches += children
        return tables.append(.init(kind: .union, count: Int32(children.count), first: start), place: place)
    }

    /// The reader's first branch of the same type, else its first that the type can be promoted to.
    private mutating func bind(
        _ w: Int, toOneOf candidates: [(index: Int, schema: AvroSchema)], _ type: FieldType, _ place: String
    ) throws(AvroSchemaFailure) -> Int32 {
        let same = candidates.filter { $0.schema.nodes[$0.index].shape.typeName == writer.nodes[w].shape.typeName }
        let others = candidates.filter { $0.schema.nodes[$0.index].shape.typeName != writer.nodes[w].shape.typeName }
        var failure: AvroSchemaFailure?
        for candidate in same + others {
            do throws(AvroSchemaFailure) { return try bind(w, candidate.index, type, place) } catch { failure = failure ?? error }
        }
        throw failure ?? refusal(w, type, place)
    }

    private mutating func enumeration(_ symbols: [String], _ r: Int?, _ place: String) -> Int32 {
        let first = Int32(tables.symbols.count)
        if let r, let reader, case .enumeration(let known, let fallback) = reader.nodes[r].shape {
            tables.symbols += symbols.map { known.contains($0) ? $0 : fallback }
        } else {
            tables.symbols += symbols
        }
        return tables.append(.init(kind: .enumeration, count: Int32(symbols.count), first: first), place: place)
    }

    /// A map is read as an array of records of a key and a value: their bytes are the same.
    private mutating func map(
        _ w: Int, _ values: Int, _ r: Int?, _ fields: [FieldType.Field], _ type: FieldType, _ place: String
    ) throws(AvroSchemaFailure) -> Int32 {
        guard let key = fields.firstIndex(where: { $0.name == "key" && $0.type == .string }),
            let value = fields.firstIndex(where: { $0.name == "value" }), fields.count == 2
        else {
            throw AvroSchemaFailure(
                "\(place) is \(writer.describe(w)) in the schema: it becomes an array of records with the fields key, a String, and value, but not "
                    + type.description)
        }
        let keyNode = tables.append(.init(kind: .string), place: place + "[].key")
        let valueNode = try bind(values, r, fields[value].type, place + "[].value")
        let first = tables.append([
            (.init(field: Int32(key), node: keyNode), place + "[].key"), (.init(field: Int32(value), node: valueNode), place + "[].value"),
        ])
        let item = tables.append(.init(kind: .record, first: first), place: place + "[]")
        return tables.append(.init(kind: .array, first: item), place: place)
    }

    // MARK: Records

    private mutating func record(
        _ w: Int, _ r: Int?, _ name: String, _ fields: [FieldType.Field], _ place: String
    ) throws(AvroSchemaFailure) -> Int32 {
        guard case .record(let written) = writer.nodes[w].shape else { preconditionFailure("only records are read as records") }
        var known: [AvroSchema.Field]?
        if let r, let reader, case .record(let fields) = reader.nodes[r].shape { known = fields }
        var steps: [(step: AvroPlan.Step, place: String)] = []
        var missing = Set(fields.indices)
        var resolved: Set<String> = []
        for field in written {
            let match = known.map { known in
                known.first { $0.name == field.name }
                    ?? known.first { candidate in candidate.aliases.contains(field.name) && !written.contains { $0.name == candidate.name } }
            }
            // Without a reader's schema, the row's names are the reader's.
            let target = match.map { $0?.name } ?? field.name
            if let target { resolved.insert(target) }
            let inner = place.isEmpty ? field.name : "\(place).\(field.name)"
            if let target, let index = fields.firstIndex(where: { $0.name == target }), missing.remove(index) != nil {
                steps.append((.init(field: Int32(index), node: try bind(field.type, match??.type, fields[index].type, inner)), inner))
            } else {
                steps.append((.init(field: AvroPlan.Step.skip, node: try skip(field.type, inner, depth: 0)), inner))
            }
        }
        for field in known ?? [] where !resolved.contains(field.name) {
            guard let index = fields.firstIndex(where: { $0.name == field.name }), let value = field.defaultValue, missing.remove(index) != nil else {
                continue
            }
            steps.append((try defaultStep(field, value, index, fields[index].type, place), place))
        }
        for index in missing.sorted() where !fields[index].hasDefault && !fields[index].type.isOptional {
            let whose = writer.nodes[w].name ?? ""
            throw AvroSchemaFailure(
                "record \(whose) has no field \"\(fields[index].name)\", which \(name) needs: give it a default, or make it optional")
        }
        return tables.append(.init(kind: .record, isEmpty: isEmpty[w], first: tables.append(steps)), place: place)
    }

    /// A default is read from its own bytes, which are of the reader's schema.
    private mutating func defaultStep(
        _ field: AvroSchema.Field, _ value: JSONTree, _ index: Int, _ type: FieldType, _ place: String
    ) throws(AvroSchemaFailure) -> AvroPlan.Step {
        guard let reader else { preconditionFailure("only a reader's schema has defaults") }
        let inner = place.isEmpty ? field.name : "\(place).\(field.name)"
        guard let bytes = try defaults?.encode(value, as: field.type, place: "the default of \(inner)") else {
            preconditionFailure("a reader's schema comes with its encoder")
        }
        tables.constants.append(bytes)
        let constant = Int32(tables.constants.count - 1)
        let saved = (writer, skips, isEmpty)
        (writer, skips, isEmpty) = (reader, [:], Self.emptiness(reader))
        defer { (writer, skips, isEmpty) = saved }
        let node = try bind(field.type, field.type, type, inner)
        return .init(field: AvroPlan.Step.firstDefault - Int32(index), node: node, constant: constant)
    }

    // MARK: Types that no row takes

    private mutating func skip(_ w: Int, _ place: String, depth: Int) throws(AvroSchemaFailure) -> Int32 {
        if let node = skips[w] { return node }
        guard depth <= Self.skipDepthMax else {
            throw AvroSchemaFailure("\(place) has more than \(Self.skipDepthMax) types inside each other")
        }
        // First the node, then what is inside it, which may be itself.
        let index = tables.append(.init(kind: .null, isEmpty: isEmpty[w]), place: place)
        skips[w] = index
        var node = tables.nodes[Int(index)]
        switch writer.nodes[w].shape {
        case .record(let fields):
            var steps: [(step: AvroPlan.Step, place: String)] = []
            for field in fields {
                let inner = "\(place).\(field.name)"
                steps.append((.init(field: AvroPlan.Step.skip, node: try skip(field.type, inner, depth: depth + 1)), inner))
            }
            node.kind = .record
            node.first = tables.append(steps)
        case .array(let items):
            node.kind = .array
            node.first = try skip(items, place + "[]", depth: depth + 1)
        case .map(let values):
            let key = tables.append(.init(kind: .string), place: place + "[].key")
            let value = try skip(values, place + "[].value", depth: depth + 1)
            let first = tables.append([
                (.init(field: AvroPlan.Step.skip, node: key), place + "[].key"), (.init(field: AvroPlan.Step.skip, node: value), place + "[].value"),
            ])
            node.kind = .array
            node.first = tables.append(.init(kind: .record, first: first), place: place + "[]")
        case .union(let branches):
            var children: [Int32] = []
            for branch in branches { children.append(try skip(branch, place, depth: depth + 1)) }
            node.kind = .union
            node.count = Int32(children.count)
            node.first = Int32(tables.branches.count)
            tables.branches += children
        case .fixed(let bytes):
            node.kind = .fixed
            node.count = Int32(bytes)
        // A symbol is an integer like others for who does not look at it.
        case .enumeration: node.kind = .int
        case let shape: node.kind = Self.kind(of: shape) ?? .null
        }
        tables.nodes[Int(index)] = node
        return index
    }
}

// MARK: - What goes with what

extension AvroReadPlanBuilder {
    /// As it lies in the bytes, for types without parts.
    private static func kind(of shape: AvroSchema.Shape) -> AvroPlan.Kind? {
        switch shape {
        case .null: .null
        case .boolean: .boolean
        case .int: .int
        case .long: .long
        case .float: .float
        case .double: .double
        case .bytes: .bytes
        case .string: .string
        case .fixed: .fixed
        case .enumeration, .array, .map, .union, .record: nil
        }
    }

    /// Whether a row's field can be of the type; integers are checked as they come.
    private static func accepts(_ shape: AvroSchema.Shape, _ type: FieldType) -> Bool {
        switch (type, shape) {
        case (.bool, .boolean): true
        case (.int32, .int), (.int64, .int), (.uint8, .int), (.uint32, .int), (.uint64, .int), (.float, .int), (.double, .int): true
        case (.int32, .long), (.int64, .long), (.uint8, .long), (.uint32, .long), (.uint64, .long), (.float, .long), (.double, .long): true
        case (.float, .float), (.double, .float), (.double, .double): true
        case (.string, .string), (.string, .bytes), (.bytes, .string), (.bytes, .bytes), (.bytes, .fixed): true
        default: false
        }
    }

    /// Schema resolution of the specification, for the outermost type.
    private func checkPromotion(_ w: Int, _ r: Int, _ reader: AvroSchema, _ place: String) throws(AvroSchemaFailure) {
        let from = writer.nodes[w]
        let to = reader.nodes[r]
        let isPromotable: Bool
        switch (from.shape, to.shape) {
        case (.null, .null), (.boolean, .boolean), (.int, .int), (.long, .long), (.float, .float), (.double, .double), (.bytes, .bytes),
            (.string, .string), (.array, .array), (.map, .map):
            isPromotable = true
        case (.int, .long), (.int, .float), (.int, .double), (.long, .float), (.long, .double), (.float, .double), (.string, .bytes),
            (.bytes, .string):
            isPromotable = true
        case (.record, .record), (.enumeration, .enumeration): isPromotable = Self.haveSameName(from, to)
        case (.fixed(let one), .fixed(let other)): isPromotable = one == other && Self.haveSameName(from, to)
        default: isPromotable = false
        }
        let what = place.isEmpty ? "the record" : place
        guard isPromotable else {
            throw AvroSchemaFailure("\(what) was written as \(writer.describe(w)), which cannot be read as \(reader.describe(r))")
        }
        // The numbers would be taken for others.
        if let one = from.logical, let other = to.logical, one != other {
            throw AvroSchemaFailure("\(what) was written as \(one), which cannot be read as \(other)")
        }
    }

    /// Namespaces do not count, aliases do.
    private static func haveSameName(_ from: AvroSchema.Node, _ to: AvroSchema.Node) -> Bool {
        func last(_ name: String?) -> Substring? { name?.split(separator: ".").last }
        return last(from.name) == last(to.name) || from.name.map { to.aliases.contains($0) } ?? false
    }
}
