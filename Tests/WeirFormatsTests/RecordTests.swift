import Testing
import WeirBase
import WeirFormats

@Record
struct Reading: Equatable {
    var containerID: String
    var timestamp: Int64
    var temperature: Double
    var humidity: Double?
    @Field("co2_ppm") var co2: Double
    var unit = "C"
    var ok: Bool = true
    let tags: [String]
    var a, b: Int32
    static let unrelated = 3
    var doubled: Double { temperature * 2 }
    var observed: UInt8 = 7 { didSet { _ = oldValue } }
}

enum Outer {
    struct Sibling {}

    @Record
    struct Position: Hashable {
        let latitude: Double
        let longitude: Double
        @Record
        fileprivate struct Deep: Equatable { var x: Int }
    }

    @Record
    fileprivate struct Ship: Equatable {
        var name: String
        var position: Outer.Position
        var history: [Position]
        var `default`: Int?
        fileprivate var id: UInt64
    }
}

typealias Maybe = Int?

@Record
private struct Odd: Equatable {
    @Field("a name with more than twenty-four bytes") var long: Int
    @Field("twenty-four bytes, no m") var three: Int
    @Field("six6") var six: Int
    @Field("grün") var green: Int
    var maybe: Maybe
    var double: Int??
    var negative = -1.5
    private var hidden = 3
    init(long: Int) {
        self.long = long
        three = 3
        six = 6
        green = 9
        maybe = nil
        double = nil
    }
}

/// A type with its own JSON form: the macro adds only the binary one.
@Record
struct Handmade: JSONRecord, Equatable {
    var celsius: Int
    init(celsius: Int) { self.celsius = celsius }
    init(json: inout JSONReader) throws(JSONFailure) { celsius = try json.readInteger(Int.self) }
    func encode(json: inout JSONWriter) { json.writeInteger(Int64(celsius)) }
}

private let reading = Reading(
    containerID: "C-000123", timestamp: 1_700_000_000_000, temperature: 4.25, humidity: nil, co2: 401.5, tags: ["a", "b"], a: -1, b: 2)
private let readingText =
    #"{"containerID":"C-000123","timestamp":1700000000000,"temperature":4.25,"humidity":null,"co2_ppm":401.5,"unit":"C","ok":true,"#
    + #""tags":["a","b"],"a":-1,"b":2,"observed":7}"#

@Suite struct RecordTests {
    @Test func encodesInTheOrderOfDeclaration() { #expect(encoded(reading) == readingText) }

    @Test func decodesWhatItEncodes() throws {
        #expect(try decode(Reading.self, readingText) == reading)
        #expect(try decode(Reading.self, readingText, strict: true) == reading)
    }

    @Test func binaryFormRoundTrips() throws {
        #expect(try binary(reading) == reading)
        let ship = Outer.Ship(
            name: "Ævar", position: .init(latitude: 1, longitude: -2.5), history: [.init(latitude: 0, longitude: 0)], default: nil, id: .max)
        #expect(try binary(ship) == ship)
        #expect(try decode(Outer.Ship.self, encoded(ship), strict: true) == ship)
        #expect(try binary(Odd(long: 1)) == Odd(long: 1))
    }

    @Test func schemaNamesPropertiesNotJSONNames() {
        #expect(
            Outer.Ship.schema
                == .record(
                    name: "Outer.Ship",
                    fields: [
                        .init("name", .string), .init("position", Outer.Position.schema), .init("history", .array(Outer.Position.schema)),
                        .init("default", .optional(.int64)), .init("id", .uint64),
                    ]))
        guard case .record("Reading", let fields) = Reading.schema else {
            Issue.record("no record")
            return
        }
        #expect(fields.map(\.name).joined(separator: " ") == "containerID timestamp temperature humidity co2 unit ok tags a b observed")
    }

    @Test(arguments: 0..<50 as Range<UInt64>) func fieldsComeInAnyOrderWithWhitespaceAndUnknownOnes(seed: UInt64) throws {
        var random = Random(seed: seed)
        var members = [
            #""containerID":"C-000123""#, #""timestamp" : 1700000000000"#, #""temperature": 4.25"#, #""co2_ppm":401.5"#, #""tags":["a", "b" ]"#,
            #""a":-1"#, #""b":2"#, #""unknown":{"a":[1,{"b":null}],"c":"\"}"}"#, #""x":[[],{},[{}],"]"]"#, #""containerIE":1e5"#, #""":0"#,
        ]
        for index in members.indices.reversed() { members.swapAt(index, random.below(index + 1)) }
        let space = [" ", "\n", "\t", "\r\n", ""][random.below(5)]
        let text = "\(space){\(space)" + members.joined(separator: "\(space),\(space)") + "\(space)}\(space)"
        #expect(try decode(Reading.self, text) == reading)
        #expect(failure(Reading.self, text, strict: true)?.reason == .unknownField)
    }

    @Test func escapedNamesMeanTheSame() throws {
        #expect(try decode(Visible.self, #"{"\u0078":5}"#, strict: true) == Visible(x: 5))
        #expect(try decode(Visible.self, #"{"x\u0000":4,"x":5}"#) == Visible(x: 5))
        #expect(try decode(Odd.self, encoded(Odd(long: 1)), strict: true) == Odd(long: 1))
        #expect(try decode(Odd.self, encoded(Odd(long: 1)).replacing("ü", with: "\\u00fc"), strict: true) == Odd(long: 1))
    }

    @Test func missingFieldsTakeDefaultsNilOrFail() throws {
        let short = #"{"containerID":"","timestamp":0,"temperature":0,"co2_ppm":0,"tags":[],"a":0,"b":0}"#
        let value = try decode(Reading.self, short)
        #expect(value.unit == "C" && value.ok && value.humidity == nil && value.observed == 7)
        let failed = try #require(failure(Reading.self, short.replacing(#""co2_ppm":0,"#, with: "")))
        #expect(failed.reason == .missingField)
        #expect(failed.description.hasPrefix(#"JSON, byte 70, field co2_ppm: required field "co2_ppm" of Reading is missing, near: "#))
        let odd = #"{"a name with more than twenty-four bytes":1,"twenty-four bytes, no m":3,"six6":6,"grün":9}"#
        #expect(try decode(Odd.self, odd) == Odd(long: 1))
    }

    @Test func theLastDuplicateCountsUnlessStrict() throws {
        #expect(try decode(Visible.self, #"{"x":1,"y":0,"x":2}"#) == Visible(x: 2))
        let failed = try #require(failure(Visible.self, #"{"x":1,"x":2}"#, strict: true))
        #expect(failed.reason == .duplicateField && failed.field == "x" && failed.offset == 11)
        #expect(failure(Visible.self, #"{"x":1,"y":0}"#, strict: true)?.field == "y")
    }

    @Test func aHandwrittenFormIsLeftAlone() throws {
        #expect(try decode(Handmade.self, "4") == Handmade(celsius: 4))
        #expect(try binary(Handmade(celsius: 4)) == Handmade(celsius: 4))
    }

    @Test func rowsOfAnotherSchemaAreRefused() throws {
        var writer = ByteWriter()
        BinaryFormat(Visible.self).encode(Visible(x: 1), into: &writer)
        let bytes = writer.finish()
        #expect(throws: DecodingFailure.self) { try bytes.withUnsafeBytes { try BinaryFormat(Handmade.self).decode($0) } }
        for count in 0..<bytes.count {
            #expect(throws: DecodingFailure.self) { try bytes[..<count].withUnsafeBytes { try BinaryFormat(Visible.self).decode($0) } }
        }
        #expect(throws: DecodingFailure.self) { try (bytes + [0]).withUnsafeBytes { try BinaryFormat(Visible.self).decode($0) } }
    }

    @Test func formatsAreFoundByTheirShortNames() throws {
        func decoded<Format: DeserializationSchema>(_ text: String, by format: Format) throws -> Format.Row {
            try Array(text.utf8).withUnsafeBytes { try format.decode($0) }
        }
        func encoded<Format: SerializationSchema>(_ row: Format.Row, by format: Format) throws -> [UInt8] {
            var writer = ByteWriter()
            try format.encode(row, into: &writer)
            return writer.finish()
        }
        #expect(try decoded(#"{"x":1}"#, by: .json(Visible.self, strict: true)) == Visible(x: 1))
        #expect(try decoded("héllo", by: .string) == "héllo")
        #expect(try decoded("ab", by: .bytes) == [0x61, 0x62] as [UInt8])
        #expect(throws: DecodingFailure.self) { try [0xFF as UInt8].withUnsafeBytes { try StringFormat().decode($0) } }
        #expect(try encoded(Visible(x: 1), by: .json(Visible.self)) == Array(#"{"x":1}"#.utf8))
        #expect(try encoded("é", by: .string) == Array("é".utf8))
        #expect(try encoded([1, 2] as [UInt8], by: .bytes) == [1, 2] as [UInt8])
        #expect(try encoded(Visible(x: 1), by: .binary(Visible.self)).count == 16)
    }
}
