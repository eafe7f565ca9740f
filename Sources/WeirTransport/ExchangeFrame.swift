import WeirBase

/// What a frame of a data connection is; see proto-docs/data-channel.md.
enum ExchangeKind: UInt8 {
    /// First frame of the sender of a connection.
    case hello = 1
    /// First frame of the receiver.
    case helloReply = 2
    /// Sender to receiver: bytes of one channel.
    case data = 3
    /// Receiver to sender: the `sequence` field has the units that the channel may send in addition.
    case credit = 4
    /// The epoch ends on this side by intent: the end of the stream behind it is no failure.
    case goodbye = 5
    /// Sender to receiver: bytes of one channel past its data, without credits; the last one counts.
    case announcement = 6
}

/// Why bytes on a data connection are not what they must be. The connection is closed.
struct ExchangeViolation: Error, Equatable {
    var message: String
}

/// The 16 bytes before each payload of a data connection; all integers are big-endian.
///
///     | payload bytes: u32 | channel: u32 | sequence: u32 | kind: u8 | version: u8 | 0: u16 |
struct ExchangeHeader: Equatable {
    static let byteCount = 16
    static let version: UInt8 = 1

    var payloadBytes: Int
    var channel: UInt32
    var sequence: UInt32
    var kind: ExchangeKind

    /// - Precondition: `bytes` has at least 16.
    init(parsing bytes: UnsafeRawBufferPointer, payloadBytesMax: Int) throws(ExchangeViolation) {
        precondition(bytes.count >= Self.byteCount, "an exchange header needs 16 bytes")
        func load(_ offset: Int) -> UInt32 {
            UInt32(bigEndian: bytes.loadUnaligned(fromByteOffset: offset, as: UInt32.self))
        }
        guard bytes[13] == Self.version else { throw ExchangeViolation(message: "unknown frame version \(bytes[13])") }
        guard let kind = ExchangeKind(rawValue: bytes[12]) else { throw ExchangeViolation(message: "unknown frame kind \(bytes[12])") }
        guard bytes[14] == 0, bytes[15] == 0 else { throw ExchangeViolation(message: "reserved bytes are set") }
        payloadBytes = Int(load(0))
        guard payloadBytes <= payloadBytesMax else {
            throw ExchangeViolation(message: "payload of \(payloadBytes) bytes, the limit is \(payloadBytesMax)")
        }
        channel = load(4)
        sequence = load(8)
        self.kind = kind
    }

    init(payloadBytes: Int, channel: UInt32, sequence: UInt32, kind: ExchangeKind) {
        self.payloadBytes = payloadBytes
        self.channel = channel
        self.sequence = sequence
        self.kind = kind
    }

    @inline(__always)
    func store(to bytes: UnsafeMutableRawPointer) {
        bytes.storeBytes(of: UInt32(truncatingIfNeeded: payloadBytes).bigEndian, as: UInt32.self)
        bytes.storeBytes(of: channel.bigEndian, toByteOffset: 4, as: UInt32.self)
        bytes.storeBytes(of: sequence.bigEndian, toByteOffset: 8, as: UInt32.self)
        bytes.storeBytes(of: UInt32(kind.rawValue) | UInt32(Self.version) << 8, toByteOffset: 12, as: UInt32.self)
    }

    /// Appends the header and a payload.
    func append(_ payload: [UInt8] = [], to bytes: inout [UInt8]) {
        withUnsafeTemporaryAllocation(byteCount: Self.byteCount, alignment: 16) { room in
            guard let base = room.baseAddress else { return }
            store(to: base)
            bytes.append(contentsOf: room)
        }
        bytes.append(contentsOf: payload)
    }
}

/// What the sender of a connection says first.
///
///     | magic: u32 | version min: u8 | version max: u8 | 0: u16 | job: 2 x u64 | epoch: u32 | sender: u32 | receiver: u32 |
///     | token bytes: u16 | token |
struct ExchangeHello: Equatable {
    /// "WEID".
    static let magic: UInt32 = 0x5745_4944
    /// What a hello takes at most: all that an unknown peer can make this side hold.
    static let byteCountMax = 38 + 1_024

    var versions: ClosedRange<UInt8> = ExchangeHeader.version...ExchangeHeader.version
    var job: JobID
    var epoch: Epoch
    /// Worker indices of the epoch.
    var sender: UInt32
    var receiver: UInt32
    var token: String

    func encoded() -> [UInt8] {
        var bytes: [UInt8] = []
        func store<T: FixedWidthInteger>(_ value: T) { withUnsafeBytes(of: value.bigEndian) { bytes.append(contentsOf: $0) } }
        store(Self.magic)
        store(versions.lowerBound)
        store(versions.upperBound)
        store(UInt16(0))
        store(job.high)
        store(job.low)
        store(epoch.rawValue)
        store(sender)
        store(receiver)
        let token = Array(token.utf8.prefix(1_024))
        store(UInt16(token.count))
        bytes += token
        return bytes
    }

    init(job: JobID, epoch: Epoch, sender: UInt32, receiver: UInt32, token: String) {
        self.job = job
        self.epoch = epoch
        self.sender = sender
        self.receiver = receiver
        self.token = token
    }

    init(parsing payload: [UInt8]) throws(ExchangeViolation) {
        guard payload.count >= 38 else { throw ExchangeViolation(message: "the hello is too short") }
        func load<T: FixedWidthInteger>(_ offset: Int, as type: T.Type) -> T {
            payload.withUnsafeBytes { T(bigEndian: $0.loadUnaligned(fromByteOffset: offset, as: T.self)) }
        }
        guard load(0, as: UInt32.self) == Self.magic else { throw ExchangeViolation(message: "the hello's magic number is wrong") }
        guard payload[4] <= payload[5] else { throw ExchangeViolation(message: "the hello's version range is empty") }
        let tokenBytes = Int(load(36, as: UInt16.self))
        guard payload.count == 38 + tokenBytes else { throw ExchangeViolation(message: "the hello's token is cut off") }
        versions = payload[4]...payload[5]
        job = JobID(high: load(8, as: UInt64.self), low: load(16, as: UInt64.self))
        epoch = Epoch(load(24, as: UInt32.self))
        sender = load(28, as: UInt32.self)
        receiver = load(32, as: UInt32.self)
        token = String(decoding: payload[38...], as: UTF8.self)
    }
}

/// The receiver's verdict on a hello.
///
///     | code: u8 | version: u8 | message bytes: u16 | message |
struct ExchangeHelloReply: Equatable {
    enum Code: UInt8 {
        case accepted = 0
        case incompatible = 1
        case otherJob = 2
        case staleEpoch = 3
        case unknownWorker = 4
        case duplicate = 5
        case unauthenticated = 6
        case overloaded = 7
    }

    static let byteCountMax = 4 + 1_024

    var code: Code
    var message: String

    init(_ code: Code, _ message: String = "") {
        self.code = code
        self.message = message
    }

    func encoded() -> [UInt8] {
        let text = Array(message.utf8.prefix(1_024))
        return [code.rawValue, ExchangeHeader.version, UInt8(text.count >> 8), UInt8(text.count & 0xFF)] + text
    }

    init(parsing payload: [UInt8]) throws(ExchangeViolation) {
        guard payload.count >= 4, payload.count == 4 + (Int(payload[2]) << 8 | Int(payload[3])) else {
            throw ExchangeViolation(message: "the reply to the hello is cut off")
        }
        guard let code = Code(rawValue: payload[0]) else { throw ExchangeViolation(message: "unknown verdict \(payload[0])") }
        self.init(code, String(decoding: payload[4...], as: UTF8.self))
    }
}
