public import WeirBase

/// The key whose state a keyed function reads and writes: set by the operator before each record and timer.
public final class CurrentKey {
    @usableFromInline
    struct Storage {
        @usableFromInline var hash: UInt64 = 0
        @usableFromInline var base: UnsafeMutableRawPointer
        @usableFromInline var count = 0
        @usableFromInline var capacity: Int
    }
    // In raw memory, so that reading it for every record needs no exclusivity check.
    @usableFromInline let storage: UnsafeMutablePointer<Storage>

    public init() {
        storage = .allocate(capacity: 1)
        storage.initialize(to: Storage(base: .allocate(byteCount: 64, alignment: 8), capacity: 64))
    }

    deinit {
        storage.pointee.base.deallocate()
        storage.deallocate()
    }

    /// Copies the key.
    @inlinable
    public func set(hash: UInt64, keyBytes: UnsafeRawBufferPointer) {
        if keyBytes.count > storage.pointee.capacity { grow(keyBytes.count) }
        storage.pointee.hash = hash
        storage.pointee.count = keyBytes.count
        if let base = keyBytes.baseAddress { storage.pointee.base.copyMemory(from: base, byteCount: keyBytes.count) }
    }

    @inlinable @inline(__always)
    public func set<Key: RecordKey>(_ key: Key, hash: UInt64) { key.withKeyBytes { set(hash: hash, keyBytes: $0) } }

    @usableFromInline @inline(never)
    func grow(_ count: Int) {
        storage.pointee.base.deallocate()
        storage.pointee.base = .allocate(byteCount: count * 2, alignment: 8)
        storage.pointee.capacity = count * 2
    }

    @inlinable public var hash: UInt64 { storage.pointee.hash }
    /// Valid until the next key is set.
    @inlinable public var bytes: UnsafeRawBufferPointer { UnsafeRawBufferPointer(start: storage.pointee.base, count: storage.pointee.count) }
}

/// One value for the current key.
public struct ValueState<Value: BinaryCodable> {
    @usableFromInline let table: StateTable<Value>
    @usableFromInline let key: CurrentKey
    /// Nil without a TTL.
    @usableFromInline let expiry: StateExpiry?
    @inlinable init(table: StateTable<Value>, key: CurrentKey, expiry: StateExpiry? = nil) {
        self.table = table
        self.key = key
        self.expiry = expiry
    }

    /// The key's value; nil if it has none. Setting nil removes it.
    @inlinable
    public var value: Value? {
        get {
            if let expiry, !expiry.isReadable(key) { return nil }
            return table.find(hash: key.hash, keyBytes: key.bytes)?.pointee
        }
        nonmutating set {
            guard let newValue else { return clear() }
            expiry?.willWrite(key)
            let (place, inserted) = table.upsert(hash: key.hash, keyBytes: key.bytes)
            if inserted { place.initialize(to: newValue) } else { place.pointee = newValue }
            expiry?.wrote(key)
        }
    }

    /// Changes the key's value in place, from `initial` if it has none. The body must not use the state.
    @inlinable @inline(__always)
    public func update<Result>(from initial: @autoclosure () -> Value, _ body: (inout Value) throws -> Result) rethrows -> Result {
        expiry?.willWrite(key)
        let place = table.upsert(hash: key.hash, keyBytes: key.bytes, initial: initial())
        expiry?.wrote(key)
        return try body(&place.pointee)
    }

    /// Removes the key's value.
    @inlinable
    public func clear() { table.remove(hash: key.hash, keyBytes: key.bytes) }
}

/// A list for the current key, kept whole in memory. The first change of a key's list after a snapshot copies the list.
public struct ListState<Element: BinaryCodable> {
    @usableFromInline let table: StateTable<[Element]>
    @usableFromInline let key: CurrentKey
    /// Nil without a TTL.
    @usableFromInline let expiry: StateExpiry?
    @inlinable init(table: StateTable<[Element]>, key: CurrentKey, expiry: StateExpiry? = nil) {
        self.table = table
        self.key = key
        self.expiry = expiry
    }

    /// The key's list for writing, made if there is none.
    @inlinable
    func place() -> UnsafeMutablePointer<[Element]> {
        expiry?.willWrite(key)
        let place = table.upsert(hash: key.hash, keyBytes: key.bytes, initial: [])
        expiry?.wrote(key)
        return place
    }

    /// The key's elements in the order of their addition. Setting an empty list removes the key.
    @inlinable
    public var elements: [Element] {
        get {
            if let expiry, !expiry.isReadable(key) { return [] }
            return table.find(hash: key.hash, keyBytes: key.bytes)?.pointee ?? []
        }
        nonmutating set {
            guard !newValue.isEmpty else { return clear() }
            place().pointee = newValue
        }
    }

    @inlinable public var isEmpty: Bool {
        if let expiry { return !expiry.isReadable(key) }
        return table.find(hash: key.hash, keyBytes: key.bytes) == nil
    }

    @inlinable
    public func append(_ element: Element) { place().pointee.append(element) }

    /// Removes the key's list.
    @inlinable
    public func clear() { table.remove(hash: key.hash, keyBytes: key.bytes) }
}

/// The entries of one key's map; its binary form is an array of (key, value).
public struct StateMapEntries<Key: Hashable & BinaryCodable, Value: BinaryCodable>: BinaryCodable {
    @usableFromInline package var entries: [Key: Value] = [:]
    @inlinable init() {}
    package init(_ entries: [Key: Value]) { self.entries = entries }

    public static var schema: Schema { .array(.record(name: "Entry", fields: [.init("key", Key.schema), .init("value", Value.schema)])) }

    @inlinable
    public func encode(into writer: inout ByteWriter) {
        writer.writeVarint(UInt64(entries.count))
        for (key, value) in entries {
            key.encode(into: &writer)
            value.encode(into: &writer)
        }
    }

    @inlinable
    public init(from reader: inout ByteReader) throws(DecodingFailure) {
        let count = try reader.readCount()
        entries.reserveCapacity(count)
        for _ in 0..<count {
            let key = try Key(from: &reader)
            entries[key] = try Value(from: &reader)
        }
    }
}

/// A map for the current key, kept whole in memory. The first change of a key's map after a snapshot copies the map.
public struct MapState<Key: Hashable & BinaryCodable, Value: BinaryCodable> {
    @usableFromInline let table: StateTable<StateMapEntries<Key, Value>>
    @usableFromInline let key: CurrentKey
    /// Nil without a TTL.
    @usableFromInline let expiry: StateExpiry?
    @inlinable init(table: StateTable<StateMapEntries<Key, Value>>, key: CurrentKey, expiry: StateExpiry? = nil) {
        self.table = table
        self.key = key
        self.expiry = expiry
    }

    /// The key's map for reading.
    @inlinable
    func map() -> UnsafePointer<StateMapEntries<Key, Value>>? {
        if let expiry, !expiry.isReadable(key) { return nil }
        return table.find(hash: key.hash, keyBytes: key.bytes)
    }

    /// The value of an entry; nil if there is none. Setting nil removes it.
    @inlinable
    public subscript(entry: Key) -> Value? {
        get { map()?.pointee.entries[entry] }
        nonmutating set {
            expiry?.willWrite(key)
            if let newValue {
                let place = table.upsert(hash: key.hash, keyBytes: key.bytes, initial: .init())
                expiry?.wrote(key)
                place.pointee.entries[entry] = newValue
            } else if let place = table.findMutable(hash: key.hash, keyBytes: key.bytes) {
                expiry?.wrote(key)
                place.pointee.entries[entry] = nil
                // A key without entries has no row: state of keys that come and go stays small.
                if place.pointee.entries.isEmpty { clear() }
            }
        }
    }

    /// All entries, in no particular order.
    @inlinable public var entries: [Key: Value] { map()?.pointee.entries ?? [:] }
    @inlinable public var count: Int { map()?.pointee.entries.count ?? 0 }
    @inlinable public var isEmpty: Bool { count == 0 }

    /// Removes the key's map.
    @inlinable
    public func clear() { table.remove(hash: key.hash, keyBytes: key.bytes) }
}

/// One value for the current key, into which others are reduced.
public struct ReducingState<Value: BinaryCodable> {
    @usableFromInline let state: ValueState<Value>
    @usableFromInline let reduce: (Value, Value) throws -> Value
    @inlinable init(state: ValueState<Value>, reduce: @escaping (Value, Value) throws -> Value) {
        self.state = state
        self.reduce = reduce
    }

    @inlinable public var value: Value? { state.value }

    @inlinable
    public func add(_ value: Value) throws {
        guard let old = state.value else { return state.value = value }
        state.value = try reduce(old, value)
    }

    @inlinable public func clear() { state.clear() }
}

/// An accumulator for the current key, to which inputs are added.
public struct AggregatingState<Input, Accumulator: BinaryCodable> {
    @usableFromInline let state: ValueState<Accumulator>
    @usableFromInline let initial: () -> Accumulator
    @usableFromInline let add: (inout Accumulator, Input) throws -> Void
    @inlinable
    init(state: ValueState<Accumulator>, initial: @escaping () -> Accumulator, add: @escaping (inout Accumulator, Input) throws -> Void) {
        self.state = state
        self.initial = initial
        self.add = add
    }

    @inlinable public var accumulator: Accumulator? { state.value }
    @inlinable public func add(_ input: Input) throws { try state.update(from: initial()) { try add(&$0, input) } }
    @inlinable public func clear() { state.clear() }
}
