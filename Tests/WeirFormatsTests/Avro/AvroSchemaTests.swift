import Testing
import WeirFormats

/// Texts, canonical forms and fingerprints as fastavro 1.x has them; the fingerprints' bytes are in the order of the wire.
private let canonical: [(text: String, form: String, fingerprint: String)] = [
    (#""null""#, #""null""#, "8a8f25cce724dd63"),
    (#""boolean""#, #""boolean""#, "64f7d4a478fc429f"),
    (#""int""#, #""int""#, "8f5c393f1ad57572"),
    (#"{"type":"long","logicalType":"timestamp-millis"}"#, #""long""#, "b71df49344e154d0"),
    (#""float""#, #""float""#, "90d7a83ecb027c4d"),
    (#""double""#, #""double""#, "7e95ab32c035758e"),
    (#""bytes""#, #""bytes""#, "651920c3da16c04f"),
    (#"{"type":{"type":"string"}}"#, #""string""#, "c70345637248018f"),
    (#"{"size":15,"type":"fixed","name":"foo"}"#, #"{"name":"foo","type":"fixed","size":15}"#, "04a531edc32e6018"),
    (#"{"type":"enum","name":"foo","symbols":["A1"]}"#, #"{"name":"foo","type":"enum","symbols":["A1"]}"#, "6931aa159e03fca7"),
    (
        #"{"type":"record","name":"a.b.c.Foo","doc":"x","aliases":["old"],"fields":[{"name":"f1","type":"boolean","default":true,"doc":"d"},"#
            + #"{"name":"f2","type":{"type":"array","items":"a.b.c.Foo"}},{"type":{"type":"map","values":["null",{"type":"string","#
            + #""logicalType":"uuid"}]},"name":"f3"},{"name":"f4","type":{"type":"enum","name":"E","symbols":["x","y"],"default":"x"}},"#
            + #"{"name":"f5","type":"E"}]}"#,
        #"{"name":"a.b.c.Foo","type":"record","fields":[{"name":"f1","type":"boolean"},{"name":"f2","type":{"type":"array","#
            + #""items":"a.b.c.Foo"}},{"name":"f3","type":{"type":"map","values":["null","string"]}},{"name":"f4","type":{"name":"a.b.c.E","#
            + #""type":"enum","symbols":["x","y"]}},{"name":"f5","type":"a.b.c.E"}]}"#,
        "4c87af969753c354"
    ),
    (
        #"{"namespace":"x.y","type":"record","name":"A","fields":[{"name":"a","type":{"type":"fixed","name":"F","namespace":"z","size":4}},"#
            + #"{"name":"b","type":"z.F"},{"name":"c","type":{"type":"int","logicalType":"date"}}]}"#,
        #"{"name":"x.y.A","type":"record","fields":[{"name":"a","type":{"name":"z.F","type":"fixed","size":4}},{"name":"b","type":"z.F"},"#
            + #"{"name":"c","type":"int"}]}"#,
        "4aefab58bc14b794"
    ),
]

@Suite struct AvroSchemaTests {
    @Test(arguments: canonical) func hasTheCanonicalFormAndFingerprintOfTheSpecification(text: String, form: String, fingerprint: String) throws {
        let schema = try AvroSchema(parsing: text)
        #expect(schema.canonicalForm == form)
        #expect(hex(withUnsafeBytes(of: schema.fingerprint.littleEndian) { [UInt8]($0) }) == fingerprint)
        #expect(schema.text == text)
        #expect(try AvroSchema(parsing: form).canonicalForm == form)
    }

    @Test(arguments: [
        ("", "the schema is no JSON document: JSON, byte 0: a number expected, found the end of the document, near: ⟦⟧"),
        ("{}", "a type without \"type\": {}"),
        ("5", "5 is no type: a name, an object or a list of types is one"),
        (#""strin""#, "the type \"strin\" is not defined, or only further down"),
        ("[]", "a union without types"),
        (#"["int","int"]"#, "a union with int twice"),
        (#"["int",["long"]]"#, "a union directly inside a union"),
        (#"{"type":"array"}"#, "an array without \"items\""),
        (#"{"type":"map"}"#, "a map without \"values\""),
        (#"{"type":"record","fields":[]}"#, #"record without a "name": {"fields":[],"type":"record"}"#),
        (#"{"type":"record","name":"R"}"#, "record R has no list of \"fields\""),
        (#"{"type":"record","name":"R","fields":[{"name":"a"}]}"#, #"a field of record R without "name" and "type": {"name":"a"}"#),
        (
            #"{"type":"record","name":"R","fields":[{"name":"a","type":"int"},{"name":"a","type":"int"}]}"#,
            "record R has the field \"a\" twice"
        ),
        (
            #"{"type":"record","name":"R","fields":[{"name":"1a","type":"int"}]}"#,
            "\"1a\" is no name for a field of record R: letters, digits and _ make one, and no digit begins it"
        ),
        (
            #"{"type":"record","name":"R","fields":[{"name":"a","type":"int","default":"x"}]}"#,
            #"the default of R.a is "x", which is no value of int"#
        ),
        (
            #"{"type":"record","name":"R","fields":[{"name":"a","type":"int","default":2147483648}]}"#,
            "the default of R.a is 2147483648, which is no value of int"
        ),
        (#"{"type":"enum","name":"E","symbols":[]}"#, "enum E has no \"symbols\""),
        (#"{"type":"enum","name":"E","symbols":["a","a"]}"#, "enum E has a symbol twice"),
        (#"{"type":"enum","name":"E","symbols":["a"],"default":"b"}"#, "the default \"b\" of enum E is none of its symbols"),
        (#"{"type":"fixed","name":"F","size":-1}"#, "fixed F has no \"size\" of 0 to 2147483647 bytes"),
        (#"[{"type":"fixed","name":"F","size":1},{"type":"fixed","name":"F","size":1}]"#, "the type \"F\" is defined twice"),
        (#"{"type":"fixed","name":"int","size":1}"#, "a fixed cannot be called int"),
    ])
    func saysWhatIsWrongWithASchema(text: String, problem: String) {
        #expect(schemaProblem { () throws(AvroSchemaFailure) in _ = try AvroSchema(parsing: text) } == problem)
    }

    @Test func defaultsOfEveryTypeAreTaken() throws {
        let fields = [
            #""null","default":null"#, #""boolean","default":true"#, #""long","default":-9223372036854775808"#, #""float","default":1"#,
            #""double","default":1.5e3"#, #""bytes","default":"\u00ff\u0000""#, #""string","default":"é""#,
            #"{"type":"array","items":"int"},"default":[1,2]"#, #"{"type":"map","values":"int"},"default":{"a":1}"#,
            #"["null","int"],"default":null"#, #"["null","int"],"default":5"#, #"{"type":"fixed","name":"F","size":2},"default":"ab""#,
            #"{"type":"enum","name":"E","symbols":["x"]},"default":"x""#,
            #"{"type":"record","name":"I","fields":[{"name":"a","type":"int"},{"name":"b","type":"int","default":2}]},"default":{"a":1}"#,
        ]
        let text = fields.enumerated().map { #"{"name":"f\#($0)","type":\#($1)}"# }.joined(separator: ",")
        let schema = try AvroSchema(parsing: #"{"type":"record","name":"R","fields":[\#(text)]}"#)
        #expect(schema.name == "R")
        for wrong in [#""bytes","default":"\u0100""#, #"{"type":"fixed","name":"F","size":2},"default":"abc""#, #"["null","int"],"default":"x""#] {
            #expect(throws: AvroSchemaFailure.self) {
                try AvroSchema(parsing: #"{"type":"record","name":"R","fields":[{"name":"a","type":\#(wrong)}]}"#)
            }
        }
    }

    @Test func limitsHoldAtTheirBounds() throws {
        func nested(_ depth: Int) -> String {
            String(repeating: #"{"type":"array","items":"#, count: depth) + #""int""# + String(repeating: "}", count: depth)
        }
        _ = try AvroSchema(parsing: nested(AvroSchema.depthMax))
        #expect(
            schemaProblem { () throws(AvroSchemaFailure) in _ = try AvroSchema(parsing: nested(AvroSchema.depthMax + 1)) }
                == "more than 64 types inside each other")

        func wide(_ types: Int) -> String {
            let fields = (1..<types).map { #"{"name":"f\#($0)","type":"int"}"# }
            return #"{"type":"record","name":"R","fields":[\#(fields.joined(separator: ","))]}"#
        }
        _ = try AvroSchema(parsing: wide(AvroSchema.typesMax))
        #expect(
            schemaProblem { () throws(AvroSchemaFailure) in _ = try AvroSchema(parsing: wide(AvroSchema.typesMax + 1)) } == "more than 10000 types")

        let padding = String(repeating: " ", count: AvroSchema.textBytesMax - 5)
        _ = try AvroSchema(parsing: padding + #""int""#)
        #expect(throws: AvroSchemaFailure.self) { try AvroSchema(parsing: padding + #" "int""#) }
    }

    /// Each record holds the one before twice: 2^60 values of one small default.
    @Test func aDefaultThatExplodesIsRefused() {
        var fields = [#"{"name":"f0","type":{"type":"record","name":"R0","fields":[]},"default":{}}"#]
        for index in 1..<60 {
            let inner = #"{"name":"a","type":"R\#(index - 1)","default":{}},{"name":"b","type":"R\#(index - 1)","default":{}}"#
            fields.append(#"{"name":"f\#(index)","type":{"type":"record","name":"R\#(index)","fields":[\#(inner)]},"default":{}}"#)
        }
        let text = #"{"type":"record","name":"R","fields":[\#(fields.joined(separator: ","))]}"#
        #expect(schemaProblem { () throws(AvroSchemaFailure) in _ = try AvroSchema(parsing: text) }?.hasSuffix("is too large, or too deep") == true)
    }

    @Test(arguments: 0..<30 as Range<UInt64>) func noTextTrapsTheParser(seed: UInt64) {
        var random = Random(seed: seed)
        let pieces = [
            "\"", "{", "}", "[", "]", ",", ":", "null", "\"type\"", "\"record\"", "\"fields\":[]", "\"name\":\"R\"", "R", "-1", "\"default\":{}",
        ]
        for _ in 0..<200 {
            var bytes = Array(canonical[random.below(canonical.count)].text.utf8)
            for _ in 0..<(1 + random.below(3)) where !bytes.isEmpty {
                let place = random.below(bytes.count)
                switch random.below(4) {
                case 0: bytes[place] = UInt8(random.below(256))
                case 1: bytes.removeSubrange(place..<min(bytes.count, place + 1 + random.below(6)))
                case 2: bytes.insert(contentsOf: Array(pieces[random.below(pieces.count)].utf8), at: place)
                default: bytes.insert(contentsOf: bytes[place..<min(bytes.count, place + random.below(30))], at: random.below(bytes.count))
                }
            }
            guard let schema = try? AvroSchema(parsing: String(decoding: bytes, as: UTF8.self)) else { continue }
            let form = schema.canonicalForm
            #expect((try? AvroSchema(parsing: form).canonicalForm) == form, "\(String(decoding: bytes, as: UTF8.self))")
        }
    }
}
