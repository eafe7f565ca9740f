package import WeirBase

/// Bounds on one message, so that no bytes from outside make the broker allocate much more than they are.
package enum MessageLimits {
    /// Elements of all arrays of a message together.
    package static let elementsMax = 1_000_000
    /// Tagged fields of one structure, known or not.
    package static let tagsMax = 64
}

/// Reads Kafka's primitive types, big-endian. Every length and count is checked against the bytes that are left; nothing traps.
package struct MessageReader {
    private let bytes: KafkaBytes
    /// Bytes read so far.
    package private(set) var position = 0
    private var elementsLeft = MessageLimits.elementsMax

    package init(_ bytes: KafkaBytes) { self.bytes = bytes }

    package var remaining: Int { bytes.count - position }

    private mutating func advance(_ count: Int) throws(DecodingFailure) -> Int {
        guard count >= 0, count <= remaining else {
            throw DecodingFailure("\(count) more bytes expected, \(remaining) left", offset: position)
        }
        defer { position += count }
        return position
    }

    package mutating func integer<T: FixedWidthInteger & BitwiseCopyable>(_ type: T.Type = T.self) throws(DecodingFailure) -> T {
        bytes.load(type, at: try advance(MemoryLayout<T>.size))
    }

    /// The next `count` bytes; they share the memory of the message.
    package mutating func take(_ count: Int) throws(DecodingFailure) -> KafkaBytes {
        bytes.slice(from: try advance(count), count: count)
    }

    /// LEB128 of at most 32 bits and 5 bytes.
    package mutating func unsignedVarint() throws(DecodingFailure) -> UInt32 {
        var value: UInt32 = 0
        for shift in stride(from: UInt32(0), to: 35, by: 7) {
            let byte: UInt8 = try integer()
            guard shift < 28 || byte < 0x10 else { break }
            value |= UInt32(byte & 0x7F) << shift
            if byte < 0x80 { return value }
        }
        throw DecodingFailure("a varint of more than 32 bits", offset: position)
    }

    /// A zigzag LEB128 of at most 64 bits, as records have it.
    package mutating func varint() throws(DecodingFailure) -> Int64 {
        var value: UInt64 = 0
        for shift in stride(from: UInt64(0), to: 70, by: 7) {
            let byte: UInt8 = try integer()
            guard shift < 63 || byte < 2 else { break }
            value |= UInt64(byte & 0x7F) << shift
            if byte < 0x80 { return Int64(bitPattern: value >> 1) ^ -Int64(bitPattern: value & 1) }
        }
        throw DecodingFailure("a varint of more than 64 bits", offset: position)
    }

    /// The length of bytes, or nil for null. Compact lengths are written plus one.
    private mutating func length(compact: Bool, classicBytes: Int) throws(DecodingFailure) -> Int? {
        if compact {
            let value = try unsignedVarint()
            return value == 0 ? nil : Int(value - 1)
        }
        let value = classicBytes == 2 ? Int(try integer(Int16.self)) : Int(try integer(Int32.self))
        guard value >= -1 else { throw DecodingFailure("a length of \(value)", offset: position) }
        return value == -1 ? nil : value
    }

    package mutating func string(compact: Bool) throws(DecodingFailure) -> String? {
        guard let length = try length(compact: compact, classicBytes: 2) else { return nil }
        guard length <= Int(Int16.max) else { throw DecodingFailure("a string of \(length) bytes", offset: position) }
        let start = position
        let text = try take(length).withUnsafeBytes { String(validating: $0, as: UTF8.self) }
        guard let text else { throw DecodingFailure("invalid UTF-8", offset: start) }
        return text
    }

    package mutating func byteString(compact: Bool) throws(DecodingFailure) -> KafkaBytes? {
        guard let length = try length(compact: compact, classicBytes: 4) else { return nil }
        return try take(length)
    }

    /// The number of elements of an array, or nil for null. Each takes at least one byte.
    mutating func arrayCount(compact: Bool) throws(DecodingFailure) -> Int? {
        let start = position
        guard let count = try length(compact: compact, classicBytes: 4) else { return nil }
        guard count <= remaining else { throw DecodingFailure("an array of \(count) elements in \(remaining) remaining bytes", offset: start) }
        guard count <= elementsLeft else {
            throw DecodingFailure("more than \(MessageLimits.elementsMax) elements in one message", offset: start)
        }
        elementsLeft -= count
        return count
    }

    /// Hands over each tagged field, as bytes of their own; the tags rise.
    mutating func taggedFields(_ body: (UInt32, inout MessageReader) throws(DecodingFailure) -> Void) throws(DecodingFailure) {
        let count = try unsignedVarint()
        guard count <= MessageLimits.tagsMax else { throw DecodingFailure("\(count) tagged fields", offset: position) }
        var previous: UInt32?
        for _ in 0..<count {
            let tag = try unsignedVarint()
            if let previous, tag <= previous { throw DecodingFailure("tag \(tag) after tag \(previous)", offset: position) }
            previous = tag
            var inner = MessageReader(try take(Int(try unsignedVarint())))
            inner.elementsLeft = elementsLeft
            try body(tag, &inner)
            elementsLeft = inner.elementsLeft
        }
    }

    /// Skips tagged fields that nobody knows.
    mutating func skipTaggedFields() throws(DecodingFailure) {
        try taggedFields { (_, _) throws(DecodingFailure) in }
    }

    package func expectEnd() throws(DecodingFailure) {
        guard remaining == 0 else { throw DecodingFailure("\(remaining) bytes left over", offset: position) }
    }
}
