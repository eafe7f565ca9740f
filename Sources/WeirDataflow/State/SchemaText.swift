package import WeirBase

extension Schema {
    /// More would be a hostile or damaged text.
    private static let depthMax = 64

    /// Reads the text of ``canonical``.
    ///
    /// - Throws: ``DecodingFailure`` for any other text, with the place.
    package init(canonical text: String) throws(DecodingFailure) {
        var parser = SchemaParser(text: Array(text.utf8))
        self = try parser.type(depth: Self.depthMax)
        guard parser.isAtEnd else { throw parser.failure("more than one schema") }
    }
}

/// Recursive descent over:
///
///     type = ( primitive | "[" type "]" | name "{" [ name ":" type { "," name ":" type } ] "}" ) { "?" }
private struct SchemaParser {
    let text: [UInt8]
    private var position = 0
    private static let primitives: [String: Schema] = [
        "bool": .bool, "int32": .int32, "int64": .int64, "uint8": .uint8, "uint32": .uint32, "uint64": .uint64, "float": .float, "double": .double,
        "string": .string, "bytes": .bytes,
    ]

    init(text: [UInt8]) { self.text = text }

    var isAtEnd: Bool { position == text.count }

    func failure(_ message: String) -> DecodingFailure { DecodingFailure("a schema that cannot be read: \(message)", offset: position) }

    private mutating func take(_ character: Character) -> Bool {
        guard position < text.count, text[position] == character.asciiValue else { return false }
        position += 1
        return true
    }

    private mutating func expect(_ character: Character) throws(DecodingFailure) {
        guard take(character) else { throw failure("\"\(character)\" is missing") }
    }

    private mutating func name() throws(DecodingFailure) -> String {
        let end = text[position...].firstIndex { "{}[]:,?".utf8.contains($0) } ?? text.count
        guard end > position else { throw failure("a name is missing") }
        defer { position = end }
        return String(decoding: text[position..<end], as: UTF8.self)
    }

    mutating func type(depth: Int) throws(DecodingFailure) -> Schema {
        guard depth > 0 else { throw failure("it is nested too deeply") }
        var schema: Schema
        if take("[") {
            schema = .array(try type(depth: depth - 1))
            try expect("]")
        } else {
            let name = try name()
            if take("{") {
                schema = .record(name: name, fields: try fields(depth: depth - 1))
            } else if let primitive = Self.primitives[name] {
                schema = primitive
            } else {
                throw failure("there is no type \"\(name)\"")
            }
        }
        while take("?") { schema = .optional(schema) }
        return schema
    }

    private mutating func fields(depth: Int) throws(DecodingFailure) -> [Schema.Field] {
        var fields: [Schema.Field] = []
        guard !take("}") else { return fields }
        repeat {
            let name = try name()
            try expect(":")
            fields.append(.init(name, try type(depth: depth)))
        } while take(",")
        try expect("}")
        return fields
    }
}
