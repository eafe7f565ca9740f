/// JSON to be printed: keys stay in the order given, so that output is stable.
package indirect enum JSONValue: Sendable, Equatable {
    case object([Member])
    case array([JSONValue])
    case string(String)
    case integer(Int64)
    case unsigned(UInt64)
    case number(Double)
    case boolean(Bool)
    case null

    package struct Member: Sendable, Equatable {
        package var name: String
        package var value: JSONValue
    }

    package static func object(_ members: KeyValuePairs<String, JSONValue>) -> JSONValue {
        .object(members.map { Member(name: $0.key, value: $0.value) })
    }

    /// The text, or null for an empty one.
    package static func optional(_ text: String) -> JSONValue { text.isEmpty ? .null : .string(text) }

    /// Sorted by key.
    package static func map(_ values: [String: String]) -> JSONValue {
        .object(values.sorted { $0.key < $1.key }.map { Member(name: $0.key, value: .string($0.value)) })
    }

    /// One line.
    package var line: String {
        var text = ""
        write(to: &text, indent: nil, depth: 0)
        return text
    }

    /// Indented by two blanks a level, without a newline at the end.
    package var pretty: String {
        var text = ""
        write(to: &text, indent: "  ", depth: 0)
        return text
    }

    private func write(to text: inout String, indent: String?, depth: Int) {
        switch self {
        case .object(let members):
            Self.sequence(members, open: "{", close: "}", to: &text, indent: indent, depth: depth) { member, text in
                Self.quote(member.name, to: &text)
                text += indent == nil ? ":" : ": "
                member.value.write(to: &text, indent: indent, depth: depth + 1)
            }
        case .array(let elements):
            Self.sequence(elements, open: "[", close: "]", to: &text, indent: indent, depth: depth) { element, text in
                element.write(to: &text, indent: indent, depth: depth + 1)
            }
        case .string(let value): Self.quote(value, to: &text)
        case .integer(let value): text += "\(value)"
        case .unsigned(let value): text += "\(value)"
        case .number(let value): text += value.isFinite ? "\(value)" : "null"
        case .boolean(let value): text += value ? "true" : "false"
        case .null: text += "null"
        }
    }

    private static func sequence<Element>(
        _ elements: [Element], open: String, close: String, to text: inout String, indent: String?, depth: Int,
        _ body: (Element, inout String) -> Void
    ) {
        text += open
        for (index, element) in elements.enumerated() {
            if index > 0 { text += "," }
            if let indent { text += "\n" + String(repeating: indent, count: depth + 1) }
            body(element, &text)
        }
        if let indent, !elements.isEmpty { text += "\n" + String(repeating: indent, count: depth) }
        text += close
    }

    private static func quote(_ value: String, to text: inout String) {
        text += "\""
        for scalar in value.unicodeScalars {
            switch scalar {
            case "\"": text += "\\\""
            case "\\": text += "\\\\"
            case "\n": text += "\\n"
            case "\r": text += "\\r"
            case "\t": text += "\\t"
            case _ where scalar.value < 0x20 || scalar.value == 0x7F:
                let hex = String(scalar.value, radix: 16)
                text += "\\u" + String(repeating: "0", count: 4 - hex.count) + hex
            default: text.unicodeScalars.append(scalar)
            }
        }
        text += "\""
    }
}
