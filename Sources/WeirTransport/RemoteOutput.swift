import Synchronization

/// The sending end of one channel to another worker.
///
/// ``trySend(_:)`` belongs to one thread, that of the producing task; all else may come from any.
package final class RemoteOutput: Sendable {
    private struct State {
        var queue: [[UInt8]] = []
        var announcement: [UInt8]?
        /// Negative after a frame that cost more than the window.
        var credits = 0
        /// The receiver's first grant: all credits there are.
        var window = 0
        var wantsWake = false
        var isReady = false
        var sender: ExchangeSender?
        var isClosed = false
    }

    package let channel: UInt32
    private let bufferBytes: Int
    private let frameBytesMax: Int
    private let wake: @Sendable () -> Void
    private let state = Mutex(State())

    init(channel: UInt32, options: DataExchangeOptions, wake: @escaping @Sendable () -> Void) {
        self.channel = channel
        self.wake = wake
        bufferBytes = options.bufferBytes
        frameBytesMax = options.frameBytesMax
    }

    /// Hands a frame to the network.
    ///
    /// - Returns: False when the receiver's credits are used up, or the connection is not there yet or is gone: nothing was taken, and
    ///   the waker is called once it is worth trying again. Never true for more than ``DataExchangeOptions/frameBytesMax`` bytes, which
    ///   fails the epoch.
    package func trySend(_ frame: [UInt8]) -> Bool {
        let cost = CreditRule.cost(of: frame.count, bufferBytes: bufferBytes)
        guard frame.count <= frameBytesMax else {
            state.withLock { $0.sender }?.refuse(frameOf: frame.count, limit: frameBytesMax)
            return false
        }
        var (sent, sender): (Bool, ExchangeSender?) = (false, nil)
        state.withLock { state in
            guard !state.isClosed, state.window > 0, state.credits >= CreditRule.needed(cost: cost, window: state.window) else {
                state.wantsWake = true
                return
            }
            state.credits -= cost
            state.queue.append(frame)
            sent = true
            if !state.isReady {
                state.isReady = true
                sender = state.sender
            }
        }
        sender?.markReady(self)
        return sent
    }

    /// What an announcement takes at most: it is not paid for.
    package static let announcementBytesMax = 64

    /// Sends a small frame past the channel's data, without credits. One that has not left gives way to a newer one.
    package func announce(_ frame: [UInt8]) {
        precondition(frame.count <= Self.announcementBytesMax, "an announcement is a control element")
        var sender: ExchangeSender?
        state.withLock { state in
            guard !state.isClosed else { return }
            state.announcement = frame
            if !state.isReady {
                state.isReady = true
                sender = state.sender
            }
        }
        sender?.markReady(self)
    }

    /// Whether a frame of at most one buffer would be taken now.
    package var hasCredit: Bool { state.withLock { !$0.isClosed && $0.credits > 0 } }

    /// Whether the epoch or its connection ended.
    package var isClosed: Bool { state.withLock { $0.isClosed } }

    // MARK: On the loop's thread

    func attach(_ sender: ExchangeSender) {
        state.withLock { $0.sender = sender }
    }

    /// Takes what is queued; `body` gets it in order.
    func drain(_ body: ([UInt8]) -> Void) {
        let frames = state.withLock { state in
            state.isReady = false
            let taken = state.queue
            state.queue = []
            return taken
        }
        for frame in frames { body(frame) }
    }

    func takeAnnouncement() -> [UInt8]? { state.withLock { $0.announcement.take() } }

    /// - Returns: False for a grant that the protocol forbids.
    func grant(_ units: UInt32) -> Bool {
        var (isValid, wakes) = (false, false)
        state.withLock { state in
            if state.window == 0 { state.window = Int(units) }
            guard units > 0, state.credits + Int(units) <= state.window else { return }
            isValid = true
            state.credits += Int(units)
            // A frame that costs more than this asks again when it was refused again.
            wakes = state.wantsWake && !state.isClosed
            state.wantsWake = false
        }
        if wakes { wake() }
        return isValid
    }

    func close() {
        state.withLock { state in
            state.isClosed = true
            state.sender = nil
            state.queue = []
            state.announcement = nil
        }
        wake()
    }
}
