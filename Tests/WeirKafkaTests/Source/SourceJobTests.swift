import Testing
import WeirBase
import WeirDataflow
import WeirFormats
import WeirStreams

@testable import WeirKafka

/// Times of records as their values say them.
private let byValue = WatermarkStrategy<String>.boundedOutOfOrderness(.zero) { Int64($0.split(separator: ":").last ?? "") ?? 0 }

/// The scenarios of whole jobs, by their numbers.
@Suite struct SourceJobTests {
    // 2
    @Test func fourTopicsOfFourPartitionsAreReadCompletelyAndInOrder() async throws {
        let kafka = try TestKafka()
        let topics = try (0..<4).map { _ in try kafka.topic(partitions: 4) }
        for (t, topic) in topics.enumerated() {
            for p in 0..<4 { try kafka.write(topic, (0..<200).map { "\(t)-\(p) \($0)" }, to: Int32(p)) }
        }
        let rows = CollectedRows<String>()
        let job = try JobRun(parallelism: 4) { job in
            try job.source(KafkaSource(kafka.bootstrap, topics: topics, format: StringFormat()).stopping(at: .latest), uid: "in").collect(into: rows)
        }
        try await job.run()
        #expect(job.isFinished)
        #expect(rows.rows.count == 3_200)
        let lanes = Dictionary(grouping: rows.rows) { $0.split(separator: " ")[0] }
        #expect(lanes.count == 16)
        for (lane, found) in lanes { #expect(found == (0..<200).map { "\(lane) \($0)" }) }
    }

    // 3
    @Test func subtasksWithoutPartitionsHoldNoWindowBackAndNoEnd() async throws {
        let kafka = try TestKafka()
        let topic = try kafka.topic(partitions: 2)
        for p in 0..<2 { try kafka.write(topic, ["a:1000", "a:2000", "a:11000"], to: Int32(p)) }
        func run(_ source: KafkaSource<KafkaValues<StringFormat>>) throws -> (JobRun, CollectedRows<String>) {
            let rows = CollectedRows<String>()
            let job = try JobRun(parallelism: 5) { job in
                try job.source(source, watermarks: byValue, uid: "in").keyed { String($0.prefix(1)) }.window(.tumbling(.seconds(10)))
                    .aggregate(Count()) { key, window, count in "\(key) \(window.start) \(count)" }.uid("windows").collect(into: rows)
            }
            return (job, rows)
        }
        let (endless, open) = try run(strings(kafka, topic))
        try await endless.run { !open.rows.isEmpty }
        #expect(open.rows == ["a 0 4"])
        let (bounded, all) = try run(strings(kafka, topic).stopping(at: .latest))
        try await bounded.run()
        #expect(bounded.isFinished)
        #expect(all.rows.sorted() == ["a 0 4", "a 10000 2"])
    }

    // 7
    @Test(arguments: [(4, 4), (2, 4), (4, 2), (1, 3)]) func aRestoredJobReadsOnlyWhatIsNew(before: Int, after: Int) async throws {
        let kafka = try TestKafka()
        let topic = try kafka.topic(partitions: 4)
        func write(_ range: Range<Int>) throws {
            for p in 0..<4 { try kafka.write(topic, range.map { "\(p)-\($0)" }, to: Int32(p)) }
        }
        try write(0..<100)
        func run(_ parallelism: Int, _ rows: CollectedRows<String>, restoring: LocalSnapshot? = nil) throws -> JobRun {
            try JobRun(parallelism: parallelism, restoring: restoring) { job in
                try job.source(strings(kafka, topic).starting(at: .latest), uid: "in").rebalance().collect(into: rows)
            }
        }
        let first = CollectedRows<String>()
        let job = try run(before, first)
        try await job.run(seconds: 1)
        #expect(first.rows.isEmpty)
        try write(100..<150)
        try await job.run { first.rows.count == 200 }
        let snapshot = try job.snapshot()
        try write(150..<200)
        let second = CollectedRows<String>()
        let restored = try run(after, second, restoring: snapshot)
        try await restored.run { second.rows.count >= 200 }
        #expect(second.rows.sorted() == (0..<4).flatMap { p in (150..<200).map { "\(p)-\($0)" } }.sorted())
    }

    // 13
    @Test(arguments: [1, 2] as [UInt64]) func aReaderKilledAtRandomGivesTheFoldOfItsInput(seed: UInt64) async throws {
        let kafka = try TestKafka()
        let topic = try kafka.topic(partitions: 3)
        for p in 0..<3 { try kafka.write(topic, (0..<20_000).map { "\($0 % 7):\($0)" }, to: Int32(p)) }
        var random = SplitMix64(seed: seed)
        var snapshot: LocalSnapshot?
        var kills = 0
        var result: [String] = []
        while result.isEmpty {
            let rows = CollectedRows<String>()
            let job = try JobRun(parallelism: Int.random(in: 1...3, using: &random), restoring: snapshot) { job in
                try job.source(strings(kafka, topic).stopping(at: .latest), watermarks: byValue, uid: "in").keyed { String($0.prefix(1)) }
                    .window(.tumbling(.seconds(1_000_000))).aggregate(Count()) { key, _, count in "\(key)=\(count)" }.uid("counts")
                    .collect(into: rows)
            }
            var life = kills < 20 ? Int.random(in: 1...3, using: &random) : Int.max
            while life > 0, !job.isFinished {
                life -= 1
                // Anything between two steps may be the last thing that the reader did.
                try await job.step(Int.random(in: 1...3, using: &random))
                if !job.isFinished, Bool.random(using: &random) { snapshot = try job.snapshot() }
            }
            if job.isFinished { result = rows.rows.sorted() } else { kills += 1 }
        }
        let fold = (0..<7).map { key in "\(key)=\(3 * (0..<20_000).count { $0 % 7 == key })" }
        #expect(result == fold)
        #expect(kills > 5)
    }

    // 16
    @Test func skewedPartitionsDropNothing() async throws {
        let kafka = try TestKafka()
        let topic = try kafka.topic(partitions: 3)
        // Partition 1 is a day behind, partition 2 a day ahead of it.
        for (p, start) in [(0, 43_200_000), (1, 0), (2, 86_400_000)] {
            try kafka.write(topic, (0..<2_000).map { "k:\(start + $0 * 1_000)" }, to: Int32(p))
        }
        let rows = CollectedRows<String>()
        let job = try JobRun(parallelism: 2) { job in
            try job.source(strings(kafka, topic).stopping(at: .latest), watermarks: byValue, uid: "in").keyed { String($0.prefix(1)) }
                .window(.tumbling(.seconds(10))).aggregate(Count()) { _, window, count in "\(window.start) \(count)" }.uid("windows")
                .collect(into: rows)
        }
        try await job.run()
        #expect(job.isFinished)
        #expect(rows.rows.count == 600)
        #expect(rows.rows.allSatisfy { $0.hasSuffix(" 10") })
        #expect(job.counter("lateRowsDropped", of: "window") == 0)
    }

    @Test func committedOffsetsNeverServeRecovery() async throws {
        let kafka = try TestKafka()
        let topic = try kafka.topic()
        try kafka.write(topic, numbers(0..<100))
        let source = strings(kafka, topic).group("g-\(topic)").starting(at: .committed(otherwise: .earliest))
        let first = CollectedRows<String>()
        let job = try JobRun(parallelism: 1) { try $0.source(source, uid: "in").collect(into: first) }
        try await job.run { first.rows.count == 100 }
        let snapshot = try job.snapshot()
        try await job.run { (try? kafka.committed("g-\(topic)", topic)) == 100 }
        #expect(try kafka.committed("g-\(topic)", topic) == 100)
        // Somebody sets the group back while the job runs: the checkpoint decides all the same.
        try kafka.commit("g-\(topic)", topic, 0, 10)
        try kafka.write(topic, ["100"])
        let second = CollectedRows<String>()
        let restored = try JobRun(parallelism: 1, restoring: snapshot) { try $0.source(source, uid: "in").collect(into: second) }
        try await restored.run { !second.rows.isEmpty }
        #expect(second.rows == ["100"])
    }

    @Test func withoutCheckpointsTheGroupIsToldAtAnInterval() async throws {
        let kafka = try TestKafka()
        let topic = try kafka.topic()
        try kafka.write(topic, numbers(0..<100))
        let source = strings(kafka, topic).group("g-\(topic)").property("enable.auto.commit", "true").property("auto.commit.interval.ms", "100")
        let rows = CollectedRows<String>()
        let job = try JobRun(parallelism: 1) { try $0.source(source, uid: "in").collect(into: rows) }
        try await job.run { job.counter("commitsSucceeded", of: "kafka(\(topic))") > 0 && rows.rows.count == 100 }
        try await job.run { (try? kafka.committed("g-\(topic)", topic)) == 100 }
        #expect(try kafka.committed("g-\(topic)", topic) == 100)
    }
}
