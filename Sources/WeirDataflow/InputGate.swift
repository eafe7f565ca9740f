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
    /// The alignment of a checkpoint was given up because a newer barrier came.
    case alignmentCanceled(CheckpointID)
    /// The data of all channels has ended.
    case endOfData
}

/// The receiving side of a task: all channels of all its edges.
///
/// **Alignment.** After a channel's barrier the channel is held back until the barrier came on all others, so that no row behind the barrier
/// gets into the snapshot. A channel whose data has ended counts as aligned: nothing more can come from it. A newer barrier cancels an older
/// alignment; barriers of checkpoints that were begun, canceled or aborted before are dropped.
///
/// **Watermarks.** The gate's watermark is the lowest of the channels that are not idle, and never goes back. `Int64.max` is not passed on: it
/// is the end of data, which is an event of its own.
package struct InputGate {
    private struct Channel {
        let channel: any InputChannel
        let input: Int
        var watermark = Int64.min
        var isIdle = false
        /// Behind the barrier of the alignment under way.
        var isHeldBack = false
        var hasEnded = false
    }

    private var channels: [Channel]
    /// Where the next look around begins.
    private var turn = 0
    private var events = FIFO<GateEvent>()
    private var alignment: (barrier: Barrier, missing: Int)?
    /// No checkpoint up to this one is of interest any more.
    private var closedUpTo: UInt64 = 0
    /// Checkpoints above ``closedUpTo`` that were aborted before their barrier came.
    private var aborted: Set<UInt64> = []
    private var watermark = Int64.min
    private var isIdle = false
    private var open: Int

    /// - Parameter channels: Each with the input of the operator that its rows belong to.
    package init(_ channels: [(channel: any InputChannel, input: Int)]) {
        self.channels = channels.map { Channel(channel: $0.channel, input: $0.input) }
        open = channels.count
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
            if channels[index].isHeldBack { continue }
            guard let element = try channels[index].channel.pop() else { continue }
            if case .batch(let batch) = element {
                return .batch(batch, input: channels[index].input)
            }
            handle(element, from: index)
            if let event = events.popFirst() { return event }
            looked = 0
        }
        return nil
    }

    /// The checkpoint is not wanted any more: its barriers hold nothing back.
    package mutating func abort(_ checkpoint: CheckpointID) {
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
        guard var alignment, !channels[index].isHeldBack else { return }
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

    private mutating func handle(_ barrier: Barrier, from index: Int) {
        guard barrier.checkpoint > closedUpTo, !aborted.contains(barrier.checkpoint) else { return }
        if let current = alignment?.barrier.checkpoint, current != barrier.checkpoint {
            guard barrier.checkpoint > current else { return }
            release()
            events.append(.alignmentCanceled(CheckpointID(current)))
        }
        if alignment == nil {
            closedUpTo = barrier.checkpoint - 1
            aborted = aborted.filter { $0 > barrier.checkpoint }
            alignment = (barrier, missing: open)
        }
        // From an ended channel the barrier was not waited for, but it may be the first.
        guard !channels[index].isHeldBack else { return }
        channels[index].isHeldBack = true
        if !channels[index].hasEnded { alignment?.missing -= 1 }
        completeIfAligned()
    }

    private mutating func completeIfAligned() {
        guard let alignment, alignment.missing == 0 else { return }
        closedUpTo = alignment.barrier.checkpoint
        release()
        events.append(.barrier(alignment.barrier))
    }

    private mutating func release() {
        alignment = nil
        for index in channels.indices { channels[index].isHeldBack = false }
    }
}
