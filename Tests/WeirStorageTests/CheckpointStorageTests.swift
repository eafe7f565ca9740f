import Glibc
import Synchronization
import Testing
import WeirBase

@testable import WeirStorage

struct CheckpointStorageTests {
    private let directory = TestDirectory()
    private let files = FaultyFiles()
    private var storage: CheckpointStorage {
        CheckpointStorage(directory: directory.path + "/checkpoints", job: JobID(high: 1, low: 2), files: files, retry: .none)
    }
    private let payload = [UInt8]((0..<1_000).map { UInt8(truncatingIfNeeded: $0 &* 7) })
    private let subtask = SubtaskID(vertex: VertexID(3), index: 1)

    private func write(_ number: UInt64, complete: Bool = true) throws -> StoredState {
        let file = try storage.writeState(CheckpointID(number), subtask: subtask, epoch: Epoch(4), payload: payload)
        if complete { try storage.writeMetadata(CheckpointID(number), payload: [1, 2, 3]) }
        return file
    }

    /// What reading throws after the file was changed.
    private func failure(_ change: (inout [UInt8]) -> Void) throws -> JobFailure {
        let file = try write(1)
        let path = storage.jobDirectory + "/" + file.path
        var bytes = try FileSystem.read(path)
        change(&bytes)
        try FileSystem.writeAtomically(bytes, to: path)
        let failure = try #require(throws: JobFailure.self) { try storage.readState(file) }
        #expect(failure.message.contains(path))
        #expect(failure.domain == .external)
        return failure
    }

    @Test func whatIsWrittenIsReadBack() throws {
        let file = try write(7)
        #expect(file.path == "chk-7/3-1-4.state")
        #expect(file.bytes == 1_000)
        #expect(try storage.readState(file) == payload)
        #expect(try storage.readMetadata(CheckpointID(7)) == [1, 2, 3])
        #expect(try FileSystem.list(storage.directory(of: CheckpointID(7))) == ["3-1-4.state", "_metadata"])
        let empty = try storage.writeState(CheckpointID(7), subtask: SubtaskID(vertex: VertexID(3), index: 2), epoch: Epoch(4), payload: [])
        #expect(try storage.readState(empty) == [])
    }

    /// Pins the format: a change of these bytes is a change of every checkpoint.
    @Test func theHeaderIsPinned() {
        let header = CheckpointFile.header(.taskState, payloadBytes: 0x0102, payloadCRC: 0x0A0B_0C0D)
        #expect(header.count == 32)
        #expect(Array(header[0..<12]) == Array("WEIRCKPT".utf8) + [1, 0, 1, 0])
        #expect(Array(header[16..<32]) == [2, 1, 0, 0, 0, 0, 0, 0, 0x0D, 0x0C, 0x0B, 0x0A, 0, 0, 0, 0])
    }

    @Test func everyFlippedBitIsFound() throws {
        let whole = CheckpointFile.header(.taskState, payloadBytes: 40, payloadCRC: payload[..<40].withUnsafeBytes { crc32c($0) }) + payload[..<40]
        #expect(try CheckpointFile.payload(of: whole, expecting: .taskState).payload == Array(payload[..<40]))
        for bit in 0..<(whole.count * 8) {
            var damaged = whole
            damaged[bit / 8] ^= 1 << (bit % 8)
            #expect(throws: CheckpointFile.Damage.self) { try CheckpointFile.payload(of: damaged, expecting: .taskState) }
        }
    }

    @Test func everyTruncationIsFound() throws {
        for count in [0, 1, 31, 32, 33, 1_031] {
            let failure = try failure { $0.removeLast($0.count - count) }
            #expect(failure.cause?.contains("truncated") == true)
        }
    }

    @Test func damageIsSaidInWords() throws {
        #expect(try failure { $0[500] ^= 1 }.cause == "damaged: the payload's checksum is wrong")
        #expect(try failure { $0[20] ^= 1 }.cause == "damaged: the header's checksum is wrong")
        #expect(try failure { $0[0] = 0 }.cause?.contains("WEIRCKPT") == true)
        #expect(try failure { $0.append(0) }.cause == "damaged: 1 bytes after its end")
        #expect(
            try failure { $0.replaceSubrange(0..<32, with: Self.header(of: $0, version: 2)) }.cause
                == "of format version 2; this build reads version 1")
        #expect(
            try failure { $0.replaceSubrange(0..<32, with: Self.header(of: $0, .metadata)) }.cause
                == "of the wrong kind: metadata, taskState expected")
        let other = try failure {
            $0[40] ^= 1
            $0.replaceSubrange(0..<32, with: Self.header(of: $0))
        }
        #expect(other.cause?.contains("another file") == true)
    }

    private static func header(of file: [UInt8], _ kind: CheckpointFile.Kind = .taskState, version: UInt16 = 1) -> [UInt8] {
        let payload = file[32...]
        return CheckpointFile.header(kind, payloadBytes: payload.count, payloadCRC: payload.withUnsafeBytes { crc32c($0) }, version: version)
    }

    @Test func aMissingFileIsNamed() throws {
        let file = try write(1)
        try FileSystem.remove(storage.jobDirectory + "/" + file.path)
        let failure = try #require(throws: JobFailure.self) { try storage.readState(file) }
        #expect(failure.message.contains("chk-1/3-1-4.state"))
        #expect(failure.cause == "missing")
        #expect(failure.recovery == .fail)
        let metadata = try #require(throws: JobFailure.self) { try storage.readMetadata(CheckpointID(9)) }
        #expect(metadata.message.contains("chk-9/_metadata"))
    }

    @Test(arguments: [ENOSPC, EIO, EDQUOT], [FaultyFiles.Call.makeDirectory, .write, .rename, .syncDirectory])
    func aFailedWriteNamesPathAndReasonAndLeavesThePreviousCheckpoint(code: Int32, call: FaultyFiles.Call) throws {
        let before = try write(1)
        for metadata in [false, true] {
            files.fail(call, code, tornBytes: 100)
            let failure = try #require(throws: JobFailure.self) {
                if metadata {
                    try storage.writeMetadata(CheckpointID(2), payload: payload)
                } else {
                    _ = try write(2)
                }
            }
            #expect(failure.domain == .external && failure.recovery == .restart)
            #expect("\(failure)".contains("chk-2"))
            #expect(failure.cause?.contains(FileFailure("", "", code).reason) == true)
            #expect(try storage.completed().last == CheckpointID(1))
            #expect(try storage.readState(before) == payload)
            if call != .syncDirectory { #expect(try storage.completed() == [CheckpointID(1)]) }
            let names = (try? FileSystem.list(storage.directory(of: CheckpointID(2)))) ?? []
            #expect(!names.contains { $0.hasSuffix(".tmp") })
        }
        #expect(FileFailure("", "", ENOSPC).reason == "No space left on device")
    }

    @Test func theSystemsOwnFailuresAreNamed() throws {
        let full = try #require(throws: FileFailure.self) { try payload.withUnsafeBytes { try SystemFiles().write("/dev/full", [$0]) } }
        #expect(full.code == ENOSPC || full.code == EINVAL || full.code == EACCES)
        let missing = try #require(throws: JobFailure.self) { try CheckpointFile.write(payload, to: directory.path + "/none/x.state") }
        #expect(missing.message.contains("/none/x.state") && missing.cause?.contains("No such file") == true)
        try FileSystem.writeAtomically([], to: directory.path + "/file")
        let blocked = try #require(throws: JobFailure.self) { try FileSystem.createDirectory(directory.path + "/file/below") }
        #expect(blocked.cause == "Not a directory")
        #expect(throws: JobFailure.self) { try FileSystem.read(directory.path) }
    }

    @Test func completedCheckpointsAreListedNewestFirst() throws {
        #expect(try storage.completed() == [])
        #expect(try storage.highest() == nil)
        for number in [2, 10, 9] as [UInt64] { _ = try write(number) }
        _ = try write(11, complete: false)
        try FileSystem.createDirectory(storage.jobDirectory + "/chk-x")
        try FileSystem.createDirectory(storage.jobDirectory + "/chk-007")
        #expect(try storage.completed().map(\.rawValue) == [10, 9, 2])
        #expect(try storage.highest() == CheckpointID(11))
    }

    @Test func oldCheckpointsAreDeletedAndTheRetainedStay() throws {
        for number in 1...6 as ClosedRange<UInt64> { _ = try write(number) }
        #expect(try storage.deleteOld(retained: 2, keeping: [CheckpointID(3)]).map(\.rawValue) == [4, 2, 1])
        #expect(try storage.completed().map(\.rawValue) == [6, 5, 3])
        #expect(!FileSystem.exists(storage.directory(of: CheckpointID(1))))
        #expect(try storage.deleteOld(retained: 0).map(\.rawValue) == [5, 3])
        try storage.delete(CheckpointID(99))
    }

    @Test func aDeletionThatFailsLeavesNoHalfCheckpoint() throws {
        _ = try write(1)
        files.fail(.remove, EIO, after: 1)
        let failure = try #require(throws: JobFailure.self) { try storage.delete(CheckpointID(1)) }
        #expect(failure.cause?.contains("Input/output error") == true)
        #expect(try storage.completed() == [])
    }

    @Test func theSweepTakesWhatNothingNeeds() throws {
        _ = try write(1, complete: false)
        let shared = try write(2, complete: false)
        _ = try write(3)
        let kept = try write(4)
        try FileSystem.writeAtomically([1], to: storage.directory(of: CheckpointID(4)) + "/3-1-3.state")
        try FileSystem.writeAtomically([1], to: storage.directory(of: CheckpointID(4)) + "/3-1-3.state.tmp")
        let deleted = try storage.sweep(retained: [CheckpointID(4)], keeping: [shared.path, kept.path])
        #expect(deleted.sorted() == ["chk-1/3-1-4.state", "chk-4/3-1-3.state", "chk-4/3-1-3.state.tmp"])
        #expect(!FileSystem.exists(storage.directory(of: CheckpointID(1))))
        // The third could not be read: it stays as it is.
        #expect(try storage.completed().map(\.rawValue) == [4, 3])
        #expect(try storage.readState(shared) == payload && storage.readState(kept) == payload)
        #expect(try storage.sweep(retained: [CheckpointID(4)], keeping: [shared.path, kept.path]).isEmpty)
    }

    @Test func whatPassesIsAskedAgainWithGrowingPauses() throws {
        let pauses = Mutex<[Duration]>([])
        let retry = StorageRetry(attempts: 4, firstPause: .milliseconds(50), pauseMax: .milliseconds(80)) { pause in
            pauses.withLock { $0.append(pause) }
        }
        let storage = CheckpointStorage(directory: directory.path + "/checkpoints", job: JobID(high: 1, low: 2), files: files, retry: retry)
        for call in [FaultyFiles.Call.makeDirectory, .write, .rename, .syncDirectory] {
            files.fail(call, ESTALE, tornBytes: 10)
            let file = try storage.writeState(CheckpointID(1), subtask: subtask, epoch: Epoch(4), payload: payload)
            #expect(try storage.readState(file) == payload)
        }
        #expect(pauses.withLock { $0 } == [Duration](repeating: .milliseconds(50), count: 4))
        pauses.withLock { $0 = [] }
        #expect(throws: FileFailure.self) { try retry.run { () throws(FileFailure) in throw FileFailure("read", "x", EIO) } }
        #expect(pauses.withLock { $0 } == [.milliseconds(50), .milliseconds(80), .milliseconds(80)])
        #expect(throws: FileFailure.self) { try retry.run { () throws(FileFailure) in throw FileFailure("write", "x", ENOSPC) } }
        #expect(pauses.withLock { $0.count } == 3, "a full disk is not asked again")
    }

    @Test func theLatestReadableCheckpointSkipsDamagedOnesLoudly() throws {
        for number in 1...3 as ClosedRange<UInt64> { _ = try write(number) }
        #expect(try storage.latestReadable()?.checkpoint == CheckpointID(3))
        var bytes = try FileSystem.read(storage.metadataPath(of: CheckpointID(3)))
        bytes[33] ^= 1
        try FileSystem.writeAtomically(bytes, to: storage.metadataPath(of: CheckpointID(3)))
        let found = try #require(try storage.latestReadable())
        #expect(found.checkpoint == CheckpointID(2) && found.metadata == [1, 2, 3])
        #expect(found.damaged.count == 1 && found.damaged[0].message.contains("chk-3/_metadata"))
        for number in 1...2 as ClosedRange<UInt64> { try FileSystem.writeAtomically([], to: storage.metadataPath(of: CheckpointID(number))) }
        // With nothing left, starting from nothing would lose the state: it throws.
        #expect(throws: JobFailure.self) { try storage.latestReadable() }
    }
}
