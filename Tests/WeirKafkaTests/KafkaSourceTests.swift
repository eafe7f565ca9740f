import Testing
import WeirBase
import WeirDataflow
import WeirFormats
import WeirKafkaWire
import WeirStreams

@testable import WeirKafka

private func numbers(_ range: Range<Int>) -> [String?] { range.map { "\($0)" } }

@Suite struct KafkaSourceTests {
    typealias Strings = KafkaSource<StringFormat>

    private func source(_ cluster: KafkaCluster, _ topics: String..., timeout: Duration = .seconds(5)) -> Strings {
        .kafka(cluster.bootstrap, topics: topics.map { cluster[$0] }, format: StringFormat()).lookupTimeout(timeout)
    }

    @Test func earliestReadsOnePartitionInOrder() async throws {
        let cluster = try KafkaCluster(["a": 1])
        try cluster.write("a", 0, numbers(0..<3_000))
        let harness = try SourceHarness(source(cluster, "a"))
        try await harness.run { harness.rows.count == 3_000 }
        #expect(harness.rows == numbers(0..<3_000))
    }

    @Test func wakesTheSlotWhenRecordsCome() async throws {
        let cluster = try KafkaCluster(["a": 1])
        let harness = try SourceHarness(source(cluster, "a"))
        try await harness.run(seconds: 0.3)
        let woken = harness.waker.woken
        try cluster.write("a", 0, numbers(0..<1))
        let end = ContinuousClock.now + .seconds(10)
        while harness.waker.woken == woken, ContinuousClock.now < end { try await Task.sleep(for: .milliseconds(1)) }
        #expect(harness.waker.woken > woken)
        try await harness.run { harness.rows.count == 1 }
        #expect(harness.rows == ["0"])
    }

    @Test func everyPartitionIsReadByExactlyOneSubtask() async throws {
        let cluster = try KafkaCluster(["a": 4, "b": 3])
        for partition in 0..<4 { try cluster.write("a", Int32(partition), ["a\(partition)"]) }
        for partition in 0..<3 { try cluster.write("b", Int32(partition), ["b\(partition)"]) }
        var rows: [String] = []
        for subtask in 0..<3 {
            let harness = try SourceHarness(source(cluster, "a", "b").stopping(at: .latest), subtask: subtask, of: 3)
            try await harness.run()
            #expect(harness.isFinished)
            rows += harness.rows
        }
        #expect(rows.sorted() == ["a0", "a1", "a2", "a3", "b0", "b1", "b2"])
    }

    @Test(arguments: [(1, 1), (2, 4), (4, 2)]) func restoreGoesOnExactlyWhereTheSnapshotWas(before: Int, after: Int) async throws {
        let cluster = try KafkaCluster(["a": 4])
        for partition in 0..<4 { try cluster.write("a", Int32(partition), (0..<500).map { "\(partition)-\($0)" }) }
        var state: [[UInt8]] = []
        var rows: [String] = []
        for subtask in 0..<before {
            let harness = try SourceHarness(source(cluster, "a"), subtask: subtask, of: before)
            try await harness.run(budget: 70) { harness.rows.count >= 600 / before }
            state += try harness.snapshot()
            rows += harness.rows
            // What is read behind the snapshot is read again.
            try await harness.run(seconds: 0.05)
        }
        #expect(state.count == 4)
        for subtask in 0..<after {
            let harness = try SourceHarness(source(cluster, "a").stopping(at: .latest), subtask: subtask, of: after, restoring: state)
            try await harness.run()
            #expect(harness.isFinished)
            rows += harness.rows
        }
        #expect(rows.count == 2_000)
        #expect(Set(rows).count == 2_000)
    }

    @Test func latestReadsOnlyWhatComesAfterTheStartAndSilentPartitionsLoseNothing() async throws {
        let cluster = try KafkaCluster(["a": 2])
        try cluster.write("a", 0, numbers(0..<10))
        try cluster.write("a", 1, numbers(0..<10))
        let first = try SourceHarness(source(cluster, "a").starting(at: .latest))
        try await first.run(seconds: 0.3)
        #expect(first.rows.isEmpty)
        // The offsets are in the state although nothing was read: what comes between snapshot and restore is not lost.
        let state = try first.snapshot()
        try cluster.write("a", 1, ["new"])
        let second = try SourceHarness(source(cluster, "a").starting(at: .latest), restoring: state)
        try await second.run { second.rows.count == 1 }
        #expect(second.rows == ["new"])
    }

    @Test func specificOffsetsStartThereAndOthersByTheResetRule() async throws {
        let cluster = try KafkaCluster(["a": 2])
        try cluster.write("a", 0, numbers(0..<10))
        try cluster.write("a", 1, numbers(10..<20))
        let start = KafkaStart.offsets([cluster["a"]: [0: 7]], otherwise: .latest)
        let harness = try SourceHarness(source(cluster, "a").starting(at: start).stopping(at: .latest))
        try await harness.run()
        #expect(harness.rows == ["7", "8", "9"])
        let failed = await failure { _ = try SourceHarness(source(cluster, "a").starting(at: .offsets([cluster["a"]: [0: 7]], otherwise: .fail))) }
        #expect(failed?.message.contains("\(cluster["a"])[1]") == true)
    }

    @Test func timestampWithoutALaterRecordStartsAtTheEnd() async throws {
        let cluster = try KafkaCluster(["a": 1])
        try cluster.write("a", 0, numbers(0..<10), timestamp: 1_000)
        let harness = try SourceHarness(source(cluster, "a").starting(at: .timestamp(4_000_000_000_000)))
        try cluster.write("a", 0, ["after"], timestamp: 1_000)
        try await harness.run { !harness.rows.isEmpty }
        #expect(harness.rows == ["after"])
    }

    @Test func committedStartsAtTheGroupsOffset() async throws {
        let cluster = try KafkaCluster(["a": 1])
        try cluster.write("a", 0, numbers(0..<10))
        let grouped = source(cluster, "a").group(cluster["g"]).starting(at: .committed(otherwise: .earliest))
        do {
            let harness = try SourceHarness(grouped)
            try await harness.run(budget: 4) { harness.rows.count >= 4 }
            #expect(harness.rows.count == 4)
            _ = try harness.snapshot(7)
            try harness.source.checkpointCompleted(7)
            try await harness.run(seconds: 5, budget: 1) { harness.counter("commitsSucceeded") == 1 }
            #expect(harness.counter("commitsSucceeded") == 1)
        }
        let harness = try SourceHarness(grouped.stopping(at: .latest))
        try await harness.run()
        #expect(harness.rows == numbers(4..<10))
        let failed = await failure { _ = try SourceHarness(source(cluster, "a").group(cluster["other"]).starting(at: .committed(otherwise: .fail))) }
        #expect(failed?.message.contains("\"\(cluster["other"])\" has committed no offset") == true)
    }

    @Test func aFailedCommitIsCountedAndNothingElse() async throws {
        let cluster = try KafkaCluster(["a": 1], isEmbedded: true)
        try cluster.write("a", 0, numbers(0..<10))
        let harness = try SourceHarness(source(cluster, "a").group(cluster["g"]))
        try await harness.run { harness.rows.count == 10 }
        cluster.fail(.offsetCommit, .topicAuthorizationFailed)
        _ = try harness.snapshot(1)
        try harness.source.checkpointCompleted(1)
        try await harness.run(seconds: 5) { harness.counter("commitsFailed") == 1 }
        #expect(harness.counter("commitsFailed") == 1)
        try cluster.write("a", 0, ["10"])
        try await harness.run { harness.rows.count == 11 }
        #expect(harness.rows.count == 11)
    }

    @Test func anAbortedCheckpointCommitsNothing() async throws {
        let cluster = try KafkaCluster(["a": 1])
        try cluster.write("a", 0, numbers(0..<10))
        let harness = try SourceHarness(source(cluster, "a").group(cluster["g"]))
        try await harness.run { harness.rows.count == 10 }
        _ = try harness.snapshot(1)
        try harness.source.checkpointAborted(1)
        try harness.source.checkpointCompleted(1)
        try await harness.run(seconds: 0.2)
        let failed = await failure { _ = try SourceHarness(source(cluster, "a").group(cluster["g"]).starting(at: .committed(otherwise: .fail))) }
        #expect(failed != nil)
    }

    @Test func aMissingTopicIsNamed() async throws {
        let cluster = try KafkaCluster(["a": 1], isEmbedded: true, properties: ["auto.create.topics.enable": "false"])
        let failed = await failure { _ = try SourceHarness(source(cluster, "a", "nowhere")) }
        #expect(failed?.domain == .external)
        #expect(failed?.recovery == .fail)
        #expect(
            failed?.message
                == "the Kafka topic \"\(cluster["nowhere"])\" does not exist at \(cluster.bootstrap): create it, or correct the job's topic")
    }

    @Test func anUnreachableBrokerIsNamedWithinTheTimeout() async throws {
        let clock = ContinuousClock.now
        let failed = await failure {
            _ = try SourceHarness(Strings("127.0.0.1:1", topics: ["a"], format: StringFormat()).lookupTimeout(.milliseconds(700)))
        }
        #expect(ContinuousClock.now - clock < .seconds(5))
        #expect(failed?.recovery == .restart)
        #expect(failed?.message.contains("no Kafka broker at 127.0.0.1:1 answered within 700 ms") == true)
        #expect(failed?.cause?.contains("Connection refused") == true, "\(String(describing: failed))")
    }

    @Test func anUnknownPropertyIsNamed() async throws {
        let failed = await failure {
            _ = try SourceHarness(Strings("127.0.0.1:1", topics: ["a"], format: StringFormat()).property("no.such.property", "1"))
        }
        #expect(failed?.domain == .configuration)
        #expect(failed?.message.contains("no.such.property") == true)
    }

    @Test func anOffsetOutOfRangeNamesWantedAndAvailable() async throws {
        let cluster = try KafkaCluster(["a": 1])
        try cluster.write("a", 0, numbers(0..<10))
        let harness = try SourceHarness(source(cluster, "a").starting(at: .offsets([cluster["a"]: [0: 1_000]], otherwise: .fail)))
        let failed = await failure { try await harness.run(seconds: 10) { !harness.rows.isEmpty } }
        #expect(failed?.message.hasPrefix("offset 1000 of \(cluster["a"])[0], the next to read, is not on the Kafka broker") == true)
        #expect(failed?.message.contains("0 to 10") == true)
    }

    @Test func anOffsetOutOfRangeMayBeSkipped() async throws {
        let cluster = try KafkaCluster(["a": 1])
        try cluster.write("a", 0, numbers(0..<10))
        let start = KafkaStart.offsets([cluster["a"]: [0: 1_000]], otherwise: .fail)
        let harness = try SourceHarness(source(cluster, "a").starting(at: start).onOutOfRange(.earliest))
        try await harness.run { harness.rows.count == 10 }
        #expect(harness.rows == numbers(0..<10))
    }

    @Test func aPoisonRecordIsNamedWithItsFirstBytes() async throws {
        let cluster = try KafkaCluster(["a": 1])
        try cluster.write("a", 0, ["1", "2", "x"])
        let harness = try SourceHarness(KafkaSource(cluster.bootstrap, topics: [cluster["a"]], format: JSONFormat<Int>()))
        let failed = await failure { try await harness.run(seconds: 10) }
        #expect(failed?.domain == .user)
        #expect(failed?.message == "the record at offset 2 of \(cluster["a"])[0] cannot be read: it begins with \"x\"")
        #expect(failed?.cause?.contains("JSON") == true)
    }

    @Test func poisonRecordsAndTombstonesAreSkippedAndCounted() async throws {
        let cluster = try KafkaCluster(["a": 1])
        try cluster.write("a", 0, ["1", "x", nil, "4"])
        let harness = try SourceHarness(
            KafkaSource(cluster.bootstrap, topics: [cluster["a"]], format: JSONFormat<Int>()).onPoison(.skip).stopping(at: .latest))
        try await harness.run()
        #expect(harness.rows == [1, 4])
        #expect(harness.counter("deserializationErrors") == 1)
        #expect(harness.counter("tombstones") == 1)
        #expect(harness.isFinished)
    }

    @Test func boundedEmptyTopicsAndSurplusSubtasksFinish() async throws {
        let cluster = try KafkaCluster(["a": 1])
        for subtask in 0..<2 {
            let harness = try SourceHarness(source(cluster, "a").stopping(at: .latest), subtask: subtask, of: 2)
            try await harness.run(seconds: 5)
            #expect(harness.isFinished)
            #expect(harness.rows.isEmpty)
        }
    }

    @Test func boundedStopsBelowTheStopOffset() async throws {
        let cluster = try KafkaCluster(["a": 2])
        try cluster.write("a", 0, numbers(0..<10))
        try cluster.write("a", 1, numbers(10..<20))
        let harness = try SourceHarness(source(cluster, "a").stopping(at: .offsets([cluster["a"]: [0: 3, 1: 0]])))
        try await harness.run(seconds: 10)
        #expect(harness.isFinished)
        #expect(harness.rows == ["0", "1", "2"])
    }

    @Test func aBoundedSourceKeepsItsEndOverARestore() async throws {
        let cluster = try KafkaCluster(["a": 1])
        try cluster.write("a", 0, numbers(0..<10))
        let first = try SourceHarness(source(cluster, "a").stopping(at: .latest))
        try await first.run(budget: 4) { first.rows.count >= 4 }
        let state = try first.snapshot()
        try cluster.write("a", 0, numbers(10..<20))
        let second = try SourceHarness(source(cluster, "a").stopping(at: .latest), restoring: state)
        try await second.run(seconds: 10)
        #expect(second.isFinished)
        #expect(first.rows.prefix(4) + second.rows == numbers(0..<10).compactMap { $0 }[...])
    }

    @Test func rowsCarryKafkasTimestamps() async throws {
        let cluster = try KafkaCluster(["a": 1])
        try cluster.write("a", 0, ["x"], timestamp: 1_234_567)
        let harness = try SourceHarness(source(cluster, "a"), watermarks: .boundedOutOfOrderness(.milliseconds(100)))
        try await harness.run { !harness.rows.isEmpty }
        #expect(harness.collector.timestamps == [1_234_567])
        #expect(harness.control.watermarks == [1_234_466])
    }

    @Test func theWatermarkIsTheLeastOfThePartitionsUnlessTheyAreIdle() async throws {
        let cluster = try KafkaCluster(["a": 2])
        let waiting: WatermarkStrategy<String> = .boundedOutOfOrderness(.zero) { Int64($0) ?? 0 }
        try cluster.write("a", 0, ["5000"])
        let strict = try SourceHarness(source(cluster, "a"), watermarks: waiting)
        try await strict.run { !strict.rows.isEmpty }
        try await strict.run(seconds: 0.3)
        #expect(strict.rows == ["5000"])
        #expect(strict.control.watermarks.isEmpty)

        let harness = try SourceHarness(source(cluster, "a"), watermarks: waiting.idleness(.milliseconds(200)))
        // Both partitions idle with the row taken: a source that is idle before its first row becomes active with it.
        try await harness.run(seconds: 10) { !harness.rows.isEmpty && harness.control.statuses.last == true }
        #expect(harness.rows == ["5000"])
        try cluster.write("a", 1, ["6000"])
        try await harness.run(seconds: 10) { harness.control.watermarks.last == 5_999 }
        #expect(harness.control.watermarks.last == 5_999)
        #expect(harness.control.statuses.contains(false))
    }

    @Test func aSubtaskWithoutPartitionsIsIdle() async throws {
        let cluster = try KafkaCluster(["a": 1])
        let harness = try SourceHarness(source(cluster, "a"), watermarks: .monotonous, subtask: 1, of: 2)
        try await harness.run(seconds: 0.1)
        #expect(harness.control.statuses == [true])
        #expect(!harness.isFinished)
    }

    @Test func aBrokerThatWasDownLosesNothing() async throws {
        let cluster = try KafkaCluster(["a": 1], isEmbedded: true)
        try cluster.write("a", 0, numbers(0..<10))
        let harness = try SourceHarness(source(cluster, "a").property("reconnect.backoff.max.ms", "100"))
        try await harness.run { harness.rows.count == 10 }
        cluster.setBroker(up: false)
        try await harness.run(seconds: 0.5)
        cluster.setBroker(up: true)
        try cluster.write("a", 0, numbers(10..<20))
        try await harness.run { harness.rows.count == 20 }
        #expect(harness.rows == numbers(0..<20))
    }

    @Test func aDamagedStateIsAFailure() async throws {
        let cluster = try KafkaCluster(["a": 1])
        let failed = await failure { _ = try SourceHarness(source(cluster, "a"), restoring: [[1, 2, 3]]) }
        #expect(failed?.domain == .system)
    }

    @Test func aCheckpointOfATopicMadeAnewSmallerIsAFailure() async throws {
        let cluster = try KafkaCluster(["a": 1])
        let state = [KafkaPosition(split: KafkaPartition(cluster["a"], 5), next: 3).encode()]
        let failed = await failure { _ = try SourceHarness(source(cluster, "a"), restoring: state) }
        #expect(failed?.message.contains("\(cluster["a"])[5] is in the checkpoint, but the topic has only 1 partitions") == true)
    }
}

@Suite struct KafkaDescriptorTests {
    @Test func validationTellsEveryProblem() {
        let source = KafkaSource("", topics: [], format: StringFormat()).starting(at: .committed(otherwise: .fail))
            .property("auto.offset.reset", "latest")
        let error = #expect(throws: ConfigurationError.self) { try source.validate() }
        #expect(error?.problems.count == 4)
        #expect(throws: ConfigurationError.self) { try KafkaSink("h:1", topic: "t", format: StringFormat()).property("acks", "0").validate() }
    }

    @Test func secretsAreMasked() {
        let properties: KafkaProperties = ["sasl.password": "hush", "sasl.username": "me", "ssl.key.pem": "hush", "ssl.key.password": "hush"]
        #expect(!"\(properties)".contains("hush"))
        #expect("\(properties)".contains("sasl.username=me"))
    }

    @Test func positionsKeepTheirBytes() throws {
        let position = KafkaPosition(split: KafkaPartition("telemetries", 3), next: 42, stop: 99, greatest: -7)
        #expect(try KafkaPosition(decoding: position.encode()) == position)
        let bytes: [UInt8] =
            [1, 11] + Array("telemetries".utf8) + [3, 0, 0, 0, 42, 0, 0, 0, 0, 0, 0, 0, 99, 0, 0, 0, 0, 0, 0, 0]
            + [0xF9, 0xFF, 0xFF, 0xFF, 0xFF, 0xFF, 0xFF, 0xFF]
        #expect(position.encode() == bytes)
        for count in bytes.indices { #expect(throws: DecodingFailure.self) { try KafkaPosition(decoding: Array(bytes[..<count])) } }
    }

    @Test(arguments: 1...9) func assignmentIsBalancedAndComplete(parallelism: Int) {
        let counts = ["a": 4, "b": 4, "c": 4, "d": 4]
        let shares = (0..<parallelism).map { KafkaPartition.assigned(to: $0, of: parallelism, counts: counts) }
        #expect(Set(shares.joined()).count == 16)
        #expect(shares.map(\.count).reduce(0, +) == 16)
        // A topic's partitions never differ by more than one between subtasks.
        for topic in counts.keys {
            let own = shares.map { share in share.count { $0.topic == topic } }
            #expect((own.max() ?? 0) - (own.min() ?? 0) <= 1)
        }
    }
}
