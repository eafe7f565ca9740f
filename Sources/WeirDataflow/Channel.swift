import Synchronization
import WeirBase

/// The sending end of a channel from one subtask to another, used by the sender's slot alone.
package protocol OutputChannel: AnyObject, Sendable {
    /// Takes the element, or leaves it to the caller if there is no room now.
    ///
    /// - Throws: `JobFailure` if the rows cannot be encoded.
    func tryPush(_ element: StreamElement) throws -> Bool
    /// Sends on what was taken but could not go yet.
    ///
    /// - Returns: True if nothing is left.
    func drain() -> Bool
    /// Tells the receiver of a barrier past everything that is on its way. The barrier itself was pushed before, in order.
    func announce(_ barrier: Barrier)
}

/// The receiving end of a channel, used by the receiver's slot alone.
package protocol InputChannel: AnyObject, Sendable {
    /// - Throws: `JobFailure` if what came cannot be decoded.
    func pop() throws -> StreamElement?
    /// The newest barrier that the sender announced since the last call.
    func takeAnnouncement() -> Barrier?
}

/// A channel between two tasks of one worker.
package final class LocalChannel: OutputChannel, InputChannel {
    /// Batches on their way; more only adds latency under back pressure.
    package static let capacityDefault = 16
    private let ring: SPSCRing<StreamElement>
    private let announcement = Announcement()
    private let consumer: SlotWaker?

    /// - Parameters:
    ///   - producer: The sender's slot, `consumer`: the receiver's; both nil if they are the same slot.
    package init(capacity: Int = LocalChannel.capacityDefault, producer: SlotWaker? = nil, consumer: SlotWaker? = nil) {
        ring = SPSCRing(capacity: capacity, producer: producer, consumer: consumer)
        self.consumer = consumer
    }

    package func tryPush(_ element: StreamElement) -> Bool { ring.tryPush(element) }
    package func drain() -> Bool { true }
    package func pop() -> StreamElement? { ring.pop() }

    package func announce(_ barrier: Barrier) {
        announcement.put(barrier)
        consumer?.wake()
    }

    package func takeAnnouncement() -> Barrier? { announcement.take() }
}

/// The newest barrier that one thread tells another. Looking costs one relaxed load while there is none.
final class Announcement: Sendable {
    private let isPresent = Atomic<Bool>(false)
    private let barrier = Mutex<Barrier?>(nil)

    func put(_ barrier: Barrier) {
        self.barrier.withLock { $0 = barrier }
        isPresent.store(true, ordering: .releasing)
    }

    func take() -> Barrier? {
        guard isPresent.load(ordering: .acquiring) else { return nil }
        return barrier.withLock { barrier in
            isPresent.store(false, ordering: .relaxed)
            let taken = barrier
            barrier = nil
            return taken
        }
    }
}

/// The sending end of a stream of frames to another worker. One slot uses it; frames arrive whole and in order.
package protocol ByteOutput: AnyObject, Sendable {
    /// Takes a frame if the receiver granted room. After false, the sender's waker is called once there is room.
    func trySend(_ frame: [UInt8]) -> Bool
    /// Sends a small frame past those that wait for room, without room of its own. A newer one may take the place of one that did not leave yet.
    func announce(_ frame: [UInt8])
}

/// The receiving end of a stream of frames from another worker. The receiver's waker is called when a frame came.
package protocol ByteInput: AnyObject, Sendable {
    func receive() -> [UInt8]?
    /// The newest frame that was announced since the last call.
    func takeAnnouncement() -> [UInt8]?
}

/// The frames of a channel between workers, version 1; all integers little-endian. A frame is a kind and a body:
///
///     | kind: u8 | body |
///
///     1  batch         | rows: u32 | timestamps: u8 | rows | timestamp column |      see BatchCodec
///     2  watermark     | milliseconds: i64 |
///     3  status        | idle: u8, 0 or 1 |
///     4  barrier       | checkpoint: u64 | timestamp: i64 | flags: u8 |
///     5  end of data   nothing
///
/// A frame has at most 32 KiB, unless it carries a single larger row.
package enum ElementFrame {
    package enum Kind: UInt8 {
        case batch = 1
        case watermark = 2
        case status = 3
        case barrier = 4
        case endOfData = 5
    }

    static func encode(_ element: StreamElement, codec: BatchCodec, into frames: inout FrameQueue) throws {
        guard case .batch(let batch) = element else { return frames.append(control(element)) }
        defer { batch.recycle() }
        var writer = ByteWriter(capacity: 0)
        swap(&writer, &frames.writer)
        defer { swap(&writer, &frames.writer) }
        try encode(batch, codec: codec, writer: &writer) { frames.append($0) }
    }

    /// Encodes an element and leaves it to its owner.
    static func copy(_ element: StreamElement, codec: BatchCodec, _ body: ([UInt8]) -> Void) throws {
        guard case .batch(let batch) = element else { return body(control(element)) }
        var writer = ByteWriter(capacity: BatchCodec.frameBytesTarget + 64)
        try encode(batch, codec: codec, writer: &writer, body)
    }

    /// The frame of an element that is no batch.
    static func control(_ element: StreamElement) -> [UInt8] {
        var writer = ByteWriter(capacity: 32)
        switch element {
        case .batch: preconditionFailure("a batch is no control element")
        case .watermark(let watermark):
            writer.writeU8(Kind.watermark.rawValue)
            writer.writeI64(watermark)
        case .status(let idle):
            writer.writeU8(Kind.status.rawValue)
            writer.writeU8(idle ? 1 : 0)
        case .barrier(let barrier):
            writer.writeU8(Kind.barrier.rawValue)
            writer.writeU64(barrier.checkpoint)
            writer.writeI64(barrier.timestamp)
            writer.writeU8(barrier.flags.rawValue)
        case .endOfData:
            writer.writeU8(Kind.endOfData.rawValue)
        }
        return writer.finish()
    }

    private static func encode(_ batch: AnyBatch, codec: BatchCodec, writer: inout ByteWriter, _ body: ([UInt8]) -> Void) throws {
        var row = 0
        while row < batch.count {
            writer.removeAll()
            writer.writeU8(Kind.batch.rawValue)
            row = codec.encode(batch, from: row, into: &writer, limit: BatchCodec.frameBytesTarget)
            guard writer.count <= BatchCodec.rowBytesMax else {
                throw JobFailure(
                    domain: .user, recovery: .fail,
                    message: "a row of \(writer.count) bytes is larger than the \(BatchCodec.rowBytesMax) that a channel carries")
            }
            body(writer.finish())
        }
    }

    static func decode(_ frame: [UInt8], codec: BatchCodec) throws -> StreamElement {
        try frame.withUnsafeBytes { bytes in
            var reader = ByteReader(bytes)
            let number = try reader.readU8()
            let element: StreamElement
            switch Kind(rawValue: number) {
            case .batch: return .batch(try codec.decode(&reader))
            case .watermark: element = .watermark(try reader.readI64())
            case .status:
                let idle = try reader.readU8()
                guard idle <= 1 else { throw DecodingFailure("an idle status of \(idle)", offset: 1) }
                element = .status(idle: idle == 1)
            case .barrier:
                element = .barrier(
                    Barrier(checkpoint: try reader.readU64(), timestamp: try reader.readI64(), flags: .init(rawValue: try reader.readU8())))
            case .endOfData: element = .endOfData
            case nil: throw DecodingFailure("an unknown kind of frame, \(number)", offset: 0)
            }
            try reader.expectEnd()
            return element
        }
    }
}

/// Frames in order, and the buffer they are written in.
struct FrameQueue {
    var writer = ByteWriter(capacity: BatchCodec.frameBytesTarget + 64)
    private var frames = FIFO<[UInt8]>()

    var isEmpty: Bool { frames.isEmpty }
    var first: [UInt8]? { frames.first }
    mutating func append(_ frame: [UInt8]) { frames.append(frame) }
    mutating func removeFirst() { _ = frames.popFirst() }
}

/// Sends elements as frames.
package final class RemoteOutputChannel: OutputChannel, @unchecked Sendable {  // Used by the sender's slot alone.
    private let output: any ByteOutput
    private let codec: BatchCodec
    private var frames = FrameQueue()
    /// Bytes sent, for the metrics.
    package let bytes = Counter()

    package init(output: any ByteOutput, codec: BatchCodec) {
        self.output = output
        self.codec = codec
    }

    package func tryPush(_ element: StreamElement) throws -> Bool {
        guard drain() else { return false }
        try ElementFrame.encode(element, codec: codec, into: &frames)
        _ = drain()  // What does not go now is kept here: the batch is taken.
        return true
    }

    package func announce(_ barrier: Barrier) { output.announce(ElementFrame.control(.barrier(barrier))) }

    package func drain() -> Bool {
        while let frame = frames.first {
            guard output.trySend(frame) else { return false }
            bytes.add(frame.count)
            frames.removeFirst()
        }
        return true
    }
}

/// Receives elements from frames.
package final class RemoteInputChannel: InputChannel, @unchecked Sendable {  // Used by the receiver's slot alone.
    private let input: any ByteInput
    private let codec: BatchCodec
    package let bytes = Counter()

    package init(input: any ByteInput, codec: BatchCodec) {
        self.input = input
        self.codec = codec
    }

    package func pop() throws -> StreamElement? {
        guard let frame = input.receive() else { return nil }
        bytes.add(frame.count)
        do {
            return try ElementFrame.decode(frame, codec: codec)
        } catch {
            throw JobFailure(domain: .system, recovery: .restart, message: "a damaged frame of \(frame.count) bytes came in", cause: "\(error)")
        }
    }

    package func takeAnnouncement() -> Barrier? {
        // Whatever else an announcement is, the barrier comes in order all the same.
        guard let frame = input.takeAnnouncement(), case .barrier(let barrier)? = try? ElementFrame.decode(frame, codec: codec) else { return nil }
        return barrier
    }
}

/// A queue in an array: appends at the end, takes from the front, keeps its memory.
struct FIFO<Element> {
    private var elements: [Element?] = []
    private var head = 0

    var isEmpty: Bool { head == elements.count }
    var count: Int { elements.count - head }
    var first: Element? { isEmpty ? nil : elements[head] }

    mutating func append(_ element: Element) { elements.append(element) }

    /// Lends every element, the first first.
    func forEach(_ body: (Element) throws -> Void) rethrows {
        for index in head..<elements.count {
            if let element = elements[index] { try body(element) }
        }
    }

    mutating func popFirst() -> Element? {
        guard !isEmpty else { return nil }
        let element = elements[head]
        elements[head] = nil
        head += 1
        if head == elements.count {
            elements.removeAll(keepingCapacity: true)
            head = 0
        } else if head >= 64, head * 2 >= elements.count {
            elements.removeFirst(head)
            head = 0
        }
        return element
    }
}
