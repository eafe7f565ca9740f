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

    /// - Parameters:
    ///   - keyGroups: Those of the subtask.
    ///   - maxParallelism: Key groups of the job.
    public init(keyGroups: Range<Int>, maxParallelism: Int) {
        self.keyGroups = keyGroups
        self.maxParallelism = maxParallelism
    }

    public convenience init(_ context: OperatorContext) {
        self.init(keyGroups: context.keyGroups, maxParallelism: context.maxParallelism)
    }

    /// Bytes of everything in it; not what values refer to.
    public var bytes: Int {
        parts.values.reduce(0) { sum, part in
            switch part {
            case .table(let table): sum + table.bytes
            case .windows(let windows): sum + windows.bytes
            case .timers(let timers): sum + timers.bytes
            }
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

    @inlinable
    public func value<Value: BinaryCodable>(_ name: String, of type: Value.Type = Value.self) throws -> ValueState<Value> {
        ValueState(table: try table(name, of: type), key: currentKey)
    }

    @inlinable
    public func list<Element: BinaryCodable>(_ name: String, of type: Element.Type = Element.self) throws -> ListState<Element> {
        ListState(table: try table(name, of: [Element].self), key: currentKey)
    }

    @inlinable
    public func map<Key: Hashable & BinaryCodable, Value: BinaryCodable>(
        _ name: String, of key: Key.Type = Key.self, to value: Value.Type = Value.self
    ) throws -> MapState<Key, Value> {
        MapState(table: try table(name, of: StateMapEntries<Key, Value>.self), key: currentKey)
    }

    @inlinable
    public func reducing<Value: BinaryCodable>(
        _ name: String, of type: Value.Type = Value.self, reduce: @escaping (Value, Value) throws -> Value
    ) throws -> ReducingState<Value> {
        ReducingState(state: try value(name, of: type), reduce: reduce)
    }

    @inlinable
    public func aggregating<Input, Accumulator: BinaryCodable>(
        _ name: String, initial: @escaping () -> Accumulator, add: @escaping (inout Accumulator, Input) throws -> Void
    ) throws -> AggregatingState<Input, Accumulator> {
        AggregatingState(state: try value(name, of: Accumulator.self), initial: initial, add: add)
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
                case .table(let table): try table.restore(from: &reader, filter: filter)
                case .windows(let windows): try windows.restore(from: &reader, filter: filter)
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
