public import WeirBase
public import WeirFormats

/// What a sink writes of one row: Kafka's own term for a record on its way to a topic.
///
/// One is used for all rows of a subtask: a schema gets it empty.
public struct KafkaProducerRecord {
    /// A header of a record. Order, repetitions and null values are kept.
    public struct Header: Sendable, Equatable {
        public var key: String
        public var value: [UInt8]?
        public init(_ key: String, _ value: [UInt8]?) {
            self.key = key
            self.value = value
        }
    }

    /// The value's bytes. Nothing written means an empty value; see ``isTombstone`` for none.
    public var value: ByteWriter
    /// The key's bytes. Nothing written means an empty key if ``hasKey`` is set, else none.
    public var key: ByteWriter
    public var hasKey = false
    /// A record without a value: its key is deleted, to those who keep the last value of each.
    public var isTombstone = false
    /// Where it goes; nil for the sink's topic.
    public var topic: String?
    /// nil for the one that the key says.
    public var partition: Int32?
    /// Milliseconds since 1970; nil for the row's event time, or where it has none for the present.
    public var timestamp: Int64?
    public var headers: [Header] = []

    @usableFromInline
    init() {
        value = ByteWriter(capacity: 1_024)
        key = ByteWriter(capacity: 64)
    }

    @inlinable @inline(__always)
    mutating func reset() {
        value.removeAll()
        key.removeAll()
        hasKey = false
        isTombstone = false
        if topic != nil { topic = nil }
        partition = nil
        timestamp = nil
        if !headers.isEmpty { headers.removeAll(keepingCapacity: true) }
    }
}

/// How a sink makes records of rows: topic, partition, key, value, headers and time are all the schema's to say.
///
///     struct Routing: KafkaRecordSerializationSchema {
///         func serialize(_ row: Alarm, timestamp: Int64, into record: inout KafkaProducerRecord) throws -> Bool {
///             guard row.isUrgent else { return false }
///             record.topic = "alarms-\(row.region)"
///             …
///         }
///     }
///
/// For a value by a format and perhaps a key, a ``KafkaRowSchema`` is enough: `.kafka(_:topic:format:)` makes one.
public protocol KafkaRecordSerializationSchema<Row>: Sendable {
    associatedtype Row: Sendable

    /// As ``SerializationSchema/prepare()``: called once a subtask, on a thread that may wait.
    func prepare() throws

    /// Fills in the record of one row. Called on the slot's thread: it must not wait.
    ///
    /// - Parameters:
    ///   - timestamp: The row's event time, milliseconds since 1970; `AnyBatch.noTimestamp` if it has none.
    ///   - record: Empty.
    /// - Returns: False to write nothing for the row.
    /// - Throws: Why the row cannot be written. The job fails with it.
    func serialize(_ row: Row, timestamp: Int64, into record: inout KafkaProducerRecord) throws -> Bool
}

extension KafkaRecordSerializationSchema {
    public func prepare() throws {}
}

/// Records whose value a format makes, with a key if one is given: what `.kafka(_:topic:format:)` writes.
public struct KafkaRowSchema<Format: SerializationSchema>: KafkaRecordSerializationSchema {
    /// Appends a row's key. Nothing written means an empty key.
    public typealias Key = @Sendable (Format.Row, inout ByteWriter) -> Void

    @usableFromInline let format: Format
    @usableFromInline var key: Key?
    @usableFromInline var isDeletion: (@Sendable (Format.Row) -> Bool)?
    @usableFromInline var topic: (@Sendable (Format.Row) -> String)?
    @usableFromInline var partition: (@Sendable (Format.Row) -> Int32)?
    @usableFromInline var headers: (@Sendable (Format.Row) -> [KafkaProducerRecord.Header])?

    public init(_ format: Format) { self.format = format }

    public func prepare() throws { try format.prepare() }

    @inlinable @inline(__always)
    public func serialize(_ row: Format.Row, timestamp: Int64, into record: inout KafkaProducerRecord) throws -> Bool {
        if let key {
            record.hasKey = true
            key(row, &record.key)
        }
        if let topic { record.topic = topic(row) }
        if let partition { record.partition = partition(row) }
        if let headers { record.headers = headers(row) }
        if let isDeletion, isDeletion(row) {
            record.isTombstone = true
        } else {
            try format.encode(row, into: &record.value)
        }
        return true
    }
}
