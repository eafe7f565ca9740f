import Glibc
import Testing
import WeirBase
import WeirControl
import WeirStorage
import WeirTestKit
import WeirWire

@testable import WeirJobManager

/// The JobManager's disk on a file system that goes wrong at every place at which it can.
@Suite struct StorageFaultTests {
    private static let job = JobID(high: 1, low: 2)
    private static let subtask = SubtaskID(vertex: VertexID(0), index: 0)

    private struct Bench {
        let files = FaultyStorage()
        var storage: CheckpointStorage { CheckpointStorage(directory: "/jm/checkpoints", job: StorageFaultTests.job, files: files, retry: .none) }

        func store(retry: StorageRetry = .none) throws -> JobStore {
            try JobStore(directory: "/jm", checkpoints: nil, usesArtifacts: false, files: files, retry: retry)
        }

        /// The state of the one task, as its worker writes it, and the checkpoint that names it.
        func checkpoint(_ id: UInt64) throws -> CompletedCheckpoint {
            let file = try storage.writeState(
                CheckpointID(id), subtask: StorageFaultTests.subtask, epoch: Epoch(1), payload: [UInt8](repeating: UInt8(id), count: 40))
            return CompletedCheckpoint(
                job: StorageFaultTests.job, id: CheckpointID(id), epoch: Epoch(1), maxParallelism: 128, vertices: [],
                handles: [
                    StateHandle(
                        subtask: StorageFaultTests.subtask, content: .file(StateFile(path: file.path, lengthBytes: file.bytes, crc32c: file.crc)))
                ])
        }

        /// A store with a job and its first checkpoint.
        func begun(retry: StorageRetry = .none) throws -> JobStore {
            let store = try store(retry: retry)
            _ = try store.persist(submission: WireSubmitJob(), job: StorageFaultTests.job, live: []).get()
            _ = try store.publish(try checkpoint(1), atMilliseconds: 0).get()
            return store
        }

        /// What a JobManager finds that starts now, the oldest first, each with its state readable.
        func recovered() throws -> (checkpoints: [CheckpointID], problems: [String]) {
            let found = try store().recover()
            let checkpoints = found.jobs.flatMap(\.checkpoints).filter { checkpoint in
                checkpoint.handles.flatMap(\.files).allSatisfy {
                    (try? storage.readState(StoredState(path: $0.path, bytes: $0.lengthBytes, crc: $0.crc32c))) != nil
                }
            }
            return (checkpoints.map(\.id), found.problems)
        }
    }

    /// Runs the second checkpoint once for each of its calls to the file system, with a fault at that call.
    private func atEveryCall(_ fault: FaultyStorage.Fault, isLasting: Bool, _ check: (Bench, JobStore, Bool) throws -> Void) throws {
        let whole = Bench()
        let store = try whole.begun()
        let before = whole.files.calls
        _ = try store.publish(try whole.checkpoint(2), atMilliseconds: 0).get()
        let calls = whole.files.calls - before
        #expect(calls > 8)
        for call in 0..<calls {
            let bench = Bench()
            let store = try bench.begun()
            bench.files.plan(fault, after: call, isLasting: isLasting)
            let published = (try? bench.checkpoint(2)).map { (try? store.publish($0, atMilliseconds: 0).get()) != nil } ?? false
            try check(bench, store, published)
        }
    }

    @Test func aPowerCutAtAnyCallLeavesACheckpointAndWhatWasAnnouncedIsThere() throws {
        try atEveryCall(.powerCut, isLasting: false) { bench, _, published in
            bench.files.powerCut()
            let found = try bench.recovered()
            #expect(found.problems.isEmpty, "\(found.problems)")
            #expect(found.checkpoints.first == CheckpointID(1))
            if published { #expect(found.checkpoints.last == CheckpointID(2)) }
        }
    }

    @Test(arguments: [ENOSPC, EDQUOT, EIO, EROFS])
    func aFullDiskAtAnyCallLeavesThePreviousCheckpointAndTheNextSucceeds(code: Int32) throws {
        try atEveryCall(.error(code), isLasting: true) { bench, store, published in
            bench.files.heal()
            // At the last calls it is there already.
            let found = try bench.recovered().checkpoints
            #expect(found.first == CheckpointID(1))
            if published { #expect(found.last == CheckpointID(2)) }
            // The same JobManager would have to be the owner again: it asks at the next checkpoint.
            try store.own(Self.job)
            #expect(throws: Never.self) { try store.publish(try bench.checkpoint(3), atMilliseconds: 0).get() }
            #expect(try bench.recovered().checkpoints.last == CheckpointID(3))
        }
    }

    @Test func aTornWriteIsNeverTakenForACheckpoint() throws {
        for bytes in [0, 1, 31, 32, 50] {
            try atEveryCall(.torn(bytes: bytes, ENOSPC), isLasting: false) { bench, _, published in
                let found = try bench.recovered()
                #expect(found.problems.isEmpty && found.checkpoints == (published ? [1, 2] : [1]).map { CheckpointID($0) })
                #expect(!bench.files.paths.contains { $0.hasSuffix(".tmp") })
            }
        }
    }

    @Test func whatPassesIsNotNoticed() throws {
        let bench = Bench()
        let retry = StorageRetry(attempts: 3) { _ in }
        let store = try bench.begun(retry: retry)
        let before = bench.files.calls
        let second = try bench.checkpoint(2)
        _ = try store.publish(second, atMilliseconds: 0).get()
        for call in 0..<(bench.files.calls - before - 4) {
            let next = try bench.checkpoint(3 + UInt64(call))
            bench.files.plan(.error(ESTALE), on: [.makeDirectory, .write, .rename, .syncDirectory], after: call % 4)
            #expect(throws: Never.self) { try store.publish(next, atMilliseconds: 0).get() }
        }
    }

    @Test func aLostWriteIsFoundNamedAndTheCheckpointBeforeIsTaken() throws {
        let bench = Bench()
        let store = try bench.begun()
        let second = try bench.checkpoint(2)
        bench.files.plan(.lost(bytes: 1), on: [.write], path: "_metadata")
        _ = try store.publish(second, atMilliseconds: 0).get()
        bench.files.powerCut()
        let found = try bench.recovered()
        #expect(found.checkpoints == [CheckpointID(1)])
        #expect(found.problems.count == 1 && found.problems[0].contains("chk-2/_metadata") && found.problems[0].contains("truncated"))
        // It is for a person to look at.
        #expect(bench.files.paths.contains { $0.hasSuffix("chk-2/_metadata") })
    }

    @Test func everyFlippedBitOfEveryReadIsNamedAndTheCheckpointBeforeIsTaken() throws {
        let bench = Bench()
        let store = try bench.begun()
        _ = try store.publish(try bench.checkpoint(2), atMilliseconds: 0).get()
        let bits = try bench.files.read("/jm/checkpoints/\(Self.job)/chk-2/_metadata").count * 8
        for bit in 0..<bits {
            bench.files.plan(.flipped(bit: bit), on: [.read], path: "chk-2/_metadata")
            let found = try bench.recovered()
            #expect(found.checkpoints == [CheckpointID(1)] && found.problems.count == 1 && found.problems[0].contains("chk-2/_metadata"))
        }
        let state = try #require(try bench.checkpoint(2).handles[0].files.first)
        for bit in 0..<(32 + 40) * 8 {
            bench.files.plan(.flipped(bit: bit), on: [.read], path: state.path)
            let failure = #expect(throws: JobFailure.self) {
                try bench.storage.readState(StoredState(path: state.path, bytes: state.lengthBytes, crc: state.crc32c))
            }
            #expect(failure?.message.contains(state.path) == true)
        }
    }

    @Test func aStaleReadIsToldFromTheFileThatWasMeant() throws {
        let bench = Bench()
        let file = try bench.storage.writeState(CheckpointID(1), subtask: Self.subtask, epoch: Epoch(1), payload: [1, 2, 3])
        let second = try bench.storage.writeState(CheckpointID(1), subtask: Self.subtask, epoch: Epoch(1), payload: [4, 5, 6])
        bench.files.plan(.stale, on: [.read])
        let failure = #expect(throws: JobFailure.self) { try bench.storage.readState(second) }
        #expect(failure?.message.contains(file.path) == true && failure?.cause?.contains("another file") == true)
        #expect(try bench.storage.readState(second) == [4, 5, 6])
    }

    @Test func aSlowDiskIsWaitedFor() throws {
        let files = FaultyStorage { usleep(1_000) }
        files.plan(.slow, isLasting: true)
        let storage = CheckpointStorage(directory: "/jm/checkpoints", job: Self.job, files: files, retry: .none)
        let file = try storage.writeState(CheckpointID(1), subtask: Self.subtask, epoch: Epoch(1), payload: [1])
        #expect(try storage.readState(file) == [1])
    }
}

/// Two JobManagers that take one job for theirs.
@Suite struct FencingTests {
    private let job = JobID(high: 1, low: 2)

    private func checkpoint(_ id: UInt64) -> CompletedCheckpoint {
        CompletedCheckpoint(job: job, id: CheckpointID(id), epoch: Epoch(1), maxParallelism: 128, vertices: [], handles: [])
    }

    @Test func theOneThatCameBeforePublishesDeletesAndRecordsNothingMore() throws {
        let files = FaultyStorage()
        func store() throws -> JobStore { try JobStore(directory: "/jm", checkpoints: nil, usesArtifacts: false, files: files, retry: .none) }
        let first = try store()
        _ = try first.persist(submission: WireSubmitJob(), job: job, live: []).get()
        let path = try first.publish(checkpoint(1), atMilliseconds: 0).get()
        let second = try store()
        #expect(second.recover().jobs.map { $0.checkpoints.map(\.id) } == [[CheckpointID(1)]])

        guard case .failure(let failure) = first.publish(checkpoint(2), atMilliseconds: 0) else {
            Issue.record("the first published")
            return
        }
        #expect(failure.recovery == .fail && failure.message.contains("taken over"))
        #expect(first.discard(job: job, checkpoint: CheckpointID(1), path: path, files: []) != nil)
        #expect(first.sweep(job: job, retained: []) != nil)
        let ended = JobStateChange(job: job, from: .failing, to: .failed, epoch: Epoch(9), reason: nil)
        #expect(first.recordState(ended) != nil)
        #expect(!files.paths.contains { $0.contains("chk-2") || $0.hasSuffix("/ended") || $0.hasSuffix("/epoch") })

        _ = try second.publish(checkpoint(2), atMilliseconds: 0).get()
        #expect(try store().recover().jobs.map { $0.checkpoints.map(\.id) } == [[CheckpointID(1), CheckpointID(2)]])
    }

    /// Nobody can say whether somebody else is the owner: the checkpoint fails, the job goes on.
    @Test func astorageThatDoesNotAnswerFencesNobody() throws {
        let files = FaultyStorage()
        let store = try JobStore(directory: "/jm", checkpoints: nil, usesArtifacts: false, files: files, retry: .none)
        _ = try store.persist(submission: WireSubmitJob(), job: job, live: []).get()
        files.plan(.error(ETIMEDOUT), on: [.touch])
        guard case .failure(let failure) = store.publish(checkpoint(1), atMilliseconds: 0) else {
            Issue.record("it was published")
            return
        }
        #expect(failure.recovery == .restart)
        _ = try store.publish(checkpoint(2), atMilliseconds: 0).get()
    }

    @Test func ownersThatComeAtTheSameTimeAreOne() throws {
        let files = FaultyStorage()
        try files.makeDirectory("/d")
        // Another one creates the file between the listing and the creation.
        files.plan(.error(EEXIST), on: [.create])
        let owner = try DirectoryOwner.take("/d", files: files)
        #expect(try owner.isConfirmed(files: files))
        let next = try DirectoryOwner.take("/d", files: files)
        #expect(try !owner.isConfirmed(files: files) && next.isConfirmed(files: files))
        try next.release(files: files)
        #expect(try files.list("/d").isEmpty)
    }

    @Test func aSavepointIsClaimedByOneJob() throws {
        let files = FaultyStorage()
        let store = try JobStore(directory: "/jm", checkpoints: nil, usesArtifacts: false, files: files, retry: .none)
        _ = try store.persist(submission: WireSubmitJob(), job: job, live: []).get()
        var savepoint = checkpoint(3)
        savepoint.kind = .savepoint(directory: "/saved/savepoint-1", mode: .continues)
        let path = try store.publish(savepoint, atMilliseconds: 0).get()
        var claim = WireSubmitJob()
        claim.restorePath = path
        claim.claim = true
        let other = JobID(high: 3, low: 4)
        _ = try store.persist(submission: claim, job: other, live: []).get()
        guard case .failure(let refusal) = store.persist(submission: claim, job: JobID(high: 5, low: 6), live: []) else {
            Issue.record("it was claimed twice")
            return
        }
        #expect(refusal.code == .conflict && refusal.message.contains(other.description))
        // A submission that is refused after all gives it back.
        #expect(store.forget(job: other, claimed: [path]) == nil)
        _ = try store.persist(submission: claim, job: JobID(high: 5, low: 6), live: []).get()
    }
}
