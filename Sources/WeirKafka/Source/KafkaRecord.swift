import CRdKafka
import WeirDataflow

/// A record as the broker gave it, lent until the schema returns: what is kept of it must be copied.
public struct KafkaRecord {
    /// A name and a value that travel with a record.
    public struct Header: Hashable, Sendable {
        public var key: String
        /// nil: a header without a value, which is not the same as an empty one.
        public var value: [UInt8]?
        public init(_ key: String, _ value: [UInt8]?) {
            self.key = key
            self.value = value
        }
    }

    /// What ``timestamp`` says.
    public enum TimestampType: Sendable { case none, createTime, logAppendTime }

    /// nil: a tombstone.
    @usableFromInline let valueStart: UnsafeRawPointer?
    @usableFromInline let keyStart: UnsafeRawPointer?
    @usableFromInline let valueBytes: Int
    @usableFromInline let keyBytes: Int
    /// Its place in the partition.
    public let offset: Int64
    /// Kafka's time of the record, milliseconds since 1970; `AnyBatch.noTimestamp` if it has none.
    public let timestamp: Int64
    private let message: UnsafePointer<rd_kafka_message_t>

    init(_ message: UnsafePointer<rd_kafka_message_t>) {
        let time = rd_kafka_message_timestamp(message, nil)
        valueStart = message.pointee.payload.map { UnsafeRawPointer($0) }
        keyStart = message.pointee.key.map { UnsafeRawPointer($0) }
        valueBytes = message.pointee.len
        keyBytes = message.pointee.key_len
        offset = message.pointee.offset
        timestamp = time < 0 ? AnyBatch.noTimestamp : time
        self.message = message
    }

    /// nil for a tombstone: data to those who keep the latest value of each key, nothing to others.
    @inlinable public var value: UnsafeRawBufferPointer? { valueStart.map { UnsafeRawBufferPointer(start: $0, count: valueBytes) } }
    @inlinable public var key: UnsafeRawBufferPointer? { keyStart.map { UnsafeRawBufferPointer(start: $0, count: keyBytes) } }
    @inlinable public var isTombstone: Bool { valueStart == nil }

    public var partition: Int32 { message.pointee.partition }

    /// Makes a string at each call.
    public var topic: String { message.pointee.rkt.map { String(cString: rd_kafka_topic_name($0)) } ?? "" }

    public var timestampType: TimestampType {
        var type = RD_KAFKA_TIMESTAMP_NOT_AVAILABLE
        _ = rd_kafka_message_timestamp(message, &type)
        switch type {
        case RD_KAFKA_TIMESTAMP_CREATE_TIME: return .createTime
        case RD_KAFKA_TIMESTAMP_LOG_APPEND_TIME: return .logAppendTime
        default: return .none
        }
    }

    /// In the order in which they were written, duplicates and headers without a value included. Reads and copies them at each call.
    public var headers: [Header] {
        var list: OpaquePointer?
        // librdkafka notes in the message that it has read the headers, hence the mutable pointer.
        guard rd_kafka_message_headers(UnsafeMutablePointer(mutating: message), &list) == RD_KAFKA_RESP_ERR_NO_ERROR, let list else { return [] }
        var headers: [Header] = []
        var name: UnsafePointer<CChar>?
        var value: UnsafeRawPointer?
        var bytes = 0
        while rd_kafka_header_get_all(list, headers.count, &name, &value, &bytes) == RD_KAFKA_RESP_ERR_NO_ERROR, let name {
            headers.append(
                Header(String(cString: name), value.map { [UInt8](UnsafeRawBufferPointer(start: $0, count: bytes)) }))
        }
        return headers
    }
}

/// The start of a value, as text where it is text, for messages.
func firstBytes(_ value: UnsafeRawBufferPointer?, max bytesMax: Int = 64) -> String {
    guard let value else { return "nothing (null)" }
    let head = value.prefix(bytesMax)
    let isText = head.allSatisfy { (0x20..<0x7F).contains($0) || $0 == 0x09 || $0 == 0x0A || $0 == 0x0D }
    let text =
        isText
        ? "\"" + String(decoding: head, as: UTF8.self) + "\""
        : head.map { byte in (byte < 16 ? "0" : "") + String(byte, radix: 16) }.joined(separator: " ")
    return value.count > bytesMax ? "\(text)… (\(value.count) bytes)" : text
}
