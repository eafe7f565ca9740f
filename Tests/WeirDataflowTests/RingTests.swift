import Dispatch
import Glibc
import Synchronization
import Testing

@testable import WeirDataflow

@Suite struct RingTests {
    @Test func takesAsManyAsItHasRoomForInOrder() {
        let ring = SPSCRing<Int>(capacity: 3)
        #expect(ring.capacity == 4)
        for round in 0..<10 {
            for index in 0..<4 { #expect(ring.tryPush(round * 4 + index)) }
            #expect(!ring.tryPush(-1))
            #expect(ring.count == 4)
            for index in 0..<4 { #expect(ring.pop() == round * 4 + index) }
            #expect(ring.pop() == nil)
        }
    }

    @Test func aRingOfOneWorks() {
        let ring = SPSCRing<Int>(capacity: 1)
        #expect(ring.tryPush(1) && !ring.tryPush(2))
        #expect(ring.pop() == 1 && ring.pop() == nil)
    }

    @Test func whatIsLeftIsFreedWithTheRing() {
        final class Item: Sendable {
            let alive: Counter
            init(_ alive: Counter) {
                self.alive = alive
                alive.add(1)
            }
            deinit { alive.add(-1) }
        }
        let alive = Counter()
        do {
            let ring = SPSCRing<Item>(capacity: 4)
            for _ in 0..<3 { _ = ring.tryPush(Item(alive)) }
            _ = ring.pop()
            #expect(alive.value == 2)
        }
        #expect(alive.value == 0)
    }

    @Test func onlyAParkedSlotIsWoken() {
        let producerThread = CountingWaker()
        let consumerThread = CountingWaker()
        let producer = SlotWaker(thread: producerThread)
        let consumer = SlotWaker(thread: consumerThread)
        let ring = SPSCRing<Int>(capacity: 2, producer: producer, consumer: consumer)
        _ = ring.tryPush(1)
        #expect(consumerThread.count.load(ordering: .relaxed) == 0)
        consumer.prepareToPark()
        _ = ring.tryPush(2)
        #expect(consumerThread.count.load(ordering: .relaxed) == 1)
        _ = ring.pop()
        #expect(producerThread.count.load(ordering: .relaxed) == 0)
        producer.prepareToPark()
        _ = ring.pop()
        #expect(producerThread.count.load(ordering: .relaxed) == 1)
        _ = ring.tryPush(3)
        #expect(consumerThread.count.load(ordering: .relaxed) == 1, "woken once a park")
        consumer.prepareToPark()
        consumer.unpark()
        _ = ring.tryPush(4)
        #expect(consumerThread.count.load(ordering: .relaxed) == 1)
    }

    /// Remembers one call, as a futex word does: a second one before the thread looks adds nothing.
    private final class Gate: Waker {
        private let semaphore = DispatchSemaphore(value: 0)
        private let isOpen = Atomic<Bool>(false)
        func wake() { if !isOpen.exchange(true, ordering: .acquiringAndReleasing) { semaphore.signal() } }
        func pass() {
            semaphore.wait()
            isOpen.store(false, ordering: .sequentiallyConsistent)
        }
    }

    /// Three threads bring work to one that parks whenever it finds none, each only after its last piece was taken: a wake-up that is lost, also
    /// one that another waker was thought to have done, stops the test for ever.
    @Test(.timeLimit(.minutes(1))) func oneOfSeveralWakersIsAlwaysHeard() async {
        let rounds = 20_000
        let wakers = 3
        let thread = Gate()
        let waker = SlotWaker(thread: thread)
        let posted = (0..<wakers).map { _ in Flag() }
        let taken = Counter()
        await withCheckedContinuation { (done: CheckedContinuation<Void, Never>) in
            for flag in posted {
                DispatchQueue(label: "waker").async {
                    for _ in 0..<rounds {
                        flag.isUp.store(true, ordering: .releasing)
                        waker.wake()
                        while flag.isUp.load(ordering: .acquiring) { sched_yield() }
                    }
                }
            }
            DispatchQueue(label: "parking").async {
                func look() -> Int {
                    posted.filter { $0.isUp.load(ordering: .acquiring) && $0.isUp.exchange(false, ordering: .acquiringAndReleasing) }.count
                }
                while taken.value < rounds * wakers {
                    var found = look()
                    if found == 0 {
                        waker.prepareToPark()
                        found = look()
                        if found == 0 { thread.pass() }
                        waker.unpark()
                    }
                    taken.add(found)
                }
                done.resume()
            }
        }
        #expect(taken.value == rounds * wakers)
    }

    private final class Flag: Sendable {
        let isUp = Atomic<Bool>(false)
    }

    private final class Semaphore: Waker {
        let semaphore = DispatchSemaphore(value: 0)
        func wake() { semaphore.signal() }
    }

    /// Both sides park whenever they cannot go on: a lost wake-up would stop the test for ever.
    @Test(.timeLimit(.minutes(1)), arguments: [1, 2, 64]) func twoThreadsSeeEverythingInOrder(capacity: Int) async {
        let elements = 100_000
        let producerThread = Semaphore()
        let consumerThread = Semaphore()
        let producer = SlotWaker(thread: producerThread)
        let consumer = SlotWaker(thread: consumerThread)
        let ring = SPSCRing<Int>(capacity: capacity, producer: producer, consumer: consumer)
        let inOrder = Atomic<Int>(0)
        await withCheckedContinuation { (done: CheckedContinuation<Void, Never>) in
            DispatchQueue(label: "producer").async {
                for element in 0..<elements {
                    while !ring.tryPush(element) {
                        producer.prepareToPark()
                        if ring.tryPush(element) {
                            producer.unpark()
                            break
                        }
                        producerThread.semaphore.wait()
                        producer.unpark()
                    }
                }
            }
            DispatchQueue(label: "consumer").async {
                for expected in 0..<elements {
                    var popped = ring.pop()
                    while popped == nil {
                        consumer.prepareToPark()
                        popped = ring.pop()
                        if popped == nil { consumerThread.semaphore.wait() }
                        consumer.unpark()
                        popped = popped ?? ring.pop()
                    }
                    if popped == expected { inOrder.add(1, ordering: .relaxed) }
                }
                done.resume()
            }
        }
        #expect(inOrder.load(ordering: .relaxed) == elements)
    }
}
