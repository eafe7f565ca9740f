import Synchronization

/// A column-less group of owned rows with their timestamps: what moves through a task and between tasks.
///
/// One batch has one owner. Whoever is handed a batch (an operator's ``AnyOperator/process(_:input:)``, a collector's `emit`) owns it, and
/// passes it on, or gives it back with ``recycle()``, or lets it go (then its memory is freed; correct, only slower).
///
/// Not thread-safe: ownership moves between threads through a channel, which orders the accesses.
open class AnyBatch: @unchecked Sendable {  // Guarded by the rule of one owner; channels publish with release and acquire.
    /// A row without event time.
    public static let noTimestamp = Int64.min

    /// The rows that are initialised, from the front. Whoever moves rows out by pointer sets this at once.
    // One owner: checking each access for another one costs a call a row in the job's module.
    @exclusivity(unchecked) public final var count = 0
    /// The most rows that fit.
    public final let capacity: Int
    /// One event time a row, milliseconds since 1970; ``noTimestamp`` for none.
    public final let timestamps: UnsafeMutablePointer<Int64>
    /// One key hash a row if ``hasKeyHashes``; memory is taken at first use.
    @exclusivity(unchecked) @usableFromInline final var hashColumn: UnsafeMutablePointer<UInt64>?
    /// Whether ``keyHashes`` describes the present rows. False after rows changed; a keyed edge fills it in.
    @exclusivity(unchecked) public final var hasKeyHashes = false
    /// Where ``recycle()`` puts the batch; nil while it lies in the pool.
    @usableFromInline final var home: BatchPoolCore?

    @inlinable
    public init(capacity: Int) {
        precondition(capacity > 0, "a batch holds at least one row")
        self.capacity = capacity
        timestamps = .allocate(capacity: capacity)
    }

    deinit {
        timestamps.deallocate()
        hashColumn?.deallocate()
    }

    @inlinable public final var isEmpty: Bool { count == 0 }
    @inlinable public final var isFull: Bool { count == capacity }

    /// The column of key hashes, uninitialised until it is filled; set ``hasKeyHashes`` afterwards.
    @inlinable public final var keyHashes: UnsafeMutablePointer<UInt64> {
        if let hashColumn { return hashColumn }
        let column = UnsafeMutablePointer<UInt64>.allocate(capacity: capacity)
        hashColumn = column
        return column
    }

    /// Ends the rows' lives; the memory stays.
    open func removeAll() {
        count = 0
        hasKeyHashes = false
    }

    /// A copy of the rows, for a second receiver.
    open func copied() -> AnyBatch { preconditionFailure("AnyBatch is abstract") }

    /// Gives the batch back to its pool, from any thread. The caller must not touch it afterwards.
    public final func recycle() {
        removeAll()
        guard let home else { return }
        self.home = nil  // A batch in the pool must not keep the pool alive.
        home.put(self)
    }
}

/// A batch of rows of one type.
public final class Batch<Row: Sendable>: AnyBatch, @unchecked Sendable {
    /// Rows a batch if nothing else is asked for.
    @inlinable public static var defaultCapacity: Int { 1_024 }

    /// The rows: the first `count` are initialised.
    public let rows: UnsafeMutablePointer<Row>

    @inlinable
    public override init(capacity: Int) {
        rows = .allocate(capacity: capacity)
        super.init(capacity: capacity)
    }

    /// A batch outside any pool, of rows with their timestamps.
    @inlinable
    public convenience init(_ elements: [(Row, Int64)]) {
        self.init(capacity: max(1, elements.count))
        for (row, timestamp) in elements { append(row, timestamp: timestamp) }
    }

    deinit {
        rows.deinitialize(count: count)
        rows.deallocate()
    }

    /// Adds a row. The batch must not be full.
    @inlinable
    @inline(__always)
    public func append(_ row: consuming Row, timestamp: Int64) {
        let index = count
        precondition(index < capacity, "append to a full batch")
        (rows + index).initialize(to: row)
        timestamps[index] = timestamp
        count = index &+ 1
    }

    /// Adds a row and the hash of its key.
    @inlinable
    @inline(__always)
    public func append(_ row: consuming Row, timestamp: Int64, keyHash: UInt64) {
        keyHashes[count] = keyHash
        append(row, timestamp: timestamp)
    }

    @inlinable
    public override func removeAll() {
        rows.deinitialize(count: count)
        count = 0
        hasKeyHashes = false
    }

    @inlinable
    public override func copied() -> AnyBatch {
        let copy = home.map { BatchPool<Row>(core: $0).take(minimumCapacity: count) } ?? Batch<Row>(capacity: max(1, count))
        copy.rows.initialize(from: rows, count: count)
        copy.timestamps.update(from: timestamps, count: count)
        if hasKeyHashes {
            copy.keyHashes.update(from: keyHashes, count: count)
            copy.hasKeyHashes = true
        }
        copy.count = count
        return copy
    }
}

/// The free list behind a ``BatchPool``; one lock a batch of rows, not a row.
@usableFromInline
final class BatchPoolCore: Sendable {
    @usableFromInline static let freeMax = 64
    @usableFromInline let capacity: Int
    private let free = Mutex<[AnyBatch]>([])

    @usableFromInline init(capacity: Int) { self.capacity = capacity }

    @usableFromInline
    func put(_ batch: AnyBatch) {
        free.withLock { free in
            if free.count < Self.freeMax { free.append(batch) }
        }
    }

    @usableFromInline
    func take() -> AnyBatch? {
        free.withLock { $0.popLast() }
    }
}

/// Recycles batches of one row type: an operator or collector that fills batches has one.
///
/// Batches come back from whichever thread consumed them. At most 64 free ones are kept.
public struct BatchPool<Row: Sendable>: Sendable {
    @usableFromInline let core: BatchPoolCore

    @inlinable
    public init(capacity: Int = Batch<Row>.defaultCapacity) {
        core = BatchPoolCore(capacity: capacity)
    }

    @usableFromInline init(core: BatchPoolCore) { self.core = core }

    /// Rows a batch.
    @inlinable public var capacity: Int { core.capacity }

    /// An empty batch of ``capacity`` rows. The caller owns it.
    @inlinable
    public func take() -> Batch<Row> {
        // A pool's core is only ever given batches that this pool made: the downcast cannot fail.
        let batch = core.take().map { unsafeDowncast($0, to: Batch<Row>.self) } ?? Batch<Row>(capacity: core.capacity)
        batch.home = core
        return batch
    }

    @usableFromInline
    func take(minimumCapacity: Int) -> Batch<Row> {
        minimumCapacity <= core.capacity ? take() : Batch<Row>(capacity: minimumCapacity)
    }
}
