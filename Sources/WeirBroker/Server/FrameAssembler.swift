import WeirBase
import WeirKafkaWire
import WeirTransport

/// Cuts frames (`| length: i32 | … |`) out of a stream of bytes.
///
/// Small ones are copied out of a scratch buffer that all connections share; what is missing of a large one is read into its own memory at
/// once, so that its bytes are not copied.
struct FrameAssembler {
    private var partial: KafkaBytes?
    private var partialFilled = 0
    /// Up to three bytes of a length, and after a read the bytes that were not looked at yet.
    private var pending: [UInt8] = []

    /// Reads once.
    mutating func read(from port: StreamPort, scratch: UnsafeMutableRawBufferPointer) -> IOOutcome {
        if let partial {
            let outcome = partial.withUnsafeMutableBytes { port.read(into: UnsafeMutableRawBufferPointer(rebasing: $0[partialFilled...])) }
            if case .bytes(let count) = outcome { partialFilled += count }
            return outcome
        }
        let outcome = port.read(into: scratch)
        if case .bytes(let count) = outcome { pending.append(contentsOf: scratch[..<count]) }
        return outcome
    }

    /// Takes the whole frames, without their lengths.
    ///
    /// - Throws: ``DecodingFailure`` for a frame of a negative length or of more than `limit` bytes.
    mutating func takeFrames(limit: Int, into frames: inout [KafkaBytes]) throws(DecodingFailure) {
        if let partial {
            guard partialFilled == partial.count else { return }
            frames.append(partial)
            self.partial = nil
        }
        var position = 0
        defer { pending.removeFirst(position) }
        while pending.count - position >= 4 {
            let length = pending.withUnsafeBytes { Int(Int32(bigEndian: $0.loadUnaligned(fromByteOffset: position, as: Int32.self))) }
            guard length >= 0, length <= limit else {
                throw DecodingFailure("a request of \(length) bytes; at most \(limit) are allowed", offset: 0)
            }
            position += 4
            let available = min(length, pending.count - position)
            let frame = pending.withUnsafeBytes { bytes in
                KafkaBytes(count: length) { room in
                    room.copyMemory(from: UnsafeRawBufferPointer(rebasing: bytes[position..<position + available]))
                    return length
                }
            }
            position += available
            if available == length {
                frames.append(frame)
            } else {
                partial = frame
                partialFilled = available
            }
        }
    }
}
