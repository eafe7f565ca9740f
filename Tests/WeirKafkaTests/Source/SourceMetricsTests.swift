import Testing
import WeirDataflow
import WeirFormats
import WeirStreams

@testable import WeirKafka

@Suite struct SourceMetricsTests {
    /// Numbers of the source that may fall.
    private static let gauges = ["pendingRecords", "currentEmitEventTimeLag", "watermarkLag", "sourceIdleTime"]
    private static let sums = ["numRecordsIn", "numBytesIn", "commitsSucceeded", "commitsFailed", "deserializationErrors"]
    /// Numbers of each partition, all of which may fall.
    private static let ofPartitions = ["currentOffset", "committedOffset"]

    @Test func everyNumberIsThereUnderFlinksNameBeforeTheFirstRecord() async throws {
        let kafka = try TestKafka()
        let topic = try kafka.topic()
        let harness = try SourceHarness(strings(kafka, topic).group("g-\(topic)"), watermarks: .monotonous)
        try await harness.run { (try? harness.positions().count) == 1 }
        let metrics = harness.context.counters.values
        let expected = Self.gauges + Self.ofPartitions.map { "topic.\(topic).partition.0.\($0)" }
        #expect(metrics.filter(\.isGauge).map(\.name) == expected.sorted())
        for sum in Self.sums { #expect(metrics.contains { $0.name == sum && !$0.isGauge && $0.value == 0 }, "\(sum)") }
    }

    @Test func theNumbersSayWhatWasReadAndHowFarBehindItIs() async throws {
        let kafka = try TestKafka()
        let topic = try kafka.topic()
        let harness = try SourceHarness(strings(kafka, topic).group("g-\(topic)"), watermarks: .monotonous)
        // The test's clock is near 1,700,000,000 s: the rows are 100 s old.
        try kafka.write(topic, ["a", "bc"], timestamp: 1_699_999_900_000)
        try await harness.run { harness.rows.count == 2 }
        _ = try harness.snapshot(1)
        try harness.source.checkpointCompleted(1)
        try await harness.run { harness.counter("commitsSucceeded") == 1 }
        try await harness.run { harness.counter("topic.\(topic).partition.0.currentOffset") == 2 && harness.counter("watermarkLag") > 0 }
        #expect(harness.counter("numRecordsIn") == 2)
        #expect(harness.counter("numBytesIn") == 3)
        #expect(harness.counter("pendingRecords") == 0)
        #expect(harness.counter("topic.\(topic).partition.0.committedOffset") == 2)
        #expect(harness.counter("currentEmitEventTimeLag") >= 100_000)
        #expect(harness.counter("watermarkLag") > harness.counter("currentEmitEventTimeLag") - 1_000)
        let idle = harness.counter("sourceIdleTime")
        try await harness.run { harness.counter("sourceIdleTime") > idle }
        #expect(harness.counter("sourceIdleTime") > idle, "it grows as long as nothing comes")
    }
}
