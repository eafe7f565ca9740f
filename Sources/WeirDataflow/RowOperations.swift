public import WeirBase

/// What has to touch single rows of one type, as closures over whole batches.
///
/// A virtual method of a generic class runs unspecialised, 10 to 100 times slower a row. A closure that is made where the row type is concrete
/// is specialised. So the loops below are made by `@inline(__always)` initialisers, which API entry points call from the job's module, and the
/// classes of this module only call the closures, once a batch.
public struct RowOperations<Row: Sendable>: Sendable {
    /// Moves rows from `next` on to their lanes, until a lane is full or all are moved; returns the next row to move.
    @usableFromInline
    typealias Scatter =
        @Sendable (
            _ batch: Batch<Row>, _ next: Int, _ targets: UnsafePointer<UInt16>, _ lanes: UnsafeMutablePointer<ScatterLane<Row>>
        ) -> Int

    @usableFromInline let scatter: Scatter
    /// nil if the rows cannot leave the process.
    public let codec: BatchCodec?

    /// Operations of rows that stay in one process: chained, or on local channels.
    @inlinable
    @inline(__always)
    public init(local: Row.Type) {
        scatter = scatterRows
        codec = nil
    }

    /// Operations of rows that may also travel between workers.
    @inlinable
    @inline(__always)
    public init(_: Row.Type) where Row: BinaryCodable {
        scatter = scatterRows
        codec = BatchCodec(Row.self)
    }
}

/// Where the rows of one target are gathered: the raw memory of a batch.
@usableFromInline
struct ScatterLane<Row> {
    @usableFromInline var rows: UnsafeMutablePointer<Row>
    @usableFromInline var timestamps: UnsafeMutablePointer<Int64>
    @usableFromInline var hashes: UnsafeMutablePointer<UInt64>
    @usableFromInline var count: Int
    @usableFromInline var capacity: Int

    @usableFromInline
    init(
        rows: UnsafeMutablePointer<Row>, timestamps: UnsafeMutablePointer<Int64>, hashes: UnsafeMutablePointer<UInt64>, count: Int, capacity: Int
    ) {
        self.rows = rows
        self.timestamps = timestamps
        self.hashes = hashes
        self.count = count
        self.capacity = capacity
    }
}

@inlinable
@inline(__always)
func scatterRows<Row>(
    _ batch: Batch<Row>, _ next: Int, _ targets: UnsafePointer<UInt16>, _ lanes: UnsafeMutablePointer<ScatterLane<Row>>
) -> Int {
    let rows = batch.rows
    let timestamps = batch.timestamps
    let hashes = batch.keyHashes
    let count = batch.count
    var row = next
    while row < count {
        let lane = lanes + Int(targets[row])
        let index = lane.pointee.count
        if index == lane.pointee.capacity { break }
        (lane.pointee.rows + index).moveInitialize(from: rows + row, count: 1)
        lane.pointee.timestamps[index] = timestamps[row]
        lane.pointee.hashes[index] = hashes[row]
        lane.pointee.count = index &+ 1
        row &+= 1
    }
    return row
}
