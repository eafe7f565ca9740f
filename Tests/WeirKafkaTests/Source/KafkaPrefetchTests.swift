import Testing

@testable import WeirKafka

@Suite struct KafkaPrefetchTests {
    @Test func aQueueThatWasFullAsksOnceWhenHalfOfItIsGone() {
        var prefetch = KafkaPrefetch([:])
        let lengths = [10, 60_000, 87_500, 120_000, 60_000, 50_000, 40_000, 0, 87_499, 30_000, 100_000, 20_000]
        let asked = lengths.filter { prefetch.needsQuestion(queued: $0, recordBytes: 100) }
        #expect(asked == [50_000, 20_000], "one that was never full does not ask")
    }

    @Test func largeRecordsFillTheQueueByTheirBytes() {
        var prefetch = KafkaPrefetch(["queued.max.messages.kbytes": "1000"])
        let asked = [90, 60, 50, 40].filter { prefetch.needsQuestion(queued: $0, recordBytes: 10_240) }
        #expect(asked == [50])
    }

    @Test(arguments: ["0", "-5", "x", "9223372036854775807"]) func oddPropertiesTrapNothing(value: String) {
        var prefetch = KafkaPrefetch(["queued.min.messages": value, "queued.max.messages.kbytes": value])
        let asked = [Int.max, 0, Int.max, 1, Int.max].map { prefetch.needsQuestion(queued: $0, recordBytes: max(1, $0)) }
        #expect(asked.first == false, "a queue that is full asks nothing")
    }
}
