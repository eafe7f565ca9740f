import WeirBase

extension AvroSchema {
    /// The schema of a row's type.
    ///
    /// Integers up to 32 bits signed are `int`, others `long`; optionals are `["null", …]` with the default null; `[UInt8]` is `bytes`.
    /// A type inside another one, `Outer.Reading`, is called `Outer_Reading`.
    ///
    /// - Throws: Where a name is none in Avro: give the field another one with `@Field`.
    public init<Row: FieldCodable>(of type: Row.Type) throws(AvroSchemaFailure) { try self.init(of: Row.fieldType) }

    init(of type: FieldType) throws(AvroSchemaFailure) {
        var json = JSONWriter()
        var defined: [String: FieldType] = [:]
        try Self.write(type, defined: &defined, into: &json)
        try self.init(parsing: json.bytes.withBytes { String(decoding: $0, as: UTF8.self) })
    }

    private static func write(_ type: FieldType, defined: inout [String: FieldType], into json: inout JSONWriter) throws(AvroSchemaFailure) {
        switch type {
        case .bool: json.writeString("boolean")
        case .int32, .uint8: json.writeString("int")
        case .int64, .uint32, .uint64: json.writeString("long")
        case .float: json.writeString("float")
        case .double: json.writeString("double")
        case .string: json.writeString("string")
        case .bytes: json.writeString("bytes")
        case .optional(let wrapped):
            json.writeLiteral(#"["null","#)
            try write(wrapped, defined: &defined, into: &json)
            json.writeLiteral("]")
        case .array(let element):
            json.writeLiteral(#"{"type":"array","items":"#)
            try write(element, defined: &defined, into: &json)
            json.writeLiteral("}")
        case .record(let typeName, let fields):
            // Without namespaces: from inside one, a name outside of all cannot be written.
            let name = String(typeName.map { $0 == "." ? "_" : $0 })
            if let other = defined[name] {
                guard other == type else { throw AvroSchemaFailure("two types of different modules are called \(typeName): rename one") }
                json.writeString(name)
                return
            }
            defined[name] = type
            json.writeLiteral(#"{"type":"record","name":"#)
            json.writeString(name)
            json.writeLiteral(#","fields":["#)
            for (index, field) in fields.enumerated() {
                json.writeLiteral(index == 0 ? #"{"name":"# : #",{"name":"#)
                json.writeString(field.name)
                json.writeLiteral(#","type":"#)
                try write(field.type, defined: &defined, into: &json)
                json.writeLiteral(field.type.isOptional ? #","default":null}"# : "}")
            }
            json.writeLiteral("]}")
        }
    }
}
