import Testing
import WeirBase
import WeirDataflow
import WeirStreams

/// Any window with any lateness, over rows out of order, interrupted and restored at another parallelism, against windows kept the plain way.
@Suite struct WindowModelTests {
    /// What a window assigner, a lateness and the watermarks mean, said as simply as possible: rows in lists, searched through.
    struct Model {
        enum Kind { case sliding(size: Int64, slide: Int64), session(gap: Int64), counts(Int) }
        struct Window {
            var key: String
            var start: Int64
            var end: Int64
            var rows: [Reading]
        }

        let kind: Kind
        let lateness: Int64
        private var windows: [Window] = []
        private var watermark = Int64.min
        private(set) var results: [String] = []
        private(set) var late = 0

        init(_ kind: Kind, lateness: Int64) {
            self.kind = kind
            self.lateness = lateness
        }

        static func text(_ key: String, _ start: Int64, _ end: Int64, _ count: Int, _ sum: Double) -> String {
            "\(key) \(start)-\(end) \(count):\(sum)"
        }

        private mutating func emit(_ window: Window) {
            results.append(Self.text(window.key, window.start, window.end, window.rows.count, window.rows.reduce(0) { $0 + $1.value }))
        }

        mutating func add(_ row: Reading) {
            switch kind {
            case .counts(let count):
                let index = windows.firstIndex { $0.key == row.id } ?? windows.count
                if index == windows.count { windows.append(Window(key: row.id, start: 0, end: 0, rows: [])) }
                windows[index].rows.append(row)
                if windows[index].rows.count == count { emit(windows.remove(at: index)) }
            case .sliding(let size, let slide):
                var isTaken = false
                var isInAny = false
                for start in stride(from: (row.time / slide + 1) * slide, through: row.time - size, by: -Int(slide))
                where start <= row.time && row.time < start + size {
                    isInAny = true
                    guard start + size - 1 + lateness > watermark else { continue }
                    isTaken = true
                    let index = windows.firstIndex { $0.key == row.id && $0.start == start } ?? windows.count
                    if index == windows.count { windows.append(Window(key: row.id, start: start, end: start + size, rows: [])) }
                    windows[index].rows.append(row)
                    if start + size - 1 <= watermark { emit(windows[index]) }
                }
                if isInAny, !isTaken { late += 1 }
            case .session(let gap):
                var session = Window(key: row.id, start: row.time, end: row.time + gap, rows: [])
                var isOpen = row.time + gap - 1 + lateness > watermark
                while let index = windows.firstIndex(where: { $0.key == row.id && $0.start <= session.end && $0.end >= session.start }) {
                    let other = windows.remove(at: index)
                    session.start = min(session.start, other.start)
                    session.end = max(session.end, other.end)
                    session.rows += other.rows
                    isOpen = true
                }
                guard isOpen else { return late += 1 }
                session.rows.append(row)
                windows.append(session)
                if session.end - 1 <= watermark { emit(session) }
            }
        }

        mutating func advance(to watermark: Int64) {
            guard watermark > self.watermark else { return }
            if case .counts = kind { return }
            for window in windows where window.end - 1 > self.watermark && window.end - 1 <= watermark { emit(window) }
            windows.removeAll { $0.end - 1 + lateness <= watermark }
            self.watermark = watermark
        }
    }

    @Test(arguments: 0..<60 as Range<UInt64>) func everyWindowEqualsTheModel(seed: UInt64) throws {
        var random = SplitMix64(seed: seed)
        let size = Int64.random(in: 1...40, using: &random)
        let slide = Bool.random(using: &random) ? size : Int64.random(in: max(1, size / 5)...(size + 5), using: &random)
        let kind: Model.Kind
        switch Int.random(in: 0..<5, using: &random) {
        case 0, 1: kind = .sliding(size: size, slide: slide)
        case 2, 3: kind = .session(gap: size)
        default: kind = .counts(Int(size % 7) + 1)
        }
        let lateness = Bool.random(using: &random) ? 0 : Int64.random(in: 0...30, using: &random)
        let bound = Int64.random(in: 0...30, using: &random)
        let disorder = Int64.random(in: 0...60, using: &random)
        // Values in eighths: sums do not depend on their order.
        let rows = (0..<Int64.random(in: 1...300, using: &random)).map { index in
            Reading(
                "k\(Int.random(in: 0..<5, using: &random))", max(0, index * 2 - Int64.random(in: 0...disorder, using: &random)),
                Double(Int.random(in: 0..<64, using: &random)) / 8)
        }

        var model = Model(kind, lateness: lateness)
        var greatest = Int64.min
        for row in rows {
            model.add(row)
            greatest = max(greatest, row.time)
            model.advance(to: greatest - bound - 1)
        }
        model.advance(to: .max)

        func define(_ job: JobContext, _ collected: CollectedRows<String>) throws {
            let stream = try job.source(
                .collection(rows, batchSize: 1), watermarks: .boundedOutOfOrderness(.milliseconds(bound), timestamp: \.time), uid: "rows"
            ).parallelism(1).keyed(by: \.id)
            let emit = { @Sendable (key: String, window: TimeWindow, s: NumberSummary) in
                Model.text(key, window.isGlobal ? 0 : window.start, window.isGlobal ? 0 : window.end, s.count, s.sum)
            }
            let results: DataStream<String>
            switch kind {
            case .sliding(let size, let slide):
                results = stream.window(.sliding(.milliseconds(size), every: .milliseconds(slide))).allowedLateness(.milliseconds(lateness))
                    .aggregate(Statistics(of: \.value), emit)
            case .session(let gap):
                results = stream.window(.session(gap: .milliseconds(gap))).allowedLateness(.milliseconds(lateness))
                    .aggregate(Statistics(of: \.value), emit)
            case .counts(let count): results = stream.countWindow(count).aggregate(Statistics(of: \.value), emit)
            }
            results.uid("windows").collect(into: collected).uid("sink")
        }
        func program(_ collected: CollectedRows<String>) throws -> JobProgram {
            let job = JobContext(name: "test", parallelism: Int.random(in: 1...4, using: &random))
            try define(job, collected)
            return try job.build()
        }

        let whole = CollectedRows<String>()
        let executor = try LocalExecutor(try program(whole), clock: ManualClock())
        try executor.run()
        #expect(whole.rows.sorted() == model.results.sorted(), "\(kind), lateness \(lateness), bound \(bound)")
        #expect(executor.counter("numLateRecordsDropped", of: "window") == model.late)

        // Interrupted: what was emitted behind the barrier comes again, so the results are compared as sets.
        let before = CollectedRows<String>()
        let first = try LocalExecutor(try program(before), clock: ManualClock())
        for _ in 0..<Int.random(in: 0...300, using: &random) { _ = try first.step() }
        let snapshot = try first.snapshot()
        let kept = before.rows
        let after = CollectedRows<String>()
        try LocalExecutor(try program(after), clock: ManualClock(), restoring: snapshot).run()
        #expect(Set(kept + after.rows) == Set(model.results), "\(kind), lateness \(lateness), bound \(bound), restored")
    }
}
