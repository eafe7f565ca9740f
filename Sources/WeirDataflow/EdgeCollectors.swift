import WeirGraph

/// Hands rows to the next operator of the chain, by a call.
final class ChainedCollector<Row: Sendable>: Collector<Row> {
    private unowned let node: ChainNode
    init(to node: ChainNode) { self.node = node }

    override func emit(_ batch: Batch<Row>) throws {
        guard batch.count > 0 else {
            batch.recycle()
            return
        }
        try node.process(batch, input: 0)
    }
}

/// Gives rows to several receivers: copies to all but the last.
final class FanOutCollector<Row: Sendable>: Collector<Row> {
    private let targets: [Collector<Row>]
    init(_ targets: [Collector<Row>]) { self.targets = targets }

    override func emit(_ batch: Batch<Row>) throws {
        for target in targets.dropLast() { try target.emit(unsafeDowncast(batch.copied(), to: Batch<Row>.self)) }
        if let last = targets.last { try last.emit(batch) } else { batch.recycle() }
    }

    override func flush() throws {
        for target in targets { try target.flush() }
    }
}

/// Sends all rows to one subtask: the only one (forward), or the first (global).
final class SingleTargetCollector<Row: Sendable>: Collector<Row> {
    private let port: OutputPort
    init(_ port: OutputPort) { self.port = port }

    override func emit(_ batch: Batch<Row>) throws {
        batch.hasKeyHashes = false  // Of a key that was used upstream.
        try port.send(batch, to: 0)
    }
}

/// Sends one batch to each subtask in turn.
final class RebalanceCollector<Row: Sendable>: Collector<Row> {
    private let port: OutputPort
    private var next: Int

    /// - Parameter first: Where to begin; senders begin at different subtasks.
    init(_ port: OutputPort, first: Int) {
        self.port = port
        next = first % port.channelCount
    }

    override func emit(_ batch: Batch<Row>) throws {
        guard batch.count > 0 else {
            batch.recycle()
            return
        }
        batch.hasKeyHashes = false
        try port.send(batch, to: next)
        next = next + 1 == port.channelCount ? 0 : next + 1
    }
}

/// Sends every row to all subtasks.
final class BroadcastCollector<Row: Sendable>: Collector<Row> {
    private let port: OutputPort
    init(_ port: OutputPort) { self.port = port }

    override func emit(_ batch: Batch<Row>) throws {
        batch.hasKeyHashes = false
        for channel in 1..<max(1, port.channelCount) { try port.send(batch.copied(), to: channel) }
        try port.send(batch, to: 0)
    }
}

/// Sends each row to the subtask that owns its key group.
///
/// With one subtask the batch goes whole. With more, rows are gathered a subtask, and go when a batch is full or at a flush.
final class HashCollector<Row: Sendable>: Collector<Row> {
    private let port: OutputPort
    private let table: PartitionTable
    private let hasher: @Sendable (Batch<Row>) -> Void
    private let scatter: RowOperations<Row>.Scatter
    private let pool: BatchPool<Row>
    private let lanes: UnsafeMutablePointer<ScatterLane<Row>>
    private var gathering: [Batch<Row>]
    private var targets: UnsafeMutablePointer<UInt16>
    private var targetsCapacity = Batch<Row>.defaultCapacity

    init(_ port: OutputPort, maxParallelism: Int, operations: RowOperations<Row>, hasher: @escaping @Sendable (Batch<Row>) -> Void) {
        self.port = port
        self.hasher = hasher
        scatter = operations.scatter
        table = PartitionTable(parallelism: port.channelCount, maxParallelism: maxParallelism)
        targets = .allocate(capacity: targetsCapacity)
        lanes = .allocate(capacity: port.channelCount)
        gathering = []
        // Many receivers get smaller batches: what is gathered stays within the cache.
        let pool = BatchPool<Row>(capacity: max(64, min(Batch<Row>.defaultCapacity, 32_768 / port.channelCount)))
        self.pool = pool
        guard port.channelCount > 1 else { return }
        gathering = (0..<port.channelCount).map { _ in pool.take() }
        for (target, batch) in gathering.enumerated() { (lanes + target).initialize(to: ScatterLane(filling: batch)) }
    }

    deinit {
        for (target, batch) in gathering.enumerated() { batch.count = lanes[target].count }
        lanes.deallocate()
        targets.deallocate()
    }

    override func emit(_ batch: Batch<Row>) throws {
        let count = batch.count
        guard count > 0 else {
            batch.recycle()
            return
        }
        hasher(batch)
        batch.hasKeyHashes = true
        guard port.channelCount > 1 else {
            try port.send(batch, to: 0)
            return
        }
        if count > targetsCapacity {
            targets.deallocate()
            targets = .allocate(capacity: count)
            targetsCapacity = count
        }
        table.fill(targets, hashes: batch.keyHashes, count: count)
        var next = 0
        while true {
            next = scatter(batch, next, targets, lanes)
            if next == count { break }
            do {
                try send(Int(targets[next]))
            } catch {
                (batch.rows + next).deinitialize(count: count - next)
                batch.count = 0  // The rows in front were moved out.
                throw error
            }
        }
        batch.count = 0
        batch.recycle()
    }

    override func flush() throws {
        for target in gathering.indices where lanes[target].count > 0 { try send(target) }
    }

    private func send(_ target: Int) throws {
        let batch = gathering[target]
        batch.count = lanes[target].count
        batch.hasKeyHashes = true
        let fresh = pool.take()
        gathering[target] = fresh
        lanes[target] = ScatterLane(filling: fresh)
        try port.send(batch, to: target)
    }
}

extension ScatterLane {
    init(filling batch: Batch<Row>) where Row: Sendable {
        self.init(rows: batch.rows, timestamps: batch.timestamps, hashes: batch.keyHashes, count: 0, capacity: batch.capacity)
    }
}
