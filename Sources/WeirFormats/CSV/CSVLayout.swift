import WeirBase

/// Which column of a document is which field of a row: worked out once.
@usableFromInline
package final class CSVLayout: Sendable {
    /// Columns of a document, at most.
    package static let columnsMax = 10_000

    @usableFromInline let delimiter: UInt8
    /// An unquoted cell of these bytes is nil, where the field may be.
    let nullText: [UInt8]
    /// The fields' names, as they stand in a header.
    let columns: [String]
    /// A column's field, or -1.
    let fields: [Int]
    /// Whether a column's field may be nil, so that a text of ``nullText`` has to be quoted.
    let isOptional: [Bool]
    let typeName: String

    /// - Throws: What cannot be read.
    init(_ type: FieldType, columns: [String]?, delimiter: Character, nullText: String) throws(ConfigurationError) {
        guard case .record(let name, let rowFields) = type else {
            throw ConfigurationError(["CSV is for @Record types, and \(type.description) is none"])
        }
        var problems: [String] = []
        for field in rowFields {
            switch field.type.unwrapped {
            case .array, .bytes, .record, .optional:
                problems.append("CSV has no cells for field \"\(field.name)\" of \(name), which is a \(field.type.unwrapped.description)")
            case .bool, .int32, .int64, .uint8, .uint32, .uint64, .float, .double, .string: break
            }
        }
        let columns = columns ?? rowFields.map(\.name)
        if columns.count > Self.columnsMax { problems.append("\(columns.count) columns of CSV, more than \(Self.columnsMax)") }
        if columns.isEmpty { problems.append("CSV needs a column") }
        if Set(columns).count != columns.count { problems.append("two columns of CSV have the same name: \(columns.joined(separator: ", "))") }
        let fields = columns.map { column in rowFields.firstIndex { $0.name == column } ?? -1 }
        for (index, field) in rowFields.enumerated() where !fields.contains(index) && !field.hasDefault && !field.type.isOptional {
            problems.append(
                "no column is called \"\(field.name)\", which \(name) needs; there are \(columns.joined(separator: ", ")). "
                    + "Give the field a default, make it optional, or name its column with @Field")
        }
        let byte = delimiter.asciiValue ?? 0
        if byte == 0 || byte == UInt8(ascii: "\"") || byte == 0x0A || byte == 0x0D {
            problems.append("a delimiter of CSV is one ASCII character, neither a quote nor the end of a line")
        }
        if nullText.utf8.contains(where: { [byte, UInt8(ascii: "\""), 0x0A, 0x0D].contains($0) }) {
            problems.append("the text for nil in CSV holds a delimiter, a quote or the end of a line")
        }
        guard problems.isEmpty else { throw ConfigurationError(problems) }
        self.delimiter = byte
        self.nullText = Array(nullText.utf8)
        self.columns = columns
        self.fields = fields
        isOptional = fields.map { $0 >= 0 && rowFields[$0].type.isOptional }
        typeName = name
        unwritten = rowFields.indices.filter { !fields.contains($0) }.map { rowFields[$0].name }
    }

    /// Fields without a column.
    private let unwritten: [String]

    /// - Throws: What a document would lose, or be missing.
    func checkWriting() throws(ConfigurationError) {
        var problems = unwritten.map { "no column is called \"\($0)\", and that field of \(typeName) would be lost" }
        for (column, field) in zip(columns, fields) where field < 0 { problems.append("column \"\(column)\" is no field of \(typeName)") }
        if !problems.isEmpty { throw ConfigurationError(problems) }
    }
}
