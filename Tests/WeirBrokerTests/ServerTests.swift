import Glibc
import Testing
import WeirBase
import WeirKafkaWire

@testable import WeirBroker

/// Connections: framing, order, limits, and what becomes of bytes that are no request.
@Suite struct ServerTests {
    /// Waits until a condition holds, at most some seconds.
    static func eventually(_ condition: () -> Bool) -> Bool {
        let deadline = ContinuousClock.now + .seconds(20)
        while ContinuousClock.now < deadline {
            if condition() { return true }
            usleep(2_000)
        }
        return false
    }

    private func connections(_ broker: Broker) -> Int { broker.run { $0.connections?.connectionCount ?? 0 } }

    @Test func aBrokerStartsOnAFreePortAndStops() throws {
        let broker = try Broker(options: BrokerOptions())
        try broker.start()
        #expect(broker.bootstrap.hasPrefix("127.0.0.1:"))
        broker.stop()
        #expect(throws: WireClient.Failure.self) { try WireClient(broker.bootstrap) }
    }

    @Test func thePortOfAnotherBrokerIsAnError() throws {
        let test = try TestBroker()
        var options = BrokerOptions()
        options.port = UInt16(test.broker.bootstrap.split(separator: ":")[1]) ?? 0
        let second = try Broker(options: options)
        defer { second.stop() }
        #expect(throws: BrokerFailure.self) { try second.start() }
    }

    @Test func unknownPropertiesAreAllNamed() {
        var options = BrokerOptions()
        options.properties = ["num.partitions": "0", "nonsense": "1", "auto.create.topics.enable": "yes"]
        let expected = BrokerFailure(
            "auto.create.topics.enable is \"yes\": true or false is expected; nonsense is no property of this broker; "
                + "num.partitions is 0: it must be in 1...10000")
        #expect(throws: expected) { try Broker(options: options) }
    }

    // MARK: ApiVersions

    @Test func apiVersionsListsWhatHasAHandler() throws {
        let test = try TestBroker()
        let answer = try test.client.call(.apiVersions)
        let listed = answer.structures("apiKeys").map { $0.int16("apiKey") }
        #expect(listed == ApiKey.allCases.map(\.rawValue).sorted())
        for entry in answer.structures("apiKeys") {
            let api = try #require(ApiKey(rawValue: entry.int16("apiKey")))
            #expect(entry.int16("maxVersion") == ApiSchema.of(api).versions.highest)
        }
    }

    @Test func aNewerApiVersionsIsAnsweredInVersion0WithError35() throws {
        let test = try TestBroker()
        try test.client.send(framed([0, 18, 0, 99, 0, 0, 0, 5, 0, 1, 0x61, 0, 0, 0]))
        let frame = KafkaBytes(try test.client.receiveFrame())
        let answer = try KafkaMessage.decodeResponse(.apiVersions, version: 0, frame: frame)
        #expect(answer.correlationID == 5)
        #expect(answer.body.errorCode() == .unsupportedVersion)
        #expect(!answer.body.structures("apiKeys").isEmpty)
        #expect(try test.client.call(.apiVersions).errorCode() == .none, "the connection goes on")
    }

    // MARK: Bytes that are no request

    private func framed(_ bytes: [UInt8]) -> [UInt8] {
        withUnsafeBytes(of: Int32(bytes.count).bigEndian) { Array($0) } + bytes
    }

    @Test(
        arguments: [
            [0x7F, 0xFF, 0xFF, 0xFF], [0xFF, 0xFF, 0xFF, 0xFF], [0, 0, 0, 2, 0, 18], [0, 0, 0, 8, 0x30, 0, 0, 0, 0, 0, 0, 1],
            [0, 0, 0, 0x0E, 0, 3, 0, 1, 0, 0, 0, 1, 0xFF, 0xFF, 0x7F, 0, 0, 0], [0, 0, 0, 0x0A, 0, 3, 0, 77, 0, 0, 0, 1, 0xFF, 0xFF],
        ] as [[UInt8]]) func aMalformedRequestClosesItsConnectionAndNoOther(bytes: [UInt8]) throws
    {
        let test = try TestBroker()
        let other = try test.connect()
        _ = try other.call(.apiVersions)
        try test.client.send(bytes)
        #expect(throws: WireClient.Failure.self) { try test.client.receiveFrame() }
        #expect(try other.call(.apiVersions).errorCode() == .none)
    }

    @Test func requestsMayComeByteByByteAndManyAtATime() throws {
        let test = try TestBroker()
        let request = KafkaMessage.request(.apiVersions, version: 3, correlationID: 1, clientID: nil, body: KafkaStruct(requestOf: .apiVersions))
            .flatMap(\.array)
        for byte in request { try test.client.send([byte]) }
        let first = try test.client.receiveFrame()
        try test.client.send(Array(repeating: request, count: 50).flatMap { $0 })
        for _ in 0..<50 { #expect(try test.client.receiveFrame() == first) }
    }

    @Test func aRequestMayHaveAsManyBytesAsTheLimitAndNoMore() throws {
        let test = try TestBroker { $0.properties["socket.request.max.bytes"] = "2000" }
        func request(_ total: Int) -> [UInt8] {
            // A client id of 10 + n bytes, with the 6 bytes of ApiVersions 0's header fields before it.
            framed([0, 18, 0, 0, 0, 0, 0, 1] + [UInt8((total - 10) >> 8), UInt8((total - 10) & 0xFF)] + [UInt8](repeating: 0x61, count: total - 10))
        }
        try test.client.send(request(2_000))
        #expect(try !test.client.receiveFrame().isEmpty)
        try test.client.send(request(2_001))
        #expect(throws: WireClient.Failure.self) { try test.client.receiveFrame() }
    }

    // MARK: Order and limits

    @Test func answersComeInTheOrderOfTheRequests() throws {
        let test = try TestBroker()
        try test.client.createTopic("t")
        // The fetch waits for records, and what is behind it for the fetch.
        try test.client.send(.fetch) {
            WireClient.fetch(&$0, [.init(topic: "t")], minBytes: 1, maxBytes: 1_000, maxWait: 10_000, isolation: .readUncommitted)
        }
        try test.client.send(.apiVersions)
        #expect(test.client.isSilent(forMilliseconds: 100))
        _ = try test.connect().produce("t", batch(1))
        #expect(try test.client.receive().structures("responses").count == 1)
        #expect(try !test.client.receive().structures("apiKeys").isEmpty)
    }

    @Test func noMoreRequestsAreTakenThanMayBeInFlight() throws {
        let test = try TestBroker { $0.properties["max.in.flight.requests.per.connection"] = "3" }
        try test.client.createTopic("t")
        for _ in 0..<5 {
            try test.client.send(.fetch) {
                WireClient.fetch(&$0, [.init(topic: "t")], minBytes: 1, maxBytes: 1_000, maxWait: 10_000, isolation: .readUncommitted)
            }
        }
        #expect(Self.eventually { test.broker.faults.requestCount(of: .fetch) == 3 })
        #expect(test.client.isSilent(forMilliseconds: 50))
        #expect(test.broker.faults.requestCount(of: .fetch) == 3)
        _ = try test.connect().produce("t", batch(1))
        for _ in 0..<5 { #expect(try test.client.receive().structures("responses").count == 1) }
    }

    @Test func connectionsBeyondTheLimitAreClosedAtOnce() throws {
        let test = try TestBroker { $0.properties["max.connections"] = "2" }
        let second = try test.connect()
        _ = try test.client.call(.apiVersions)
        _ = try second.call(.apiVersions)
        let third = try test.connect()
        #expect(throws: WireClient.Failure.self) { try third.call(.apiVersions) }
        _ = try second.call(.apiVersions)
    }

    @Test func idleConnectionsAreClosed() throws {
        let test = try TestBroker { $0.properties["connections.max.idle.ms"] = "50" }
        _ = try? test.client.call(.apiVersions)
        #expect(Self.eventually { connections(test.broker) == 0 })
    }

    @Test func aClientThatDoesNotReadIsNotServedWithoutBound() throws {
        let test = try TestBroker { $0.properties["max.in.flight.requests.per.connection"] = "1000" }
        try test.client.createTopic("t", config: ["max.message.bytes": "20000000"])
        let producer = try test.connect()
        let value = String(repeating: "v", count: 8 << 20)
        _ = try producer.produce("t", RecordBatch.build([BatchRecord(value: KafkaBytes(Array(value.utf8)), timestamp: 1)]))
        for _ in 0..<100 {
            try test.client.send(.fetch) {
                WireClient.fetch(
                    &$0, [.init(topic: "t", maxBytes: 16 << 20)], minBytes: 1, maxBytes: 16 << 20, maxWait: 0, isolation: .readUncommitted)
            }
        }
        // Not all of them are answered before the client reads: 32 MiB wait at most, and what one more answer adds.
        #expect(Self.eventually { test.broker.faults.requestCount(of: .fetch) > 3 })
        #expect(!test.client.isSilent(forMilliseconds: 10_000))
        #expect(test.broker.faults.requestCount(of: .fetch) < 12)
        for _ in 0..<100 { #expect(try test.client.receive().structures("responses").count == 1) }
    }

    @Test func aClosedConnectionsRequestsAreForgotten() throws {
        let test = try TestBroker()
        try test.client.createTopic("t")
        do {
            let other = try test.connect()
            try other.send(.fetch) {
                WireClient.fetch(&$0, [.init(topic: "t")], minBytes: 1, maxBytes: 1_000, maxWait: 10_000, isolation: .readUncommitted)
            }
            #expect(Self.eventually { test.broker.faults.requestCount(of: .fetch) == 1 })
        }
        #expect(Self.eventually { connections(test.broker) == 1 })
        #expect(try test.client.produce("t", batch(1)).code == .none)
    }

    @Test func theAdvertisedListenerIsToldToClients() throws {
        let test = try TestBroker { $0.properties["advertised.listener"] = "broker.example:9092" }
        let node = try #require(try test.client.call(.metadata).structures("brokers").first)
        #expect(node.string("host") == "broker.example")
        #expect(node.int32("port") == 9_092)
    }
}
