public import WeirBase

/// A table a namespace: for windows, whose namespace is their start.
///
/// A window that fires iterates one table and drops it whole; its index and pages go to the next window. Namespaces are kept in
/// order, so that the windows that end first are found without a search.
public final class WindowedTables<Value: BinaryCodable> {
    /// What the tables are kept in, apart from the type of the values.
    public let namespaces: StateNamespaces
    // One thread uses the tables: checking each access for another one costs two calls.
    @exclusivity(unchecked) @usableFromInline var lastNamespace: Int64 = 0
    @exclusivity(unchecked) @usableFromInline var lastTable: StateRowTable?
    /// Row numbers of a batch that still wait for their window, and those of the window at hand.
    @exclusivity(unchecked) @usableFromInline var waiting: [Int32] = []
    @exclusivity(unchecked) @usableFromInline var selected: [Int32] = []
    @exclusivity(unchecked) @usableFromInline var selectedHashes: [UInt64] = []

    @inlinable @inline(__always)
    public init() { namespaces = StateNamespaces(operations: StateValueOperations(Value.self)) }

    @inlinable @inline(__always)
    init(namespaces: StateNamespaces) { self.namespaces = namespaces }

    /// Open windows.
    public var count: Int { namespaces.count }
    /// Bytes of all tables, spare ones included; not what values refer to.
    public var bytes: Int { namespaces.bytes }
    /// The smallest namespace, O(1).
    public var first: Int64? { namespaces.first }
    /// Every namespace in rising order.
    public var all: [Int64] { namespaces.all }

    /// The table of a namespace, made if there is none.
    @inlinable @inline(__always)
    public func table(_ namespace: Int64) -> StateTable<Value> {
        if let lastTable, lastNamespace == namespace { return StateTable(rows: lastTable) }
        let table = namespaces.table(namespace)
        lastNamespace = namespace
        lastTable = table
        return StateTable(rows: table)
    }

    /// The table of a namespace, if there is one.
    @inlinable
    public func existing(_ namespace: Int64) -> StateTable<Value>? { namespaces.existing(namespace).map { StateTable(rows: $0) } }

    /// Drops a namespace with its keys, and keeps the memory for one to come.
    @inlinable
    public func remove(_ namespace: Int64) {
        lastTable = nil
        namespaces.remove(namespace)
    }

    /// Updates the values of many keys, each in its own namespace.
    ///
    /// Rows of one namespace are updated together and in order, namespaces in the order of their first row.
    /// - Parameters: As of ``StateTable/update(count:hashes:key:initial:body:)``.
    /// - Parameter namespace: The namespace of an index.
    @inlinable @inline(__always)
    public func update<Key: RecordKey>(
        count: Int, hashes: UnsafePointer<UInt64>, namespace: (Int) -> Int64, key: (Int) -> Key, initial: (Int) -> Value,
        body: (Int, inout Value) throws -> Void
    ) rethrows {
        guard count > 0 else { return }
        // Most batches lie in one window.
        let first = namespace(0)
        var same = 1
        while same < count, namespace(same) == first { same &+= 1 }
        try table(first).update(count: same, hashes: hashes, key: key, initial: initial, body: body)
        guard same < count else { return }
        waiting.removeAll(keepingCapacity: true)
        for index in same..<count { waiting.append(Int32(truncatingIfNeeded: index)) }
        while let head = waiting.first {
            let current = namespace(Int(head))
            selected.removeAll(keepingCapacity: true)
            selectedHashes.removeAll(keepingCapacity: true)
            var kept = 0
            for position in waiting.indices {
                let index = waiting[position]
                if namespace(Int(index)) == current {
                    selected.append(index)
                    selectedHashes.append(hashes[Int(index)])
                } else {
                    waiting[kept] = index
                    kept &+= 1
                }
            }
            waiting.removeLast(waiting.count &- kept)
            let rows = selected
            try selectedHashes.withUnsafeBufferPointer { selectedHashes in
                try table(current).update(
                    count: rows.count, hashes: selectedHashes.baseAddress!, key: { key(Int(rows[$0])) },
                    initial: { initial(Int(rows[$0])) }, body: { try body(Int(rows[$0]), &$1) })
            }
        }
    }
}

/// Tables by namespace, in order; not generic.
public final class StateNamespaces {
    let operations: StateValueOperations
    private var tables: [Int64: StateRowTable] = [:]
    private var sorted: [Int64] = []
    private var spare: [StateRowTable] = []
    private let versions = StatePageVersions()
    /// Emptied tables kept with their memory.
    private static let sparesMax = 4

    public init(operations: StateValueOperations) { self.operations = operations }

    public var count: Int { sorted.count }
    public var first: Int64? { sorted.first }
    public var all: [Int64] { sorted }
    public var bytes: Int { tables.values.reduce(0) { $0 + $1.bytes } + spare.reduce(0) { $0 + $1.bytes } }
    /// Keys of all namespaces.
    public var keyCount: Int { tables.values.reduce(0) { $0 + $1.count } }

    @usableFromInline
    func existing(_ namespace: Int64) -> StateRowTable? { tables[namespace] }

    @usableFromInline
    func table(_ namespace: Int64) -> StateRowTable {
        if let table = tables[namespace] { return table }
        let table = spare.popLast() ?? StateRowTable(operations: operations, versions: versions)
        tables[namespace] = table
        sorted.insert(namespace, at: position(namespace))
        return table
    }

    @usableFromInline
    func remove(_ namespace: Int64) {
        guard let table = tables.removeValue(forKey: namespace) else { return }
        sorted.remove(at: position(namespace))
        guard spare.count < Self.sparesMax else { return }
        table.removeAll(keepingCapacity: true)
        spare.append(table)
    }

    /// Where the namespace is in the order, or belongs.
    private func position(_ namespace: Int64) -> Int {
        var low = 0
        var high = sorted.count
        while low < high {
            let middle = (low + high) / 2
            if sorted[middle] < namespace { low = middle + 1 } else { high = middle }
        }
        return low
    }

    /// All tables as they are now, without copying rows. Namespaces without keys are left out.
    @usableFromInline
    func capture() -> StateNamespacesSnapshot {
        let filled = sorted.filter { tables[$0]!.count > 0 }
        return StateNamespacesSnapshot(tables: filled.map { ($0, tables[$0]!.capture()) }, schema: operations.schema)
    }

    /// Adds the rows of a part that the filter takes; see ``StateRowTable``.
    package func restore(
        from reader: inout ByteReader, filter: KeyGroupFilter, migration: (any StateMigration)? = nil
    ) throws(DecodingFailure) {
        let blocks = try StateBlockReader(expecting: .windows, from: &reader)
        let values = StateValueReader(operations, try operations.decoder(of: blocks, migration))
        try blocks.forEachRow(from: &reader) { (namespace, hash, key, bytes) throws(DecodingFailure) in
            guard filter.contains(hash: hash) else { return try values.skip(&bytes) }
            try table(namespace).restoreRow(hash: hash, key: key, from: &bytes, filter: filter, values: values)
        }
    }
}

/// Tables by namespace as they were at a capture: see ``StateTableSnapshot``.
@usableFromInline
struct StateNamespacesSnapshot: Sendable, KeyedStatePart {
    let tables: [(namespace: Int64, table: StateTableSnapshot)]
    let schema: Schema

    var count: Int { tables.reduce(0) { $0 + $1.table.count } }
    private var bytes: Int { tables.reduce(0) { $0 + $1.table.bytes } }

    package func encode(into writer: inout ByteWriter) {
        var blocks = StateBlockWriter(kind: .windows, schema: schema, rows: count, expectedBytes: bytes, into: &writer)
        for (namespace, table) in tables {
            blocks.begin(namespace: namespace, into: &writer)
            table.encodeRows(to: &blocks, into: &writer)
        }
        blocks.finish(into: &writer)
    }

    package func forEachPiece(_ body: (StatePiece) -> Void) {
        body(.header(kind: .windows, schema: schema, rows: count))
        for (namespace, table) in tables { table.forEachPage(namespace: namespace, body) }
        body(.end)
    }
}
