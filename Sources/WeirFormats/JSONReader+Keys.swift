/// The name of a field in a document, quotes included: what a record's look-up compares with its own names.
///
/// Made by ``JSONReader/readField(_:)``, and good only while the look-up runs.
public struct JSONKey {
    /// The opening quote.
    @usableFromInline let place: UnsafeRawPointer
    /// Bytes, both quotes included.
    public let count: Int
    /// The first eight bytes, the first one lowest; what lies behind a shorter name is not defined.
    @usableFromInline let head: UInt64

    @inlinable @inline(__always)
    init(place: UnsafeRawPointer, count: Int, head: UInt64) {
        self.place = place
        self.count = count
        self.head = head
    }

    /// The name itself, for types that take any; invalid UTF-8 was refused before.
    public var name: String { String(decoding: UnsafeRawBufferPointer(start: place + 1, count: count - 2), as: UTF8.self) }

    /// Whether this is the quoted name of `count` bytes, at most 8, in `word`.
    @inlinable @inline(__always)
    public func matches(_ word: UInt64) -> Bool {
        (head ^ word) &<< UInt64(truncatingIfNeeded: 64 &- 8 &* count) == 0
    }

    /// Whether this is the quoted name of `count` bytes, 9 to 16, whose first eight and last eight bytes are given.
    @inlinable @inline(__always)
    public func matches(_ first: UInt64, _ last: UInt64) -> Bool { head == first && word(count &- 8) == last }

    /// The same for 17 to 24 bytes.
    @inlinable @inline(__always)
    public func matches(_ first: UInt64, _ second: UInt64, _ last: UInt64) -> Bool {
        head == first && word(8) == second && word(count &- 8) == last
    }

    /// The same for names of any length, which has been compared already.
    @inlinable
    public func matches(_ quoted: StaticString) -> Bool {
        for index in 0..<count where place.load(fromByteOffset: index, as: UInt8.self) != quoted.utf8Start[index] { return false }
        return true
    }

    @inlinable @inline(__always)
    func word(_ offset: Int) -> UInt64 { UInt64(littleEndian: place.loadUnaligned(fromByteOffset: offset, as: UInt64.self)) }
}

// The cursor stands on a name's opening quote; afterwards, on its value's first byte.
extension JSONReader {

    /// Reads the name and its colon if it is the predicted one: at most 8 bytes with its quotes, in the low bytes of `word`.
    @inlinable @inline(__always)
    public mutating func takeKey(_ word: UInt64, count: Int) -> Bool {
        guard end - cursor >= 10 else { return false }
        let found = UInt64(littleEndian: cursor.loadUnaligned(as: UInt64.self))
        guard (found ^ word) &<< UInt64(truncatingIfNeeded: 64 &- 8 &* count) == 0 else { return false }
        return takeColon(cursor + count)
    }

    /// The same for 9 to 16 bytes, of which the first eight and the last eight are given.
    @inlinable @inline(__always)
    public mutating func takeKey(_ first: UInt64, _ last: UInt64, count: Int) -> Bool {
        guard end - cursor >= count &+ 2 else { return false }
        guard UInt64(littleEndian: cursor.loadUnaligned(as: UInt64.self)) == first,
            UInt64(littleEndian: cursor.loadUnaligned(fromByteOffset: count &- 8, as: UInt64.self)) == last
        else { return false }
        return takeColon(cursor + count)
    }

    /// The same for 17 to 24 bytes.
    @inlinable @inline(__always)
    public mutating func takeKey(_ first: UInt64, _ second: UInt64, _ last: UInt64, count: Int) -> Bool {
        guard end - cursor >= count &+ 2 else { return false }
        guard UInt64(littleEndian: cursor.loadUnaligned(as: UInt64.self)) == first,
            UInt64(littleEndian: cursor.loadUnaligned(fromByteOffset: 8, as: UInt64.self)) == second,
            UInt64(littleEndian: cursor.loadUnaligned(fromByteOffset: count &- 8, as: UInt64.self)) == last
        else { return false }
        return takeColon(cursor + count)
    }

    /// The same for names of any length.
    @inlinable
    public mutating func takeKey(_ quoted: StaticString) -> Bool {
        let count = quoted.utf8CodeUnitCount
        guard end - cursor >= count &+ 2 else { return false }
        for index in 0..<count where cursor.load(fromByteOffset: index, as: UInt8.self) != quoted.utf8Start[index] { return false }
        return takeColon(cursor + count)
    }

    /// `place` is behind a name, with two more bytes there to read.
    @inlinable @inline(__always)
    mutating func takeColon(_ place: UnsafeRawPointer) -> Bool {
        if place.load(as: UInt8.self) == UInt8(ascii: ":"), place.load(fromByteOffset: 1, as: UInt8.self) > 0x20 {
            cursor = place + 1
            return true
        }
        return takeSpacedColon(place)
    }

    @usableFromInline @inline(never)
    mutating func takeSpacedColon(_ place: UnsafeRawPointer) -> Bool {
        let name = cursor
        cursor = place
        skipSpaceSlowly()
        guard next == UInt8(ascii: ":") else {
            // The general path finds this again, and reports it.
            cursor = name
            return false
        }
        cursor += 1
        skipSpaceSlowly()
        return true
    }

    /// Reads names until one is a field's, skipping the values of the others; strict mode refuses those.
    ///
    /// - Parameter lookUp: Finds a field's index, or returns -1; it gets a key that is good only until it returns.
    /// - Returns: The index, with the cursor on the field's value; -2 where the object ended, and has been read.
    @inlinable @inline(__always)
    public mutating func readField(_ lookUp: (JSONKey) -> Int) throws(JSONFailure) -> Int {
        while true {
            var place = cursor
            // The usual members, without whitespace.
            while place <= lastWordPlace {
                let head = UInt64(littleEndian: place.loadUnaligned(as: UInt64.self))
                // The opening quote must not end the name.
                var stops = Self.stringStops(head | 0x5F)
                var close = place
                if stops == 0 {
                    close += 8
                    guard close <= lastWordPlace else { break }
                    stops = Self.stringStops(UInt64(littleEndian: close.loadUnaligned(as: UInt64.self)))
                }
                close += stops.trailingZeroBitCount &>> 3
                // At least a byte of the value is there, too.
                guard close < lastWordPlace + 6, UInt16(littleEndian: close.loadUnaligned(as: UInt16.self)) == 0x3A22 else { break }
                let field = lookUp(JSONKey(place: place, count: close - place &+ 1, head: head))
                if field >= 0 {
                    cursor = close + 2
                    skipSpace()
                    return field
                }
                if isStrict { break }
                let behind = usualValueEnd(close + 2)
                if behind <= lastWordPlace + 6, UInt16(littleEndian: behind.loadUnaligned(as: UInt16.self)) == 0x222C {
                    place = behind + 1
                } else if byte(at: behind) == UInt8(ascii: "}") {
                    cursor = behind
                    leave()
                    return -2
                } else {
                    break
                }
            }
            cursor = place
            let field = try readUnusualField(lookUp)
            if field != -1 { return field }
        }
    }

    /// Behind the value at `place` if it is `true`, `false`, `null`, a string of at most 15 plain bytes, an integer of at most 15 digits or a
    /// number of at most 8 bytes; ``end`` if it is something else, which is there for a closer look.
    ///
    /// What follows the value is not looked at: an exponent, for example.
    @inlinable @inline(__always)
    func usualValueEnd(_ place: UnsafeRawPointer) -> UnsafeRawPointer {
        let first = place.load(as: UInt8.self)
        if first == UInt8(ascii: "\"") {
            var close = place + 1
            var stops = Self.stringStops(word(at: close))
            if stops == 0 {
                close += 8
                stops = Self.stringStops(word(at: close))
            }
            close += stops.trailingZeroBitCount &>> 3
            return byte(at: close) == UInt8(ascii: "\"") ? close + 1 : end
        }
        let isNegative = first == UInt8(ascii: "-")
        let digits = isNegative ? place + 1 : place
        let word = word(at: digits)
        let others = Self.nonDigits(word)
        let whole = others.trailingZeroBitCount & ~7
        // No digit at all, or more than one after a zero, or more than seven.
        guard whole &- 8 < (UInt8(truncatingIfNeeded: word) == UInt8(ascii: "0") ? 8 : 56), whole != 0 else {
            return whole == 64 ? longIntegerEnd(digits, word) : isNegative ? end : literalEnd(place, word)
        }
        let dot = UInt8(truncatingIfNeeded: word &>> UInt64(truncatingIfNeeded: whole))
        guard dot == UInt8(ascii: ".") else { return digits + (whole &>> 3) }
        let stop = (others & (others &- 1)).trailingZeroBitCount & ~7
        // At least one decimal, and an end within the word.
        return stop > whole &+ 8 && stop < 64 ? digits + (stop &>> 3) : end
    }

    /// Behind the integer at `digits`, the first eight of which are in `word`; ``end`` if it begins with a zero or has 16 digits or more.
    @inlinable @inline(__always)
    func longIntegerEnd(_ digits: UnsafeRawPointer, _ word: UInt64) -> UnsafeRawPointer {
        let more = Self.digitCount(self.word(at: digits + 8))
        return more < 8 && UInt8(truncatingIfNeeded: word) != UInt8(ascii: "0") ? digits + (8 &+ more) : end
    }

    /// Behind `true`, `false` or `null`, whose bytes are in `word`; ``end`` if it is none of them.
    @inlinable @inline(__always)
    func literalEnd(_ place: UnsafeRawPointer, _ word: UInt64) -> UnsafeRawPointer {
        let four = UInt32(truncatingIfNeeded: word)
        if four == 0x6575_7274 || four == 0x6C6C_756E { return place + 4 }
        return word & 0xFF_FFFF_FFFF == 0x65_736C_6166 ? place + 5 : end
    }

    /// One member of any form.
    ///
    /// - Returns: As ``readField(_:)``; -1 where a member was skipped and the next one's name follows.
    @usableFromInline @inline(never)
    mutating func readUnusualField(_ lookUp: (JSONKey) -> Int) throws(JSONFailure) -> Int {
        let name = cursor
        var close = stringStop(from: name + 1)
        var hasEscapes = false
        if byte(at: close) != UInt8(ascii: "\"") { (close, hasEscapes) = try scanString(from: name + 1) }
        let field: Int
        if hasEscapes {
            field = try lookUpUnescaped(lookUp)
        } else {
            field = lookUp(JSONKey(place: name, count: close - name &+ 1, head: word(at: name)))
        }
        if byte(at: close + 1) == UInt8(ascii: ":"), byte(at: close + 2) > 0x20 {
            cursor = close + 2
        } else {
            cursor = close + 1
            try readColon()
        }
        if field >= 0 { return field }
        if isStrict { throw failure(.unknownField, "unknown field", at: cursor) }
        try skipValue()
        return try nextMember() ? -1 : -2
    }

    /// A name with escapes is compared as what it means, not as it is written.
    private mutating func lookUpUnescaped(_ lookUp: (JSONKey) -> Int) throws(JSONFailure) -> Int {
        let name = try readString()
        let count = name.utf8.count + 2
        // `head` is eight bytes whatever the name's length.
        var quoted = "\"" + name + "\"\0\0\0\0\0\0\0\0"
        return quoted.withUTF8 { utf8 in
            guard let place = UnsafeRawBufferPointer(utf8).baseAddress else { return -1 }
            return lookUp(JSONKey(place: place, count: count, head: UInt64(littleEndian: place.loadUnaligned(as: UInt64.self))))
        }
    }

    @usableFromInline @inline(never)
    mutating func readColon() throws(JSONFailure) {
        skipSpace()
        guard next == UInt8(ascii: ":") else { throw unexpected("':' after the field name", at: cursor) }
        cursor += 1
        skipSpace()
    }
}
