import Testing
import WeirFormats

@Suite struct JSONNumberTests {
    /// Hard cases: ties, the borders of the subnormal and the finite, many digits.
    static let doubles = [
        "0", "-0", "0.0", "-0.0", "1", "0.1", "0.2", "0.3", "123.456", "1.7976931348623157e308", "1.7976931348623158e308", "4.9e-324", "5e-324",
        "2.4703282292062327e-324", "2.4703282292062328e-324", "2.2250738585072014e-308", "2.2250738585072011e-308", "9007199254740992",
        "9007199254740993", "9007199254740994", "9007199254740995", "9007199254740993.0", "9007199254740993.00000000000000000001",
        "9007199254740992.9999999999999999", "0.1000000000000000055511151231257827", "1.00000000000000011102230246251565404236316680908203125",
        "1.00000000000000011102230246251565404236316680908203124", "1.00000000000000011102230246251565404236316680908203126",
        "18446744073709551615", "18446744073709551616", "1844674407370955161.5", "9999999999999999999", "99999999999999999999", "1e22", "1e23",
        "1e-22", "1e-23", "123456789012345678e19", "123456789012345678e-19", "8.5", "1234567.1234567", "12345678.1234567", "1234567.12345678",
        "1234567.12345678e2", "0.00000001", "0.0000000000000000000000000001", "3.14159265358979323846264338327950288", "1e-400", "0e999999999999",
        "1e-999999999999", "6.02214076e23", "100000000000000000000000", "7.0385307e-26", "1E2", "1.5e+3", "0.000001", "999999.9", "99999.99",
    ]

    @Test(arguments: doubles) func doublesAreRoundedAsSwiftDoes(text: String) throws { try expectSame(text) }

    private func expectSame(_ text: String) throws {
        let expected = try #require(Double(text))
        #expect(try decode(Double.self, text).bitPattern == expected.bitPattern, "\(text)")
        if !text.hasPrefix("-") { #expect(try decode(Double.self, "-" + text).bitPattern == (-expected).bitPattern, "\(text)") }
        #expect(try decode([Double].self, "[\(text),\(text)]") == [expected, expected])
    }

    @Test(arguments: 0..<20 as Range<UInt64>) func randomDoublesAreRoundedAsSwiftDoes(seed: UInt64) throws {
        var random = Random(seed: seed)
        func digits(_ count: Int) -> String { String((0..<count).map { _ in Character(Unicode.Scalar(48 + UInt8(random.below(10)))) }) }
        for _ in 0..<400 {
            let whole = random.below(4) == 0 ? "0" : "\(1 + random.below(9))" + digits(random.below(random.below(2) == 0 ? 4 : 22))
            let fraction = random.below(4) == 0 ? "" : "." + digits(1 + random.below(random.below(2) == 0 ? 4 : 22))
            let exponent = random.below(4) != 0 ? "" : "e\(random.below(2) == 0 ? "-" : "")\(random.below(random.below(2) == 0 ? 25 : 320))"
            let text = whole + fraction + exponent
            let expected = try #require(Double(text))
            #expect((try? decode(Double.self, text))?.bitPattern == (expected.isFinite ? expected.bitPattern : nil), "\(text)")
            let float = try #require(Float(text))
            #expect((try? decode(Float.self, text))?.bitPattern == (float.isFinite ? float.bitPattern : nil), "\(text)")
        }
        for _ in 0..<400 {
            let value = Double(bitPattern: random.next())
            guard value.isFinite else { continue }
            #expect(try decode(Double.self, "\(value)") == value)
            #expect(try decode(Double.self, encoded(value)).bitPattern == value.bitPattern)
            let float = Float(bitPattern: UInt32(truncatingIfNeeded: random.next()))
            guard float.isFinite else { continue }
            #expect(try decode(Float.self, encoded(float)).bitPattern == float.bitPattern)
        }
    }

    @Test func ties() throws {
        // Halfway between neighbours, and one unit of a far digit to either side of it.
        for exponent in 0..<60 {
            let neighbour = 9_007_199_254_740_993 + 2 * exponent
            for change in ["", ".0000001", ".9999999", "e2", "e-2"] { try expectSame("\(neighbour)\(change)") }
        }
    }

    @Test func halfwayFloatsAreRoundedOnce() throws {
        for text in [
            "16777217", "16777217.0000000001", "16777216.9999999999", "1.00000005960464477539", "1.00000005960464477540", "1e-45", "7e-46", "1.2e-38",
        ] {
            #expect(try decode(Float.self, text) == Float(text), "\(text)")
        }
        #expect(failure(Float.self, "1e39")?.reason == .outOfRange)
        #expect(failure(Float.self, "3.4028236e38")?.reason == .outOfRange)
    }

    @Test func whatIsTooLargeForADoubleFails() {
        for text in ["1e309", "1.7976931348623159e308", "-1e400", "1" + String(repeating: "0", count: 400)] {
            #expect(failure(Double.self, text)?.reason == .outOfRange)
        }
    }

    @Test func integersAreExactOrFail() throws {
        #expect(try decode(Int64.self, "\(Int64.max)") == .max)
        #expect(try decode(Int64.self, "\(Int64.min)") == .min)
        #expect(try decode(UInt64.self, "\(UInt64.max)") == .max)
        #expect(try decode(UInt8.self, "255") == 255)
        #expect(try decode(Int32.self, "-2147483648") == .min)
        #expect(try decode(UInt8.self, "-0") == 0)
        for text in ["9223372036854775808", "-9223372036854775809", "18446744073709551616", "99999999999999999999999", "-18446744073709551616"] {
            #expect(failure(Int64.self, text)?.reason == .outOfRange, "\(text)")
        }
        #expect(failure(UInt64.self, "18446744073709551616")?.reason == .outOfRange)
        #expect(failure(UInt64.self, "-1")?.reason == .outOfRange)
        #expect(failure(UInt8.self, "256")?.reason == .outOfRange)
        #expect(failure(Int32.self, "2147483648")?.reason == .outOfRange)
        for text in ["1.0", "1e3", "12345678.5", "1234567890123456.5", "1E3", "0.5", "0e1"] {
            #expect(failure(Int.self, text)?.reason == .typeMismatch, "\(text)")
        }
        #expect(failure(Int.self, "\"1\"")?.reason == .typeMismatch)
        #expect(failure(Int.self, "01")?.reason == .syntax)
        #expect(failure(Int.self, "-")?.reason == .truncated)
        for count in 1...19 {
            let text = (count == 19 ? "8" : "") + String(repeating: "9", count: min(count, 18))
            #expect(try decode(Int64.self, text) == Int64(text))
            #expect(try decode([Int64].self, "[-\(text),\(text)]") == [-Int64(text)!, Int64(text)!])
        }
    }

    @Test func numbersAreWrittenShortest() {
        #expect(
            encoded([0.0, -0.0, 4.25, 401.5, 0.1, 100, 1e9, 123456.789, 0.000001, 1e-7, 1e20, -2.5])
                == "[0.0,-0.0,4.25,401.5,0.1,100.0,1000000000.0,123456.789,0.000001,1e-07,1e+20,-2.5]")
        #expect(encoded([Double.nan, .infinity, -.infinity]) == "[null,null,null]")
        #expect(
            encoded([Int64.min, -1, 0, 9, 10, 99, 100, 999, 1000, 9999, 10000, 99999, .max])
                == "[-9223372036854775808,-1,0,9,10,99,100,999,1000,9999,10000,99999,9223372036854775807]")
        #expect(encoded(UInt64.max) == "18446744073709551615")
        #expect(encoded([Float(0.1), 1e10]) == "[0.1,1e+10]")
    }
}
