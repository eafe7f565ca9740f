import Testing
import WeirBase
import WeirKafkaWire

@Suite struct RecordBatchTests {
    private let records = [
        BatchRecord(key: KafkaBytes([1, 2]), value: KafkaBytes([3]), timestamp: 1_000),
        BatchRecord(key: nil, value: nil, timestamp: 900, headers: [("a", KafkaBytes([4])), ("a", nil), ("", .empty)]),
        BatchRecord(key: .empty, value: .empty, timestamp: 1_200),
    ]

    private func read(_ batch: KafkaBytes, at offset: Int = 0) throws -> (RecordBatchHeader, [BatchRecord], [Int64]) {
        let header = try RecordBatchHeader(batch, at: offset)
        var records: [BatchRecord] = []
        var offsets: [Int64] = []
        try RecordBatch.forEachRecord(header, in: batch, at: offset) { (record, offset) throws(DecodingFailure) in
            records.append(record)
            offsets.append(offset)
        }
        return (header, records, offsets)
    }

    @Test func recordsSurviveARoundTrip() throws {
        let batch = RecordBatch.build(records, producerID: 9, producerEpoch: 2, baseSequence: 7)
        RecordBatch.assign(baseOffset: 40, leaderEpoch: 3, in: batch)
        let (header, back, offsets) = try read(batch)
        #expect(back == records)
        #expect(offsets == [40, 41, 42])
        #expect(RecordBatch.hasValidCRC(header, in: batch))
        #expect(header.totalBytes == batch.count)
        #expect(header.partitionLeaderEpoch == 3)
        #expect((header.baseTimestamp, header.maxTimestamp) == (1_000, 1_200))
        #expect((header.producerID, header.producerEpoch, header.baseSequence, header.lastSequence) == (9, 2, 7, 9))
        #expect((header.recordCount, header.lastOffset) == (3, 42))
        #expect(!header.isControl && !header.isTransactional && !header.isLogAppendTime && header.codec == 0)
    }

    @Test func aBatchIsFoundInTheMiddleOfBytes() throws {
        let first = RecordBatch.build([records[0]])
        let both = KafkaBytes(first.array + RecordBatch.build([records[2]]).array)
        let (header, back, _) = try read(both, at: first.count)
        #expect(back == [records[2]])
        #expect(RecordBatch.hasValidCRC(header, in: both, at: first.count))
    }

    @Test func everyDamagedByteBehindTheCRCIsNoticed() throws {
        let batch = RecordBatch.build(records).array
        for index in 17..<batch.count {
            var damaged = batch
            damaged[index] ^= 0x10
            guard let header = try? RecordBatchHeader(KafkaBytes(damaged)) else { continue }
            #expect(!RecordBatch.hasValidCRC(header, in: KafkaBytes(damaged)), "byte \(index)")
        }
    }

    @Test func markersAreControlBatchesOfOneRecord() throws {
        let marker = RecordBatch.marker(commit: true, producerID: 5, producerEpoch: 1, coordinatorEpoch: 6, timestamp: 77, baseOffset: 12)
        let (header, back, offsets) = try read(marker)
        #expect(header.isControl && header.isTransactional)
        #expect(RecordBatch.hasValidCRC(header, in: marker))
        #expect((header.producerID, header.producerEpoch, header.baseSequence) == (5, 1, -1))
        #expect(offsets == [12])
        #expect(back.map(\.key) == [KafkaBytes(unhex("00000001"))])
        #expect(back.map(\.value) == [KafkaBytes(unhex("000000000006"))])
        let abort = RecordBatch.marker(commit: false, producerID: 5, producerEpoch: 1, coordinatorEpoch: 6, timestamp: 77)
        #expect(try read(abort).1.map(\.key) == [KafkaBytes(unhex("00000000"))])
    }

    @Test func logAppendTimeReplacesTheTimestamps() throws {
        let batch = RecordBatch.build(records)
        try RecordBatch.setLogAppendTime(5_000, in: batch)
        let (header, back, _) = try read(batch)
        #expect(header.isLogAppendTime)
        #expect(RecordBatch.hasValidCRC(header, in: batch))
        #expect(back.map(\.timestamp) == [5_000, 5_000, 5_000])
    }

    @Test func sequencesWrapToZero() {
        #expect(RecordBatchHeader.sequence(.max, plus: 1) == 0)
        #expect(RecordBatchHeader.sequence(.max - 1, plus: 3) == 1)
        #expect(RecordBatchHeader.sequence(-1, plus: 3) == -1)
    }

    @Test func whatIsNoBatchIsAnError() {
        var oldFormat = RecordBatch.build(records).array
        oldFormat[16] = 1
        #expect(throws: DecodingFailure("records of format 1; only format 2 is supported", offset: 16)) {
            try RecordBatchHeader(KafkaBytes(oldFormat))
        }
        #expect(throws: DecodingFailure.self) { try RecordBatchHeader(KafkaBytes([UInt8](repeating: 0, count: 60))) }
        let cut = RecordBatch.build(records)
        #expect(throws: DecodingFailure.self) { try RecordBatchHeader(cut.slice(from: 0, count: cut.count - 1)) }
    }
}
