import Testing
import WeirBase
import WeirKafkaWire

@testable import WeirBroker

/// What of the catalogue and the cluster is on the disk.
@Suite struct DataDirectoryTests {
    private let directory = TestDirectory()

    private func broker() throws -> TestBroker {
        let path = directory.path
        return try TestBroker { $0.storage = .directory(path) }
    }

    private func topics(_ test: TestBroker) -> [Topic] { test.broker.run { $0.topics.all } }

    @Test func topicsAndTheClustersIDSurviveARestart() throws {
        var test: TestBroker? = try broker()
        try test?.client.createTopic("a", partitions: 3, config: ["retention.ms": "5", "cleanup.policy": "delete, compact"])
        try test?.client.createTopic("b")
        _ = try test?.client.call(.deleteTopics) { $0.append(to: "topics") { $0["name"] = "b" } }
        let cluster = try test?.client.call(.describeCluster).string("clusterId")
        let before = test.map { topics($0) }
        test = nil
        let again = try broker()
        #expect(topics(again) == before)
        #expect(topics(again).map(\.name) == ["a"])
        #expect(topics(again)[0].config.string("cleanup.policy") == "delete, compact")
        #expect(try again.client.call(.describeCluster).string("clusterId") == cluster)
    }

    @Test func twoBrokersCannotShareADirectory() throws {
        let first = try broker()
        #expect(throws: BrokerFailure("another broker uses the data directory", path: directory.path)) { try broker() }
        _ = try first.client.call(.apiVersions)
    }

    @Test func aDamagedListOfTopicsIsAnErrorWithItsPath() throws {
        do {
            let test = try broker()
            try test.client.createTopic("a")
        }
        let path = directory.path + "/topics"
        let intact = try DataFile(path, .read).read(1 << 16, at: 0).array
        for index in intact.indices {
            var damaged = intact
            damaged[index] ^= 0x01
            try DataFile.replace(path, with: damaged)
            let failure = #expect(throws: BrokerFailure.self) { try broker() }
            #expect(failure?.path == path)
        }
        for count in 0..<intact.count {
            try DataFile.replace(path, with: Array(intact[..<count]))
            #expect(throws: BrokerFailure.self) { try broker() }
        }
        try DataFile.replace(path, with: intact)
        #expect(topics(try broker()).map(\.name) == ["a"])
    }

    @Test func aDirectoryOfAnotherVersionIsAnError() throws {
        _ = try broker()
        try DataFile.replace(directory.path + "/broker", with: Array("weir-broker 2\ncluster-id x\n".utf8))
        #expect(throws: BrokerFailure("the data directory is not one of this version", path: directory.path + "/broker")) { try broker() }
    }

    @Test func initialTopicsAreMadeOnce() throws {
        let path = directory.path
        for _ in 0..<2 {
            let test = try TestBroker {
                $0.storage = .directory(path)
                $0.topics = [.init(name: "a", partitions: 4)]
            }
            #expect(topics(test).map(\.partitionCount) == [4])
        }
    }

    @Test func whatCannotBeWrittenIsRefusedAndNotKept() throws {
        let file = TopicFile(path: directory.path + "/missing/topics")
        let catalogue = try TopicCatalogue(properties: try BrokerProperties.values([:]), file: file) { KafkaUUID(high: 1, low: 1) }
        #expect(throws: TopicChangeFailure.self) { try catalogue.create("a", partitions: 1) }
        #expect(catalogue.all.isEmpty)
    }
}
