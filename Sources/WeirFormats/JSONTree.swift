import WeirBase

/// Any JSON value as a tree: for schemas and other documents of settings, never for rows.
package indirect enum JSONTree: JSONRecord, Hashable {
    case null
    case bool(Bool)
    case integer(Int64)
    case number(Double)
    case string(String)
    case array([JSONTree])
    /// Of members with one name, the last counts.
    case object([String: JSONTree])

    package init(json: inout JSONReader) throws(JSONFailure) {
        switch json.nextKind {
        case .null:
            guard json.readNull() else { throw json.unexpected("a value", at: json.cursor) }
            self = .null
        case .bool: self = .bool(try json.readBool())
        case .string: self = .string(try json.readString())
        case .array: self = .array(try [JSONTree](json: &json))
        case .object:
            var members: [String: JSONTree] = [:]
            var more = try json.beginObject()
            while more {
                var name = ""
                _ = try json.readField { key in
                    name = key.name
                    return 0
                }
                members[name] = try JSONTree(json: &json)
                more = try json.nextMember()
            }
            self = .object(members)
        case .number, nil:
            var attempt = json
            if let integer = try? attempt.readInteger(Int64.self), ![UInt8(ascii: "."), UInt8(ascii: "e"), UInt8(ascii: "E")].contains(attempt.next) {
                json = attempt
                self = .integer(integer)
            } else {
                self = .number(try json.readDouble())
            }
        }
    }

    package func encode(json: inout JSONWriter) {
        switch self {
        case .null: json.writeNull()
        case .bool(let value): json.writeBool(value)
        case .integer(let value): json.writeInteger(value)
        case .number(let value): json.writeDouble(value)
        case .string(let value): json.writeString(value)
        case .array(let elements): elements.encode(json: &json)
        case .object(let members):
            json.writeLiteral("{")
            for (index, member) in members.sorted(by: { $0.key < $1.key }).enumerated() {
                if index > 0 { json.writeLiteral(",") }
                json.writeString(member.key)
                json.writeLiteral(":")
                member.value.encode(json: &json)
            }
            json.writeLiteral("}")
        }
    }

    /// - Throws: Where the text is not one JSON document.
    package init(parsing text: String) throws(JSONFailure) {
        var text = text
        let parsed = text.withUTF8 { utf8 -> Result<JSONTree, JSONFailure> in
            do throws(JSONFailure) {
                var reader = JSONReader(UnsafeRawBufferPointer(utf8))
                let tree = try JSONTree(json: &reader)
                try reader.finish()
                return .success(tree)
            } catch {
                return .failure(error)
            }
        }
        self = try parsed.get()
    }

    /// The document's text, without whitespace, members sorted by name.
    package var text: String {
        var writer = JSONWriter()
        encode(json: &writer)
        return writer.bytes.withBytes { String(decoding: $0, as: UTF8.self) }
    }

    package var stringValue: String? { if case .string(let value) = self { value } else { nil } }
    package var integerValue: Int64? { if case .integer(let value) = self { value } else { nil } }
    package var arrayValue: [JSONTree]? { if case .array(let value) = self { value } else { nil } }
    package var objectValue: [String: JSONTree]? { if case .object(let value) = self { value } else { nil } }

    /// A member of an object; nil if there is none, or if this is no object.
    package subscript(name: String) -> JSONTree? { objectValue?[name] }
}
