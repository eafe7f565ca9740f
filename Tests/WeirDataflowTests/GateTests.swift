import Testing
import WeirBase

@testable import WeirDataflow

/// A gate over local channels that a test fills.
private struct Fed {
    var gate: InputGate
    let channels: [LocalChannel]

    init(_ count: Int, capacity: Int = 256) {
        let channels = (0..<count).map { _ in LocalChannel(capacity: capacity) }
        self.channels = channels
        gate = InputGate(channels.map { ($0, 0) })
    }

    func push(_ channel: Int, _ elements: StreamElement...) {
        for element in elements { #expect(channels[channel].tryPush(element)) }
    }

    enum Event: Equatable {
        case rows([Int64])
        case watermark(Int64)
        case status(Bool)
        case barrier(UInt64)
        case canceled(UInt64)
        case end
    }

    mutating func next() throws -> Event? {
        switch try gate.next() {
        case .batch(let batch, _): .rows(batch.int64Rows)
        case .watermark(let time): .watermark(time)
        case .status(let idle): .status(idle)
        case .barrier(let barrier), .overtakingBarrier(let barrier, _): .barrier(barrier.checkpoint)
        case .alignmentCanceled(let checkpoint): .canceled(checkpoint.rawValue)
        case .endOfData: .end
        case nil: nil
        }
    }

    mutating func all() throws -> [Event] {
        var events: [Event] = []
        while let event = try next() { events.append(event) }
        return events
    }
}

private func rows(_ rows: Int64...) -> StreamElement { .batch(Batch(rows: rows)) }

@Suite struct AlignmentTests {
    @Test func aChannelIsHeldBackBehindItsBarrierUntilAllCame() throws {
        var fed = Fed(2)
        fed.push(0, rows(1), .barrier(barrier(1)), rows(2))
        fed.push(1, rows(10))
        #expect(try Set(fed.all().map(String.init(describing:))) == ["rows([1])", "rows([10])"])
        #expect(fed.gate.isAligning)
        fed.push(1, rows(11), .barrier(barrier(1)), rows(12))
        #expect(try fed.next() == .rows([11]))
        #expect(try fed.next() == .barrier(1))
        #expect(try Set(fed.all().map(String.init(describing:))) == ["rows([2])", "rows([12])"])
    }

    @Test func aNewerBarrierCancelsTheOlderAlignment() throws {
        var fed = Fed(3)
        fed.push(0, .barrier(barrier(1)), rows(1))
        #expect(try fed.all() == [])
        fed.push(1, .barrier(barrier(2)))
        #expect(try fed.all() == [.canceled(1), .rows([1])])
        fed.push(2, .barrier(barrier(1)), rows(2), .barrier(barrier(2)))
        fed.push(0, .barrier(barrier(2)))
        #expect(try fed.all() == [.rows([2]), .barrier(2)])
    }

    @Test func oldAndDuplicateBarriersAreDropped() throws {
        var fed = Fed(1)
        fed.push(0, .barrier(barrier(3)), .barrier(barrier(3)), .barrier(barrier(2)), rows(1), .barrier(barrier(4)))
        #expect(try fed.all() == [.barrier(3), .rows([1]), .barrier(4)])
    }

    @Test func anAbortedCheckpointHoldsNothingBack() throws {
        var fed = Fed(2)
        fed.push(0, .barrier(barrier(1)), rows(1))
        #expect(try fed.all() == [])
        fed.gate.abort(CheckpointID(1))
        #expect(try fed.all() == [.rows([1])])
        fed.push(1, .barrier(barrier(1)), rows(2))
        #expect(try fed.all() == [.rows([2])])
        fed.gate.abort(CheckpointID(2))
        fed.push(0, .barrier(barrier(2)), rows(3))
        #expect(try fed.all() == [.rows([3])], "aborted before its first barrier came")
        fed.push(0, .barrier(barrier(3)))
        fed.push(1, .barrier(barrier(2)), .barrier(barrier(3)))
        #expect(try fed.all() == [.barrier(3)])
    }

    @Test func aChannelWhoseDataEndedCountsAsAligned() throws {
        var fed = Fed(2)
        fed.push(0, .endOfData)
        fed.push(1, .barrier(barrier(1)), rows(1))
        #expect(try fed.all() == [.barrier(1), .rows([1])])
        fed.push(0, .barrier(barrier(1)))
        #expect(try fed.all() == [])
    }

    @Test func theEndOfTheLastMissingChannelCompletesAnAlignment() throws {
        var fed = Fed(2)
        fed.push(1, .barrier(barrier(1)), rows(1))
        #expect(try fed.all() == [])
        fed.push(0, rows(5), .endOfData)
        #expect(try fed.all() == [.rows([5]), .barrier(1), .rows([1])])
    }

    @Test func barriersStillPassOnceAllDataHasEnded() throws {
        var fed = Fed(2)
        fed.push(0, .endOfData)
        fed.push(1, .endOfData)
        #expect(try fed.all() == [.end])
        fed.push(0, .barrier(barrier(1)))
        #expect(try fed.all() == [.barrier(1)])
        fed.push(1, .barrier(barrier(1)), .barrier(barrier(2)))
        #expect(try fed.all() == [.barrier(2)])
        fed.push(0, .barrier(barrier(2)))
        #expect(try fed.all() == [])
    }

    /// Channels get rows and barriers in random pieces, with random ends, aborts and lost checkpoints: whatever comes out in front of a barrier
    /// is exactly what was put in front of it.
    @Test(arguments: 0..<500 as Range<UInt64>) func aSnapshotHoldsExactlyTheRowsBeforeTheBarriers(seed: UInt64) throws {
        var random = SplitMix64(seed: seed)
        let count = Int.random(in: 1...5, using: &random)
        let checkpoints = UInt64.random(in: 1...8, using: &random)
        var fed = Fed(count)
        // What each channel carries: rows, and all barriers in order, some of which are lost on some channels.
        var scripts: [[StreamElement]] = []
        var before: [UInt64: Set<Int64>] = [:]
        var all: Set<Int64> = []
        var lost: Set<UInt64> = []
        var next: Int64 = 0
        for _ in 0..<count {
            var script: [StreamElement] = []
            var sent: Set<Int64> = []
            var ended = false
            for checkpoint in 1...checkpoints {
                for _ in 0..<Int.random(in: 0...5, using: &random) where !ended {
                    let fresh = (0..<Int64.random(in: 1...4, using: &random)).map { next + $0 }
                    next += Int64(fresh.count)
                    sent.formUnion(fresh)
                    script.append(.batch(Batch(rows: fresh)))
                }
                if !ended, Int.random(in: 0..<20, using: &random) == 0 {
                    ended = true
                    script.append(.endOfData)
                }
                if Int.random(in: 0..<25, using: &random) == 0 {
                    // Its sender gave the checkpoint up: nobody may count on it any more.
                    lost.insert(checkpoint)
                } else {
                    script.append(.barrier(barrier(checkpoint)))
                    if Int.random(in: 0..<20, using: &random) == 0 { script.append(.barrier(barrier(checkpoint))) }
                }
                before[checkpoint, default: []].formUnion(sent)
            }
            if !ended { script.append(.endOfData) }
            all.formUnion(sent)
            scripts.append(script)
        }
        var delivered: Set<Int64> = []
        var passed: [UInt64] = []
        var ends = 0
        func take(_ event: Fed.Event) {
            switch event {
            case .rows(let rows):
                #expect(delivered.isDisjoint(with: rows), "delivered twice")
                delivered.formUnion(rows)
            case .barrier(let checkpoint):
                passed.append(checkpoint)
                if !lost.contains(checkpoint) { #expect(delivered == before[checkpoint], "checkpoint \(checkpoint)") }
            case .end: ends += 1
            case .watermark, .status, .canceled: break
            }
        }
        while let channel = scripts.indices.filter({ !scripts[$0].isEmpty }).randomElement(using: &random) {
            for _ in 0..<Int.random(in: 1...6, using: &random) where !scripts[channel].isEmpty { fed.push(channel, scripts[channel].removeFirst()) }
            for _ in 0..<Int.random(in: 0...6, using: &random) { if let event = try fed.next() { take(event) } }
        }
        for event in try fed.all() { take(event) }
        #expect(delivered == all)
        #expect(ends == 1)
        #expect(passed == passed.sorted() && Set(passed).count == passed.count)
        if lost.isEmpty { #expect(passed == Array(1...checkpoints)) }
    }
}

@Suite struct WatermarkValveTests {
    @Test func theLowestChannelDecides() throws {
        var fed = Fed(2)
        fed.push(0, .watermark(10))
        #expect(try fed.all() == [])
        fed.push(1, .watermark(5))
        #expect(try fed.all() == [.watermark(5)])
        fed.push(1, .watermark(20))
        #expect(try fed.all() == [.watermark(10)])
    }

    @Test func timeNeverGoesBack() throws {
        var fed = Fed(2)
        fed.push(0, .watermark(10), .watermark(3))
        fed.push(1, .watermark(10))
        #expect(try fed.all() == [.watermark(10)])
        fed.push(0, .status(idle: true))
        fed.push(1, .watermark(50))
        #expect(try fed.all() == [.watermark(50)])
        // Active again and far behind: it holds time, but does not turn it back.
        fed.push(0, .status(idle: false), .watermark(12))
        #expect(try fed.all() == [])
        fed.push(1, .watermark(60))
        #expect(try fed.all() == [])
        fed.push(0, .watermark(55))
        #expect(try fed.all() == [.watermark(55)])
    }

    @Test func anIdleChannelDoesNotHoldTimeBack() throws {
        var fed = Fed(2)
        fed.push(0, .watermark(10))
        fed.push(1, .status(idle: true))
        #expect(try fed.all() == [.watermark(10)])
    }

    @Test func theGateIsIdleWhenAllChannelsAre() throws {
        var fed = Fed(2)
        fed.push(0, .watermark(7), .status(idle: true))
        #expect(try fed.all() == [])
        fed.push(1, .status(idle: true))
        #expect(try fed.all() == [.watermark(7), .status(true)])
        fed.push(1, .status(idle: false))
        #expect(try fed.all() == [.status(false)])
        fed.push(1, .watermark(9))
        #expect(try fed.all() == [.watermark(9)])
    }

    @Test func anEndedChannelDoesNotHoldTimeBackAndTheEndIsNoWatermark() throws {
        var fed = Fed(2)
        fed.push(0, .watermark(3), .watermark(.max), .endOfData)
        fed.push(1, .watermark(5))
        #expect(try fed.all().last == .watermark(5))
        fed.push(1, .watermark(.max), .endOfData)
        #expect(try fed.all() == [.end])
        #expect(fed.gate.hasEnded)
    }
}
