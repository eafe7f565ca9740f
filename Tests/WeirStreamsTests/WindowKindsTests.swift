import Testing
import WeirBase
import WeirDataflow
import WeirStreams

/// Windows of every kind, with results worked out by hand. Times are seconds; rows come one a batch, the watermark right behind them.
@Suite struct WindowKindsTests {
    typealias Windows<Trigger: WindowTrigger> = WindowedStream<String, Trigger>

    static func row(_ id: String, _ second: Double, _ value: Double = 1) -> Reading { Reading(id, Int64(second * 1_000), value) }

    static func text(_ key: String, _ window: TimeWindow, _ s: NumberSummary) -> String {
        window.isGlobal ? "\(key) \(s.count):\(Int(s.sum))" : "\(key) \(window.start / 1_000)-\(window.end / 1_000) \(s.count):\(Int(s.sum))"
    }

    /// "key start-end count:sum" of each result, in the order in which they came.
    private func results(
        _ rows: [Reading], bound: Duration = .zero, parallelism: Int = 1, clock: ManualClock = ManualClock(),
        _ define: (KeyedStream<String, Reading>) -> DataStream<String>
    ) throws -> [String] {
        let collected = CollectedRows<String>()
        let job = JobContext(name: "test", parallelism: parallelism)
        let source = try job.source(.collection(rows, batchSize: 1), watermarks: .boundedOutOfOrderness(bound, timestamp: \.time)).parallelism(1)
        define(source.keyed(by: \.id)).collect(into: collected)
        try LocalExecutor(try job.build(), clock: clock).run()
        return collected.rows
    }

    // MARK: Sliding

    @Test(arguments: [1, 2, 4]) func aRowIsInEverySlidingWindowOverIt(parallelism: Int) throws {
        let result = try results([Self.row("a", 1, 1), Self.row("a", 6, 2), Self.row("b", 11, 4)], parallelism: parallelism) {
            $0.window(.sliding(.seconds(10), every: .seconds(5))).aggregate(Statistics(of: \.value), Self.text)
        }
        #expect(result.filter { $0.hasPrefix("a") } == ["a -5-5 1:1", "a 0-10 2:3", "a 5-15 1:2"])
        #expect(result.filter { $0.hasPrefix("b") } == ["b 5-15 1:4", "b 10-20 1:4"])
    }

    @Test func aSlideThatDoesNotDivideTheSizeAndAnOffset() throws {
        // Windows [1, 8), [4, 11), [7, 14) …: a pane is a second.
        let result = try results([Self.row("a", 7.5), Self.row("a", 3.999), Self.row("a", 10)], bound: .seconds(60)) {
            $0.window(.sliding(.seconds(7), every: .seconds(3), offset: .seconds(1))).aggregate(Statistics(of: \.value), Self.text)
        }
        #expect(result == ["a -2-5 1:1", "a 1-8 2:2", "a 4-11 2:2", "a 7-14 2:2", "a 10-17 1:1"])
    }

    @Test func betweenWindowsThatAreApartRowsAreInNone() throws {
        let result = try results([Self.row("a", 0), Self.row("a", 2), Self.row("a", 3.5), Self.row("a", 10.5)], bound: .seconds(60)) {
            $0.window(.sliding(.seconds(3), every: .seconds(10))).aggregate(Statistics(of: \.value), Self.text)
        }
        #expect(result == ["a 0-3 2:2", "a 10-13 1:1"])
    }

    @Test func slidingWindowsReduceToo() throws {
        let rows: [Reading] = try run { job, rows in
            try job.source(
                .collection([Self.row("a", 1, 5), Self.row("a", 6, 7), Self.row("a", 12, 2)]), watermarks: .monotonous(timestamp: \.time)
            )
            .keyed(by: \.id).window(.sliding(.seconds(10), every: .seconds(5))).reduce { $0.value > $1.value ? $0 : $1 }.collect(into: rows)
        }
        #expect(rows.map(\.value) == [5, 7, 7, 2])
    }

    // MARK: Sessions

    @Test(arguments: [1, 2, 4]) func aSessionEndsAfterAGapAndEachKeyHasItsOwn(parallelism: Int) throws {
        let result = try results(
            [Self.row("a", 1), Self.row("b", 2), Self.row("a", 4), Self.row("a", 9.5), Self.row("b", 20)], parallelism: parallelism
        ) { $0.window(.session(gap: .seconds(5))).aggregate(Statistics(of: \.value), Self.text) }
        #expect(result.filter { $0.hasPrefix("a") } == ["a 1-9 2:2", "a 9-14 1:1"])
        #expect(result.filter { $0.hasPrefix("b") } == ["b 2-7 1:1", "b 20-25 1:1"])
    }

    @Test func aRowBetweenTwoSessionsMakesThemOne() throws {
        let result = try results([Self.row("a", 1, 1), Self.row("a", 11, 2), Self.row("a", 6, 4), Self.row("a", 30, 8)], bound: .seconds(10)) {
            $0.window(.session(gap: .seconds(5))).aggregate(Statistics(of: \.value), Self.text)
        }
        #expect(result == ["a 1-16 3:7", "a 30-35 1:8"])
    }

    @Test func sessionsThatTouchAreOne() throws {
        let result = try results([Self.row("a", 5), Self.row("a", 0)], bound: .seconds(60)) {
            $0.window(.session(gap: .seconds(5))).aggregate(Statistics(of: \.value), Self.text)
        }
        #expect(result == ["a 0-10 2:2"])
    }

    // MARK: Lateness

    @Test func withinTheAllowedLatenessAWindowGivesItsResultAgain() throws {
        let late = OutputTag<Reading>("late")
        let collected = CollectedRows<String>()
        let rejected = CollectedRows<Reading>()
        let job = JobContext(name: "test")
        // The watermark is a millisecond below the last row: 10 closes [0, 10), 14.999 + 1 ms would end its lateness of 5 s.
        let windows = try job.source(
            .collection(
                [Self.row("a", 1), Self.row("a", 10), Self.row("a", 9, 4), Self.row("b", 3, 2), Self.row("a", 15), Self.row("a", 9, 8)], batchSize: 1),
            watermarks: .monotonous(timestamp: \.time)
        )
        .keyed(by: \.id).window(.tumbling(.seconds(10))).allowedLateness(.seconds(5)).sideOutputLateData(to: late)
        .aggregate(Statistics(of: \.value), Self.text)
        windows.collect(into: collected)
        windows.sideOutput(late).collect(into: rejected)
        let executor = try LocalExecutor(try job.build(), clock: ManualClock())
        try executor.run()
        #expect(collected.rows == ["a 0-10 1:1", "a 0-10 2:5", "b 0-10 1:2", "a 10-20 2:2"])
        #expect(rejected.rows == [Self.row("a", 9, 8)])
        #expect(rejected.timedRows.map(\.timestamp) == [9_000])
        #expect(executor.counter("numLateRecordsDropped", of: "window") == 0)
    }

    @Test func lateRowsOfPlainWindowsGoToTheSideOutput() throws {
        let late = OutputTag<Reading>("late")
        let rejected = CollectedRows<Reading>()
        let job = JobContext(name: "test")
        let windows = try job.source(
            .collection([Self.row("a", 1), Self.row("a", 10), Self.row("a", 9, 4)], batchSize: 1), watermarks: .monotonous(timestamp: \.time)
        )
        .keyed(by: \.id).window(.sliding(.seconds(4), every: .seconds(2))).sideOutputLateData(to: late).aggregate(Count())
        windows.discard()
        windows.sideOutput(late).collect(into: rejected)
        try LocalExecutor(try job.build(), clock: ManualClock()).run()
        // [8, 12) is open still: the row of second 9 is in it, and late only for [6, 10).
        #expect(rejected.rows.isEmpty)
        let again = CollectedRows<Reading>()
        let second = JobContext(name: "test")
        let tumbling = try second.source(
            .collection([Self.row("a", 1), Self.row("a", 10), Self.row("a", 9, 4)], batchSize: 1), watermarks: .monotonous(timestamp: \.time)
        )
        .keyed(by: \.id).window(.tumbling(.seconds(2))).sideOutputLateData(to: late).aggregate(Count())
        tumbling.discard()
        tumbling.sideOutput(late).collect(into: again)
        try LocalExecutor(try second.build(), clock: ManualClock()).run()
        #expect(again.rows == [Self.row("a", 9, 4)])
    }

    @Test func aLateRowJoinsASessionThatIsOpenStill() throws {
        // At watermark 9.999 the row of second 2 would make a session that ended at 7; it touches the open one of 6-15.
        let result = try results([Self.row("a", 6), Self.row("a", 10), Self.row("a", 2, 4), Self.row("b", 2)]) {
            $0.window(.session(gap: .seconds(5))).aggregate(Statistics(of: \.value), Self.text)
        }
        #expect(result == ["a 2-15 3:6"])
    }

    // MARK: Triggers and evictors

    @Test func countWindowsForgetAndSlidingOnesKeepTheLastRows() throws {
        let rows = (1...7).map { Self.row("a", Double($0), Double($0)) }
        #expect(try results(rows) { $0.countWindow(3).aggregate(Statistics(of: \.value), Self.text) } == ["a 3:6", "a 3:15"])
        #expect(
            try results(rows) { $0.countWindow(4, every: 2).aggregate(Statistics(of: \.value), Self.text) } == ["a 2:3", "a 4:10", "a 4:18"])
    }

    @Test func everyKeyCountsForItself() throws {
        let rows = CollectedRows<Int>()
        let job = JobContext(name: "test")
        try job.source(.collection((0..<200).map { Self.row("k\($0 / 2)", Double($0)) }), watermarks: .monotonous(timestamp: \.time), uid: "s")
            .keyed(by: \.id).countWindow(2).aggregate(Count()) { _, _, count in count }.uid("w").collect(into: rows).uid("c")
        let executor = try LocalExecutor(try job.build(), clock: ManualClock())
        try executor.run()
        #expect(rows.rows == [Int](repeating: 2, count: 100))
    }

    @Test func aCountTriggerFiresWithinAWindowAndNotAtItsEnd() throws {
        let result = try results([Self.row("a", 1), Self.row("a", 2), Self.row("a", 3), Self.row("a", 20)]) {
            $0.window(.tumbling(.seconds(10))).trigger(.count(2)).aggregate(Statistics(of: \.value), Self.text)
        }
        #expect(result == ["a 0-10 2:2"])
    }

    @Test func aContinuousTriggerFiresOnItsWayAndAtTheEnd() throws {
        let result = try results([Self.row("a", 1), Self.row("a", 2.5), Self.row("a", 4.5), Self.row("a", 20)]) {
            $0.window(.tumbling(.seconds(10))).trigger(.continuousEventTime(every: .seconds(2))).aggregate(Statistics(of: \.value), Self.text)
        }
        // At 2 s the row of 2.5 s has come already, which brought the watermark there; then at 4, 6 and 8 s, and at the end. The end of the data
        // brings all times of the other window at once.
        #expect(result == ["a 0-10 2:2", "a 0-10 3:3", "a 0-10 3:3", "a 0-10 3:3", "a 0-10 3:3"] + [String](repeating: "a 20-30 1:1", count: 5))
    }

    @Test func aPurgingTriggerGivesEachRowOnce() throws {
        let result = try results([Self.row("a", 1), Self.row("a", 2), Self.row("a", 3), Self.row("a", 4)]) {
            $0.window(.tumbling(.seconds(10))).trigger(.purging(.count(2))).aggregate(Statistics(of: \.value), Self.text)
        }
        #expect(result == ["a 0-10 2:2", "a 0-10 2:2"])
    }

    /// Flink's top-speed example: the greatest of the last seconds, whenever another 50 m are done.
    @Test func aDeltaTriggerWithATimeEvictor() throws {
        let rows = [(0, 0), (1, 20), (2, 60), (3, 90), (4, 140)].map { Self.row("car", Double($0.0), Double($0.1)) }
        let result = try results(rows) {
            $0.window(.global).trigger(.delta(threshold: 50) { $1.value - $0.value }).evictor(.time(.seconds(2)))
                .process { key, rows, context in try context.emit("\(key) \(rows.map { Int($0.value) })") }
        }
        #expect(result == ["car [20, 60]", "car [90, 140]"])
    }

    // MARK: Processing time

    @Test func windowsOfProcessingTimeFollowTheClock() throws {
        // Ten rows a second, whatever their event times: the clock stands still until all that can be done is done.
        func counts(_ assigner: WindowAssigner) throws -> [String] {
            let rows = CollectedRows<String>()
            let job = JobContext(name: "test")
            try job.source(GeneratedSource(count: 30, rate: 10) { Self.row("a", Double($0 % 3)) }).keyed(by: \.id).window(assigner)
                .aggregate(Statistics(of: \.value), Self.text).collect(into: rows)
            try LocalExecutor(try job.build(), clock: ManualClock()).run()
            return rows.rows
        }
        let tumbling = try counts(.tumbling(.seconds(1), time: .processing))
        #expect(tumbling.map { $0.prefix(5) } == ["a 0-1", "a 1-2", "a 2-3"])
        #expect(tumbling.allSatisfy { $0.hasSuffix(" 10:10") }, "\(tumbling)")
        let sliding = try counts(.sliding(.seconds(2), every: .seconds(1), time: .processing))
        #expect(sliding == ["a -1-1 10:10", "a 0-2 20:20", "a 1-3 20:20"])
        // A row every 100 ms keeps the session open until the source ends.
        #expect(try counts(.session(gap: .milliseconds(500), time: .processing)) == [])
        #expect(try counts(.session(gap: .milliseconds(50), time: .processing)).count == 30)
    }

    @Test func aTriggerOfProcessingTimeFiresWindowsOfEventTime() throws {
        let rows = CollectedRows<String>()
        let job = JobContext(name: "test")
        try job.source(
            GeneratedSource(count: 30, rate: 10) { Self.row("a", Double($0) / 1_000) },
            watermarks: .boundedOutOfOrderness(.seconds(60), timestamp: \.time)
        )
        .keyed(by: \.id).window(.tumbling(.seconds(10))).trigger(.continuousProcessingTime(every: .seconds(1)))
        .aggregate(Statistics(of: \.value), Self.text).collect(into: rows)
        try LocalExecutor(try job.build(), clock: ManualClock()).run()
        #expect(rows.rows == ["a 0-10 10:10", "a 0-10 20:20", "a 0-10 30:30"])
    }

    // MARK: All rows

    @Test func windowAllTakesEveryKey() throws {
        let rows: [WindowResult<WholeStream, Int>] = try run(parallelism: 3) { job, rows in
            try job.source(
                .collection([Self.row("a", 1), Self.row("b", 2), Self.row("c", 12)]), watermarks: .monotonous(timestamp: \.time)
            )
            .windowAll(.tumbling(.seconds(10))).aggregate(Count()).collect(into: rows)
        }
        #expect(rows.map(\.value) == [2, 1])
    }

    // MARK: Bad input

    @Test func timesAtBothEndsAreNoTrap() throws {
        let rows = [Reading("a", 0, 4), Reading("a", .min + 1, 1), Reading("a", .max, 2)]
        for assigner: WindowAssigner in [
            .tumbling(.seconds(1)), .sliding(.seconds(2), every: .seconds(1)), .session(gap: .seconds(1)), .sliding(.seconds(1), every: .seconds(3)),
        ] {
            let result = try results(rows, bound: .seconds(1 << 41)) {
                $0.window(assigner).allowedLateness(.seconds(1)).aggregate(Count()) { "\($0)\($2)" }
            }
            #expect(result.count >= 1, "\(assigner)")
        }
    }

    @Test func wrongWindowsAreRefusedWithTheLineOfTheCall() throws {
        func problems(_ define: (KeyedStream<String, Reading>) -> Void) -> String {
            let job = JobContext(name: "test")
            do {
                define(try job.source(.collection([Reading]()), watermarks: .monotonous(timestamp: \.time)).keyed(by: \.id))
                _ = try job.build()
                return ""
            } catch { return "\(error)" }
        }
        #expect(problems { $0.window(.session(gap: .zero)).aggregate(Count()).discard() }.contains("a session gap of 0.0 seconds"))
        #expect(problems { $0.window(.sliding(.seconds(1), every: .zero)).aggregate(Count()).discard() }.contains("a window slide of 0.0 seconds"))
        #expect(problems { $0.countWindow(0).aggregate(Count()).discard() }.contains("a trigger for every 0 rows"))
        #expect(problems { $0.countWindow(0, every: 1).aggregate(Count()).discard() }.contains("an evictor that keeps 0 rows"))
        #expect(problems { $0.window(.global).aggregate(Count()).discard() }.contains("a global window has no end"))
        let interval = problems { $0.window(.global).trigger(.purging(.continuousEventTime(every: .zero))).aggregate(Count()).discard() }
        #expect(interval.contains("a trigger every 0.0 seconds"))
        let span = problems { $0.window(.global).trigger(.count(1)).evictor(.time(.zero)).aggregate(Count()).discard() }
        #expect(span.contains("an evictor that keeps 0.0 seconds"))
        let lateness = problems { $0.window(.tumbling(.seconds(1))).allowedLateness(.seconds(-1)).aggregate(Count()).discard() }
        #expect(lateness.contains("an allowed lateness of -1.0 seconds") && lateness.contains("WindowKindsTests.swift:"))
    }
}

@Suite struct DurationTests {
    @Test func longSpansAreClamped() {
        #expect(Duration.minutes(2) == .seconds(120) && Duration.hours(1) == .minutes(60) && Duration.days(1) == .hours(24))
        #expect(Duration.days(.max) == .seconds(Int64.max) && Duration.hours(.min) == .seconds(Int64.min))
    }
}
