import Glibc
import Testing
import WeirBase

@testable import WeirBroker

/// A path in a directory of its own, removed with it.
final class JournalFile {
    let path: String

    init() {
        let base = getenv("TMPDIR").map { String(cString: $0) } ?? "/tmp"
        var template = Array("\(base)/weir-journal-XXXXXX".utf8CString)
        precondition(mkdtemp(&template) != nil, "no temporary directory")
        path = String(decoding: template.dropLast().map { UInt8(bitPattern: $0) }, as: UTF8.self) + "/coordinators.journal"
    }

    deinit {
        unlink(path)
        unlink(path + ".new")
        rmdir(String(path.dropLast("/coordinators.journal".count)))
    }

    var content: [UInt8] {
        get {
            guard let file = fopen(path, "r") else { return [] }
            defer { fclose(file) }
            var bytes = [UInt8](repeating: 0, count: 1 << 20)
            let count = fread(&bytes, 1, bytes.count, file)
            return Array(bytes.prefix(count))
        }
        set {
            guard let file = fopen(path, "w") else { return }
            defer { fclose(file) }
            _ = fwrite(newValue, 1, newValue.count, file)
        }
    }

    func open() throws -> (journal: Journal, records: [CoordinatorRecord], cutBytes: Int) {
        var records: [CoordinatorRecord] = []
        let (journal, cut) = try Journal.open(path) { records.append($0) }
        return (journal, records, cut)
    }

    func failure() -> BrokerFailure? {
        do throws(BrokerFailure) {
            _ = try Journal.open(path) { _ in }
            return nil
        } catch {
            return error
        }
    }
}

@Suite struct JournalTests {
    private static let records: [CoordinatorRecord] = [
        .producerIDs(below: 1_000),
        .transaction(
            TransactionMetadata(
                transactionalID: "T", producerID: 5, epoch: 3, lastProducerID: 4, lastEpoch: 2, timeoutMilliseconds: 60_000, state: .prepareCommit,
                partitions: [partition("t", 1), partition("u", 0)], groups: ["g", "h"], startedAt: WallTime(milliseconds: 17),
                updatedAt: WallTime(milliseconds: 18))),
        .transaction(
            TransactionMetadata(transactionalID: "U", producerID: 6, epoch: 0, timeoutMilliseconds: 1, updatedAt: WallTime(milliseconds: 1))),
        .transactionRemoved("U"),
        .group(
            GroupSnapshot(
                id: "g", generation: 7, protocolType: "consumer", protocolName: "range", leaderID: "m", stateSince: WallTime(milliseconds: 3),
                members: [
                    .init(
                        id: "m", instanceID: "i", clientID: "c", clientHost: "/127.0.0.1", sessionTimeout: .seconds(10),
                        rebalanceTimeout: .seconds(60),
                        metadata: [1, 2], assignment: [3]),
                    .init(
                        id: "n", instanceID: nil, clientID: "", clientHost: "", sessionTimeout: .seconds(6), rebalanceTimeout: .seconds(6),
                        metadata: [], assignment: []),
                ])),
        .group(
            GroupSnapshot(
                id: "e", generation: 8, protocolType: "", protocolName: nil, leaderID: nil, stateSince: WallTime(milliseconds: 3), members: [])),
        .groupRemoved("e"),
        .offsets(
            group: "g",
            [
                partition("t", 0): CommittedOffset(offset: 42, leaderEpoch: 3, metadata: "näher", committedAt: WallTime(milliseconds: 9)),
                partition("t", 1): CommittedOffset(offset: -1, committedAt: WallTime(milliseconds: 9), expiresAt: WallTime(milliseconds: 10)),
            ]),
        .offsetsRemoved(group: "g", [partition("t", 1)]),
        .pendingOffsets(group: "g", producerID: 5, [partition("t", 0): CommittedOffset(offset: 43, committedAt: WallTime(milliseconds: 11))]),
        .pendingCompleted(group: "g", producerID: 5, commit: true),
    ]

    private func written() throws -> JournalFile {
        let file = JournalFile()
        let journal = try file.open().journal
        for record in Self.records { journal.append(record) }
        try journal.write()
        return file
    }

    @Test func everyRecordComesBackAsItWas() throws {
        let (_, records, cut) = try written().open()
        #expect(records == Self.records)
        #expect(cut == 0)
    }

    @Test func recordsAreAppendedAcrossRestarts() throws {
        let file = try written()
        let journal = try file.open().journal
        journal.append(.groupRemoved("g"))
        #expect(try file.open().records == Self.records, "nothing is in the file before it is written")
        #expect(try journal.write())
        #expect(try !journal.write())
        #expect(try file.open().records == Self.records + [.groupRemoved("g")])
    }

    @Test func aTornTailIsCutWhereverItEnds() throws {
        let file = try written()
        let whole = file.content
        var starts: [Int] = []
        for length in Journal.headerBytes..<whole.count {
            file.content = Array(whole.prefix(length))
            let (journal, records, cut) = try file.open()
            #expect(records == Array(Self.records.prefix(records.count)))
            #expect(file.content.count == length - cut)
            if cut == 0 { starts.append(length) }
            journal.append(.groupRemoved("after"))
            try journal.write()
            #expect(try file.open().records == records + [.groupRemoved("after")])
        }
        #expect(starts.count == Self.records.count, "one length is whole for each record, save the last")
    }

    @Test(arguments: [0, 1, 7, 15]) func aHeaderThatACrashCutShortIsWrittenAnew(length: Int) throws {
        let file = JournalFile()
        file.content = Array(Journal.header.prefix(length))
        #expect(try file.open().records.isEmpty)
        #expect(file.content == Journal.header)
    }

    @Test func zerosBehindTheLastRecordAreCut() throws {
        let file = try written()
        let whole = file.content
        file.content = whole + [UInt8](repeating: 0, count: 5_000)
        let (_, records, cut) = try file.open()
        #expect(records == Self.records)
        #expect(cut == 5_000)
    }

    @Test func damageBeforeAWholeRecordIsAnErrorThatNamesTheFile() throws {
        let file = try written()
        let whole = file.content
        // Up to the last record, any byte may be the damaged one.
        let lastRecord = whole.count - Journal.recordHeaderBytes - 12
        for position in Journal.headerBytes..<lastRecord {
            var content = whole
            content[position] ^= 0x40
            file.content = content
            let failure = try #require(file.failure(), "damage at byte \(position)")
            #expect(failure.path == file.path)
            #expect(failure.message.contains("damaged at byte"), "\(failure)")
            #expect(file.content == content, "a damaged file is left as it is")
        }
    }

    @Test func anotherFileIsRefused() throws {
        let file = JournalFile()
        file.content = Array("something else entirely".utf8)
        #expect(file.failure()?.message.contains("not a journal") == true)
        file.content = Array("short".utf8)
        #expect(file.failure()?.message.contains("not a journal") == true)
        var header = Journal.header
        header[8] = 2
        file.content = header
        #expect(file.failure()?.message.contains("another version") == true)
    }

    @Test func compactionKeepsWhatItIsGivenAndGoesOn() throws {
        let file = try written()
        let journal = try file.open().journal
        journal.append(.groupRemoved("never written"))
        try journal.compact(to: Array(Self.records.prefix(2)))
        journal.append(.groupRemoved("z"))
        try journal.write()
        #expect(try file.open().records == Array(Self.records.prefix(2)) + [.groupRemoved("z")])
    }

    @Test func aFileThatSaysTheSameOverAndOverWantsCompaction() throws {
        let file = JournalFile()
        let journal = try file.open().journal
        let record = CoordinatorRecord.offsets(
            group: "g",
            [partition("t"): CommittedOffset(offset: 1, metadata: String(repeating: "m", count: 4_000), committedAt: WallTime(milliseconds: 1))])
        while journal.bytes + 4_100 < Journal.compactionBytesMin {
            journal.append(record)
            try journal.write()
            #expect(!journal.needsCompaction)
        }
        journal.append(record)
        journal.append(record)
        try journal.write()
        #expect(journal.needsCompaction)
        try journal.compact(to: [record])
        #expect(!journal.needsCompaction)
        #expect(try file.open().records == [record])
    }
}
