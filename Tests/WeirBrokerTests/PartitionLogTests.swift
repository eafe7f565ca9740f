import Testing
import WeirBase
import WeirKafkaWire

@testable import WeirBroker

@Suite struct PartitionLogTests {
    enum Place: CaseIterable { case memory, disk }

    /// A log of small segments, so that a few batches fill one.
    private func log(
        _ place: Place, _ directory: TestDirectory = TestDirectory(), segmentBytes: Int = 1 << 20, change: (inout LogConfiguration) -> Void = { _ in }
    ) throws -> (PartitionLog, TestDirectory) {
        var configuration = LogConfiguration()
        configuration.segmentBytes = segmentBytes
        change(&configuration)
        let storage: PartitionStorage =
            switch place {
            case .memory: .memory(name: "t-0", MemoryBudget(bytesMax: 64 << 20))
            case .disk: .directory(path: directory.path + "/t-0", OpenFiles(isSynced: true))
            }
        return (try PartitionLog(topic: "t", partition: 0, storage: storage, configuration: configuration, now: 0), directory)
    }

    private func rejection(_ body: () throws -> Void) -> KafkaErrorCode? {
        do { try body() } catch { return (error as? LogRejection)?.code }
        return nil
    }

    // MARK: Appending and reading

    @Test(arguments: Place.allCases) func offsetsFollowEachOtherAndBatchesComeBackAsTheyWere(place: Place) throws {
        let (log, directory) = try log(place)
        defer { withExtendedLifetime(directory) {} }
        let sent = [batch(3, value: "a"), batch(1, value: "b"), batch(2, value: "c")]
        let originals = sent.map { $0.array }
        #expect(try sent.map { try log.append($0, now: 5).baseOffset } == [0, 3, 4])
        #expect(log.endOffset == 6)
        #expect(log.highWatermark == 6)
        #expect(log.lastStableOffset == 6)
        let read = try log.read(from: 0, maxBytes: 1 << 20, atLeastOne: false, isolation: .readUncommitted)
        #expect(try offsets(read.records) == [0...2, 3...3, 4...5])
        // Only base offset and leader epoch are the broker's.
        var position = 0
        for original in originals {
            #expect(Array(read.records.array[(position + 16)..<(position + original.count)]) == Array(original[16...]))
            position += original.count
        }
        #expect(read.abortedTransactions == nil)
    }

    @Test(arguments: Place.allCases) func readingStartsAtTheBatchThatHoldsTheOffsetInEverySegment(place: Place) throws {
        let (log, directory) = try log(place, segmentBytes: 20_000)
        defer { withExtendedLifetime(directory) {} }
        for index in 0..<400 { _ = try log.append(batch(3, value: String(repeating: "x", count: index % 200)), now: 5) }
        #expect(log.segments.count > 5)
        for offset in Int64(0)..<log.endOffset {
            let read = try log.read(from: offset, maxBytes: 700, atLeastOne: true, isolation: .readUncommitted)
            let ranges = try offsets(read.records)
            #expect(ranges.first?.contains(offset) == true)
            for (before, after) in zip(ranges, ranges.dropFirst()) { #expect(after.lowerBound == before.upperBound + 1) }
            #expect(ranges.count == 1 || read.records.count <= 700)
        }
        #expect(try log.read(from: log.endOffset, maxBytes: 700, atLeastOne: true, isolation: .readUncommitted).records.isEmpty)
    }

    @Test(arguments: Place.allCases) func aBatchLargerThanTheLimitIsReadOnlyWhereOneIsWanted(place: Place) throws {
        let (log, directory) = try log(place)
        defer { withExtendedLifetime(directory) {} }
        let large = batch(1, value: String(repeating: "x", count: 300_000))
        _ = try log.append(large, now: 5)
        _ = try log.append(batch(), now: 5)
        #expect(try log.read(from: 0, maxBytes: 10, atLeastOne: true, isolation: .readUncommitted).records.count == large.count)
        #expect(try log.read(from: 0, maxBytes: 10, atLeastOne: false, isolation: .readUncommitted).records.isEmpty)
        #expect(try log.read(from: 0, maxBytes: large.count, atLeastOne: false, isolation: .readUncommitted).records.count == large.count)
    }

    @Test func anOffsetOutsideOfTheLogIsOutOfRange() throws {
        let (log, _) = try log(.memory)
        _ = try log.append(batch(3), now: 5)
        for offset in [-1, 4, 5_000] as [Int64] {
            #expect(
                rejection { _ = try log.read(from: offset, maxBytes: 10, atLeastOne: true, isolation: .readUncommitted) } == .offsetOutOfRange)
        }
    }

    // MARK: What clients may not send

    @Test func batchesThatAreNotWhatTheySayAreRefusedAndLeaveTheLogAsItWas() throws {
        let (log, _) = try log(.memory) { $0.maxMessageBytes = 500 }
        let good = batch(3)
        var damaged = good.array
        damaged[70] ^= 1
        var old = good.array
        old[16] = 1
        let cases: [(String, KafkaBytes, KafkaErrorCode)] = [
            ("nothing", .empty, .corruptMessage),
            ("half a header", good.slice(from: 0, count: 40), .corruptMessage),
            ("a truncated batch", good.slice(from: 0, count: good.count - 1), .corruptMessage),
            ("a flipped bit", KafkaBytes(damaged), .corruptMessage),
            ("format 1", KafkaBytes(old), .unsupportedForMessageFormat),
            ("format 1, shorter than a header of format 2", KafkaBytes(Array(old[..<34])), .unsupportedForMessageFormat),
            ("two batches", KafkaBytes(good.array + good.array), .invalidRecord),
            ("too large", batch(1, value: String(repeating: "x", count: 500)), .messageTooLarge),
            ("a count that is not the records'", altered(good, Int32(4), at: 57), .invalidRecord),
            ("no records", altered(altered(good, Int32(0), at: 57), Int32(0), at: 23), .invalidRecord),
            ("a last offset delta that is not the count's", altered(good, Int32(7), at: 23), .invalidRecord),
            ("one record more than is there", altered(altered(good, Int32(4), at: 57), Int32(3), at: 23), .invalidRecord),
            ("a record's length past the end", altered(good, UInt8(0x7E), at: 61), .invalidRecord),
            ("a control batch", altered(good, Int16(32), at: 21), .invalidRecord),
            ("an unknown codec", altered(good, Int16(7), at: 21), .unsupportedCompressionType),
            ("a transaction without a producer", altered(good, Int16(16), at: 21), .invalidRecord),
            ("a producer without an epoch", altered(good, Int64(9), at: 43), .invalidRecord),
        ]
        for (what, bytes, code) in cases {
            #expect(rejection { _ = try log.append(bytes, now: 5) } == code, "\(what)")
        }
        #expect(log.endOffset == 0)
        #expect(try log.append(good, now: 5).baseOffset == 0)
    }

    /// Compressed records are opaque: whatever is in them is stored.
    @Test(arguments: 1...4 as ClosedRange<Int16>) func compressedBatchesPassThrough(codec: Int16) throws {
        let (log, _) = try log(.memory)
        let compressed = altered(batch(3), codec, at: 21)
        #expect(try log.append(compressed.copied(), now: 5).lastOffset == 2)
        let read = try log.read(from: 1, maxBytes: 1 << 20, atLeastOne: true, isolation: .readUncommitted)
        #expect(read.records.array[16...] == compressed.array[16...])
    }

    @Test func logAppendTimeReplacesTheClientsTimestampsAndKeepsTheChecksumRight() throws {
        let (log, _) = try log(.memory) { $0.timestampType = .logAppendTime }
        let appended = try log.append(batch(3, timestamp: 77), now: 5_000)
        #expect(appended.logAppendTime == 5_000)
        let read = try log.read(from: 0, maxBytes: 1 << 20, atLeastOne: true, isolation: .readUncommitted).records
        let header = try RecordBatchHeader(read)
        #expect(header.isLogAppendTime)
        #expect(header.maxTimestamp == 5_000)
        #expect(RecordBatch.hasValidCRC(header, in: read))
        #expect(try log.offset(forTimestamp: 4_000, isolation: .readUncommitted)?.offset == 0)
    }

    @Test func memoryThatIsFullRefusesAndTakesMoreOnceRecordsAreDeleted() throws {
        var configuration = LogConfiguration()
        configuration.segmentBytes = 2_000
        let log = try PartitionLog(
            topic: "t", partition: 0, storage: .memory(name: "t-0", MemoryBudget(bytesMax: 10_000)), configuration: configuration, now: 0)
        let first = rejection { for _ in 0..<1_000 { _ = try log.append(batch(1, value: String(repeating: "x", count: 100)), now: 5) } }
        #expect(first == .kafkaStorageError)
        let end = log.endOffset
        #expect(end > 10)
        _ = try log.deleteRecords(before: -1)
        #expect(try log.append(batch(), now: 5).baseOffset == end)
    }

    // MARK: Times

    @Test(arguments: Place.allCases) func theFirstRecordAtOrAfterATimeIsFoundInsideOfItsBatch(place: Place) throws {
        let (log, directory) = try log(place, segmentBytes: 4_000)
        defer { withExtendedLifetime(directory) {} }
        for index in 0..<100 { _ = try log.append(batch(10, timestamp: Int64(1_000 + index * 100)), now: 5) }
        #expect(log.segments.count > 3)
        #expect(try log.offset(forTimestamp: 0, isolation: .readUncommitted)?.offset == 0)
        for index in stride(from: 0, to: 100, by: 7) {
            for record in 0..<10 {
                let found = try log.offset(forTimestamp: Int64(1_000 + index * 100 + record), isolation: .readUncommitted)
                #expect(found?.offset == Int64(index * 10 + record))
                #expect(found?.timestamp == Int64(1_000 + index * 100 + record))
            }
            // Between two records it is the later one.
            let between = try log.offset(forTimestamp: Int64(1_000 + index * 100 + 50), isolation: .readUncommitted)
            #expect(between?.offset == (index == 99 ? nil : Int64(index * 10 + 10)))
        }
        #expect(try log.offset(forTimestamp: 1_000_000, isolation: .readUncommitted)?.offset == nil)
        #expect(try log.offsetOfMaxTimestamp()?.offset == 999)
    }

    @Test func timesThatGoBackwardsAreFoundToo() throws {
        let (log, _) = try log(.memory, segmentBytes: 400)
        for timestamp in [500, 900, 300, 100, 950, 200] as [Int64] { _ = try log.append(batch(1, timestamp: timestamp), now: 5) }
        #expect(try log.offset(forTimestamp: 400, isolation: .readUncommitted)?.offset == 0)
        #expect(try log.offset(forTimestamp: 501, isolation: .readUncommitted)?.offset == 1)
        #expect(try log.offset(forTimestamp: 901, isolation: .readUncommitted)?.offset == 4)
        #expect(try log.offsetOfMaxTimestamp()?.offset == 4)
        #expect(try log.offsetOfMaxTimestamp()?.timestamp == 950)
    }

    @Test func aTimeLookupOfCommittedRecordsStopsAtTheLastStableOffset() throws {
        let (log, _) = try log(.memory)
        var producer = TestProducer(id: 7)
        _ = try log.append(batch(1, timestamp: 10), now: 5)
        _ = try log.append(producer.batch(1, timestamp: 20), now: 5)
        #expect(try log.offset(forTimestamp: 15, isolation: .readUncommitted)?.offset == 1)
        #expect(try log.offset(forTimestamp: 15, isolation: .readCommitted)?.offset == nil)
    }

    // MARK: Deleting

    @Test(arguments: Place.allCases) func deletedRecordsAreGoneAtOnceAndTheirSegmentsWithThem(place: Place) throws {
        let (log, directory) = try log(place, segmentBytes: 300)
        for _ in 0..<10 { _ = try log.append(batch(2), now: 5) }
        let segments = log.segments.count
        #expect(try log.deleteRecords(before: 7) == 7)
        #expect(log.logStartOffset == 7)
        #expect(log.segments.count < segments)
        #expect(rejection { _ = try log.read(from: 6, maxBytes: 10, atLeastOne: true, isolation: .readUncommitted) } == .offsetOutOfRange)
        #expect(try offsets(log.read(from: 7, maxBytes: 10, atLeastOne: true, isolation: .readUncommitted).records) == [6...7])
        #expect(try log.deleteRecords(before: 3) == 7)
        #expect(rejection { _ = try log.deleteRecords(before: 21) } == .offsetOutOfRange)
        #expect(try log.deleteRecords(before: -1) == 20)
        if place == .disk {
            let (again, _) = try self.log(.disk, directory, segmentBytes: 300)
            #expect(again.logStartOffset == 20)
            #expect(try again.append(batch(), now: 5).baseOffset == 20)
        }
    }

    @Test(arguments: Place.allCases) func retentionByTimeDeletesWholeSegmentsAndKeepsTheEnd(place: Place) throws {
        let (log, directory) = try log(place, segmentBytes: 300) { $0.retentionMilliseconds = 1_000 }
        for index in 0..<10 { _ = try log.append(batch(2, timestamp: Int64(index * 100)), now: 5) }
        #expect(try log.retain(now: 1_000) == 0)
        #expect(try log.retain(now: 1_500) > 0)
        #expect(log.logStartOffset > 0)
        #expect(log.logStartOffset < 20)
        _ = try log.retain(now: 1_000_000)
        #expect(log.logStartOffset == 20)
        #expect(log.endOffset == 20)
        if place == .disk {
            let (again, _) = try self.log(.disk, directory)
            #expect(again.logStartOffset == 20)
            #expect(try again.append(batch(), now: 5).baseOffset == 20)
        }
    }

    @Test func retentionBySizeKeepsAtLeastThatMuch() throws {
        let (log, _) = try log(.memory, segmentBytes: 300) {
            $0.retentionMilliseconds = nil
            $0.retentionBytes = 700
        }
        for _ in 0..<20 { _ = try log.append(batch(2), now: 5) }
        #expect(try log.retain(now: 0) > 0)
        #expect(log.sizeBytes >= 700)
        #expect(log.sizeBytes < 700 + 300)
    }

    @Test func retentionKeepsTheRecordsOfAnOpenTransaction() throws {
        let (log, _) = try log(.memory, segmentBytes: 300) { $0.retentionMilliseconds = 1_000 }
        var producer = TestProducer(id: 7)
        _ = try log.append(batch(2), now: 5)
        _ = try log.append(producer.batch(), now: 5)
        for _ in 0..<10 { _ = try log.append(batch(2), now: 5) }
        _ = try log.retain(now: 1_000_000)
        #expect(log.logStartOffset <= 2)
        try log.appendMarker(producerID: 7, epoch: 0, commit: true, coordinatorEpoch: 0, now: 5)
        _ = try log.retain(now: 1_000_000)
        #expect(log.logStartOffset == log.endOffset)
    }

    @Test func aSegmentIsClosedOnceItsRecordsSpanTheTime() throws {
        let (log, _) = try log(.memory) { $0.segmentMilliseconds = 1_000 }
        for timestamp in [0, 500, 1_000, 1_001] as [Int64] { _ = try log.append(batch(1, timestamp: timestamp), now: 5) }
        #expect(log.segments.map(\.baseOffset) == [0, 3])
    }
}
