import Testing
import WeirBase
import WeirKafkaWire

@testable import WeirBroker

/// The bytes of proto-docs/broker-log.md. A change here is a new version there.
@Suite struct LogFormatTests {
    private func little<T: FixedWidthInteger>(_ value: T) -> [UInt8] { withUnsafeBytes(of: value.littleEndian) { Array($0) } }

    private func sealed(_ magic: String, _ parts: [UInt8]...) -> [UInt8] {
        let body = Array(magic.utf8) + [1, 0, 0, 0] + parts.flatMap { $0 }
        return body + little(body.withUnsafeBytes { crc32c($0) })
    }

    @Test func theIndexOfAClosedSegment() {
        var index = SegmentIndex()
        index.add(offsetDelta: 0, position: 0, maxTimestamp: 70)
        index.add(offsetDelta: 3, position: 100, maxTimestamp: 90)
        index.add(offsetDelta: 9, position: 5_000, maxTimestamp: 80)
        let segment = SealedSegment(
            baseOffset: 1_000, endOffset: 1_012, segmentBytes: 5_100, index: index,
            aborted: [.init(producerID: 7, firstOffset: 1_001, markerOffset: 1_011, lastStableOffset: 1_012)])
        let bytes = sealed(
            "WRIX", little(Int64(1_000)), little(Int64(1_012)), little(UInt64(5_100)), little(Int64(90)), little(UInt32(100)), little(Int64(70)),
            little(UInt32(2)), little(UInt32(1)), little(UInt32(0)), little(UInt32(0)), little(Int64.min), little(UInt32(9)), little(UInt32(5_000)),
            little(Int64(90)), little(Int64(7)), little(Int64(1_001)), little(Int64(1_011)), little(Int64(1_012)))
        #expect(segment.encoded() == bytes)
        #expect(SealedSegment(decoding: bytes) == segment)
        for position in bytes.indices {
            var damaged = bytes
            damaged[position] ^= 0x10
            #expect(SealedSegment(decoding: damaged) == nil)
        }
    }

    @Test func theStateOfTheProducers() {
        let batch = ProducerStates.Batch(firstSequence: 4, lastSequence: 6, baseOffset: 20, lastOffset: 22, timestamp: 900)
        let states = ProducerStates(producers: [
            9: .init(epoch: 3, batches: [batch], transactionStart: 20, coordinatorEpoch: 5, lastUse: 1_234), 2: .init(epoch: 1, lastUse: 55),
        ])
        let bytes = sealed(
            "WRPS", little(Int64(23)), little(UInt32(2)), little(Int64(2)), little(Int16(1)), little(Int32(-1)), little(Int64(55)), little(Int64(-1)),
            [0], little(Int64(9)), little(Int16(3)), little(Int32(5)), little(Int64(1_234)), little(Int64(20)), [1], little(Int32(4)),
            little(Int32(6)), little(Int64(20)), little(Int64(22)), little(Int64(900)))
        #expect(states.encoded(at: 23) == bytes)
        #expect(ProducerStates(decoding: bytes, at: 23) == states)
    }

    @Test func theStartOfTheLogAndTheNamesOfTheFiles() throws {
        let directory = TestDirectory()
        var configuration = LogConfiguration()
        configuration.segmentBytes = 200
        let log = try PartitionLog(
            topic: "t", partition: 0, storage: .directory(path: directory.path + "/t-0", OpenFiles(isSynced: false)), configuration: configuration,
            now: 0)
        for _ in 0..<3 { _ = try log.append(batch(2), now: 5) }
        _ = try log.deleteRecords(before: 1)
        let bytes = try OpenFiles(isSynced: false).readWhole(directory.path + "/t-0/log-start")
        #expect(bytes == sealed("WRLS", little(Int64(1))))
        #expect(
            try directory.names(in: "t-0") == [
                "00000000000000000000.index", "00000000000000000000.log", "00000000000000000004.log", "00000000000000000004.producers", "log-start",
            ])
    }
}
