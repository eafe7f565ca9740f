public import WeirBase

/// The keyed state of one operator by name: tables, window tables and timers, snapshotted and restored together.
///
/// Declare states before the operator's `restore(from:)`, or at the latest before its first record: what a checkpoint has for a state
/// declared later is kept until the first snapshot. One thread at a time uses it.
public final class KeyedStateStore {
    private enum Part {
        case table(StateRowTable)
        case windows(StateNamespaces)
        case timers(TimerQueue)
    }

    public let currentKey = CurrentKey()
    private let keyGroups: Range<Int>
    private let maxParallelism: Int
    private var parts: [String: Part] = [:]
    private var pending: [String: [RestoredState.Keyed]] = [:]
    /// Milliseconds since 1970.
    private let wallTime: () -> Int64
    private let memoryLimit: StateMemoryLimit?
    private let migration: (any StateMigration)?

    /// - Parameters:
    ///   - keyGroups: Those of the subtask.
    ///   - maxParallelism: Key groups of the job.
    ///   - wallTime: Milliseconds since 1970, for states with a TTL.
    ///   - memoryLimit: Nil: as much as there is.
    ///   - migration: Nil: state of another schema is refused.
    package init(
        keyGroups: Range<Int>, maxParallelism: Int, wallTime: @escaping () -> Int64 = { 0 }, memoryLimit: StateMemoryLimit? = nil,
        migration: (any StateMigration)? = nil
    ) {
        self.keyGroups = keyGroups
        self.maxParallelism = maxParallelism
        self.wallTime = wallTime
        self.memoryLimit = memoryLimit
        self.migration = migration
    }

    /// - Throws: `JobFailure` for a limit of the memory that is none.
    package convenience init(_ context: OperatorContext, migration: any StateMigration) throws {
        self.init(
            keyGroups: context.keyGroups, maxParallelism: context.maxParallelism,
            wallTime: { [clock = context.clock] in clock.wallTime.milliseconds },
            memoryLimit: try StateMemoryLimit(context.settings), migration: migration)
    }

    /// Bytes by state, sorted by name; not what values refer to.
    package var bytesByState: [(name: String, bytes: Int)] { parts.map { ($0.key, bytes(of: $0.value)) }.sorted { $0.0 < $1.0 } }

    /// Called for every batch: sees now and then whether the states are larger than they may be.
    ///
    /// - Throws: `JobFailure` naming the states and their sizes.
    package func checkMemory() throws {
        guard let memoryLimit, memoryLimit.isDue() else { return }
        try memoryLimit.check(bytesByState)
    }

    /// Bytes of everything in it; not what values refer to.
    public var bytes: Int { parts.values.reduce(0) { $0 + bytes(of: $1) } }

    private func bytes(of part: Part) -> Int {
        switch part {
        case .table(let table): table.bytes
        case .windows(let windows): windows.bytes
        case .timers(let timers): timers.bytes
        }
    }

    /// Names of restored states that no declaration asked for, sorted.
    public var unclaimed: [String] { pending.keys.sorted() }

    // MARK: Declaring

    /// - Throws: `JobFailure` if the name has another type already, or if a checkpoint's bytes of it are damaged or of another type.
    @inlinable
    public func table<Value: BinaryCodable>(_ name: String, of type: Value.Type = Value.self) throws -> StateTable<Value> {
        StateTable(rows: try declareTable(name, StateValueOperations(type)))
    }

    /// The window tables of a name; an operator declares them once.
    @inlinable
    public func windows<Value: BinaryCodable>(_ name: String, of type: Value.Type = Value.self) throws -> WindowedTables<Value> {
        WindowedTables(namespaces: try declareWindows(name, StateValueOperations(type)))
    }

    /// - Parameter ttl: How long a key's value is kept; nil: for ever.
    @inlinable
    public func value<Value: BinaryCodable>(_ name: String, of type: Value.Type = Value.self, ttl: StateTTL? = nil) throws -> ValueState<Value> {
        guard let ttl else { return ValueState(table: try table(name, of: type), key: currentKey) }
        let rows = try declareTable(name, StateValueOperations(TimedValue<Value>.self))
        return ValueState(table: StateTable(timed: rows), key: currentKey, expiry: try expiry(name, rows, ttl))
    }

    /// - Parameter ttl: How long a key's list is kept, as a whole; nil: for ever.
    @inlinable
    public func list<Element: BinaryCodable>(_ name: String, of type: Element.Type = Element.self, ttl: StateTTL? = nil) throws -> ListState<Element>
    {
        let value = try value(name, of: [Element].self, ttl: ttl)
        return ListState(table: value.table, key: currentKey, expiry: value.expiry)
    }

    /// - Parameter ttl: How long a key's map is kept, as a whole; nil: for ever.
    @inlinable
    public func map<Key: Hashable & BinaryCodable, Value: BinaryCodable>(
        _ name: String, of key: Key.Type = Key.self, to value: Value.Type = Value.self, ttl: StateTTL? = nil
    ) throws -> MapState<Key, Value> {
        let entries = try self.value(name, of: StateMapEntries<Key, Value>.self, ttl: ttl)
        return MapState(table: entries.table, key: currentKey, expiry: entries.expiry)
    }

    /// - Parameter ttl: How long a key's value is kept; nil: for ever.
    @inlinable
    public func reducing<Value: BinaryCodable>(
        _ name: String, of type: Value.Type = Value.self, ttl: StateTTL? = nil, reduce: @escaping (Value, Value) throws -> Value
    ) throws -> ReducingState<Value> {
        ReducingState(state: try value(name, of: type, ttl: ttl), reduce: reduce)
    }

    /// - Parameter ttl: How long a key's accumulator is kept; nil: for ever.
    @inlinable
    public func aggregating<Input, Accumulator: BinaryCodable>(
        _ name: String, ttl: StateTTL? = nil, initial: @escaping () -> Accumulator, add: @escaping (inout Accumulator, Input) throws -> Void
    ) throws -> AggregatingState<Input, Accumulator> {
        AggregatingState(state: try value(name, of: Accumulator.self, ttl: ttl), initial: initial, add: add)
    }

    @usableFromInline
    func expiry(_ name: String, _ rows: StateRowTable, _ ttl: StateTTL) throws -> StateExpiry {
        guard ttl.time >= .milliseconds(1) else {
            throw JobFailure(
                domain: .configuration, recovery: .fail,
                message: "the TTL of the keyed state \"\(name)\" is \(formatDuration(ttl.time)), less than 1 ms")
        }
        let expiry = StateExpiry(rows, ttl, wallTime: wallTime)
        rows.expired = { expiry.expired }
        return expiry
    }

    public func timers(_ name: String) throws -> TimerQueue {
        if case .timers(let timers)? = parts[name] { return timers }
        let timers = TimerQueue()
        try declare(name, .timers(timers))
        return timers
    }

    @usableFromInline
    func declareTable(_ name: String, _ operations: StateValueOperations) throws -> StateRowTable {
        if case .table(let table)? = parts[name], table.operations.fingerprint == operations.fingerprint { return table }
        let table = StateRowTable(operations: operations)
        try declare(name, .table(table))
        return table
    }

    @usableFromInline
    func declareWindows(_ name: String, _ operations: StateValueOperations) throws -> StateNamespaces {
        if case .windows(let windows)? = parts[name], windows.operations.fingerprint == operations.fingerprint { return windows }
        let windows = StateNamespaces(operations: operations)
        try declare(name, .windows(windows))
        return windows
    }

    private func declare(_ name: String, _ part: Part) throws {
        guard parts[name] == nil else {
            throw JobFailure(domain: .configuration, recovery: .fail, message: "the keyed state \"\(name)\" is declared twice, with different types")
        }
        parts[name] = part
        for bytes in pending.removeValue(forKey: name) ?? [] { try restore(bytes, to: part) }
    }

    // MARK: Snapshots

    /// Captures every state: no rows are copied.
    public func snapshot(into builder: SnapshotBuilder) {
        pending = [:]
        for (name, part) in parts.sorted(by: { $0.key < $1.key }) {
            switch part {
            case .table(let table): builder.addKeyed(name, keyGroups: keyGroups, table.capture())
            case .windows(let windows): builder.addKeyed(name, keyGroups: keyGroups, windows.capture())
            case .timers(let timers): builder.addKeyed(name, keyGroups: keyGroups, timers.capture())
            }
        }
    }

    /// Takes from all parts the rows whose keys this subtask owns.
    ///
    /// - Throws: `JobFailure` naming the state whose bytes are damaged or of another type.
    public func restore(from state: RestoredState) throws {
        for bytes in state.keyed {
            if let part = parts[bytes.name] {
                try restore(bytes, to: part)
            } else {
                pending[bytes.name, default: []].append(bytes)
            }
        }
    }

    private func restore(_ keyed: RestoredState.Keyed, to part: Part) throws {
        let filter = KeyGroupFilter(groups: keyGroups, maxParallelism: maxParallelism)
        do {
            try keyed.bytes.withUnsafeBytes { bytes in
                var reader = ByteReader(bytes)
                switch part {
                case .table(let table): try table.restore(from: &reader, filter: filter, migration: migration)
                case .windows(let windows): try windows.restore(from: &reader, filter: filter, migration: migration)
                case .timers(let timers): try timers.restore(from: &reader, filter: filter)
                }
                try reader.expectEnd()
            }
        } catch let failure as DecodingFailure {
            throw JobFailure(
                domain: .external, recovery: .fail, message: "cannot restore the keyed state \"\(keyed.name)\"", cause: failure.description)
        }
    }
}
