import Testing
import WeirBase

@testable import WeirWire

@Suite struct FrameTests {
    private let frames = [
        Frame(type: .request, kind: 1, correlation: 1, payload: [1, 2, 3]),
        Frame(type: .oneWay, kind: 0xABCD, correlation: 0, payload: []),
        Frame(type: .errorResponse, kind: 16, correlation: .max, payload: [UInt8](repeating: 7, count: 300)),
        Frame(type: .response, kind: 64, correlation: 1 << 40, payload: [0]),
    ]

    private func decodeAll(_ decoder: inout FrameDecoder, _ buffer: inout FrameBuffer) throws -> [Frame] {
        var decoded: [Frame] = []
        while let frame = try decoder.next(from: &buffer) { decoded.append(frame) }
        return decoded
    }

    @Test func theHeaderIsSixteenBytesBigEndian() {
        let frame = Frame(type: .request, kind: 0x0102, correlation: 0x0304_0506_0708_090A, payload: [0xFF, 0xFE])
        #expect(frame.encoded() == [0, 0, 0, 2, 1, 1, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 0xFF, 0xFE])
    }

    @Test func everySplitOfTheInputGivesTheSameFrames() throws {
        let bytes = frames.flatMap { $0.encoded() }
        for split in 0...bytes.count {
            var decoder = FrameDecoder(payloadBytesMax: 1_024)
            var buffer = FrameBuffer(capacity: 64)
            buffer.append(Array(bytes[..<split]))
            var decoded = try decodeAll(&decoder, &buffer)
            buffer.append(Array(bytes[split...]))
            decoded += try decodeAll(&decoder, &buffer)
            #expect(decoded == frames, "split at \(split)")
            #expect(buffer.count == 0)
        }
    }

    @Test func oneByteAtATimeGivesTheSameFrames() throws {
        var decoder = FrameDecoder(payloadBytesMax: 1_024)
        var buffer = FrameBuffer(capacity: 64)
        var decoded: [Frame] = []
        for byte in frames.flatMap({ $0.encoded() }) {
            buffer.append([byte])
            decoded += try decodeAll(&decoder, &buffer)
        }
        #expect(decoded == frames)
    }

    @Test func aPayloadAtTheLimitPassesAndOneByteMoreIsRefusedBeforeItIsRead() throws {
        var decoder = FrameDecoder(payloadBytesMax: 8)
        var buffer = FrameBuffer()
        buffer.append(Frame(type: .request, kind: 1, correlation: 1, payload: [UInt8](repeating: 1, count: 8)).encoded())
        #expect(try decoder.next(from: &buffer)?.payload.count == 8)
        // The header alone is enough to refuse.
        buffer.append(Array(Frame(type: .request, kind: 1, correlation: 2, payload: [UInt8](repeating: 1, count: 9)).encoded()[..<16]))
        let refusal = decodeError(&decoder, &buffer)
        #expect(refusal == .payloadTooLarge(bytes: 9, limit: 8))
    }

    private func decodeError(_ decoder: inout FrameDecoder, _ buffer: inout FrameBuffer) -> FrameError? {
        do throws(FrameError) {
            _ = try decoder.next(from: &buffer)
            return nil
        } catch {
            return error
        }
    }

    @Test func unknownVersionsAndFlagsAreRefused() {
        var bytes = frames[0].encoded()
        bytes[4] = 2
        var decoder = FrameDecoder(payloadBytesMax: 8)
        var buffer = FrameBuffer()
        buffer.append(bytes)
        #expect(decodeError(&decoder, &buffer) == .unknownVersion(2))
        for flags in UInt8.min...UInt8.max where FrameType(rawValue: flags) == nil {
            bytes[4] = 1
            bytes[5] = flags
            var decoder = FrameDecoder(payloadBytesMax: 8)
            var buffer = FrameBuffer()
            buffer.append(bytes)
            #expect(decodeError(&decoder, &buffer) == .unknownFlags(flags))
        }
    }

    @Test(arguments: 0..<300 as Range<UInt64>) func garbageEndsInAnErrorOrInFramesWithinTheLimit(seed: UInt64) {
        var random = SplitMix64(seed: seed)
        var decoder = FrameDecoder(payloadBytesMax: 512)
        var buffer = FrameBuffer(capacity: 64)
        var bytes = frames.flatMap { $0.encoded() }
        if seed.isMultiple(of: 2) {
            for _ in 0..<Int.random(in: 1...4, using: &random) {
                bytes[Int.random(in: bytes.indices, using: &random)] = UInt8.random(in: .min ... .max, using: &random)
            }
        } else {
            bytes = (0..<600).map { _ in UInt8.random(in: .min ... .max, using: &random) }
        }
        var rest = bytes[...]
        while !rest.isEmpty {
            let chunk = rest.prefix(Int.random(in: 1...100, using: &random))
            rest = rest.dropFirst(chunk.count)
            buffer.append(Array(chunk))
            do {
                while let frame = try decoder.next(from: &buffer) { #expect(frame.payload.count <= 512) }
            } catch {
                return
            }
            #expect(buffer.capacity <= 4_096)
        }
    }

    @Test func aBufferGivesLargeMemoryBackWhenItRunsEmpty() {
        var buffer = FrameBuffer(capacity: 1_024)
        buffer.append([UInt8](repeating: 1, count: 1 << 20))
        #expect(buffer.capacity >= 1 << 20)
        #expect(buffer.take(1 << 20)?.count == 1 << 20)
        #expect(buffer.capacity == 1_024)
    }

    @Test func takingMoreThanThereIsTakesNothing() {
        var buffer = FrameBuffer()
        buffer.append([1, 2, 3])
        #expect(buffer.take(4) == nil)
        #expect(buffer.take(-1) == nil)
        #expect(buffer.take(3) == [1, 2, 3])
    }
}
