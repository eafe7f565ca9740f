import Testing
import WeirBase
import WeirDataflow
import WeirStreams

/// A run with a checkpoint in the middle, restored at another parallelism, gives what an uninterrupted run gives.
@Suite struct CheckpointTests {
    /// Runs to a random point, takes a checkpoint, goes on a little (whose output is lost with the failure), and restores.
    ///
    /// - Returns: What came to the sink before the checkpoint and after the restore.
    private func interrupted<Row: Sendable>(
        seed: UInt64, parallelism: ClosedRange<Int> = 1...5, _ define: (JobContext, CollectedRows<Row>) throws -> Void
    ) throws -> [Row] {
        var random = SplitMix64(seed: seed)
        func program(_ rows: CollectedRows<Row>) throws -> JobProgram {
            let job = JobContext(name: "test", parallelism: Int.random(in: parallelism, using: &random))
            try define(job, rows)
            return try job.build()
        }
        let before = CollectedRows<Row>()
        let first = try LocalExecutor(try program(before), clock: ManualClock())
        for _ in 0..<Int.random(in: 0...60, using: &random) { _ = try first.step() }
        let snapshot = try first.snapshot()
        // What was emitted behind the barrier is none of the checkpoint's: the sink of a test cannot take it back, so it stops here.
        let kept = before.rows
        for _ in 0..<Int.random(in: 0...10, using: &random) { _ = try first.step() }
        let after = CollectedRows<Row>()
        try LocalExecutor(try program(after), clock: ManualClock(), restoring: snapshot).run()
        return kept + after.rows
    }

    private static func reading(_ index: UInt64, _ bits: UInt64) -> Reading {
        Reading("k\(bits % 40)", Int64(index) * 3 + Int64((bits >> 8) % 500), Double((bits >> 20) % 1_000))
    }

    /// The sink sees rows behind the barrier too while the checkpoint completes, so results are compared as sets of windows.
    @Test(arguments: 0..<30 as Range<UInt64>) func windowsAreExact(seed: UInt64) throws {
        let count: UInt64 = 8_000
        let rows: [Summary] = try interrupted(seed: seed) { job, rows in
            try job.source(
                GeneratedSource(count: count, batchSize: 64, seed: seed) { Self.reading($0, $1) },
                watermarks: .boundedOutOfOrderness(.milliseconds(500), timestamp: \.time), uid: "readings"
            )
            .keyed(by: \.id).window(.tumbling(.milliseconds(700)))
            .aggregate(Statistics(of: \.value)) { Summary($0, $1.start, $2.count, $2.minimum, $2.maximum) }.uid("windows")
            .collect(into: rows).uid("sink")
        }
        #expect(Set(rows).sorted() == fold((0..<count).map { Self.reading($0, randomBits(seed: seed, index: $0)) }, size: 700))
    }

    /// With a bound that is too small many rows are late: the same ones must be, whether or not the run was interrupted.
    @Test(arguments: 0..<20 as Range<UInt64>) func lateRowsStayLateAfterARestore(seed: UInt64) throws {
        func define(_ job: JobContext, _ rows: CollectedRows<Summary>) throws {
            try job.source(
                GeneratedSource(count: 5_000, batchSize: 64, seed: seed) { Self.reading($0, $1) },
                watermarks: .boundedOutOfOrderness(.milliseconds(50), timestamp: \.time), uid: "readings"
            )
            .keyed(by: \.id).window(.tumbling(.milliseconds(100)))
            .aggregate(Statistics(of: \.value)) { Summary($0, $1.start, $2.count, $2.minimum, $2.maximum) }.uid("windows")
            .collect(into: rows).uid("sink")
        }
        let whole: [Summary] = try run(define)
        #expect(whole.reduce(0) { $0 + $1.count } < 5_000)
        #expect(Set(try interrupted(seed: seed, parallelism: 1...1, define)) == Set(whole))
    }

    @Test(arguments: 0..<30 as Range<UInt64>) func rollingSumsAreExact(seed: UInt64) throws {
        let rows: [KeyedValue<Int64, Int64>] = try interrupted(seed: seed) { job, rows in
            try job.source(GeneratedSource(count: 10_000, batchSize: 64) { Int64($0) }, uid: "numbers")
                .keyed(by: { $0 % 100 }).sum { $0 + 1 }.uid("sums").collect(into: rows).uid("sink")
        }
        var largest: [Int64: Int64] = [:]
        for row in rows { largest[row.key] = max(largest[row.key] ?? 0, row.value) }
        for key in 0..<100 as Range<Int64> {
            #expect(largest[key] == (0..<10_000 as Range<Int64>).filter { $0 % 100 == key }.reduce(0) { $0 + $1 + 1 })
        }
    }

    /// State of several kinds, and timers that were registered before the checkpoint and fire after it.
    @Test(arguments: 0..<20 as Range<UInt64>) func processFunctionsAreExact(seed: UInt64) throws {
        let rows: [Summary] = try interrupted(seed: seed) { job, rows in
            try job.source(
                GeneratedSource(count: 10_000, batchSize: 64, seed: seed) { Self.reading($0, $1) },
                watermarks: .boundedOutOfOrderness(.milliseconds(500), timestamp: \.time), uid: "readings"
            )
            .keyed(by: \.id).process { try CountPerSecond($0) }.uid("counts").collect(into: rows).uid("sink")
        }
        var expected: [Summary: Int] = [:]
        for index in 0..<10_000 as Range<UInt64> {
            let reading = Self.reading(index, randomBits(seed: seed, index: index))
            expected[Summary(reading.id, reading.time / 1_000 * 1_000, 0, 0, 0), default: 0] += 1
        }
        #expect(Set(rows) == Set(expected.map { Summary($0.key.id, $0.key.start, $0.value, 0, 0) }))
    }

    @Test func stateOfAnotherTypeIsRefused() throws {
        let first = JobContext(name: "test")
        try first.source(.collection([1, 2]), uid: "s").keyed(by: { $0 }).sum { $0 }.uid("x").discard()
        let executor = try LocalExecutor(try first.build(), clock: ManualClock())
        try executor.run()
        let snapshot = try executor.snapshot()
        let second = JobContext(name: "test")
        try second.source(.collection([1, 2]), uid: "s").keyed(by: { $0 }).sum { Double($0) }.uid("x").discard()
        #expect(throws: JobFailure.self) { try LocalExecutor(try second.build(), clock: ManualClock(), restoring: snapshot) }
    }
}

/// Counts rows a second with a map and a timer, as a window would.
struct CountPerSecond: KeyedProcessFunction {
    let counts: MapState<Int64, Int>
    init(_ state: KeyedStateStore) throws { counts = try state.map("counts") }

    func process(_ row: Reading, _ context: ProcessContext<String, Summary>) throws {
        let second = row.time / 1_000 * 1_000
        counts[second] = (counts[second] ?? 0) + 1
        context.registerTimer(at: second + 999)
    }

    func timer(at time: Int64, _ context: ProcessContext<String, Summary>) throws {
        let second = time - 999
        try context.emit(Summary(context.key, second, counts[second] ?? 0, 0, 0))
        counts[second] = nil
    }
}
