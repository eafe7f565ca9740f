/// Closures by the time at which they are due; a binary heap with lazy removal.
///
/// - Complexity: O(log n) to add and to take; removing is O(1), amortised.
struct TimerQueue {
    private struct Entry {
        var due: Int64
        var id: UInt64
    }

    private var heap: [Entry] = []
    private var bodies: [UInt64: @Sendable () -> Void] = [:]

    /// Timers that are neither taken nor removed.
    var count: Int { bodies.count }

    /// Adds a timer under an id that was never used before: ids break ties, so equal times fire in the order of their ids.
    mutating func add(due: Int64, id: UInt64, _ body: @escaping @Sendable () -> Void) {
        bodies[id] = body
        heap.append(Entry(due: due, id: id))
        siftUp(heap.count - 1)
    }

    mutating func remove(_ id: UInt64) {
        guard bodies.removeValue(forKey: id) != nil else { return }
        // Deadlines of answered requests would pile up until they are due.
        guard heap.count > 64, heap.count > 2 * bodies.count else { return }
        heap.removeAll { bodies[$0.id] == nil }
        for index in stride(from: heap.count / 2 - 1, through: 0, by: -1) { siftDown(index) }
    }

    /// The time of the earliest timer.
    mutating func nextDue() -> Int64? {
        while let first = heap.first, bodies[first.id] == nil { removeFirst() }
        return heap.first?.due
    }

    /// Takes the earliest timer if it is due at `now`.
    mutating func takeDue(now: Int64) -> (@Sendable () -> Void)? {
        guard let due = nextDue(), due <= now, let first = heap.first else { return nil }
        removeFirst()
        return bodies.removeValue(forKey: first.id)
    }

    mutating func removeAll() {
        heap = []
        bodies = [:]
    }

    private func precedes(_ a: Int, _ b: Int) -> Bool {
        (heap[a].due, heap[a].id) < (heap[b].due, heap[b].id)
    }

    private mutating func removeFirst() {
        heap.swapAt(0, heap.count - 1)
        heap.removeLast()
        siftDown(0)
    }

    private mutating func siftUp(_ start: Int) {
        var index = start
        while index > 0, precedes(index, (index - 1) / 2) {
            heap.swapAt(index, (index - 1) / 2)
            index = (index - 1) / 2
        }
    }

    private mutating func siftDown(_ start: Int) {
        var index = start
        while true {
            var smallest = index
            for child in [2 * index + 1, 2 * index + 2] where child < heap.count && precedes(child, smallest) { smallest = child }
            guard smallest != index else { return }
            heap.swapAt(index, smallest)
            index = smallest
        }
    }
}
