import Testing
import WeirBase
import WeirFormats
import WeirStreams

@testable import WeirKafka

/// Scenario 9: each start position, each stop position, and their failures.
@Suite struct SourceStartTests {
    private let kafka: TestKafka
    private let topic: String

    /// Ten records at 1 s, 2 s … 10 s in each of two partitions.
    init() throws {
        kafka = try TestKafka()
        topic = try kafka.topic(partitions: 2)
        for partition in 0..<2 as Range<Int32> {
            try kafka.write(topic, (0..<10).map { TestRecord(value: "\(partition)-\($0)", partition: partition, timestamp: Int64($0 + 1) * 1_000) })
        }
    }

    private var source: KafkaSource<KafkaValues<StringFormat>> { strings(kafka, topic).stopping(at: .latest) }

    private func rows(_ source: KafkaSource<KafkaValues<StringFormat>>) async throws -> [String] {
        let harness = try SourceHarness(source)
        try await harness.run(seconds: 15)
        #expect(harness.isFinished)
        return harness.rows.sorted()
    }

    private func expected(from first: Int, to end: Int = 10) -> [String] { (0..<2).flatMap { p in (first..<end).map { "\(p)-\($0)" } }.sorted() }

    @Test func earliest() async throws { #expect(try await rows(source) == expected(from: 0)) }

    @Test func latest() async throws {
        #expect(try await rows(source.starting(at: .latest)) == [])
        let harness = try SourceHarness(strings(kafka, topic).starting(at: .latest))
        try await harness.run { (try? harness.positions().map(\.next)) == [10, 10] }
        try kafka.write(topic, ["new"], to: 1)
        try await harness.run { !harness.rows.isEmpty }
        #expect(harness.rows == ["new"])
    }

    @Test(arguments: [(0, 0), (1_000, 0), (3_001, 3), (10_000, 9), (10_001, 10)])
    func timestamp(time: Int64, first: Int) async throws {
        #expect(try await rows(source.starting(at: .timestamp(time))) == expected(from: first))
    }

    @Test func aTimestampBehindEverythingIsTheEndOfThatMoment() async throws {
        let harness = try SourceHarness(strings(kafka, topic).starting(at: .timestamp(4_000_000_000_000)))
        try await harness.run { (try? harness.positions().map(\.next)) == [10, 10] }
        // Records that come later with any time are read.
        try kafka.write(topic, ["after"], to: 0, timestamp: 1_000)
        try await harness.run { !harness.rows.isEmpty }
        #expect(harness.rows == ["after"])
    }

    @Test func committedOffsetsAndTheirReset() async throws {
        let group = "g-\(topic)"
        try kafka.commit(group, topic, 0, 7)
        let grouped = source.group(group)
        let fromSeven = (7..<10).map { "0-\($0)" }
        #expect(try await rows(grouped.starting(at: .committed(otherwise: .earliest))) == fromSeven + (0..<10).map { "1-\($0)" })
        #expect(try await rows(grouped.starting(at: .committed(otherwise: .latest))) == fromSeven)
        let failed = await failure { _ = try await rows(grouped.starting(at: .committed(otherwise: .fail))) }
        #expect(failed?.domain == .configuration)
        #expect(failed?.recovery == .fail)
        #expect(
            failed?.message
                == "the source has nowhere to start in \(topic)[1]: the group \"\(group)\" has committed no offset, and no reset is allowed")
        #expect(throws: ConfigurationError.self) { try source.starting(at: .committed(otherwise: .earliest)).validate() }
    }

    @Test func specificOffsetsAndWhatIsNotListed() async throws {
        func from(_ otherwise: KafkaStart.Reset, group: String? = nil) async throws -> [String] {
            let start = KafkaStart.offsets([topic: [0: 4]], otherwise: otherwise)
            return try await rows(group.map { source.group($0).starting(at: start) } ?? source.starting(at: start))
        }
        let listed = (4..<10).map { "0-\($0)" }
        #expect(try await from(.earliest) == listed + (0..<10).map { "1-\($0)" })
        #expect(try await from(.latest) == listed)
        // An unlisted partition falls to the group's offset first.
        try kafka.commit("g-\(topic)", topic, 1, 8)
        #expect(try await from(.fail, group: "g-\(topic)") == listed + ["1-8", "1-9"])
        let failed = await failure { _ = try await from(.fail) }
        #expect(failed?.message.contains("\(topic)[1]: it is not listed") == true)
    }

    @Test func stops() async throws {
        let all = strings(kafka, topic)
        #expect(try await rows(all.stopping(at: .timestamp(4_500))) == expected(from: 0, to: 4))
        #expect(try await rows(all.stopping(at: .offsets([topic: [0: 3, 1: 3]]))) == expected(from: 0, to: 3))
        try kafka.commit("g-\(topic)", topic, 0, 2)
        let failed = await failure { _ = try await rows(all.group("g-\(topic)").stopping(at: .committed)) }
        #expect(failed?.message == "the source has nowhere to stop in \(topic)[1]: the group \"g-\(topic)\" has committed no offset")
        try kafka.commit("g-\(topic)", topic, 1, 2)
        #expect(try await rows(all.group("g-\(topic)").stopping(at: .committed)) == expected(from: 0, to: 2))
        let unlisted = await failure { _ = try await rows(all.stopping(at: .offsets([topic: [0: 3]]))) }
        #expect(unlisted?.message == "the source has no stop offset for \(topic)[1]: list every partition")
    }

    @Test func missingTopicsAndPartitionsAreNamed() async throws {
        let missing = await failure { try await SourceHarness(strings(kafka, topic, "nowhere-\(topic)")).run(seconds: 15) }
        #expect(missing?.recovery == .fail)
        #expect(missing?.message.hasPrefix("the Kafka topic \"nowhere-\(topic)\" does not exist at \(kafka.bootstrap)") == true)
        let partitions = KafkaSource(kafka.bootstrap, .partitions([topic: [1, 9]]), schema: KafkaValues(StringFormat()))
        let absent = await failure { try await SourceHarness(partitions).run(seconds: 15) }
        #expect(absent?.message.hasPrefix("the Kafka partition \(topic)[9] does not exist") == true)
    }

    @Test func partitionsAndPatternsReadOnlyWhatTheySay() async throws {
        let one = KafkaSource(kafka.bootstrap, .partitions([topic: [1]]), schema: KafkaValues(StringFormat())).stopping(at: .latest)
        #expect(try await rows(one) == (0..<10).map { "1-\($0)" })
        let matching = KafkaSource(kafka.bootstrap, .pattern(topic), schema: KafkaValues(StringFormat())).stopping(at: .latest)
        #expect(try await rows(matching) == expected(from: 0))
        // A part of the name is no match.
        let part = KafkaSource(kafka.bootstrap, .pattern(String(topic.dropLast())), schema: KafkaValues(StringFormat())).stopping(at: .latest)
        #expect(try await rows(part) == [])
    }

    @Test func aSourceStartsByTheJobsOptions() async throws {
        let wrong = KafkaSource("127.0.0.1:1", topics: ["nowhere"], format: StringFormat()).stopping(at: .latest)
        let options = ["kafka.property.bootstrap.servers": kafka.bootstrap, "kafka.test.topics": topic]
        let harness = try SourceHarness(wrong, settings: options)
        try await harness.run(seconds: 15)
        #expect(harness.rows.sorted() == expected(from: 0))
    }

    @Test func whatIsLookedUpStandsInTheStateAndIsNotLookedUpAgain() async throws {
        let first = try SourceHarness(strings(kafka, topic).starting(at: .timestamp(5_000)).stopping(at: .latest))
        try await first.run(budget: 1) { first.rows.count == 1 }
        let state = try first.snapshot()
        try kafka.write(topic, ["later"], to: 0, timestamp: 5_000)
        let second = try SourceHarness(strings(kafka, topic).starting(at: .timestamp(9_000)).stopping(at: .latest), restoring: state)
        try await second.run(seconds: 15)
        #expect(second.isFinished)
        #expect((first.rows.prefix(1) + second.rows).sorted() == expected(from: 4))
    }
}
