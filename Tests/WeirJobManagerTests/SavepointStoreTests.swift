import Foundation
import Testing
import WeirBase
import WeirControl
import WeirStorage
import WeirWire

@testable import WeirJobManager

/// A job store in a directory of its own, with a savepoint of one file.
private final class Bench {
    let root: String
    let store: JobStore
    let job = JobID(high: 1, low: 2)
    let subtask = SubtaskID(vertex: VertexID(0), index: 0)

    init() throws {
        root = NSTemporaryDirectory() + "weir-job-store-\(UUID().uuidString)"
        store = try JobStore(directory: root, checkpoints: nil, usesArtifacts: false)
        try FileManager.default.createDirectory(atPath: root + "/jobs/\(job)", withIntermediateDirectories: true)
    }

    deinit { try? FileManager.default.removeItem(atPath: root) }

    func write(_ name: String, mode: SavepointMode = .continues) throws -> CompletedCheckpoint {
        let directory = root + "/" + name
        let storage = CheckpointStorage(directory: root + "/checkpoints", job: job)
        let file = try storage.writeSavepointState(in: directory, subtask: subtask, epoch: Epoch(3), payload: [1, 2, 3])
        return CompletedCheckpoint(
            job: job, id: CheckpointID(7), kind: .savepoint(directory: directory, mode: mode), epoch: Epoch(3), maxParallelism: 128,
            vertices: [CheckpointVertex(vertex: VertexID(0), operators: [CheckpointOperator(uid: "a")], parallelism: 1)],
            handles: [
                StateHandle(subtask: subtask, content: .file(StateFile(path: file.path, lengthBytes: file.bytes, crc32c: file.crc)))
            ])
    }

    func submission(_ path: String, claim: Bool = false) -> WireSubmitJob {
        var message = WireSubmitJob()
        message.restorePath = path
        message.claim = claim
        return message
    }
}

@Suite struct SavepointStoreTests {
    @Test func aSavepointThatWasMovedIsRead() throws {
        let bench = try Bench()
        let path = try bench.store.publish(try bench.write("savepoint-1"), atMilliseconds: 5).get()
        #expect(path == bench.root + "/savepoint-1")
        let moved = bench.root + "/elsewhere"
        try FileManager.default.moveItem(atPath: path, toPath: moved)
        for spelling in [moved, moved + "/", moved + "/_metadata", "file://" + moved] {
            let found = try bench.store.external(spelling, job: JobID(high: 9, low: 9), claimed: false)
            #expect(found.writer == bench.job && found.checkpoint.job == JobID(high: 9, low: 9))
            #expect(!found.checkpoint.isOwned && !found.checkpoint.isShareable && found.checkpoint.publishedMilliseconds == 5)
            #expect(found.checkpoint.handles[0].files.map(\.path) == [moved + "/0-0-3.state"])
            #expect(try CheckpointFile.read(found.checkpoint.handles[0].files[0].path) == [1, 2, 3])
        }
    }

    @Test func oneThatNeedsAForeignFileIsNotPublished() throws {
        let bench = try Bench()
        var savepoint = try bench.write("savepoint-1")
        savepoint.handles[0].shared = [StateFile(path: "chk-1/0-0-1.state", lengthBytes: 1, crc32c: 1)]
        #expect(throws: JobFailure.self) { try bench.store.publish(savepoint, atMilliseconds: 0).get() }
        #expect(!FileManager.default.fileExists(atPath: bench.root + "/savepoint-1/_metadata"))
    }

    @Test func aSavepointIsNeverOverwritten() throws {
        let bench = try Bench()
        let savepoint = try bench.write("savepoint-1")
        _ = try bench.store.publish(savepoint, atMilliseconds: 0).get()
        #expect(throws: JobFailure.self) { try bench.store.publish(savepoint, atMilliseconds: 0).get() }
        #expect(FileManager.default.fileExists(atPath: bench.root + "/savepoint-1/_metadata"))
    }

    @Test func aClaimedOneIsDeletedWithItsDirectory() throws {
        let bench = try Bench()
        let path = try bench.store.publish(try bench.write("savepoint-1"), atMilliseconds: 0).get()
        let claimed = try bench.store.persist(submission: bench.submission(path, claim: true), job: bench.job, live: []).get()
        #expect(claimed.map(\.isOwned) == [true])
        let files = claimed[0].handles.flatMap(\.files)
        #expect(bench.store.discard(job: bench.job, checkpoint: claimed[0].id, path: claimed[0].path, files: files) == nil)
        #expect(!FileManager.default.fileExists(atPath: path))
    }

    @Test func theCheckpointOfALiveJobCannotBeClaimed() throws {
        let bench = try Bench()
        var checkpoint = try bench.write("unused")
        checkpoint.kind = .periodic
        checkpoint.handles = []
        let path = try bench.store.publish(checkpoint, atMilliseconds: 0).get()
        let refused = bench.store.persist(submission: bench.submission(path, claim: true), job: JobID(high: 9, low: 9), live: [bench.job])
        guard case .failure(let refusal) = refused else {
            Issue.record("it was claimed")
            return
        }
        #expect(refusal.code == .conflict && refusal.message.contains(bench.job.description))
        #expect(try bench.store.persist(submission: bench.submission(path), job: bench.job, live: [bench.job]).get().count == 1)
    }

    @Test func aJobThatWasToEndWithASavepointRestoresFromNothingOlder() throws {
        let bench = try Bench()
        var older = try bench.write("unused")
        older.kind = .periodic
        older.id = CheckpointID(6)
        older.handles = []
        _ = try bench.store.publish(older, atMilliseconds: 0).get()
        let path = try bench.store.publish(try bench.write("savepoint-1", mode: .stops), atMilliseconds: 0).get()
        _ = try bench.store.persist(submission: WireSubmitJob(), job: bench.job, live: []).get()
        let recovered = bench.store.recover()
        #expect(recovered.problems.isEmpty, "\(recovered.problems)")
        #expect(recovered.jobs.map { $0.checkpoints.map(\.id) } == [[CheckpointID(6), CheckpointID(7)]])
        #expect(recovered.jobs.first?.checkpoints.last?.isOwned == false && recovered.jobs.first?.checkpoints.last?.path == path)
    }

    @Test func aClaimedSavepointIsTakenUpAgainUntilItIsDeleted() throws {
        let bench = try Bench()
        let path = try bench.store.publish(try bench.write("savepoint-1"), atMilliseconds: 0).get()
        _ = try bench.store.persist(submission: bench.submission(path, claim: true), job: bench.job, live: []).get()
        var newer = try bench.write("unused")
        newer.kind = .periodic
        newer.id = CheckpointID(8)
        newer.handles = []
        _ = try bench.store.publish(newer, atMilliseconds: 0).get()
        #expect(bench.store.recover().jobs.first?.checkpoints.map(\.isOwned) == [true, true])
        try FileManager.default.removeItem(atPath: path)
        #expect(bench.store.recover().jobs.first?.checkpoints.map(\.id) == [CheckpointID(8)])
    }
}
