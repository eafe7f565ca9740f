import Synchronization

/// The receiving end of one channel from another worker.
///
/// ``receive()`` belongs to one thread, that of the consuming task; all else may come from any.
package final class RemoteInput: Sendable {
    private struct State {
        var queue: [[UInt8]] = []
        var head = 0
        /// What the sender may still send. Negative after a frame that cost more than the window.
        var credits = 0
        /// Units of taken frames that were not granted anew yet.
        var owed = 0
        var isOwing = false
        var nextSequence: UInt32 = 0
        var receiver: ExchangeReceiver?
        var isClosed = false
    }

    enum Arrival: Equatable {
        case accepted
        case violation(String)
    }

    package let channel: UInt32
    private let bufferBytes: Int
    private let window: Int
    private let returnThreshold: Int
    private let wake: @Sendable () -> Void
    private let state = Mutex(State())
    /// So that a look for announcements, of which there are few, takes no lock.
    private let hasAnnouncement = Atomic<Bool>(false)
    private let announcement = Mutex<[UInt8]?>(nil)

    init(channel: UInt32, options: DataExchangeOptions, wake: @escaping @Sendable () -> Void) {
        self.channel = channel
        self.wake = wake
        bufferBytes = options.bufferBytes
        window = options.creditsPerChannel
        returnThreshold = CreditRule.returnThreshold(window: options.creditsPerChannel)
    }

    /// Takes the next frame; nil: none is here, and the waker is called when one comes.
    ///
    /// Taking a frame gives its credit back to the sender.
    package func receive() -> [UInt8]? {
        var creditor: ExchangeReceiver?
        let frame = state.withLock { state -> [UInt8]? in
            guard state.head < state.queue.count else { return nil }
            let frame = state.queue[state.head]
            state.queue[state.head] = []
            state.head += 1
            if state.head == state.queue.count {
                state.queue.removeAll(keepingCapacity: true)
                state.head = 0
            } else if state.head >= 64 {
                state.queue.removeFirst(state.head)
                state.head = 0
            }
            state.owed += CreditRule.cost(of: frame.count, bufferBytes: bufferBytes)
            if state.owed >= returnThreshold, !state.isOwing {
                state.isOwing = true
                creditor = state.receiver
            }
            return frame
        }
        creditor?.markOwing(self)
        return frame
    }

    /// The newest frame that was sent past the channel's data since the last call.
    package func takeAnnouncement() -> [UInt8]? {
        guard hasAnnouncement.load(ordering: .acquiring) else { return nil }
        return announcement.withLock { announcement in
            hasAnnouncement.store(false, ordering: .relaxed)
            return announcement.take()
        }
    }

    /// Frames that wait.
    package var count: Int { state.withLock { $0.queue.count - $0.head } }

    /// Whether the epoch or its connection ended. Frames that came before can still be taken unless the epoch was closed here.
    package var isClosed: Bool { state.withLock { $0.isClosed } }

    // MARK: On the loop's thread

    /// - Returns: The first grant.
    func attach(_ receiver: ExchangeReceiver) -> UInt32 {
        state.withLock { state in
            state.receiver = receiver
            state.credits = window
            return UInt32(window)
        }
    }

    /// Takes a frame from the network. Checks the rules by which the sender is bound, so that a broken one cannot fill the memory.
    func arrive(_ frame: [UInt8], sequence: UInt32) -> Arrival {
        var wakes = false
        let arrival = state.withLock { state -> Arrival in
            guard !state.isClosed else { return .accepted }
            guard sequence == state.nextSequence else {
                return .violation("frame \(sequence) of channel \(channel) came in the place of frame \(state.nextSequence)")
            }
            let cost = CreditRule.cost(of: frame.count, bufferBytes: bufferBytes)
            guard state.credits >= CreditRule.needed(cost: cost, window: window) else {
                return .violation("channel \(channel) sent more than its credits")
            }
            state.credits -= cost
            state.nextSequence &+= 1
            wakes = state.queue.isEmpty
            state.queue.append(frame)
            return .accepted
        }
        if wakes { wake() }
        return arrival
    }

    func arrive(announcement frame: [UInt8]) {
        announcement.withLock { $0 = frame }
        hasAnnouncement.store(true, ordering: .releasing)
        wake()
    }

    /// Takes the units to grant anew.
    func takeOwed() -> UInt32 {
        state.withLock { state in
            state.isOwing = false
            let units = state.owed
            state.owed = 0
            state.credits += units
            return UInt32(units)
        }
    }

    /// The connection is gone: nothing comes any more.
    func detach() {
        state.withLock { state in
            state.isClosed = true
            state.receiver = nil
        }
        wake()
    }

    func close() {
        state.withLock { state in
            state.isClosed = true
            state.receiver = nil
            state.queue = []
            state.head = 0
        }
        wake()
    }
}
