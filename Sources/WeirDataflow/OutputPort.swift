import WeirGraph

/// The sending side of one edge of one task: a channel to each subtask that it reaches, and what waits for room in them.
///
/// Nothing is lost or reordered when a channel is full: elements wait here, channel by channel, and the task takes no input until they went.
public final class OutputPort {
    let channels: [any OutputChannel]
    private var waiting: [FIFO<StreamElement>]
    private var waitingCount = 0
    /// Whether some channel has taken an element which it could not send yet.
    private var hasBacklog = false
    let rows = Counter()
    let batches = Counter()

    package init(channels: [any OutputChannel]) {
        precondition(!channels.isEmpty, "an edge without channels")
        self.channels = channels
        waiting = Array(repeating: FIFO(), count: channels.count)
    }

    package var channelCount: Int { channels.count }

    /// Whether the task must not take input.
    package var isBlocked: Bool { waitingCount > 0 || hasBacklog }

    package func send(_ batch: AnyBatch, to channel: Int) throws {
        guard batch.count > 0 else {
            batch.recycle()
            return
        }
        rows.add(batch.count)
        batches.add(1)
        try send(.batch(batch), to: channel)
    }

    /// Sends an element without rows to all subtasks.
    package func broadcast(_ element: StreamElement) throws {
        for channel in channels.indices { try send(element, to: channel) }
    }

    /// Tells all subtasks of a barrier past whatever is on its way to them.
    func announce(_ barrier: Barrier) {
        for channel in channels { channel.announce(barrier) }
    }

    private func send(_ element: StreamElement, to channel: Int) throws {
        if waiting[channel].isEmpty, try channels[channel].tryPush(element) {
            if !hasBacklog, !channels[channel].drain() { hasBacklog = true }
            return
        }
        waiting[channel].append(element)
        waitingCount += 1
    }

    /// Sends what waits, as far as there is room.
    ///
    /// - Returns: Whether anything went.
    package func drain() throws -> Bool {
        guard isBlocked else { return false }
        let before = waitingCount
        let hadBacklog = hasBacklog
        hasBacklog = false
        for channel in channels.indices {
            while let element = waiting[channel].first, try channels[channel].tryPush(element) {
                _ = waiting[channel].popFirst()
                waitingCount -= 1
            }
            if !channels[channel].drain() { hasBacklog = true }
        }
        return waitingCount < before || (hadBacklog && !hasBacklog)
    }
}

/// The subtask that each key group belongs to.
struct PartitionTable {
    private let maxParallelism: Int
    private let targetOfGroup: [UInt16]

    init(parallelism: Int, maxParallelism: Int) {
        precondition((1...KeyGroups.maxParallelismLimit).contains(maxParallelism) && (1...maxParallelism).contains(parallelism))
        self.maxParallelism = maxParallelism
        targetOfGroup = (0..<maxParallelism).map {
            UInt16(KeyGroups.subtask(keyGroup: $0, parallelism: parallelism, maxParallelism: maxParallelism))
        }
    }

    /// Fills in the target of each hash.
    func fill(_ targets: UnsafeMutablePointer<UInt16>, hashes: UnsafePointer<UInt64>, count: Int) {
        let groups = UInt64(maxParallelism)
        targetOfGroup.withUnsafeBufferPointer { table in
            for row in 0..<count {
                // `KeyGroups.keyGroup`, written out, as a call a row would cost as much as the rest; the tests compare.
                targets[row] = table[Int(truncatingIfNeeded: ((hashes[row] >> 32) &* groups) >> 32)]
            }
        }
    }
}
