public import WeirDataflow

/// The way out of an operator: batches to fill, and the collector that takes them.
///
/// Final and inlinable, so that a loop over rows that is specialised in the job's module writes rows straight to memory.
public final class RowOutput<Row: Sendable> {
    /// The batch under way, in raw memory: properties that are written for every row cost an exclusivity check each.
    @usableFromInline
    struct Lane {
        @usableFromInline var rows: UnsafeMutablePointer<Row>
        @usableFromInline var timestamps: UnsafeMutablePointer<Int64>
        @usableFromInline var count: Int
        @usableFromInline var capacity: Int

        init(_ batch: Batch<Row>) {
            rows = batch.rows
            timestamps = batch.timestamps
            count = 0
            capacity = batch.capacity
        }
    }

    @usableFromInline let pool: BatchPool<Row>
    @usableFromInline let collector: Collector<Row>
    @usableFromInline let lane: UnsafeMutablePointer<Lane>
    /// What ``lane`` fills; its own count is set when it goes.
    private var pending: Batch<Row>

    package init(_ collector: Collector<Row>) {
        self.collector = collector
        pool = BatchPool()
        pending = pool.take()
        lane = .allocate(capacity: 1)
        lane.initialize(to: Lane(pending))
    }

    deinit {
        pending.count = lane.pointee.count
        lane.deallocate()
    }

    /// An empty batch with room for `count` rows, for transformations that emit whole batches.
    @inlinable
    public func batch(capacity count: Int) -> Batch<Row> { count <= pool.capacity ? pool.take() : Batch(capacity: count) }

    /// Emits a whole batch. Not to be mixed with ``append(_:timestamp:)``: rows would overtake each other.
    @inlinable
    public func emit(_ batch: Batch<Row>) throws { try collector.emit(batch) }

    /// Adds a row to the batch under way, and emits the batch once it is full.
    @inlinable
    @inline(__always)
    public func append(_ row: consuming Row, timestamp: Int64) throws {
        let index = lane.pointee.count
        (lane.pointee.rows + index).initialize(to: row)
        lane.pointee.timestamps[index] = timestamp
        lane.pointee.count = index &+ 1
        if index &+ 1 == lane.pointee.capacity { try emitPending() }
    }

    /// Emits the batch under way, if it has rows.
    public func flush() throws {
        if lane.pointee.count > 0 { try emitPending() }
    }

    @usableFromInline
    @inline(never)
    func emitPending() throws {
        let full = pending
        full.count = lane.pointee.count
        pending = pool.take()
        lane.pointee = Lane(pending)
        try collector.emit(full)
    }
}
