import Testing
import WeirBase
import WeirDataflow
import WeirStreams

/// State of every kind, restored at another parallelism: nothing is lost, doubled or on the wrong subtask.
@Suite struct RescalingTests {
    private static let maxParallelism = 16
    private static let keys = 60
    /// So many that the data has not ended when both snapshots are taken.
    private static let rows: UInt64 = 40_000

    struct Scale: CustomTestStringConvertible {
        var before: Int
        var after: Int
        var testDescription: String { "\(before) to \(after)" }
    }

    /// From 1, some p, and max, to 1, p - 1, p, p + 1 and max.
    private static let scales: [Scale] = [1, 4, maxParallelism].flatMap { before in
        Set([1, before - 1, before, before + 1, maxParallelism]).filter { (1...maxParallelism).contains($0) }.sorted()
            .map { Scale(before: before, after: $0) }
    }

    /// Five kinds of state and a timer that fires behind all data: each key says once what it has seen.
    private struct EveryKind: KeyedProcessFunction {
        let last: ValueState<Int64>
        let list: ListState<Int64>
        let map: MapState<Int64, Int64>
        let greatest: ReducingState<Int64>
        let sum: AggregatingState<Int64, Int64>

        init(_ state: KeyedStateStore) throws {
            last = try state.value("value")
            list = try state.list("list")
            map = try state.map("map")
            greatest = try state.reducing("reducing") { max($0, $1) }
            sum = try state.aggregating("aggregating", initial: { 0 }, add: { $0 += $1 })
        }

        func process(_ row: Int64, _ context: ProcessContext<Int64, String>) throws {
            last.update(from: 0) { $0 += 1 }
            if row % 97 == 0 { list.append(row) }
            map[row % 7] = (map[row % 7] ?? 0) + 1
            try greatest.add(row)
            try sum.add(row)
            context.registerTimer(at: 1_000_000_000)
        }

        func timer(at time: Int64, _ context: ProcessContext<Int64, String>) throws {
            let entries = map.entries.sorted { $0.key < $1.key }.map { "\($0.key):\($0.value)" }.joined(separator: ",")
            try context.emit(
                "\(context.key) \(last.value ?? 0) \(list.elements.sorted()) \(entries) \(greatest.value ?? 0) \(sum.accumulator ?? 0)")
        }
    }

    private func program(_ parallelism: Int, into rows: CollectedRows<String>) throws -> JobProgram {
        let job = JobContext(name: "rescaling", parallelism: parallelism, maxParallelism: Self.maxParallelism)
        try job.source(
            GeneratedSource(count: Self.rows, batchSize: 32) { Int64($0) },
            watermarks: .boundedOutOfOrderness(.milliseconds(1), timestamp: { $0 }), uid: "numbers"
        )
        .keyed(by: { $0 % Int64(Self.keys) }).process { try EveryKind($0) }.uid("kinds").collect(into: rows).uid("sink")
        return try job.build()
    }

    @Test(arguments: scales) func everyKindOfStateIsRestored(scale: Scale) throws {
        let plain = CollectedRows<String>()
        try LocalExecutor(try program(1, into: plain), clock: ManualClock()).run()
        #expect(plain.rows.count == Self.keys)

        let first = CollectedRows<String>()
        let executor = try LocalExecutor(try program(scale.before, into: first), clock: ManualClock())
        for _ in 0..<4 { _ = try executor.step() }
        let snapshot = try executor.snapshot()
        #expect(first.rows.isEmpty, "the data has not ended")
        let second = CollectedRows<String>()
        let restored = try LocalExecutor(try program(scale.after, into: second), clock: ManualClock(), restoring: snapshot)
        // Once more in between: what was restored is saved as whole as it came.
        let again = try restored.snapshot()
        let third = CollectedRows<String>()
        try LocalExecutor(try program(scale.before, into: third), clock: ManualClock(), restoring: again).run()
        #expect(third.rows.sorted() == plain.rows.sorted())
        try restored.run()
        #expect(second.rows.sorted() == plain.rows.sorted())
    }
}
