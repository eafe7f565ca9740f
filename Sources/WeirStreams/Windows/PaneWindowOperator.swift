internal import WeirBase
internal import WeirDataflow

/// Windows of fixed size in event time: keeps a table a pane, and gives a window's results when the watermark reaches its last time.
///
/// A tumbling window is one pane. A sliding one is several, which are merged when it closes; a row is added once, however many windows it is in.
final class PaneWindowOperator<Row: Sendable, State: BinaryCodable, Result: Sendable>: AnyOperator {
    private let panes: WindowPanes
    private let code: PaneCode<Row, State, Result>
    private let hasher: @Sendable (Batch<Row>) -> Void
    private let output: RowOutput<Result>
    private let lateTag: OutputTag<Row>?
    private var late: SideOutput<Row>?
    private var starts: UnsafeMutablePointer<Int64>
    private var startsCapacity = 1_024
    /// Windows whose last time is not after it are closed. Restored too: else rows that were late before a failure would open their
    /// windows again after it.
    private var watermark = Int64.min
    private var opened: (store: KeyedStateStore, tables: WindowedTables<State>)?
    private var lateRows = Counter()
    private let untimedStart: Int64
    /// Where the panes of a sliding window are merged; emptied, not freed, from window to window.
    private lazy var merged = code.makeTable()

    init(
        panes: WindowPanes, code: PaneCode<Row, State, Result>, hasher: @escaping @Sendable (Batch<Row>) -> Void, output: RowOutput<Result>,
        lateTag: OutputTag<Row>?
    ) {
        self.panes = panes
        self.hasher = hasher
        untimedStart = panes.start(of: AnyBatch.noTimestamp)
        self.code = code
        self.output = output
        self.lateTag = lateTag
        starts = .allocate(capacity: startsCapacity)
    }

    deinit { starts.deallocate() }

    override func open(_ context: OperatorContext) throws {
        let store = try KeyedStateStore(context, migration: RecordMigration())
        opened = (store, try code.tables(store))
        lateRows = context.counter("numLateRecordsDropped")
        late = try lateTag.flatMap { try SideOutput($0, of: context) }
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
        let least = panes.fill(starts, times: batch.timestamps, count: batch.count)
        // With gaps between windows, some rows are in none.
        if isClosed(least) || least <= untimedStart || panes.slide > panes.size { try dropRows(of: batch) }
        if batch.count > 0 { try code.add(tables, batch, starts) }
        batch.recycle()
        try opened?.store.checkMemory()
    }

    /// Whether every window with the pane is closed.
    private func isClosed(_ pane: Int64) -> Bool { panes.lastWindow(of: pane) + panes.size - 1 <= watermark }

    /// Takes out rows that are late or in no window: the rare case, so its loop may be slow.
    private func dropRows(of batch: Batch<Row>) throws {
        let count = batch.count
        var kept = 0
        var late = 0
        var isUntimed = false
        for row in 0..<count {
            if batch.timestamps[row] == AnyBatch.noTimestamp { isUntimed = true }
            let isInNone = panes.lastWindow(of: starts[row]) + panes.size <= starts[row]
            guard !isInNone, !isClosed(starts[row]) else {
                if !isInNone {
                    late += 1
                    try self.late?.append(batch.rows[row], timestamp: batch.timestamps[row])
                }
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
        if self.late == nil { lateRows.add(late) }
        if isUntimed { throw untimedRows() }
    }

    override func advanceWatermark(_ watermark: Int64) throws {
        guard watermark > self.watermark, let tables = opened?.tables else { return }
        var fired = self.watermark
        // Closed first: a row that comes back while its window fires would be late.
        self.watermark = watermark
        while let first = tables.first {
            // The first window with the pane that has not given its results yet.
            var start = panes.firstWindow(of: first)
            if start + panes.size - 1 <= fired { start = panes.lastWindow(of: fired + 1 - panes.size) + panes.slide }
            guard start + panes.size - 1 <= watermark else { break }
            fired = start + panes.size - 1
            try fire(TimeWindow(start: start, end: start + panes.size), tables)
            while let first = tables.first, isPast(first, firing: start) { tables.remove(first) }
        }
        try output.flush()
    }

    /// Whether no window behind the one at hand has the pane.
    private func isPast(_ pane: Int64, firing start: Int64) -> Bool { panes.lastWindow(of: pane) <= start }

    private func fire(_ window: TimeWindow, _ tables: WindowedTables<State>) throws {
        if panes.isTumbling {
            if let table = tables.existing(window.start) { try code.fire(table, window, output) }
            return
        }
        for pane in tables.all where pane >= window.start {
            guard pane < window.end else { break }
            if let table = tables.existing(pane) { try code.merge(table, merged) }
        }
        try code.fire(merged, window, output)
        merged.removeAll(keepingCapacity: true)
    }

    override func flush() throws { try output.flush() }

    override func snapshot(into builder: SnapshotBuilder) throws {
        opened?.store.snapshot(into: builder)
        builder.addList("watermark", [encodedWatermark(watermark)])
    }

    override func restore(from state: RestoredState) throws {
        try opened?.store.restore(from: state)
        watermark = try restoredWatermark(state)
    }
}

func untimedRows() -> JobFailure {
    JobFailure(
        domain: .configuration, recovery: .fail,
        message: "rows without event time came to a window: give the source's watermark strategy a timestamp: function")
}

func encodedWatermark(_ watermark: Int64) -> [UInt8] {
    var writer = ByteWriter(capacity: 8)
    writer.writeI64(watermark)
    return writer.finish()
}

/// At an aligned barrier all subtasks have the same watermark. Where barriers overtake rows they differ, and the least is the one that holds for
/// every row in flight.
func restoredWatermark(_ state: RestoredState) throws -> Int64 {
    let watermarks = try state.union("watermark").map { entry in
        try entry.withUnsafeBytes { bytes throws(DecodingFailure) in
            var reader = ByteReader(bytes)
            return try reader.readI64()
        }
    }
    return watermarks.min() ?? .min
}
