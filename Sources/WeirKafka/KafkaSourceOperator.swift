public import WeirDataflow
public import WeirFormats
public import WeirStreams

/// One subtask of a Kafka source. Generic and inlinable: the loop over the records is compiled in the job's module, with its format.
@usableFromInline
final class KafkaSourceOperator<Format: DeserializationSchema>: AnySource {
    @usableFromInline let reader: KafkaReader
    @usableFromInline let format: Format
    @usableFromInline let output: Collector<Format.Row>
    @usableFromInline let stamp: WatermarkStrategy<Format.Row>.Stamp?
    @usableFromInline let pool: BatchPool<Format.Row>
    private var context: OperatorContext?

    @usableFromInline
    init(setup: SourceSetup<Format.Row>, settings: KafkaSourceSettings, format: Format) {
        reader = KafkaReader(settings: settings, watermarks: SplitWatermarks(setup.watermarks))
        self.format = format
        output = setup.output
        stamp = setup.watermarks.stamp
        pool = BatchPool()
    }

    @usableFromInline
    override func open(_ context: OperatorContext) throws { self.context = context }

    @usableFromInline
    override func restore(from state: RestoredState) throws { try reader.restore(from: state) }

    @usableFromInline
    override func start() throws { if let context { try reader.start(context) } }

    @inlinable
    override func poll(budget: Int) throws -> SourceStatus {
        reader.tick()
        let taken = try reader.take(budget)
        if taken > 0, !reader.runs.isEmpty {
            try reader.becomeActive()
            var batch = pool.take()
            for run in reader.runs {
                var greatest = Int64.min
                var first = batch.count
                for index in run.range {
                    let record = reader.records[index]
                    guard let value = record.value else {
                        reader.countTombstone()
                        continue
                    }
                    if batch.isFull {
                        greatest = max(greatest, stampRows(of: batch, from: first))
                        try output.emit(batch)
                        batch = pool.take()
                        first = 0
                    }
                    do {
                        batch.append(try format.decode(value), timestamp: record.timestamp)
                    } catch {
                        try reader.poison(record, split: run.split, error)
                    }
                }
                greatest = max(greatest, stampRows(of: batch, from: first))
                reader.advance(run, greatest: greatest)
            }
            try output.emit(batch)
        }
        return try reader.settle(taken: taken)
    }

    /// Gives the rows from `first` on their event times, and returns the greatest.
    @inlinable
    func stampRows(of batch: Batch<Format.Row>, from first: Int) -> Int64 {
        let count = batch.count - first
        guard count > 0 else { return .min }
        if let stamp { return stamp(batch.rows + first, batch.timestamps + first, count) }
        var greatest = Int64.min
        for index in first..<batch.count { greatest = max(greatest, batch.timestamps[index]) }
        return greatest
    }

    @usableFromInline
    override func snapshot(into builder: SnapshotBuilder) throws { reader.snapshot(into: builder) }

    @usableFromInline
    override func checkpointCompleted(_ checkpoint: UInt64) throws { reader.checkpointCompleted(checkpoint) }

    @usableFromInline
    override func checkpointAborted(_ checkpoint: UInt64) throws { reader.checkpointAborted(checkpoint) }

    @usableFromInline
    override func close() { reader.close() }
}
