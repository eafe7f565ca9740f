import WeirBase

/// A schema of Apache Avro (specification 1.11): what records look like to who wrote them.
///
///     let schema = try AvroSchema(parsing: #"{"type":"record","name":"Reading","fields":[{"name":"id","type":"string"}]}"#)
///
/// A value. Its parts lie in one list and name each other by index, so that schemas may contain themselves.
public struct AvroSchema: Sendable, CustomStringConvertible {
    /// Bytes of a schema's text, at most.
    public static let textBytesMax = 1 << 20
    /// Types in a schema, at most: each mention of a primitive type is one.
    public static let typesMax = 10_000
    /// Types inside each other, at most.
    public static let depthMax = 64

    /// A type within a schema.
    package struct Node: Sendable, Hashable {
        package var shape: Shape
        /// With its namespace; nil for types without a name.
        package var name: String?
        /// With their namespaces.
        package var aliases: [String] = []
        package var logical: LogicalType?
    }

    package enum Shape: Sendable, Hashable {
        case null, boolean, int, long, float, double, bytes, string
        case array(items: Int)
        case map(values: Int)
        case union([Int])
        /// - Parameter default: What a reader makes of a symbol that it does not know.
        case enumeration(symbols: [String], default: String?)
        case fixed(bytes: Int)
        case record([Field])
    }

    package struct Field: Sendable, Hashable {
        package var name: String
        package var aliases: [String] = []
        package var type: Int
        /// What a reader takes where the writer has no such field.
        package var defaultValue: JSONTree?
    }

    /// What a number or bytes stand for. Those that are not named here, or whose attributes are wrong, are ignored, as the specification says.
    package enum LogicalType: Sendable, Hashable, CustomStringConvertible {
        /// An `int`: days since 1970-01-01.
        case date
        /// A `long`: milliseconds since 1970-01-01T00:00Z.
        case timestampMillis
        /// A `long`: microseconds since 1970-01-01T00:00Z.
        case timestampMicros
        /// `bytes` or a `fixed`: a big-endian two's complement number, divided by 10^scale.
        case decimal(precision: Int, scale: Int)

        package var description: String {
            switch self {
            case .date: "date"
            case .timestampMillis: "timestamp-millis"
            case .timestampMicros: "timestamp-micros"
            case .decimal(let precision, let scale): "decimal(\(precision), \(scale))"
            }
        }
    }

    package let nodes: [Node]
    package let root: Int
    /// The schema as JSON: the text it was parsed from, or made as.
    public let text: String

    package init(nodes: [Node], root: Int, text: String) {
        self.nodes = nodes
        self.root = root
        self.text = text
    }

    /// - Throws: Every JSON mistake by its place; of the schema's mistakes the first, by its name.
    public init(parsing text: String) throws(AvroSchemaFailure) { try self.init(parsing: text, references: []) }

    /// - Parameter references: Schemas whose named types `text` mentions without defining them; each may mention those before it. ``text`` has them not.
    /// - Throws: As ``init(parsing:)``; ``textBytesMax`` and ``typesMax`` count for all of them together.
    public init(parsing text: String, references: [String]) throws(AvroSchemaFailure) {
        let bytes = references.reduce(text.utf8.count) { $0 + $1.utf8.count }
        guard bytes <= Self.textBytesMax else { throw AvroSchemaFailure("the schema has \(bytes) bytes, more than \(Self.textBytesMax)") }
        var parser = AvroSchemaParser()
        for reference in references { _ = try parser.parse(try Self.tree(reference), namespace: "", depth: 0) }
        let root = try parser.parse(try Self.tree(text), namespace: "", depth: 0)
        try parser.checkDefaults()
        self.init(nodes: parser.nodes, root: root, text: text)
    }

    private static func tree(_ text: String) throws(AvroSchemaFailure) -> JSONTree {
        do {
            return try JSONTree(parsing: text)
        } catch {
            throw AvroSchemaFailure("the schema is no JSON document: \(error)")
        }
    }

    /// The full name of the outermost type; nil if it has none.
    public var name: String? { nodes[root].name }

    public var description: String { text }

    /// The type for messages: `com.acme.Reading`, `["null","string"]`, `array of long`.
    func describe(_ index: Int) -> String {
        let node = nodes[index]
        let logical = node.logical.map { " (\($0))" } ?? ""
        switch node.shape {
        case .array(let items): return "array of \(describe(items))"
        case .map(let values): return "map of \(describe(values))"
        case .union(let branches): return "union of " + branches.map { describe($0) }.joined(separator: ", ")
        case .record: return "record \(node.name ?? "")"
        case .enumeration: return "enum \(node.name ?? "")"
        case .fixed: return "fixed \(node.name ?? "")\(logical)"
        case .null, .boolean, .int, .long, .float, .double, .bytes, .string: return node.shape.typeName + logical
        }
    }
}

extension AvroSchema.Shape {
    static let primitives: [String: AvroSchema.Shape] = [
        "null": .null, "boolean": .boolean, "int": .int, "long": .long, "float": .float, "double": .double, "bytes": .bytes, "string": .string,
    ]

    /// As a schema names it.
    var typeName: String {
        switch self {
        case .null: "null"
        case .boolean: "boolean"
        case .int: "int"
        case .long: "long"
        case .float: "float"
        case .double: "double"
        case .bytes: "bytes"
        case .string: "string"
        case .array: "array"
        case .map: "map"
        case .union: "union"
        case .enumeration: "enum"
        case .fixed: "fixed"
        case .record: "record"
        }
    }
}

/// A schema that is none, or that does not go with another one or with a row's type: what is wrong, in words.
public struct AvroSchemaFailure: Error, Sendable, Equatable, CustomStringConvertible {
    public let message: String
    public init(_ message: String) { self.message = message }
    public var description: String { "Avro schema: \(message)" }
}
