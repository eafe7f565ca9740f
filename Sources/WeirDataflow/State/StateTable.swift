public import WeirBase

/// Values by key in raw memory, with snapshots that do not stall: see ``StateRowTable``.
///
/// Generic code around the raw table, inlined into the job's module and specialised there. Pointers to values stay valid until
/// the next insertion, removal or capture. A reference: copies share the table. One thread at a time uses it.
public struct StateTable<Value: BinaryCodable> {
    public let rows: StateRowTable
    /// Where a row's value begins.
    @usableFromInline let valueOffset: Int

    @inlinable @inline(__always)
    public init() { self.init(rows: StateRowTable(operations: StateValueOperations(Value.self))) }

    /// For a table made by ``WindowedTables`` or a registry: `rows` was made with the operations of `Value`.
    @inlinable @inline(__always)
    init(rows: StateRowTable) {
        self.rows = rows
        valueOffset = rows.valueOffset
    }

    /// For a table with a TTL: `rows` was made with the operations of `TimedValue<Value>`. Whoever inserts sets the time.
    @inlinable @inline(__always)
    init(timed rows: StateRowTable) {
        self.rows = rows
        valueOffset = rows.valueOffset + TimedValue<Value>.valueOffset
    }

    /// Keys in the table.
    @inlinable public var count: Int { rows.count }
    /// Bytes of pages and index; not what values refer to.
    @inlinable public var bytes: Int { rows.bytes }

    @inlinable @inline(__always)
    func value(_ row: UnsafeMutableRawPointer) -> UnsafeMutablePointer<Value> {
        (row + valueOffset).assumingMemoryBound(to: Value.self)
    }

    /// The key's value, for reading.
    @inlinable @inline(__always)
    public func find(hash: UInt64, keyBytes: UnsafeRawBufferPointer) -> UnsafePointer<Value>? {
        let number = rows.find(hash: hash, key: keyBytes)
        return number == 0 ? nil : UnsafePointer(value(rows.row(number)))
    }

    /// The key's value, for writing.
    @inlinable @inline(__always)
    public func findMutable(hash: UInt64, keyBytes: UnsafeRawBufferPointer) -> UnsafeMutablePointer<Value>? {
        let number = rows.find(hash: hash, key: keyBytes)
        return number == 0 ? nil : value(rows.writableRow(number))
    }

    /// The key's value, for writing; where `inserted`, the caller initialises it before it does anything else with the table.
    @inlinable @inline(__always)
    public func upsert(hash: UInt64, keyBytes: UnsafeRawBufferPointer) -> (value: UnsafeMutablePointer<Value>, inserted: Bool) {
        let (number, inserted) = rows.findOrInsert(hash: hash, key: keyBytes)
        return (value(rows.writableRow(number)), inserted)
    }

    /// The key's value, for writing; `initial` if it had none.
    @inlinable @inline(__always)
    public func upsert(
        hash: UInt64, keyBytes: UnsafeRawBufferPointer, initial: @autoclosure () -> Value
    ) -> UnsafeMutablePointer<Value> {
        let (value, inserted) = upsert(hash: hash, keyBytes: keyBytes)
        if inserted { value.initialize(to: initial()) }
        return value
    }

    /// Removes the key. Returns whether it was there.
    @inlinable @discardableResult
    public func remove(hash: UInt64, keyBytes: UnsafeRawBufferPointer) -> Bool { rows.remove(hash: hash, key: keyBytes) }

    /// Removes every key; `keepingCapacity` keeps memory for the keys to come.
    @inlinable
    public func removeAll(keepingCapacity: Bool = false) { rows.removeAll(keepingCapacity: keepingCapacity) }

    /// Updates the values of many keys in order, with the cache misses of 64 keys at a time overlapping.
    ///
    /// - Parameters:
    ///   - count: Keys; equal ones may come any number of times.
    ///   - hashes: Of the keys, `count` of them.
    ///   - key: The key at an index.
    ///   - initial: The value of a key that the table does not have, before `body` gets it.
    ///   - body: Updates one value. It must not use the table.
    @inlinable @inline(__always)
    public func update<Key: RecordKey>(
        count: Int, hashes: UnsafePointer<UInt64>, key: (Int) -> Key, initial: (Int) -> Value,
        body: (Int, inout Value) throws -> Void
    ) rethrows {
        var start = 0
        while start < count {
            let group = Swift.min(count &- start, StateRowTable.groupSize)
            rows.prepare(group, hashes: hashes + start)
            for lane in 0..<group {
                let hash = hashes[start &+ lane]
                let (row, inserted) = key(start &+ lane).withKeyBytes { rows.resolve(lane: lane, hash: hash, key: $0) }
                let place = value(row)
                if inserted { place.initialize(to: initial(start &+ lane)) }
                try body(start &+ lane, &place.pointee)
            }
            start &+= group
        }
    }

    /// Finds or makes the values of many keys at once.
    ///
    /// - Parameters: As of ``update(count:hashes:key:initial:body:)``.
    /// - Parameter body: Gets a pointer a key, in order; equal keys have equal pointers.
    @inlinable @inline(__always)
    public func withSlots<Key: RecordKey, Result>(
        count: Int, hashes: UnsafePointer<UInt64>, key: (Int) -> Key, initial: (Int) -> Value,
        _ body: (UnsafePointer<UnsafeMutablePointer<Value>>) throws -> Result
    ) rethrows -> Result {
        try withUnsafeTemporaryAllocation(of: UnsafeMutablePointer<Value>.self, capacity: Swift.max(count, 1)) { slots in
            var start = 0
            while start < count {
                let group = Swift.min(count &- start, StateRowTable.groupSize)
                rows.prepare(group, hashes: hashes + start)
                for lane in 0..<group {
                    let hash = hashes[start &+ lane]
                    let (row, inserted) = key(start &+ lane).withKeyBytes { rows.resolve(lane: lane, hash: hash, key: $0) }
                    let place = value(row)
                    if inserted { place.initialize(to: initial(start &+ lane)) }
                    slots.initializeElement(at: start &+ lane, to: place)
                }
                start &+= group
            }
            return try body(UnsafePointer(slots.baseAddress!))
        }
    }

    /// Lends every key and value, in the order of their places (that of insertion, as long as none was removed).
    @inlinable @inline(__always)
    public func forEach(_ body: (_ hash: UInt64, _ key: UnsafeRawBufferPointer, _ value: Value) throws -> Void) rethrows {
        try rows.forEachRow { number in
            let row = rows.row(number)
            try body(row.load(as: UInt64.self), rows.key(of: row), value(row).pointee)
        }
    }

    /// Removes the keys whose value the body says to remove.
    @inlinable
    public func removeAll(where shouldRemove: (_ key: UnsafeRawBufferPointer, _ value: Value) -> Bool) {
        rows.forEachRow { number in
            let row = rows.row(number)
            guard shouldRemove(rows.key(of: row), value(row).pointee) else { return }
            rows.operations.destroy(rows.writableRow(number) + rows.valueOffset)
            rows.forget(number)
        }
    }

    /// The table as it is now, without copying: ``StateRowTable``.
    @inlinable
    public func capture() -> StateTableSnapshot { rows.capture() }

    /// Adds the rows of a part that the filter takes.
    package func restore(from reader: inout ByteReader, filter: KeyGroupFilter) throws(DecodingFailure) {
        try rows.restore(from: &reader, filter: filter)
    }
}

extension StateRowTable {
    /// The row of a key that ``prepare(_:hashes:)`` looked up, for writing.
    @inlinable @inline(__always)
    func resolve(lane: Int, hash: UInt64, key: UnsafeRawBufferPointer) -> (row: UnsafeMutableRawPointer, inserted: Bool) {
        let candidate = candidates[lane]
        if candidate != 0, matches(row(candidate), hash: hash, key: key) { return (writableRow(candidate), false) }
        let (number, inserted) = findOrInsert(hash: hash, key: key)
        return (writableRow(number), inserted)
    }
}
