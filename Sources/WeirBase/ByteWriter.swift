/// A growing buffer of bytes, little-endian, in raw memory.
///
/// One owner writes it: passing it on by `inout` costs nothing, a copy shares the storage (and so must not be written).
public struct ByteWriter {
    @usableFromInline
    final class Storage {
        // One owner: checking each access for another one costs two calls a write.
        @exclusivity(unchecked) @usableFromInline var base: UnsafeMutableRawPointer
        @exclusivity(unchecked) @usableFromInline var capacity: Int
        @usableFromInline
        init(capacity: Int) {
            self.capacity = Swift.max(capacity, 64)
            base = .allocate(byteCount: self.capacity, alignment: 16)
        }
        deinit { base.deallocate() }

        @usableFromInline @inline(never)
        func grow(to needed: Int, keeping count: Int) {
            let wanted = Swift.max(needed, capacity * 2)
            let larger = UnsafeMutableRawPointer.allocate(byteCount: wanted, alignment: 16)
            larger.copyMemory(from: base, byteCount: count)
            base.deallocate()
            base = larger
            capacity = wanted
        }
    }

    @usableFromInline let storage: Storage
    /// Bytes written so far.
    @inlinable
    public var count: Int { _count }
    @usableFromInline var _count = 0

    /// - Parameter capacity: Bytes to reserve; the buffer grows past it by doubling.
    @inlinable
    public init(capacity: Int = 256) { storage = Storage(capacity: capacity) }

    /// Makes room for `bytes` more and returns where they go; the caller fills all of them.
    @inlinable @inline(__always)
    public mutating func reserve(_ bytes: Int) -> UnsafeMutableRawPointer {
        let end = _count &+ bytes
        if end > storage.capacity { storage.grow(to: end, keeping: _count) }
        let pointer = storage.base + _count
        _count = end
        return pointer
    }

    @inlinable @inline(__always)
    public mutating func writeU8(_ value: UInt8) { reserve(1).storeBytes(of: value, as: UInt8.self) }
    @inlinable @inline(__always)
    public mutating func writeU16(_ value: UInt16) { reserve(2).storeBytes(of: value.littleEndian, as: UInt16.self) }
    @inlinable @inline(__always)
    public mutating func writeU32(_ value: UInt32) { reserve(4).storeBytes(of: value.littleEndian, as: UInt32.self) }
    @inlinable @inline(__always)
    public mutating func writeU64(_ value: UInt64) { reserve(8).storeBytes(of: value.littleEndian, as: UInt64.self) }
    @inlinable @inline(__always)
    public mutating func writeI32(_ value: Int32) { writeU32(UInt32(bitPattern: value)) }
    @inlinable @inline(__always)
    public mutating func writeI64(_ value: Int64) { writeU64(UInt64(bitPattern: value)) }
    @inlinable @inline(__always)
    public mutating func writeDouble(_ value: Double) { writeU64(value.bitPattern) }
    @inlinable @inline(__always)
    public mutating func writeFloat(_ value: Float) { writeU32(value.bitPattern) }

    /// LEB128: seven bits a byte, the lowest first; 1 to 10 bytes.
    @inlinable
    public mutating func writeVarint(_ value: UInt64) {
        var rest = value
        while rest >= 0x80 {
            writeU8(UInt8(truncatingIfNeeded: rest) | 0x80)
            rest >>= 7
        }
        writeU8(UInt8(truncatingIfNeeded: rest))
    }

    @inlinable
    public mutating func writeBytes(_ bytes: UnsafeRawBufferPointer) {
        guard let base = bytes.baseAddress, bytes.count > 0 else { return }
        reserve(bytes.count).copyMemory(from: base, byteCount: bytes.count)
    }

    @inlinable
    public mutating func writeBytes(_ bytes: [UInt8]) { bytes.withUnsafeBytes { writeBytes($0) } }

    /// A varint of the length in UTF-8 bytes, then the bytes.
    @inlinable
    public mutating func writeString(_ text: String) {
        var text = text
        text.withUTF8 { utf8 in
            writeVarint(UInt64(utf8.count))
            writeBytes(UnsafeRawBufferPointer(utf8))
        }
    }

    /// Overwrites four bytes written before, for lengths known only at the end.
    @inlinable
    public mutating func patchU32(_ value: UInt32, at offset: Int) {
        precondition(offset >= 0 && offset + 4 <= _count, "patch outside of what was written")
        storage.base.storeBytes(of: value.littleEndian, toByteOffset: offset, as: UInt32.self)
    }

    /// Forgets what was written, and keeps the memory.
    @inlinable
    public mutating func removeAll() { _count = 0 }

    /// Forgets what was written after `count` bytes.
    @inlinable
    public mutating func truncate(to count: Int) {
        precondition(count >= 0 && count <= _count, "truncation past the end")
        _count = count
    }

    /// Lends what was written.
    @inlinable
    public func withBytes<Result, Failure: Error>(_ body: (UnsafeRawBufferPointer) throws(Failure) -> Result) throws(Failure) -> Result {
        try body(UnsafeRawBufferPointer(start: storage.base, count: _count))
    }

    /// Copies what was written.
    @inlinable
    public func finish() -> [UInt8] { withBytes { [UInt8]($0) } }
}
