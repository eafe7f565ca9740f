internal import WeirBase
internal import WeirKafkaWire

/// Decompresses Snappy, as clients of Kafka write it: one block (librdkafka), or the framing of snappy-java (Java's client).
///
/// A block:
///
///     | decompressed bytes: varint | element … |
///     literal  | tag: u8, low bits 00 | 0…4 bytes of length | bytes |
///     copy     | tag: u8, low bits 01, 10, 11 | 1, 2 or 4 bytes of offset, counted back |
///
/// The framing of snappy-java:
///
///     | 82 "SNAPPY" 00 | version: u32 | compatible version: u32 | ( | bytes: u32, big-endian | block | ) … |
enum Snappy {
    private static let javaMagic: [UInt8] = [0x82] + Array("SNAPPY".utf8) + [0]

    /// - Throws: `DecodingFailure` for damaged bytes, and where more than `bytesMax` would come out.
    static func decompress(_ bytes: UnsafeRawBufferPointer, bytesMax: Int) throws(DecodingFailure) -> [UInt8] {
        var out: [UInt8] = []
        guard bytes.starts(with: javaMagic) else {
            try block(bytes, into: &out, bytesMax: bytesMax)
            return out
        }
        var position = javaMagic.count + 8
        while position < bytes.count {
            guard bytes.count - position >= 4 else { throw DecodingFailure("snappy: a chunk is cut short", offset: position) }
            let count = Int(UInt32(bigEndian: bytes.loadUnaligned(fromByteOffset: position, as: UInt32.self)))
            position += 4
            guard count <= bytes.count - position else { throw DecodingFailure("snappy: a chunk of \(count) bytes", offset: position) }
            try block(UnsafeRawBufferPointer(rebasing: bytes[position..<(position + count)]), into: &out, bytesMax: bytesMax)
            position += count
        }
        return out
    }

    private static func block(_ bytes: UnsafeRawBufferPointer, into out: inout [UInt8], bytesMax: Int) throws(DecodingFailure) {
        var position = 0
        let length = try length(bytes, &position)
        guard length <= bytesMax - out.count else { throw DecodingFailure("snappy: more than \(bytesMax) bytes", offset: 0) }
        let start = out.count
        let end = start + length
        out.reserveCapacity(end)
        while position < bytes.count {
            let tag = bytes[position]
            position += 1
            if tag & 3 == 0 {
                var count = Int(tag >> 2) + 1
                if count > 60 { count = try little(bytes, &position, count - 60) + 1 }
                guard count <= bytes.count - position, count <= end - out.count else {
                    throw DecodingFailure("snappy: a literal of \(count) bytes", offset: position)
                }
                out.append(contentsOf: bytes[position..<(position + count)])
                position += count
                continue
            }
            var count = Int(tag >> 2) + 1
            let offset: Int
            switch tag & 3 {
            case 1:
                count = Int(tag >> 2 & 7) + 4
                offset = Int(tag >> 5) << 8 | (try little(bytes, &position, 1))
            case 2: offset = try little(bytes, &position, 2)
            default: offset = try little(bytes, &position, 4)
            }
            guard offset > 0, offset <= out.count - start, count <= end - out.count else {
                throw DecodingFailure("snappy: a copy of \(count) bytes from \(offset) bytes back", offset: position)
            }
            // Byte by byte: the copy may reach into itself.
            for _ in 0..<count { out.append(out[out.count - offset]) }
        }
        guard out.count == end else { throw DecodingFailure("snappy: \(out.count - start) bytes, \(length) expected", offset: position) }
    }

    /// The varint at a block's beginning, at most 32 bits.
    private static func length(_ bytes: UnsafeRawBufferPointer, _ position: inout Int) throws(DecodingFailure) -> Int {
        var value = 0
        for shift in stride(from: 0, to: 35, by: 7) {
            guard position < bytes.count else { break }
            let byte = bytes[position]
            position += 1
            value |= Int(byte & 0x7F) << shift
            if byte < 0x80 { return value }
        }
        throw DecodingFailure("snappy: no length", offset: position)
    }

    private static func little(_ bytes: UnsafeRawBufferPointer, _ position: inout Int, _ count: Int) throws(DecodingFailure) -> Int {
        guard count <= bytes.count - position else { throw DecodingFailure("snappy: cut short", offset: position) }
        var value = 0
        for index in 0..<count { value |= Int(bytes[position + index]) << (8 * index) }
        position += count
        return value
    }
}
