import Testing
import WeirBase

/// What `String(shortASCII:_:count:)` supposes of the layout of strings, checked against the compiler at hand.
@Suite struct ShortStringTests {
    private func short(_ text: String) -> String {
        let bytes = Array(text.utf8) + [UInt8](repeating: 0, count: 16)
        let words = bytes.withUnsafeBytes { ($0.loadUnaligned(as: UInt64.self), $0.loadUnaligned(fromByteOffset: 8, as: UInt64.self)) }
        return String(shortASCII: UInt64(littleEndian: words.0), UInt64(littleEndian: words.1), count: text.utf8.count)
    }

    @Test(arguments: 0...15) func itIsTheStringThatTheStandardLibraryMakes(count: Int) {
        let text = String(decoding: (0..<count).map { UInt8(0x20 + $0 * 6) }, as: UTF8.self)
        let short = short(text)
        #expect(short == text && short.hashValue == text.hashValue)
        #expect(short.utf8.count == count && short.count == text.count && Array(short.utf8) == Array(text.utf8))
        #expect(short + "é" == text + "é")
        #expect(unsafeBitCast(short, to: (UInt64, UInt64).self) == unsafeBitCast(text, to: (UInt64, UInt64).self))
    }

    @Test(arguments: ["", "a", "é", "C-10042", "12345678", "123456789abcdef", "123456789abcdeé", "123456789abcdef0", "😀", "a\u{0}b"])
    func whatIsWrittenIsReadAgain(text: String) throws {
        var writer = ByteWriter()
        writer.writeString(text)
        let read = try writer.finish().withUnsafeBytes { bytes in
            var reader = ByteReader(bytes)
            return try reader.readString()
        }
        #expect(read == text && read.hashValue == text.hashValue)
        #expect(try text.withKeyBytes { try String(keyBytes: $0) } == text)
    }

    @Test(arguments: [[0x80], [0x61, 0xC3], [0x61, 0x62, 0x63, 0x64, 0x65, 0x66, 0x67, 0x68, 0xFF]] as [[UInt8]])
    func invalidUTF8Throws(bytes: [UInt8]) {
        #expect(throws: DecodingFailure.self) { try bytes.withUnsafeBytes { try String(keyBytes: $0) } }
    }
}
