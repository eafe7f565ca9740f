/// Bytes that are not what they should be: what was expected, and where.
public struct DecodingFailure: Error, Sendable, Equatable, CustomStringConvertible {
    public var message: String
    /// Bytes from the start of what was read.
    public var offset: Int
    public init(_ message: String, offset: Int) {
        self.message = message
        self.offset = offset
    }
    public var description: String { "\(message) at byte \(offset)" }
}

/// Reads what a ``ByteWriter`` wrote. Every read is checked against the end and throws past it; none traps.
///
/// - Important: It borrows the memory: do not let it outlive the buffer it was made from.
public struct ByteReader {
    @usableFromInline let bytes: UnsafeRawBufferPointer
    /// Bytes read so far.
    public var position: Int {
        @inlinable get { _position }
    }
    @usableFromInline var _position = 0

    @inlinable
    public init(_ bytes: UnsafeRawBufferPointer) { self.bytes = bytes }

    @inlinable
    public var remaining: Int { bytes.count &- _position }

    @usableFromInline @inline(never)
    func endFailure(_ needed: Int) -> DecodingFailure {
        DecodingFailure("\(needed) more bytes expected, \(remaining) left", offset: _position)
    }

    /// Lends the next `count` bytes and moves past them.
    @inlinable @inline(__always)
    public mutating func readBytes(_ count: Int) throws(DecodingFailure) -> UnsafeRawBufferPointer {
        guard count >= 0, count <= remaining else { throw endFailure(count) }
        let start = _position
        _position = start &+ count
        return UnsafeRawBufferPointer(rebasing: bytes[start..<(start &+ count)])
    }

    @inlinable @inline(__always)
    mutating func load<T: FixedWidthInteger & BitwiseCopyable>(_ type: T.Type) throws(DecodingFailure) -> T {
        let size = MemoryLayout<T>.size
        guard size <= remaining else { throw endFailure(size) }
        let value = bytes.loadUnaligned(fromByteOffset: _position, as: T.self)
        _position &+= size
        return T(littleEndian: value)
    }

    @inlinable @inline(__always)
    public mutating func readU8() throws(DecodingFailure) -> UInt8 { try load(UInt8.self) }
    @inlinable @inline(__always)
    public mutating func readU16() throws(DecodingFailure) -> UInt16 { try load(UInt16.self) }
    @inlinable @inline(__always)
    public mutating func readU32() throws(DecodingFailure) -> UInt32 { try load(UInt32.self) }
    @inlinable @inline(__always)
    public mutating func readU64() throws(DecodingFailure) -> UInt64 { try load(UInt64.self) }
    @inlinable @inline(__always)
    public mutating func readI32() throws(DecodingFailure) -> Int32 { try load(Int32.self) }
    @inlinable @inline(__always)
    public mutating func readI64() throws(DecodingFailure) -> Int64 { try load(Int64.self) }
    @inlinable @inline(__always)
    public mutating func readDouble() throws(DecodingFailure) -> Double { Double(bitPattern: try load(UInt64.self)) }
    @inlinable @inline(__always)
    public mutating func readFloat() throws(DecodingFailure) -> Float { Float(bitPattern: try load(UInt32.self)) }

    /// LEB128, at most 10 bytes and 64 bits.
    @inlinable
    public mutating func readVarint() throws(DecodingFailure) -> UInt64 {
        var value: UInt64 = 0
        var shift: UInt64 = 0
        while true {
            let byte = try readU8()
            if shift == 63, byte > 1 { throw DecodingFailure("a varint of more than 64 bits", offset: _position) }
            value |= UInt64(byte & 0x7F) << shift
            if byte < 0x80 { return value }
            shift &+= 7
            if shift > 63 { throw DecodingFailure("a varint of more than 10 bytes", offset: _position) }
        }
    }

    /// A varint that counts things of at least `minimumBytes` bytes each, so that no damaged length asks for more than is there.
    @inlinable
    public mutating func readCount(ofAtLeast minimumBytes: Int = 1) throws(DecodingFailure) -> Int {
        let start = _position
        let value = try readVarint()
        guard value <= UInt64(remaining) / UInt64(Swift.max(minimumBytes, 1)) else {
            throw DecodingFailure("a count of \(value) in \(remaining) remaining bytes", offset: start)
        }
        return Int(value)
    }

    /// What ``ByteWriter/writeString(_:)`` wrote; invalid UTF-8 throws.
    @inlinable
    public mutating func readString() throws(DecodingFailure) -> String {
        let start = _position
        let utf8 = try readBytes(try readCount())
        guard let text = String(validUTF8: utf8) else { throw DecodingFailure("invalid UTF-8", offset: start) }
        return text
    }

    /// Throws unless everything was read.
    @inlinable
    public func expectEnd() throws(DecodingFailure) {
        guard remaining == 0 else { throw DecodingFailure("\(remaining) bytes left over", offset: _position) }
    }
}
