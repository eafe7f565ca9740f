import Testing
import WeirBase
import WeirDataflow
import WeirFormats
import WeirStreams

@testable import WeirKafka

@Suite struct KafkaSourceTests {
    typealias Strings = KafkaSource<KafkaValues<StringFormat>>

    @Test func wakesTheSlotWhenRecordsCome() async throws {
        let kafka = try TestKafka()
        let topic = try kafka.topic()
        let harness = try SourceHarness(strings(kafka, topic))
        try await harness.run(seconds: 0.3)
        let woken = harness.waker.woken
        try kafka.write(topic, numbers(0..<1), to: 0)
        let end = ContinuousClock.now + .seconds(10)
        while harness.waker.woken == woken, ContinuousClock.now < end { try await Task.sleep(for: .milliseconds(1)) }
        #expect(harness.waker.woken > woken)
        try await harness.run { harness.rows.count == 1 }
        #expect(harness.rows == ["0"])
    }

    @Test func anUnreachableBrokerIsNamedWithinTheTimeout() async throws {
        let clock = ContinuousClock.now
        let failed = await failure {
            try await SourceHarness(Strings("127.0.0.1:1", topics: ["a"], format: StringFormat()).lookupTimeout(.milliseconds(700))).run(seconds: 10)
        }
        #expect(ContinuousClock.now - clock < .seconds(5))
        #expect(failed?.recovery == .restart)
        #expect(failed?.message.contains("no Kafka broker at 127.0.0.1:1 answered within 700 ms") == true)
        #expect(failed?.cause?.contains("Connection refused") == true, "\(String(describing: failed))")
    }

    @Test func anUnknownPropertyIsNamed() async throws {
        let failed = await failure {
            try await SourceHarness(Strings("127.0.0.1:1", topics: ["a"], format: StringFormat()).property("no.such.property", "1")).run(seconds: 10)
        }
        #expect(failed?.domain == .configuration)
        #expect(failed?.message.contains("no.such.property") == true)
    }

    @Test func anAbortedCheckpointCommitsNothing() async throws {
        let kafka = try TestKafka()
        let topic = try kafka.topic()
        try kafka.write(topic, numbers(0..<10), to: 0)
        let harness = try SourceHarness(strings(kafka, topic).group("g-\(topic)"))
        try await harness.run { harness.rows.count == 10 }
        _ = try harness.snapshot(1)
        try harness.source.checkpointAborted(1)
        try harness.source.checkpointCompleted(1)
        try await harness.run(seconds: 0.2)
        let failed = await failure {
            try await SourceHarness(strings(kafka, topic).group("g-\(topic)").starting(at: .committed(otherwise: .fail))).run(seconds: 10)
        }
        #expect(failed != nil)
    }

    @Test func boundedStopsBelowTheStopOffset() async throws {
        let kafka = try TestKafka()
        let topic = try kafka.topic(partitions: 2)
        try kafka.write(topic, numbers(0..<10), to: 0)
        try kafka.write(topic, numbers(10..<20), to: 1)
        let harness = try SourceHarness(strings(kafka, topic).stopping(at: .offsets([topic: [0: 3, 1: 0]])))
        try await harness.run(seconds: 10)
        #expect(harness.isFinished)
        #expect(harness.rows == ["0", "1", "2"])
    }

    @Test func aBoundedSourceKeepsItsEndOverARestore() async throws {
        let kafka = try TestKafka()
        let topic = try kafka.topic()
        try kafka.write(topic, numbers(0..<10), to: 0)
        let first = try SourceHarness(strings(kafka, topic).stopping(at: .latest))
        try await first.run(budget: 4) { first.rows.count >= 4 }
        let state = try first.snapshot()
        try kafka.write(topic, numbers(10..<20), to: 0)
        let second = try SourceHarness(strings(kafka, topic).stopping(at: .latest), restoring: state)
        try await second.run(seconds: 10)
        #expect(second.isFinished)
        #expect(first.rows.prefix(4) + second.rows == numbers(0..<10)[...])
    }

    @Test func rowsCarryKafkasTimestamps() async throws {
        let kafka = try TestKafka()
        let topic = try kafka.topic()
        try kafka.write(topic, ["x"], to: 0, timestamp: 1_234_567)
        let harness = try SourceHarness(strings(kafka, topic), watermarks: .boundedOutOfOrderness(.milliseconds(100)))
        try await harness.run { !harness.rows.isEmpty }
        #expect(harness.collector.timestamps == [1_234_567])
        #expect(harness.control.watermarks == [1_234_466])
    }

    @Test func aSubtaskWithoutPartitionsIsIdle() async throws {
        let kafka = try TestKafka()
        let topic = try kafka.topic()
        let harness = try SourceHarness(strings(kafka, topic), watermarks: .monotonous, subtask: 1, of: 2)
        try await harness.run(seconds: 0.1)
        #expect(harness.control.statuses == [true])
        #expect(!harness.isFinished)
    }

    @Test func aDamagedStateIsAFailure() async throws {
        let kafka = try TestKafka()
        let topic = try kafka.topic()
        let failed = await failure { try await SourceHarness(strings(kafka, topic), restoring: [[1, 2, 3]]).run(seconds: 10) }
        #expect(failed?.domain == .system)
    }

    @Test func aCheckpointOfATopicMadeAnewSmallerIsAFailure() async throws {
        let kafka = try TestKafka()
        let topic = try kafka.topic()
        let state = [KafkaPosition(split: KafkaPartition(topic, 5), next: 3).encode()]
        let failed = await failure { try await SourceHarness(strings(kafka, topic), restoring: state).run(seconds: 10) }
        #expect(failed?.message.contains("\(topic)[5] is in the checkpoint, but the topic has only 1 partitions") == true)
    }

    @Test func nothingWaitsOnTheSlotsThread() async throws {
        let clock = ContinuousClock()
        // Nobody answers at this address, and the lookup may take long.
        let harness = try SourceHarness(Strings("127.0.0.1:1", topics: ["a"], format: StringFormat()).lookupTimeout(.seconds(30)))
        let took = try clock.measure {
            for checkpoint in 1...50 as ClosedRange<UInt64> {
                #expect(try harness.source.poll(budget: 1_024) == .idle(wakeAfter: nil))
                _ = try harness.snapshot(checkpoint)
            }
            harness.source.close()
        }
        #expect(took < .seconds(10), "one lookup takes 30 s")
    }
}
