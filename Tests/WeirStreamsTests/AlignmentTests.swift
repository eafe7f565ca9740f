import Synchronization
import Testing
import WeirDataflow
import WeirStreams

private final class CountingWaker: Waker {
    let count = Atomic<Int>(0)
    var woken: Int { count.load(ordering: .relaxed) }
    func wake() { count.add(1, ordering: .relaxed) }
}

@Suite struct SplitAlignmentTests {
    @Test func splitsAheadOfTheGroupByMoreThanTheDriftWait() {
        var alignment = SplitAlignment(WatermarkAlignment(group: "g", maxDrift: .milliseconds(10)))
        let first = alignment.decide([(0, 100), (1, 110), (2, 111)], least: 100)
        #expect(first == SplitAlignment.Decision(pause: [2], resume: []))
        #expect(alignment.isPaused(2) && !alignment.isPaused(1))
        #expect(alignment.decide([(0, 100), (1, 110), (2, 111)], least: 100) == SplitAlignment.Decision())
        #expect(alignment.decide([(0, 101), (1, 110), (2, 111)], least: 101) == SplitAlignment.Decision(pause: [], resume: [2]))
        #expect(!alignment.isAnyPaused)
    }

    @Test func beforeTheFirstRowOfOneTheOthersWaitAndAnIdleGroupHoldsNobody() {
        var alignment = SplitAlignment(WatermarkAlignment(group: "g", maxDrift: .seconds(1)))
        #expect(alignment.decide([(0, 5), (1, .min)], least: .min).pause == [0])
        #expect(alignment.decide([(0, 5), (1, .min)], least: .max).resume == [0])
    }
}

@Suite struct WatermarkAlignmentHubTests {
    @Test func theLeastOfAGroupIsThatOfItsMembersHereAndElsewhere() {
        let hub = WatermarkAlignmentHub()
        let a = hub.join("g", waker: NoWaker())
        let b = hub.join("g", waker: NoWaker())
        let other = hub.join("other", waker: NoWaker())
        #expect(hub.report(a, watermark: 10) == .min, "nobody knows how far b is")
        #expect(hub.report(b, watermark: 7) == 7)
        #expect(hub.report(other, watermark: 1) == 1)
        hub.setRemote(["g": 3])
        #expect(hub.report(a, watermark: 11) == 3)
        hub.setRemote([:])
        #expect(hub.report(a, watermark: 11) == 7)
        #expect(hub.minima == ["g": 7, "other": 1])
    }

    @Test func idleMembersAndThoseThatLeftHoldNobody() {
        let hub = WatermarkAlignmentHub()
        let a = hub.join("g", waker: NoWaker())
        let b = hub.join("g", waker: NoWaker())
        _ = hub.report(b, watermark: .max)
        #expect(hub.report(a, watermark: 10) == 10)
        _ = hub.report(b, watermark: 5)
        hub.leave(b)
        #expect(hub.report(a, watermark: 10) == 10)
        _ = hub.report(a, watermark: .max)
        #expect(hub.minima.isEmpty)
        hub.leave(a)
    }

    @Test func theGroupIsWokenWhenItsLeastWatermarkRises() {
        let hub = WatermarkAlignmentHub()
        let waker = CountingWaker()
        let a = hub.join("g", waker: waker)
        let b = hub.join("g", waker: NoWaker())
        _ = hub.report(a, watermark: 10)
        let before = waker.woken
        _ = hub.report(b, watermark: 5)
        #expect(waker.woken == before + 1)
        _ = hub.report(b, watermark: 5)
        #expect(waker.woken == before + 1)
        hub.setRemote(["g": 2])
        hub.setRemote(["g": 4])
        #expect(waker.woken == before + 3)
    }
}

private struct Punctuated: WatermarkGenerator {
    var last = Int64.min
    mutating func onEvent(_ row: Int, timestamp: Int64) { if row < 0 { last = timestamp } }
    func currentWatermark() -> Int64 { last }
}

@Suite struct WatermarkGeneratorTests {
    private func observe(_ stamper: inout SplitStamper<Int>, _ split: Int, _ rows: [Int]) -> Int64 {
        let batch = Batch(rows.map { ($0, AnyBatch.noTimestamp) })
        return stamper.stamp(split: split, batch.rows, batch.timestamps, batch.count)
    }

    @Test func eachSplitHasAGeneratorAndTheSourceTheLeastOfTheirWatermarks() {
        let strategy = WatermarkStrategy<Int>.generated(timestamp: { Int64(abs($0)) }) { Punctuated() }
        #expect(strategy.generatesWatermarks)
        var stamper = SplitStamper(strategy)
        var watermarks = SplitWatermarks(strategy)
        watermarks.addSplit(now: 0)
        watermarks.addSplit(now: 0)
        watermarks.observe(split: 0, greatest: observe(&stamper, 0, [5, -7, 9]), now: 0)
        #expect(watermarks.advance(now: 0) == .unchanged, "split 1 has said nothing")
        watermarks.observe(split: 1, greatest: observe(&stamper, 1, [3]), now: 0)
        #expect(watermarks.advance(now: 0) == .unchanged)
        watermarks.observe(split: 1, greatest: observe(&stamper, 1, [-4, 8]), now: 0)
        #expect(watermarks.advance(now: 0) == .watermark(4))
        watermarks.observe(split: 1, greatest: observe(&stamper, 1, [-20]), now: 0)
        #expect(watermarks.advance(now: 0) == .watermark(7))
    }
}
