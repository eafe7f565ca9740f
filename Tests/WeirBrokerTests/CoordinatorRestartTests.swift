import Foundation
import Testing
import WeirBase
import WeirKafkaWire
import WeirTestKit

@testable import WeirBroker

/// What a broker knows after its process was killed: whatever stood in its files at that moment.
@Suite struct CoordinatorRestartTests {
    private let directory = TestDirectory()

    private func start(_ name: String, fsync: Bool = false) throws -> TestBroker {
        try TestBroker {
            $0.storage = .directory(directory.path + "/" + name)
            $0.fsync = fsync
        }
    }

    /// The files as a kill at this moment leaves them, under a broker of its own.
    private func killed(_ name: String, as copy: String) throws -> TestBroker {
        try FileManager.default.copyItem(atPath: directory.path + "/" + name, toPath: directory.path + "/" + copy)
        return try start(copy)
    }

    @Test(arguments: [false, true]) func openTransactionsOffsetsAndGroupsSurvive(fsync: Bool) throws {
        let before = try start("a", fsync: fsync)
        try before.client.createTopic("t", partitions: 2)
        let member = try before.client.lead("g")
        _ = try before.client.commit("g", [("t", 0, 4)], member: member, generation: 1, metadata: "m")
        var producer = try before.client.beginTransaction("T", topic: "t", [0])
        _ = try before.client.produce("t", producer.batch(2), transactionalID: "T")
        _ = try before.client.addOffsets("T", producer.identity, group: "g")
        _ = try before.client.commitInTransaction("T", producer.identity, group: "g", [("t", 0, 7)])
        let plain = try before.client.initProducer(nil).producer

        let after = try killed("a", as: "b")
        #expect(try after.client.heartbeat("g", member, 1) == .none)
        #expect(try after.client.committed("g", topic: "t", partitions: [0]) == [.init(offset: 4, metadata: "m")])
        #expect(try after.client.committed("g", topic: "t", partitions: [0], stable: true) == [.init(code: .unstableOffsetCommit, offset: -1)])
        #expect(try after.client.visibleRecords("t") == 0)
        #expect(try after.client.produce("t", producer.batch(), transactionalID: "T").code == .none, "it goes on where it was")
        #expect(try after.client.end("T", producer.identity, commit: true) == .none)
        #expect(try after.client.visibleRecords("t") == 3)
        #expect(try after.client.committed("g", topic: "t", partitions: [0], stable: true) == [.init(offset: 7)])
        #expect(try after.client.initProducer(nil).producer.id > plain.id)

        let third = try killed("b", as: "c")
        #expect(try third.client.end("T", producer.identity, commit: true) == .none, "it is committed still")
        #expect(try third.client.visibleRecords("t") == 3)
    }

    @Test(arguments: [true, false]) func anEndThatWasStoredIsFinished(commit: Bool) throws {
        let before = try start("a")
        try before.client.createTopic("t")
        var producer = try before.client.beginTransaction("T", topic: "t", [0])
        _ = try before.client.produce("t", producer.batch(2), transactionalID: "T")
        _ = try before.client.addOffsets("T", producer.identity, group: "g")
        _ = try before.client.commitInTransaction("T", producer.identity, group: "g", [("t", 0, 7)])
        before.broker.run { $0.perform(.slowDisk(delay: .seconds(20), .seconds(20))) }
        let ending = try before.connect()
        try ending.send(.endTxn) { WireClient.end(&$0, "T", producer.identity, commit: commit) }
        // Stored, but no marker is written before the disk has it.
        while before.broker.run({ $0.coordinators.state(of: "T") }) == .ongoing {}

        let after = try killed("a", as: "b")
        #expect(try after.client.describeTransaction("T").string("transactionState") == (commit ? "CompleteCommit" : "CompleteAbort"))
        #expect(try after.client.visibleRecords("t") == (commit ? 2 : 0))
        #expect(try after.client.committed("g", topic: "t", partitions: [0], stable: true) == [.init(offset: commit ? 7 : -1)])
        #expect(try after.client.end("T", producer.identity, commit: commit) == .none)
        #expect(try after.client.end("T", producer.identity, commit: !commit) == .invalidTxnState)
    }

    @Test func aDamagedJournalKeepsTheBrokerFromStarting() throws {
        do {
            let before = try start("a")
            try before.client.createTopic("t")
            _ = try before.client.commit("g", [("t", 0, 1)])
            _ = try before.client.commit("g", [("t", 0, 2)])
        }
        directory.overwrite("a/journal/coordinators", at: Journal.headerBytes + 20, with: [0xFF])
        let failure = try #require(throws: BrokerFailure.self) { try self.start("a") }
        #expect(failure.path == directory.path + "/a/journal/coordinators")
        #expect(failure.message.contains("damaged"))
    }

    @Test func theJournalIsWrittenAnewWhenMostOfItIsOld() throws {
        let metadata = String(repeating: "m", count: 4_000)
        let before = try start("a")
        try before.client.createTopic("t")
        for offset in Int64(0)..<600 { _ = try before.client.commit("g", [("t", 0, offset)], metadata: metadata) }
        #expect(directory.size("a/journal/coordinators") < 600 * 4_000 / 2)
        let after = try killed("a", as: "b")
        #expect(try after.client.committed("g", topic: "t", partitions: [0]).map(\.offset) == [599])
    }

    // MARK: A disk that fails

    @Test func aDiskThatIsFullAtTheStartIsSaid() throws {
        do {
            let before = try start("a")
            try before.client.createTopic("t")
        }
        let journal = directory.path + "/a/journal/coordinators"
        try FileManager.default.removeItem(atPath: journal)
        try FileManager.default.createSymbolicLink(atPath: journal, withDestinationPath: "/dev/full")
        let failure = try #require(throws: BrokerFailure.self) { try self.start("a") }
        #expect(failure.path == journal)
        #expect(failure.message.contains("No space left"))
    }

    @Test func aDiskThatIsFullEndsTheBrokerAndKeepsWhatWasAcknowledged() throws {
        // No file may be larger than 64 KiB.
        let process = try ChildProcess(
            name: "broker", executable: "/bin/bash",
            arguments: [
                "-c", "trap '' XFSZ; ulimit -f 64; exec \"$0\" broker --data \"$1\" --topics t:1", try LocalCluster.binaryDirectory() + "/weir",
                directory.path + "/a",
            ])
        let words = try process.line(containing: "broker ready on ").split(separator: " ")
        let bootstrap = try #require(words.first { $0.contains(":") }).filter { $0 != "," }
        let client = try WireClient(bootstrap)
        let metadata = String(repeating: "m", count: 4_000)
        var acknowledged: Int64 = -1
        do {
            while acknowledged < 1_000 {
                guard try client.commit("g", [("t", 0, acknowledged + 1)], metadata: metadata) == [.none] else { break }
                acknowledged += 1
            }
            Issue.record("the broker acknowledged \(acknowledged) offsets, or refused one")
        } catch {
            #expect(acknowledged > 5, "\(error)")
        }
        #expect(process.exitCode() != 0)
        #expect(process.output.contains { $0.contains("a/journal/coordinators") && $0.contains("File too large") }, "\(process.output)")
        let after = try start("a")
        #expect(try after.client.committed("g", topic: "t", partitions: [0]).map(\.offset) == [acknowledged])
    }
}
