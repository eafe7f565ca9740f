import Testing
import WeirBase
import WeirDataflow
import WeirFormats
import WeirSchemaRegistry
import WeirStreams
import WeirTestKit

@testable import WeirKafka

@Record struct Named: Equatable {
    var id: String
}

/// Records of a schema that nobody knows yet, while the registry is down.
@Suite struct SourceRegistryTests {
    private static let text = #"{"type":"record","name":"Named","fields":[{"name":"id","type":"string"}]}"#
    private static let answer = #"{"schema":"\#(text.replacing("\"", with: "\\\""))"}"#

    private func source(_ kafka: TestKafka, _ topic: String, _ port: Int, timeout: Duration) throws -> some StreamSourceDescriptor<Named> {
        var options = ConfluentSchemaRegistry.Options()
        options.requestTimeout = min(timeout, .seconds(2))
        options.timeout = timeout
        let registry = try ConfluentSchemaRegistry("http://127.0.0.1:\(port)", options: options)
        let format = try AvroFormat(Named.self, framing: .registry(registry, subject: "\(topic)-value"))
        return KafkaSource.kafka(kafka.bootstrap, topics: [topic], format: format).stopping(at: .latest).onPoison(.skip)
    }

    /// Two records of schema 7, framed as Confluent does.
    private func topic(_ kafka: TestKafka) throws -> String {
        let topic = try kafka.topic()
        try kafka.write(topic, ["a", "b"].map { "\0\0\0\0\u{7}\u{2}\($0)" })
        return topic
    }

    /// A port where a registry was, and will be.
    private func freePort() -> Int {
        let server = RegistryServer { _ in .hangUp }
        defer { server.stop() }
        return server.port
    }

    @Test func theSourceWaitsWithoutBlockingAndGoesOnWhenTheRegistryIsBack() async throws {
        let kafka = try TestKafka()
        let port = freePort()
        let harness = try SourceHarness(try source(kafka, try topic(kafka), port, timeout: .seconds(60)))
        // It is idle, holds its place in a checkpoint, and no record counts as a bad one.
        try await harness.run(seconds: 3)
        #expect(harness.rows.isEmpty && !harness.isFinished)
        let started = ContinuousClock.now
        _ = try harness.source.poll(budget: 1_024)
        #expect(ContinuousClock.now - started < .seconds(1), "a poll does not wait for the registry")
        #expect(try harness.positions().map(\.next) == [0])
        let server = RegistryServer(port: port) { _ in .reply(200, Self.answer) }
        defer { server.stop() }
        try await harness.run(seconds: 30)
        #expect(harness.isFinished)
        #expect(harness.rows == [Named(id: "a"), Named(id: "b")])
        #expect(harness.counter("deserializationErrors") == 0)
        #expect(server.received.map(\.path) == ["/schemas/ids/7"])
    }

    @Test func aRegistryThatStaysDownFailsTheJobWhateverThePolicyForBadRecords() async throws {
        let kafka = try TestKafka()
        let port = freePort()
        let harness = try SourceHarness(try source(kafka, try topic(kafka), port, timeout: .milliseconds(500)))
        let failure = await failure { try await harness.run(seconds: 20) }
        #expect(failure?.message == "cannot fetch schema 7 of the registry at http://127.0.0.1:\(port)")
        #expect(failure?.domain == .external && failure?.recovery == .restart)
        #expect(failure?.cause?.isEmpty == false)
        #expect(harness.rows.isEmpty)
    }
}
