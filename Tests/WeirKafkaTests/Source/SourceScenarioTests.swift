import CRdKafka
import Testing
import WeirBase
import WeirBroker
import WeirDataflow
import WeirFormats
import WeirKafkaWire
import WeirStreams

@testable import WeirKafka

func numbers(_ range: Range<Int>) -> [String] { range.map { "\($0)" } }

/// Sources of strings at a test's broker.
func strings(_ kafka: TestKafka, _ topics: String...) -> KafkaSource<KafkaValues<StringFormat>> {
    KafkaSource(kafka.bootstrap, topics: topics, format: StringFormat()).lookupTimeout(.seconds(10))
}

/// The source's half of the connector's scenarios, by their numbers; those of whole jobs are in `SourceJobTests`.
@Suite struct SourceScenarioTests {
    // 1
    @Test func onePartitionKeepsItsOrder() async throws {
        let kafka = try TestKafka()
        let topic = try kafka.topic()
        try kafka.write(topic, numbers(0..<20_000))
        let harness = try SourceHarness(strings(kafka, topic))
        try await harness.run { harness.rows.count >= 20_000 }
        #expect(harness.rows == numbers(0..<20_000))
        #expect(harness.counter("numRecordsIn") == 20_000)
        #expect(harness.counter("numBytesIn") == numbers(0..<20_000).reduce(0) { $0 + $1.utf8.count })
    }

    // 4
    @Test func anEmptyTopicWithAnEndFinishes() async throws {
        let kafka = try TestKafka()
        let harness = try SourceHarness(strings(kafka, try kafka.topic(partitions: 3)).stopping(at: .latest))
        try await harness.run(seconds: 10)
        #expect(harness.isFinished)
        #expect(harness.rows.isEmpty)
    }

    // 5
    @Test func oneOfManyPartitionsHasRecords() async throws {
        let kafka = try TestKafka()
        let topic = try kafka.topic(partitions: 12)
        try kafka.write(topic, numbers(0..<100), to: 7)
        let harness = try SourceHarness(strings(kafka, topic).stopping(at: .latest))
        try await harness.run(seconds: 10)
        #expect(harness.isFinished)
        #expect(harness.rows == numbers(0..<100))
    }

    // 6
    @Test func theEndMayBeAMarkerOfATransaction() async throws {
        let kafka = try TestKafka()
        let topic = try kafka.topic(partitions: 2)
        let writer = try TestProducer(kafka, topic, transactionalID: "\(topic)-writer")
        try writer.begin()
        try writer.write(numbers(0..<5))  // Offsets 0 to 4, its marker is at 5.
        try writer.commit()
        try writer.begin()
        try writer.write(["aborted"], to: 1)
        try writer.abort()
        let committed = try SourceHarness(strings(kafka, topic).stopping(at: .latest))
        try await committed.run(seconds: 15)
        #expect(committed.isFinished)
        #expect(committed.rows == numbers(0..<5))
        let positions = try committed.snapshot().map { try KafkaPosition(decoding: $0) }
        #expect(positions.map(\.next) == [6, 2])

        let everything = try SourceHarness(strings(kafka, topic).stopping(at: .latest).property("isolation.level", "read_uncommitted"))
        try await everything.run(seconds: 15)
        #expect(everything.isFinished)
        #expect(everything.rows.sorted() == (numbers(0..<5) + ["aborted"]).sorted())

        // The stop lies behind the marker, but nothing more is there: the position alone tells.
        let open = try TestProducer(kafka, topic, transactionalID: "\(topic)-open")
        try open.begin()
        try open.write(["open"])
        let beforeOpen = try SourceHarness(strings(kafka, topic).stopping(at: .latest))
        try await beforeOpen.run(seconds: 15)
        #expect(beforeOpen.isFinished)
        #expect(beforeOpen.rows == numbers(0..<5))
        try open.abort()
    }

    // 8
    @Test func latestAndASilentPartitionLoseNothingOverARestore() async throws {
        let kafka = try TestKafka()
        let topic = try kafka.topic(partitions: 2)
        for partition in 0..<2 { try kafka.write(topic, numbers(0..<10), to: Int32(partition)) }
        let first = try SourceHarness(strings(kafka, topic).starting(at: .latest))
        // The offsets are in the state although nothing was read.
        try await first.run { (try? first.positions().count) == 2 && (try? first.positions().allSatisfy { $0.next == 10 }) == true }
        let state = try first.snapshot()
        try kafka.write(topic, ["new"], to: 1)
        let second = try SourceHarness(strings(kafka, topic).starting(at: .latest), restoring: state)
        try await second.run { !second.rows.isEmpty }
        #expect(second.rows == ["new"])
        #expect(first.rows.isEmpty)
    }

    // 8, before anything could be looked up
    @Test func aCheckpointBeforeTheLookupsIsNoReasonToReadOldRecords() async throws {
        let kafka = try TestKafka()
        let topic = try kafka.topic(partitions: 2)
        try kafka.write(topic, numbers(0..<10))
        let source = strings(kafka, topic).starting(at: .latest)
        let early = try SourceHarness(source, subtask: 1, of: 2)
        let known = try SourceHarness(source, subtask: 0, of: 2)
        try await known.run { (try? known.positions().first?.next) == 10 }
        let state = try [early.snapshots(), known.snapshots()]
        #expect(state[0][KafkaReader.startingName]?.count == 1)
        let merged = state[0].merging(state[1]) { $0 + $1 }
        let restored = try SourceHarness(source, restoring: merged)
        try await restored.run { (try? restored.positions().allSatisfy { $0.next >= 0 }) == true && (try? restored.positions().count) == 2 }
        try kafka.write(topic, ["a"], to: 0)
        try kafka.write(topic, ["b"], to: 1)
        try await restored.run { restored.rows.count == 2 }
        #expect(restored.rows.sorted() == ["a", "b"])
    }

    // 10
    @Test func offsetsDeletedUnderASpecificStartAreAnErrorUnlessTheSourceMaySkip() async throws {
        let kafka = try TestKafka()
        let topic = try kafka.topic()
        try kafka.write(topic, numbers(0..<100))
        try kafka.deleteRecords(topic, before: 60)
        let source = strings(kafka, topic).starting(at: .offsets([topic: [0: 20]], otherwise: .fail))
        let failed = await failure { try await SourceHarness(source).run(seconds: 15) }
        #expect(failed?.recovery == .fail)
        #expect(failed?.message.hasPrefix("offset 20 of \(topic)[0], the next to read, is not on the Kafka broker") == true)
        #expect(failed?.message.contains("60 to 100") == true)
        let skipping = try SourceHarness(source.onOutOfRange(.earliest))
        try await skipping.run { skipping.rows.count >= 40 }
        #expect(skipping.rows == numbers(60..<100))
        #expect(skipping.counter("recordsLost") == 40)
        let jumping = try SourceHarness(source.onOutOfRange(.latest))
        try await jumping.run { (try? jumping.positions().first?.next) == 100 }
        #expect(jumping.counter("recordsLost") == 80)
        // And with an end that lies before what is left, nothing is left to do.
        let bounded = try SourceHarness(source.onOutOfRange(.earliest).stopping(at: .offsets([topic: [0: 50]])))
        try await bounded.run(seconds: 15)
        #expect(bounded.isFinished)
        #expect(bounded.rows.isEmpty)
    }

    // 11
    @Test func aRangeOfNoLengthFinishesAtOnce() async throws {
        let kafka = try TestKafka()
        let topic = try kafka.topic()
        try kafka.write(topic, numbers(0..<10))
        let here = [topic: [0: Int64(4)]] as [String: [Int32: Int64]]
        let harness = try SourceHarness(strings(kafka, topic).starting(at: .offsets(here, otherwise: .fail)).stopping(at: .offsets(here)))
        try await harness.run(seconds: 10)
        #expect(harness.isFinished)
        #expect(harness.rows.isEmpty)
    }

    // 12
    @Test func newPartitionsAndTopicsAreFoundWhileRunning() async throws {
        let kafka = try TestKafka()
        let prefix = "p" + String(UInt64.random(in: .min ... .max), radix: 36)
        let first = try kafka.topic(partitions: 1, prefix: prefix)
        _ = try kafka.topic(prefix: "other")
        let source = KafkaSource(kafka.bootstrap, .pattern(prefix + "-.*"), schema: KafkaValues(StringFormat())).starting(at: .latest)
            .discovering(every: .milliseconds(200))
        let harness = try SourceHarness(source)
        try await harness.run { (try? harness.positions().count) == 1 && (try? harness.positions().first?.next) == 0 }
        try kafka.setPartitions(first, to: 3)
        try kafka.write(first, ["new partition"], to: 2)
        let second = try kafka.topic(partitions: 1, prefix: prefix)
        try kafka.write(second, ["new topic"])
        try await harness.run { harness.rows.count == 2 }
        #expect(harness.rows.sorted() == ["new partition", "new topic"], "from their beginning, though the source starts at latest")
        #expect(try harness.positions().count == 4)
    }

    // 12
    @Test func aRemovedTopicFailsTheJobOrIsDropped() async throws {
        let kafka = try TestKafka()
        let kept = try kafka.topic()
        let removed = try kafka.topic()
        let source = strings(kafka, kept, removed).discovering(every: .milliseconds(200))
        let failing = try SourceHarness(source)
        let dropping = try SourceHarness(source.onTopicRemoved(.drop), watermarks: .monotonous)
        try await failing.run { (try? failing.positions().count) == 2 }
        try await dropping.run { (try? dropping.positions().count) == 2 }
        try kafka.delete(removed)
        let failed = await failure { try await failing.run(seconds: 20) }
        #expect(failed?.message.contains("the Kafka topic \"\(removed)\", which the source reads, was deleted") == true)
        try await dropping.run { (try? dropping.positions().count) == 1 }
        try kafka.write(kept, ["still there"], timestamp: 1_000)
        try await dropping.run { !dropping.control.watermarks.isEmpty }
        #expect(dropping.rows == ["still there"])
        #expect(dropping.control.watermarks == [999], "the partition that is gone holds nothing back")
    }

    // 14
    @Test(.enabled(if: TestKafka.isEmbedded)) func aFailedCommitIsANumberAndNothingElse() async throws {
        let kafka = try TestKafka()
        let topic = try kafka.topic()
        try kafka.write(topic, numbers(0..<10))
        let harness = try SourceHarness(strings(kafka, topic).group("g-\(topic)"))
        try await harness.run { harness.rows.count == 10 }
        try kafka.broker.faults.add(.on(.offsetCommit, 1, .error(.topicAuthorizationFailed)))
        _ = try harness.snapshot(1)
        try harness.source.checkpointCompleted(1)
        try await harness.run { harness.counter("commitsFailed") == 1 }
        #expect(harness.counter("commitsSucceeded") == 0)
        try kafka.write(topic, ["10"])
        try await harness.run { harness.rows.count == 11 }
        _ = try harness.snapshot(2)
        try harness.source.checkpointCompleted(2)
        try await harness.run { harness.counter("commitsSucceeded") == 1 }
        #expect(try kafka.committed("g-\(topic)", topic) == 11)
        #expect(harness.counter("topic.\(topic).partition.0.committedOffset") == 11)
    }

    // 15
    @Test func withoutAGroupTheSourceRunsAndCommitsNothing() async throws {
        let kafka = try TestKafka()
        let topic = try kafka.topic()
        try kafka.write(topic, numbers(0..<10))
        let harness = try SourceHarness(strings(kafka, topic))
        try await harness.run { harness.rows.count == 10 }
        _ = try harness.snapshot(1)
        try harness.source.checkpointCompleted(1)
        try await harness.run(seconds: 0.3)
        #expect(harness.counter("commitsSucceeded") == 0)
        #expect(harness.counter("commitsFailed") == 0)
        #expect(throws: ConfigurationError.self) { try strings(kafka, topic).commitOnCheckpoint(true).validate() }
    }

    // 17
    @Test func anIdlePartitionHoldsNothingBackOnceItsTimeIsOver() async throws {
        let kafka = try TestKafka()
        let topic = try kafka.topic(partitions: 2)
        try kafka.write(topic, ["x"], to: 0, timestamp: 5_000)
        let patient = try SourceHarness(strings(kafka, topic), watermarks: .monotonous)
        try await patient.run { patient.rows.count == 1 }
        try await patient.run(seconds: 0.6)
        #expect(patient.control.watermarks.isEmpty, "without a timeout, the silent partition holds the other back")
        let harness = try SourceHarness(strings(kafka, topic), watermarks: WatermarkStrategy.monotonous.idleness(.milliseconds(300)))
        try await harness.run { harness.rows.count == 1 && harness.control.statuses.last == true }
        // One that comes back counts again, and makes the source active.
        try kafka.write(topic, ["y"], to: 1, timestamp: 9_000)
        try await harness.run { harness.control.watermarks.last == 8_999 }
        #expect(harness.control.watermarks.last == 8_999)
        #expect(harness.control.statuses.contains(false))
    }

    @Test func splitsThatAreAheadWaitForTheOthersAndLoseNothing() async throws {
        let kafka = try TestKafka()
        let topic = try kafka.topic(partitions: 2)
        let writer = try TestProducer(kafka, topic)
        // Partition 0 runs a thousand seconds ahead of what partition 1 has yet.
        try writer.write((0..<5_000).map { TestRecord(value: "a\($0)", partition: 0, timestamp: 1_000 + Int64($0) * 200) })
        try writer.write((0..<10).map { TestRecord(value: "b\($0)", partition: 1, timestamp: 1_000 + Int64($0) * 1_000) })
        let strategy = WatermarkStrategy<String>.monotonous.aligned(with: "readings", within: .seconds(20))
        // Small fetches: what was read is not what was fetched.
        let harness = try SourceHarness(strings(kafka, topic).property("fetch.message.max.bytes", "2000"), watermarks: strategy)
        func count(_ lane: String) -> Int { harness.rows.count { $0.hasPrefix(lane) } }
        try await harness.run(budget: 16) { count("b") == 10 }
        try await harness.run(seconds: 0.7, budget: 16)
        // Partition 1 is at 10 s, so partition 0 may be at 30 s, and a batch of rows beyond it.
        #expect(count("a") < 1_000, "partition 0 is held")
        #expect(count("a") >= 145, "it may be ahead by the drift")
        #expect(try harness.positions().map(\.next) == [Int64(count("a")), 10])
        try writer.write([TestRecord(value: "b10", partition: 1, timestamp: 2_000_000)])
        try await harness.run(budget: 16) { harness.rows.count == 5_011 }
        #expect(harness.rows.filter { $0.hasPrefix("a") } == (0..<5_000).map { "a\($0)" })
    }

    // 20
    @Test func theLagIsExactAndMarkersAreNoLag() async throws {
        let kafka = try TestKafka()
        let topic = try kafka.topic()
        try kafka.write(topic, numbers(0..<100))
        let harness = try SourceHarness(strings(kafka, topic))
        try await harness.run(budget: 30) { harness.rows.count >= 30 }
        // Lags are looked at once in a while.
        try await Task.sleep(for: .milliseconds(150))
        try await harness.run(budget: 1) { harness.rows.count >= 31 }
        #expect(harness.counter("pendingRecords") == 69)
        #expect(harness.counter("topic.\(topic).partition.0.currentOffset") == 31)
        try await harness.run { harness.rows.count == 100 && harness.counter("pendingRecords") == 0 }
        // A committed transaction ends with a marker, which is an offset and no record.
        let writer = try TestProducer(kafka, topic, transactionalID: "\(topic)-writer")
        try writer.begin()
        try writer.write(["in a transaction"])
        try writer.commit()
        try await harness.run { harness.rows.count == 101 && harness.counter("topic.\(topic).partition.0.currentOffset") == 102 }
        #expect(harness.counter("pendingRecords") == 0)
        // An aborted one gives nothing at all.
        try writer.begin()
        try writer.write(["never"])
        try writer.abort()
        try await harness.run { harness.counter("topic.\(topic).partition.0.currentOffset") == 104 }
        #expect(harness.counter("pendingRecords") == 0)
        #expect(harness.rows.count == 101)
    }

    // 21
    @Test(.enabled(if: TestKafka.isEmbedded)) func aBrokerThatRestartsLosesNothing() async throws {
        let kafka = try TestKafka()
        let topic = try kafka.topic(partitions: 2)
        let quick: KafkaProperties = ["reconnect.backoff.ms": "50", "reconnect.backoff.max.ms": "200"]
        let writer = try TestProducer(kafka, topic, properties: quick)
        try writer.write(numbers(0..<500), to: 0)
        let harness = try SourceHarness(strings(kafka, topic).properties(quick))
        try await harness.run { harness.rows.count == 500 }
        try kafka.broker.faults.add(.on(.fetch, 1, .restart(downtime: .milliseconds(700))))
        try writer.send((0..<500).map { TestRecord(value: "\($0)", partition: 1) })
        try await harness.run(seconds: 1)
        try writer.flush()
        try await harness.run { harness.rows.count >= 1_000 }
        #expect(harness.rows == numbers(0..<500) + numbers(0..<500))
    }
}

extension SourceHarness {
    /// What a checkpoint would hold now.
    func positions() throws -> [KafkaPosition] { try snapshot(.max).map { try KafkaPosition(decoding: $0) }.sorted { $0.split < $1.split } }
}
