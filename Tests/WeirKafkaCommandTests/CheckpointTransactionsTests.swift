import Foundation
import Testing
import WeirBase
import WeirKafkaCommand
import WeirKafkaTransactions

@Suite struct CheckpointTransactionsTests {
    private let job = JobID(high: 1, low: 2)

    private func transaction(_ prefix: String, _ subtask: Int, checkpoint: UInt64) -> PreparedTransaction {
        PreparedTransaction(
            id: TransactionalID(prefix: prefix, subtask: subtask, index: 0), session: ProducerSession(producerID: 7, epoch: 1),
            checkpoint: checkpoint, markerTopic: "out", baseMarker: nil, begunAt: 1_000, timeoutMilliseconds: 60_000, records: 3)
    }

    private func pool(_ prefix: String, _ subtask: Int) -> SinkState { .pool(ProducerPool(prefix: prefix, subtask: subtask, size: 3)) }

    @Test func whatEverySubtaskNamesIsFoundInlineAndInFiles() throws {
        let directory = try TestDirectory()
        let (first, second) = (transaction("a", 0, checkpoint: 4), transaction("b", 1, checkpoint: 4))
        let path = try writeCheckpoint(
            4, of: job, below: directory.path, subtasks: [[pool("a", 0), .transaction(first)], [pool("b", 1), .transaction(second)], []])
        for text in [path, path + "/", path + "/_metadata", "file://" + path] {
            let found = try CheckpointTransactions.read(text)
            #expect(found.directories == [path])
            #expect(found.prefixes == ["a", "b"])
            #expect(found.prepared == [first, second])
            #expect(found.prepared("b") == [second])
        }
    }

    @Test func aCheckpointThatWasMovedIsReadWhereItIs() throws {
        let directory = try TestDirectory()
        let named = transaction("b", 1, checkpoint: 4)
        _ = try writeCheckpoint(4, of: job, below: directory.path + "/old", subtasks: [[], [.transaction(named)]])
        try FileManager.default.moveItem(atPath: directory.path + "/old", toPath: directory.path + "/new")
        #expect(try CheckpointTransactions.read(directory.path + "/new/\(job)/chk-4").prepared == [named])
    }

    @Test func aJobsDirectoryStandsForAllItsCompletedCheckpoints() throws {
        let directory = try TestDirectory()
        let (older, newer) = (transaction("a", 0, checkpoint: 9), transaction("a", 0, checkpoint: 10))
        let root = directory.path + "/\(job)"
        _ = try writeCheckpoint(9, of: job, below: directory.path, subtasks: [[.transaction(older)]])
        _ = try writeCheckpoint(10, of: job, below: directory.path, subtasks: [[.transaction(older), .transaction(newer)]])
        for name in ["chk-11", "chk-x", "other"] {  // The first is in flight.
            try FileManager.default.createDirectory(atPath: root + "/" + name, withIntermediateDirectories: true)
        }
        let found = try CheckpointTransactions.read(root)
        #expect(found.directories == [root + "/chk-10", root + "/chk-9"])
        #expect(found.prepared == [older, newer])
    }

    @Test func whatIsNoCheckpointOrIsDamagedIsToldWithItsPath() throws {
        let directory = try TestDirectory()
        func failure(_ path: String) -> JobFailure? {
            do {
                _ = try CheckpointTransactions.read(path)
                return nil
            } catch { return error as JobFailure }
        }
        let missing = directory.path + "/no"
        #expect(failure(missing)?.message == "cannot read the checkpoint \(missing)")
        #expect(failure(missing)?.cause == "No such file or directory")
        #expect(failure(directory.path)?.message == "\(directory.path) is no checkpoint")
        let path = try writeCheckpoint(1, of: job, below: directory.path, subtasks: [[], [pool("a", 1)]])
        let file = path + "/0-1-1.state"
        var bytes = try Data(contentsOf: URL(fileURLWithPath: file))
        bytes[bytes.count - 1] ^= 1
        try bytes.write(to: URL(fileURLWithPath: file))
        #expect(failure(path)?.message == "the checkpoint file \(file) cannot be used")
        #expect(failure(path)?.cause == "damaged: the payload's checksum is wrong")
    }
}
