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
            if !isStrict {
                let field = readUsualField(lookUp)
                if field != -1 { return field }
            }
            let field = try readUnusualField(lookUp)
            if field != -1 { return field }
        }
    }

    /// Goes over the usual members, without whitespace and escapes, up to one that is a field's.
    ///
    /// - Returns: As ``readField(_:)``; -1 with the cursor on the name of a member that is not usual.
    @inlinable @inline(__always)
    mutating func readUsualField(_ lookUp: (JSONKey) -> Int) -> Int {
        var window = JSONWindow(at: cursor, start: start, end: end)
        var name = cursor - window.base
        // Those from the name's opening one on.
        var quotes = window.quotes & (~0 &<< UInt64(truncatingIfNeeded: name))
        while true {
            let closing = quotes & (quotes &- 1)
            let close = closing.trailingZeroBitCount
            let value = close &+ 2
            if value < window.limit {
                guard UInt16(littleEndian: (window.base + close).loadUnaligned(as: UInt16.self)) == 0x3A22 else { break }
                let place = window.base + name
                let field = lookUp(JSONKey(place: place, count: close &- name &+ 1, head: word(at: place)))
                if field >= 0 {
                    cursor = window.base + value
                    skipSpace()
                    return field
                }
                // The next member's name tells where the value must end: that is quicker than to look for its end.
                var others = closing & (closing &- 1)
                let isString = (window.base + value).load(as: UInt8.self) == UInt8(ascii: "\"")
                let last = others & (others &- 1)
                if isString { others = last & (last &- 1) }
                let next = others.trailingZeroBitCount
                if next < window.limit {
                    guard window.isComma(next &- 1) else { break }
                    guard isString ? last.trailingZeroBitCount &+ 2 == next : window.isScalar(from: value, to: next &- 1) else { break }
                    quotes = others
                    name = next
                    continue
                }
                let behind = window.valueEnd(value, quotes: closing & (closing &- 1))
                if behind < window.limit, (window.base + behind).load(as: UInt8.self) == UInt8(ascii: "}") {
                    cursor = window.base + behind
                    leave()
                    return -2
                }
            }
            // It does not end in the window: from the member on there may be more to see.
            let place = window.base + name
            let moved = JSONWindow(at: place, start: start, end: end)
            guard moved.base != window.base else { break }
            window = moved
            name = place - window.base
            quotes = window.quotes & (~0 &<< UInt64(truncatingIfNeeded: name))
        }
        cursor = window.base + name
        return -1
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
