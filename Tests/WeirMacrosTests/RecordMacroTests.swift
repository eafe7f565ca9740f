import SwiftDiagnostics
import SwiftParser
import SwiftSyntax
import SwiftSyntaxBuilder
import SwiftSyntaxMacroExpansion
import SwiftSyntaxMacros
import Testing

@testable import WeirMacros

/// What the macros make of a file: its text afterwards, and what they complain of.
private func expanded(_ source: String) -> (text: String, messages: [String]) {
    let file = Parser.parse(source: source)
    let context = BasicMacroExpansionContext(sourceFiles: [file: .init(moduleName: "Test", fullFilePath: "Test.swift")])
    let macros: [String: MacroSpec] = [
        "Record": MacroSpec(type: RecordMacro.self, conformances: ["Record", "JSONRecord", "FieldCodable"]),
        "Field": MacroSpec(type: FieldMacro.self),
    ]
    let result = file.expand(macroSpecs: macros) { BasicMacroExpansionContext(sharingWith: context, lexicalContext: $0.allMacroLexicalContexts()) }
    return (result.description, context.diagnostics.map(\.message))
}

@Suite struct RecordMacroTests {
    @Test func writesTheExtensions() {
        let (text, messages) = expanded(
            """
            @Record
            public struct Reading {
                public var id: String
                @Field("co2_ppm") var co2: Double?
                var unit = "C"
            }
            """)
        #expect(messages.isEmpty)
        let expected = #"""
            public struct Reading {
                public var id: String
                var co2: Double?
                var unit = "C"
            }

            extension Reading: Record {
                public static let schema = Schema.record(
                    name: "Reading",
                    fields: [
                        Schema.Field("id", Schema.of { (record: Self) in record.id }),
                        Schema.Field("co2", Schema.of { (record: Self) in record.co2 }),
                        Schema.Field("unit", Schema.of { (record: Self) in record.unit }),
                    ])

                public func encode(into writer: inout ByteWriter) {
                    self.id.encode(into: &writer)
                    self.co2.encode(into: &writer)
                    self.unit.encode(into: &writer)
                }

                public init(from reader: inout ByteReader) throws(DecodingFailure) {
                    self.id = try reader.read()
                    self.co2 = try reader.read()
                    self.unit = try reader.read()
                }
            }

            extension Reading: JSONRecord {
                public init(json: inout JSONReader) throws(JSONFailure) {
                    var value0 = JSONReader.unread { (record: Self) in record.id }
                    var value1 = JSONReader.unread { (record: Self) in record.co2 }
                    var value2 = JSONReader.unread { (record: Self) in record.unit }
                    if try json.beginObject() {
                        var field = json.takeKey(0x22646922, count: 4) ? 0 : -1
                        members: while true {
                            if field < 0 { field = try json.readField(Self.jsonField) }
                            switch field {
                            case 0:
                                try json.read(into: &value0)
                                guard try json.nextMember() else { break members }
                                guard json.takeKey(0x6D70705F326F6322, 0x226D70705F326F63, count: 9) else { break }
                                fallthrough
                            case 1:
                                try json.read(into: &value1)
                                guard try json.nextMember() else { break members }
                                guard json.takeKey(0x2274696E7522, count: 6) else { break }
                                fallthrough
                            case 2:
                                try json.read(into: &value2)
                                guard try json.nextMember() else { break members }
                            default:
                                break members
                            }
                            field = -1
                        }
                    }
                    self.id = try json.required(value0, "id", of: "Reading")
                    if let value1 { self.co2 = value1 }
                    if let value2 { self.unit = value2 }
                }
            """#
        #expect(dense(text).starts(with: dense(expected)), "\(text)")
    }

    /// Without whitespace, which the expansion may change.
    private func dense(_ text: String) -> String { text.filter { !$0.isWhitespace } }

    @Test(arguments: [
        ("@Record class A { var x = 1 }", "@Record needs a struct, and this is a class: a record is a plain value with stored properties"),
        ("@Record enum A { case x }", "@Record needs a struct, and this is an enum: a record is a plain value with stored properties"),
        ("@Record actor A { var x = 1 }", "@Record needs a struct, and this is an actor: a record is a plain value with stored properties"),
        ("@Record struct A<T> { var x: T }", "@Record cannot be generic: 'A' has no one schema; write a struct for each type that you need"),
        ("@Record struct A {}", "@Record needs at least one stored property, and 'A' has none"),
        ("@Record struct A { static let x = 1; var y: Int { 1 } }", "@Record needs at least one stored property, and 'A' has none"),
        (
            "@Record struct A { let x = 1 }",
            "'x' is a constant with a value, which decoding cannot set; make it 'var', or 'static let' if it is no field"
        ),
        ("@Record struct A { lazy var x = 1 }", "'x' is lazy, and so no field; make it a computed property"),
        ("@Record struct A { weak var x: B? }", "'x' is weak or unowned, and so no field: records hold values"),
        ("@Record struct A { var (x, y) = (1, 2) }", "@Record needs one name a property, not a tuple of names"),
        (
            "@Record struct A { var z: Int\n#if DEBUG\nvar x: Int\n#endif\n}",
            "@Record does not see properties inside #if; put the whole struct inside it"
        ),
        (
            "@Record struct A { var x: (Int, Int) }",
            "'x' is a tuple, which is no field; use a nested @Record struct, a number, Bool, String, an optional or an array"
        ),
        (
            "@Record struct A { var x: [String: Int] }",
            "'x' is a dictionary, which is no field; use a nested @Record struct, a number, Bool, String, an optional or an array"
        ),
        (
            "@Record struct A { var x: (@Sendable () -> Int)? }",
            "'x' is a function, which is no field; use a nested @Record struct, a number, Bool, String, an optional or an array"
        ),
        (
            "@Record struct A { var x: any B }",
            "'x' is of a type known only at run time, which is no field; use a nested @Record struct, a number, Bool, String, "
                + "an optional or an array"
        ),
        ("@Record struct A { var x: [A] }", "'x' makes 'A' contain itself, and so its schema endless; refer to other records by a key"),
        (
            "@Record struct A { var x: Optional<Array<A>> }",
            "'x' makes 'A' contain itself, and so its schema endless; refer to other records by a key"
        ),
        ("@Record struct A { @Field(\"y\") var x: Int; var y: Int }", "two fields are named 'y' in JSON; name one otherwise with @Field"),
        ("@Record struct A { @Field(name) var x: Int }", "@Field needs a string literal without interpolation, since the parser is made of it"),
        (
            "@Record struct A { @Field(\"a\\(1)\") var x: Int }",
            "@Field needs a string literal without interpolation, since the parser is made of it"
        ),
        (
            "@Record struct A { @Field(\"a\\\"\") var x: Int }",
            "'a\"' cannot name a field: it must not be empty, nor hold quotes, backslashes or control characters"
        ),
        (
            "@Record struct A { @Field(\"\") var x: Int }",
            "'' cannot name a field: it must not be empty, nor hold quotes, backslashes or control characters"
        ),
        (
            "@Record struct A { var y: Int; @Field(\"a\") static var x = 1 }",
            "'x' is no stored property of an instance, and so no field for @Field to name"
        ),
        ("struct A { @Field(\"a\") func x() {} }", "@Field names a stored property of a @Record struct"),
        (
            "enum B { @Record private struct A { var x: Int } }",
            "@Record cannot reach 'A', which is private inside another type; make it fileprivate or internal"
        ),
        (
            "struct B<T> { @Record struct A { var x: Int } }",
            "@Record cannot be generic: 'A' has no one schema; write a struct for each type that you need"
        ),
    ])
    func saysWhatToDo(source: String, message: String) {
        #expect(expanded(source).messages == [message])
    }

    @Test func reportsEveryProblemAtOnce() {
        #expect(expanded("@Record struct A { let x = 1; lazy var y = 2; var z: (Int, Int) }").messages.count == 3)
    }
}
