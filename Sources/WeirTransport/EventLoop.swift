import CWeirSystem
import Glibc
import Synchronization

/// What a file descriptor can do, or is watched for.
package struct IOEvents: OptionSet, Sendable {
    package let rawValue: UInt32

    package init(rawValue: UInt32) {
        self.rawValue = rawValue
    }

    package static let readable = IOEvents(rawValue: UInt32(WEIR_READABLE))
    package static let writable = IOEvents(rawValue: UInt32(WEIR_WRITABLE))
    /// An error, or both directions are closed. Reported whether it is watched for or not.
    package static let hangup = IOEvents(rawValue: UInt32(WEIR_HANGUP))
}

/// Something that owns a file descriptor registered with an ``EventLoop``. Called on the loop's thread only.
package protocol EventHandler: AnyObject {
    func ready(_ events: IOEvents)
    /// The loop ends: close the descriptor and answer whoever waits.
    func loopStopped()
}

package struct TimerID: Hashable, Sendable {
    let rawValue: UInt64
}

package struct RegistrationID: Hashable, Sendable {
    let rawValue: UInt64
}

/// One thread that waits for file descriptors, timers and closures, and runs them one after the other.
///
/// Closures given to ``run(_:)`` by one thread run in the order in which they were given. Nothing that runs on the loop may block.
/// The thread lives until ``shutDown()``; letting go of the last reference does not end it.
package final class EventLoop: @unchecked Sendable {
    // @unchecked: `inbox`, `running` and `threadID` guard themselves; `registrations`, `timers` and `nextID` are touched by the
    // loop's thread alone, which `assertOnLoop` checks.
    private struct Inbox {
        var closures: [@Sendable () -> Void] = []
        var sleeping = false
        var stopping = false
        var stopped = false
    }

    package let name: String
    private let epoll: Int32
    private let wakeup: Int32
    private let inbox = Mutex(Inbox())
    private let threadID = Atomic<UInt>(0)
    private let thread = Mutex<pthread_t?>(nil)

    private var registrations: [UInt64: any EventHandler] = [:]
    private var descriptors: [UInt64: Int32] = [:]
    private var timers = TimerQueue()
    private var stopHandlers: [UInt64: @Sendable () -> Void] = [:]
    private var nextID: UInt64 = 1
    /// Whether the loop ends: timers that are set now never fire.
    private(set) var isStopping = false

    /// Starts the thread.
    ///
    /// - Parameter name: Of the thread; the kernel keeps 15 bytes.
    /// - Throws: ``TransportFailure`` when the process has no descriptors or threads left.
    package init(name: String) throws(TransportFailure) {
        self.name = name
        let epoll = weir_epoll_create()
        guard epoll >= 0 else { throw TransportFailure(operation: "create an epoll instance", code: -epoll) }
        let wakeup = weir_eventfd_create()
        guard wakeup >= 0 else {
            close(epoll)
            throw TransportFailure(operation: "create an eventfd", code: -wakeup)
        }
        self.epoll = epoll
        self.wakeup = wakeup
        let added = weir_epoll_control(epoll, 0, wakeup, IOEvents.readable.rawValue, 0)
        guard added == 0 else {
            close(epoll)
            close(wakeup)
            throw TransportFailure(operation: "watch an eventfd", code: -added)
        }
        var started = pthread_t()
        let loop = Unmanaged.passRetained(self)
        let code = pthread_create(
            &started, nil,
            { argument in
                guard let argument else { return nil }
                Unmanaged<EventLoop>.fromOpaque(argument).takeRetainedValue().threadMain()
                return nil
            }, loop.toOpaque())
        guard code == 0 else {
            loop.release()
            close(epoll)
            close(wakeup)
            throw TransportFailure(operation: "start the thread \(name)", code: code)
        }
        thread.withLock { $0 = started }
    }

    /// Whether the caller runs on the loop's thread.
    package var isCurrent: Bool { threadID.load(ordering: .relaxed) == UInt(pthread_self()) }

    /// Runs a closure on the loop's thread, later.
    ///
    /// - Returns: False when the loop has ended: the closure will not run.
    @discardableResult
    package func run(_ body: @escaping @Sendable () -> Void) -> Bool {
        let (accepted, wake) = inbox.withLock { inbox -> (Bool, Bool) in
            guard !inbox.stopped else { return (false, false) }
            inbox.closures.append(body)
            defer { inbox.sleeping = false }
            return (true, inbox.sleeping)
        }
        if wake { weir_eventfd_signal(wakeup) }
        return accepted
    }

    /// Runs a closure on the loop's thread: at once when the caller is on it, else later.
    ///
    /// - Returns: False when the loop has ended: the closure will not run.
    @discardableResult
    package func perform(_ body: @escaping @Sendable () -> Void) -> Bool {
        guard isCurrent else { return run(body) }
        body()
        return true
    }

    /// Ends the loop after the closures that it already has, tells every handler, and waits for the thread, unless called on it.
    package func shutDown() {
        run { [self] in inbox.withLock { $0.stopping = true } }
        guard !isCurrent, let thread = thread.withLock({ $0.take() }) else { return }
        pthread_join(thread, nil)
    }

    // MARK: On the loop's thread

    /// Nanoseconds of the monotonic clock.
    package var now: Int64 { weir_monotonic_nanoseconds() }

    /// Runs a closure after a time, on the loop's thread. May be called on it only.
    @discardableResult
    package func schedule(after delay: Duration, _ body: @escaping @Sendable () -> Void) -> TimerID {
        assertOnLoop()
        let id = takeID()
        timers.add(due: now + max(0, delay.clampedNanoseconds), id: id, body)
        return TimerID(rawValue: id)
    }

    /// Forgets a timer. May be called on the loop's thread only; one that has fired is no error.
    package func cancel(_ timer: TimerID) {
        assertOnLoop()
        timers.remove(timer.rawValue)
    }

    /// Runs a closure when the loop ends, unless ``cancelAtStop(_:)`` comes first: for those that wait for nothing but a timer.
    func atStop(_ body: @escaping @Sendable () -> Void) -> UInt64 {
        assertOnLoop()
        let id = takeID()
        stopHandlers[id] = body
        return id
    }

    func cancelAtStop(_ id: UInt64) {
        assertOnLoop()
        stopHandlers[id] = nil
    }

    /// Watches a descriptor. The loop holds the handler until ``deregister(_:)``, and never closes the descriptor.
    package func register(
        _ descriptor: Int32, for events: IOEvents, _ handler: any EventHandler
    ) throws(TransportFailure) -> RegistrationID {
        assertOnLoop()
        let id = takeID()
        let code = weir_epoll_control(epoll, 0, descriptor, events.rawValue, id)
        guard code == 0 else { throw TransportFailure(operation: "watch a descriptor", code: -code) }
        registrations[id] = handler
        descriptors[id] = descriptor
        return RegistrationID(rawValue: id)
    }

    package func change(_ registration: RegistrationID, to events: IOEvents) {
        assertOnLoop()
        guard let descriptor = descriptors[registration.rawValue] else { return }
        _ = weir_epoll_control(epoll, 1, descriptor, events.rawValue, registration.rawValue)
    }

    /// Stops watching; call it before the descriptor is closed. Events already fetched for it are dropped.
    package func deregister(_ registration: RegistrationID) {
        assertOnLoop()
        registrations[registration.rawValue] = nil
        guard let descriptor = descriptors.removeValue(forKey: registration.rawValue) else { return }
        _ = weir_epoll_control(epoll, 2, descriptor, 0, 0)
    }

    package func assertOnLoop() {
        precondition(isCurrent, "the state of an event loop may be touched on its own thread only")
    }

    private func takeID() -> UInt64 {
        defer { nextID += 1 }
        return nextID
    }

    private func threadMain() {
        threadID.store(UInt(pthread_self()), ordering: .relaxed)
        weir_set_thread_name(name)
        var events = [weir_event](repeating: weir_event(), count: Int(WEIR_EVENTS_MAX))
        while true {
            runClosures()
            runTimers()
            let (pending, stopping) = inbox.withLock { inbox in
                inbox.sleeping = inbox.closures.isEmpty
                return (!inbox.closures.isEmpty, inbox.stopping)
            }
            if stopping { break }
            let count = weir_epoll_wait(epoll, &events, pending ? 0 : millisecondsToNextTimer())
            inbox.withLock { $0.sleeping = false }
            guard count > 0 else { continue }
            for event in events[..<Int(count)] {
                if event.token == 0 {
                    weir_eventfd_drain(wakeup)
                } else {
                    registrations[event.token]?.ready(IOEvents(rawValue: event.events))
                }
            }
        }
        tearDown()
    }

    private func runClosures() {
        let closures = inbox.withLock { inbox in
            let taken = inbox.closures
            inbox.closures = []
            return taken
        }
        for closure in closures { closure() }
    }

    private func runTimers() {
        // Those added meanwhile wait for the next round, so that a timer of no delay cannot starve the descriptors.
        let now = now
        while let body = timers.takeDue(now: now) { body() }
    }

    private func millisecondsToNextTimer() -> Int32 {
        guard let due = timers.nextDue() else { return -1 }
        let wait = due - now
        return wait <= 0 ? 0 : Int32(min((wait + 999_999) / 1_000_000, 60_000))
    }

    private func tearDown() {
        isStopping = true
        timers.removeAll()
        for id in stopHandlers.keys.sorted() { stopHandlers.removeValue(forKey: id)?() }
        for id in registrations.keys.sorted() { registrations[id]?.loopStopped() }
        registrations = [:]
        descriptors = [:]
        // Handlers may have submitted closures; those that come later are refused.
        while true {
            let done = inbox.withLock { inbox in
                inbox.stopped = inbox.closures.isEmpty
                return inbox.stopped
            }
            if done { break }
            runClosures()
        }
        timers.removeAll()
        close(epoll)
        close(wakeup)
    }
}

extension Duration {
    /// Whole nanoseconds, within what an Int64 holds (292 years).
    package var clampedNanoseconds: Int64 {
        let (seconds, attoseconds) = components
        let (product, overflow) = seconds.multipliedReportingOverflow(by: 1_000_000_000)
        guard !overflow else { return seconds < 0 ? .min / 4 : .max / 4 }
        return min(max(product, .min / 4), .max / 4) + attoseconds / 1_000_000_000
    }
}
