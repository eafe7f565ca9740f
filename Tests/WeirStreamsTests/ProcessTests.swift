import Testing
import WeirBase
import WeirDataflow
import WeirStreams

@Suite struct ProcessTests {
    @Test func closuresWithValueAndListState() throws {
        let rows: [String] = try run { job, rows in
            try job.source(.collection([Reading("a", 1, 1), Reading("b", 2, 2), Reading("a", 3, 3)]))
                .keyed(by: \.id)
                .process(state: { (try $0.value("count", of: Int.self), try $0.list("seen", of: Double.self)) }) { row, state, context in
                    let (count, seen) = state
                    count.update(from: 0) { $0 += 1 }
                    seen.append(row.value)
                    try context.emit("\(context.key) \(count.value ?? 0) \(seen.elements)")
                }
                .collect(into: rows)
        }
        #expect(rows == ["a 1 [1.0]", "b 1 [2.0]", "a 2 [1.0, 3.0]"])
    }

    @Test func eventTimeTimersFireInOrderOncePerKeyAndTime() throws {
        let rows = CollectedRows<String>()
        let job = JobContext(name: "test")
        try job.source(
            .collection([Reading("a", 1, 30), Reading("b", 2, 20), Reading("a", 3, 30), Reading("a", 4, 10), Reading("b", 100, 200)], batchSize: 1),
            watermarks: .monotonous(timestamp: \.time)
        )
        .keyed(by: \.id)
        .process(
            state: { _ in () },
            timer: { time, _, context in try context.emit("\(context.key)@\(time)") },
            { row, _, context in
                context.registerTimer(at: Int64(row.value))
                if row.time == 4 { context.deleteTimer(at: 10) }
            }
        )
        .collect(into: rows)
        try LocalExecutor(try job.build(), clock: ManualClock()).run()
        #expect(rows.rows == ["b@20", "a@30", "b@200"])
        #expect(rows.timedRows.map(\.timestamp) == [20, 30, 200])
    }

    @Test func processingTimeTimersFireByTheInjectedClock() throws {
        struct Delay: KeyedProcessFunction {
            mutating func process(_ row: Int, _ context: ProcessContext<Int, Int64>) throws {
                if row == 0 { context.registerProcessingTimeTimer(at: context.processingTime() + 500) }
            }
            mutating func processingTimeTimer(at time: Int64, _ context: ProcessContext<Int, Int64>) throws { try context.emit(time) }
        }
        let rows = CollectedRows<Int64>()
        let job = JobContext(name: "test")
        try job.source(GeneratedSource(count: 20, rate: 10) { Int($0) }).keyed(by: { $0 }).process { _ in Delay() }.collect(into: rows)
        try LocalExecutor(try job.build(), clock: ManualClock()).run()
        #expect(rows.rows == [500])
    }
}
