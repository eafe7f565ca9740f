package import WeirBase

extension StructSchema {
    /// Reads a structure of a version. Nesting is as deep as the schema, whatever the bytes say.
    ///
    /// - Parameter flexible: Whether the version has compact lengths and tagged fields.
    package func decode(_ reader: inout MessageReader, version: Int16, flexible: Bool) throws(DecodingFailure) -> KafkaStruct {
        var result = KafkaStruct(self)
        for (index, field) in fields.enumerated() where field.tag == nil && field.versions.contains(version) {
            let isNullable = field.nullable.contains(version)
            result.values[index] = try field.type.decode(&reader, version: version, flexible: flexible, field: field, isNullable: isNullable)
        }
        guard flexible else { return result }
        var tagged = result
        try reader.taggedFields { (tag, inner) throws(DecodingFailure) in
            guard let index = fields.firstIndex(where: { $0.tag == tag && $0.versions.contains(version) }) else { return }
            let field = fields[index]
            tagged.values[index] = try field.type.decode(
                &inner, version: version, flexible: true, field: field, isNullable: field.nullable.contains(version))
            try inner.expectEnd()
        }
        return tagged
    }

    /// Writes a structure in a version; fields that the version does not have are left out.
    package func encode(_ value: KafkaStruct, to writer: inout MessageWriter, version: Int16, flexible: Bool) {
        precondition(value.schema === self, "a structure of another schema")
        for (index, field) in fields.enumerated() where field.tag == nil && field.versions.contains(version) {
            field.type.encode(value.values[index], to: &writer, version: version, flexible: flexible, isNullable: field.nullable.contains(version))
        }
        guard flexible else { return }
        guard hasTags else { return writer.unsignedVarint(0) }
        let written = fields.indices
            .filter { fields[$0].tag != nil && fields[$0].versions.contains(version) && value.values[$0] != fields[$0].defaultValue }
            .sorted { (fields[$0].tag ?? 0) < (fields[$1].tag ?? 0) }
        writer.unsignedVarint(UInt32(written.count))
        for index in written {
            let field = fields[index]
            var inner = MessageWriter()
            field.type.encode(value.values[index], to: &inner, version: version, flexible: true, isNullable: field.nullable.contains(version))
            writer.unsignedVarint(field.tag ?? 0)
            writer.unsignedVarint(UInt32(inner.count))
            for piece in inner.finish() { writer.raw(piece) }
        }
    }
}

extension FieldType {
    fileprivate func decode(
        _ reader: inout MessageReader, version: Int16, flexible: Bool, field: FieldSchema, isNullable: Bool
    ) throws(DecodingFailure) -> KafkaValue {
        let start = reader.position
        let value = try decode(&reader, version: version, flexible: flexible, field: field)
        guard value != nil || isNullable else { throw DecodingFailure("\(field.name) must not be null", offset: start) }
        return value ?? .null
    }

    /// - Returns: nil for null.
    private func decode(
        _ reader: inout MessageReader, version: Int16, flexible: Bool, field: FieldSchema
    ) throws(DecodingFailure) -> KafkaValue? {
        switch self {
        case .bool: return .bool(try reader.integer(UInt8.self) != 0)
        case .int8: return .integer(Int64(try reader.integer(Int8.self)))
        case .int16: return .integer(Int64(try reader.integer(Int16.self)))
        case .uint16: return .integer(Int64(try reader.integer(UInt16.self)))
        case .int32: return .integer(Int64(try reader.integer(Int32.self)))
        case .int64: return .integer(try reader.integer())
        case .float64: return .double(Double(bitPattern: try reader.integer()))
        case .string: return try reader.string(compact: flexible).map { .string($0) }
        case .bytes, .records: return try reader.byteString(compact: flexible).map { .bytes($0) }
        case .uuid: return .uuid(KafkaUUID(high: try reader.integer(), low: try reader.integer()))
        case .structure(let schema): return .structure(try schema.decode(&reader, version: version, flexible: flexible))
        case .array(let element):
            guard let count = try reader.arrayCount(compact: flexible) else { return nil }
            var values: [KafkaValue] = []
            values.reserveCapacity(count)
            for _ in 0..<count {
                values.append(try element.decode(&reader, version: version, flexible: flexible, field: field, isNullable: false))
            }
            return .array(values)
        }
    }

    /// Null where the version does not allow it is written as the empty value.
    fileprivate func encode(_ value: KafkaValue, to writer: inout MessageWriter, version: Int16, flexible: Bool, isNullable: Bool) {
        let value = value == .null && !isNullable ? zero : value
        switch (self, value) {
        case (.bool, .bool(let flag)): writer.integer(UInt8(flag ? 1 : 0))
        case (.int8, .integer(let number)): writer.integer(Int8(number))
        case (.int16, .integer(let number)): writer.integer(Int16(number))
        case (.uint16, .integer(let number)): writer.integer(UInt16(number))
        case (.int32, .integer(let number)): writer.integer(Int32(number))
        case (.int64, .integer(let number)): writer.integer(number)
        case (.float64, .double(let number)): writer.integer(number.bitPattern)
        case (.string, .string(let text)): writer.string(text, compact: flexible)
        case (.string, .null): writer.string(nil, compact: flexible)
        case (.bytes, .bytes(let bytes)), (.records, .bytes(let bytes)): writer.byteString(bytes, compact: flexible)
        case (.bytes, .null), (.records, .null): writer.byteString(nil, compact: flexible)
        case (.records, .pieces(let pieces)):
            writer.length(pieces.reduce(0) { $0 + $1.count }, compact: flexible)
            for piece in pieces { writer.raw(piece) }
        case (.uuid, .uuid(let uuid)):
            writer.integer(uuid.high)
            writer.integer(uuid.low)
        case (.structure(let schema), .structure(let structure)):
            schema.encode(structure, to: &writer, version: version, flexible: flexible)
        case (.structure(let schema), .null):
            schema.encode(KafkaStruct(schema), to: &writer, version: version, flexible: flexible)
        case (.array(let element), .array(let values)):
            writer.length(values.count, compact: flexible)
            for value in values { element.encode(value, to: &writer, version: version, flexible: flexible, isNullable: false) }
        case (.array, .null): writer.length(nil, compact: flexible)
        default: preconditionFailure("a field of type \(self) holds \(value)")
        }
    }
}
