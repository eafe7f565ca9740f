public import WeirBase

/// How long the state of a key is kept after it was last used, by the wall clock. What has expired is never returned.
///
///     let seen = try state.value("seen", of: Bool.self, ttl: StateTTL(.seconds(3_600)))
///
/// The state of a key expires as a whole: a list or map stays as long as something is added to it. State with a TTL and state without are of
/// different types, so that the one cannot be restored as the other.
///
/// What expired is removed when it is come upon: by a read or write of its key, by the look at some further keys that goes with each of them,
/// and when a savepoint is taken.
public struct StateTTL: Sendable, Equatable {
    /// What begins the time anew.
    public enum Update: Sendable {
        case onCreateAndWrite
        case onReadAndWrite
    }

    /// At least 1 ms.
    public var time: Duration
    public var update: Update

    public init(_ time: Duration, update: Update = .onCreateAndWrite) {
        self.time = time
        self.update = update
    }
}

/// A value and when it was last used: what a table with a TTL holds.
public struct TimedValue<Value: BinaryCodable>: BinaryCodable {
    /// Milliseconds since 1970. First, so that its place does not depend on the value's type.
    @usableFromInline package var time: Int64
    @usableFromInline package var value: Value

    package init(time: Int64, value: Value) {
        self.time = time
        self.value = value
    }

    public static var schema: Schema { .record(name: "TimedValue", fields: [.init("time", .int64), .init("value", Value.schema)]) }

    /// Where the value begins.
    @usableFromInline static var valueOffset: Int { (8 + MemoryLayout<Value>.alignment - 1) & ~(MemoryLayout<Value>.alignment - 1) }

    @inlinable
    public func encode(into writer: inout ByteWriter) {
        writer.writeI64(time)
        value.encode(into: &writer)
    }

    @inlinable
    public init(from reader: inout ByteReader) throws(DecodingFailure) {
        time = try reader.readI64()
        value = try Value(from: &reader)
    }
}

/// The times of a table with a TTL. One thread at a time uses it.
@usableFromInline
final class StateExpiry {
    private let rows: StateRowTable
    private let ttl: Int64
    private let updatesOnRead: Bool
    private let wallTime: () -> Int64
    private var cursor = StateRowTable.Cursor()
    /// Rows looked at with each access: so a table in use is gone through again and again, and no access waits for it.
    private static let lookedAt = 4

    /// - Parameter wallTime: Milliseconds since 1970.
    init(_ rows: StateRowTable, _ ttl: StateTTL, wallTime: @escaping () -> Int64) {
        self.rows = rows
        self.ttl = Swift.max(1, ttl.time.inMilliseconds)
        updatesOnRead = ttl.update == .onReadAndWrite
        self.wallTime = wallTime
    }

    /// The latest time that has expired.
    var expired: Int64 { wallTime() &- ttl }

    /// Whether the key has a value that has not expired. One that has is removed.
    @usableFromInline
    func isReadable(_ key: CurrentKey) -> Bool {
        let now = wallTime()
        defer { rows.removeExpired(upTo: now &- ttl, from: &cursor, rows: Self.lookedAt) }
        let number = rows.find(hash: key.hash, key: key.bytes)
        guard number != 0 else { return false }
        guard rows.time(number) > now &- ttl else {
            rows.remove(hash: key.hash, key: key.bytes)
            return false
        }
        if updatesOnRead { rows.setTime(number, now) }
        return true
    }

    /// Removes the key's value if it has expired: what is written begins anew.
    @usableFromInline
    func willWrite(_ key: CurrentKey) {
        let number = rows.find(hash: key.hash, key: key.bytes)
        if number != 0, rows.time(number) <= expired { rows.remove(hash: key.hash, key: key.bytes) }
    }

    /// The key has a row that was written just now. Pointers to its value stay valid.
    @usableFromInline
    func wrote(_ key: CurrentKey) {
        let now = wallTime()
        let number = rows.find(hash: key.hash, key: key.bytes)
        if number != 0 { rows.setTime(number, now) }
        rows.removeExpired(upTo: now &- ttl, from: &cursor, rows: Self.lookedAt)
    }
}

extension StateRowTable {
    /// A place in the order of rows.
    struct Cursor {
        var page = 0
        var offset = 0
    }

    func time(_ number: UInt32) -> Int64 { row(number).load(fromByteOffset: valueOffset, as: Int64.self) }
    func setTime(_ number: UInt32, _ time: Int64) { writableRow(number).storeBytes(of: time, toByteOffset: valueOffset, as: Int64.self) }

    /// Removes those of the next rows whose time has expired, of a table of ``TimedValue``s.
    ///
    /// - Parameters:
    ///   - cursor: Where to begin; moved on, and at the end back to the first row.
    ///   - rows: How many to look at.
    func removeExpired(upTo expired: Int64, from cursor: inout Cursor, rows count: Int) {
        sealTail()
        for _ in 0..<count {
            while cursor.page < pages.count, cursor.offset < pages[cursor.page].startOffset || cursor.offset >= pages[cursor.page].used {
                if cursor.offset < pages[cursor.page].startOffset {
                    cursor.offset = pages[cursor.page].startOffset
                } else {
                    cursor = Cursor(page: cursor.page + 1)
                }
            }
            guard cursor.page < pages.count else {
                cursor = Cursor()
                return
            }
            let row = core.pointee.pages[cursor.page].base + cursor.offset
            let units = row.load(fromByteOffset: StateRow.unitsOffset, as: UInt32.self)
            let number = UInt32(cursor.page) << StateRow.unitBits | UInt32(cursor.offset / 8)
            cursor.offset += Int(units & ~StateRow.freeBit) * 8
            guard units & StateRow.freeBit == 0, row.load(fromByteOffset: valueOffset, as: Int64.self) <= expired else { continue }
            operations.destroy(writableRow(number) + valueOffset)
            forget(number)
        }
    }
}
