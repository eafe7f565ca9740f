/// The 64-bit hash of keys, uids and schemas.
///
/// A multiply-and-fold hash in the manner of wyhash: 16 bytes a step, each folded by a 64x64→128 bit multiplication.
/// - Important: Key groups, and so savepoints, depend on every bit of it: `KeyHashTests` pins a table.
public enum KeyHash {

    @inlinable @inline(__always)
    static func fold(_ a: UInt64, _ b: UInt64) -> UInt64 {
        let product = a.multipliedFullWidth(by: b)
        return product.high ^ product.low
    }

    /// Hashes any bytes. O(count), without allocating.
    @inlinable
    public static func hash(_ bytes: UnsafeRawBufferPointer, seed: UInt64 = 0) -> UInt64 {
        let count = bytes.count
        guard let base = bytes.baseAddress, count > 0 else { return fold(seed ^ 0xA076_1D64_78BD_642F, 0xE703_7ED1_A0B4_28DB) }
        var state = seed ^ 0xA076_1D64_78BD_642F
        var a: UInt64
        var b: UInt64
        if count <= 16 {
            if count >= 8 {
                a = base.loadUnaligned(as: UInt64.self)
                b = base.loadUnaligned(fromByteOffset: count - 8, as: UInt64.self)
            } else if count >= 4 {
                a = UInt64(base.loadUnaligned(as: UInt32.self))
                b = UInt64(base.loadUnaligned(fromByteOffset: count - 4, as: UInt32.self))
            } else {
                a = UInt64(base.load(as: UInt8.self)) << 16
                a |= UInt64(base.load(fromByteOffset: count >> 1, as: UInt8.self)) << 8
                a |= UInt64(base.load(fromByteOffset: count - 1, as: UInt8.self))
                b = 0
            }
        } else {
            var offset = 0
            while count - offset > 16 {
                state = fold(
                    base.loadUnaligned(fromByteOffset: offset, as: UInt64.self) ^ 0xE703_7ED1_A0B4_28DB,
                    base.loadUnaligned(fromByteOffset: offset + 8, as: UInt64.self) ^ state)
                offset += 16
            }
            a = base.loadUnaligned(fromByteOffset: count - 16, as: UInt64.self)
            b = base.loadUnaligned(fromByteOffset: count - 8, as: UInt64.self)
        }
        return fold(0x8EBC_6AF0_9C88_C6E3 ^ UInt64(truncatingIfNeeded: count), fold(a ^ 0xE703_7ED1_A0B4_28DB, b ^ state))
    }

    /// Hashes eight little-endian bytes: equal to hashing them as a buffer with seed 0.
    @inlinable @inline(__always)
    public static func hash(_ value: UInt64) -> UInt64 {
        let little = value.littleEndian
        return fold(0x8EBC_6AF0_9C88_C6E3 ^ 8, fold(little ^ 0xE703_7ED1_A0B4_28DB, little ^ 0xA076_1D64_78BD_642F))
    }

    /// Hashes the UTF-8 bytes of a string.
    @inlinable
    public static func hash(_ text: String) -> UInt64 {
        var text = text
        return text.withUTF8 { hash(UnsafeRawBufferPointer($0)) }
    }
}
