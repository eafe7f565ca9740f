/// Parses the tables of `Schemas+….swift`. They are our own constants, so what they say wrongly traps.
///
///     api EndTxn 26 versions 0-3 flexible 3          name, API key, versions spoken, first flexible version (none: "never")
///     request
///       transactionalId string                       two blanks a level; a field of every version
///       topics [] 2+ null 7+                         an array of structures, its fields below it; from version 2; may be null from 7
///         partitions []int32 1-4 = -1                versions 1 to 4; a default
///       currentLeader {} 12+ tag 1                   a structure, in the tagged fields under 1
///       memberId string?                             may be null in every version, and is by default
///     response
///
/// Types: bool int8 int16 uint16 int32 int64 float64 string bytes records uuid, each with [] before it for an array.
struct SchemaParser {
    private struct Line {
        var depth: Int
        var words: [Substring]
    }

    private let lines: [Line]
    private var next = 0

    init(_ text: String) {
        lines = text.split(separator: "\n").map { line in
            let blanks = line.prefix { $0 == " " }.count
            precondition(blanks % 2 == 0, "odd indentation: \(line)")
            return Line(depth: blanks / 2, words: line.split(separator: " "))
        }
    }

    mutating func parse() -> [ApiSchema] {
        var schemas: [ApiSchema] = []
        while next < lines.count { schemas.append(parseAPI()) }
        return schemas
    }

    private mutating func parseAPI() -> ApiSchema {
        let words = lines[next].words
        precondition(words.count == 7 && words[0] == "api", "not the first line of an API: \(words)")
        guard let number = Int16(words[2]), let key = ApiKey(rawValue: number) else { preconditionFailure("no such API: \(words)") }
        next += 1
        let request = parseMessage("request")
        let response = parseMessage("response")
        return ApiSchema(
            key: key, name: String(words[1]), versions: range(words[4]), flexibleFrom: words[6] == "never" ? .max : version(words[6]),
            request: request, response: response)
    }

    private mutating func parseMessage(_ title: String) -> StructSchema {
        precondition(next < lines.count && lines[next].words == [title[...]], "\(title) is missing")
        next += 1
        return StructSchema(parseFields(depth: 1))
    }

    private mutating func parseFields(depth: Int) -> [FieldSchema] {
        var fields: [FieldSchema] = []
        while next < lines.count, lines[next].depth == depth { fields.append(parseField()) }
        precondition(next == lines.count || lines[next].depth < depth, "a field deeper than its structure")
        return fields
    }

    private mutating func parseField() -> FieldSchema {
        let line = lines[next]
        next += 1
        var words = line.words[...]
        let name = String(words.removeFirst())
        var typeName = words.removeFirst()
        var nullable = VersionRange.none
        var preset: KafkaValue?
        if typeName.last == "?" {
            typeName.removeLast()
            nullable = .all
            preset = .null
        }
        let type: FieldType
        switch typeName {
        case "[]": type = .array(.structure(StructSchema(parseFields(depth: line.depth + 1))))
        case "{}": type = .structure(StructSchema(parseFields(depth: line.depth + 1)))
        default: type = scalar(typeName)
        }
        var versions = VersionRange.all
        var tag: UInt32?
        while let word = words.popFirst() {
            switch word {
            case "null": nullable = range(take(&words))
            case "tag": tag = UInt32(take(&words))
            case "=": preset = value(take(&words))
            default: versions = range(word)
            }
        }
        return FieldSchema(name: name, type: type, versions: versions, nullable: nullable, tag: tag, defaultValue: preset ?? type.zero)
    }

    private func take(_ words: inout ArraySlice<Substring>) -> Substring {
        guard let word = words.popFirst() else { preconditionFailure("a line of the tables ends too early") }
        return word
    }

    private func scalar(_ name: Substring) -> FieldType {
        switch name {
        case "bool": .bool
        case "int8": .int8
        case "int16": .int16
        case "uint16": .uint16
        case "int32": .int32
        case "int64": .int64
        case "float64": .float64
        case "string": .string
        case "bytes": .bytes
        case "records": .records
        case "uuid": .uuid
        case _ where name.hasPrefix("[]"): .array(scalar(name.dropFirst(2)))
        default: preconditionFailure("no such type: \(name)")
        }
    }

    private func value(_ word: Substring) -> KafkaValue {
        switch word {
        case "null": .null
        case "true": .bool(true)
        default: Int64(word).map { .integer($0) } ?? .string(String(word))
        }
    }

    private func version(_ word: Substring) -> Int16 {
        guard let version = Int16(word) else { preconditionFailure("no version: \(word)") }
        return version
    }

    /// "3+", "2-7" or "4".
    private func range(_ word: Substring) -> VersionRange {
        if word.last == "+" { return VersionRange(lowest: version(word.dropLast()), highest: .max) }
        let bounds = word.split(separator: "-")
        guard let first = bounds.first, let last = bounds.last else { preconditionFailure("no versions: \(word)") }
        return VersionRange(lowest: version(first), highest: version(last))
    }
}
