internal import WeirBase
public import WeirDataflow
public import WeirFormats

/// Reads state that another version of a `@Record` wrote.
///
/// Fields are found by name: that of the property, or the one that `@Field` gives it, which is how a property is renamed. A field that the state does
/// not have takes its default; one that the record no longer has is passed over; one that is no longer required may become optional. Anything
/// else is refused, by name, before a value is read.
struct RecordMigration: StateMigration {
    func decoder(of type: any BinaryCodable.Type, from writer: Schema) throws(DecodingFailure) -> StateDecoder {
        guard let type = type as? any (BinaryCodable & FieldCodable).Type else {
            throw DecodingFailure(
                "keyed state of another schema: \(writer.canonical), this job has \(type.schema.canonical); only values that are @Record can change",
                offset: 16)
        }
        return try decoder(type, writer)
    }

    private func decoder<Value: BinaryCodable & FieldCodable>(_: Value.Type, _ writer: Schema) throws(DecodingFailure) -> StateDecoder {
        let plan = try FieldPlan(from: writer, to: Value.schema, type: Value.fieldType, path: "")
        return { (target, replacing, bytes) throws(DecodingFailure) in
            var reader = PlannedReader(plan, bytes)
            let value: Value
            do throws(FormatFailure) {
                value = try Value(fields: &reader)
            } catch {
                throw DecodingFailure(error.message, offset: bytes.position)
            }
            bytes = reader.bytes
            let place = target.assumingMemoryBound(to: Value.self)
            if replacing { place.pointee = value } else { place.initialize(to: value) }
        }
    }
}

/// How bytes of one schema are read as values of another.
indirect enum FieldPlan: Sendable {
    struct Step: Sendable {
        /// The field's index in the record; nil: the record no longer has it.
        var index: Int?
        var writer: Schema
        var plan: FieldPlan?
    }

    case value
    case array(FieldPlan)
    /// The bytes say whether there is a value.
    case optional(FieldPlan)
    /// There is a value, of what has become optional.
    case present(FieldPlan)
    /// In the order of the bytes.
    case record([Step])

    /// - Parameter path: Of the field, as `route.legs.length`; empty for the value itself.
    init(from writer: Schema, to reader: Schema, type: FieldType, path: String) throws(DecodingFailure) {
        switch (writer, reader, type) {
        case (.optional(let writer), .optional(let reader), .optional(let type)):
            self = .optional(try FieldPlan(from: writer, to: reader, type: type, path: path))
        case (_, .optional(let reader), .optional(let type)):
            self = .present(try FieldPlan(from: writer, to: reader, type: type, path: path))
        case (.array(.uint8), .array(.uint8), .bytes): self = .value
        case (.array(let writer), .array(let reader), .array(let type)):
            self = .array(try FieldPlan(from: writer, to: reader, type: type, path: path + "[]"))
        case (.record(_, let written), .record(_, let wanted), .record(_, let types)) where wanted.count == types.count:
            self = .record(try Self.steps(from: written, to: wanted, types, path: path.isEmpty ? "" : path + "."))
        default:
            guard writer == reader, Self.isSimple(reader, type) else {
                let field = path.isEmpty ? "keyed state" : "keyed state: field \(path)"
                throw DecodingFailure("\(field) was \(writer.canonical) and is \(reader.canonical), which cannot be read as the other", offset: 16)
            }
            self = .value
        }
    }

    /// Whether the binary form is the one that a reader of fields expects: types may be written by hand.
    private static func isSimple(_ schema: Schema, _ type: FieldType) -> Bool {
        switch (schema, type) {
        case (.bool, .bool), (.int32, .int32), (.int64, .int64), (.uint8, .uint8), (.uint32, .uint32), (.uint64, .uint64), (.float, .float),
            (.double, .double), (.string, .string), (.bytes, .bytes):
            true
        default: false
        }
    }

    private static func steps(
        from written: [Schema.Field], to wanted: [Schema.Field], _ types: [FieldType.Field], path: String
    ) throws(DecodingFailure) -> [Step] {
        var steps = written.map { Step(index: nil, writer: $0.schema, plan: nil) }
        for (index, field) in wanted.enumerated() {
            // Its own name first: the state may have been written since the property was renamed.
            let place = written.firstIndex { $0.name == field.name } ?? written.firstIndex { $0.name == types[index].name }
            guard let place else {
                if types[index].hasDefault || types[index].type.isOptional { continue }
                throw DecodingFailure(
                    "keyed state: there is no field \(path)\(field.name), and it has no default; if it was renamed, say its former name with @Field",
                    offset: 16)
            }
            guard steps[place].index == nil else {
                throw DecodingFailure("keyed state: two fields would take what was \(path)\(written[place].name)", offset: 16)
            }
            steps[place].index = index
            steps[place].plan = try FieldPlan(from: written[place].schema, to: field.schema, type: types[index].type, path: path + field.name)
        }
        return steps
    }
}

extension FieldType {
    fileprivate var isOptional: Bool {
        if case .optional = self { true } else { false }
    }
}

/// Reads fields from Weir's binary form as a plan says.
struct PlannedReader: FieldReader {
    struct RecordPlace {
        let steps: [FieldPlan.Step]
        var next = 0
    }

    struct ArrayPlace {
        let element: FieldPlan
        var left: Int
    }

    private(set) var bytes: ByteReader
    private var plan: FieldPlan

    init(_ plan: FieldPlan, _ bytes: ByteReader) {
        self.plan = plan
        self.bytes = bytes
    }

    mutating func beginRecord() throws(FormatFailure) -> RecordPlace {
        guard case .record(let steps) = plan else { throw failure(.typeMismatch, "a record was expected") }
        return RecordPlace(steps: steps)
    }

    mutating func nextField(_ place: inout RecordPlace) throws(FormatFailure) -> Int {
        while place.next < place.steps.count {
            let step = place.steps[place.next]
            place.next += 1
            if let index = step.index, let plan = step.plan {
                self.plan = plan
                return index
            }
            try skip(step.writer)
        }
        return -1
    }

    mutating func beginArray() throws(FormatFailure) -> ArrayPlace {
        guard case .array(let element) = plan else { throw failure(.typeMismatch, "an array was expected") }
        return ArrayPlace(element: element, left: try take { (bytes) throws(DecodingFailure) in try bytes.readCount() })
    }

    mutating func nextElement(_ place: inout ArrayPlace) throws(FormatFailure) -> Bool {
        guard place.left > 0 else { return false }
        place.left -= 1
        plan = place.element
        return true
    }

    mutating func readNull() throws(FormatFailure) -> Bool {
        switch plan {
        case .present(let inner):
            plan = inner
            return false
        case .optional(let inner):
            let isThere = try readPresence()
            if isThere { plan = inner }
            return !isThere
        default: throw failure(.typeMismatch, "an optional was expected")
        }
    }

    private mutating func readPresence() throws(FormatFailure) -> Bool {
        let flag = try take { (bytes) throws(DecodingFailure) in try bytes.readU8() }
        guard flag <= 1 else { throw failure(.malformed, "an optional that begins with \(flag)") }
        return flag == 1
    }

    mutating func readBool() throws(FormatFailure) -> Bool { try take { (bytes) throws(DecodingFailure) in try Bool(from: &bytes) } }

    mutating func readInteger<T: FixedWidthInteger>(_ type: T.Type) throws(FormatFailure) -> T {
        let raw = try take { (bytes) throws(DecodingFailure) in try bytes.readBytes(T.bitWidth / 8) }
        return T(littleEndian: raw.loadUnaligned(as: T.self))
    }

    mutating func readDouble() throws(FormatFailure) -> Double { try take { (bytes) throws(DecodingFailure) in try Double(from: &bytes) } }
    mutating func readFloat() throws(FormatFailure) -> Float { try take { (bytes) throws(DecodingFailure) in try Float(from: &bytes) } }
    mutating func readString() throws(FormatFailure) -> String { try take { (bytes) throws(DecodingFailure) in try String(from: &bytes) } }
    mutating func readBytes() throws(FormatFailure) -> [UInt8] { try take { (bytes) throws(DecodingFailure) in try [UInt8](from: &bytes) } }

    func failure(_ reason: FormatFailure.Reason, _ message: String) -> FormatFailure {
        FormatFailure("state", reason, message, offset: bytes.position)
    }

    private mutating func take<Value>(_ body: (inout ByteReader) throws(DecodingFailure) -> Value) throws(FormatFailure) -> Value {
        do throws(DecodingFailure) { return try body(&bytes) } catch { throw failure(.malformed, error.message) }
    }

    /// Passes over a value of a schema.
    private mutating func skip(_ schema: Schema) throws(FormatFailure) {
        switch schema {
        case .bool, .uint8: _ = try readInteger(UInt8.self)
        case .int32, .uint32, .float: _ = try readInteger(UInt32.self)
        case .int64, .uint64, .double: _ = try readInteger(UInt64.self)
        case .string, .bytes:
            _ = try take { (bytes) throws(DecodingFailure) in try bytes.readBytes(try bytes.readCount()) }
        case .optional(let wrapped): if try readPresence() { try skip(wrapped) }
        case .array(let element):
            let count = try take { (bytes) throws(DecodingFailure) in try bytes.readCount() }
            for _ in 0..<count { try skip(element) }
        case .record(_, let fields): for field in fields { try skip(field.schema) }
        }
    }
}

// What state wraps records in.

extension TimedValue: FieldCodable where Value: FieldCodable {
    public static var fieldType: FieldType {
        .record(name: "TimedValue", fields: [.init("time", .int64), .init("value", Value.fieldType)])
    }

    public init<Source: FieldReader>(fields reader: inout Source) throws(FormatFailure) {
        var time: Int64?
        var value: Value?
        var place = try reader.beginRecord()
        fields: while true {
            switch try reader.nextField(&place) {
            case 0: time = try reader.readInteger(Int64.self)
            case 1: value = try Value(fields: &reader)
            default: break fields
            }
        }
        self.init(time: try reader.required(time, "time", of: "TimedValue"), value: try reader.required(value, "value", of: "TimedValue"))
    }

    public func encode<Target: FieldWriter>(fields writer: inout Target) throws(FormatFailure) {
        var place = try writer.beginRecord()
        while true {
            switch try writer.nextField(&place) {
            case 0: try writer.writeInteger(time)
            case 1: try value.encode(fields: &writer)
            default: return
            }
        }
    }
}

extension StateMapEntries: FieldCodable where Key: FieldCodable, Value: FieldCodable {
    public static var fieldType: FieldType {
        .array(.record(name: "Entry", fields: [.init("key", Key.fieldType), .init("value", Value.fieldType)]))
    }

    public init<Source: FieldReader>(fields reader: inout Source) throws(FormatFailure) {
        var entries: [Key: Value] = [:]
        var elements = try reader.beginArray()
        while try reader.nextElement(&elements) {
            var key: Key?
            var value: Value?
            var place = try reader.beginRecord()
            fields: while true {
                switch try reader.nextField(&place) {
                case 0: key = try Key(fields: &reader)
                case 1: value = try Value(fields: &reader)
                default: break fields
                }
            }
            entries[try reader.required(key, "key", of: "Entry")] = try reader.required(value, "value", of: "Entry")
        }
        self.init(entries)
    }

    public func encode<Target: FieldWriter>(fields writer: inout Target) throws(FormatFailure) {
        var elements = try writer.beginArray(count: entries.count)
        for (key, value) in entries {
            try writer.nextElement(&elements)
            var place = try writer.beginRecord()
            fields: while true {
                switch try writer.nextField(&place) {
                case 0: try key.encode(fields: &writer)
                case 1: try value.encode(fields: &writer)
                default: break fields
                }
            }
        }
        try writer.endArray(elements)
    }
}
