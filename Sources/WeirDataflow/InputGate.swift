package import WeirBase

/// What the input of a task has for it.
package enum GateEvent {
    case batch(AnyBatch, input: Int)
    /// Event time of the whole input: rises from one event to the next.
    case watermark(Int64)
    /// All channels are idle, or no longer all.
    case status(idle: Bool)
    /// The barrier came on every channel: what was delivered belongs to its checkpoint, what follows does not.
    case barrier(Barrier)
    /// The barrier overtook what the channels have in flight. What was delivered belongs to the checkpoint; what was not, and was sent before
    /// the barrier, is in the state, which is fulfilled once the barrier came on every channel.
    case overtakingBarrier(Barrier, inFlight: DeferredState)
    /// The alignment of a checkpoint was given up because a newer barrier came.
    case alignmentCanceled(CheckpointID)
    /// The data of all channels has ended.
    case endOfData
}

/// The receiving side of a task: all channels of all its edges.
///
/// **Alignment.** After a channel's barrier the channel is held back until the barrier came on all others, so that no row behind the barrier
/// gets into the snapshot; unless the job is satisfied with rows that come at least once. A channel whose data has ended counts as aligned:
/// nothing more can come from it. A newer barrier cancels an older alignment; barriers of checkpoints that were begun, canceled or aborted
/// before are dropped. Where barriers may overtake rows: see `InputGate+Overtaking.swift`.
///
/// **Watermarks.** The gate's watermark is the lowest of the channels that are not idle, and never goes back. `Int64.max` is not passed on: it
/// is the end of data, which is an event of its own.
package struct InputGate {
    struct Channel {
        let channel: any InputChannel
        let input: Int
        /// Nil where barriers must not overtake its rows.
        let origin: ChannelOrigin?
        var watermark = Int64.min
        var isIdle = false
        /// The barrier of the alignment under way came.
        var isAligned = false
        var hasEnded = false
        /// Taken from the channel, or restored, and not yet handed out: in front of what the channel has.
        var queue = FIFO<StreamElement>()
        /// How many of the queue are restored ones, which are in front.
        var restored = 0
        /// The newest barrier that the sender announced.
        var announced: UInt64 = 0
    }

    var channels: [Channel]
    let mode: BarrierAlignment
    /// Where the next look around begins.
    private var turn = 0
    var events = FIFO<GateEvent>()
    var alignment: (barrier: Barrier, missing: Int)?
    var recording: ChannelRecording?
    /// Restored elements that were not handed out. They come before anything new: rows of a key must keep their order.
    var restoredCount = 0
    /// No checkpoint up to this one is of interest any more.
    var closedUpTo: UInt64 = 0
    /// Checkpoints above ``closedUpTo`` that were aborted before their barrier came.
    var aborted: Set<UInt64> = []
    private var watermark = Int64.min
    private var isIdle = false
    private var open: Int
    /// Whether barriers may overtake the rows of every channel.
    let canOvertake: Bool

    /// - Parameter channels: Each with the input of the operator that its rows belong to.
    package init(_ channels: [(channel: any InputChannel, input: Int)], mode: BarrierAlignment = .aligned) {
        self.init(channels.map { (channel: $0.channel, input: $0.input, origin: nil) }, mode: mode)
    }

    init(_ channels: [(channel: any InputChannel, input: Int, origin: ChannelOrigin?)], mode: BarrierAlignment) {
        self.channels = channels.map { Channel(channel: $0.channel, input: $0.input, origin: $0.origin) }
        self.mode = mode
        open = channels.count
        canOvertake = mode.overtakesAfter != nil && !channels.isEmpty && channels.allSatisfy { $0.origin != nil }
    }

    package var hasEnded: Bool { open == 0 && events.isEmpty }
    package var isAligning: Bool { alignment != nil }

    /// The next event, or nil if nothing can be taken now.
    ///
    /// - Throws: What a channel throws.
    package mutating func next() throws -> GateEvent? {
        if let event = events.popFirst() { return event }
        // One whole round without an element: nothing there.
        var looked = 0
        while looked < channels.count {
            let index = turn
            turn = index + 1 == channels.count ? 0 : index + 1
            looked += 1
            if channels[index].isAligned, mode != .atLeastOnce { continue }
            guard let element = try take(index) else { continue }
            if case .batch(let batch) = element {
                return .batch(batch, input: channels[index].input)
            }
            handle(element, from: index)
            if let event = events.popFirst() { return event }
            looked = 0
        }
        return nil
    }

    /// An event that is known already.
    mutating func takeEvent() -> GateEvent? { events.popFirst() }

    private mutating func take(_ index: Int) throws -> StreamElement? {
        if restoredCount > 0 {
            guard channels[index].restored > 0 else { return nil }
            channels[index].restored -= 1
            restoredCount -= 1
        }
        if let element = channels[index].queue.popFirst() { return element }
        guard let element = try channels[index].channel.pop() else { return nil }
        if recording != nil { try record(element, from: index) }
        return element
    }

    /// The checkpoint is not wanted any more: its barriers hold nothing back.
    package mutating func abort(_ checkpoint: CheckpointID) {
        cancelRecording(upTo: checkpoint.rawValue, because: "the checkpoint was aborted", only: true)
        if let alignment, alignment.barrier.checkpoint == checkpoint.rawValue {
            closedUpTo = checkpoint.rawValue
            release()
        } else if checkpoint.rawValue > closedUpTo {
            aborted.insert(checkpoint.rawValue)
        }
    }

    private mutating func handle(_ element: StreamElement, from index: Int) {
        switch element {
        case .batch: break  // Handed out by the caller, uncopied.
        case .watermark(let watermark):
            guard watermark > channels[index].watermark else { return }
            channels[index].watermark = watermark
            // A watermark is a sign of life: a sender that forgets to say so would hold time still for ever.
            channels[index].isIdle = false
            updateTime()
        case .status(let idle):
            guard channels[index].isIdle != idle else { return }
            channels[index].isIdle = idle
            updateTime()
        case .barrier(let barrier): handle(barrier, from: index)
        case .endOfData: end(index)
        }
    }

    private mutating func end(_ index: Int) {
        guard !channels[index].hasEnded else { return }
        channels[index].hasEnded = true
        channels[index].watermark = .max
        open -= 1
        if open == 0 {
            events.append(.endOfData)
        } else {
            updateTime()
        }
        guard var alignment, !channels[index].isAligned else { return }
        alignment.missing -= 1
        self.alignment = alignment
        completeIfAligned()
    }

    private mutating func updateTime() {
        var lowest = Int64.max
        var active = false
        for channel in channels where !channel.hasEnded && !channel.isIdle {
            active = true
            lowest = min(lowest, channel.watermark)
        }
        if active, lowest > watermark, lowest < .max {
            watermark = lowest
            if isIdle {
                isIdle = false
                events.append(.status(idle: false))
            }
            events.append(.watermark(lowest))
        } else if active == isIdle {
            isIdle = !active
            if isIdle { passIdleTime() }
            events.append(.status(idle: isIdle))
        }
    }

    /// When all channels are idle, the furthest of them decides: all of them said that they wait for nothing below.
    private mutating func passIdleTime() {
        var highest = Int64.min
        for channel in channels where !channel.hasEnded { highest = max(highest, channel.watermark) }
        guard highest > watermark, highest < .max else { return }
        watermark = highest
        events.append(.watermark(highest))
    }

    func isWanted(_ checkpoint: UInt64) -> Bool { checkpoint > closedUpTo && !aborted.contains(checkpoint) }

    private mutating func handle(_ barrier: Barrier, from index: Int) {
        guard isWanted(barrier.checkpoint) else { return }
        if let current = alignment?.barrier.checkpoint, current != barrier.checkpoint {
            guard barrier.checkpoint > current else { return }
            cancelAlignment()
        }
        if alignment == nil {
            closedUpTo = barrier.checkpoint - 1
            aborted = aborted.filter { $0 > barrier.checkpoint }
            alignment = (barrier, missing: open)
        }
        // From an ended channel the barrier was not waited for, but it may be the first.
        guard !channels[index].isAligned else { return }
        channels[index].isAligned = true
        if !channels[index].hasEnded { alignment?.missing -= 1 }
        completeIfAligned()
    }

    mutating func cancelAlignment() {
        guard let current = alignment?.barrier.id else { return }
        release()
        events.append(.alignmentCanceled(current))
    }

    private mutating func completeIfAligned() {
        guard let alignment, alignment.missing == 0 else { return }
        closedUpTo = alignment.barrier.checkpoint
        release()
        events.append(.barrier(alignment.barrier))
    }

    mutating func release() {
        alignment = nil
        for index in channels.indices { channels[index].isAligned = false }
    }
}
