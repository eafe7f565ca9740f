import Testing
import WeirBase
import WeirFormats

@Suite struct JSONGrammarTests {
    static let accepted: [String] = [
        "null", "true", "false", "0", "-0", "1", "-1", "10", "1234567", "12345678", "123456789", "12345678901234567890", "0.5", "-0.5", "1.25e3",
        "1E5", "1e+5", "1e-5", "0e0", "0.0", "1.0000000", "1.00000000", "12345678.12345678", "1e-400", "\"\"", "\"a\"", "\"é\"", "\"😀\"",
        "\"\u{7F}\"",
        #""\"\\\/\b\f\n\r\t""#, #""\u0000""#, #""\uD83D\uDE00""#, #""\ud83d\ude00x""#, #""\uFFFF""#, "\"1234567\"", "\"12345678\"", "[]", "[ ]",
        "[1]", "[1,2]", " [ 1 , 2 ] ", "[[]]", "[[],[]]", "{}", "{ }", #"{"":1}"#, #"{"a":1}"#, #" { "a" : 1 , "b" : [ ] } "#, #"{"a":{"b":{}}}"#,
        "\t\r\n 1 \t\r\n", #"{"a":1,"a":2}"#, #"{"\u0061":1}"#, #"{"é":"é"}"#, "[null,true,false,\"\",0,{},[]]", #"[{"a":[{"b":[1.5]}]}]"#,
        "[0.1,1.2,10.5,100.25]", "[ -1.5e-3 ]", "\"\u{10FFFF}\"", "\"\u{E000}\"",
    ]

    static let refused: [String] = [
        "", " ", "n", "nul", "nulll", "True", "tru", "truex", "falsy", "undefined", "NaN", "Infinity", "-Infinity", "-", "+1", ".5", "-.5", "1.",
        "1.e3", "1e", "1e+", "1e-", "1.5e", "01", "-01", "00", "00.5", "0x10", "1 2", "1,", "1_000", "--1", "1.2.3", "1e5.5", "1e5e5", "12345678.",
        "\"", "\"a", "a\"", "'a'", "\"\\\"", #""\x41""#, #""\u""#, #""\u12""#, #""\u123""#, #""\u12G4""#, #""\uD800""#, #""\uD800\u0041""#,
        #""\uD800\uD800""#, #""\uDC00""#, #""\uD83D\"#, #""\uD83Dx""#, "\"\u{01}\"", "\"\n\"", "\"\t\"", "\"\u{00}\"", "[", "]", "[1", "[1,", "[1,]",
        "[,1]", "[1 2]", "[1,,2]", "[1}", "{", "}", "{1}", "{\"a\"", "{\"a\":", "{\"a\":1", "{\"a\":1,", "{\"a\":1,}", "{\"a\" 1}", "{\"a\"::1}",
        "{a:1}", "{'a':1}", "{\"a\":1 \"b\":2}", "{,}", "{\"a\":1]", "[\"a\":1]", "{\"a\",1}", "{null:1}", "{\"a\":}", "[[]", "[]]", "{}}", "[] []",
        "// x\n1", "/* */1", "1 // x", "\u{FEFF}1", "\u{A0}1", "1\u{A0}", "\u{0C}1", "\u{00}", "1\u{00}", "[\u{0B}]", "\u{2028}[]", "nan", "-nan",
        "{\"\\uD800\":1}", "{\"\n\":1}", "{\"a\u{00}\":1}", "[1.]", "[-]", "[1e]", "[0123]", "[tru]", "[nul]", "[\"\\u00\"]", "{\"a\":01}",
    ]

    static let invalidUTF8: [[UInt8]] = [
        [0x80], [0xBF], [0xC0, 0x80], [0xC1, 0xBF], [0xC3], [0xC3, 0x28], [0xE0, 0x80, 0x80], [0xE0, 0x9F, 0xBF], [0xE2, 0x28, 0xA1], [0xE2, 0x82],
        [0xED, 0xA0, 0x80], [0xED, 0xBF, 0xBF], [0xF0, 0x80, 0x80, 0x80], [0xF0, 0x8F, 0xBF, 0xBF], [0xF0, 0x9F, 0x98], [0xF4, 0x90, 0x80, 0x80],
        [0xF5, 0x80, 0x80, 0x80], [0xFE], [0xFF], [0xF0, 0x28, 0x8C, 0xBC],
    ]

    @Test(arguments: accepted) func accepts(text: String) throws {
        _ = try decode(Tree.self, text)
        _ = try decode(Skipped.self, text)
        // Inside something, a value has other neighbours.
        _ = try decode(Skipped.self, "[\(text)]")
        _ = try decode(Skipped.self, "{\"long enough to be scanned\":\(text),\"b\":\(text)}")
        #expect(try decode(Tree.self, "[\(text),\(text)]") == .array([decode(Tree.self, text), decode(Tree.self, text)]))
    }

    @Test(arguments: refused) func refuses(text: String) {
        #expect(failure(Tree.self, text) != nil)
        #expect(failure(Skipped.self, text) != nil)
        #expect(failure(Tree.self, text + String(repeating: " ", count: 20)) != nil)
        #expect(failure(Skipped.self, text + String(repeating: " ", count: 20)) != nil)
    }

    /// Where a value that no field reads can lie in its document: in front, at the end, near the end.
    private static func documents(holding value: String) -> [String] {
        [
            "{\"x\":\(value),\"only\":1}", "{\"only\":1,\"x\":\(value)}", "{\"only\":1,\"x\":\(value),\"y\":2}", "{\"only\":1,\"x\":\(value)} ",
            "{\"only\":1,\"a long name to skip\":\(value)}", "{\"only\":1,\"x\":\(value),\"yy\":\"0123456789abcdef\",\"z\":\(value)}",
        ]
    }

    @Test(arguments: accepted) func acceptsInFieldsThatNoRecordReads(text: String) throws {
        for document in Self.documents(holding: text) {
            #expect(try decode(OnlyField.self, document).only == 1, "\(document)")
            #expect(failure(OnlyField.self, document, strict: true)?.reason == .unknownField, "\(document)")
        }
    }

    @Test(arguments: refused) func refusesInFieldsThatNoRecordReads(text: String) {
        for document in Self.documents(holding: text) { #expect(failure(OnlyField.self, document) != nil, "\(document)") }
    }

    /// What is skipped is checked as what is read: no value that JSON does not have gets by, wherever a window begins and ends.
    @Test(arguments: 0..<70) func noBrokenValueIsSkipped(padding: Int) {
        let text = String(repeating: "x", count: padding)
        for value in [
            "", "-", "--1", "01", "-01", "1.", ".5", "-.5", "1.5.5", "1..5", "+1", "1e", "1.e5", "00.5", "0x1", "1x", "1 2", "tru", "truee", "True",
            "nul", "nulll", "fals", "falsee", "falsy", "-true", "\"a\"b", "\"a\" \"b\"", "\"a", "a\"", "1,", ",1", "]", "}", ":1",
        ] {
            for document in [
                "{\"pad\":\"\(text)\",\"x\":\(value),\"y\":1,\"only\":1}", "{\"only\":1,\"\(text)\":7,\"x\":\(value),\"y\":1}",
                "{\"only\":1,\"\(text)\":7,\"x\":\(value)}",
            ] { #expect(failure(OnlyField.self, document) != nil, "\(document)") }
        }
    }

    /// Members are skipped 64 bytes at a time: wherever such a window begins and ends, the result is the same.
    @Test(arguments: 0..<140) func skippedMembersMayLieAnywhere(padding: Int) throws {
        let text = String(repeating: "x", count: padding)
        for value in ["-12.5", "0", "\"text\"", "true", "false", "null", "12345678901234", "1.5e3", "\"a\\n\"", "\"é\"", "[1,{\"only\":2}]"] {
            let members = "\"x\":\(value),\"yy\":\(value),\"zzz\":\(value)"
            for document in [
                "{\"pad\":\"\(text)\",\(members),\"only\":1}", "{\"only\":1,\"\(text)\":7,\(members)}",
                "{\(members),\"p\":\"\(text)\",\"only\":1,\(members)}",
            ] {
                #expect(try decode(OnlyField.self, document).only == 1, "\(document)")
                #expect(failure(OnlyField.self, String(document.dropLast()))?.reason == .truncated, "\(document)")
                #expect(failure(OnlyField.self, document.replacing("\"zzz\":", with: "\"zzz\":,", maxReplacements: 1)) != nil, "\(document)")
            }
        }
    }

    @Test(arguments: invalidUTF8) func refusesInvalidUTF8(bytes: [UInt8]) {
        for filler in ["", "1234567", "12345678901"] {
            let quoted = [UInt8(ascii: "\"")] + Array(filler.utf8) + bytes + Array(filler.utf8) + [UInt8(ascii: "\"")]
            #expect(throws: JSONFailure.self) { try decode(Tree.self, quoted) }
            #expect(throws: JSONFailure.self) { try decode(Skipped.self, quoted) }
            #expect(throws: JSONFailure.self) { try decode(Skipped.self, Array("{".utf8) + quoted + Array(":1}".utf8)) }
        }
    }

    @Test func depthEndsAt128() throws {
        #expect(JSONReader.depthMax == 128)
        for (open, close) in [("[", "]"), ("{\"a\":", "}")] {
            func nested(_ count: Int) -> String { String(repeating: open, count: count) + "1" + String(repeating: close, count: count) }
            _ = try decode(Skipped.self, nested(128))
            _ = try decode(Tree.self, nested(128))
            #expect(failure(Skipped.self, nested(129))?.reason == .tooDeep)
            #expect(failure(Tree.self, nested(129))?.reason == .tooDeep)
            #expect(failure(Skipped.self, nested(100_000))?.reason == .tooDeep)
            #expect(failure([Skipped].self, "[" + nested(128) + "]")?.reason == .tooDeep)
        }
    }

    @Test func everyPrefixOfADocumentIsRefused() {
        let text = #"{"a":[1.5,true,null,"x\u00e9\n😀"],"long field name":{"b":-12345678901},"c":false}"#
        for count in 0..<text.utf8.count {
            #expect(throws: JSONFailure.self) { try decode(Tree.self, Array(text.utf8.prefix(count))) }
            #expect(throws: JSONFailure.self) { try decode(Skipped.self, Array(text.utf8.prefix(count))) }
        }
    }

    @Test func stringsMeanWhatTheyShould() throws {
        #expect(try decode(String.self, #""\u0041\u00e9\u20AC\uD83D\uDE00\n\/""#) == "A\u{e9}\u{20ac}\u{1F600}\n/")
        for count in 0..<70 {
            let text = String(repeating: "x", count: count)
            for special in ["", "é", "\"", "\\", "\u{1}", "\u{1F}", "\n", "😀", "/", "\u{7F}"] {
                let value = text + special + text
                #expect(try decode(String.self, encoded(value)) == value)
            }
        }
    }
}

@Record struct OnlyField {
    var only: Int
}
