import CRdKafka
import WeirBase

/// Records of one topic that wait to be handed to the client, side by side in memory: they cross to C once a batch.
struct KafkaWaitingRecords: ~Copyable {
    private static let countMax = 1_024
    /// More bytes than this wait for nobody: large records are handed over one by one.
    private static let bytesMax = 1 << 20

    private let entries = UnsafeMutablePointer<weir_kafka_waiting_t>.allocate(capacity: countMax)
    private var bytes = ByteWriter(capacity: 1 << 16)
    private(set) var count = 0

    /// Of keys and values.
    var byteCount: Int { bytes.count }
    /// Whether what is there must be handed over before the next ``append(key:value:partition:timestamp:)``.
    var isFull: Bool { count == Self.countMax || bytes.count >= Self.bytesMax }

    deinit { entries.deallocate() }

    /// Copies a record. There must be room.
    ///
    /// - Parameters:
    ///   - key: nil for none.
    ///   - value: nil for a tombstone.
    ///   - partition: nil for the one that ``KafkaProducer/produce(_:from:topic:partition:)`` is given.
    ///   - timestamp: Milliseconds since 1970; 0 for now.
    mutating func append(key: UnsafeRawBufferPointer?, value: UnsafeRawBufferPointer?, partition: Int32?, timestamp: Int64) {
        precondition(count < Self.countMax, "records are handed over before more are written")
        entries[count] = weir_kafka_waiting_t(
            at: bytes.count, key_bytes: Int64(key?.count ?? -1), value_bytes: Int64(value?.count ?? -1), timestamp: timestamp,
            partition: partition ?? weir_kafka_partition_any)
        count += 1
        if let key { bytes.writeBytes(key) }
        if let value { bytes.writeBytes(value) }
    }

    mutating func removeAll() {
        count = 0
        bytes.removeAll()
    }

    /// Key and value bytes of one record.
    func byteCount(of index: Int) -> Int { Int(max(0, entries[index].key_bytes) + max(0, entries[index].value_bytes)) }

    /// Hands over the records from `start` on.
    ///
    /// - Returns: How many were taken, and why not all.
    func produce(from start: Int, _ client: OpaquePointer, _ topic: OpaquePointer, partition: Int32) -> (taken: Int, error: rd_kafka_resp_err_t) {
        var error = RD_KAFKA_RESP_ERR_NO_ERROR
        let taken = bytes.withBytes { bytes in
            weir_kafka_produce_all(
                client, topic, partition, bytes.baseAddress?.assumingMemoryBound(to: CChar.self), entries + start, count - start, &error)
        }
        return (taken, error)
    }
}
