/// Writes the extensions of a record.
///
/// It never writes a field's type: in an extension of a nested type, the names of the enclosing one are not in scope. The
/// generic functions of `RecordSupport` infer it from the property.
struct RecordCode {
    /// As it is reached from its file, `Outer.Reading`.
    let typeName: String
    /// With a space behind it, or empty.
    let access: String
    let fields: [RecordField]

    // MARK: Binary

    var binary: String {
        """
        extension \(typeName): Record {
            \(access)static let schema = Schema.record(
                name: "\(typeName)",
                fields: [
                    \(fields.map { "Schema.Field(\"\($0.name)\", Schema.of { (record: Self) in record.\($0.property) })," }.joined(separator: "\n            "))
                ])

            \(access)func encode(into writer: inout ByteWriter) {
                \(fields.map { "self.\($0.property).encode(into: &writer)" }.joined(separator: "\n        "))
            }

            \(access)init(from reader: inout ByteReader) throws(DecodingFailure) {
                \(fields.map { "self.\($0.property) = try reader.read()" }.joined(separator: "\n        "))
            }
        }
        """
    }

    // MARK: JSON

    var json: String {
        """
        extension \(typeName): JSONRecord {
            \(access)init(json: inout JSONReader) throws(JSONFailure) {
        \(indented(decoding, by: 8))
            }

            \(access)func encode(json: inout JSONWriter) {
        \(indented(encoding, by: 8))
            }

            /// The index of a field's name among the fields; -1: there is no such field.
            @inline(__always)
            private static func jsonField(_ key: JSONKey) -> Int {
        \(indented(lookUp, by: 8))
            }
        }
        """
    }

    /// Each case reads its field, and falls into the next one if that is what comes next in the document. `readField`, which is large, is in one
    /// place, so that it is inlined.
    private var decoding: [String] {
        var lines = fields.indices.map { "var value\($0) = JSONReader.unread { (record: Self) in record.\(fields[$0].property) }" }
        lines += [
            "if try json.beginObject() {",
            "    var field = json.takeKey(\(words(fields[0]))) ? 0 : -1",
            "    members: while true {",
            "        if field < 0 { field = try json.readField(Self.jsonField) }",
            "        switch field {",
        ]
        for index in fields.indices {
            lines += [
                "        case \(index):",
                "            try json.read(into: &value\(index))",
                "            guard try json.nextMember() else { break members }",
            ]
            if index + 1 < fields.count {
                lines += [
                    "            guard json.takeKey(\(words(fields[index + 1]))) else { break }",
                    "            fallthrough",
                ]
            }
        }
        lines += [
            "        default: break members",
            "        }",
            "        field = -1",
            "    }",
            "}",
        ]
        for (index, field) in fields.enumerated() {
            if field.hasDefault {
                lines.append("if let value\(index) { self.\(field.property) = value\(index) }")
            } else {
                lines.append(
                    "self.\(field.property) = try json.required(value\(index), \"\(field.jsonName)\", of: \"\(typeName)\")")
            }
        }
        return lines
    }

    private var encoding: [String] {
        var lines: [String] = []
        for (index, field) in fields.enumerated() {
            lines.append("json.writeLiteral(\"\(index == 0 ? "{" : ",")\\\"\(field.jsonName)\\\":\")")
            lines.append("self.\(field.property).encode(json: &json)")
        }
        return lines + ["json.writeLiteral(\"}\")"]
    }

    private var lookUp: [String] {
        var byCount: [Int: [Int]] = [:]
        for (index, field) in fields.enumerated() { byCount[field.quoted.count, default: []].append(index) }
        var lines = ["switch key.count {"]
        for (count, indices) in byCount.sorted(by: { $0.key < $1.key }) {
            lines.append("case \(count):")
            lines += indices.map { "    if key.matches(\(words(fields[$0], counted: false))) { return \($0) }" }
        }
        return lines + ["default: break", "}", "return -1"]
    }

    /// The quoted name as the arguments of a comparison: up to three words of eight bytes, the last ones overlapping.
    private func words(_ field: RecordField, counted: Bool = true) -> String {
        let bytes = field.quoted
        let offsets: [Int]
        switch bytes.count {
        case ...8: offsets = [0]
        case ...16: offsets = [0, bytes.count - 8]
        case ...24: offsets = [0, 8, bytes.count - 8]
        default: return "\"\\\"\(field.jsonName)\\\"\""
        }
        var arguments = offsets.map { offset in
            var word: UInt64 = 0
            for byte in bytes[offset..<min(offset + 8, bytes.count)].reversed() { word = word << 8 | UInt64(byte) }
            return "0x" + String(word, radix: 16, uppercase: true)
        }
        if counted { arguments.append("count: \(bytes.count)") }
        return arguments.joined(separator: ", ")
    }

    // MARK: Fields

    var fieldwise: String {
        """
        extension \(typeName): FieldCodable {
            \(access)static let fieldType = FieldType.record(
                name: "\(typeName)",
                fields: [
                    \(fields.map { fieldType($0) }.joined(separator: "\n            "))
                ])

            \(access)init<Source: FieldReader>(fields reader: inout Source) throws(FormatFailure) {
        \(indented(reading, by: 8))
            }

            \(access)func encode<Target: FieldWriter>(fields writer: inout Target) throws(FormatFailure) {
        \(indented(writing, by: 8))
            }
        }
        """
    }

    private func fieldType(_ field: RecordField) -> String {
        "FieldType.Field(\"\(field.jsonName)\", FieldType.of { (record: Self) in record.\(field.property) }, hasDefault: \(field.hasDefault)),"
    }

    private var reading: [String] {
        var lines = fields.indices.map { "var value\($0) = Source.unread { (record: Self) in record.\(fields[$0].property) }" }
        lines += ["var place = try reader.beginRecord()", "fields: while true {", "    switch try reader.nextField(&place) {"]
        for index in fields.indices { lines += ["    case \(index): try reader.read(into: &value\(index))"] }
        lines += ["    default: break fields", "    }", "}"]
        for (index, field) in fields.enumerated() {
            if field.hasDefault {
                lines.append("if let value\(index) { self.\(field.property) = value\(index) }")
            } else {
                lines.append("self.\(field.property) = try reader.required(value\(index), \"\(field.jsonName)\", of: \"\(typeName)\")")
            }
        }
        return lines
    }

    private var writing: [String] {
        var lines = ["var place = try writer.beginRecord()", "while true {", "    switch try writer.nextField(&place) {"]
        for (index, field) in fields.enumerated() { lines.append("    case \(index): try self.\(field.property).encode(fields: &writer)") }
        return lines + ["    default: return", "    }", "}"]
    }

    private func indented(_ lines: [String], by count: Int) -> String {
        lines.map { String(repeating: " ", count: count) + $0 }.joined(separator: "\n")
    }
}
