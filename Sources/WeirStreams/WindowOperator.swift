internal import WeirBase
internal import WeirDataflow

/// Keeps a table a window, and gives a window's results when the watermark reaches its last time.
final class WindowOperator<Row: Sendable, State: BinaryCodable, Result: Sendable>: AnyOperator {
    private let windows: WindowFinder
    private let declare: @Sendable (KeyedStateStore) throws -> WindowedTables<State>
    private let output: RowOutput<Result>
    private let hasher: @Sendable (Batch<Row>) -> Void
    private let add: @Sendable (WindowedTables<State>, Batch<Row>, UnsafePointer<Int64>) throws -> Void
    private let fire: @Sendable (StateTable<State>, TimeWindow, RowOutput<Result>) throws -> Void
    private var starts: UnsafeMutablePointer<Int64>
    private var startsCapacity = 1_024
    /// Windows whose last time is not after it are closed. Restored too: else rows that were late before a failure would open their
    /// windows again after it.
    private var watermark = Int64.min
    private var opened: (store: KeyedStateStore, tables: WindowedTables<State>)?
    private var lateRows = Counter()
    private let untimedStart: Int64

    init(
        windows: WindowFinder, declare: @escaping @Sendable (KeyedStateStore) throws -> WindowedTables<State>, output: RowOutput<Result>,
        hasher: @escaping @Sendable (Batch<Row>) -> Void,
        add: @escaping @Sendable (WindowedTables<State>, Batch<Row>, UnsafePointer<Int64>) throws -> Void,
        fire: @escaping @Sendable (StateTable<State>, TimeWindow, RowOutput<Result>) throws -> Void
    ) {
        self.windows = windows
        untimedStart = windows.start(of: AnyBatch.noTimestamp)
        self.declare = declare
        self.output = output
        self.hasher = hasher
        self.add = add
        self.fire = fire
        starts = .allocate(capacity: startsCapacity)
    }

    deinit { starts.deallocate() }

    override func open(_ context: OperatorContext) throws {
        let store = try KeyedStateStore(context)
        opened = (store, try declare(store))
        lateRows = context.counter("numLateRecordsDropped")
    }

    override func process(_ batch: AnyBatch, input: Int) throws {
        guard let tables = opened?.tables else { return }
        let batch = unsafeDowncast(batch, to: Batch<Row>.self)
        if batch.count > startsCapacity {
            starts.deallocate()
            startsCapacity = batch.count
            starts = .allocate(capacity: startsCapacity)
        }
        if !batch.hasKeyHashes {
            hasher(batch)
            batch.hasKeyHashes = true
        }
        let least = windows.fill(starts, times: batch.timestamps, count: batch.count)
        if isClosed(least) || least <= untimedStart { try dropLateRows(of: batch) }
        if batch.count > 0 { try add(tables, batch, starts) }
        batch.recycle()
        try opened?.store.checkMemory()
    }

    private func isClosed(_ start: Int64) -> Bool { start + windows.size - 1 <= watermark }

    /// The rare case, so its loop may be slow.
    private func dropLateRows(of batch: Batch<Row>) throws {
        let count = batch.count
        var kept = 0
        var isUntimed = false
        for row in 0..<count {
            if batch.timestamps[row] == AnyBatch.noTimestamp { isUntimed = true }
            guard !isClosed(starts[row]) else {
                (batch.rows + row).deinitialize(count: 1)
                continue
            }
            if kept != row {
                (batch.rows + kept).moveInitialize(from: batch.rows + row, count: 1)
                batch.timestamps[kept] = batch.timestamps[row]
                batch.keyHashes[kept] = batch.keyHashes[row]
                starts[kept] = starts[row]
            }
            kept += 1
        }
        batch.count = kept
        lateRows.add(count - kept)
        if isUntimed { throw untimedRows() }
    }

    private func untimedRows() -> JobFailure {
        JobFailure(
            domain: .configuration, recovery: .fail,
            message: "rows without event time came to a window: give the source's watermark strategy a timestamp: function")
    }

    override func advanceWatermark(_ watermark: Int64) throws {
        guard watermark > self.watermark, let tables = opened?.tables else { return }
        // Closed first: a row that comes back while its window fires would be late.
        self.watermark = watermark
        while let start = tables.first, isClosed(start) {
            if let table = tables.existing(start) {
                try fire(table, TimeWindow(start: start, end: start + windows.size), output)
            }
            tables.remove(start)
        }
        try output.flush()
    }

    override func flush() throws { try output.flush() }

    override func snapshot(into builder: SnapshotBuilder) throws {
        opened?.store.snapshot(into: builder)
        var writer = ByteWriter(capacity: 8)
        writer.writeI64(watermark)
        builder.addList("watermark", [writer.finish()])
    }

    override func restore(from state: RestoredState) throws {
        try opened?.store.restore(from: state)
        // At an aligned barrier all subtasks have the same watermark. Where barriers overtake rows they differ, and the least is the one that
        // holds for every row in flight.
        let watermarks = try state.union("watermark").map { entry in
            try entry.withUnsafeBytes { bytes throws(DecodingFailure) in
                var reader = ByteReader(bytes)
                return try reader.readI64()
            }
        }
        watermark = watermarks.min() ?? .min
    }
}
