import Testing
import WeirBase
import WeirKafkaWire

@testable import WeirBroker

@Suite struct LogRecoveryTests {
    private let directory = TestDirectory()

    /// Opens the log as a process does that starts anew.
    private func open(segmentBytes: Int = 600) throws -> PartitionLog {
        var configuration = LogConfiguration()
        configuration.segmentBytes = segmentBytes
        return try PartitionLog(
            topic: "t", partition: 0, storage: .directory(path: directory.path + "/t-0", OpenFiles(isSynced: false)), configuration: configuration,
            now: 5)
    }

    /// A log of several segments with ended and open transactions, left as kill -9 leaves it.
    private func crashed() throws -> PartitionLog {
        let log = try open()
        var open = TestProducer(id: 1)
        var aborting = TestProducer(id: 2)
        var plain = TestProducer(id: 3, isTransactional: false)
        for round in 0..<12 {
            _ = try log.append(plain.batch(2, timestamp: Int64(round * 100)), now: 5)
            _ = try log.append(aborting.batch(timestamp: Int64(round * 100)), now: 5)
            if round == 9 { _ = try log.append(open.batch(), now: 5) }
            try log.appendMarker(producerID: 2, epoch: 0, commit: round % 3 == 0, coordinatorEpoch: 0, now: 5)
        }
        #expect(log.segments.count > 4)
        return log
    }

    private func lastSegment(_ log: PartitionLog) -> String {
        let digits = String(log.active.baseOffset)
        return "t-0/" + String(repeating: "0", count: 20 - digits.count) + digits + ".log"
    }

    private func expectSame(_ again: PartitionLog, _ log: PartitionLog) throws {
        #expect(again.endOffset == log.endOffset)
        #expect(again.logStartOffset == log.logStartOffset)
        #expect(again.lastStableOffset == log.lastStableOffset)
        #expect(again.producers == log.producers)
        #expect(again.aborted == log.aborted)
        #expect(again.segments.map(\.index) == log.segments.map(\.index))
        #expect(try committedOffsets(again, from: log.logStartOffset) == committedOffsets(log, from: log.logStartOffset))
    }

    @Test func afterACrashEverythingIsThereAndOnlyTheLastSegmentWasRead() throws {
        let log = try crashed()
        let again = try open()
        try expectSame(again, log)
        #expect(again.recovery == LogRecovery(scannedBytes: log.active.bytes.count))
    }

    @Test func afterAnOrderlyEndNothingIsRead() throws {
        let log = try crashed()
        try log.close()
        let again = try open()
        try expectSame(again, log)
        #expect(again.recovery == LogRecovery())
        // What is appended since is read again after the next crash.
        _ = try again.append(batch(), now: 5)
        let third = try open()
        try expectSame(third, again)
        #expect(third.recovery.scannedBytes == again.active.bytes.count)
    }

    @Test func anOpenTransactionOutlivesTheCrashAndCanBeEnded() throws {
        let log = try crashed()
        let stable = log.lastStableOffset
        let again = try open()
        #expect(again.lastStableOffset == stable)
        #expect(stable < again.endOffset)
        try again.appendMarker(producerID: 1, epoch: 0, commit: false, coordinatorEpoch: 0, now: 5)
        #expect(again.lastStableOffset == again.endOffset)
        #expect(try committedOffsets(again).contains(stable) == false)
    }

    @Test func aRetryIsRecognisedAfterTheCrash() throws {
        let log = try open()
        var producer = TestProducer(id: 3, isTransactional: false)
        let retry = producer.batch(2)
        _ = try log.append(retry.copied(), now: 5)
        let again = try open()
        #expect(try again.append(retry, now: 5).isDuplicate)
        #expect(try again.append(producer.batch(), now: 5).baseOffset == 2)
    }

    @Test func aTornTailIsCutWhereverItWasTorn() throws {
        let log = try crashed()
        let end = log.endOffset
        let name = lastSegment(log)
        let whole = log.active.bytes.count
        let torn = batch(3).array
        for length in 1..<torn.count {
            directory.append(name, Array(torn[..<length]))
            let again = try open()
            #expect(again.endOffset == end)
            #expect(again.recovery.cutBytes == length)
            #expect(again.recovery.cutPath == directory.path + "/" + name)
            #expect(directory.size(name) == whole)
        }
        try expectSame(try open(), log)
    }

    @Test func aTailOfZerosOrRubbishIsCut() throws {
        let log = try crashed()
        var random = SplitMix64(seed: 1)
        for length in [1, 60, 61, 300] {
            directory.append(lastSegment(log), [UInt8](repeating: 0, count: length))
            try expectSame(try open(), log)
            directory.append(lastSegment(log), (0..<length).map { _ in UInt8.random(in: 0...255, using: &random) })
            try expectSame(try open(), log)
        }
    }

    @Test func aWholeBatchWithAWrongChecksumAtTheEndIsCut() throws {
        let log = try crashed()
        let bytes = batch().copied()
        RecordBatch.assign(baseOffset: log.endOffset, leaderEpoch: 0, in: bytes)
        var damaged = bytes.array
        damaged[damaged.count - 1] ^= 1
        directory.append(lastSegment(log), damaged)
        try expectSame(try open(), log)
    }

    /// A batch that was acknowledged is never cut off silently.
    @Test func damageWithWholeBatchesBehindItIsAnErrorThatNamesTheFile() throws {
        let log = try open(segmentBytes: 1 << 20)
        for _ in 0..<5 { _ = try log.append(batch(3), now: 5) }
        let name = lastSegment(log)
        let size = log.active.bytes.count / 5
        for position in [size + 8, size + 16, size + 17, size + 70] {
            directory.overwrite(name, at: position, with: [0x55])
            let failure = #expect(throws: LogFailure.self) { try open() }
            #expect(failure?.path == directory.path + "/" + name)
            #expect(failure?.message.contains("byte \(size), offset 3") == true)
            try restore(name, size: size)
        }
    }

    private func restore(_ name: String, size: Int) throws {
        for index in 0..<5 {
            let bytes = batch(3).copied()
            RecordBatch.assign(baseOffset: Int64(index * 3), leaderEpoch: 0, in: bytes)
            directory.overwrite(name, at: index * size, with: bytes.array)
        }
        #expect(try open().endOffset == 15)
    }

    @Test func aClosedSegmentThatLostItsEndIsAnError() throws {
        let log = try crashed()
        let name = "t-0/00000000000000000000.log"
        directory.truncate(name, by: 1)
        let failure = #expect(throws: LogFailure.self) { try open() }
        #expect(failure?.path == directory.path + "/" + name)
        withExtendedLifetime(log) {}
    }

    @Test func aMissingSegmentIsAnError() throws {
        let log = try crashed()
        let missing = log.segments[1].bytes.name
        directory.delete(String(missing.dropFirst(directory.path.count + 1)))
        #expect(throws: LogFailure.self) { try open() }
    }

    @Test func missingAndDamagedIndexesAndSnapshotsAreMadeAnew() throws {
        let log = try crashed()
        let files = try directory.names(in: "t-0").filter { $0.hasSuffix(".index") || $0.hasSuffix(".producers") }
        #expect(files.count > 6)
        for name in files {
            directory.overwrite("t-0/" + name, at: 9, with: [0xFF])
            try expectSame(try open(), log)
        }
        for name in files { directory.delete("t-0/" + name) }
        let again = try open()
        try expectSame(again, log)
        #expect(again.recovery.scannedBytes == log.sizeBytes)
    }

    @Test func whatACrashLeftHalfMadeIsRemoved() throws {
        let log = try crashed()
        try log.storage.write(.producers(3), [1, 2, 3])
        try log.storage.write(.index(3), [1, 2, 3])
        let again = try open()
        #expect(try directory.names(in: "t-0").contains { $0.hasPrefix("00000000000000000003") } == false)
        try expectSame(again, log)
    }

    @Test func deletedRecordsStayDeletedAndADamagedStartIsAnError() throws {
        let log = try crashed()
        _ = try log.deleteRecords(before: 13)
        let again = try open()
        #expect(again.logStartOffset == 13)
        #expect(again.producers == log.producers)
        #expect(again.aborted == log.aborted)
        directory.overwrite("t-0/log-start", at: 8, with: [99])
        let failure = #expect(throws: LogFailure.self) { try open() }
        #expect(failure?.path == directory.path + "/t-0/log-start")
    }

    @Test func aLogThatLostItsEndBelowItsStartBeginsAnewThere() throws {
        let log = try open(segmentBytes: 1 << 20)
        for _ in 0..<5 { _ = try log.append(batch(3), now: 5) }
        _ = try log.deleteRecords(before: 14)
        directory.truncate("t-0/00000000000000000000.log", by: log.active.bytes.count / 2)
        let again = try open()
        #expect(again.logStartOffset == 14)
        #expect(try again.append(batch(), now: 5).baseOffset == 14)
        #expect(try open().endOffset == 15)
    }

    // MARK: Any history, crashed anywhere

    /// Random histories of producers, transactions, deletions and crashes; a model of plain arrays says what must be read.
    @Test(arguments: 0..<60 as Range<UInt64>) func anyHistoryReadsTheSameAfterAnyCrash(seed: UInt64) throws {
        var random = SplitMix64(seed: seed)
        var log = try open(segmentBytes: Int.random(in: 200...2_000, using: &random))
        var producers = (0..<4).map { TestProducer(id: Int64($0), isTransactional: $0 != 0) }
        var pending: [Int64: [Int64]] = [:]
        var committed: Set<Int64> = []
        for _ in 0..<150 {
            switch Int.random(in: 0..<10, using: &random) {
            case 0..<6:
                let index = Int.random(in: 0..<4, using: &random)
                let appended = try log.append(producers[index].batch(Int.random(in: 1...3, using: &random)), now: 5)
                let range = appended.baseOffset...appended.lastOffset
                if index == 0 { committed.formUnion(range) } else { pending[Int64(index), default: []] += range }
            case 6..<8:
                let id = Int64.random(in: 1...3, using: &random)
                let commit = Bool.random(using: &random)
                try log.appendMarker(producerID: id, epoch: producers[Int(id)].epoch, commit: commit, coordinatorEpoch: 0, now: 5)
                let offsets = pending.removeValue(forKey: id) ?? []
                if commit { committed.formUnion(offsets) }
            case 8 where Int.random(in: 0..<8, using: &random) == 0:
                _ = try log.deleteRecords(before: Int64.random(in: log.logStartOffset...log.endOffset, using: &random))
            default:
                if Bool.random(using: &random) { try log.close() }
                if Bool.random(using: &random) {
                    let part = batch(2).array.prefix(Int.random(in: 1...70, using: &random))
                    if directory.size(lastSegment(log)) >= 0 { directory.append(lastSegment(log), Array(part)) }
                }
                let again = try open(segmentBytes: Int.random(in: 200...2_000, using: &random))
                try expectSame(again, log)
                log = again
            }
            let open = pending.values.joined().min() ?? log.endOffset
            #expect(log.lastStableOffset == max(open, log.logStartOffset))
            let start = Int64.random(in: log.logStartOffset...log.endOffset, using: &random)
            let expected = committed.filter { $0 >= start && $0 < log.lastStableOffset }.sorted()
            #expect(try committedOffsets(log, from: start, maxBytes: Int.random(in: 1...600, using: &random)) == expected)
        }
    }
}

@Suite struct LogDirectoryTests {
    private let directory = TestDirectory()

    private func open(isSynced: Bool = true) -> LogDirectory { LogDirectory(.disk(path: directory.path + "/logs"), isSynced: isSynced) }

    @Test func nothingIsOnTheDiskBeforeTheFirstRecord() throws {
        let logs = open()
        try logs.open("a", partitions: 100, LogConfiguration(), isNew: true, now: 0)
        #expect(try directory.names(in: "logs") == [])
        _ = try #require(logs.log("a", 3)).append(batch(), now: 0)
        #expect(try directory.names(in: "logs") == ["a-3"])
        #expect(logs.log("a", 100) == nil)
        #expect(logs.log("a", -1) == nil)
        #expect(logs.log("b", 0) == nil)
    }

    @Test func whatWasWrittenWaitsForOneFlush() throws {
        let logs = open()
        try logs.open("a", partitions: 2, LogConfiguration(), isNew: true, now: 0)
        #expect(!logs.needsSync)
        for partition in 0..<2 as Range<Int32> { _ = try #require(logs.log("a", partition)).append(batch(), now: 0) }
        #expect(logs.needsSync)
        try logs.sync()
        #expect(!logs.needsSync)
        let unsynced = open(isSynced: false)
        try unsynced.open("a", partitions: 1, LogConfiguration(), isNew: false, now: 0)
        _ = try #require(unsynced.log("a", 0)).append(batch(), now: 0)
        #expect(!unsynced.needsSync)
    }

    @Test func aTopicOfTheSameNameDoesNotSeeTheDeletedOnesRecords() throws {
        let logs = open()
        try logs.open("a", partitions: 1, LogConfiguration(), isNew: true, now: 0)
        _ = try #require(logs.log("a", 0)).append(batch(), now: 0)
        try logs.delete("a")
        #expect(try directory.names(in: "logs") == [])
        #expect(logs.log("a", 0) == nil)
        // As if the process had ended between the two steps of a deletion.
        try logs.open("a", partitions: 1, LogConfiguration(), isNew: true, now: 0)
        _ = try #require(logs.log("a", 0)).append(batch(), now: 0)
        let again = open()
        try again.open("a", partitions: 1, LogConfiguration(), isNew: true, now: 0)
        #expect(again.log("a", 0)?.endOffset == 0)
    }

    @Test func directoriesOfTopicsThatAreGoneAreRemovedAndNothingElse() throws {
        let logs = open()
        for topic in ["a", "b-c"] {
            try logs.open(topic, partitions: 1, LogConfiguration(), isNew: true, now: 0)
            _ = try #require(logs.log(topic, 0)).append(batch(), now: 0)
        }
        let again = open()
        try again.open("a", partitions: 1, LogConfiguration(), isNew: false, now: 0)
        #expect(again.log("a", 0)?.endOffset == 1)
        #expect(try again.removeOrphans() == ["b-c-0"])
        #expect(try directory.names(in: "logs") == ["a-0"])
    }

    @Test func manyLogsShareFewDescriptors() throws {
        let files = OpenFiles(limit: 3, isSynced: true)
        var logs: [PartitionLog] = []
        for partition in 0..<10 as Range<Int32> {
            logs.append(
                try PartitionLog(
                    topic: "t", partition: partition, storage: .directory(path: "\(directory.path)/t-\(partition)", files),
                    configuration: LogConfiguration(), now: 0))
        }
        for round in 0..<3 {
            for log in logs { #expect(try log.append(batch(), now: 0).baseOffset == Int64(round)) }
        }
        #expect(files.openCount == 3)
        try files.sync()
        #expect(!files.needsSync)
        for log in logs {
            #expect(try offsets(log.read(from: 0, maxBytes: 1_000, atLeastOne: true, isolation: .readUncommitted).records).count == 3)
        }
    }
}
