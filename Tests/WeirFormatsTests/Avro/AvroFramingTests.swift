import Synchronization
import Testing
import WeirBase
import WeirFormats

/// A registry in memory, which has a schema only after it was asked for it once.
private final class SlowRegistry: SchemaRegistry {
    private struct State {
        var schemas: [UInt32: AvroSchema] = [:]
        var asked: Set<UInt32> = []
        var waiting: [@Sendable () -> Void] = []
    }
    private let state = Mutex(State())

    func add(_ id: UInt32, _ schema: AvroSchema) { state.withLock { $0.schemas[id] = schema } }

    func schema(id: UInt32) throws -> AvroSchema {
        try state.withLock { state in
            guard !state.asked.insert(id).inserted else {
                throw SchemaPending("schema \(id)") { [self] body in self.state.withLock { $0.waiting.append(body) } }
            }
            guard let schema = state.schemas[id] else { throw FormatFailure("Avro", .unknownSchema, "no schema \(id)", offset: 1) }
            return schema
        }
    }

    func answer() { for body in state.withLock({ $0.waiting }) { body() } }

    func register(_ schema: AvroSchema, subject: String) throws -> UInt32 {
        guard subject == "readings-value" else {
            throw JobFailure(domain: .external, recovery: .fail, message: "the registry refuses the schema of \(subject)")
        }
        return state.withLock { state in
            state.schemas[66_051] = schema
            return 66_051
        }
    }
}

@Record private struct OldVisible: Equatable {
    var x: Int
    var gone: String
}

@Suite struct AvroFramingTests {
    @Test func singleObjectEncodingCarriesTheFingerprint() throws {
        let format = try AvroFormat(Visible.self, framing: .singleObject())
        let encoded = try encodedBytes(Visible(x: 5), format)
        #expect(encoded.prefix(2) == [0xC3, 0x01])
        #expect(Array(encoded[2..<10]) == withUnsafeBytes(of: try AvroSchema(of: Visible.self).fingerprint.littleEndian) { [UInt8]($0) })
        #expect(encoded.dropFirst(10) == [0x0A])
        #expect(try decodeCopy(encoded, format) == Visible(x: 5))
        for count in 0..<encoded.count { #expect(formatFailure(Array(encoded.prefix(count)), format) != nil) }
    }

    @Test func singleObjectsOfKnownSchemasAreReadOthersRefused() throws {
        let old = try AvroFormat(OldVisible.self, framing: .singleObject())
        let encoded = try encodedBytes(OldVisible(x: 7, gone: "g"), old)
        let knowing = try AvroFormat(Visible.self, framing: .singleObject(known: [old.schema]))
        #expect(try decodeCopy(encoded, knowing) == Visible(x: 7))
        let failure = try #require(formatFailure(encoded, AvroFormat(Visible.self, framing: .singleObject())))
        #expect(failure.reason == .unknownSchema)
        #expect(failure.message.hasPrefix("a record of the unknown schema with the fingerprint "))
    }

    @Test func recordsOfARegistryCarryTheIdAndWaitForTheSchema() throws {
        let registry = SlowRegistry()
        let format = try AvroFormat(Visible.self, framing: .registry(registry, subject: "readings-value"))
        try format.prepare()
        let encoded = try encodedBytes(Visible(x: 5), format)
        #expect(encoded == [0, 0, 1, 2, 3, 0x0A])

        let pending = #expect(throws: SchemaPending.self) { try decodeCopy(encoded, format) }
        let calls = Mutex(0)
        pending?.whenReady { calls.withLock { $0 += 1 } }
        registry.answer()
        #expect(calls.withLock { $0 } == 1)
        for _ in 0..<3 { #expect(try decodeCopy(encoded, format) == Visible(x: 5)) }
        for count in 0..<encoded.count { #expect(formatFailure(Array(encoded.prefix(count)), format) != nil) }
        #expect(formatFailure([1] + encoded.dropFirst(), format)?.reason == .malformed)
    }

    @Test func schemasOfAllIDsAreResolvedAgainstTheRow() throws {
        let registry = SlowRegistry()
        registry.add(1, try AvroSchema(of: Visible.self))
        registry.add(2, try AvroSchema(of: OldVisible.self))
        registry.add(3, try AvroSchema(parsing: #"{"type":"record","name":"R","fields":[{"name":"x","type":"string"}]}"#))
        let format = try AvroFormat(Visible.self, framing: .registry(registry, subject: "readings-value"))
        for id in 1...4 as ClosedRange<UInt8> {
            #expect(throws: SchemaPending.self) { try decodeCopy([0, 0, 0, 0, id, 2], format) }
        }
        #expect(try decodeCopy([0, 0, 0, 0, 1, 4], format) == Visible(x: 2))
        #expect(try decodeCopy([0, 0, 0, 0, 2, 6, 2, 0x41], format) == Visible(x: 3))
        #expect(try decodeCopy([0, 0, 0, 0, 1, 8], format) == Visible(x: 4))
        for _ in 0..<2 {
            #expect(
                formatFailure([0, 0, 0, 0, 3, 2, 0x41], format)?.description
                    == "Avro, byte 1: a record of schema 3: x is string in the schema, which cannot become Int64")
        }
        #expect(formatFailure([0, 0, 0, 0, 4, 2], format)?.reason == .unknownSchema)
    }

    @Test func aSinkThatCannotRegisterDoesNotStart() throws {
        let format = try AvroFormat(Visible.self, framing: .registry(SlowRegistry(), subject: "other"))
        #expect(throws: JobFailure.self) { try format.prepare() }
    }

    @Test func schemasAreBounded() throws {
        let registry = SlowRegistry()
        let schema = try AvroSchema(of: Visible.self)
        let format = try AvroFormat(Visible.self, framing: .registry(registry, subject: "readings-value"))
        func record(_ id: Int) -> [UInt8] { [0, 0, 0, UInt8(id >> 8), UInt8(id & 0xFF), 2] }
        for id in 0...1_000 {
            registry.add(UInt32(id), schema)
            #expect(throws: SchemaPending.self) { try decodeCopy(record(id), format) }
            if id < 1_000 { #expect(try decodeCopy(record(id), format) == Visible(x: 1)) }
        }
        #expect(throws: JobFailure.self) { try decodeCopy(record(1_000), format) }
        #expect(try decodeCopy(record(0), format) == Visible(x: 1))
    }
}
