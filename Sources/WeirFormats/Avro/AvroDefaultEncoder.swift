import WeirBase

/// The binary form of fields' defaults, which schemas write as JSON.
struct AvroDefaultEncoder {
    /// Bytes of one default, at most.
    static let bytesMax = 1 << 20
    /// Values in all defaults of a schema, at most: without a limit, types that refer to each other make much of little.
    static let valuesMax = 200_000

    private let schema: AvroSchema
    private var values = 0
    private var place = ""
    private var writer = ByteWriter()

    init(_ schema: AvroSchema) { self.schema = schema }

    /// - Parameter place: Whose default it is, for messages.
    mutating func encode(_ value: JSONTree, as type: Int, place: String) throws(AvroSchemaFailure) -> [UInt8] {
        writer.removeAll()
        self.place = place
        try write(value, as: type, depth: 0)
        return writer.finish()
    }

    private func mismatch(_ value: JSONTree, _ type: Int) -> AvroSchemaFailure {
        AvroSchemaFailure("\(place) is \(value.text.prefix(60)), which is no value of \(schema.describe(type))")
    }

    private mutating func write(_ value: JSONTree, as type: Int, depth: Int) throws(AvroSchemaFailure) {
        values += 1
        guard depth <= AvroSchema.depthMax, writer.count <= Self.bytesMax, values <= Self.valuesMax else {
            throw AvroSchemaFailure("\(place) is too large, or too deep")
        }
        switch (schema.nodes[type].shape, value) {
        case (.array(let items), .array(let elements)):
            if !elements.isEmpty { AvroBinary.writeLong(Int64(elements.count), into: &writer) }
            for element in elements { try write(element, as: items, depth: depth + 1) }
            AvroBinary.writeLong(0, into: &writer)
        case (.map(let values), .object(let members)):
            if !members.isEmpty { AvroBinary.writeLong(Int64(members.count), into: &writer) }
            for (name, member) in members.sorted(by: { $0.key < $1.key }) {
                AvroBinary.writeString(name, into: &writer)
                try write(member, as: values, depth: depth + 1)
            }
            AvroBinary.writeLong(0, into: &writer)
        case (.record(let fields), .object(let members)):
            for field in fields {
                guard let member = members[field.name] ?? field.defaultValue else { throw mismatch(value, type) }
                try write(member, as: field.type, depth: depth + 1)
            }
        case (.union(let branches), _):
            // The specification asks for the first branch; later versions of it, and most writers of schemas, take any.
            for (index, branch) in branches.enumerated() {
                let count = writer.count
                AvroBinary.writeLong(Int64(index), into: &writer)
                do throws(AvroSchemaFailure) {
                    return try write(value, as: branch, depth: depth + 1)
                } catch {
                    writer.truncate(to: count)
                }
            }
            throw mismatch(value, type)
        case (let shape, _): try writeScalar(value, as: shape, type)
        }
    }

    private mutating func writeScalar(_ value: JSONTree, as shape: AvroSchema.Shape, _ type: Int) throws(AvroSchemaFailure) {
        switch (shape, value) {
        case (.null, .null): break
        case (.boolean, .bool(let value)): writer.writeU8(value ? 1 : 0)
        case (.int, .integer(let number)) where Int32(exactly: number) != nil: AvroBinary.writeLong(number, into: &writer)
        case (.long, .integer(let number)): AvroBinary.writeLong(number, into: &writer)
        case (.float, .integer(let number)): writer.writeFloat(Float(number))
        case (.float, .number(let number)): writer.writeFloat(Float(number))
        case (.double, .integer(let number)): writer.writeDouble(Double(number))
        case (.double, .number(let number)): writer.writeDouble(number)
        case (.string, .string(let text)): AvroBinary.writeString(text, into: &writer)
        case (.bytes, .string(let text)):
            guard let bytes = Self.bytes(text) else { throw mismatch(value, type) }
            AvroBinary.writeLong(Int64(bytes.count), into: &writer)
            writer.writeBytes(bytes)
        case (.fixed(let count), .string(let text)):
            guard let bytes = Self.bytes(text), bytes.count == count else { throw mismatch(value, type) }
            writer.writeBytes(bytes)
        case (.enumeration(let symbols, _), .string(let text)):
            guard let index = symbols.firstIndex(of: text) else { throw mismatch(value, type) }
            AvroBinary.writeLong(Int64(index), into: &writer)
        default: throw mismatch(value, type)
        }
    }

    /// Bytes are written as characters U+0000 to U+00FF.
    private static func bytes(_ text: String) -> [UInt8]? {
        var bytes: [UInt8] = []
        for scalar in text.unicodeScalars {
            guard let byte = UInt8(exactly: scalar.value) else { return nil }
            bytes.append(byte)
        }
        return bytes
    }
}

/// The pieces of Avro's binary form.
enum AvroBinary {
    /// Zigzag, then seven bits a byte, the lowest first.
    static func writeLong(_ value: Int64, into writer: inout ByteWriter) { writer.writeVarint(UInt64(bitPattern: value << 1 ^ value >> 63)) }

    static func writeString(_ text: String, into writer: inout ByteWriter) {
        var text = text
        text.withUTF8 { utf8 in
            writeLong(Int64(utf8.count), into: &writer)
            writer.writeBytes(UnsafeRawBufferPointer(utf8))
        }
    }
}
