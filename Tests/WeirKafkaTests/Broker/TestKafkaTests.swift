import Glibc
import Testing
import WeirFormats
import WeirKafka
import WeirStreams

@Suite struct TestKafkaTests {
    /// Threads and ports of brokers that outlive their tests would add up over the run.
    @Test(.enabled(if: TestKafka.isEmbedded)) func theBrokerOfATestEndsWithIt() async throws {
        let (bootstrap, kafka) = try await useBroker()
        #expect(kafka.value == nil, "nobody holds on to the broker")
        #expect(try !isListening(bootstrap))
    }

    private struct Weak { weak var value: TestKafka? }

    private func useBroker() async throws -> (String, Weak) {
        let kafka = try TestKafka()
        #expect(try isListening(kafka.bootstrap))
        let topic = try kafka.topic()
        try kafka.write(topic, ["a"])
        let harness = try SourceHarness(strings(kafka, topic).group("g-\(topic)"))
        try await harness.run { harness.rows == ["a"] }
        _ = try kafka.committed("g-\(topic)", topic)
        return (kafka.bootstrap, Weak(value: kafka))
    }

    private func isListening(_ bootstrap: String) throws -> Bool {
        let port = try #require(bootstrap.split(separator: ":").last.flatMap { UInt16($0) })
        let descriptor = socket(AF_INET, Int32(SOCK_STREAM.rawValue), 0)
        defer { close(descriptor) }
        var address = sockaddr_in()
        address.sin_family = sa_family_t(AF_INET)
        address.sin_port = port.bigEndian
        address.sin_addr.s_addr = UInt32(0x7F00_0001).bigEndian
        return withUnsafePointer(to: &address) { pointer in
            pointer.withMemoryRebound(to: sockaddr.self, capacity: 1) { connect(descriptor, $0, socklen_t(MemoryLayout<sockaddr_in>.size)) == 0 }
        }
    }
}
