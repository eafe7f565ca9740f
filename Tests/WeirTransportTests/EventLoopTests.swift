import Synchronization
import Testing
import WeirBase

@testable import WeirTransport

@Suite struct EventLoopTests {
    @Test func closuresOfOneThreadRunInTheirOrderOnTheLoop() async throws {
        let loop = try EventLoop(name: "test")
        defer { loop.shutDown() }
        let ran = Journal<Int>()
        for index in 0..<10_000 {
            loop.run {
                loop.assertOnLoop()
                ran.append(index)
            }
        }
        #expect(await eventually { ran.values.count == 10_000 })
        #expect(ran.values == Array(0..<10_000))
        #expect(!loop.isCurrent)
    }

    @Test func timersFireInTheOrderOfTheirTimesAndNotWhenCancelled() async throws {
        let loop = try EventLoop(name: "test")
        defer { loop.shutDown() }
        let fired = Journal<Int>()
        loop.run {
            for delay in [30, 10, 20, 10] { loop.schedule(after: .milliseconds(delay)) { fired.append(delay) } }
            loop.cancel(loop.schedule(after: .milliseconds(15)) { fired.append(15) })
        }
        #expect(await eventually { fired.values.count == 4 })
        #expect(fired.values == [10, 10, 20, 30])
    }

    @Test func whatWasGivenBeforeTheEndRunsAndWhatComesAfterIsRefused() throws {
        let loop = try EventLoop(name: "test")
        let ran = Journal<Int>()
        for index in 0..<100 { loop.run { ran.append(index) } }
        loop.shutDown()
        #expect(ran.values.count == 100)
        #expect(loop.run {} == false)
        loop.shutDown()
    }

    @Test func cancelledTimersDoNotPileUp() {
        var queue = TimerQueue()
        for id in 0..<100_000 as Range<UInt64> {
            queue.add(due: 1_000_000 + Int64(id), id: id) {}
            queue.remove(id)
        }
        #expect(queue.count == 0)
        #expect(queue.nextDue() == nil)
    }

    @Test(arguments: 0..<20 as Range<UInt64>) func theQueueIsAHeap(seed: UInt64) {
        var random = SplitMix64(seed: seed)
        var queue = TimerQueue()
        var expected: [Int64] = []
        for id in 0..<300 as Range<UInt64> {
            let due = Int64.random(in: 0..<50, using: &random)
            queue.add(due: due, id: id) {}
            if Bool.random(using: &random) { queue.remove(id) } else { expected.append(due) }
        }
        var taken: [Int64] = []
        while let due = queue.nextDue() {
            #expect(queue.takeDue(now: due - 1) == nil)
            _ = queue.takeDue(now: due)
            taken.append(due)
        }
        #expect(taken == expected.sorted())
    }

    @Test func delaysGrowToTheirMaximumWithinTheJitter() {
        var random = SplitMix64(seed: 1)
        let backoff = Backoff(initial: .milliseconds(50), maximum: .seconds(5), multiplier: 2, jitter: 0.2)
        for (attempt, milliseconds) in [(1, 50), (2, 100), (3, 200), (8, 5_000), (1_000, 5_000)] {
            let delay = backoff.delay(attempt: attempt, using: &random)
            #expect(delay >= .microseconds(milliseconds * 800) && delay <= .microseconds(milliseconds * 1_200), "\(attempt): \(delay)")
        }
        let exact = Backoff(initial: .milliseconds(10), maximum: .seconds(1), multiplier: 3, jitter: 0)
        #expect((1...4).map { exact.delay(attempt: $0, using: &random) } == [10, 30, 90, 270].map { .milliseconds($0) })
    }
}
