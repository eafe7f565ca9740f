public import WeirBase
import Synchronization

/// Where records say which schema they were written with.
public enum AvroFraming: Sendable {
    /// Nowhere: nothing but the value, written with `writer` or, if that is nil, with the format's own schema.
    case none(writer: AvroSchema? = nil)
    /// Single-object encoding of the specification: `C3 01`, the schema's fingerprint in eight bytes, little-endian, and the value.
    ///
    /// Records of the format's own schema and of those in `known` can be read.
    case singleObject(known: [AvroSchema] = [])
    /// Confluent's framing: `00`, the schema's id in four bytes, big-endian, and the value. Ids are found in a registry.
    ///
    /// A sink registers the format's schema under the subject, by custom the topic's name and `-value`. A source takes any id.
    case registry(any SchemaRegistry, subject: String)
}

/// Where the schemas of ids are found, and the ids of schemas.
public protocol SchemaRegistry: Sendable {
    /// The schema of an id. Never waits.
    ///
    /// - Throws: ``SchemaPending`` while it is being fetched; ``FormatFailure`` if there is none with the id, or it is no Avro; a `JobFailure` if
    ///   the registry cannot be asked.
    func schema(id: UInt32) throws -> AvroSchema

    /// The id of a schema, which is registered unless it is already. May wait.
    ///
    /// - Throws: A `JobFailure` that says what to do.
    func register(_ schema: AvroSchema, subject: String) throws -> UInt32
}

/// Avro's binary form of `@Record` types, read straight into their fields.
///
///     .kafka(bootstrap, topics: ["readings"], format: try .avro(Reading.self))
///     .kafka(bootstrap, topics: ["readings"], format: try .avro(Reading.self, schema: AvroSchema(parsing: text), framing: .singleObject()))
///
/// A record's fields are found by name; those that the type does not have are skipped. Without a schema of one's own the type gives it: see
/// ``AvroSchema/init(of:)``. With one, it is the reader's schema of the specification: its aliases, promotions and defaults count. Numbers of
/// logical types come as they are: a `timestamp-micros` is an `Int64` of microseconds, a `date` an `Int32` of days, a `decimal` its bytes.
/// A map becomes an array of records with the fields `key` and `value`, an enum a `String`, a fixed `[UInt8]`.
public struct AvroFormat<Row: FieldCodable>: DeserializationSchema, SerializationSchema {
    /// What rows are written with, and read as.
    public let schema: AvroSchema
    @usableFromInline let reading: AvroReading
    @usableFromInline let writing: AvroWriting

    /// - Parameters:
    ///   - schema: Of the rows; that of the type if it is nil.
    ///   - framing: How records name the schema that they were written with.
    /// - Throws: ``AvroSchemaFailure`` if no row could be read.
    public init(_ type: Row.Type = Row.self, schema: AvroSchema? = nil, framing: AvroFraming = .none()) throws(AvroSchemaFailure) {
        let own = if let schema { schema } else { try AvroSchema(of: Row.fieldType) }
        self.schema = own
        reading = try AvroReading(own, reader: schema, type: Row.fieldType, framing: framing)
        writing = AvroWriting(own, type: Row.fieldType, framing: framing)
    }

    /// - Throws: ``FormatFailure`` where the bytes are no such record; ``SchemaPending`` where the schema is not here yet.
    @inlinable
    public func decode(_ bytes: UnsafeRawBufferPointer) throws -> Row {
        let (plan, headerBytes) = try reading.plan(of: bytes)
        var reader = AvroReader(UnsafeRawBufferPointer(rebasing: bytes[headerBytes...]), plan: plan, origin: bytes.baseAddress)
        let row = try Row(fields: &reader)
        try reader.finish()
        return row
    }

    public func prepare() throws { try writing.prepare() }

    /// - Throws: ``FormatFailure`` where the schema cannot hold the row.
    @inlinable
    public func encode(_ row: Row, into writer: inout ByteWriter) throws {
        let plan = try writing.begin(&writer)
        var avro = AvroWriter(writer, plan: plan)
        try row.encode(fields: &avro)
        writer = avro.bytes
    }
}

extension DeserializationSchema {
    /// Avro's binary form; see ``AvroFormat``.
    ///
    /// - Throws: ``AvroSchemaFailure`` if no row could be read.
    public static func avro<T>(
        _ type: T.Type, schema: AvroSchema? = nil, framing: AvroFraming = .none()
    ) throws(AvroSchemaFailure) -> AvroFormat<T> where Self == AvroFormat<T> {
        try AvroFormat(type, schema: schema, framing: framing)
    }
}

extension SerializationSchema {
    /// Avro's binary form; see ``AvroFormat``.
    ///
    /// - Throws: ``AvroSchemaFailure`` if no row could be written.
    public static func avro<T>(
        _ type: T.Type, schema: AvroSchema? = nil, framing: AvroFraming = .none()
    ) throws(AvroSchemaFailure) -> AvroFormat<T> where Self == AvroFormat<T> {
        let format = try AvroFormat(type, schema: schema, framing: framing)
        try format.writing.check()
        return format
    }
}

/// The half of a format that finds the schema of a record.
@usableFromInline
struct AvroReading: Sendable {
    /// The plan of all records, where none names its schema.
    @usableFromInline let only: AvroPlan?
    private let framing: AvroFraming
    private let cache = AvroPlanCache()
    private let reader: AvroSchema?
    private let type: FieldType

    init(_ own: AvroSchema, reader: AvroSchema?, type: FieldType, framing: AvroFraming) throws(AvroSchemaFailure) {
        self.framing = framing
        self.reader = reader
        self.type = type
        switch framing {
        case .none(let writer): only = try .reading(writer ?? own, as: reader, into: type)
        case .singleObject(let known):
            only = nil
            for schema in [own] + known {
                let plan = try AvroPlan.reading(schema, as: reader, into: type)
                do {
                    try cache.add(schema.fingerprint, .success(plan))
                } catch {
                    throw AvroSchemaFailure("more than \(AvroPlanCache.schemasMax) known schemas")
                }
            }
        case .registry:
            only = nil
            // Told where the job is defined, not by the first record.
            _ = try AvroPlan.reading(own, as: reader, into: type)
        }
    }

    /// The plan of a record, and how many bytes stand before its value.
    @inlinable @inline(__always)
    func plan(of bytes: UnsafeRawBufferPointer) throws -> (Unmanaged<AvroPlan>, headerBytes: Int) {
        if let only { return (Unmanaged.passUnretained(only), 0) }
        return try framedPlan(of: bytes)
    }

    @usableFromInline @inline(never)
    func framedPlan(of bytes: UnsafeRawBufferPointer) throws -> (Unmanaged<AvroPlan>, headerBytes: Int) {
        if case .registry(let registry, _) = framing { return (try plan(of: bytes, in: registry), 5) }
        guard bytes.count >= 10, bytes[0] == 0xC3, bytes[1] == 0x01 else {
            throw FormatFailure("Avro", .malformed, "no single-object encoding: c3 01 and eight bytes of a fingerprint expected", offset: 0)
        }
        let fingerprint = UInt64(littleEndian: bytes.loadUnaligned(fromByteOffset: 2, as: UInt64.self))
        if let plan = try cache.find(fingerprint) { return (plan, 10) }
        throw FormatFailure("Avro", .unknownSchema, "a record of the unknown schema with the fingerprint \(hexadecimal(fingerprint))", offset: 2)
    }

    private func plan(of bytes: UnsafeRawBufferPointer, in registry: any SchemaRegistry) throws -> Unmanaged<AvroPlan> {
        guard bytes.count >= 5, bytes[0] == 0 else {
            throw FormatFailure("Avro", .malformed, "no registry's framing: a zero and four bytes of a schema's id expected", offset: 0)
        }
        let id = UInt32(bigEndian: bytes.loadUnaligned(fromByteOffset: 1, as: UInt32.self))
        if let plan = try cache.find(UInt64(id)) { return plan }
        let schema = try registry.schema(id: id)
        let plan: Result<AvroPlan, FormatFailure>
        do throws(AvroSchemaFailure) {
            plan = .success(try .reading(schema, as: reader, into: type))
        } catch {
            plan = .failure(FormatFailure("Avro", .typeMismatch, "a record of schema \(id): \(error.message)", offset: 1))
        }
        try cache.add(UInt64(id), plan)
        guard let found = try cache.find(UInt64(id)) else { preconditionFailure("a plan that was added is found") }
        return found
    }
}

/// The half of a format that writes which schema a record has.
@usableFromInline
struct AvroWriting: Sendable {
    /// The id of the schema in the registry, once it is known; one above, so that 0 is none.
    private final class Registration: Sendable {
        let idPlusOne = Atomic<UInt64>(0)
    }

    private let plan: Result<AvroPlan, AvroSchemaFailure>
    /// The plan, where nothing stands before the value.
    @usableFromInline let bare: AvroPlan?
    private let schema: AvroSchema
    private let framing: AvroFraming
    private let header: [UInt8]
    private let registration = Registration()

    init(_ schema: AvroSchema, type: FieldType, framing: AvroFraming) {
        self.schema = schema
        self.framing = framing
        // A format may be for reading only.
        do throws(AvroSchemaFailure) {
            plan = .success(try .writing(schema, from: type))
        } catch {
            plan = .failure(error)
        }
        if case .none = framing { bare = try? plan.get() } else { bare = nil }
        if case .singleObject = framing {
            header = [0xC3, 0x01] + withUnsafeBytes(of: schema.fingerprint.littleEndian) { [UInt8]($0) }
        } else {
            header = []
        }
    }

    func check() throws(AvroSchemaFailure) { _ = try plan.get() }

    func prepare() throws {
        try check()
        guard case .registry(let registry, let subject) = framing else { return }
        registration.idPlusOne.store(UInt64(try registry.register(schema, subject: subject)) + 1, ordering: .releasing)
    }

    /// Writes what stands before the value.
    @inlinable @inline(__always)
    func begin(_ writer: inout ByteWriter) throws -> Unmanaged<AvroPlan> {
        if let bare { return Unmanaged.passUnretained(bare) }
        return try beginFramed(&writer)
    }

    @usableFromInline @inline(never)
    func beginFramed(_ writer: inout ByteWriter) throws -> Unmanaged<AvroPlan> {
        switch framing {
        case .none(_): break
        case .singleObject(_): writer.writeBytes(header)
        case .registry(_, _):
            let id = registration.idPlusOne.load(ordering: .acquiring)
            guard id > 0 else { preconditionFailure("an Avro format with a registry is prepared before it encodes") }
            writer.writeU8(0)
            writer.writeU32(UInt32(truncatingIfNeeded: id - 1).bigEndian)
        }
        return Unmanaged.passUnretained(try plan.get())
    }
}

/// Sixteen digits.
private func hexadecimal(_ value: UInt64) -> String {
    let digits = String(value, radix: 16)
    return String(repeating: "0", count: 16 - digits.count) + digits
}
