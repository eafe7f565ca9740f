public import WeirBase

/// What a window of a key came to.
public struct WindowResult<Key: RecordKey, Value: BinaryCodable>: BinaryCodable {
    public var key: Key
    public var windowStart: Int64
    public var windowEnd: Int64
    public var value: Value

    @inlinable
    public init(key: Key, window: TimeWindow, value: Value) {
        self.key = key
        windowStart = window.start
        windowEnd = window.end
        self.value = value
    }

    public static var schema: Schema {
        .record(
            name: "WindowResult",
            fields: [
                .init("key", Key.schema), .init("windowStart", .int64), .init("windowEnd", .int64), .init("value", Value.schema),
            ])
    }

    @inlinable
    public func encode(into writer: inout ByteWriter) {
        key.encode(into: &writer)
        writer.writeI64(windowStart)
        writer.writeI64(windowEnd)
        value.encode(into: &writer)
    }

    @inlinable
    public init(from reader: inout ByteReader) throws(DecodingFailure) {
        let key = try Key(from: &reader)
        let window = TimeWindow(start: try reader.readI64(), end: try reader.readI64())
        self.init(key: key, window: window, value: try Value(from: &reader))
    }
}

extension WindowResult: Equatable where Value: Equatable {}
extension WindowResult: Hashable where Value: Hashable {}
