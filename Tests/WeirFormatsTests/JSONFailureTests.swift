import Testing
import WeirBase
import WeirFormats

@Record
private struct Inner {
    var x: Int
    var flag: Bool?
}

@Record
private struct Document {
    var readings: [Inner]
    var name: String?
}

/// What people read in logs: pinned word for word.
@Suite struct JSONFailureTests {
    @Test(arguments: [
        (
            #"{"readings":[{"x":1},{"x":"two"}]}"#,
            #"byte 26, field readings[1].x: an integer expected, found a string"#,
            #"…readings":[{"x":1},{"x":⟦"⟧two"}]}"#
        ),
        (
            #"{"readings":[{"x":1.5}]}"#,
            #"byte 19, field readings[0].x: an integer expected, found a fraction or exponent"#,
            #"{"readings":[{"x":1⟦.⟧5}]}"#
        ),
        (
            #"{"readings":[{"x":01}]}"#,
            #"byte 18, field readings[0].x: a number begins with a zero too many"#,
            #"{"readings":[{"x":⟦0⟧1}]}"#
        ),
        (
            #"{"readings":[{"x":99999999999999999999}]}"#,
            #"byte 18, field readings[0].x: the number does not fit a 64-bit integer"#,
            #"{"readings":[{"x":⟦9⟧9999999999999999999}]}"#
        ),
        (
            #"{"readings":[{}]}"#,
            #"byte 15, field readings[0].x: required field "x" of Inner is missing"#,
            #"{"readings":[{}⟦]⟧}"#
        ),
        (
            #"{"readings":[{"x":1,"flag":yes}]}"#,
            #"byte 27, field readings[0].flag: true or false expected, found 'y'"#,
            #"…eadings":[{"x":1,"flag":⟦y⟧es}]}"#
        ),
        (
            #"{"readings":[{"x":1}],"name":"a"#,
            "byte 31, field name: the document ends inside a string",
            "…ngs\":[{\"x\":1}],\"name\":\"a⟦⟧"
        ),
        (
            #"{"readings":[{"x":1}"#,
            #"byte 20, field readings[0]: ',' or ']' expected, found the end of the document"#,
            #"{"readings":[{"x":1}⟦⟧"#
        ),
        (
            #"{"readings":[]} x"#,
            #"byte 16: the end of the document expected, found 'x'"#,
            #"{"readings":[]} ⟦x⟧"#
        ),
        (
            #"{"readings":[],}"#,
            #"byte 15: a field name expected, found '}'"#,
            #"{"readings":[],⟦}⟧"#
        ),
        (
            #"{"readings" []}"#,
            #"byte 12, field readings: ':' after the field name expected, found an array"#,
            #"{"readings" ⟦[⟧]}"#
        ),
        (
            #"{"readings":[],"name":"\q"}"#,
            #"byte 23, field name: an escape sequence that JSON does not have"#,
            #"{"readings":[],"name":"⟦\⟧q"}"#
        ),
        (
            #"{"readings":[],"name":"\ud800"}"#,
            #"byte 23, field name: half of a surrogate pair in a string"#,
            #"{"readings":[],"name":"⟦\⟧ud800"}"#
        ),
        (
            "",
            "byte 0: an object expected, found the end of the document",
            "⟦⟧"
        ),
        (
            "[1]",
            "byte 0: an object expected, found an array",
            "⟦[⟧1]"
        ),
        (
            #"{"other":[1,{"deep":nul}]}"#,
            #"byte 20, field other[1].deep: null expected, found 'n'"#,
            #"{"other":[1,{"deep":⟦n⟧ul}]}"#
        ),
    ])
    func readsAsPinned(text: String, problem: String, near: String) {
        #expect(failure(Document.self, text)?.description == "JSON, \(problem), near: \(near)")
    }

    @Test func strictFailuresNameTheField() {
        #expect(
            failure(Document.self, #"{"readings":[{"x":1,"y":2}]}"#, strict: true)?.description
                == #"JSON, byte 24, field readings[0].y: unknown field, near: {"readings":[{"x":1,"y":⟦2⟧}]}"#)
        #expect(
            failure(Document.self, #"{"name":null,"readings":[],"name":"b"}"#, strict: true)?.description
                == #"JSON, byte 34, field name: a second value for the field, near: …ll,"readings":[],"name":⟦"⟧b"}"#)
    }
}
