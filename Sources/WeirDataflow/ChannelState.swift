internal import WeirBase

/// Where a channel comes from and leads to, and how its rows become bytes.
struct ChannelOrigin {
    /// The operator whose rows it carries.
    let sender: OperatorID
    /// The receiver's input.
    let input: Int32
    /// The sending subtask, and how many there are.
    let from: Int
    let fromParallelism: Int
    /// The receiving subtask, and how many there are.
    let to: Int
    let toParallelism: Int
    let codec: BatchCodec
}

/// What a channel had in flight when a barrier overtook it: an entry of the list state ``listName`` of the receiving task's first operator.
/// All integers are little-endian:
///
///     | version: u8 = 1 | sender operator id: u64 | input: u32 | from: u32 | from parallelism: u32 | to: u32 | to parallelism: u32 |
///     | frames: varint | frame: varint length, bytes … |
///
/// A frame is one of a data channel between workers, a batch or a watermark: ``ElementFrame``.
struct ChannelState: Equatable {
    /// No operator's own: names of states are identifiers of their authors.
    static let listName = "weir.channel-state"
    private static let version: UInt8 = 1

    var sender: OperatorID
    var input: Int32
    var from: Int
    var fromParallelism: Int
    var to: Int
    var toParallelism: Int
    var frames: [[UInt8]]

    init(_ origin: ChannelOrigin, frames: [[UInt8]]) {
        sender = origin.sender
        input = origin.input
        from = origin.from
        fromParallelism = origin.fromParallelism
        to = origin.to
        toParallelism = origin.toParallelism
        self.frames = frames
    }

    func encoded() -> [UInt8] {
        var writer = ByteWriter(capacity: 64 + frames.reduce(0) { $0 + $1.count + 4 })
        writer.writeU8(Self.version)
        writer.writeU64(sender.rawValue)
        for number in [Int(input), from, fromParallelism, to, toParallelism] { writer.writeU32(UInt32(number)) }
        writer.writeVarint(UInt64(frames.count))
        for frame in frames {
            writer.writeVarint(UInt64(frame.count))
            writer.writeBytes(frame)
        }
        return writer.finish()
    }

    init(decoding bytes: [UInt8]) throws(DecodingFailure) {
        var result: Result<ChannelState, DecodingFailure>?
        bytes.withUnsafeBytes { raw in
            do throws(DecodingFailure) {
                var reader = ByteReader(raw)
                result = .success(try ChannelState(from: &reader))
            } catch {
                result = .failure(error)
            }
        }
        guard let result else { preconditionFailure("withUnsafeBytes calls its body") }
        self = try result.get()
    }

    private init(from reader: inout ByteReader) throws(DecodingFailure) {
        let version = try reader.readU8()
        guard version == Self.version else {
            throw DecodingFailure("channel state version \(version), this build reads \(Self.version)", offset: 0)
        }
        sender = OperatorID(try reader.readU64())
        input = Int32(truncatingIfNeeded: try reader.readU32())
        from = Int(try reader.readU32())
        fromParallelism = Int(try reader.readU32())
        to = Int(try reader.readU32())
        toParallelism = Int(try reader.readU32())
        guard from < fromParallelism, to < toParallelism, toParallelism <= 32_768 else {
            throw DecodingFailure("channel state of channel \(from) of \(fromParallelism) to \(to) of \(toParallelism)", offset: 13)
        }
        frames = []
        for _ in 0..<(try reader.readCount()) { frames.append([UInt8](try reader.readBytes(try reader.readCount()))) }
        try reader.expectEnd()
    }
}

/// The rows in flight of all channels of a gate at one checkpoint, as they come to be known.
struct ChannelRecording {
    let checkpoint: UInt64
    /// Fulfilled once the barrier has come on every channel.
    let state: DeferredState
    /// By channel: what was taken from it; nil from its barrier on.
    var open: [[[UInt8]]?]
    var done: [ChannelState] = []

    var isComplete: Bool { open.allSatisfy { $0 == nil } }

    /// Writes down an element that belongs to the checkpoint.
    mutating func record(_ element: StreamElement, channel: Int, codec: BatchCodec) throws {
        switch element {
        case .batch, .watermark: try ElementFrame.copy(element, codec: codec) { open[channel]?.append($0) }
        case .status, .barrier, .endOfData: break  // The restored sender says these anew.
        }
    }

    /// The channel's barrier came, or none will.
    mutating func close(_ channel: Int, _ origin: ChannelOrigin) {
        guard let frames = open[channel] else { return }
        open[channel] = nil
        if !frames.isEmpty { done.append(ChannelState(origin, frames: frames)) }
    }
}
