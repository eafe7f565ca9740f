internal import WeirBase

/// What is known of the producers of a partition at an offset of its log, in a file beside the segments (`<offset>.producers`), so that opening
/// the log need not read all of it.
///
/// All integers little-endian (proto-docs/broker-log.md):
///
///     | magic "WRPS": u32 | version: u16 | zero: u16 | offset: i64 | producers: u32 |
///     producers times, by id | producer id: i64 | epoch: u16 | coordinator epoch: i32 | last use, ms: i64 | transaction's first offset or -1: i64 |
///                            | batches: u8 | batches times | first sequence: i32 | last sequence: i32 | base offset: i64 | last offset: i64 |
///                                                          | timestamp, ms: i64 |
///     | CRC-32C of all before: u32 |
extension ProducerStates {
    private static let magic: UInt32 = 0x5350_5257
    private static let version: UInt16 = 1

    func encoded(at offset: Int64) -> [UInt8] {
        var writer = ByteWriter(capacity: 32 + producers.count * 192)
        writer.writeU32(Self.magic)
        writer.writeU16(Self.version)
        writer.writeU16(0)
        writer.writeI64(offset)
        writer.writeU32(UInt32(producers.count))
        for (id, producer) in producers.sorted(by: { $0.key < $1.key }) {
            writer.writeI64(id)
            writer.writeU16(UInt16(bitPattern: producer.epoch))
            writer.writeI32(producer.coordinatorEpoch)
            writer.writeI64(producer.lastUse)
            writer.writeI64(producer.transactionStart ?? -1)
            writer.writeU8(UInt8(producer.batches.count))
            for batch in producer.batches {
                writer.writeI32(batch.firstSequence)
                writer.writeI32(batch.lastSequence)
                writer.writeI64(batch.baseOffset)
                writer.writeI64(batch.lastOffset)
                writer.writeI64(batch.timestamp)
            }
        }
        writer.appendChecksum()
        return writer.finish()
    }

    /// - Returns: nil for bytes that ``encoded(at:)`` did not write for this offset: the state is then found by reading more of the log.
    init?(decoding bytes: [UInt8], at offset: Int64) {
        let decoded = bytes.withUnsafeBytes { bytes -> [Int64: Producer]? in
            guard var reader = checkedReader(bytes, magic: Self.magic, version: Self.version), (try? reader.readI64()) == offset else { return nil }
            return try? Self.decodeProducers(&reader)
        }
        guard let decoded else { return nil }
        self.init(producers: decoded)
    }

    private static func decodeProducers(_ reader: inout ByteReader) throws(DecodingFailure) -> [Int64: Producer]? {
        let count = try reader.readU32()
        guard count <= producersMax else { return nil }
        var producers: [Int64: Producer] = [:]
        for _ in 0..<count {
            let id = try reader.readI64()
            let epoch = Int16(bitPattern: try reader.readU16())
            let coordinatorEpoch = try reader.readI32()
            let lastUse = try reader.readI64()
            let start = try reader.readI64()
            var producer = Producer(epoch: epoch, transactionStart: start < 0 ? nil : start, coordinatorEpoch: coordinatorEpoch, lastUse: lastUse)
            let batches = try reader.readU8()
            guard batches <= batchesMax else { return nil }
            for _ in 0..<batches {
                producer.batches.append(
                    Batch(
                        firstSequence: try reader.readI32(), lastSequence: try reader.readI32(), baseOffset: try reader.readI64(),
                        lastOffset: try reader.readI64(), timestamp: try reader.readI64()))
            }
            producers[id] = producer
        }
        try reader.expectEnd()
        return producers
    }
}
