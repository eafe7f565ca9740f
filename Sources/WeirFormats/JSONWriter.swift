public import WeirBase

/// Writes JSON (RFC 8259) without whitespace, into a ``ByteWriter``.
///
/// It writes what it is told to, in that order: commas, colons and brackets are the caller's, by ``writeLiteral(_:)``.
public struct JSONWriter {
    /// Where it writes.
    public var bytes: ByteWriter

    /// Goes on behind what `bytes` holds.
    @inlinable
    public init(_ bytes: ByteWriter = ByteWriter()) { self.bytes = bytes }

    /// Writes the bytes as they are.
    @inlinable @inline(__always)
    public mutating func writeLiteral(_ literal: StaticString) {
        let count = literal.utf8CodeUnitCount
        bytes.reserve(count).copyMemory(from: literal.utf8Start, byteCount: count)
    }

    @inlinable
    public mutating func writeNull() { writeLiteral("null") }

    @inlinable
    public mutating func writeBool(_ value: Bool) {
        if value { writeLiteral("true") } else { writeLiteral("false") }
    }

    // MARK: Strings

    @inlinable
    public mutating func writeString(_ text: String) {
        var text = text
        text.withUTF8 { utf8 in writeQuoted(UnsafeRawBufferPointer(utf8)) }
    }

    @usableFromInline
    mutating func writeQuoted(_ utf8: UnsafeRawBufferPointer) {
        let plain = Self.plainCount(utf8)
        let out = bytes.reserve(plain + 2)
        out.storeBytes(of: UInt8(ascii: "\""), as: UInt8.self)
        if plain > 0, let base = utf8.baseAddress { (out + 1).copyMemory(from: base, byteCount: plain) }
        out.storeBytes(of: UInt8(ascii: "\""), toByteOffset: plain + 1, as: UInt8.self)
        guard plain < utf8.count else { return }
        bytes.truncate(to: bytes.count - 1)
        for byte in utf8[plain...] { writeEscaped(byte) }
        bytes.writeU8(UInt8(ascii: "\""))
    }

    /// The bytes in front of the first that needs an escape.
    private static func plainCount(_ utf8: UnsafeRawBufferPointer) -> Int {
        var index = 0
        while index + 8 <= utf8.count {
            let word = UInt64(littleEndian: utf8.loadUnaligned(fromByteOffset: index, as: UInt64.self))
            // Bytes beyond ASCII need none, but take the slow turn.
            let stops = JSONReader.stringStops(word)
            if stops != 0 {
                index += stops.trailingZeroBitCount / 8
                if utf8[index] < 0x80 { return index }
                index += 1
                continue
            }
            index += 8
        }
        while index < utf8.count, utf8[index] >= 0x20, utf8[index] != UInt8(ascii: "\""), utf8[index] != UInt8(ascii: "\\") { index += 1 }
        return index
    }

    private mutating func writeEscaped(_ byte: UInt8) {
        switch byte {
        case UInt8(ascii: "\""): writeLiteral("\\\"")
        case UInt8(ascii: "\\"): writeLiteral("\\\\")
        case 0x0A: writeLiteral("\\n")
        case 0x0D: writeLiteral("\\r")
        case 0x09: writeLiteral("\\t")
        case ..<0x20:
            writeLiteral("\\u00")
            bytes.writeU8(byte >> 4 + UInt8(ascii: "0"))
            bytes.writeU8(byte & 15 < 10 ? byte & 15 + UInt8(ascii: "0") : byte & 15 - 10 + UInt8(ascii: "a"))
        default: bytes.writeU8(byte)
        }
    }

    // MARK: Numbers

    @inlinable @inline(__always)
    public mutating func writeInteger(_ value: Int64) { writeMagnitude(value.magnitude, isNegative: value < 0) }

    @inlinable @inline(__always)
    public mutating func writeInteger(_ value: UInt64) { writeMagnitude(value, isNegative: false) }

    @usableFromInline
    mutating func writeMagnitude(_ value: UInt64, isNegative: Bool) {
        let count = Self.digitCount(value)
        var out = bytes.reserve(count + (isNegative ? 1 : 0))
        if isNegative {
            out.storeBytes(of: UInt8(ascii: "-"), as: UInt8.self)
            out += 1
        }
        Self.storeDigits(value, count: count, to: out)
    }

    private static func digitCount(_ value: UInt64) -> Int {
        var count = 1
        var rest = value
        while rest >= 10_000 {
            rest /= 10_000
            count += 4
        }
        return rest >= 1000 ? count + 3 : rest >= 100 ? count + 2 : rest >= 10 ? count + 1 : count
    }

    private static func storeDigits(_ value: UInt64, count: Int, to out: UnsafeMutableRawPointer) {
        var rest = value
        for index in stride(from: count - 1, through: 0, by: -1) {
            let (quotient, digit) = rest.quotientAndRemainder(dividingBy: 10)
            out.storeBytes(of: 0x30 + UInt8(truncatingIfNeeded: digit), toByteOffset: index, as: UInt8.self)
            rest = quotient
        }
    }

    /// Writes a value of few digits, as measurements are; false: it has more, and nothing was written.
    @usableFromInline
    mutating func writeFewDecimals(_ value: Double) -> Bool {
        let magnitude = value.magnitude
        // Up to 15 digits are one decimal each: if these read back as the value, they are the shortest, trailing zeros aside.
        guard magnitude < 1e9 else { return false }
        let scaled = UInt64(magnitude * 1e6 + 0.5)
        guard Double(scaled) / 1e6 == magnitude else { return false }
        let (whole, decimals) = scaled.quotientAndRemainder(dividingBy: 1_000_000)
        writeMagnitude(whole, isNegative: value.sign == .minus)
        var rest = decimals
        var count = 6
        while count > 1, rest % 10 == 0 {
            rest /= 10
            count -= 1
        }
        let out = bytes.reserve(count + 1)
        out.storeBytes(of: UInt8(ascii: "."), as: UInt8.self)
        Self.storeDigits(rest, count: count, to: out + 1)
        return true
    }

    /// Writes the shortest decimal that reads back as the same value; what is not finite, which JSON cannot write, as `null`.
    @inlinable
    public mutating func writeDouble(_ value: Double) {
        if !writeFewDecimals(value) { writeDescription(value.isFinite ? value.description : "null") }
    }

    /// The same for a `Float`.
    @inlinable
    public mutating func writeFloat(_ value: Float) { writeDescription(value.isFinite ? value.description : "null") }

    @usableFromInline
    mutating func writeDescription(_ text: String) {
        var text = text
        text.withUTF8 { bytes.writeBytes(UnsafeRawBufferPointer($0)) }
    }
}
