import WeirBase

/// Writes Kafka's primitive types, big-endian, into pieces: long bytes are linked in, not copied.
///
/// One owner writes it; a copy shares the memory (and so must not be written).
package struct MessageWriter {
    /// Bytes from this length on become a piece of their own.
    private static let linkedBytesMin = 1_024

    private var storage: KafkaBytes.Storage
    /// Where the piece being written begins and ends in `storage`.
    private var start = 0
    private var end = 0
    private var pieces: [KafkaBytes] = []
    private var finishedBytes = 0

    /// - Parameter capacity: Bytes to reserve; the buffer grows past it by doubling.
    package init(capacity: Int = 256) { storage = KafkaBytes.Storage(capacity: capacity) }

    /// Bytes written so far.
    package var count: Int { finishedBytes + end - start }

    private mutating func reserve(_ bytes: Int) -> UnsafeMutableRawPointer {
        if end + bytes > storage.capacity {
            // Earlier pieces keep the old memory; only the piece being written moves.
            let larger = KafkaBytes.Storage(capacity: max(storage.capacity * 2, end - start + bytes))
            larger.base.copyMemory(from: storage.base + start, byteCount: end - start)
            storage = larger
            end -= start
            start = 0
        }
        defer { end += bytes }
        return storage.base + end
    }

    package mutating func integer<T: FixedWidthInteger & BitwiseCopyable>(_ value: T) {
        reserve(MemoryLayout<T>.size).storeBytes(of: value.bigEndian, as: T.self)
    }

    package mutating func unsignedVarint(_ value: UInt32) {
        var rest = value
        while rest >= 0x80 {
            integer(UInt8(truncatingIfNeeded: rest) | 0x80)
            rest >>= 7
        }
        integer(UInt8(truncatingIfNeeded: rest))
    }

    /// Zigzag LEB128, as records have it.
    package mutating func varint(_ value: Int64) {
        var rest = UInt64(bitPattern: (value << 1) ^ (value >> 63))
        while rest >= 0x80 {
            integer(UInt8(truncatingIfNeeded: rest) | 0x80)
            rest >>= 7
        }
        integer(UInt8(truncatingIfNeeded: rest))
    }

    package mutating func raw(_ bytes: UnsafeRawBufferPointer) {
        guard let base = bytes.baseAddress, bytes.count > 0 else { return }
        reserve(bytes.count).copyMemory(from: base, byteCount: bytes.count)
    }

    /// Long bytes are not copied: their memory must not change until the message was sent.
    package mutating func raw(_ bytes: KafkaBytes) {
        guard bytes.count >= Self.linkedBytesMin else {
            bytes.withUnsafeBytes { raw($0) }
            return
        }
        finishPiece()
        pieces.append(bytes)
        finishedBytes += bytes.count
    }

    private mutating func finishPiece() {
        guard end > start else { return }
        pieces.append(KafkaBytes(storage: storage, start: start, count: end - start))
        finishedBytes += end - start
        start = end
    }

    /// The length of bytes or an array; nil for null. Compact lengths are written plus one.
    package mutating func length(_ count: Int?, compact: Bool, classicBytes: Int = 4) {
        if compact {
            unsignedVarint(count.map { UInt32($0) + 1 } ?? 0)
        } else if classicBytes == 2 {
            integer(Int16(count ?? -1))
        } else {
            integer(Int32(count ?? -1))
        }
    }

    /// Text past the 32,767 bytes that a string may have is cut at a character's border.
    package mutating func string(_ text: String?, compact: Bool) {
        guard var text else { return length(nil, compact: compact, classicBytes: 2) }
        while text.utf8.count > Int(Int16.max) { text.removeLast() }
        length(text.utf8.count, compact: compact, classicBytes: 2)
        text.withUTF8 { raw(UnsafeRawBufferPointer($0)) }
    }

    package mutating func byteString(_ bytes: KafkaBytes?, compact: Bool) {
        length(bytes?.count, compact: compact)
        if let bytes { raw(bytes) }
    }

    /// What was written, in order. The writer must not be used afterwards.
    package mutating func finish() -> [KafkaBytes] {
        finishPiece()
        return pieces
    }
}
