public import WeirBase

/// An open window of a key.
@usableFromInline
struct WindowEntry<Contents: BinaryCodable, TriggerState: BinaryCodable>: BinaryCodable {
    @usableFromInline var window: TimeWindow
    /// Nil before the first row, and after a purge.
    @usableFromInline var contents: Contents?
    @usableFromInline var trigger: TriggerState
    /// When the operator looks after the window next; `Int64.max` if never. Until then a session may have grown: then it looks again later.
    @usableFromInline var nextLook: Int64

    @inlinable
    init(window: TimeWindow, contents: Contents?, trigger: TriggerState, nextLook: Int64) {
        self.window = window
        self.contents = contents
        self.trigger = trigger
        self.nextLook = nextLook
    }

    @usableFromInline static var schema: Schema {
        .record(
            name: "Window",
            fields: [
                .init("start", .int64), .init("end", .int64), .init("contents", Contents?.schema), .init("trigger", TriggerState.schema),
                .init("nextLook", .int64),
            ])
    }

    @inlinable
    func encode(into writer: inout ByteWriter) {
        writer.writeI64(window.start)
        writer.writeI64(window.end)
        contents.encode(into: &writer)
        trigger.encode(into: &writer)
        writer.writeI64(nextLook)
    }

    @inlinable
    init(from reader: inout ByteReader) throws(DecodingFailure) {
        let window = TimeWindow(start: try reader.readI64(), end: try reader.readI64())
        let contents = try Contents?(from: &reader)
        let trigger = try TriggerState(from: &reader)
        self.init(window: window, contents: contents, trigger: trigger, nextLook: try reader.readI64())
    }
}

/// A row that a window keeps, with its time.
public struct TimestampedRow<Row: BinaryCodable>: BinaryCodable {
    public var row: Row
    /// Milliseconds since the epoch; `Int64.min` without event time.
    public var timestamp: Int64

    @inlinable
    public init(_ row: Row, timestamp: Int64) {
        self.row = row
        self.timestamp = timestamp
    }

    public static var schema: Schema { .record(name: "TimestampedRow", fields: [.init("row", Row.schema), .init("timestamp", .int64)]) }

    @inlinable
    public func encode(into writer: inout ByteWriter) {
        row.encode(into: &writer)
        writer.writeI64(timestamp)
    }

    @inlinable
    public init(from reader: inout ByteReader) throws(DecodingFailure) {
        let row = try Row(from: &reader)
        self.init(row, timestamp: try reader.readI64())
    }
}
