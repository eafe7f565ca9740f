import Testing
import WeirBase
import WeirKafkaWire

@testable import WeirBroker

@Suite struct ProducerStateTests {
    private let log: PartitionLog

    init() throws {
        log = try PartitionLog(
            topic: "t", partition: 0, storage: .memory(name: "t-0", MemoryBudget(bytesMax: 1 << 20)), configuration: LogConfiguration(), now: 0)
    }

    private func append(_ id: Int64 = 7, epoch: Int16 = 0, sequence: Int32, count: Int = 1, attributes: Int16 = 0) throws -> PartitionLog.Appended {
        try log.append(batch(count, attributes: attributes, producerID: id, epoch: epoch, sequence: sequence), now: 5)
    }

    private func rejection(_ body: () throws -> Void) -> KafkaErrorCode? {
        do { try body() } catch { return (error as? LogRejection)?.code }
        return nil
    }

    @Test func aRetryOfOneOfTheLastFiveBatchesIsAnsweredWithItsOffsetsAndNotStored() throws {
        for sequence in 0..<8 as Range<Int32> { _ = try append(sequence: sequence * 2, count: 2) }
        for sequence in 3..<8 as Range<Int32> {
            let again = try append(sequence: sequence * 2, count: 2)
            #expect(again == .init(baseOffset: Int64(sequence) * 2, lastOffset: Int64(sequence) * 2 + 1, logAppendTime: -1, isDuplicate: true))
        }
        #expect(log.endOffset == 16)
        #expect(rejection { _ = try append(sequence: 4, count: 2) } == .outOfOrderSequenceNumber)
    }

    @Test func aGapInTheSequenceIsRefused() throws {
        _ = try append(sequence: 0, count: 3)
        #expect(rejection { _ = try append(sequence: 4) } == .outOfOrderSequenceNumber)
        #expect(rejection { _ = try append(sequence: 2) } == .outOfOrderSequenceNumber)
        #expect(try append(sequence: 3).baseOffset == 3)
    }

    @Test func sequenceNumbersBeginAgainAfterTheLargest() throws {
        _ = try append(sequence: .max - 1, count: 3)  // max - 1, max, 0
        #expect(try append(sequence: 1).baseOffset == 3)
        #expect(try append(sequence: .max - 1, count: 3).isDuplicate)
    }

    /// KIP-360: the records that held its state may have been deleted.
    @Test func anUnknownProducerMayStartWithAnySequence() throws { #expect(try append(sequence: 41).baseOffset == 0) }

    @Test func aNewEpochStartsAtZeroAndFencesTheOlderOne() throws {
        _ = try append(sequence: 0)
        #expect(rejection { _ = try append(epoch: 1, sequence: 1) } == .outOfOrderSequenceNumber)
        #expect(try append(epoch: 1, sequence: 0).baseOffset == 1)
        #expect(rejection { _ = try append(epoch: 0, sequence: 1) } == .invalidProducerEpoch)
        #expect(rejection { _ = try append(epoch: 0, sequence: 0) } == .invalidProducerEpoch)
    }

    @Test func aMarkerOfANewerEpochFencesTheProducerThatIsStillWriting() throws {
        _ = try append(sequence: 0, attributes: 16)
        try log.appendMarker(producerID: 7, epoch: 1, commit: false, coordinatorEpoch: 0, now: 5)
        #expect(rejection { _ = try append(sequence: 1, attributes: 16) } == .invalidProducerEpoch)
        #expect(log.lastStableOffset == log.endOffset)
        #expect(rejection { _ = try append(epoch: 1, sequence: 5, attributes: 16) } == .outOfOrderSequenceNumber)
        #expect(try append(epoch: 1, sequence: 0, attributes: 16).baseOffset == 2)
    }

    @Test func markersOfOlderEpochsAreRefused() throws {
        _ = try append(epoch: 3, sequence: 0, attributes: 16)
        #expect(
            rejection { try log.appendMarker(producerID: 7, epoch: 2, commit: true, coordinatorEpoch: 0, now: 5) } == .invalidProducerEpoch)
        try log.appendMarker(producerID: 7, epoch: 3, commit: true, coordinatorEpoch: 4, now: 5)
        #expect(
            rejection { try log.appendMarker(producerID: 7, epoch: 3, commit: true, coordinatorEpoch: 3, now: 5) }
                == .transactionCoordinatorFenced)
    }

    @Test func aPlainBatchInsideOfATransactionIsRefused() throws {
        _ = try append(sequence: 0, attributes: 16)
        #expect(rejection { _ = try append(sequence: 1) } == .invalidTxnState)
    }

    @Test func theLastStableOffsetIsTheFirstOfTheOldestOpenTransaction() throws {
        _ = try log.append(batch(), now: 5)
        _ = try append(7, sequence: 0, attributes: 16)  // 1
        _ = try append(8, sequence: 0, attributes: 16)  // 2
        _ = try append(7, sequence: 1, attributes: 16)  // 3
        #expect(log.lastStableOffset == 1)
        try log.appendMarker(producerID: 7, epoch: 0, commit: true, coordinatorEpoch: 0, now: 5)  // 4
        #expect(log.lastStableOffset == 2)
        _ = try append(7, sequence: 2, attributes: 16)  // 5
        try log.appendMarker(producerID: 8, epoch: 0, commit: false, coordinatorEpoch: 0, now: 5)  // 6
        #expect(log.lastStableOffset == 5)
        try log.appendMarker(producerID: 7, epoch: 0, commit: true, coordinatorEpoch: 0, now: 5)  // 7
        #expect(log.lastStableOffset == 8)
    }

    @Test func silentProducersAreForgottenUnlessTheirTransactionIsOpen() throws {
        _ = try append(7, sequence: 0)
        _ = try append(8, sequence: 0, attributes: 16)
        log.expireProducers(before: 5)
        #expect(log.producers.producers.keys.sorted() == [7, 8])
        log.expireProducers(before: 6)
        #expect(log.producers.producers.keys.sorted() == [8])
    }

    @Test func producersAreForgottenPastTheLimitTheOldestFirst() throws {
        var states = ProducerStates()
        for id in 0..<Int64(ProducerStates.producersMax + 1) {
            let header = try RecordBatchHeader(batch(attributes: id == 0 ? 16 : 0, producerID: id, epoch: 0, sequence: 0))
            // The one with an open transaction is the oldest, and stays.
            states.record(header, baseOffset: id, now: id)
        }
        #expect(states.producers.count == ProducerStates.producersMax)
        #expect(states.producers[0] != nil)
        #expect(states.producers[1] == nil)
        #expect(states.producers[2] != nil)
    }

    @Test func aSnapshotGivesTheStateBackAndNothingElseDoes() throws {
        _ = try append(7, sequence: 0, count: 3)
        _ = try append(8, epoch: 4, sequence: 0, attributes: 16)
        _ = try append(9, sequence: 0, attributes: 16)
        try log.appendMarker(producerID: 9, epoch: 2, commit: false, coordinatorEpoch: 6, now: 5)
        let bytes = log.producers.encoded(at: 6)
        #expect(ProducerStates(decoding: bytes, at: 6) == log.producers)
        #expect(ProducerStates(decoding: bytes, at: 7) == nil)
        for index in bytes.indices {
            var damaged = bytes
            damaged[index] ^= 0x10
            #expect(ProducerStates(decoding: damaged, at: 6) == nil)
        }
        #expect(ProducerStates(decoding: Array(bytes.dropLast()), at: 6) == nil)
    }

    // MARK: Aborted transactions

    @Test func abortedTransactionsAreFoundFromAnyOffset() throws {
        // 0: A 1: plain 2: B 3: A 4: abort A 5: C 6: commit B 7: abort C
        _ = try append(1, sequence: 0, attributes: 16)
        _ = try log.append(batch(), now: 5)
        _ = try append(2, sequence: 0, attributes: 16)
        _ = try append(1, sequence: 1, attributes: 16)
        try log.appendMarker(producerID: 1, epoch: 0, commit: false, coordinatorEpoch: 0, now: 5)
        _ = try append(3, sequence: 0, attributes: 16)
        try log.appendMarker(producerID: 2, epoch: 0, commit: true, coordinatorEpoch: 0, now: 5)
        try log.appendMarker(producerID: 3, epoch: 0, commit: false, coordinatorEpoch: 0, now: 5)
        let a = AbortedTransaction(producerID: 1, firstOffset: 0, markerOffset: 4, lastStableOffset: 2)
        let c = AbortedTransaction(producerID: 3, firstOffset: 5, markerOffset: 7, lastStableOffset: 8)
        #expect(log.aborted.transactions == [a, c])
        #expect(log.aborted.overlapping(0..<8) == [a, c])
        #expect(log.aborted.overlapping(0..<5) == [a])
        #expect(log.aborted.overlapping(4..<5) == [a])
        #expect(log.aborted.overlapping(5..<6) == [c])
        #expect(log.aborted.overlapping(6..<7) == [c])
        for start in 0..<8 as Range<Int64> {
            for maxBytes in [1, 200, 1 << 20] {
                #expect(try committedOffsets(log, from: start, maxBytes: maxBytes) == [1, 2].filter { $0 >= start })
            }
        }
    }
}
