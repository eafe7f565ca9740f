import Testing
import WeirBase
import WeirKafkaWire

@testable import WeirBroker

/// What goes wrong on purpose.
@Suite struct FaultTests {
    private let test: TestBroker
    private var client: WireClient { test.client }
    private var faults: FaultInjector { test.broker.faults }

    init() throws {
        test = try TestBroker()
        try client.createTopic("t")
    }

    private func perform(_ action: FaultAction) { test.broker.run { $0.perform(action) } }

    @Test func theNthRequestIsAnsweredWithAnErrorAndNotHandled() throws {
        faults.add(.on(.produce, 2...3, .error(.notEnoughReplicas)))
        #expect(try client.produce("t", batch(1)).code == .none)
        #expect(try client.produce("t", batch(1)).code == .notEnoughReplicas)
        #expect(try client.produce("t", batch(1)).code == .notEnoughReplicas)
        #expect(try client.produce("t", batch(1)) == .init(code: .none, baseOffset: 1))
    }

    @Test(arguments: ApiKey.allCases.filter { $0 != .saslHandshake && $0 != .saslAuthenticate })
    func everyApiHasAnErrorResponse(api: ApiKey) throws {
        let message = try #require(
            ForeignRequests.filled(api), "a request of \(api) with at least one of everything")
        let response = ErrorResponse.response(to: message, of: api, code: .corruptMessage)
        #expect(Self.codes(.structure(response)).contains(KafkaErrorCode.corruptMessage.rawValue), "\(api)")
        faults.add(.on(api, .error(.corruptMessage)))
        try client.send(api) { $0 = message }
        #expect(Self.codes(.structure(try client.receive())).contains(KafkaErrorCode.corruptMessage.rawValue))
    }

    /// Every error code in a response.
    private static func codes(_ value: KafkaValue) -> [Int16] {
        switch value {
        case .structure(let structure):
            structure.schema.fields.flatMap { field -> [Int16] in
                field.name.hasSuffix("rrorCode") ? [structure.int16(field.name)] : codes(structure[field.name])
            }
        case .array(let values): values.flatMap { codes($0) }
        default: []
        }
    }

    @Test func aDroppedRequestIsNotHandledAndOthersAre() throws {
        faults.add(.on(.produce, .drop))
        try client.send(.produce, expectsAnswer: false) { WireClient.produce(&$0, "t", 0, batch(1), acks: -1, transactionalID: nil) }
        #expect(try client.produce("t", batch(1)) == .init(code: .none, baseOffset: 0))
    }

    @Test func aClosedConnectionsRequestIsNotHandled() throws {
        faults.add(.on(.produce, .close))
        #expect(throws: WireClient.Failure.self) { try client.produce("t", batch(1)) }
        #expect(try test.connect().produce("t", batch(1)).baseOffset == 0)
    }

    @Test func aRequestWhoseAnswerIsLostWasHandled() throws {
        faults.add(.on(.produce, .loseAnswer))
        #expect(throws: WireClient.Failure.self) { try client.produce("t", batch(1)) }
        #expect(try test.connect().produce("t", batch(1)).baseOffset == 1)
    }

    @Test func anAnswerIsCutAfterSomeBytes() throws {
        faults.add(.on(.produce, .truncate(bytes: 6)))
        try client.send(.produce, expectsAnswer: false) { WireClient.produce(&$0, "t", 0, batch(1), acks: -1, transactionalID: nil) }
        #expect(try client.receiveRest().count == 6)
        #expect(try test.connect().produce("t", batch(1)).baseOffset == 1)
    }

    @Test func aDelayedRequestHoldsThoseBehindItOnItsConnection() throws {
        faults.add(.on(.produce, .delay(.milliseconds(150))))
        try client.send(.produce) { WireClient.produce(&$0, "t", 0, batch(1), acks: -1, transactionalID: nil) }
        try client.send(.apiVersions)
        #expect(client.isSilent(forMilliseconds: 100))
        #expect(try test.connect().call(.apiVersions).errorCode() == .none)
        _ = try client.receive()
        #expect(try !client.receive().structures("apiKeys").isEmpty)
    }

    @Test func aBrokerThatStopsAnsweringGoesOnLater() throws {
        perform(.stopAnswering(.milliseconds(150)))
        try client.send(.apiVersions)
        let late = try test.connect()
        try late.send(.apiVersions)
        #expect(client.isSilent(forMilliseconds: 100))
        #expect(try client.receive().errorCode() == .none)
        #expect(try late.receive().errorCode() == .none)
    }

    @Test func connectionsAreRefusedForATime() throws {
        perform(.refuseConnections(.milliseconds(100)))
        #expect(throws: WireClient.Failure.self) { try client.call(.apiVersions) }
        #expect(throws: WireClient.Failure.self) { try test.connect().call(.apiVersions) }
        #expect(ServerTests.eventually { (try? test.connect().call(.apiVersions)) != nil })
    }

    @Test func aPartitionLosesItsLeaderForATime() throws {
        perform(.leaderless(topic: "t", partition: 0, .milliseconds(200)))
        let topic = try client.call(.metadata) { $0.append(to: "topics") { $0["name"] = "t" } }.structures("topics")[0]
        #expect(topic.structures("partitions").map { $0.int32("leaderId") } == [-1])
        #expect(topic.structures("partitions").map { $0.errorCode() } == [.leaderNotAvailable])
        #expect(try client.produce("t", batch(1)).code == .notLeaderOrFollower)
        #expect(try client.fetch([.init(topic: "t")])[0].errorCode() == .notLeaderOrFollower)
        #expect(ServerTests.eventually { (try? client.produce("t", batch(1)).code) == KafkaErrorCode.none })
    }

    @Test func aSlowDiskHoldsAcknowledgements() throws {
        perform(.slowDisk(delay: .milliseconds(120), .seconds(5)))
        try client.send(.produce) { WireClient.produce(&$0, "t", 0, batch(1), acks: -1, transactionalID: nil) }
        #expect(client.isSilent(forMilliseconds: 80))
        #expect(try client.receive().structures("responses").count == 1)
    }

    @Test(arguments: [true, false]) func aRestartKeepsThePortAndTheRecords(onDisk: Bool) throws {
        let directory = TestDirectory()
        let test = try TestBroker { if onDisk { $0.storage = .directory(directory.path) } }
        try test.client.createTopic("t")
        _ = try test.client.produce("t", batch(3))
        let address = test.broker.bootstrap
        test.broker.run { $0.perform(.restart(downtime: .milliseconds(50))) }
        #expect(throws: WireClient.Failure.self) { try test.client.call(.apiVersions) }
        #expect(ServerTests.eventually { (try? test.connect().call(.apiVersions)) != nil })
        #expect(test.broker.bootstrap == address)
        #expect(try test.connect().produce("t", batch(1)).baseOffset == 3)
    }

    @Test func faultsAtATimeComeByThemselves() throws {
        let test = try TestBroker { $0.faults = [Fault(trigger: .time(.milliseconds(50)), action: .refuseConnections(.seconds(60)))] }
        #expect(ServerTests.eventually { (try? test.connect().call(.apiVersions)) == nil })
    }

    // MARK: The file

    @Test func theFileOfFaultsIsRead() throws {
        let faults = try FaultFile.parse(
            """
            # a comment
            on EndTxn 1 lose-answer
            on Produce 3-5 error 7   # the third to the fifth
            on fetch 2+ delay 500ms
            on any 100 close
            on Metadata 1 truncate 20

            at 10s refuse-connections 2s
            at 0ms slow-disk 20ms 1min
            on JoinGroup 1 leaderless orders/3 5s
            at 1s leaderless orders 5s
            at 1s restart 1s
            on any 1 stop-answering 1s
            on ListOffsets 1 drop
            """)
        #expect(
            faults == [
                .on(.endTxn, .loseAnswer), .on(.produce, 3...5, .error(.requestTimedOut)), .on(.fetch, 2...Int.max, .delay(.milliseconds(500))),
                .on(nil, 100, .close), .on(.metadata, .truncate(bytes: 20)),
                Fault(trigger: .time(.seconds(10)), action: .refuseConnections(.seconds(2))),
                Fault(trigger: .time(.zero), action: .slowDisk(delay: .milliseconds(20), .seconds(60))),
                .on(.joinGroup, .leaderless(topic: "orders", partition: 3, .seconds(5))),
                Fault(trigger: .time(.seconds(1)), action: .leaderless(topic: "orders", partition: nil, .seconds(5))),
                Fault(trigger: .time(.seconds(1)), action: .restart(downtime: .seconds(1))),
                .on(nil, .stopAnswering(.seconds(1))), .on(.listOffsets, .drop),
            ])
    }

    @Test func everyWrongLineIsNamed() {
        let text = "on Nothing 1 close\non Fetch 0 close\nat 1s close\non Fetch 1 explode\non Fetch 1 close now\non Fetch 3-2 drop"
        let failure = #expect(throws: BrokerFailure.self) { try FaultFile.parse(text) }
        for line in 1...6 { #expect(failure?.message.contains("line \(line)") == true) }
    }
}

/// Requests with one element in every array, so that an error has somewhere to stand.
enum ForeignRequests {
    static func filled(_ api: ApiKey) -> KafkaStruct? {
        var request = KafkaStruct(requestOf: api)
        fill(&request)
        return request
    }

    private static func fill(_ structure: inout KafkaStruct) {
        for field in structure.schema.fields {
            switch field.type {
            case .array(.structure): structure.append(to: field.name) { fill(&$0) }
            case .array(.string): structure[field.name] = .strings(["x"])
            case .array: structure[field.name] = .ints([0])
            case .string where field.name == "name" || field.name == "topic": structure[field.name] = "x"
            default: break
            }
        }
    }
}
