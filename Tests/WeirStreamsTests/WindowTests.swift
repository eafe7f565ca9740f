import Testing
import WeirBase
import WeirDataflow
import WeirStreams

@Suite struct WindowTests {
    private func summaries(
        _ input: [Reading], bound: Duration, size: Duration, offset: Duration = .zero, late: inout Int
    ) throws -> [Summary] {
        let rows = CollectedRows<Summary>()
        let job = JobContext(name: "test")
        // One row a batch: a watermark after each.
        try job.source(.collection(input, batchSize: 1), watermarks: .boundedOutOfOrderness(bound, timestamp: \.time))
            .keyed(by: \.id)
            .window(.tumbling(size, offset: offset))
            .aggregate(Statistics(of: \.value)) { Summary($0, $1.start, $2.count, $2.minimum, $2.maximum) }
            .collect(into: rows)
        let executor = try LocalExecutor(try job.build(), clock: ManualClock())
        try executor.run()
        late = executor.counter("numLateRecordsDropped", of: "window")
        for row in rows.timedRows { #expect(row.timestamp == row.row.start + size.inMilliseconds - 1) }
        return rows.rows
    }

    @Test func rowsOutOfOrderWithinTheBoundCount() throws {
        var late = 0
        let result = try summaries(
            [Reading("a", 1_000, 1), Reading("a", 14_999, 2), Reading("b", 15_000, 7), Reading("a", 9_000, -4), Reading("a", 16_000, 3)],
            bound: .seconds(6), size: .seconds(15), late: &late)
        #expect(late == 0)
        #expect(result.sorted() == [Summary("a", 0, 3, -4, 2), Summary("a", 15_000, 1, 3, 3), Summary("b", 15_000, 1, 7, 7)])
    }

    @Test func aWindowClosesWhenTheWatermarkReachesItsLastTimeAndRowsAfterThatAreDropped() throws {
        var late = 0
        // Bound 2 s: after the row at 12_000 the watermark is 9_999, the last time of [0, 10_000). After 11_999 it would be 9_998.
        let open = try summaries(
            [Reading("a", 1, 1), Reading("a", 11_999, 1), Reading("a", 9_999, 5)], bound: .seconds(2), size: .seconds(10), late: &late)
        #expect(open.sorted().first == Summary("a", 0, 2, 1, 5))
        #expect(late == 0)
        let closed = try summaries(
            [Reading("a", 1, 1), Reading("a", 12_000, 1), Reading("a", 9_999, 5), Reading("b", 0, 5), Reading("a", 10_000, 3)],
            bound: .seconds(2), size: .seconds(10), late: &late)
        #expect(closed == [Summary("a", 0, 1, 1, 1), Summary("a", 10_000, 2, 1, 3)])
        #expect(late == 2)
    }

    @Test func windowsBeforeTheEpochAndWithAnOffset() throws {
        var late = 0
        let result = try summaries(
            [Reading("a", -1, 1), Reading("a", -10_000, 2), Reading("a", -10_001, 3), Reading("a", 0, 4)], bound: .seconds(60), size: .seconds(10),
            late: &late)
        #expect(result == [Summary("a", -20_000, 1, 3, 3), Summary("a", -10_000, 2, 1, 2), Summary("a", 0, 1, 4, 4)])
        let moved = try summaries(
            [Reading("a", 2_999, 1), Reading("a", 3_000, 2), Reading("a", 12_999, 3)], bound: .seconds(60), size: .seconds(10), offset: .seconds(3),
            late: &late)
        #expect(moved == [Summary("a", -7_000, 1, 1, 1), Summary("a", 3_000, 2, 2, 3)])
    }

    @Test func reduceInWindows() throws {
        let rows: [Reading] = try run { job, rows in
            try job.source(
                .collection([Reading("a", 1, 1), Reading("a", 2, 5), Reading("a", 1_001, 2)]), watermarks: .monotonous(timestamp: \.time)
            )
            .keyed(by: \.id).window(.tumbling(.seconds(1))).reduce { $0.value > $1.value ? $0 : $1 }.collect(into: rows)
        }
        #expect(rows == [Reading("a", 2, 5), Reading("a", 1_001, 2)])
    }

    @Test func rowsWithoutEventTimeAreRefusedWithWords() throws {
        #expect {
            let _: [WindowResult<Int, Int>] = try run { job, rows in
                try job.source(.collection([1, 2]), watermarks: .monotonous).keyed(by: { $0 }).window(.tumbling(.seconds(1)))
                    .aggregate(Count()).collect(into: rows)
            }
        } throws: { ($0 as? JobFailure)?.message.contains("without event time") == true }
    }

    /// Out of order by less than the bound: every window must be exact, at any parallelism, against a plain fold of the input.
    @Test(arguments: 0..<20 as Range<UInt64>) func windowsEqualAPlainFold(seed: UInt64) throws {
        var random = SplitMix64(seed: seed)
        let parallelism = Int.random(in: 1...4, using: &random)
        let count = UInt64.random(in: 1...5_000, using: &random)
        let reading = { @Sendable (index: UInt64, bits: UInt64) in
            Reading("k\(bits % 50)", Int64(index) * 7 + Int64((bits >> 8) % 900), Double((bits >> 20) % 1_000))
        }
        let rows: [Summary] = try run(parallelism: parallelism) { job, rows in
            try job.source(
                GeneratedSource(count: count, seed: seed, reading), watermarks: .boundedOutOfOrderness(.milliseconds(900), timestamp: \.time)
            )
            .keyed(by: \.id).window(.tumbling(.seconds(2)))
            .aggregate(Statistics(of: \.value)) { Summary($0, $1.start, $2.count, $2.minimum, $2.maximum) }
            .collect(into: rows)
        }
        #expect(rows.sorted() == fold((0..<count).map { reading($0, randomBits(seed: seed, index: $0)) }, size: 2_000))
    }
}

/// What windows of `size` must give: the plain way.
func fold(_ readings: [Reading], size: Int64) -> [Summary] {
    var summaries: [String: Summary] = [:]
    for reading in readings {
        let start = reading.time - (reading.time % size + size) % size
        let name = "\(reading.id)@\(start)"
        var summary = summaries[name] ?? Summary(reading.id, start, 0, .infinity, -.infinity)
        summary.count += 1
        summary.minimum = min(summary.minimum, reading.value)
        summary.maximum = max(summary.maximum, reading.value)
        summaries[name] = summary
    }
    return summaries.values.sorted()
}
