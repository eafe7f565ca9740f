public import WeirDataflow
internal import WeirBase

/// Rows made from their index: for demos, load and tests. Deterministic, splittable, with positions in checkpoints.
///
/// The indices are dealt out to ``splits`` splits in turn, and splits to subtasks: a job restored at another parallelism goes on with
/// exactly the indices that are left. A subtask generates its indices in order.
public struct GeneratedSource<Row: Sendable>: StreamSourceDescriptor {
    /// Fills `rows` with the rows of `indices`.
    public typealias Fill = @Sendable (_ indices: UnsafePointer<UInt64>, _ count: Int, _ rows: UnsafeMutablePointer<Row>) -> Void

    /// What people see of it, e.g. in `weir info`.
    public let name: String
    /// Rows in total; nil without end.
    public let count: UInt64?
    /// Rows a second over all subtasks; nil as fast as they are taken.
    public let rate: Double?
    /// Into how many parts the indices are dealt; no more subtasks can run. Fixed for as long as its checkpoints live.
    public let splits: Int
    /// The most rows in a batch, and so between two watermarks.
    public let batchSize: Int
    let fill: Fill

    public init(name: String, count: UInt64?, rate: Double?, splits: Int, batchSize: Int, fill: @escaping Fill) {
        self.name = name
        self.count = count
        self.rate = rate
        self.splits = splits
        self.batchSize = batchSize
        self.fill = fill
    }

    public var parallelismMax: Int? { splits }

    public func validate() throws {
        var problems: [String] = []
        if let rate, !(rate > 0 && rate.isFinite) { problems.append("rate \(rate) is not a positive number of rows a second") }
        if splits < 1 || splits > GeneratedSplits.splitsMax {
            problems.append("\(splits) splits; there must be 1 to \(GeneratedSplits.splitsMax)")
        }
        if batchSize < 1 || batchSize > 65_536 { problems.append("batches of \(batchSize) rows; there must be 1 to 65536") }
        if !problems.isEmpty { throw ConfigurationError(problems) }
    }

    public func makeSource(_ setup: SourceSetup<Row>) throws -> AnySource {
        GeneratedSourceOperator(
            setup: setup, fill: fill, batchSize: batchSize, rate: rate, count: count, splits: splits)
    }
}

extension GeneratedSource {
    /// Rows made from their index, `0..<count`.
    ///
    ///     try job.source(GeneratedSource(count: 1_000_000) { Int64($0) })
    ///
    /// - Parameters:
    ///   - count: Rows in total; nil without end.
    ///   - rate: Rows a second over all subtasks; nil as fast as they are taken.
    ///   - splits: The most subtasks that can share the work; part of the state's layout.
    ///   - row: Makes a row. Must give the same row for the same index, so that a restored job repeats itself.
    @inlinable
    @inline(__always)
    public init(
        count: UInt64? = nil, rate: Double? = nil, splits: Int = 64, batchSize: Int = 1_024, _ row: @escaping @Sendable (UInt64) -> Row
    ) {
        self.init(name: "generated", count: count, rate: rate, splits: splits, batchSize: batchSize) { indices, count, rows in
            for lane in 0..<count { (rows + lane).initialize(to: row(indices[lane])) }
        }
    }

    /// Rows made from their index and 64 random bits, which follow from `seed` and the index alone: see ``randomBits(seed:index:)``.
    @inlinable
    @inline(__always)
    public init(
        count: UInt64? = nil, rate: Double? = nil, splits: Int = 64, batchSize: Int = 1_024, seed: UInt64,
        _ row: @escaping @Sendable (_ index: UInt64, _ random: UInt64) -> Row
    ) {
        self.init(name: "generated", count: count, rate: rate, splits: splits, batchSize: batchSize) { indices, count, rows in
            for lane in 0..<count { (rows + lane).initialize(to: row(indices[lane], randomBits(seed: seed, index: indices[lane]))) }
        }
    }
}

extension StreamSourceDescriptor {
    /// The given rows, for tests. With a parallelism of 1 in their order.
    public static func collection<Row: Sendable>(_ rows: [Row], batchSize: Int = 1_024) -> GeneratedSource<Row>
    where Self == GeneratedSource<Row> {
        GeneratedSource(name: "collection", count: UInt64(rows.count), rate: nil, splits: 64, batchSize: batchSize) { indices, count, target in
            for lane in 0..<count { (target + lane).initialize(to: rows[Int(indices[lane])]) }
        }
    }
}

/// 64 bits that look random and follow from a seed and an index (the finaliser of SplitMix64).
@inlinable
@inline(__always)
public func randomBits(seed: UInt64, index: UInt64) -> UInt64 {
    var bits = seed &+ (index &+ 1) &* 0x9E37_79B9_7F4A_7C15
    bits = (bits ^ (bits >> 30)) &* 0xBF58_476D_1CE4_E5B9
    bits = (bits ^ (bits >> 27)) &* 0x94D0_49BB_1331_11EB
    return bits ^ (bits >> 31)
}

final class GeneratedSourceOperator<Row: Sendable>: AnySource {
    private let setup: SourceSetup<Row>
    private let fill: GeneratedSource<Row>.Fill
    private let totalRate: Double?
    private let batchSize: Int
    private let totalCount: UInt64?
    private let splitCount: Int
    private let pool: BatchPool<Row>
    private let indices: UnsafeMutablePointer<UInt64>
    private var rate: Double?
    private var splits = GeneratedSplits(count: 0, splits: 1, subtask: 0, parallelism: 1)
    /// One split for all that the subtask generates: its indices rise.
    private var watermarks: SplitWatermarks
    private var stamper: SplitStamper<Row>
    private var restoredGreatest = Int64.min
    private var context: OperatorContext?
    private var startedAt: Instant?
    private var emittedSinceStart = 0.0

    init(
        setup: SourceSetup<Row>, fill: @escaping GeneratedSource<Row>.Fill, batchSize: Int, rate: Double?, count: UInt64?, splits: Int
    ) {
        self.setup = setup
        self.fill = fill
        self.batchSize = batchSize
        totalRate = rate
        totalCount = count
        splitCount = splits
        pool = BatchPool(capacity: batchSize)
        indices = .allocate(capacity: batchSize)
        watermarks = SplitWatermarks(setup.watermarks)
        stamper = SplitStamper(setup.watermarks)
    }

    deinit { indices.deallocate() }

    override func open(_ context: OperatorContext) throws {
        self.context = context
        rate = totalRate.map { $0 / Double(context.parallelism) }
        splits = GeneratedSplits(count: totalCount, splits: splitCount, subtask: context.subtask, parallelism: context.parallelism)
    }

    override func restore(from state: RestoredState) throws {
        var entries: [(split: UInt64, position: UInt64)] = []
        var greatest = Int64.max
        for entry in state.union("positions") {
            try entry.withUnsafeBytes { bytes in
                var reader = ByteReader(bytes)
                let split = try reader.readU64()
                entries.append((split: split, position: try reader.readU64()))
                let seen = try reader.readI64()
                if splits.own.contains(split) { greatest = min(greatest, seen) }
            }
        }
        try splits.restore(entries)
        if greatest != .max { restoredGreatest = greatest }
    }

    override func start() throws {
        // The watermark goes on where it was: what was late before a failure is late after it.
        watermarks.addSplit(greatest: restoredGreatest, now: 0)
    }

    override func snapshot(into builder: SnapshotBuilder) throws {
        builder.addList(
            "positions",
            zip(splits.own, splits.positions).map { split, position in
                var writer = ByteWriter(capacity: 24)
                writer.writeU64(split)
                writer.writeU64(position)
                writer.writeI64(watermarks.greatest(split: 0))
                return writer.finish()
            })
    }

    override func poll(budget: Int) throws -> SourceStatus {
        guard let context else { return .finished }
        var remaining = max(1, budget)
        while remaining > 0 {
            var limit = min(batchSize, remaining)
            if let rate {
                let now = context.clock.now
                let start = startedAt ?? now
                startedAt = start
                let allowed = start.duration(to: now).inSeconds * rate + 1 - emittedSinceStart
                // Ten milliseconds' worth at a time: a batch of one row would cost a wake-up a row.
                let wanted = min(max(1, rate / 100), Double(batchSize))
                guard allowed >= wanted else { return .idle(wakeAfter: .nanoseconds(Int64((wanted - allowed) / rate * 1e9) + 1)) }
                limit = min(limit, Int(min(allowed, 1e9)))
            }
            let count = splits.next(indices, limit: limit)
            guard count > 0 else { return .finished }
            try emit(count, context)
            emittedSinceStart += Double(count)
            remaining -= count
        }
        return .more
    }

    private func emit(_ count: Int, _ context: OperatorContext) throws {
        let batch = pool.take()
        fill(indices, count, batch.rows)
        batch.count = count
        if setup.watermarks.stamp == nil { batch.timestamps.update(repeating: AnyBatch.noTimestamp, count: count) }
        watermarks.observe(split: 0, greatest: stamper.stamp(split: 0, batch.rows, batch.timestamps, count), now: 0)
        try setup.output.emit(batch)
        try watermarks.send(now: 0, to: context)
    }
}
