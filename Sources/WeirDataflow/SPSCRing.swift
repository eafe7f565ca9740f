import Synchronization

/// Two cache lines of nothing: keeps what one thread writes away from what the other reads (and the adjacent-line prefetcher quiet).
private struct CacheLinePadding {
    let words: InlineArray<16, Int> = .init(repeating: 0)
}

/// A bounded queue from one thread to one other, without locks.
///
/// `tryPush` belongs to the producer, `pop` to the consumer; they are one thread at a time each, not always the same. After a push the
/// consumer's slot is woken if it parks, after a pop the producer's.
///
/// The fields of each side are its own; elements pass from one to the other by release and acquire.
package final class SPSCRing<Element: Sendable>: @unchecked Sendable {
    private let slots: UnsafeMutablePointer<Element>
    private let mask: Int
    private let producer: SlotWaker?
    private let consumer: SlotWaker?

    private let padding0 = CacheLinePadding()
    private let head = Atomic<Int>(0)
    private var tailSeen = 0
    private let padding1 = CacheLinePadding()
    private let tail = Atomic<Int>(0)
    private var headSeen = 0
    private let padding2 = CacheLinePadding()

    /// - Parameters:
    ///   - capacity: Elements that fit; rounded up to a power of two.
    ///   - producer: Woken when room was made; nil if both ends run on one thread.
    ///   - consumer: Woken when an element came; nil if both ends run on one thread.
    package init(capacity: Int, producer: SlotWaker? = nil, consumer: SlotWaker? = nil) {
        precondition((1...1 << 20).contains(capacity), "a ring of \(capacity) elements")
        let size = capacity == 1 ? 1 : 1 << (Int.bitWidth - (capacity - 1).leadingZeroBitCount)
        mask = size - 1
        slots = .allocate(capacity: size)
        self.producer = producer
        self.consumer = consumer
    }

    deinit {
        for index in head.load(ordering: .relaxed)..<tail.load(ordering: .relaxed) { (slots + (index & mask)).deinitialize(count: 1) }
        slots.deallocate()
    }

    package var capacity: Int { mask + 1 }

    /// A guess, from either side or from elsewhere.
    package var count: Int { max(0, tail.load(ordering: .relaxed) - head.load(ordering: .relaxed)) }

    /// - Returns: False if the ring is full; the element stays the caller's.
    package func tryPush(_ element: Element) -> Bool {
        let index = tail.load(ordering: .relaxed)
        if index - headSeen > mask {
            headSeen = head.load(ordering: .acquiring)
            if index - headSeen > mask { return false }
        }
        (slots + (index & mask)).initialize(to: element)
        tail.store(index + 1, ordering: .releasing)
        consumer?.wake()
        return true
    }

    package func pop() -> Element? {
        let index = head.load(ordering: .relaxed)
        if index == tailSeen {
            tailSeen = tail.load(ordering: .acquiring)
            if index == tailSeen { return nil }
        }
        let element = (slots + (index & mask)).move()
        head.store(index + 1, ordering: .releasing)
        producer?.wake()
        return element
    }
}
