import WeirBase
public import WeirDataflow
public import WeirFormats
public import WeirStreams

/// Makes the rows of the records that the source's reader took last, in as many batches as they need; the last stays with the caller.
@usableFromInline
typealias KafkaDecode<Row: Sendable> = @Sendable (KafkaSourceOperator<Row>, _ batch: inout Batch<Row>) throws -> Void

/// One subtask of a Kafka source.
@usableFromInline
final class KafkaSourceOperator<Row: Sendable>: AnySource {
    @usableFromInline let reader: KafkaReader
    @usableFromInline let output: Collector<Row>
    @usableFromInline var stamper: SplitStamper<Row>
    @usableFromInline let pool = BatchPool<Row>()
    private let decode: KafkaDecode<Row>
    private var context: OperatorContext?

    init(setup: SourceSetup<Row>, settings: KafkaSourceSettings, decode: @escaping KafkaDecode<Row>) {
        reader = KafkaReader(uid: setup.uid, settings: settings, watermarks: setup.watermarks)
        output = setup.output
        stamper = SplitStamper(setup.watermarks)
        self.decode = decode
    }

    override func open(_ context: OperatorContext) throws { self.context = context }

    override func restore(from state: RestoredState) throws { try reader.restore(from: state) }

    override func start() throws { if let context { try reader.start(context) } }

    override func poll(budget: Int) throws -> SourceStatus {
        try reader.prepare()
        let taken = try reader.take(budget)
        if taken > 0, !reader.runs.isEmpty {
            try reader.becomeActive()
            var batch = pool.take()
            try decode(self, &batch)
            try output.emit(batch)
        }
        return try reader.settle(taken: taken)
    }

    override func snapshot(into builder: SnapshotBuilder) throws { reader.snapshot(into: builder) }

    override func checkpointCompleted(_ checkpoint: UInt64) throws { reader.checkpointCompleted(checkpoint) }

    override func checkpointAborted(_ checkpoint: UInt64) throws { reader.checkpointAborted(checkpoint) }

    override func close() { reader.close() }
}

/// The loop over the records. Inlined into the closure that is made where the schema is concrete: in the job's module.
extension KafkaSourceOperator {
    /// Rows that one record may give; more is a bad record.
    static var rowsPerRecordMax: Int { 1 << 20 }

    @inlinable
    @inline(__always)
    func decode<Schema: KafkaDeserializationSchema>(into batch: inout Batch<Row>, schema: Schema) throws where Schema.Row == Row {
        for run in reader.runs {
            guard try decode(run, into: &batch, schema: schema) else { break }
        }
    }

    /// Makes the rows of a run.
    ///
    /// - Returns: Whether all of its records were handled; if not, they are given out again once their schema has come.
    @inlinable
    @inline(__always)
    func decode<Schema: KafkaDeserializationSchema>(_ run: KafkaRun, into batch: inout Batch<Row>, schema: Schema) throws -> Bool
    where Schema.Row == Row {
        var greatest = Int64.min
        // Rows from here on have no event time yet; those from `start` on are of the record at hand.
        var first = batch.count
        for index in run.range {
            let record = reader.records[index]
            var start = batch.count
            do {
                try schema.decode(record) { row in
                    if batch.isFull { greatest = max(greatest, try makeRoom(in: &batch, first: &first, start: &start, split: run.split)) }
                    batch.append(row, timestamp: record.timestamp)
                }
            } catch let pending as SchemaPending {
                truncate(batch, to: start)
                greatest = max(greatest, stampRows(of: batch, from: first, to: start, split: run.split))
                reader.advance(run, to: index, greatest: greatest)
                reader.wait(for: pending, from: index, of: run)
                return false
            } catch {
                truncate(batch, to: start)
                try reader.poison(record, split: run.split, error)
            }
            for row in start..<batch.count where schema.isEndOfStream(batch.rows[row]) {
                truncate(batch, to: row)
                greatest = max(greatest, stampRows(of: batch, from: first, to: row, split: run.split))
                reader.advance(run, to: index, greatest: greatest)
                reader.endStream(run, at: index)
                return true
            }
        }
        greatest = max(greatest, stampRows(of: batch, from: first, to: batch.count, split: run.split))
        reader.advance(run, to: run.range.upperBound, greatest: greatest)
        return true
    }

    /// Gives rows of a split their event times, and returns the greatest.
    @inlinable
    func stampRows(of batch: Batch<Row>, from first: Int, to end: Int, split: Int) -> Int64 {
        stamper.stamp(split: split, batch.rows + first, batch.timestamps + first, end - first)
    }

    /// Passes the rows of finished records on, and keeps those of the record at hand together: it may yet turn out to be a bad one.
    ///
    /// - Returns: The greatest event time of the rows of this run that were passed on.
    @usableFromInline @inline(never)
    func makeRoom(in batch: inout Batch<Row>, first: inout Int, start: inout Int, split: Int) throws -> Int64 {
        let kept = batch.count - start
        guard kept < Self.rowsPerRecordMax else { throw TooManyRows(limit: Self.rowsPerRecordMax) }
        let full = batch
        let next = start == 0 ? Batch<Row>(capacity: full.capacity * 2) : pool.take()
        next.rows.moveInitialize(from: full.rows + start, count: kept)
        next.timestamps.update(from: full.timestamps + start, count: kept)
        next.count = kept
        full.count = start
        let greatest = stampRows(of: full, from: first, to: start, split: split)
        (batch, first, start) = (next, 0, 0)
        try output.emit(full)
        return greatest
    }

    @inlinable
    func truncate(_ batch: Batch<Row>, to count: Int) {
        guard batch.count > count else { return }
        (batch.rows + count).deinitialize(count: batch.count - count)
        batch.count = count
    }
}

/// One record gave more rows than a record may.
struct TooManyRows: Error, CustomStringConvertible {
    let limit: Int
    var description: String { "the record gives more than \(limit) rows" }
}
