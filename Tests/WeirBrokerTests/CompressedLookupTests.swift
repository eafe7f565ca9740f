import CRdKafka
import Testing
import WeirBase
import WeirKafkaWire

@testable import WeirBroker

/// ListOffsets by time in what librdkafka compressed: the record itself is found, as in Kafka.
@Suite struct CompressedLookupTests {
    private static let count = 500
    /// In the header of a batch.
    private static let (crcOffset, attributesOffset) = (17, 21)
    private let test: TestBroker

    init() throws {
        test = try TestBroker()
        try test.client.createTopic("t", partitions: 1)
    }

    /// Writes 500 records, in one batch or almost: every second one 10 ms later than the one before, the others 5 ms earlier.
    private func produce(_ codec: String) throws {
        // A batch leaves when it is full.
        let settings = ["compression.codec": codec, "linger.ms": "10000", "batch.num.messages": "\(Self.count)"]
        let producer = try RdKafkaClient(RD_KAFKA_PRODUCER, RdKafkaClient.settings(test.broker.bootstrap, settings)) { _ in }
        let topic = rd_kafka_topic_new(producer.handle, "t", nil)
        defer { rd_kafka_topic_destroy(topic) }
        for index in 0..<Self.count {
            let value = "a reading of the device \(index % 7)"
            let code = Array(value.utf8).withUnsafeBytes {
                weir_kafka_produce(producer.handle, topic, 0, nil, 0, $0.baseAddress, $0.count, Self.timestamp(index))
            }
            #expect(code == RD_KAFKA_RESP_ERR_NO_ERROR)
        }
        #expect(rd_kafka_flush(producer.handle, 20_000) == RD_KAFKA_RESP_ERR_NO_ERROR)
    }

    private static func timestamp(_ index: Int) -> Int64 { 1_000_000 + Int64(index / 2 * 10) - Int64(index % 2 * 5) }

    /// The first record at or after a time, as librdkafka's client is told; nil for the end.
    private func lookUp(_ timestamp: Int64) throws -> Int64? {
        let consumer = try RdKafkaClient(RD_KAFKA_CONSUMER, RdKafkaClient.settings(test.broker.bootstrap, ["group.id": "g"])) { _ in }
        let list = rd_kafka_topic_partition_list_new(1)
        defer { rd_kafka_topic_partition_list_destroy(list) }
        let entry = rd_kafka_topic_partition_list_add(list, "t", 0)
        entry?.pointee.offset = timestamp
        #expect(rd_kafka_offsets_for_times(consumer.handle, list, 20_000) == RD_KAFKA_RESP_ERR_NO_ERROR)
        return list?.pointee.elems[0].offset.magnitude == 1 ? nil : list?.pointee.elems[0].offset
    }

    /// Asks the partition's log, on the broker's thread.
    private func onLog<Value: Sendable>(_ body: @escaping @Sendable (PartitionLog) throws -> Value) throws -> Value {
        try test.broker.run { broker in
            Result {
                guard let log = broker.logs.log("t", 0) else { throw LogRejection(.unknownTopicOrPartition, "no partition") }
                return try body(log)
            }
        }.get()
    }

    /// The log's batch with the most records: librdkafka may send a first record by itself.
    private func batch() throws -> (RecordBatchHeader, KafkaBytes) {
        let bytes = try onLog { try $0.read(from: 0, maxBytes: 10 << 20, atLeastOne: true, isolation: .readUncommitted).records.copied() }
        var largest: (RecordBatchHeader, KafkaBytes)?
        var position = 0
        while position < bytes.count {
            let header = try RecordBatchHeader(bytes, at: position)
            if header.recordCount > largest?.0.recordCount ?? 0 { largest = (header, bytes.slice(from: position, count: header.totalBytes)) }
            position += header.totalBytes
        }
        let found = try #require(largest)
        #expect(found.0.recordCount > Self.count / 2)
        return found
    }

    private static let codecs: [(name: String, number: Int16)] = [("none", 0), ("gzip", 1), ("snappy", 2), ("lz4", 3), ("zstd", 4)]

    @Test(arguments: codecs) func theFirstRecordAtOrAfterATimeIsFound(codec: (name: String, number: Int16)) throws {
        try produce(codec.name)
        #expect(try batch().0.codec == codec.number)
        for index in [0, 1, 2, 3, 250, 498, 499] {
            let wanted = Self.timestamp(index)
            let expected = try #require((0..<Self.count).first { Self.timestamp($0) >= wanted })
            #expect(try lookUp(wanted) == Int64(expected), "at \(wanted)")
        }
        #expect(try lookUp(0) == 0)
        #expect(try lookUp(Self.timestamp(100) + 1) == 102)
        #expect(try lookUp(Self.timestamp(498) + 1) == nil)
        #expect(try onLog { try $0.offsetOfMaxTimestamp()?.offset } == 498)
    }

    @Test(arguments: codecs.dropFirst()) func decompressionIsBoundedAndSurvivesDamage(codec: (name: String, number: Int16)) throws {
        try produce(codec.name)
        let (header, batch) = try batch()
        let records = try #require(RecordDecompression.records(of: header, in: batch))
        #expect(RecordDecompression.records(of: header, in: batch, bytesMax: records.count) == records)
        #expect(RecordDecompression.records(of: header, in: batch, bytesMax: records.count - 1) == nil)
        var random = SplitMix64(seed: UInt64(codec.number))
        for _ in 0..<2_000 {
            let damaged = batch.copied()
            for _ in 0..<Int.random(in: 1...3, using: &random) {
                damaged.store(UInt8.random(in: 0...255, using: &random), at: Int.random(in: RecordBatchHeader.bytes..<batch.count, using: &random))
            }
            if let opened = RecordDecompression.records(of: header, in: damaged, bytesMax: 1 << 20) { #expect(opened.count <= 1 << 20) }
        }
    }

    /// A batch that claims to be compressed and is not can be found still, by its first record.
    @Test(arguments: 1...4 as ClosedRange<Int16>) func whatCannotBeOpenedIsFoundByItsFirstRecord(codec: Int16) throws {
        let bytes = WeirBrokerTests.batch(5, timestamp: 1_000)
        bytes.store(codec, at: Self.attributesOffset)
        bytes.store(bytes.slice(from: Self.attributesOffset).withUnsafeBytes { crc32c($0) }, at: Self.crcOffset)
        _ = try test.client.produce("t", bytes)
        #expect(try onLog { try $0.offset(forTimestamp: 1_003, isolation: .readUncommitted)?.offset } == 0)
        #expect(try onLog { try $0.offsetOfMaxTimestamp()?.offset } == 4)
    }

    // MARK: Snappy

    private func snappy(_ bytes: [UInt8], bytesMax: Int = 1_000) throws -> String {
        String(decoding: try bytes.withUnsafeBytes { try Snappy.decompress($0, bytesMax: bytesMax) }, as: UTF8.self)
    }

    @Test func theElementsOfABlock() throws {
        // A literal, then copies with 1, 2 and 4 bytes of offset; the first reaches into itself.
        let block: [UInt8] = [19, 2 << 2] + Array("abc".utf8) + [1 | 3 << 2, 3, 2 | 2 << 2, 10, 0, 3 | 5 << 2, 13, 0, 0, 0]
        #expect(try snappy(block) == "abcabcabcaabcabcabc")
        // A literal whose length is in a byte of its own.
        #expect(try snappy([61, 60 << 2, 60] + [UInt8](repeating: 0x78, count: 61)) == String(repeating: "x", count: 61))
        #expect(try snappy([0]) == "")
    }

    @Test func theFramingOfJavasClient() throws {
        let magic: [UInt8] = [0x82] + Array("SNAPPY".utf8) + [0, 0, 0, 0, 1, 0, 0, 0, 1]
        let hello: [UInt8] = [0, 0, 0, 7, 5, 4 << 2] + Array("hello".utf8)
        #expect(try snappy(magic + hello + hello) == "hellohello")
        #expect(throws: DecodingFailure.self) { try snappy(magic + hello, bytesMax: 4) }
        for end in (magic.count + 1)..<(magic.count + hello.count) {
            #expect(throws: DecodingFailure.self) { try snappy(Array((magic + hello)[..<end])) }
        }
    }

    @Test func damagedBlocksAreRefused() throws {
        for block in [
            [], [0x80], [5, 4 << 2, 0x61], [4, 1, 1], [4, 0, 0x61, 1, 2], [2, 4 << 2] + Array("hello".utf8), [9, 4 << 2] + Array("hello".utf8),
        ] {
            #expect(throws: DecodingFailure.self, "\(block)") { try snappy(block as [UInt8]) }
        }
    }
}
