/// What a frame is: a request wants an answer with its correlation id, a one-way wants none.
///
/// The raw value is the frame's flags byte; every other value of that byte is refused.
package enum FrameType: UInt8, Sendable, CaseIterable {
    case request = 0x01
    case response = 0x02
    /// A response whose payload is an ``WireErrorReply``.
    case errorResponse = 0x06
    case oneWay = 0x08

    package var isResponse: Bool { self == .response || self == .errorResponse }
}

/// Why bytes are not a frame. The stream cannot be read on after any of them.
package enum FrameError: Error, Equatable, Sendable, CustomStringConvertible {
    case unknownVersion(UInt8)
    case unknownFlags(UInt8)
    case payloadTooLarge(bytes: Int, limit: Int)

    package var description: String {
        switch self {
        case .unknownVersion(let version): "unknown frame version \(version), this side speaks \(FrameHeader.version)"
        case .unknownFlags(let flags): "unknown frame flags \(flags)"
        case .payloadTooLarge(let bytes, let limit): "payload of \(bytes) bytes, the limit is \(limit)"
        }
    }
}

/// The 16 bytes before each payload, version 1 of proto-docs/rpc.md; all integers are big-endian.
///
///     | payload bytes: u32 | version: u8 | flags: u8 | kind: u16 | correlation: u64 |
package struct FrameHeader: Equatable, Sendable {
    package static let byteCount = 16
    /// The version of this layout; the protocol's version is agreed on in the handshake.
    package static let version: UInt8 = 1

    package var payloadBytes: Int
    package var type: FrameType
    /// A raw ``WireMessageKind``: one that this side does not know is answered, not a broken frame.
    package var kind: UInt16
    /// Of a response: the request's. 0 in a one-way.
    package var correlation: UInt64

    package init(payloadBytes: Int, type: FrameType, kind: UInt16, correlation: UInt64) {
        self.payloadBytes = payloadBytes
        self.type = type
        self.kind = kind
        self.correlation = correlation
    }

    /// Parses the first 16 of `bytes`.
    ///
    /// - Precondition: There are that many.
    package init(parsing bytes: UnsafeRawBufferPointer, payloadBytesMax: Int) throws(FrameError) {
        precondition(bytes.count >= Self.byteCount, "a frame header needs 16 bytes")
        func load<T: FixedWidthInteger>(_ offset: Int, as type: T.Type) -> T {
            T(bigEndian: bytes.loadUnaligned(fromByteOffset: offset, as: T.self))
        }
        let version = bytes[4]
        guard version == Self.version else { throw .unknownVersion(version) }
        guard let type = FrameType(rawValue: bytes[5]) else { throw .unknownFlags(bytes[5]) }
        let length = Int(load(0, as: UInt32.self))
        guard length <= payloadBytesMax else { throw .payloadTooLarge(bytes: length, limit: payloadBytesMax) }
        self.init(payloadBytes: length, type: type, kind: load(6, as: UInt16.self), correlation: load(8, as: UInt64.self))
    }

    package func append(to bytes: inout [UInt8]) {
        func store<T: FixedWidthInteger>(_ value: T) { withUnsafeBytes(of: value.bigEndian) { bytes.append(contentsOf: $0) } }
        store(UInt32(payloadBytes))
        bytes.append(Self.version)
        bytes.append(type.rawValue)
        store(kind)
        store(correlation)
    }
}

/// One message of the RPC.
package struct Frame: Equatable, Sendable {
    package var type: FrameType
    package var kind: UInt16
    package var correlation: UInt64
    package var payload: [UInt8]

    package init(type: FrameType, kind: UInt16, correlation: UInt64, payload: [UInt8]) {
        self.type = type
        self.kind = kind
        self.correlation = correlation
        self.payload = payload
    }

    package var messageKind: WireMessageKind { WireMessageKind(rawValue: Int(kind)) ?? .unspecified }

    /// The header and the payload in one piece.
    ///
    /// - Precondition: The payload has less than 4 GiB; ``FrameDecoder`` refuses far smaller ones.
    package func encoded() -> [UInt8] {
        var bytes: [UInt8] = []
        bytes.reserveCapacity(FrameHeader.byteCount + payload.count)
        FrameHeader(payloadBytes: payload.count, type: type, kind: kind, correlation: correlation).append(to: &bytes)
        bytes.append(contentsOf: payload)
        return bytes
    }
}

/// Cuts a byte stream into frames, however the stream was split.
///
/// The header's limits are checked as soon as its 16 bytes are there, before any of the payload is waited for. After an error the
/// stream is lost: the caller closes it.
package struct FrameDecoder: Sendable {
    package var payloadBytesMax: Int
    private var header: FrameHeader?

    package init(payloadBytesMax: Int) {
        self.payloadBytesMax = payloadBytesMax
    }

    /// Takes the next whole frame out of `buffer`; nil: more bytes are needed.
    package mutating func next(from buffer: inout FrameBuffer) throws(FrameError) -> Frame? {
        if header == nil {
            guard buffer.count >= FrameHeader.byteCount else { return nil }
            let limit = payloadBytesMax
            let parsed = buffer.withReadable { bytes in
                Result { () throws(FrameError) in try FrameHeader(parsing: bytes, payloadBytesMax: limit) }
            }
            header = try parsed.get()
            buffer.skip(FrameHeader.byteCount)
        }
        guard let header, let payload = buffer.take(header.payloadBytes) else { return nil }
        self.header = nil
        return Frame(type: header.type, kind: header.kind, correlation: header.correlation, payload: payload)
    }
}
