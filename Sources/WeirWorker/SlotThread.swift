internal import CWeirSystem
internal import Glibc
internal import Synchronization
package import WeirDataflow
package import WeirBase

/// The thread of one slot: runs its tasks, and sleeps on a futex when there is nothing to do.
package final class SlotThread: @unchecked Sendable {  // `slot` has its own rules, the rest never changes after init.
    /// Rounds without work before the thread sleeps: the other end of a ring often answers within a microsecond.
    private static let spins = 64

    package let slot: Slot
    private let stopping = Atomic<Bool>(false)
    private let futex: FutexWaker
    private var thread = pthread_t()

    /// - Parameter index: The slot's number: names the thread, and its processor where the host has as many as slots.
    package init(
        index: Int, pinned: Bool, operators: OperatorTable, clock: any WeirClock, taskManager: String, alignment: WatermarkAlignmentHub,
        listener: any SlotListener
    ) throws {
        let futex = FutexWaker()
        self.futex = futex
        slot = Slot(
            environment: SlotEnvironment(
                operators: operators, clock: clock, waker: SlotWaker(thread: futex), taskManager: taskManager, alignment: alignment),
            listener: listener)
        let box = Unmanaged.passRetained(StartBox(thread: self, index: index, pinned: pinned))
        let code = pthread_create(
            &thread, nil,
            { argument in
                guard let argument else { return nil }
                let start = Unmanaged<StartBox>.fromOpaque(argument).takeRetainedValue()
                weir_set_thread_name("slot-\(start.index)")
                if start.pinned { _ = weir_pin_thread(Int32(start.index)) }
                start.thread.run()
                return nil
            }, box.toOpaque())
        guard code == 0 else {
            box.release()
            throw JobFailure(
                domain: .resource, recovery: .restart, message: "cannot start the thread of slot \(index)", cause: String(cString: strerror(code)))
        }
    }

    private func run() {
        var idleRounds = 0
        while !stopping.load(ordering: .relaxed) {
            if slot.runOnce() {
                idleRounds = 0
                continue
            }
            idleRounds += 1
            guard idleRounds >= Self.spins else { continue }
            let ticket = futex.ticket()
            slot.waker.prepareToPark()
            // Asked again: a stop that came since the last look has changed the word before the ticket was taken, and would wake nobody.
            if !slot.runOnce(), !stopping.load(ordering: .relaxed) {
                let now = SystemClock.monotonic
                let wait = slot.nextDeadline().map { max(0, $0.nanoseconds &- now) }
                futex.sleep(ticket, nanoseconds: wait)
            }
            slot.waker.unpark()
            idleRounds = 0
        }
    }

    /// Ends the thread after its present piece of work and waits for it. Not from the slot's own thread.
    package func stop() {
        stopping.store(true, ordering: .relaxed)
        futex.wake()
        pthread_join(thread, nil)
    }
}

private final class StartBox {
    let thread: SlotThread
    let index: Int
    let pinned: Bool
    init(thread: SlotThread, index: Int, pinned: Bool) {
        self.thread = thread
        self.index = index
        self.pinned = pinned
    }
}

/// Wakes one thread that sleeps on a word: whoever wakes changes the word first, so that no call is missed.
private final class FutexWaker: Waker, @unchecked Sendable {  // `word` is changed atomically only.
    private let word: UnsafeMutablePointer<Atomic<UInt32>>

    init() {
        word = .allocate(capacity: 1)
        word.initialize(to: Atomic(0))
    }

    deinit {
        word.deinitialize(count: 1)
        word.deallocate()
    }

    func ticket() -> UInt32 { word.pointee.load(ordering: .acquiring) }

    func wake() {
        word.pointee.wrappingAdd(1, ordering: .releasing)
        weir_futex_wake(UnsafeRawPointer(word).assumingMemoryBound(to: UInt32.self), 1)
    }

    /// - Parameter nanoseconds: Nil: until woken.
    func sleep(_ ticket: UInt32, nanoseconds: Int64?) {
        _ = weir_futex_wait(UnsafeRawPointer(word).assumingMemoryBound(to: UInt32.self), ticket, nanoseconds ?? -1)
    }
}

private enum SystemClock {
    static var monotonic: Int64 { weir_monotonic_nanoseconds() }
}
