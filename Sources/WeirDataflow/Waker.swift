import Synchronization

/// Makes a parked slot run again.
public protocol Waker: Sendable {
    /// Called from any thread; never blocks, and calling it too often only costs time.
    func wake()
}

/// The waker of one slot: passes calls on only while the slot's thread is parked, or about to park.
///
/// The thread calls ``prepareToPark()``, looks for work once more, and parks only if there was none. Whoever publishes work calls
/// ``wake()`` after publishing.
///
/// Why no wake-up is lost. Each side writes and then reads what the other one writes, as in Dekker's algorithm: the thread writes `parked`
/// and reads the work, the other writes the work and reads `parked`. Release and acquire would let both reads be early, and both miss (x86 does
/// that: a load overtakes an older store). So there is a sequentially consistent fence between write and read on both sides; one of two such
/// fences is the first, and what is written before it is seen by what is read behind the other.
///
/// - The waker's fence is the first: the thread's last look finds the work.
/// - The thread's is the first: the waker sees `parked`, and exactly one waker gets it by the exchange and wakes the thread. Another one that finds
///   it taken, or reset by ``unpark()``, has read a value older than what the thread writes at its *next* park; so its fence comes before
///   the one there, and the last look there finds its work. The thread comes to that look, since it is awake or being woken.
///
/// The thread's own waker must remember a call that comes before the thread sleeps, as a futex word or a semaphore does.
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
