package import WeirBase

/// What happens when, in simulated time: a binary heap by (time, order of scheduling), so that equal times keep their order.
package struct EventQueue<Element>: ~Copyable {
    private struct Entry {
        let time: Instant
        let order: UInt64
        let element: Element

        func isBefore(_ other: Entry) -> Bool { (time, order) < (other.time, other.order) }
    }

    private var heap: [Entry] = []
    private var scheduled: UInt64 = 0

    package init() {}

    package var isEmpty: Bool { heap.isEmpty }

    package mutating func schedule(_ element: Element, at time: Instant) {
        heap.append(Entry(time: time, order: scheduled, element: element))
        scheduled += 1
        var child = heap.count - 1
        while child > 0 {
            let parent = (child - 1) / 2
            guard heap[child].isBefore(heap[parent]) else { break }
            heap.swapAt(child, parent)
            child = parent
        }
    }

    package mutating func next() -> (time: Instant, element: Element)? {
        guard let first = heap.first else { return nil }
        let last = heap.removeLast()
        if !heap.isEmpty {
            heap[0] = last
            var parent = 0
            while true {
                let left = parent * 2 + 1
                guard left < heap.count else { break }
                let right = left + 1
                let child = right < heap.count && heap[right].isBefore(heap[left]) ? right : left
                guard heap[child].isBefore(heap[parent]) else { break }
                heap.swapAt(child, parent)
                parent = child
            }
        }
        return (first.time, first.element)
    }
}
