import Testing
import WeirStreams

@Suite struct SplitWatermarkTests {
    private func strategy(_ idle: Duration? = nil) -> WatermarkStrategy<Int> {
        let strategy = WatermarkStrategy<Int>.boundedOutOfOrderness(.milliseconds(100))
        return idle.map { strategy.idleness($0) } ?? strategy
    }

    @Test func theSlowestSplitDecidesAndTheWatermarkNeverFalls() {
        var watermarks = SplitWatermarks(strategy())
        watermarks.addSplit(now: 0)
        watermarks.addSplit(now: 0)
        watermarks.observe(split: 0, greatest: 1_000, now: 0)
        #expect(watermarks.advance(now: 0) == .unchanged)  // Nothing is known of split 1.
        watermarks.observe(split: 1, greatest: 500, now: 0)
        #expect(watermarks.advance(now: 0) == .watermark(399))
        watermarks.observe(split: 1, greatest: 300, now: 0)
        #expect(watermarks.advance(now: 0) == .unchanged)
        watermarks.observe(split: 1, greatest: 2_000, now: 0)
        #expect(watermarks.advance(now: 0) == .watermark(899))
        watermarks.finish(split: 0)
        #expect(watermarks.advance(now: 0) == .watermark(1_899))
    }

    @Test func idleSplitsDoNotHoldBackAndComeBack() {
        var watermarks = SplitWatermarks(strategy(.seconds(1)))
        watermarks.addSplit(now: 0)
        watermarks.addSplit(now: 0)
        watermarks.observe(split: 0, greatest: 1_000, now: 900_000_000)
        #expect(watermarks.nextIdleness(now: 900_000_000) == 100_000_000)
        #expect(watermarks.advance(now: 1_000_000_000) == .watermark(899))
        #expect(watermarks.advance(now: 2_000_000_000) == .idle)
        #expect(watermarks.advance(now: 2_000_000_001) == .unchanged)
        #expect(watermarks.nextIdleness(now: 2_000_000_001) == nil)
        // Split 1 wakes up with rows that are older than the watermark: it stays where it is.
        watermarks.observe(split: 1, greatest: 500, now: 3_000_000_000)
        #expect(watermarks.advance(now: 3_000_000_000) == .watermark(899))
        watermarks.observe(split: 1, greatest: 5_000, now: 3_000_000_000)
        #expect(watermarks.advance(now: 3_000_000_000) == .watermark(4_899))
    }

    @Test func extremesDoNotOverflow() {
        var watermarks = SplitWatermarks(strategy())
        watermarks.addSplit(now: 0)
        watermarks.observe(split: 0, greatest: .min + 1, now: 0)
        #expect(watermarks.advance(now: 0) == .unchanged)
        watermarks.observe(split: 0, greatest: .max, now: 0)
        #expect(watermarks.advance(now: 0) == .watermark(.max - 101))
        var none = SplitWatermarks(WatermarkStrategy<Int>.none)
        none.addSplit(now: 0)
        none.observe(split: 0, greatest: 5, now: 0)
        #expect(none.advance(now: 0) == .unchanged)
    }
}
