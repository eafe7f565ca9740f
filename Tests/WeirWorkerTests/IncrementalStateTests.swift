import Foundation
import Testing
import WeirBase
import WeirDataflow
import WeirGraph
import WeirStorage
import WeirWire

@testable import WeirWorker

/// A task with one table whose checkpoints come and go as a JobManager would have it.
private final class Checkpoints {
    let directory: String
    let job = JobID(high: 1, low: 2)
    let task = TaskAttempt(epoch: Epoch(1), subtask: SubtaskID(vertex: VertexID(0), index: 0))
    let store: TaskStateStore
    var table = StateTable<Int64>()
    private var next: UInt64 = 1

    init() throws {
        directory = FileManager.default.temporaryDirectory.appendingPathComponent("weir-incremental-\(UUID().uuidString)").path
        store = TaskStateStore(directory: directory, job: job)
    }

    deinit { try? FileManager.default.removeItem(atPath: directory) }

    func set(_ key: Int64, _ value: Int64) {
        key.withKeyBytes { table.upsert(hash: key.keyHash, keyBytes: $0, initial: 0).pointee = value }
    }

    func remove(_ key: Int64) { key.withKeyBytes { _ = table.remove(hash: key.keyHash, keyBytes: $0) } }

    func write(isSavepoint: Bool = false) throws -> (id: UInt64, handle: WireStateHandle) {
        let builder = SnapshotBuilder(checkpoint: next, isSavepoint: isSavepoint)
        builder.addKeyed("table", keyGroups: 0..<128, table.capture())
        builder.addList("list", [[1, 2, 3]])
        let snapshot = TaskSnapshot(checkpoint: CheckpointID(next), operators: [builder.finish(operatorID: OperatorID(uid: "op"))])
        next += 1
        return (next - 1, try store.write(snapshot, of: task, savepoint: isSavepoint ? directory + "/savepoint" : nil))
    }

    func read(_ handle: WireStateHandle) throws -> [Int64: Int64] {
        let states = try TaskStateStore(directory: directory, job: job).read(handle)
        #expect(states.first?.lists == ["list": [[1, 2, 3]]])
        let restored = StateTable<Int64>()
        for state in states.first?.keyed ?? [] {
            try state.bytes.withUnsafeBytes { bytes in
                var reader = ByteReader(bytes)
                try restored.restore(from: &reader, filter: KeyGroupFilter(groups: 0..<128, maxParallelism: 128))
                try reader.expectEnd()
            }
        }
        var rows: [Int64: Int64] = [:]
        try restored.forEach { _, key, value in rows[try Int64(keyBytes: key)] = value }
        return rows
    }

    func path(_ file: WireStateHandle.File) -> String { directory + "/" + job.description + "/" + file.path }
    /// A handle whose state lies within it names no file.
    func delete(_ file: WireStateHandle.File) { if !file.path.isEmpty { try? FileManager.default.removeItem(atPath: path(file)) } }
}

@Suite struct IncrementalStateTests {
    /// Changes, checkpoints that complete, are aborted or never heard of; each complete one restores from the files that are then still kept.
    @Test(arguments: 0..<12 as Range<UInt64>) func everyCompletedCheckpointRestoresFromTheFilesItNames(seed: UInt64) throws {
        var random = SplitMix64(seed: seed)
        let checkpoints = try Checkpoints()
        var model: [Int64: Int64] = [:]
        var kept: [WireStateHandle.File] = []
        var savedBytes = 0
        for round in 0..<40 {
            let first = Int64.random(in: 0..<20_000, using: &random)
            for key in first..<(first + (round == 0 ? 20_000 : Int64.random(in: 0..<600, using: &random))) {
                if random.next() % 8 == 0 {
                    checkpoints.remove(key)
                    model[key] = nil
                } else {
                    checkpoints.set(key, Int64(round))
                    model[key] = Int64(round)
                }
            }
            let isSavepoint = random.next() % 8 == 0
            let (id, handle) = try checkpoints.write(isSavepoint: isSavepoint)
            #expect(Set(handle.shared.map(\.path)).isSubset(of: Set(kept.map(\.path))))
            #expect(handle.shared.count <= SharedPages.filesMax)
            savedBytes += handle.shared.isEmpty ? 0 : 1
            if isSavepoint { #expect(handle.shared.isEmpty) }
            switch random.next() % 4 {
            case 0:
                checkpoints.store.aborted(id)
                checkpoints.delete(handle.file)
            case 1: checkpoints.delete(handle.file)
            default:
                checkpoints.store.completed(id)
                let isEqual = try checkpoints.read(handle) == model
                #expect(isEqual, "checkpoint \(id)")
                guard !isSavepoint else { continue }
                let files = handle.shared + (handle.file.path.isEmpty ? [] : [handle.file])
                for file in kept where !files.contains(file) { checkpoints.delete(file) }
                kept = files
            }
        }
        #expect(savedBytes > 10)
    }

    @Test func whatDidNotChangeIsNotWrittenAgain() throws {
        let checkpoints = try Checkpoints()
        for key in 0..<100_000 as Range<Int64> { checkpoints.set(key, 1) }
        let (first, full) = try checkpoints.write()
        #expect(full.shared.isEmpty)
        checkpoints.store.completed(first)
        for key in 50_000..<51_000 as Range<Int64> { checkpoints.set(key, 2) }
        let (second, part) = try checkpoints.write()
        #expect(part.file.length < full.file.length / 10)
        #expect(part.shared == [full.file])
        checkpoints.store.completed(second)
        let (_, none) = try checkpoints.write()
        #expect(none.shared == [full.file, part.file])
        #expect(none.file.path.isEmpty)
        #expect(try checkpoints.read(none).values.reduce(0, +) == 101_000)
    }

    @Test func onlyACompletedCheckpointIsBuiltOn() throws {
        let checkpoints = try Checkpoints()
        for key in 0..<50_000 as Range<Int64> { checkpoints.set(key, 1) }
        let (first, _) = try checkpoints.write()
        #expect(try checkpoints.write().handle.shared.isEmpty)
        checkpoints.store.aborted(first)
        checkpoints.store.completed(first)
        #expect(try checkpoints.write().handle.shared.isEmpty)
    }

    @Test(arguments: [false, true]) func everyDamagedBitOfASharedFileThatIsReadIsFoundAndNamed(inHeader: Bool) throws {
        let checkpoints = try Checkpoints()
        for key in 0..<20_000 as Range<Int64> { checkpoints.set(key, 1) }
        let (first, full) = try checkpoints.write()
        checkpoints.store.completed(first)
        let (_, handle) = try checkpoints.write()
        #expect(handle.shared == [full.file])
        let path = checkpoints.path(full.file)
        let whole = try Data(contentsOf: URL(fileURLWithPath: path))
        let places = inHeader ? Array(0..<32) : Array(stride(from: 20_000, to: whole.count - 50_000, by: 9_973))
        for place in places {
            var damaged = whole
            damaged[place] ^= 1 << UInt8(place % 8)
            try damaged.write(to: URL(fileURLWithPath: path))
            let failure = #expect(throws: JobFailure.self) { try checkpoints.read(handle).count }
            #expect(failure?.message.contains(full.file.path) == true)
        }
        try whole.prefix(whole.count / 2).write(to: URL(fileURLWithPath: path))
        #expect(throws: JobFailure.self) { try checkpoints.read(handle).count }
        checkpoints.delete(full.file)
        #expect(throws: JobFailure.self) { try checkpoints.read(handle).count }
    }

    @Test func filesThatAreHardlyUsedAndFilesAboveTheMostAreGivenUp() {
        func file(_ number: Int, _ bytes: Int) -> StoredState { StoredState(path: "chk-\(number)/0-0-1.state", bytes: bytes, crc: 0) }
        #expect(SharedPages.outworn([file(1, 100): 50, file(2, 100): 49]) == [file(2, 100)])
        var used: [StoredState: Int] = [:]
        for number in 1..<SharedPages.filesMax { used[file(number, 1_000 + number)] = 1_000 + number }
        #expect(SharedPages.outworn(used).isEmpty)
        used[file(99, 5_000)] = 5_000
        let outworn = SharedPages.outworn(used)
        #expect(outworn.count == SharedPages.filesMax - 8)
        #expect(!outworn.contains(file(99, 5_000)))
        #expect(outworn.contains(file(1, 1_001)))
    }
}
