import Testing
import WeirBase
import WeirDataflow
import WeirStreams

@Suite struct JoinTests {
    private static func row(_ id: String, _ second: Int64, _ value: Double) -> Reading { Reading(id, second * 1_000, value) }

    /// Two streams by key, each with a watermark behind every row.
    private func keyed(_ job: JobContext, _ rows: [Reading], _ uid: String) throws -> KeyedStream<String, Reading> {
        try job.source(.collection(rows, batchSize: 1), watermarks: .monotonous(timestamp: \.time), uid: uid).keyed(by: \.id)
    }

    private static let left = [row("a", 1, 1), row("a", 4, 2), row("b", 5, 3), row("a", 12, 4)]
    private static let right = [row("a", 3, 10), row("c", 4, 20), row("a", 13, 30), row("a", 14, 40)]

    @Test(arguments: [1, 2, 4]) func aWindowJoinMakesEveryPairOfAKeyInAWindow(parallelism: Int) throws {
        let rows: [String] = try run(parallelism: parallelism) { job, rows in
            try keyed(job, Self.left, "left").join(try keyed(job, Self.right, "right"), in: .tumbling(.seconds(10))) {
                "\($0.id) \(Int($0.value))-\(Int($1.value))"
            }.collect(into: rows)
        }
        #expect(rows.sorted() == ["a 1-10", "a 2-10", "a 4-30", "a 4-40"])
    }

    @Test func aCoGroupSeesKeysOfOneSideToo() throws {
        let rows: [String] = try run { job, rows in
            try keyed(job, Self.left, "left").coGroup(try keyed(job, Self.right, "right"), in: .tumbling(.seconds(10))) { key, left, right, context in
                try context.emit("\(key)@\(context.window.start / 1_000) \(left.count)+\(right.count)")
            }.collect(into: rows)
        }
        #expect(rows.sorted() == ["a@0 2+1", "a@10 1+2", "b@0 1+0", "c@0 0+1"])
    }

    /// Flink's documentation: lower bound -2, upper bound 1 ms.
    @Test func anIntervalJoinTakesBothEnds() throws {
        let left = [0, 2, 3, 4, 5, 7].map { Reading("k", $0, Double($0)) }
        let right = [0, 1, 6, 7].map { Reading("k", $0, Double($0)) }
        let collected = CollectedRows<String>()
        let job = JobContext(name: "test")
        try keyed(job, left, "left").intervalJoin(try keyed(job, right, "right"), between: .milliseconds(-2)...(.milliseconds(1))) {
            "\(Int($0.value)),\(Int($1.value))"
        }.collect(into: collected)
        try LocalExecutor(try job.build(), clock: ManualClock()).run()
        #expect(collected.rows.sorted() == ["0,0", "0,1", "2,0", "2,1", "3,1", "5,6", "7,6", "7,7"])
        for row in collected.timedRows {
            let times = row.row.split(separator: ",").compactMap { Int64($0) }
            #expect(row.timestamp == times.max())
        }
    }

    /// Any rows in any order that the bound allows, interrupted and restored at another parallelism, against all pairs.
    @Test(arguments: 0..<30 as Range<UInt64>) func anIntervalJoinEqualsAllPairs(seed: UInt64) throws {
        var random = SplitMix64(seed: seed)
        let lower = Int64.random(in: -20...20, using: &random)
        let upper = lower + Int64.random(in: 0...20, using: &random)
        func readings() -> [Reading] {
            (0..<Int64.random(in: 1...200, using: &random)).map {
                Reading("k\(Int.random(in: 0..<4, using: &random))", $0 * 2 - Int64.random(in: 0...15, using: &random), Double($0))
            }
        }
        let left = readings()
        let right = readings()
        let text = { @Sendable (left: Reading, right: Reading) in "\(left.id) \(Int(left.value)) \(Int(right.value))" }
        var pairs: [String] = []
        for row in left {
            for partner in right where row.id == partner.id && row.time + lower <= partner.time && partner.time <= row.time + upper {
                pairs.append(text(row, partner))
            }
        }
        func program(_ rows: CollectedRows<String>) throws -> JobProgram {
            let job = JobContext(name: "test", parallelism: Int.random(in: 1...4, using: &random))
            func stream(_ rows: [Reading], _ uid: String) throws -> KeyedStream<String, Reading> {
                try job.source(
                    .collection(rows, batchSize: 3), watermarks: .boundedOutOfOrderness(.milliseconds(20), timestamp: \.time), uid: uid
                ).parallelism(1).keyed(by: \.id)
            }
            try stream(left, "left").intervalJoin(try stream(right, "right"), between: .milliseconds(lower)...(.milliseconds(upper)), text)
                .uid("join").collect(into: rows).uid("sink")
            return try job.build()
        }
        let whole = CollectedRows<String>()
        try LocalExecutor(try program(whole), clock: ManualClock()).run()
        #expect(whole.rows.sorted() == pairs.sorted())

        let before = CollectedRows<String>()
        let first = try LocalExecutor(try program(before), clock: ManualClock())
        for _ in 0..<Int.random(in: 0...100, using: &random) { _ = try first.step() }
        let snapshot = try first.snapshot()
        let kept = before.rows
        let after = CollectedRows<String>()
        try LocalExecutor(try program(after), clock: ManualClock(), restoring: snapshot).run()
        #expect(Set(kept + after.rows) == Set(pairs))
    }

    @Test func connectedStreamsShareState() throws {
        let rows: [String] = try run { job, rows in
            try keyed(job, [Self.row("a", 1, 1), Self.row("b", 2, 1), Self.row("a", 9, 1)], "orders")
                .connect(try keyed(job, [Self.row("a", 5, 7)], "limits")).process(
                    state: { try $0.value("seen", of: String.self) },
                    left: { row, seen, _ in seen.value = (seen.value ?? "") + "l\(row.time / 1_000)" },
                    right: { row, seen, context in
                        seen.value = (seen.value ?? "") + "r\(row.time / 1_000)"
                        context.registerTimer(at: 10_000)
                    },
                    timer: { time, seen, context in try context.emit("\(context.key)@\(time): \((seen.value ?? "").count)") }
                ).collect(into: rows)
        }
        #expect(rows == ["a@10000: 6"])
    }

    @Test func anIntervalJoinNeedsWatermarks() throws {
        let job = JobContext(name: "test")
        let stream = try job.source(.collection([Self.row("a", 1, 1)])).keyed(by: \.id)
        stream.intervalJoin(stream, between: .zero...(.seconds(1))) { left, _ in left }.discard()
        #expect { try job.build() } throws: { "\($0)".contains("works in event time, but no watermarks come") }
    }
}
