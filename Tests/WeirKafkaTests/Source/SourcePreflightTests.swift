import Testing
import WeirBase
import WeirFormats
import WeirStreams

@testable import WeirKafka

@Suite struct SourcePreflightTests {
    private func findings(
        _ source: KafkaSource<KafkaValues<StringFormat>>, parallelism: Int = 1, settings: [String: String] = [:]
    ) throws -> [PreflightFinding] {
        let job = JobContext(name: "test", parallelism: parallelism)
        try job.source(source, uid: "in").discard()
        return try job.build().preflight.run(settings: settings)
    }

    @Test func whatIsThereIsNotTalkedAbout() throws {
        let kafka = try TestKafka()
        let topic = try kafka.topic(partitions: 2)
        #expect(try findings(strings(kafka, topic).group("g-\(topic)"), parallelism: 2) == [])
    }

    @Test func missingTopicsAndPartitionsAreErrorsAllAtOnce() throws {
        let kafka = try TestKafka()
        let topic = try kafka.topic(partitions: 2)
        let found = try findings(strings(kafka, "x-\(topic)", topic, "y-\(topic)"))
        #expect(found.map(\.severity) == [.error, .error])
        #expect(found.first?.message.contains("the Kafka topic \"x-\(topic)\" does not exist at \(kafka.bootstrap)") == true)
        let partitions = KafkaSource(kafka.bootstrap, .partitions([topic: [1, 2]]), schema: KafkaValues(StringFormat()))
        #expect(try findings(partitions).first?.message.contains("the Kafka partition \(topic)[2] does not exist: the topic has 2") == true)
    }

    @Test func abrokerThatDoesNotAnswerIsAnError() throws {
        let source = KafkaSource("127.0.0.1:1", topics: ["a"], format: StringFormat()).lookupTimeout(.milliseconds(500))
        let found = try findings(source)
        #expect(found.count == 1)
        #expect(found.first?.severity == .error)
        #expect(found.first?.message.contains("no Kafka broker at 127.0.0.1:1 answered within 500 ms") == true)
    }

    @Test func theOptionsDecideWhatIsLookedAt() throws {
        let kafka = try TestKafka()
        let topic = try kafka.topic()
        let source = KafkaSource("127.0.0.1:1", topics: ["a"], format: StringFormat())
        #expect(try findings(source, settings: ["kafka.in.property.bootstrap.servers": kafka.bootstrap, "kafka.in.topics": topic]) == [])
        let refused = try findings(strings(kafka, topic), settings: ["kafka.in.property.enable.partition.eof": "true"])
        #expect(refused.first?.message.contains("the Kafka property enable.partition.eof is set by Weir") == true)
        let unknown = try findings(strings(kafka, topic), settings: ["kafka.property.no.such": "1"])
        #expect(unknown.first?.message.contains("the Kafka property no.such") == true)
    }

    @Test func subtasksWithNothingToReadAndPatternsWithoutATopicAreDoubtful() throws {
        let kafka = try TestKafka()
        let topic = try kafka.topic(partitions: 2)
        let idle = try findings(strings(kafka, topic), parallelism: 5)
        #expect(idle == [PreflightFinding(.warning, "source \"kafka(\(topic))\": 3 of 5 subtasks have nothing to read: there are 2 partitions")])
        let pattern = KafkaSource(kafka.bootstrap, .pattern("none-\(topic)"), schema: KafkaValues(StringFormat()))
        #expect(try findings(pattern).map(\.severity) == [.warning])
    }

    @Test func aMissingDeadLetterTopicIsDoubtful() throws {
        let kafka = try TestKafka()
        let topic = try kafka.topic()
        #expect(try findings(strings(kafka, topic).onPoison(.deadLetter(topic: topic + "-x"))).map(\.severity) == [.warning])
    }

    @Test func twoSourcesThatCommitForOneGroupAndTopicAreDoubtful() throws {
        let kafka = try TestKafka()
        let topic = try kafka.topic()
        let job = JobContext(name: "test")
        for uid in ["one", "two"] { try job.source(strings(kafka, topic).group("g-\(topic)"), uid: uid).discard() }
        let found = try job.build().preflight.run(settings: [:])
        #expect(found.count == 1)
        #expect(found.first?.severity == .warning)
        #expect(found.first?.message.contains("shares the offsets of the consumer group and topic \"g-\(topic), \(topic)\"") == true)
    }

    @Test(.enabled(if: TestKafka.isEmbedded)) func aGroupWithMembersIsDoubtful() async throws {
        let kafka = try TestKafka()
        let topic = try kafka.topic()
        let member = try GroupMember(kafka, group: "g-\(topic)", topic: topic)
        try await member.waitForAssignment()
        let found = try findings(strings(kafka, topic).group("g-\(topic)"))
        #expect(found.map(\.severity) == [.warning])
        #expect(found.first?.message.contains("has 1 members now") == true)
    }
}
