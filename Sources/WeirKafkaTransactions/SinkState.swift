import WeirBase

/// A transaction whose records are all on the broker and which only waits for its checkpoint: what the checkpoint keeps of it.
///
/// Any process can commit it with this, see ``TransactionResolution``.
package struct PreparedTransaction: Hashable, Sendable {
    package var id: TransactionalID
    package var session: ProducerSession
    /// The checkpoint at whose barrier it was closed, and the offset of its marker.
    package var checkpoint: UInt64
    /// The topic that its marker is written for, partition 0.
    package var markerTopic: String
    /// The marker that stood in the group when the session began: as long as it does, nothing of this session is committed.
    package var baseMarker: CommitMarker?
    /// When the first record was handed over, milliseconds since 1970: the broker's time-out runs from there.
    package var begunAt: Int64
    package var timeoutMilliseconds: Int64
    package var records: UInt64

    package init(
        id: TransactionalID, session: ProducerSession, checkpoint: UInt64, markerTopic: String, baseMarker: CommitMarker?, begunAt: Int64,
        timeoutMilliseconds: Int64, records: UInt64
    ) {
        self.id = id
        self.session = session
        self.checkpoint = checkpoint
        self.markerTopic = markerTopic
        self.baseMarker = baseMarker
        self.begunAt = begunAt
        self.timeoutMilliseconds = timeoutMilliseconds
        self.records = records
    }

    package var marker: CommitMarker { CommitMarker(session: session, checkpoint: checkpoint) }
    /// When the broker may abort it, milliseconds since 1970.
    package var deadline: Int64 { begunAt &+ timeoutMilliseconds }
}

/// The transactional ids that a subtask may have used: indices `0..<size`.
package struct ProducerPool: Hashable, Sendable {
    package var prefix: String
    package var subtask: Int
    package var size: Int

    package init(prefix: String, subtask: Int, size: Int) {
        self.prefix = prefix
        self.subtask = subtask
        self.size = size
    }

    package var ids: [TransactionalID] { (0..<size).map { TransactionalID(prefix: prefix, subtask: subtask, index: $0) } }
}

/// One entry of the list state ``SinkState/listName`` of an exactly-once sink: version 1 of "State of a sink" in
/// `proto-docs/kafka-transactions.md`. Integers are little-endian, strings a varint of their length and UTF-8.
///
///     pool         | version: u8 = 1 | kind: u8 = 0 | prefix: string | subtask: u32 | size: u32 |
///     transaction  | version: u8 = 1 | kind: u8 = 1 | prefix: string | subtask: u32 | index: u32 | producer id: i64 | epoch: i16
///                  | checkpoint: u64 | marker topic: string | has base: u8 | [ base producer id: i64 | base epoch: i16
///                  | base checkpoint: u64 ] | begun at: i64 | time-out ms: i64 | records: u64 |
package enum SinkState: Hashable, Sendable {
    case pool(ProducerPool)
    case transaction(PreparedTransaction)

    package static let listName = "kafka.transactions"
    /// No subtask has more producers: what a damaged entry says beyond it is refused.
    package static let poolSizeMax = 4_096

    package func encode() -> [UInt8] {
        var writer = ByteWriter(capacity: 128)
        writer.writeU8(1)
        switch self {
        case .pool(let pool):
            writer.writeU8(0)
            writer.writeString(pool.prefix)
            writer.writeU32(UInt32(pool.subtask))
            writer.writeU32(UInt32(pool.size))
        case .transaction(let transaction):
            writer.writeU8(1)
            writer.writeString(transaction.id.prefix)
            writer.writeU32(UInt32(transaction.id.subtask))
            writer.writeU32(UInt32(transaction.id.index))
            Self.write(transaction.session, to: &writer)
            writer.writeU64(transaction.checkpoint)
            writer.writeString(transaction.markerTopic)
            writer.writeU8(transaction.baseMarker == nil ? 0 : 1)
            if let base = transaction.baseMarker {
                Self.write(base.session, to: &writer)
                writer.writeU64(base.checkpoint)
            }
            writer.writeI64(transaction.begunAt)
            writer.writeI64(transaction.timeoutMilliseconds)
            writer.writeU64(transaction.records)
        }
        return writer.finish()
    }

    private static func write(_ session: ProducerSession, to writer: inout ByteWriter) {
        writer.writeI64(session.producerID)
        writer.writeU16(UInt16(bitPattern: session.epoch))
    }

    /// - Throws: `DecodingFailure` if the bytes are not what ``encode()`` gives.
    package init(decoding bytes: [UInt8]) throws {
        self = try bytes.withUnsafeBytes { bytes in
            var reader = ByteReader(bytes)
            let entry = try Self.read(&reader)
            try reader.expectEnd()
            return entry
        }
    }

    private static func read(_ reader: inout ByteReader) throws -> SinkState {
        let version = try reader.readU8()
        guard version == 1 else { throw DecodingFailure("the state of a Kafka sink of version \(version), known is 1", offset: 0) }
        let kind = try reader.readU8()
        let prefix = try reader.readString()
        let subtask = try number(&reader)
        switch kind {
        case 0: return .pool(ProducerPool(prefix: prefix, subtask: subtask, size: try number(&reader, max: poolSizeMax)))
        case 1:
            let id = TransactionalID(prefix: prefix, subtask: subtask, index: try number(&reader, max: poolSizeMax))
            let session = try readSession(&reader)
            let checkpoint = try reader.readU64()
            let topic = try reader.readString()
            var base: CommitMarker?
            if try reader.readU8() != 0 { base = CommitMarker(session: try readSession(&reader), checkpoint: try reader.readU64()) }
            return .transaction(
                PreparedTransaction(
                    id: id, session: session, checkpoint: checkpoint, markerTopic: topic, baseMarker: base, begunAt: try reader.readI64(),
                    timeoutMilliseconds: try reader.readI64(), records: try reader.readU64()))
        default: throw DecodingFailure("an entry of kind \(kind) in the state of a Kafka sink", offset: 1)
        }
    }

    private static func readSession(_ reader: inout ByteReader) throws -> ProducerSession {
        ProducerSession(producerID: try reader.readI64(), epoch: Int16(bitPattern: try reader.readU16()))
    }

    private static func number(_ reader: inout ByteReader, max: Int = Int(Int32.max)) throws -> Int {
        let offset = reader.position
        let value = try reader.readU32()
        guard value <= UInt32(max) else { throw DecodingFailure("the number \(value) is above \(max)", offset: offset) }
        return Int(value)
    }
}
