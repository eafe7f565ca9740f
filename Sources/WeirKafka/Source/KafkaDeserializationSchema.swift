public import WeirFormats

/// How a source makes rows of whole records: value, key, headers, time and place. For values alone a `DeserializationSchema` is enough:
/// see ``KafkaValues``.
///
///     struct WithKey: KafkaDeserializationSchema {
///         let values = JSONFormat<Reading>()
///         func decode(_ record: KafkaRecord, emit: (consuming KeyedReading) throws -> Void) throws {
///             guard let value = record.value else { return }  // A tombstone.
///             try emit(KeyedReading(key: record.key.map { [UInt8]($0) }, reading: try values.decode(value)))
///         }
///     }
///
/// What a schema throws means what it means for a `DeserializationSchema`. A schema that is `@inlinable` is specialised in the job's module.
public protocol KafkaDeserializationSchema<Row>: Sendable {
    associatedtype Row: Sendable

    /// Makes the rows of one record, none or many, and hands each to `emit`. A record that throws gives no row.
    ///
    /// Called on the slot's thread: it must not wait. Tombstones come too.
    func decode(_ record: KafkaRecord, emit: (consuming Row) throws -> Void) throws

    /// Whether a row marks the end of the partition that it came from. It is not passed on, nor is what lies behind it read. Once all its
    /// partitions have ended, the subtask has too.
    func isEndOfStream(_ row: Row) -> Bool
}

extension KafkaDeserializationSchema {
    @inlinable @inline(__always)
    public func isEndOfStream(_ row: Row) -> Bool { false }
}

/// Rows out of the values of records. Tombstones have none and are left out; they are counted as `tombstones`.
public struct KafkaValues<Format: DeserializationSchema>: KafkaDeserializationSchema {
    public typealias Row = Format.Row
    @usableFromInline let format: Format

    @inlinable
    public init(_ format: Format) { self.format = format }

    @inlinable @inline(__always)
    public func decode(_ record: KafkaRecord, emit: (consuming Row) throws -> Void) throws {
        guard let value = record.value else { return }
        try format.decode(value, emit: emit)
    }

    @inlinable @inline(__always)
    public func isEndOfStream(_ row: Row) -> Bool { format.isEndOfStream(row) }
}
