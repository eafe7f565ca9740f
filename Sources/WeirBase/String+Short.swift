extension String {
    /// A string of at most 15 ASCII bytes, made without a call.
    ///
    /// Swift keeps such strings in their own 16 bytes: the text from the lowest byte on, zeros, and in the top byte 0xE0 and the count (the
    /// standard library's `StringObject`, fixed for a compiler release). Its own initialisers find out first whether the text is one, which
    /// takes ten times as long. `ShortStringTests` compares all lengths with what those make.
    ///
    /// - Parameters:
    ///   - head: The first eight bytes, the first one lowest; zeros behind the end.
    ///   - tail: The others, in the same way; less than 2^56.
    ///   - count: In `0...15`.
    @inlinable @inline(__always)
    public init(shortASCII head: UInt64, _ tail: UInt64, count: Int) {
        #if _endian(little) && (arch(x86_64) || arch(arm64))
            var words = (head, tail | (0xE0 | UInt64(truncatingIfNeeded: count)) &<< 56)
            // Moved out of the words: the result of unsafeBitCast would be retained, which a short string does not need.
            self = withUnsafeMutablePointer(to: &words) { UnsafeMutableRawPointer($0).assumingMemoryBound(to: String.self).move() }
        #else
            var bytes = (head.littleEndian, tail.littleEndian)
            self = withUnsafeBytes(of: &bytes) { String(decoding: $0.prefix(count), as: UTF8.self) }
        #endif
    }

    /// The text of UTF-8 bytes; nil if they are none.
    @inlinable
    init?(validUTF8 bytes: UnsafeRawBufferPointer) {
        let count = bytes.count
        if count <= 15, let base = bytes.baseAddress {
            var head: UInt64 = 0
            var tail: UInt64 = 0
            if count >= 8 {
                head = UInt64(littleEndian: base.loadUnaligned(as: UInt64.self))
                tail = UInt64(littleEndian: base.loadUnaligned(fromByteOffset: count &- 8, as: UInt64.self)) &>> 8
                tail = tail &>> UInt64(truncatingIfNeeded: 8 &* (15 &- count))
            } else {
                var index = count
                while index > 0 {
                    index &-= 1
                    head = head &<< 8 | UInt64(base.load(fromByteOffset: index, as: UInt8.self))
                }
            }
            if (head | tail) & 0x8080_8080_8080_8080 == 0 {
                self.init(shortASCII: head, tail, count: count)
                return
            }
        }
        guard let text = String(validating: bytes, as: UTF8.self) else { return nil }
        self = text
    }
}
