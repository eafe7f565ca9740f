import Synchronization

/// Makes a parked slot run again.
public protocol Waker: Sendable {
    /// Called from any thread; never blocks, and calling it too often only costs time.
    func wake()
}

/// The waker of one slot: passes calls on only while the slot's thread is parked, or about to park.
///
/// The thread calls ``prepareToPark()``, looks for work once more, and parks only if there was none. Whoever publishes work calls
/// ``wake()`` after publishing. One of the two sees the other (both sides have a full fence between their write and their read).
package final class SlotWaker: Waker {
    private let parked = Atomic<Bool>(false)
    private let thread: any Waker

    package init(thread: any Waker) { self.thread = thread }

    package func prepareToPark() {
        parked.store(true, ordering: .sequentiallyConsistent)
        atomicMemoryFence(ordering: .sequentiallyConsistent)
    }

    /// The thread runs again.
    package func unpark() { parked.store(false, ordering: .relaxed) }

    package func wake() {
        atomicMemoryFence(ordering: .sequentiallyConsistent)
        guard parked.load(ordering: .relaxed), parked.exchange(false, ordering: .acquiringAndReleasing) else { return }
        thread.wake()
    }
}

/// Wakes nobody: for tests and for slots that are polled.
package struct NoWaker: Waker {
    package init() {}
    package func wake() {}
}
