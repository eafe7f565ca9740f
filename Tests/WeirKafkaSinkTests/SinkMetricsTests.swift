import Testing
import WeirBroker
import WeirDataflow
import WeirFormats
import WeirKafkaWire
import WeirStreams

@testable import WeirKafka

/// The numbers that a sink shows.
@Suite(.serialized) struct SinkMetricsTests {
    private static let gauges = ["currentSendTime", "openTransactionAge", "transactionDeadline"]
    private static let sums = ["numRecordsOut", "numBytesOut", "numRecordsOutErrors", "queueFull", "transactionsCommitted", "transactionsLost"]

    private func sink(_ broker: TestBroker) -> KafkaSink<KafkaRowSchema<StringFormat>> {
        .kafka(broker.bootstrap, topic: "out", format: StringFormat())
    }

    @Test(arguments: [KafkaDelivery.none, .atLeastOnce, .exactlyOnce])
    func everyNumberIsThereUnderFlinksNameBeforeTheFirstRow(delivery: KafkaDelivery) throws {
        let broker = try TestBroker()
        let harness = try SinkHarness(sink(broker).delivery(delivery).transactionalIDPrefix("p"))
        let metrics = harness.context.counters.values
        #expect(metrics.filter(\.isGauge).map(\.name) == Self.gauges)
        #expect(metrics.filter { !$0.isGauge }.map(\.name) == Self.sums.sorted())
        #expect(metrics.allSatisfy { $0.value == 0 })
    }

    @Test func theNumbersOfATransactionFollowIt() throws {
        let broker = try TestBroker()
        let harness = try SinkHarness(sink(broker).delivery(.exactlyOnce).transactionalIDPrefix("p").property("transaction.timeout.ms", "60000"))
        try harness.write(["a", "bc"])
        let now = harness.context.processingTime()
        try harness.sink.processingTime(now)
        #expect(harness.counter("numRecordsOut") == 2)
        #expect(harness.counter("numBytesOut") == 3)
        #expect((now + 50_000...now + 60_000).contains(Int64(harness.counter("transactionDeadline"))))
        try wait(seconds: 10, "the transaction grows older") {
            try harness.sink.processingTime(now)
            return harness.counter("openTransactionAge") > 0
        }
        try harness.checkpoint(1)
        try wait(seconds: 10, "the commit is counted") {
            try harness.sink.processingTime(now)
            return harness.counter("transactionsCommitted") == 1
        }
        #expect(harness.counter("openTransactionAge") == 0)
        #expect(harness.counter("transactionDeadline") == 0)
    }

    @Test func aSlowBrokerShowsInTheSendTime() throws {
        let broker = try TestBroker()
        let harness = try SinkHarness(sink(broker))
        for _ in 0..<20 { broker.faults.add(.on(.produce, 1, .delay(.milliseconds(120)))) }
        try wait(seconds: 20, "the round trips are told") {
            try harness.write(["a"])
            try harness.sink.processingTime(harness.context.processingTime())
            return harness.counter("currentSendTime") >= 20
        }
        #expect(harness.counter("currentSendTime") >= 20)
    }

    @Test func aRecordThatIsRefusedIsAnError() throws {
        let broker = try TestBroker()
        let harness = try SinkHarness(sink(broker).property("message.max.bytes", "2000"))
        #expect(throws: (any Error).self) { try harness.write(["a", String(repeating: "x", count: 5_000)]) }
        #expect(harness.counter("numRecordsOutErrors") == 1)
    }
}
