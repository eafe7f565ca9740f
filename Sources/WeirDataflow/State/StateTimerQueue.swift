package import WeirBase

/// Timers, unique by (key, namespace, time), fired in the order of their times.
///
/// A table holds the timers, for uniqueness and snapshots, and a binary heap their order. Deleting takes a timer out of the table
/// only: what the heap still has of it is passed over when it comes up, and swept when it is more than half of the heap.
///
/// One queue for event time, another for processing time. One thread at a time uses it.
public final class TimerQueue {
    /// Rows: key is `| time: i64 | namespace: i64 | key |`, value the hash of the key alone, which decides the key group.
    private let rows = StateRowTable(operations: StateValueOperations(UInt64.self))
    private let heap = TimerHeap()
    private var scratch = ByteWriter(capacity: 64)
    /// What snapshots of timers have for a schema: `(namespace, time)`.
    static let schema = Schema.record(name: "Timer", fields: [.init("namespace", .int64), .init("time", .int64)])
    private static let keyOffset = 16
    private static let sweepMin = 64

    public init() {}

    /// Timers registered.
    public var count: Int { rows.count }
    /// Bytes of table and heap.
    public var bytes: Int { rows.bytes + heap.bytes }
    /// The time of the first timer, O(1) amortised.
    public var nextTime: Int64? {
        dropStale()
        return heap.first?.time
    }

    /// Registers a timer. Returns false if there was an equal one.
    @discardableResult
    public func register(hash: UInt64, keyBytes: UnsafeRawBufferPointer, namespace: Int64 = 0, time: Int64) -> Bool {
        withRowKey(keyBytes, namespace: namespace, time: time) { rowKey in
            let rowHash = KeyHash.hash(rowKey, seed: hash)
            let (number, inserted) = rows.findOrInsert(hash: rowHash, key: rowKey)
            guard inserted else { return false }
            (rows.writableRow(number) + rows.valueOffset).storeBytes(of: hash, as: UInt64.self)
            heap.push(TimerHeap.Entry(time: time, hash: rowHash, row: number))
            return true
        }
    }

    /// Deletes a timer. Returns whether there was one.
    @discardableResult
    public func delete(hash: UInt64, keyBytes: UnsafeRawBufferPointer, namespace: Int64 = 0, time: Int64) -> Bool {
        let removed = withRowKey(keyBytes, namespace: namespace, time: time) { rowKey in
            rows.remove(hash: KeyHash.hash(rowKey, seed: hash), key: rowKey)
        }
        if removed, heap.count > Self.sweepMin, heap.count > 2 * rows.count { sweep() }
        return removed
    }

    /// Fires every timer of a time up to the given one, in order, those included that the body registers.
    ///
    /// - Parameter body: Gets the key's hash, the key (lent for the call), namespace and time. The timer is gone when it is called.
    public func fire(
        upTo time: Int64, _ body: (_ hash: UInt64, _ key: UnsafeRawBufferPointer, _ namespace: Int64, _ time: Int64) throws -> Void
    ) rethrows {
        var held = ByteWriter(capacity: 64)
        while let first = heap.first, first.time <= time {
            heap.pop()
            guard isLive(first) else { continue }
            let row = rows.row(first.row)
            let rowKey = rows.key(of: row)
            let hash = row.load(fromByteOffset: rows.valueOffset, as: UInt64.self)
            let namespace = Int64(littleEndian: rowKey.loadUnaligned(fromByteOffset: 8, as: Int64.self))
            held.removeAll()
            held.writeBytes(UnsafeRawBufferPointer(rebasing: rowKey[Self.keyOffset...]))
            rows.forget(first.row)
            try held.withBytes { (key) throws in try body(hash, key, namespace, first.time) }
        }
    }

    private func withRowKey<Result>(
        _ key: UnsafeRawBufferPointer, namespace: Int64, time: Int64, _ body: (UnsafeRawBufferPointer) -> Result
    ) -> Result {
        scratch.removeAll()
        scratch.writeI64(time)
        scratch.writeI64(namespace)
        scratch.writeBytes(key)
        return scratch.withBytes(body)
    }

    // MARK: The heap

    /// A row number may have been given to a later timer: then this entry stands for that one if hash and time agree, and
    /// the later one's own entry is stale once it fired.
    private func isLive(_ entry: TimerHeap.Entry) -> Bool {
        guard rows.isLive(entry.row) else { return false }
        let row = rows.row(entry.row)
        return row.load(as: UInt64.self) == entry.hash
            && Int64(littleEndian: rows.key(of: row).loadUnaligned(as: Int64.self)) == entry.time
    }

    private func dropStale() {
        while let first = heap.first, !isLive(first) { heap.pop() }
    }

    private func sweep() {
        heap.removeAll()
        rows.forEachRow { number in
            let row = rows.row(number)
            let time = Int64(littleEndian: rows.key(of: row).loadUnaligned(as: Int64.self))
            heap.append(TimerHeap.Entry(time: time, hash: row.load(as: UInt64.self), row: number))
        }
        heap.order()
    }

    // MARK: Snapshots

    /// The timers as they are now, without copying.
    package func capture() -> StateTimersSnapshot { StateTimersSnapshot(rows: rows.capture()) }

    /// Registers the timers of a part whose keys the filter takes; those that are there stay.
    ///
    /// - Throws: ``DecodingFailure`` for anything that is not a whole part of timers.
    package func restore(from reader: inout ByteReader, filter: KeyGroupFilter) throws(DecodingFailure) {
        let blocks = try StateBlockReader(expecting: .timers, from: &reader)
        guard blocks.fingerprint == Self.schema.fingerprint else { throw DecodingFailure("timers of another schema", offset: 16) }
        try blocks.forEachRow(from: &reader) { (_, hash, key, values) throws(DecodingFailure) in
            let namespace = try values.readI64()
            let time = try values.readI64()
            if filter.contains(hash: hash) { register(hash: hash, keyBytes: key, namespace: namespace, time: time) }
        }
    }
}

/// Timers as they were at a capture: see ``StateTableSnapshot``.
package struct StateTimersSnapshot: Sendable, KeyedStatePart {
    let rows: StateTableSnapshot
    package var count: Int { rows.count }

    package func encode(into writer: inout ByteWriter) {
        var blocks = StateBlockWriter(kind: .timers, schema: TimerQueue.schema, rows: rows.count, expectedBytes: rows.bytes, into: &writer)
        for page in rows.pages {
            page.forEachRow { row in
                let rowKey = rows.key(of: row)
                let key = UnsafeRawBufferPointer(rebasing: rowKey[16...])
                let hash = row.load(fromByteOffset: page.valueOffset, as: UInt64.self)
                blocks.row(hash: hash, key: key, into: &writer) { block in
                    block.writeBytes(UnsafeRawBufferPointer(rebasing: rowKey[8..<16]))
                    block.writeBytes(UnsafeRawBufferPointer(rebasing: rowKey[0..<8]))
                }
            }
        }
        blocks.finish(into: &writer)
    }
}

/// A binary heap in raw memory: a sift touches it without checks for exclusivity and uniqueness.
final class TimerHeap {
    struct Entry {
        var time: Int64
        /// Breaks ties, so that the order is the same after a restore.
        var hash: UInt64
        var row: UInt32
        static func < (left: Entry, right: Entry) -> Bool {
            left.time != right.time ? left.time < right.time : left.hash < right.hash
        }
    }

    private var entries = UnsafeMutablePointer<Entry>.allocate(capacity: 16)
    private var capacity = 16
    private(set) var count = 0

    deinit { entries.deallocate() }

    var bytes: Int { capacity * MemoryLayout<Entry>.stride }
    var first: Entry? { count == 0 ? nil : entries[0] }

    func removeAll() { count = 0 }

    /// Adds an entry at the end: ``order()`` must follow.
    func append(_ entry: Entry) {
        if count == capacity {
            let larger = UnsafeMutablePointer<Entry>.allocate(capacity: capacity * 2)
            larger.initialize(from: entries, count: count)
            entries.deallocate()
            entries = larger
            capacity *= 2
        }
        entries[count] = entry
        count += 1
    }

    func order() {
        for parent in stride(from: count / 2 - 1, through: 0, by: -1) { siftDown(parent) }
    }

    func push(_ entry: Entry) {
        append(entry)
        let entries = entries
        var child = count - 1
        while child > 0 {
            let parent = (child - 1) / 2
            guard entry < entries[parent] else { break }
            entries[child] = entries[parent]
            child = parent
        }
        entries[child] = entry
    }

    /// Removes the first entry; there is one.
    func pop() {
        count -= 1
        guard count > 0 else { return }
        entries[0] = entries[count]
        siftDown(0)
    }

    private func siftDown(_ start: Int) {
        let entries = entries
        let count = count
        let entry = entries[start]
        var parent = start
        while true {
            var child = 2 * parent + 1
            guard child < count else { break }
            if child + 1 < count, entries[child + 1] < entries[child] { child += 1 }
            guard entries[child] < entry else { break }
            entries[parent] = entries[child]
            parent = child
        }
        entries[parent] = entry
    }
}

extension StateRowTable {
    /// Whether a row number still stands for a row; it may be that of a later key.
    func isLive(_ number: UInt32) -> Bool {
        let page = Int(number >> StateRow.unitBits)
        guard page < pages.count else { return false }
        let offset = Int(number & StateRow.unitMask) * 8
        guard offset + 16 <= pages[page].capacity else { return false }
        return core.pointee.pages[page].base.load(fromByteOffset: offset + StateRow.unitsOffset, as: UInt32.self) & StateRow.freeBit == 0
    }
}
