public import WeirBase

extension JSONReader {

    /// Marks the bytes that end the fast scan of a string: `"`, `\`, control characters and anything beyond ASCII.
    ///
    /// The lowest set bit is the top bit of the first such byte; those above it may be wrong (borrows).
    @inlinable @inline(__always)
    static func stringStops(_ word: UInt64) -> UInt64 {
        let quotes = word ^ 0x2222_2222_2222_2222
        let escapes = word ^ 0x5C5C_5C5C_5C5C_5C5C
        let ones: UInt64 = 0x0101_0101_0101_0101
        let found = (quotes &- ones) | (escapes &- ones) | (word &- 0x2020_2020_2020_2020) | word
        // Each difference also sets the top bit where the byte itself had it: those are stops as well.
        return found & 0x8080_8080_8080_8080
    }

    /// The first byte from `place` on that ends the fast scan; ``end`` counts as one.
    @inlinable @inline(__always)
    func stringStop(from place: UnsafeRawPointer) -> UnsafeRawPointer {
        var place = place
        var stops = Self.stringStops(word(at: place))
        while stops == 0 {
            place += 8
            stops = Self.stringStops(word(at: place))
        }
        return place + (stops.trailingZeroBitCount &>> 3)
    }

    /// Reads a string, undoing escapes; valid UTF-8 is checked.
    @inlinable @inline(__always)
    public mutating func readString() throws(JSONFailure) -> String {
        guard next == UInt8(ascii: "\"") else { throw unexpected("a string", at: cursor) }
        let begin = cursor + 1
        let stop = stringStop(from: begin)
        guard byte(at: stop) == UInt8(ascii: "\"") else { return try readUnusualString() }
        cursor = stop + 1
        let count = stop - begin
        if count > 15 { return Self.longASCII(begin, count) }
        let head = word(at: begin)
        if count < 8 { return String(shortASCII: head & ((1 &<< UInt64(truncatingIfNeeded: 8 &* count)) &- 1), 0, count: count) }
        // The last eight bytes, of which those behind the first eight stay.
        let tail = UInt64(littleEndian: begin.loadUnaligned(fromByteOffset: count &- 8, as: UInt64.self))
        return String(shortASCII: head, (tail &>> 8) &>> UInt64(truncatingIfNeeded: 8 &* (15 &- count)), count: count)
    }

    @usableFromInline @inline(never)
    static func longASCII(_ place: UnsafeRawPointer, _ count: Int) -> String {
        String(decoding: UnsafeRawBufferPointer(start: place, count: count), as: UTF8.self)
    }

    /// A string with escapes or beyond ASCII, or an invalid one.
    @usableFromInline @inline(never)
    mutating func readUnusualString() throws(JSONFailure) -> String {
        let begin = cursor + 1
        let (close, hasEscapes) = try scanString(from: begin)
        cursor = close + 1
        guard hasEscapes else { return String(decoding: UnsafeRawBufferPointer(start: begin, count: close - begin), as: UTF8.self) }
        // Unescaping never lengthens: "\uXXXX" is at most three bytes, a pair of them four.
        return String(unsafeUninitializedCapacity: close - begin) { Self.unescape(begin, close, into: $0) }
    }

    /// Checks the string that begins at `begin`, behind its quote, and finds its closing quote.
    @usableFromInline @inline(never)
    mutating func scanString(from begin: UnsafeRawPointer) throws(JSONFailure) -> (close: UnsafeRawPointer, hasEscapes: Bool) {
        var place = begin
        var hasEscapes = false
        while true {
            place = stringStop(from: place)
            guard place < end else { throw failure(.truncated, "the document ends inside a string", at: end) }
            switch place.load(as: UInt8.self) {
            case UInt8(ascii: "\""): return (place, hasEscapes)
            case UInt8(ascii: "\\"):
                hasEscapes = true
                place = try scanEscape(place)
            case 0x80...: place = try scanUTF8(place)
            default: throw failure(.invalidString, "a control character in a string, which must be escaped", at: place)
            }
        }
    }

    /// - Returns: Behind the escape sequence at `place`, or behind both of a surrogate pair.
    private mutating func scanEscape(_ place: UnsafeRawPointer) throws(JSONFailure) -> UnsafeRawPointer {
        switch byte(at: place + 1) {
        case UInt8(ascii: "\""), UInt8(ascii: "\\"), UInt8(ascii: "/"), UInt8(ascii: "b"), UInt8(ascii: "f"), UInt8(ascii: "n"),
            UInt8(ascii: "r"), UInt8(ascii: "t"):
            return place + 2
        case UInt8(ascii: "u"):
            let unit = try hexUnit(place)
            guard unit & 0xF800 == 0xD800 else { return place + 6 }
            guard unit < 0xDC00, byte(at: place + 6) == UInt8(ascii: "\\"), byte(at: place + 7) == UInt8(ascii: "u"),
                try hexUnit(place + 6) & 0xFC00 == 0xDC00
            else { throw failure(.invalidString, "half of a surrogate pair in a string", at: place) }
            return place + 12
        default:
            guard place + 1 < end else { throw failure(.truncated, "the document ends inside a string", at: end) }
            throw failure(.invalidString, "an escape sequence that JSON does not have", at: place)
        }
    }

    /// The four digits of the `\uXXXX` at `place`.
    private mutating func hexUnit(_ place: UnsafeRawPointer) throws(JSONFailure) -> UInt32 {
        var unit: UInt32 = 0
        for index in 2..<6 {
            guard let digit = Self.hexDigit(byte(at: place + index)) else {
                throw failure(place + index < end ? .invalidString : .truncated, "four hexadecimal digits expected after \\u", at: place)
            }
            unit = unit << 4 | digit
        }
        return unit
    }

    private static func hexDigit(_ byte: UInt8) -> UInt32? {
        switch byte {
        case UInt8(ascii: "0")...UInt8(ascii: "9"): UInt32(byte) - 0x30
        case UInt8(ascii: "a")...UInt8(ascii: "f"): UInt32(byte) - 0x61 + 10
        case UInt8(ascii: "A")...UInt8(ascii: "F"): UInt32(byte) - 0x41 + 10
        default: nil
        }
    }

    /// - Returns: Behind the character at `place`, whose first byte is beyond ASCII (Unicode 15, table 3-7).
    private mutating func scanUTF8(_ place: UnsafeRawPointer) throws(JSONFailure) -> UnsafeRawPointer {
        let second = byte(at: place + 1)
        func isContinuation(_ offset: Int) -> Bool { byte(at: place + offset) & 0xC0 == 0x80 }
        switch place.load(as: UInt8.self) {
        case 0xC2...0xDF where second & 0xC0 == 0x80: return place + 2
        case 0xE0 where (0xA0...0xBF).contains(second) && isContinuation(2): return place + 3
        case 0xED where (0x80...0x9F).contains(second) && isContinuation(2): return place + 3
        case 0xE1...0xEC where second & 0xC0 == 0x80 && isContinuation(2): return place + 3
        case 0xEE...0xEF where second & 0xC0 == 0x80 && isContinuation(2): return place + 3
        case 0xF0 where (0x90...0xBF).contains(second) && isContinuation(2) && isContinuation(3): return place + 4
        case 0xF4 where (0x80...0x8F).contains(second) && isContinuation(2) && isContinuation(3): return place + 4
        case 0xF1...0xF3 where second & 0xC0 == 0x80 && isContinuation(2) && isContinuation(3): return place + 4
        default: throw failure(.invalidString, "invalid UTF-8 in a string", at: place)
        }
    }

    /// Undoes the escapes of a string that ``scanString(from:)`` has checked.
    ///
    /// - Returns: Bytes written.
    private static func unescape(_ begin: UnsafeRawPointer, _ close: UnsafeRawPointer, into out: UnsafeMutableBufferPointer<UInt8>) -> Int {
        var place = begin
        var count = 0
        func unit(_ place: UnsafeRawPointer) -> UInt32 {
            (2..<6).reduce(0) { $0 << 4 | (hexDigit(place.load(fromByteOffset: $1, as: UInt8.self)) ?? 0) }
        }
        while place < close {
            let byte = place.load(as: UInt8.self)
            guard byte == UInt8(ascii: "\\") else {
                out[count] = byte
                count += 1
                place += 1
                continue
            }
            let kind = place.load(fromByteOffset: 1, as: UInt8.self)
            guard kind == UInt8(ascii: "u") else {
                out[count] = unescaped(kind)
                count += 1
                place += 2
                continue
            }
            var code = unit(place)
            place += 6
            if code & 0xF800 == 0xD800 {
                code = 0x10000 + (code & 0x3FF) << 10 + (unit(place) & 0x3FF)
                place += 6
            }
            count += writeUTF8(code, to: out, at: count)
        }
        return count
    }

    private static func unescaped(_ kind: UInt8) -> UInt8 {
        switch kind {
        case UInt8(ascii: "b"): 0x08
        case UInt8(ascii: "f"): 0x0C
        case UInt8(ascii: "n"): 0x0A
        case UInt8(ascii: "r"): 0x0D
        case UInt8(ascii: "t"): 0x09
        default: kind
        }
    }

    private static func writeUTF8(_ code: UInt32, to out: UnsafeMutableBufferPointer<UInt8>, at index: Int) -> Int {
        func tail(_ shift: UInt32) -> UInt8 { 0x80 | UInt8(truncatingIfNeeded: code >> shift) & 0x3F }
        switch code {
        case ..<0x80:
            out[index] = UInt8(truncatingIfNeeded: code)
            return 1
        case ..<0x800:
            out[index] = 0xC0 | UInt8(truncatingIfNeeded: code >> 6)
            out[index + 1] = tail(0)
            return 2
        case ..<0x10000:
            out[index] = 0xE0 | UInt8(truncatingIfNeeded: code >> 12)
            out[index + 1] = tail(6)
            out[index + 2] = tail(0)
            return 3
        default:
            out[index] = 0xF0 | UInt8(truncatingIfNeeded: code >> 18)
            out[index + 1] = tail(12)
            out[index + 2] = tail(6)
            out[index + 3] = tail(0)
            return 4
        }
    }
}
