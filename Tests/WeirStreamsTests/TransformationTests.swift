import Testing
import WeirBase
import WeirDataflow
import WeirStreams

@Suite struct TransformationTests {
    @Test func mapFilterAndFlatMapKeepOrderAndTimes() throws {
        let rows = CollectedRows<String>()
        let job = JobContext(name: "test")
        try job.source(
            .collection([Reading("a", 10, 1), Reading("b", 20, 2), Reading("c", 30, 3)]), watermarks: .monotonous(timestamp: \.time)
        )
        .filter { $0.id != "b" }
        .map { [$0.id, $0.id + "!"] }
        .flatMap { $0 }
        .flatMap { row, emit in
            try emit(row)
            if row.hasSuffix("!") { try emit("end") }
        }
        .collect(into: rows)
        try LocalExecutor(try job.build(), clock: ManualClock()).run()
        #expect(rows.rows == ["a", "a!", "end", "c", "c!", "end"])
        #expect(rows.timedRows.map(\.timestamp) == [10, 10, 10, 30, 30, 30])
    }

    @Test func unusedStreamsAndSharedStreamsEachSeeEveryRow() throws {
        let rows: [Int] = try run { job, rows in
            let numbers = try job.source(.collection([1, 2, 3]))
            numbers.map { $0 * 10 }.union(numbers.map { $0 * 100 }).collect(into: rows)
        }
        #expect(rows.sorted() == [10, 20, 30, 100, 200, 300])
    }

    @Test(arguments: [1, 2, 3, 5]) func sumIsRollingByKey(parallelism: Int) throws {
        let rows: [KeyedValue<Int64, Int64>] = try run(parallelism: parallelism) { job, rows in
            try job.source(GeneratedSource(count: 10_000) { Int64($0) }).keyed(by: { $0 % 7 }).sum { $0 }.collect(into: rows)
        }
        #expect(rows.count == 10_000)
        for key in 0..<7 as Range<Int64> {
            let values = rows.filter { $0.key == key }.map(\.value)
            let total = (0..<10_000 as Range<Int64>).filter { $0 % 7 == key }.reduce(0, +)
            #expect(values.max() == total)
            #expect(values == values.sorted())
        }
    }

    @Test func reduceAndAggregateByStringKey() throws {
        let input = [Reading("a", 1, 5), Reading("b", 2, 1), Reading("a", 3, 2), Reading("a", 4, 9), Reading("b", 5, 0)]
        let reduced: [Reading] = try run { job, rows in
            try job.source(.collection(input)).keyed(by: \.id).reduce { Reading($0.id, $1.time, max($0.value, $1.value)) }.collect(into: rows)
        }
        #expect(reduced == [Reading("a", 1, 5), Reading("b", 2, 1), Reading("a", 3, 5), Reading("a", 4, 9), Reading("b", 5, 1)])
        let counts: [String] = try run { job, rows in
            try job.source(.collection(input)).keyed(by: \.id).aggregate(Count()) { "\($0)\($1)" }.collect(into: rows)
        }
        #expect(counts == ["a1", "b1", "a2", "a3", "b2"])
    }

    @Test(arguments: [2, 3]) func partitioningsReachTheRightSubtasks(parallelism: Int) throws {
        let broadcast: [Int] = try run { job, rows in
            try job.source(.collection(Array(0..<100))).broadcast().map { $0 }.parallelism(parallelism).collect(into: rows)
        }
        #expect(broadcast.count == 100 * parallelism)
        #expect(Set(broadcast) == Set(0..<100))
        let rebalanced: [Int] = try run { job, rows in
            try job.source(.collection(Array(0..<100), batchSize: 10)).rebalance().map { $0 }.parallelism(parallelism).collect(into: rows)
        }
        #expect(rebalanced.sorted() == Array(0..<100))
        let global: [Int] = try run(parallelism: parallelism) { job, rows in
            try job.source(GeneratedSource(count: 100) { Int($0) }).global().map { $0 }.collect(into: rows)
        }
        #expect(global.sorted() == Array(0..<100))
    }

    @Test func whatAFunctionThrowsFailsTheJobAndNamesTheOperator() throws {
        struct Bad: Error {}
        #expect {
            let _: [Int] = try run { job, rows in
                try job.source(.collection([1, 2, 3])).filter { if $0 == 2 { throw Bad() } else { return false } }.name("picky").collect(into: rows)
            }
        } throws: { error in
            let failure = error as? JobFailure
            return failure?.domain == .user && failure?.place?.operatorName == "picky"
        }
    }

    @Test func rateIsHeld() throws {
        let clock = ManualClock()
        let job = JobContext(name: "test")
        try job.source(GeneratedSource(count: 100, rate: 10) { Int($0) }).discard()
        try LocalExecutor(try job.build(), clock: clock).run()
        #expect(clock.now.nanoseconds >= 9_800_000_000)
        #expect(clock.now.nanoseconds <= 10_100_000_000)
    }
}
