import Testing
import WeirBase
import WeirFormats

@Record private struct Sale: Equatable {
    var id: Int
    var name: String
    @Field("unit price") var price: Double
    var note: String?
    var count: UInt8?
    var paid = false
}

private func decode<Row: FieldCodable>(_ text: String, _ format: CSVFormat<Row>) throws -> Row { try decodeCopy(Array(text.utf8), format) }

private func problem(_ body: () throws(ConfigurationError) -> Void) -> [String] {
    do throws(ConfigurationError) {
        try body()
        return []
    } catch {
        return error.problems
    }
}

@Suite struct CSVTests {
    @Test(arguments: [
        ("1,apple,0.5,,,true", Sale(id: 1, name: "apple", price: 0.5, note: nil, count: nil, paid: true)),
        ("-7,,1e3,x,255,0\n", Sale(id: -7, name: "", price: 1_000, note: "x", count: 255, paid: false)),
        ("+7,\"a,b\",.5,\"\",0,TRUE\r\n", Sale(id: 7, name: "a,b", price: 0.5, note: "", count: 0, paid: true)),
        (
            "\"2\",\"say \"\"hi\"\"\",\"3\",\"two\nlines\",\"1\",\"false\"",
            Sale(id: 2, name: "say \"hi\"", price: 3, note: "two\nlines", count: 1, paid: false)
        ),
        ("3, spaced ,inf,é😀,,1", Sale(id: 3, name: " spaced ", price: .infinity, note: "é😀", count: nil, paid: true)),
    ])
    fileprivate func readsRecordsOfTheStandard(text: String, row: Sale) throws {
        let format = try CSVFormat(Sale.self)
        #expect(try decode(text, format) == row)
        #expect(try decodeCopy(encodedBytes(row, format), format) == row)
    }

    @Test(arguments: [
        ("", "CSV, byte 0, field id: an integer expected, found nothing"),
        ("1", "CSV, byte 1, field name: 1 cells, and 6 expected"),
        ("1,a,1,,,true,x", "CSV, byte 12, field paid: more than 6 cells"),
        ("x,a,1,,,true", "CSV, byte 0, field id: an integer expected, found \"x\""),
        ("1.5,a,1,,,true", "CSV, byte 0, field id: an integer expected, found \"1.5\""),
        ("9223372036854775808,a,1,,,true", "CSV, byte 0, field id: 9223372036854775808 does not fit Int"),
        ("1,a,abc,,,true", "CSV, byte 4, field unit price: a number expected, found \"abc\""),
        ("1,a,,,,true", "CSV, byte 4, field unit price: a number expected, found nothing"),
        ("1,a,1,,256,true", "CSV, byte 7, field count: 256 does not fit UInt8"),
        ("1,a,1,,-1,true", "CSV, byte 7, field count: -1 does not fit UInt8"),
        ("1,a,1,,,yes", "CSV, byte 8, field paid: true or false expected, found \"yes\""),
        ("1,a\"b,1,,,true", "CSV, byte 3, field name: a quote inside an unquoted cell"),
        ("1,\"a\"b,1,,,true", "CSV, byte 5, field name: something behind the closing quote of a cell"),
        ("1,\"a,1,,,true", "CSV, byte 13, field name: the record ends inside a quoted cell"),
        ("1,a\nb,1,,,true", "CSV, byte 3, field name: the end of a line inside an unquoted cell"),
    ])
    func failuresNameTheColumnAndTheByte(text: String, description: String) throws {
        #expect(formatFailure(Array(text.utf8), try CSVFormat(Sale.self))?.description == description)
    }

    @Test func invalidTextIsRefused() throws {
        #expect(formatFailure(Array("1,".utf8) + [0xFF] + Array(",1,,,true".utf8), try CSVFormat(Sale.self))?.reason == .invalidString)
    }

    @Test func writesWhatItReads() throws {
        let format = try CSVFormat(Sale.self)
        func text(_ row: Sale) throws -> String { String(decoding: try encodedBytes(row, format), as: UTF8.self) }
        #expect(try text(Sale(id: 1, name: "a", price: 0.5, note: nil, count: 3, paid: true)) == "1,a,0.5,,3,true")
        #expect(try text(Sale(id: 1, name: "", price: .nan, note: "", count: nil, paid: false)) == "1,,nan,\"\",,false")
        #expect(try text(Sale(id: 1, name: "a\"b,c\r\n", price: 1, note: " ", count: nil)) == "1,\"a\"\"b,c\r\n\",1.0, ,,false")
        #expect(String(decoding: format.header, as: UTF8.self) == "id,name,unit price,note,count,paid")
    }

    @Test func aHeaderSaysWhichColumnIsWhich() throws {
        let format = try CSVFormat(Sale.self, delimiter: ";", nullText: "NULL")
        let header = Array("\u{FEFF}other;\"unit price\";name;id;note\r\n".utf8)
        let read = try header.withUnsafeBytes { try format.reading(header: $0) }
        #expect(read.columns == ["other", "unit price", "name", "id", "note"])
        #expect(try decode("zz;2.5;NULL;4;NULL", read) == Sale(id: 4, name: "NULL", price: 2.5, note: nil, count: nil, paid: false))
        #expect(try decode("zz;2.5;;4;", read) == Sale(id: 4, name: "", price: 2.5, note: "", count: nil, paid: false))
        let short = Array("name;id".utf8)
        #expect(throws: ConfigurationError.self) { try short.withUnsafeBytes { try format.reading(header: $0) } }
    }

    @Test func whatACellCannotHoldIsToldWhenTheFormatIsMade() {
        #expect(
            problem { () throws(ConfigurationError) in _ = try CSVFormat(Everything.self) } == [
                "CSV has no cells for field \"serial\" of Everything, which is a [UInt8]",
                "CSV has no cells for field \"price\" of Everything, which is a [UInt8]",
                "CSV has no cells for field \"labels\" of Everything, which is a [Labelled]",
                "CSV has no cells for field \"parts\" of Everything, which is a [Piece]",
                "CSV has no cells for field \"raw\" of Everything, which is a [UInt8]",
            ])
        #expect(
            problem { () throws(ConfigurationError) in _ = try CSVFormat(Sale.self, columns: ["id", "name", "id"], delimiter: "é") } == [
                "two columns of CSV have the same name: id, name, id",
                "no column is called \"unit price\", which Sale needs; there are id, name, id. Give the field a default, make it optional, or name "
                    + "its column with @Field",
                "a delimiter of CSV is one ASCII character, neither a quote nor the end of a line",
            ])
        func check(_ sink: some SerializationSchema<Sale>) {}
        #expect(
            problem { () throws(ConfigurationError) in check(try .csv(Sale.self, columns: ["x", "id", "name", "unit price", "note", "paid"])) } == [
                "no column is called \"count\", and that field of Sale would be lost", "column \"x\" is no field of Sale",
            ])
    }

    @Test func recordsEndAtLineBreaksOutsideOfQuotes() {
        let text = Array("a,\"b\n\"\"\n\",c\nd\n".utf8)
        text.withUnsafeBytes { bytes in
            #expect(CSVFormat<Sale>.recordEnd(in: bytes, from: 0) == 11)
            #expect(CSVFormat<Sale>.recordEnd(in: bytes, from: 12) == 13)
            #expect(CSVFormat<Sale>.recordEnd(in: bytes, from: 14) == nil)
        }
    }

    @Test func aLoneEmptyTextIsNoEmptyLine() throws {
        let format = try CSVFormat(Alone.self)
        #expect(try encodedBytes(Alone(text: ""), format) == Array("\"\"".utf8))
        #expect(try decode("\"\"", format) == Alone(text: ""))
        #expect(try decode("", format) == Alone(text: ""))
    }

    @Test(arguments: 0..<30 as Range<UInt64>) func damagedRecordsNeverTrapAndAcceptedOnesReadBack(seed: UInt64) throws {
        var random = Random(seed: seed)
        let format = try CSVFormat(Sale.self)
        let pieces = ["\"", ",", "\"\"", "\n", "\r", "-", "+", ".", "e9", "nan", "é", "\u{0}", "0x1", "true"]
        var accepted = 0
        for _ in 0..<300 {
            var bytes = Array("12,\"na\"\"me\",1.25,,7,true".utf8)
            for _ in 0..<(1 + random.below(3)) where !bytes.isEmpty {
                let place = random.below(bytes.count)
                switch random.below(4) {
                case 0: bytes[place] = UInt8(random.below(256))
                case 1: bytes.removeSubrange(place..<min(bytes.count, place + 1 + random.below(4)))
                case 2: bytes.insert(contentsOf: Array(pieces[random.below(pieces.count)].utf8), at: place)
                default: bytes.removeLast(random.below(min(bytes.count, 5)))
                }
            }
            guard let row = try? decodeCopy(bytes, format) else { continue }
            accepted += 1
            let again = try decodeCopy(encodedBytes(row, format), format)
            #expect(again == row || row.price.isNaN)
        }
        #expect(accepted > 0)
    }
}

@Record private struct Alone: Equatable { var text: String }
