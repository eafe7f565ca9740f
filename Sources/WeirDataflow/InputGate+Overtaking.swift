import WeirBase

/// Unaligned barriers (FLIP-76).
///
/// A sender puts its barrier into each channel in order, behind the rows that it sent before, and besides announces it past them. At the first
/// announcement the gate passes the barrier on. From then on whatever was sent in front of the barrier and is not yet delivered is written
/// down for the checkpoint, channel by channel, until the barrier itself comes. Channels whose sender has announced are emptied at once up to
/// their barrier, into a queue of the gate: this makes room for what the sender could not send yet, so that all of it, from the sender's
/// waiting elements to the network's buffers, comes within a few rounds however slow the task is. Nothing else is taken ahead of its turn, so
/// the queue holds at most what the channel and its sender held at the barrier.
extension InputGate {
    /// Looks for barriers that overtake what is queued.
    ///
    /// - Parameter wallTime: Milliseconds since 1970.
    /// - Returns: Whether such a barrier is among the events, which are to be handled before anything else, even by a task that is blocked.
    /// - Throws: What a channel throws.
    mutating func lookOut(wallTime: Int64) throws -> Bool {
        guard canOvertake else { return false }
        var newest: Barrier?
        for index in channels.indices {
            guard let barrier = channels[index].channel.takeAnnouncement() else { continue }
            channels[index].announced = max(channels[index].announced, barrier.checkpoint)
            if isWanted(barrier.checkpoint), barrier.checkpoint > newest?.checkpoint ?? 0 { newest = barrier }
        }
        // The age of a checkpoint counts here too: the senders that have not announced it may not have passed it themselves.
        if newest == nil, let alignment, mode.overtakes(alignment.barrier, wallTime: wallTime) { newest = alignment.barrier }
        if let newest { try overtake(newest) }
        try emptyAnnounced()
        return newest != nil
    }

    /// Whether some of what was sent before an announced barrier is still on its way.
    var isEmptying: Bool {
        guard let recording else { return false }
        return channels.indices.contains { recording.open[$0] != nil && channels[$0].announced >= recording.checkpoint }
    }

    /// When the alignment under way becomes unaligned, milliseconds since 1970.
    var overtakingBegins: Int64? {
        guard canOvertake, let alignment else { return nil }
        return mode.overtakingBegins(alignment.barrier)
    }

    private mutating func overtake(_ barrier: Barrier) throws {
        if alignment?.barrier.checkpoint != barrier.checkpoint { cancelAlignment() }
        cancelRecording(upTo: barrier.checkpoint, because: "a newer barrier came before all of its rows in flight")
        closedUpTo = barrier.checkpoint
        aborted = aborted.filter { $0 > barrier.checkpoint }
        var recording = ChannelRecording(checkpoint: barrier.checkpoint, state: DeferredState(), open: [])
        for (index, channel) in channels.enumerated() {
            recording.open.append(channel.hasEnded || channel.isAligned ? nil : [])
            guard recording.open[index] != nil, let origin = channel.origin else { continue }
            var ends = false
            try channel.queue.forEach { element in
                try recording.record(element, channel: index, codec: origin.codec)
                if case .endOfData = element { ends = true }
            }
            if ends { recording.close(index, origin) }
        }
        release()
        self.recording = recording
        events.append(.overtakingBarrier(barrier, inFlight: recording.state))
        finishIfRecorded()
    }

    /// Takes the rest of what was sent before the barrier from the channels that are known to have it.
    private mutating func emptyAnnounced() throws {
        for index in channels.indices {
            // Asked anew each time, without a copy: the recording must stay the only owner of its arrays.
            while recording?.open[index] != nil, channels[index].announced >= recording?.checkpoint ?? .max,
                let element = try channels[index].channel.pop()
            {
                try record(element, from: index)
                if case .barrier(let barrier) = element, !isWanted(barrier.checkpoint) { continue }
                channels[index].queue.append(element)
            }
        }
    }

    /// An element was taken from a channel while rows in flight are written down.
    mutating func record(_ element: StreamElement, from index: Int) throws {
        guard self.recording?.open[index] != nil, let origin = channels[index].origin, var recording else { return }
        // Out of the gate while it changes, so that its arrays are not copied.
        self.recording = nil
        var isLost = false
        switch element {
        case .barrier(let barrier):
            if barrier.checkpoint == recording.checkpoint { recording.close(index, origin) }
            isLost = barrier.checkpoint > recording.checkpoint
        case .endOfData: recording.close(index, origin)
        case .batch, .watermark, .status: try recording.record(element, channel: index, codec: origin.codec)
        }
        self.recording = recording
        if isLost {
            cancelRecording(upTo: recording.checkpoint, because: "a newer barrier came in the place of the checkpoint's")
        } else {
            finishIfRecorded()
        }
    }

    private mutating func finishIfRecorded() {
        guard let recording, recording.isComplete else { return }
        self.recording = nil
        recording.state.fulfil(.success(recording.done.map { $0.encoded() }))
    }

    /// Gives up what is being written down: the task declines the checkpoint.
    ///
    /// - Parameter only: Whether the checkpoint alone is meant, and not older ones.
    mutating func cancelRecording(upTo checkpoint: UInt64, because reason: String, only: Bool = false) {
        guard let recording, only ? recording.checkpoint == checkpoint : recording.checkpoint <= checkpoint else { return }
        self.recording = nil
        recording.state.fulfil(
            .failure(
                JobFailure(
                    domain: .system, recovery: .restart, message: "the rows in flight of checkpoint \(recording.checkpoint) are incomplete",
                    cause: reason)))
    }

    /// Puts an element in front of all that the channel will have. Before the first ``next()``.
    mutating func restore(_ element: StreamElement, to channel: Int) {
        channels[channel].queue.append(element)
        channels[channel].restored += 1
        restoredCount += 1
    }
}
