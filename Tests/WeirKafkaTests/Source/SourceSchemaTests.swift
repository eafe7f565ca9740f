import Testing
import WeirBase
import WeirDataflow
import WeirFormats
import WeirStreams

@testable import WeirKafka

/// A record with everything that it has.
private struct Whole: KafkaDeserializationSchema {
    struct Row: Sendable, Equatable {
        var topic: String
        var partition: Int32
        var offset: Int64
        var timestamp: Int64
        var key: String?
        var value: String?
        var headers: [KafkaRecord.Header]
    }

    func decode(_ record: KafkaRecord, emit: (consuming Row) throws -> Void) throws {
        func text(_ bytes: UnsafeRawBufferPointer?) -> String? { bytes.map { String(decoding: $0, as: UTF8.self) } }
        try emit(
            Row(
                topic: record.topic, partition: record.partition, offset: record.offset, timestamp: record.timestamp, key: text(record.key),
                value: text(record.value), headers: record.headers))
    }
}

/// "3x" is three rows 0, 1, 2; "end" the end; "bad" gives rows and throws all the same.
private struct Repeating: KafkaDeserializationSchema {
    struct Bad: Error, CustomStringConvertible { var description: String { "bad" } }

    func decode(_ record: KafkaRecord, emit: (consuming Int) throws -> Void) throws {
        let text = record.value.map { String(decoding: $0, as: UTF8.self) } ?? "0x"
        if text == "end" { return try emit(-1) }
        if text == "bad" {
            for row in 0..<3_000 { try emit(row) }
            throw Bad()
        }
        for row in 0..<(Int(text.dropLast()) ?? 0) { try emit(row) }
    }

    func isEndOfStream(_ row: Int) -> Bool { row == -1 }
}

/// Knows its schema only once it was told.
private struct Pending: DeserializationSchema {
    let gate = Gate()

    final class Gate: @unchecked Sendable {  // Used by the one thread of the test.
        var isOpen = false
        var waiting: [@Sendable () -> Void] = []
        var asked = 0
    }

    func decode(_ bytes: UnsafeRawBufferPointer) throws -> String {
        let text = String(decoding: bytes, as: UTF8.self)
        if text.hasPrefix("later"), !gate.isOpen {
            gate.asked += 1
            throw SchemaPending("the gate") { [gate] in gate.waiting.append($0) }
        }
        return text
    }
}

@Suite struct SourceSchemaTests {
    private func whole(_ kafka: TestKafka, _ topic: String) -> KafkaSource<Whole> {
        KafkaSource(kafka.bootstrap, .topics([topic]), schema: Whole()).stopping(at: .latest)
    }

    // 18
    @Test func headersKeepTheirOrderDuplicatesAndNulls() async throws {
        let kafka = try TestKafka()
        let topic = try kafka.topic()
        let headers = [
            KafkaRecord.Header("b", [1, 2]), .init("a", nil), .init("b", [1, 2]), .init("a", []), .init("", [0]), .init("b", [3]),
        ]
        try kafka.write(
            topic, [TestRecord(value: "v", key: "k", timestamp: 12_345, headers: headers), TestRecord(value: nil, key: "k", timestamp: 12_346)])
        let harness = try SourceHarness(whole(kafka, topic))
        try await harness.run(seconds: 15)
        #expect(harness.isFinished)
        #expect(
            harness.rows == [
                Whole.Row(topic: topic, partition: 0, offset: 0, timestamp: 12_345, key: "k", value: "v", headers: headers),
                Whole.Row(topic: topic, partition: 0, offset: 1, timestamp: 12_346, key: "k", value: nil, headers: []),
            ])
        #expect(harness.counter("tombstones") == 1)
    }

    @Test func aRecordMayGiveNoRowOrManyAndBatchesStayInOrder() async throws {
        let kafka = try TestKafka()
        let topic = try kafka.topic()
        let counts = [1, 0, 1_023, 5, 2_500, 0, 7]
        try kafka.write(topic, counts.map { "\($0)x" })
        let harness = try SourceHarness(KafkaSource(kafka.bootstrap, .topics([topic]), schema: Repeating()).stopping(at: .latest))
        try await harness.run(seconds: 15)
        #expect(harness.rows == counts.flatMap { 0..<$0 })
    }

    @Test func aRecordThatFailsHalfwayGivesNoRow() async throws {
        let kafka = try TestKafka()
        let topic = try kafka.topic()
        try kafka.write(topic, ["2x", "bad", "1x"])
        let harness = try SourceHarness(KafkaSource(kafka.bootstrap, .topics([topic]), schema: Repeating()).onPoison(.skip).stopping(at: .latest))
        try await harness.run(seconds: 15)
        #expect(harness.rows == [0, 1, 0])
        #expect(harness.counter("deserializationErrors") == 1)
    }

    @Test func aMarkerRowEndsItsPartitionAndAllOfThemTheSource() async throws {
        let kafka = try TestKafka()
        let topic = try kafka.topic(partitions: 2)
        try kafka.write(topic, ["2x", "end", "5x"], to: 0)
        let harness = try SourceHarness(KafkaSource(kafka.bootstrap, .topics([topic]), schema: Repeating()))
        try await harness.run { (try? harness.positions().first?.hasEnded) == true }
        #expect(!harness.isFinished)
        let state = try harness.snapshot()
        try kafka.write(topic, ["3x", "end"], to: 1)
        try await harness.run(seconds: 15)
        #expect(harness.isFinished)
        #expect(harness.rows == [0, 1, 0, 1, 2])
        // A restore does not read on behind the marker.
        let restored = try SourceHarness(KafkaSource(kafka.bootstrap, .topics([topic]), schema: Repeating()), restoring: state)
        try await restored.run(seconds: 15)
        #expect(restored.isFinished)
        #expect(restored.rows == [0, 1, 2])
    }

    @Test func aRecordWhoseSchemaIsStillToComeWaitsAndNoRowIsLostOrDoubled() async throws {
        let kafka = try TestKafka()
        let topic = try kafka.topic(partitions: 2)
        try kafka.write(topic, ["1", "2", "later 3", "4"], to: 0)
        try kafka.write(topic, ["a", "later b", "c"], to: 1)
        let format = Pending()
        let harness = try SourceHarness(KafkaSource(kafka.bootstrap, topics: [topic], format: format).stopping(at: .latest))
        try await harness.run { format.gate.asked == 1 }
        try await harness.run(seconds: 0.2)
        #expect(format.gate.asked == 1, "it is not asked again before the schema has come")
        let positions = try harness.positions().map(\.next)
        #expect(positions.reduce(0, +) == Int64(harness.rows.count), "only what was passed on is below the positions")
        format.gate.isOpen = true
        for body in format.gate.waiting { body() }
        try await harness.run(seconds: 15)
        #expect(harness.isFinished)
        #expect(harness.rows.filter { $0.utf8.count == 1 && $0 <= "9" || $0 == "later 3" } == ["1", "2", "later 3", "4"])
        #expect(harness.rows.sorted() == ["1", "2", "4", "a", "c", "later 3", "later b"])
    }

    // 19
    @Test func aPoisonRecordFailsTheJobWithItsPlaceAndFirstBytes() async throws {
        let kafka = try TestKafka()
        let topic = try kafka.topic()
        try kafka.write(topic, ["1", "2", "x"])
        let failed = await failure {
            try await SourceHarness(KafkaSource(kafka.bootstrap, topics: [topic], format: JSONFormat<Int>())).run(seconds: 15)
        }
        #expect(failed?.domain == .user)
        #expect(failed?.message == "the record at offset 2 of \(topic)[0] cannot be read: it begins with \"x\"")
        #expect(failed?.cause?.contains("JSON") == true)
    }

    // 19
    @Test func poisonRecordsMayBeSkippedAndAreCounted() async throws {
        let kafka = try TestKafka()
        let topic = try kafka.topic()
        try kafka.write(topic, [TestRecord(value: "1"), TestRecord(value: "x"), TestRecord(value: nil), TestRecord(value: "4")])
        let source = KafkaSource(kafka.bootstrap, topics: [topic], format: JSONFormat<Int>()).stopping(at: .latest)
        let harness = try SourceHarness(source.onPoison(.skip))
        try await harness.run(seconds: 15)
        #expect(harness.rows == [1, 4])
        #expect(harness.counter("deserializationErrors") == 1)
        #expect(harness.counter("tombstones") == 1)
        #expect(harness.isFinished)
    }

    // 19
    @Test func poisonRecordsMayGoToATopicOfTheirOwnBeforeTheCheckpointCompletes() async throws {
        let kafka = try TestKafka()
        let topic = try kafka.topic()
        let letters = try kafka.topic()
        let trace = KafkaRecord.Header("trace", [7])
        try kafka.write(topic, [TestRecord(value: "1"), TestRecord(value: "x", key: "k", timestamp: 999, headers: [trace]), TestRecord(value: "3")])
        let source = KafkaSource(kafka.bootstrap, topics: [topic], format: JSONFormat<Int>()).onPoison(.deadLetter(topic: letters))
        let harness = try SourceHarness(source)
        try await harness.run { harness.rows == [1, 3] }
        _ = try await harness.settledSnapshot().get()
        let read = try SourceHarness(whole(kafka, letters))
        try await read.run(seconds: 15)
        let letter = try #require(read.rows.first)
        #expect(read.rows.count == 1)
        #expect(letter.key == "k" && letter.value == "x" && letter.timestamp == 999)
        #expect(letter.headers.first == trace)
        let place = Dictionary(uniqueKeysWithValues: letter.headers.dropFirst().map { ($0.key, String(decoding: $0.value ?? [], as: UTF8.self)) })
        #expect(place["weir.topic"] == topic && place["weir.partition"] == "0" && place["weir.offset"] == "1")
        #expect(place["weir.error"]?.contains("JSON") == true)
    }

    // 19
    @Test func aDeadLetterThatCannotBeWrittenFailsCheckpointAndJob() async throws {
        let kafka = try TestKafka()
        let topic = try kafka.topic()
        try kafka.write(topic, ["x", "2"])
        let source = KafkaSource(kafka.bootstrap, topics: [topic], format: JSONFormat<Int>()).onPoison(.deadLetter(topic: "nowhere-\(topic)"))
        let harness = try SourceHarness(source)
        try await harness.run { harness.rows == [2] }
        let outcome = await harness.settledSnapshot()
        #expect(throws: JobFailure.self) { _ = try outcome.get() }
        let failed = await failure { try await harness.run(seconds: 15) }
        #expect(failed?.message.contains("could not be written to the dead-letter topic \"nowhere-\(topic)\"") == true)
    }
}
