import Testing
import WeirBase
import WeirFormats

@Record struct Labelled: Equatable {
    var key: String
    var value: Int
}

@Record struct Piece: Equatable {
    var x: Int32
    var flag: Bool?
}

/// Everything that Avro has and rows have not.
@Record struct Everything: Equatable {
    var kind: String
    var serial: [UInt8]
    var price: [UInt8]
    var day: Int32
    var at: Int64
    var labels: [Labelled]
    var weight: Float
    var note: String?
    var parts: [Piece]
    var raw: [UInt8]
}

private let everythingSchema = #"""
    {"type":"record","name":"All","fields":[
    {"name":"kind","type":{"type":"enum","name":"Kind","symbols":["REEFER","DRY"]}},
    {"name":"serial","type":{"type":"fixed","name":"Serial","size":4}},
    {"name":"price","type":{"type":"bytes","logicalType":"decimal","precision":8,"scale":2}},
    {"name":"day","type":{"type":"int","logicalType":"date"}},
    {"name":"at","type":{"type":"long","logicalType":"timestamp-micros"}},
    {"name":"labels","type":{"type":"map","values":"long"}},
    {"name":"weight","type":"float"},
    {"name":"note","type":["null","string"]},
    {"name":"parts","type":{"type":"array","items":{"type":"record","name":"Part","fields":[
    {"name":"x","type":"int"},{"name":"flag","type":["null","boolean"]}]}}},
    {"name":"raw","type":"bytes"}]}
    """#
private let everything = Everything(
    kind: "DRY", serial: [1, 2, 3, 4], price: [0x01, 0xE2, 0x40], day: 19_675, at: 1_700_000_000_123_456,
    labels: [.init(key: "a", value: 1), .init(key: "b", value: -2)], weight: 1.5, note: "hi",
    parts: [.init(x: 1, flag: nil), .init(x: -300, flag: true)], raw: [0xFF, 0])
/// As fastavro writes it.
private let everythingBytes =
    "02010203040601e240b6b302808981828389850604026102026203000000c03f02046869040200d70402010004ff00"

private let reading = Reading(
    containerID: "C-000123", timestamp: 1_700_000_000_000, temperature: 4.25, humidity: nil, co2: 401.5, tags: ["a", "b"], a: -1, b: 2)
/// As fastavro writes it.
private let readingBytes = "10432d30303031323380a0abfef962000000000000114000000000000018794002430104026102620001040e"

@Suite struct AvroFormatTests {
    @Test func theTypeGivesTheSchema() throws {
        #expect(
            try AvroSchema(of: Reading.self).canonicalForm
                == #"{"name":"Reading","type":"record","fields":[{"name":"containerID","type":"string"},{"name":"timestamp","type":"long"},"#
                + #"{"name":"temperature","type":"double"},{"name":"humidity","type":["null","double"]},{"name":"co2_ppm","type":"double"},"#
                + #"{"name":"unit","type":"string"},{"name":"ok","type":"boolean"},{"name":"tags","type":{"type":"array","items":"string"}},"#
                + #"{"name":"a","type":"int"},{"name":"b","type":"int"},{"name":"observed","type":"int"}]}"#)
        #expect(
            try AvroSchema(of: Voyage.self).canonicalForm
                == #"{"name":"Voyage","type":"record","fields":[{"name":"from","type":{"name":"Outer_Position","type":"record","fields":["#
                + #"{"name":"latitude","type":"double"},{"name":"longitude","type":"double"}]}},"#
                + #"{"name":"via","type":{"type":"array","items":"Outer_Position"}}]}"#)
        #expect(
            schemaProblem { () throws(AvroSchemaFailure) in _ = try AvroFormat(Misnamed.self) }
                == "\"co2 ppm\" is no name for a field of record Misnamed: letters, digits and _ make one, and no digit begins it")
    }

    @Test func writesAndReadsTheBytesOfOthers() throws {
        let format = try AvroFormat(Reading.self)
        #expect(try hex(encodedBytes(reading, format)) == readingBytes)
        #expect(try decodeCopy(bytes(hex: readingBytes), format) == reading)
        let all = try AvroFormat(Everything.self, schema: AvroSchema(parsing: everythingSchema))
        #expect(try hex(encodedBytes(everything, all)) == everythingBytes)
        #expect(try decodeCopy(bytes(hex: everythingBytes), all) == everything)
    }

    @Test(arguments: 0..<20 as Range<UInt64>) func rowsReadBackAsTheyWereWritten(seed: UInt64) throws {
        var random = Random(seed: seed)
        let format = try AvroFormat(Everything.self, schema: AvroSchema(parsing: everythingSchema))
        for _ in 0..<50 {
            let text = String((0..<random.below(30)).map { _ in ["a", "é", "😀", "\0"][random.below(4)] }.joined())
            let row = Everything(
                kind: ["REEFER", "DRY"][random.below(2)], serial: (0..<4).map { _ in UInt8(random.below(256)) }, price: Array(text.utf8),
                day: Int32(truncatingIfNeeded: random.next()), at: Int64(bitPattern: random.next()) >> Int64(random.below(64)),
                labels: (0..<random.below(4)).map { .init(key: "\($0)\(text)", value: Int(truncatingIfNeeded: random.next())) },
                weight: Float(random.below(1_000)) / 8, note: random.below(2) == 0 ? nil : text,
                parts: (0..<random.below(200)).map { .init(x: Int32($0), flag: [nil, true, false][random.below(3)]) }, raw: Array(text.utf8))
            let encoded = try encodedBytes(row, format)
            #expect(try decodeCopy(encoded, format) == row)
            // Every shorter record is refused: nothing is made up of what is not there.
            let cut = Array(encoded.prefix(random.below(encoded.count)))
            #expect(formatFailure(cut, format) != nil)
            #expect(formatFailure(encoded + [0], format)?.reason == .trailingBytes)
        }
    }

    @Test func integersOfEveryLengthAreRead() throws {
        let format = try AvroFormat(Visible.self)
        var values: [Int64] = [0, -1, 1, .max, .min, 63, 64, -64, -65]
        for shift in 0..<63 { values += [1 << Int64(shift), -(1 << Int64(shift)), (1 << Int64(shift)) - 1] }
        for value in values {
            let encoded = try encodedBytes(Visible(x: Int(value)), format)
            #expect(encoded == AvroBytes.make { $0.long(value) })
            #expect(try decodeCopy(encoded, format) == Visible(x: Int(value)))
            // With bytes behind it, all of the number is loaded at once.
            let pair = try AvroFormat(Labelled.self, schema: AvroSchema(parsing: pairSchema))
            let long = AvroBytes.make {
                $0.long(value)
                $0.string("0123456789")
            }
            #expect(try decodeCopy(long, pair) == Labelled(key: "0123456789", value: Int(value)))
        }
        let eleven = [UInt8](repeating: 0x80, count: 10) + [1]
        #expect(formatFailure(eleven, format)?.message == "an integer of more than 64 bits")
    }

    private let pairSchema =
        #"{"type":"record","name":"Labelled","fields":[{"name":"value","type":"long"},{"name":"key","type":"string"}]}"#

    // MARK: Failures

    @Test(arguments: [
        ("", "Avro, byte 0, field containerID: 1 more bytes expected, 0 left", FormatFailure.Reason.truncated),
        ("14432d", "Avro, byte 0, field containerID: a length of 10, with 2 bytes left", .truncated),
        ("01", "Avro, byte 0, field containerID: a length of -1", .malformed),
        ("02ff", "Avro, byte 1, field containerID: a string that is not UTF-8", .invalidString),
        ("024100000000000000000004", "Avro, byte 11, field humidity: branch 2 of a union of 2", .malformed),
        ("024100000000000000000000000000000000000000", "Avro, byte 21, field ok: 1 more bytes expected, 0 left", .truncated),
        ("02410000000000000000000000000000000000000002", "Avro, byte 21, field ok: a boolean of 2", .malformed),
        (
            "02410000000000000000000000000000000000000001060241", "Avro, byte 22, field tags[]: a block of 3 elements, with 2 bytes left",
            .truncated
        ),
    ])
    func failuresNameTheFieldAndTheByte(text: String, description: String, reason: FormatFailure.Reason) throws {
        let failure = try #require(formatFailure(bytes(hex: text), AvroFormat(Reading.self)))
        #expect(failure.description == description)
        #expect(failure.reason == reason)
    }

    @Test func numbersThatDoNotFitAreRefused() throws {
        let format = try AvroFormat(Everything.self, schema: AvroSchema(parsing: everythingSchema))
        var row = everything
        row.kind = "TANK"
        #expect(throws: FormatFailure.self) { try encodedBytes(row, format) }
        row = everything
        row.serial = [1]
        do {
            _ = try encodedBytes(row, format)
            Issue.record("a fixed of another size was written")
        } catch {
            #expect("\(error)" == "Avro, field serial: 1 bytes, for a fixed of 4")
        }
        let narrow = try AvroFormat(Piece.self, framing: .none(writer: AvroSchema(parsing: Self.wide)))
        let bytes = AvroBytes.make {
            $0.long(1 << 40)
            $0.long(0)
        }
        #expect(formatFailure(bytes, narrow)?.description == "Avro, byte 0, field x: 1099511627776 does not fit Int32")
    }

    private static let wide = #"{"type":"record","name":"Piece","fields":[{"name":"x","type":"long"},{"name":"flag","type":["null","boolean"]}]}"#

    /// Elements without bytes cost nothing to send: their number is bounded all the same.
    @Test func elementsWithoutBytesAreBounded() throws {
        let text =
            #"{"type":"record","name":"R","fields":[{"name":"a","type":{"type":"array","items":{"type":"record","name":"E","fields":[]}}}]}"#
        let format = try AvroFormat(Empties.self, framing: .none(writer: AvroSchema(parsing: text)))
        func block(_ count: Int64) -> [UInt8] {
            AvroBytes.make {
                $0.long(count)
                $0.long(0)
            }
        }
        #expect(try decodeCopy(block(65_536), format).a.count == AvroReader.emptyElementsMax)
        #expect(formatFailure(block(65_537), format)?.reason == .tooLarge)
        let skipping = try AvroFormat(Nothing.self, framing: .none(writer: AvroSchema(parsing: text)))
        #expect(try decodeCopy(block(.max), skipping) == Nothing())
        let negative = AvroBytes.make { $0.long(.min) }
        #expect(formatFailure(negative, format)?.reason == .malformed)
        #expect(formatFailure(negative, skipping) != nil)
    }

    @Test func valuesInsideEachOtherAreSkippedToABound() throws {
        let text = #"{"type":"record","name":"R","fields":[{"name":"next","type":["null","R"]}]}"#
        let format = try AvroFormat(Nothing.self, framing: .none(writer: AvroSchema(parsing: text)))
        func chain(_ links: Int) -> [UInt8] {
            AvroBytes.make { avro in
                for _ in 0..<links { avro.long(1) }
                avro.long(0)
            }
        }
        #expect(try decodeCopy(chain(60), format) == Nothing())
        #expect(formatFailure(chain(100_000), format)?.description.contains("field next: more than 128 values inside each other") == true)
        // A record that holds itself has no bytes, and no end.
        let endless = #"{"type":"record","name":"R","fields":[{"name":"a","type":"R"},{"name":"b","type":"R"}]}"#
        #expect(try decodeCopy([], AvroFormat(Nothing.self, framing: .none(writer: AvroSchema(parsing: endless)))) == Nothing())
    }
}

@Record private struct Voyage {
    var from: Outer.Position
    var via: [Outer.Position]
}
@Record private struct Misnamed { @Field("co2 ppm") var co2: Double }
@Record private struct Empty: Equatable { var x: Int? }
@Record private struct Empties: Equatable { var a: [Empty] }
@Record private struct Nothing: Equatable { var nothing: Int? }
