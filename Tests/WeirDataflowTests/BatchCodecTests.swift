import Testing
import WeirBase

@testable import WeirDataflow

@Suite struct BatchCodecTests {
    private func frames<Row: BinaryCodable>(of batch: Batch<Row>) throws -> [[UInt8]] {
        let pipe = BytePipe()
        let channel = RemoteOutputChannel(output: pipe, codec: BatchCodec(Row.self))
        #expect(try channel.tryPush(.batch(batch)))
        var frames: [[UInt8]] = []
        while let frame = pipe.receive() { frames.append(frame) }
        return frames
    }

    private func rows<Row: BinaryCodable>(_: Row.Type, of frames: [[UInt8]]) throws -> [(Row, Int64)] {
        var rows: [(Row, Int64)] = []
        for frame in frames {
            guard case .batch(let any) = try ElementFrame.decode(frame, codec: BatchCodec(Row.self)), let batch = any as? Batch<Row> else {
                Issue.record("no batch")
                continue
            }
            for row in 0..<batch.count { rows.append((batch.rows[row], batch.timestamps[row])) }
        }
        return rows
    }

    @Test(arguments: 0..<50 as Range<UInt64>) func rowsComeBackAsTheyWere(seed: UInt64) throws {
        var random = SplitMix64(seed: seed)
        let count = Int.random(in: 1...3_000, using: &random)
        let form = Int.random(in: 0..<3, using: &random)
        let lengthMax = [3, 200, 4_000].randomElement(using: &random) ?? 3
        let batch = Batch<String>(capacity: count)
        var expected: [(String, Int64)] = []
        for index in 0..<count {
            let row = String(repeating: "é", count: Int.random(in: 0...lengthMax, using: &random)) + "\(index)"
            let timestamp = form == 0 ? AnyBatch.noTimestamp : form == 1 ? 42 : Int64.random(in: .min ... .max, using: &random)
            batch.append(row, timestamp: timestamp)
            expected.append((row, timestamp))
        }
        let frames = try frames(of: batch)
        #expect(frames.allSatisfy { $0.count <= BatchCodec.frameBytesTarget })
        let rows = try rows(String.self, of: frames)
        #expect(rows.map(\.0) == expected.map(\.0))
        #expect(rows.map(\.1) == expected.map(\.1))
    }

    @Test func aRowLargerThanAFrameTravelsAlone() throws {
        let large = String(repeating: "x", count: 100_000)
        let frames = try frames(of: Batch<String>([("a", 1), (large, 2), ("b", 3)]))
        #expect(frames.count == 3)
        #expect(try rows(String.self, of: frames).map(\.0) == ["a", large, "b"])
    }

    @Test func aRowPastTheLimitIsAUserError() throws {
        let huge = String(repeating: "x", count: BatchCodec.rowBytesMax + 1)
        let error = #expect(throws: JobFailure.self) { _ = try frames(of: Batch<String>([(huge, 1)])) }
        #expect(error?.domain == .user)
    }

    @Test func framesAreFilledBeforeTheNextBegins() throws {
        let batch = Batch<Int64>((0..<10_000).map { (Int64($0), Int64($0)) })
        let frames = try frames(of: batch)
        #expect(frames.count == (10_000 * 16 + 32_767 - 6) / (32_768 - 6))
        #expect(frames.dropLast().allSatisfy { $0.count > BatchCodec.frameBytesTarget - 16 })
    }

    @Test func aFrameIsLaidOutAsDocumented() throws {
        #expect(try frames(of: Batch<Int64>([(5, 9)])) == [[1, 1, 0, 0, 0, 1] + [5, 0, 0, 0, 0, 0, 0, 0] + [9, 0, 0, 0, 0, 0, 0, 0]])
        #expect(
            try frames(of: Batch<UInt8>([(5, 1), (6, 2)])) == [
                [1, 2, 0, 0, 0, 2, 5, 6] + [1, 0, 0, 0, 0, 0, 0, 0] + [2, 0, 0, 0, 0, 0, 0, 0]
            ])
        #expect(try frames(of: Batch<UInt8>([(5, AnyBatch.noTimestamp)])) == [[1, 1, 0, 0, 0, 0, 5]])
    }

    @Test func controlElementsComeBackAsTheyWere() throws {
        let pipe = BytePipe()
        let output = RemoteOutputChannel(output: pipe, codec: BatchCodec(Int64.self))
        let input = RemoteInputChannel(input: pipe, codec: BatchCodec(Int64.self))
        let sent: [StreamElement] = [
            .watermark(.min), .watermark(.max), .status(idle: true), .status(idle: false), .barrier(barrier(.max)), .endOfData,
            .batch(Batch(rows: [3])),
        ]
        for element in sent { #expect(try output.tryPush(element)) }
        var seen: [Seen] = []
        while let element = try input.pop() { seen.append(Seen(element)) }
        #expect(seen == [.watermark(.min), .watermark(.max), .status(true), .status(false), .barrier(.max), .end, .rows([3])])
        let flagged = Barrier(checkpoint: 4, timestamp: 77, flags: [.savepoint, .stop])
        #expect(try output.tryPush(.barrier(flagged)))
        guard case .barrier(let back) = try input.pop() else {
            Issue.record("no barrier")
            return
        }
        #expect(back == flagged)
    }

    @Test(arguments: 0..<400 as Range<UInt64>) func aDamagedFrameThrowsAndNeverTraps(seed: UInt64) throws {
        var random = SplitMix64(seed: seed)
        var sent = try frames(of: Batch<String>((0..<20).map { ("row \($0)", Int64($0)) }))
        sent.append([4] + Array(repeating: 7, count: 17))
        sent.append([2] + Array(repeating: 7, count: 8))
        for frame in sent {
            var damaged = frame
            switch Int.random(in: 0..<3, using: &random) {
            case 0: damaged.removeLast(Int.random(in: 1...damaged.count, using: &random))
            case 1: damaged.append(contentsOf: [UInt8.random(in: .min ... .max, using: &random)])
            default:
                for _ in 0..<Int.random(in: 1...4, using: &random) {
                    damaged[Int.random(in: 0..<damaged.count, using: &random)] = .random(in: .min ... .max, using: &random)
                }
            }
            let result = Result { try ElementFrame.decode(damaged, codec: BatchCodec(String.self)) }
            if damaged.count != frame.count, case .success = result { Issue.record("a frame of another length was taken") }
        }
    }

    @Test func aFrameThatClaimsTooManyRowsIsRefused() {
        for frame: [UInt8] in [
            [], [1], [1, 0, 0, 0, 0, 0], [1, 255, 255, 255, 255, 0], [1, 1, 0, 1, 0, 0], [1, 1, 0, 0, 0, 3, 1], [9], [3, 2], [5, 0],
        ] {
            #expect(throws: DecodingFailure.self) { _ = try ElementFrame.decode(frame, codec: BatchCodec(UInt8.self)) }
        }
    }
}
