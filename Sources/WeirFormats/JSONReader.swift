/// Reads one JSON document (RFC 8259) straight into fields, without copying or building a tree.
///
/// A cursor over borrowed bytes. Each `read…` stands on the first byte of a value, and leaves the cursor behind its last one.
/// What no field reads is skipped, but checked: a document is accepted only when all of it is JSON.
///
/// - Important: It borrows the memory: do not let it outlive the buffer it was made from.
public struct JSONReader {
    /// Arrays and objects inside each other, at most.
    public static let depthMax = 128

    @usableFromInline var cursor: UnsafeRawPointer
    @usableFromInline let end: UnsafeRawPointer
    @usableFromInline let start: UnsafeRawPointer
    /// The last place where eight bytes can be loaded; before ``start`` in a shorter document.
    @usableFromInline let lastWordPlace: UnsafeRawPointer
    @usableFromInline var depth = 0
    /// Whether unknown and duplicate fields are failures.
    public let isStrict: Bool

    /// - Parameters:
    ///   - bytes: The whole document, with or without whitespace around it.
    ///   - strict: Refuse unknown and duplicate fields; else the former are skipped and the last of the latter counts.
    @inlinable
    public init(_ bytes: UnsafeRawBufferPointer, strict: Bool = false) {
        // An empty buffer may have no address; with start == end none is ever read from.
        start = bytes.baseAddress ?? UnsafeRawPointer(bitPattern: 8)!
        end = start + bytes.count
        lastWordPlace = end - 8
        cursor = start
        isStrict = strict
        skipSpace()
    }

    /// Bytes read so far.
    @inlinable
    public var offset: Int { cursor - start }

    /// Throws unless only whitespace is left.
    @inlinable
    public mutating func finish() throws(JSONFailure) {
        if cursor != end { try finishSlowly() }
    }

    @usableFromInline @inline(never)
    mutating func finishSlowly() throws(JSONFailure) {
        skipSpaceSlowly()
        guard cursor == end else {
            let failure = unseparated("the end of the document", at: cursor)
            if failure.reason == .typeMismatch { throw failure }
            throw self.failure(.trailingBytes, failure.message, at: cursor)
        }
    }

    // MARK: Bytes

    /// The byte at `place`, or 0, which stands nowhere in JSON, at the end.
    @inlinable @inline(__always)
    func byte(at place: UnsafeRawPointer) -> UInt8 { place < end ? place.load(as: UInt8.self) : 0 }

    /// The byte under the cursor, or 0 at the end.
    @inlinable @inline(__always)
    var next: UInt8 { byte(at: cursor) }

    /// Eight bytes from `place` on, the first one lowest; zeros past the end.
    @inlinable @inline(__always)
    func word(at place: UnsafeRawPointer) -> UInt64 {
        place <= lastWordPlace
            ? UInt64(littleEndian: place.loadUnaligned(as: UInt64.self)) : Self.lastWord(at: place, start: start, end: end)
    }

    @usableFromInline @inline(never)
    static func lastWord(at place: UnsafeRawPointer, start: UnsafeRawPointer, end: UnsafeRawPointer) -> UInt64 {
        let left = end - place
        guard left > 0 else { return 0 }
        if end - start >= 8 {
            // The document's last eight bytes, shifted: no loop.
            let word = UInt64(littleEndian: end.loadUnaligned(fromByteOffset: -8, as: UInt64.self))
            return word &>> UInt64(truncatingIfNeeded: 64 &- 8 &* left)
        }
        var word: UInt64 = 0
        for index in stride(from: end - place - 1, through: 0, by: -1) {
            word = word << 8 | UInt64(place.load(fromByteOffset: index, as: UInt8.self))
        }
        return word
    }

    @inlinable @inline(__always)
    mutating func skipSpace() {
        if next <= 0x20 { skipSpaceSlowly() }
    }

    @usableFromInline @inline(never)
    mutating func skipSpaceSlowly() {
        while cursor < end {
            switch cursor.load(as: UInt8.self) {
            case 0x20, 0x0A, 0x0D, 0x09: cursor += 1
            default: return
            }
        }
    }

    // MARK: Objects

    /// Reads `{`. True: the cursor is at the first field's name. False: the object is empty and has been read.
    @inlinable @inline(__always)
    public mutating func beginObject() throws(JSONFailure) -> Bool {
        guard next == UInt8(ascii: "{") else { throw unexpected("an object", at: cursor) }
        try enter()
        if next == UInt8(ascii: "\"") { return true }
        guard next == UInt8(ascii: "}") else { throw unexpected("a field name or '}'", at: cursor) }
        leave()
        return false
    }

    /// Goes from behind a field's value to the next field's name. False: the object ended instead, and has been read.
    @inlinable @inline(__always)
    public mutating func nextMember() throws(JSONFailure) -> Bool {
        if cursor < lastWordPlace, UInt16(littleEndian: cursor.loadUnaligned(as: UInt16.self)) == 0x222C {
            cursor += 1
            return true
        }
        return try nextSpacedMember()
    }

    @usableFromInline @inline(never)
    mutating func nextSpacedMember() throws(JSONFailure) -> Bool {
        skipSpace()
        if next == UInt8(ascii: ",") {
            cursor += 1
            skipSpace()
            guard next == UInt8(ascii: "\"") else { throw unexpected("a field name", at: cursor) }
            return true
        }
        guard next == UInt8(ascii: "}") else { throw unseparated("',' or '}'", at: cursor) }
        leave()
        return false
    }

    // MARK: Arrays

    /// Reads `[`. True: the cursor is at the first element. False: the array is empty and has been read.
    @inlinable @inline(__always)
    public mutating func beginArray() throws(JSONFailure) -> Bool {
        guard next == UInt8(ascii: "[") else { throw unexpected("an array", at: cursor) }
        try enter()
        guard next == UInt8(ascii: "]") else { return true }
        leave()
        return false
    }

    /// Goes from behind an element to the next one. False: the array ended instead, and has been read.
    @inlinable @inline(__always)
    public mutating func nextElement() throws(JSONFailure) -> Bool {
        skipSpace()
        if next == UInt8(ascii: ",") {
            cursor += 1
            skipSpace()
            return true
        }
        guard next == UInt8(ascii: "]") else { throw unseparated("',' or ']'", at: cursor) }
        leave()
        return false
    }

    @inlinable @inline(__always)
    mutating func enter() throws(JSONFailure) {
        depth &+= 1
        guard depth <= 128 else { throw tooDeep() }
        cursor += 1
        skipSpace()
    }

    @inlinable @inline(__always)
    mutating func leave() {
        depth &-= 1
        cursor += 1
    }

    @usableFromInline @inline(never)
    mutating func tooDeep() -> JSONFailure { failure(.tooDeep, "more than \(Self.depthMax) nested arrays and objects", at: cursor) }

    // MARK: Small values

    /// What a value can be.
    public enum Kind: Sendable, Hashable {
        case null, bool, number, string, array, object

        init?(firstByte: UInt8) {
            switch firstByte {
            case UInt8(ascii: "n"): self = .null
            case UInt8(ascii: "t"), UInt8(ascii: "f"): self = .bool
            case UInt8(ascii: "-"), UInt8(ascii: "0")...UInt8(ascii: "9"): self = .number
            case UInt8(ascii: "\""): self = .string
            case UInt8(ascii: "["): self = .array
            case UInt8(ascii: "{"): self = .object
            default: return nil
            }
        }
    }

    /// What the value at the cursor is, by its first byte; nil where none can begin with that. Reading it may still fail.
    public var nextKind: Kind? { Kind(firstByte: next) }

    @inlinable
    public mutating func readBool() throws(JSONFailure) -> Bool {
        let word = word(at: cursor)
        if UInt32(truncatingIfNeeded: word) == 0x6575_7274 {
            cursor += 4
            return true
        }
        if word & 0xFF_FFFF_FFFF == 0x65_736C_6166 {
            cursor += 5
            return false
        }
        throw unexpected("true or false", at: cursor)
    }

    /// Reads `null` if it is there, and says so; anything else stays.
    @inlinable @inline(__always)
    public mutating func readNull() -> Bool {
        guard next == UInt8(ascii: "n"), UInt32(truncatingIfNeeded: word(at: cursor)) == 0x6C6C_756E else { return false }
        cursor += 4
        return true
    }
}
