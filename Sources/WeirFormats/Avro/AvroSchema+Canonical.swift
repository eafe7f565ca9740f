import WeirBase

extension AvroSchema {
    /// The "Parsing Canonical Form" of the specification: two schemas with the same one read each other's bytes.
    ///
    /// Full names, no attributes but `name`, `type`, `fields`, `symbols`, `items`, `values`, `size`, in that order, no whitespace.
    public var canonicalForm: String {
        var writer = JSONWriter()
        var defined: Set<String> = []
        writeCanonical(root, defined: &defined, into: &writer)
        return writer.bytes.withBytes { String(decoding: $0, as: UTF8.self) }
    }

    private func writeCanonical(_ index: Int, defined: inout Set<String>, into json: inout JSONWriter) {
        let node = nodes[index]
        if let name = node.name, !defined.insert(name).inserted {
            json.writeString(name)
            return
        }
        switch node.shape {
        case .null, .boolean, .int, .long, .float, .double, .bytes, .string: json.writeString(node.shape.typeName)
        case .array(let items):
            json.writeLiteral(#"{"type":"array","items":"#)
            writeCanonical(items, defined: &defined, into: &json)
            json.writeLiteral("}")
        case .map(let values):
            json.writeLiteral(#"{"type":"map","values":"#)
            writeCanonical(values, defined: &defined, into: &json)
            json.writeLiteral("}")
        case .union(let branches):
            for (position, branch) in branches.enumerated() {
                json.writeLiteral(position == 0 ? "[" : ",")
                writeCanonical(branch, defined: &defined, into: &json)
            }
            json.writeLiteral("]")
        case .enumeration(let symbols, _):
            writeName(node, "enum", into: &json)
            json.writeLiteral(#","symbols":"#)
            symbols.encode(json: &json)
            json.writeLiteral("}")
        case .fixed(let bytes):
            writeName(node, "fixed", into: &json)
            json.writeLiteral(#","size":"#)
            json.writeInteger(Int64(bytes))
            json.writeLiteral("}")
        case .record(let fields):
            writeName(node, "record", into: &json)
            json.writeLiteral(#","fields":["#)
            for (position, field) in fields.enumerated() {
                json.writeLiteral(position == 0 ? #"{"name":"# : #",{"name":"#)
                json.writeString(field.name)
                json.writeLiteral(#","type":"#)
                writeCanonical(field.type, defined: &defined, into: &json)
                json.writeLiteral("}")
            }
            json.writeLiteral("]}")
        }
    }

    private func writeName(_ node: Node, _ type: StaticString, into json: inout JSONWriter) {
        json.writeLiteral(#"{"name":"#)
        json.writeString(node.name ?? "")
        json.writeLiteral(#","type":""#)
        json.writeLiteral(type)
        json.writeLiteral("\"")
    }

    /// CRC-64-AVRO of the canonical form: names the schema in single-object encoding.
    public var fingerprint: UInt64 { Self.fingerprint(of: canonicalForm.utf8) }

    /// The 64-bit Rabin fingerprint of the specification.
    static func fingerprint(of bytes: some Sequence<UInt8>) -> UInt64 {
        var fingerprint = emptyFingerprint
        for byte in bytes { fingerprint = fingerprint >> 8 ^ fingerprints[Int(truncatingIfNeeded: fingerprint) & 0xFF ^ Int(byte)] }
        return fingerprint
    }

    private static let emptyFingerprint: UInt64 = 0xC15D_213A_A4D7_A795
    private static let fingerprints: [UInt64] = (0..<256).map { byte in
        var value = UInt64(byte)
        for _ in 0..<8 { value = value >> 1 ^ (value & 1 == 0 ? 0 : emptyFingerprint) }
        return value
    }
}
