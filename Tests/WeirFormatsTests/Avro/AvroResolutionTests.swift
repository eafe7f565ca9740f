import Testing
import WeirBase
import WeirFormats

@Record private struct Number: Equatable { var x: Double }
@Record private struct Integer: Equatable { var x: Int }
@Record private struct Short: Equatable { var x: UInt8 }
@Record private struct Text: Equatable { var x: String }
@Record private struct Raw: Equatable { var x: [UInt8] }
@Record private struct Nullable: Equatable { var x: Int? }
@Record private struct Defaulted: Equatable { var x = 42 }

/// A record R with one field x.
private func record(_ type: String, _ rest: String = "", name: String = "R") throws -> AvroSchema {
    try AvroSchema(parsing: #"{"type":"record","name":"\#(name)","fields":[{"name":"x","type":\#(type)\#(rest)}]}"#)
}

@Suite struct AvroResolutionTests {
    private func read<Row: FieldCodable>(
        _ type: Row.Type, _ writer: AvroSchema, as reader: AvroSchema? = nil, _ body: (inout AvroBytes) -> Void
    ) throws -> Row {
        try decodeCopy(AvroBytes.make(body), AvroFormat(type, schema: reader, framing: .none(writer: writer)))
    }

    private func problem<Row: FieldCodable>(_ type: Row.Type, _ writer: AvroSchema, as reader: AvroSchema? = nil) -> String? {
        schemaProblem { () throws(AvroSchemaFailure) in _ = try AvroFormat(type, schema: reader, framing: .none(writer: writer)) }
    }

    @Test func numbersArePromoted() throws {
        for type in ["\"int\"", "\"long\""] {
            #expect(try read(Number.self, record(type)) { $0.long(7) } == Number(x: 7))
            #expect(try read(Number.self, record(type), as: record("\"double\"")) { $0.long(7) } == Number(x: 7))
        }
        #expect(try read(Number.self, record("\"float\"")) { $0.float(1.5) } == Number(x: 1.5))
        #expect(try read(Number.self, record("\"float\""), as: record("\"double\"")) { $0.float(1.5) } == Number(x: 1.5))
        #expect(try read(Integer.self, record("\"int\""), as: record("\"long\"")) { $0.long(-5) } == Integer(x: -5))
        #expect(try read(Short.self, record("\"long\"")) { $0.long(255) } == Short(x: 255))
        #expect(
            problem(Number.self, try record("\"double\""), as: try record("\"float\""))
                == "x was written as double, which cannot be read as float")
        #expect(problem(Integer.self, try record("\"double\"")) == "x is double in the schema, which cannot become Int64")
        #expect(
            problem(Integer.self, try record("\"int\""), as: try record("\"double\"")) == "x is int in the schema, which cannot become Int64")
    }

    @Test func textAndBytesAreEachOther() throws {
        #expect(try read(Text.self, record("\"bytes\"")) { $0.string("é") } == Text(x: "é"))
        #expect(try read(Raw.self, record("\"string\"")) { $0.string("é") } == Raw(x: [0xC3, 0xA9]))
        #expect(try read(Text.self, record("\"bytes\""), as: record("\"string\"")) { $0.string("é") } == Text(x: "é"))
    }

    @Test func fieldsOfTheWriterAloneAreSkipped() throws {
        let writer = try AvroSchema(
            parsing: #"{"type":"record","name":"W","fields":[{"name":"a","type":["null",{"type":"map","values":{"type":"array","items":"long"}}]},"#
                + #"{"name":"x","type":"long"},{"name":"b","type":{"type":"fixed","name":"F","size":3}},{"name":"c","type":"F"}]}"#)
        let row = try read(Integer.self, writer) { avro in
            avro.long(1)
            avro.long(1)
            avro.string("k")
            avro.long(2)
            avro.long(1)
            avro.long(1 << 50)
            avro.long(0)
            avro.long(0)
            avro.long(9)
            avro.bytes += [1, 2, 3, 4, 5, 6]
        }
        #expect(row == Integer(x: 9))
    }

    @Test func missingFieldsTakeTheReadersDefaultThenTheRowsThenNil() throws {
        let writer = try AvroSchema(parsing: #"{"type":"record","name":"R","fields":[{"name":"y","type":"int"}]}"#)
        #expect(try read(Defaulted.self, writer) { $0.long(1) } == Defaulted(x: 42))
        #expect(try read(Defaulted.self, writer, as: record("\"long\"", #","default":7"#)) { $0.long(1) } == Defaulted(x: 7))
        #expect(try read(Nullable.self, writer) { $0.long(1) } == Nullable(x: nil))
        #expect(try read(Text.self, writer, as: record("\"string\"", #","default":"d""#)) { $0.long(1) } == Text(x: "d"))
        #expect(
            problem(Integer.self, writer)
                == "record R has no field \"x\", which Integer needs: give it a default, or make it optional")
    }

    @Test func aDefaultInsideAListIsReadForEachElementAndTheRestGoesOn() throws {
        let writer = try AvroSchema(
            parsing: #"{"type":"record","name":"R","fields":[{"name":"parts","type":{"type":"array","items":{"type":"record","name":"P","#
                + #""fields":[{"name":"x","type":"int"}]}}},{"name":"after","type":"long"}]}"#)
        let reader = try AvroSchema(
            parsing: #"{"type":"record","name":"R","fields":[{"name":"parts","type":{"type":"array","items":{"type":"record","name":"P","#
                + #""fields":[{"name":"x","type":"int"},{"name":"tags","type":{"type":"array","items":"string"},"default":["a","b"]}]}}},"#
                + #"{"name":"after","type":"long"}]}"#)
        let row = try read(Tagged.self, writer, as: reader) { avro in
            avro.long(2)
            avro.long(1)
            avro.long(2)
            avro.long(0)
            avro.long(77)
        }
        #expect(row == Tagged(parts: [.init(x: 1, tags: ["a", "b"]), .init(x: 2, tags: ["a", "b"])], after: 77))
    }

    @Test func aliasesFindRenamedFieldsAndRecords() throws {
        let writer = try AvroSchema(parsing: #"{"type":"record","name":"Old","fields":[{"name":"was","type":"long"}]}"#)
        let reader = try AvroSchema(
            parsing: #"{"type":"record","name":"New","aliases":["Old"],"fields":[{"name":"x","type":"long","aliases":["was"]}]}"#)
        #expect(try read(Integer.self, writer, as: reader) { $0.long(3) } == Integer(x: 3))
        let stranger = try AvroSchema(parsing: #"{"type":"record","name":"New","fields":[{"name":"x","type":"long","aliases":["was"]}]}"#)
        #expect(problem(Integer.self, writer, as: stranger) == "the record was written as record Old, which cannot be read as record New")
        // A field of the name itself comes before one of an alias.
        let both = try AvroSchema(parsing: #"{"type":"record","name":"Old","fields":[{"name":"was","type":"long"},{"name":"x","type":"long"}]}"#)
        let row = try read(Integer.self, both, as: reader) {
            $0.long(1)
            $0.long(2)
        }
        #expect(row == Integer(x: 2))
    }

    @Test func unionsAreReadBranchByBranch() throws {
        let mixed = try record(#"["null","string","int","double"]"#)
        #expect(try read(Nullable.self, mixed) { $0.long(0) } == Nullable(x: nil))
        let five = try read(Nullable.self, mixed) {
            $0.long(2)
            $0.long(5)
        }
        #expect(five == Nullable(x: 5))
        let text = AvroBytes.make {
            $0.long(1)
            $0.string("a")
        }
        #expect(
            formatFailure(text, try AvroFormat(Nullable.self, framing: .none(writer: mixed)))?.description
                == "Avro, byte 1, field x: x is string in the schema, which cannot become Int64")
        let number = try read(Number.self, mixed) {
            $0.long(2)
            $0.long(5)
        }
        #expect(number == Number(x: 5))
        #expect(
            formatFailure(AvroBytes.make { $0.long(0) }, try AvroFormat(Integer.self, framing: .none(writer: mixed)))?.description
                == "Avro, byte 1, field x: x is null in the schema, which cannot become Int64")
        #expect(problem(Nullable.self, try record(#"["null","string"]"#)) == "x is string in the schema, which cannot become Int64")
        // A reader's union takes what the writer has without one.
        #expect(try read(Nullable.self, record("\"int\""), as: record(#"["null","long"]"#)) { $0.long(6) } == Nullable(x: 6))
        #expect(try read(Nullable.self, record("\"int\"")) { $0.long(6) } == Nullable(x: 6))
    }

    @Test func symbolsThatTheReaderDoesNotHaveTakeItsDefaultOrFail() throws {
        let writer = try record(#"{"type":"enum","name":"E","symbols":["A","B","C"]}"#)
        #expect(try read(Text.self, writer) { $0.long(2) } == Text(x: "C"))
        let fewer = try record(#"{"type":"enum","name":"E","symbols":["B","A"],"default":"B"}"#)
        #expect(try read(Text.self, writer, as: fewer) { $0.long(2) } == Text(x: "B"))
        #expect(try read(Text.self, writer, as: fewer) { $0.long(0) } == Text(x: "A"))
        let strict = try AvroFormat(Text.self, schema: record(#"{"type":"enum","name":"E","symbols":["A"]}"#), framing: .none(writer: writer))
        #expect(
            formatFailure([0x04], strict)?.message == "symbol 2 of the enum, which the reader's schema does not have")
        #expect(formatFailure([0x06], strict)?.message == "symbol 3 of an enum of 3")
    }

    /// Else every time would be wrong by a factor of a thousand.
    @Test func timesOfOtherUnitsAreNotTakenForEachOther() throws {
        let micros = try record(#"{"type":"long","logicalType":"timestamp-micros"}"#)
        let millis = try record(#"{"type":"long","logicalType":"timestamp-millis"}"#)
        #expect(problem(Integer.self, micros, as: millis) == "x was written as timestamp-micros, which cannot be read as timestamp-millis")
        #expect(try read(Integer.self, micros, as: record("\"long\"")) { $0.long(5) } == Integer(x: 5))
        let cents = try record(#"{"type":"bytes","logicalType":"decimal","precision":9,"scale":2}"#)
        let mills = try record(#"{"type":"bytes","logicalType":"decimal","precision":9,"scale":3}"#)
        #expect(problem(Raw.self, cents, as: mills) == "x was written as decimal(9, 2), which cannot be read as decimal(9, 3)")
    }

    // MARK: Writing

    @Test func rowsAreWrittenInTheOrderOfTheSchemaWithDefaultsForTheRest() throws {
        let schema = try AvroSchema(
            parsing: #"{"type":"record","name":"R","fields":[{"name":"extra","type":"string","default":"e"},{"name":"value","type":["long","null"]},"#
                + #"{"name":"key","type":["null","string"]}]}"#)
        let format = try AvroFormat(Labelled.self, schema: schema)
        let expected = AvroBytes.make {
            $0.string("e")
            $0.long(0)
            $0.long(5)
            $0.long(1)
            $0.string("k")
        }
        #expect(try encodedBytes(Labelled(key: "k", value: 5), format) == expected)
        #expect(try decodeCopy(expected, format) == Labelled(key: "k", value: 5))
    }

    @Test func whatASchemaCannotHoldIsToldWhenTheSinkIsMade() throws {
        func problem<Row: FieldCodable>(_ type: Row.Type, _ schema: AvroSchema) -> String? {
            func check(_ sink: some SerializationSchema<Row>) {}
            return schemaProblem { () throws(AvroSchemaFailure) in check(try .avro(type, schema: schema)) }
        }
        let schema = try AvroSchema(parsing: #"{"type":"record","name":"R","fields":[{"name":"x","type":"int"},{"name":"y","type":"int"}]}"#)
        #expect(problem(Nullable.self, schema) == "field \"y\" of record R has no default, and Nullable has no such field")
        #expect(
            problem(Defaulted.self, try AvroSchema(parsing: #"{"type":"record","name":"R","fields":[]}"#))
                == "record R has no field \"x\", and that of Defaulted would be lost")
        #expect(problem(Number.self, try record("\"float\"")) == "x is float in the schema, which Double cannot become")
        #expect(problem(Text.self, try record("\"string\"")) == nil)
        let format = try AvroFormat(Integer.self, schema: record("\"int\""))
        #expect(throws: FormatFailure.self) { try encodedBytes(Integer(x: 1 << 31), format) }
        #expect(try encodedBytes(Integer(x: 1 << 31 - 1), format) == AvroBytes.make { $0.long(1 << 31 - 1) })
        let required = try AvroFormat(Nullable.self, schema: record("\"long\""))
        do {
            _ = try encodedBytes(Nullable(x: nil), required)
            Issue.record("nil was written as a long")
        } catch {
            #expect("\(error)" == "Avro, field x: nil cannot be written as long")
        }
    }
}

@Record private struct TaggedPart: Equatable {
    var x: Int32
    var tags: [String]
}
@Record private struct Tagged: Equatable {
    var parts: [TaggedPart]
    var after: Int
}
