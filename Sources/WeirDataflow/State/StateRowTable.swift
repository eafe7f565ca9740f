internal import WeirBase

/// What ``StateRowTable`` reads a record: in raw memory, so that reads need no exclusivity check.
@usableFromInline
struct StateTableCore {
    @usableFromInline
    struct PageEntry {
        @usableFromInline var base: UnsafeMutableRawPointer
        /// The table's epoch at the last time the page was known to be its own.
        @usableFromInline var epoch: UInt32
    }
    /// Entries `tag << 32 | row number`, 0 where empty; linear probing from `tag & mask`.
    @usableFromInline var index: UnsafeMutablePointer<UInt64>
    @usableFromInline var mask: Int
    @usableFromInline var pages: UnsafeMutablePointer<PageEntry>
    /// Rises by one a capture: pages of an older epoch may be held by a snapshot.
    @usableFromInline var epoch: UInt32
    @usableFromInline var count: Int
    var pageCapacity: Int
    var growAt: Int
    var tailPage: Int
    var tailOffset: Int
    var tailEnd: Int
    var freeRows: Int
}

/// Keys and values in raw memory: an open-addressing index over pages of rows.
///
/// The index holds 8 bytes an entry (32 bits of row number, 32 bits of the hash) at a load of at most 0.7; rows hold hash, key and
/// value (``StateRow``) and never move except when their page is copied, so that pointers stay valid until the next capture,
/// removal or call that inserts. ``capture()`` copies page references only; a page is copied at the first write after it while the
/// snapshot lives. At most 32 GiB of rows a table.
///
/// One thread at a time uses it. Not generic: ``StateTable`` puts the type of the values around it.
public final class StateRowTable {
    @usableFromInline let core: UnsafeMutablePointer<StateTableCore>
    @usableFromInline let valueOffset: Int
    @usableFromInline let keyOffset: Int
    @usableFromInline let operations: StateValueOperations
    /// Row numbers of a group of keys looked up together.
    @usableFromInline let candidates: UnsafeMutablePointer<UInt32>
    /// Keys looked up together: their cache misses overlap, and their rows still fit the first-level cache.
    @usableFromInline static let groupSize = 64

    var pages: [StatePage] = []
    private var freePages: [Int] = []
    /// Free rows by size in units.
    private var freeRows: [Int: [UInt32]] = [:]
    /// Pages of full size kept by ``removeAll(keepingCapacity:)``.
    private var sparePages: [StatePage] = []
    private var pageBytes = 0
    private static let indexMin = 16
    private let versions: StatePageVersions
    /// Of a table with a TTL: the latest time that has expired. Such a table holds ``TimedValue``s.
    var expired: (() -> Int64)?

    public convenience init(operations: StateValueOperations) { self.init(operations: operations, versions: StatePageVersions()) }

    /// - Parameter versions: Those of the state that the table is part of.
    init(operations: StateValueOperations, versions: StatePageVersions) {
        self.versions = versions
        self.operations = operations
        valueOffset = (16 + operations.alignment - 1) & ~(operations.alignment - 1)
        keyOffset = valueOffset + operations.paddedSize
        candidates = .allocate(capacity: Self.groupSize)
        core = .allocate(capacity: 1)
        let index = UnsafeMutablePointer<UInt64>.allocate(capacity: Self.indexMin)
        index.initialize(repeating: 0, count: Self.indexMin)
        core.initialize(
            to: StateTableCore(
                index: index, mask: Self.indexMin - 1, pages: .allocate(capacity: 4), epoch: 1, count: 0, pageCapacity: 4,
                growAt: Self.growth(Self.indexMin), tailPage: -1, tailOffset: 0, tailEnd: 0, freeRows: 0))
    }

    deinit {
        sealTail()  // Pages destroy their values up to `used`.
        core.pointee.index.deallocate()
        core.pointee.pages.deallocate()
        core.deallocate()
        candidates.deallocate()
    }

    /// Keys in the table.
    @inlinable public var count: Int { core.pointee.count }

    /// Bytes of pages and index, spare ones included; not what values refer to (strings, arrays).
    public var bytes: Int {
        pageBytes + (core.pointee.mask + 1) * 8 + core.pointee.pageCapacity * MemoryLayout<StateTableCore.PageEntry>.stride
            + core.pointee.freeRows * 4
    }

    private static func growth(_ capacity: Int) -> Int { capacity / 10 * 7 + capacity % 10 * 7 / 10 }

    // MARK: Looking up

    /// The hash's bits in the index: the low half, because the high half decides the key group and so is alike in a subtask.
    @inlinable @inline(__always)
    static func tag(_ hash: UInt64) -> UInt32 { UInt32(truncatingIfNeeded: hash) }

    @inlinable @inline(__always)
    func row(_ number: UInt32) -> UnsafeMutableRawPointer {
        core.pointee.pages[Int(number >> StateRow.unitBits)].base + Int(number & StateRow.unitMask) &* 8
    }

    /// The row's memory, for writing: copies its page first where a snapshot may hold it.
    @inlinable @inline(__always)
    func writableRow(_ number: UInt32) -> UnsafeMutableRawPointer {
        let page = Int(number >> StateRow.unitBits)
        if core.pointee.pages[page].epoch != core.pointee.epoch { detach(page) }
        return core.pointee.pages[page].base + Int(number & StateRow.unitMask) &* 8
    }

    @inlinable @inline(__always)
    func matches(_ row: UnsafeRawPointer, hash: UInt64, key: UnsafeRawBufferPointer) -> Bool {
        guard row.load(as: UInt64.self) == hash else { return false }
        guard row.load(fromByteOffset: StateRow.keyCountOffset, as: UInt32.self) == UInt32(truncatingIfNeeded: key.count) else { return false }
        return Self.equal(row + keyOffset, key)
    }

    /// Compares words, the last one overlapping; the row's key lies at a multiple of 8.
    @inlinable @inline(__always)
    static func equal(_ stored: UnsafeRawPointer, _ key: UnsafeRawBufferPointer) -> Bool {
        let count = key.count
        guard let base = key.baseAddress else { return true }
        if count >= 8 {
            var offset = 0
            while offset &+ 8 <= count {
                if stored.load(fromByteOffset: offset, as: UInt64.self) != base.loadUnaligned(fromByteOffset: offset, as: UInt64.self) {
                    return false
                }
                offset &+= 8
            }
            let last = count &- 8
            return stored.loadUnaligned(fromByteOffset: last, as: UInt64.self) == base.loadUnaligned(fromByteOffset: last, as: UInt64.self)
        }
        for offset in 0..<count where stored.load(fromByteOffset: offset, as: UInt8.self) != base.load(fromByteOffset: offset, as: UInt8.self) {
            return false
        }
        return true
    }

    /// The number of the key's row; 0 if the table does not have it.
    @inlinable
    func find(hash: UInt64, key: UnsafeRawBufferPointer) -> UInt32 {
        let tag = Self.tag(hash)
        let index = core.pointee.index
        let mask = core.pointee.mask
        var position = Int(tag) & mask
        while true {
            let entry = index[position]
            if entry == 0 { return 0 }
            if UInt32(truncatingIfNeeded: entry >> 32) == tag {
                let number = UInt32(truncatingIfNeeded: entry)
                if matches(row(number), hash: hash, key: key) { return number }
            }
            position = (position &+ 1) & mask
        }
    }

    /// Looks up the index entries of up to ``groupSize`` keys, then touches their rows, so that the cache misses of the group
    /// overlap; leaves the number of each row that the hash matches in ``candidates``, 0 for the others.
    ///
    /// Several keys may have one hash: the caller still compares keys, and looks up zeros one by one.
    @usableFromInline
    func prepare(_ count: Int, hashes: UnsafePointer<UInt64>) {
        let index = core.pointee.index
        let mask = core.pointee.mask
        for lane in 0..<count {
            let tag = Self.tag(hashes[lane])
            var position = Int(tag) & mask
            var entry = index[position]
            while UInt32(truncatingIfNeeded: entry >> 32) != tag, entry != 0 {
                position = (position &+ 1) & mask
                entry = index[position]
            }
            candidates[lane] = UInt32(truncatingIfNeeded: entry)
        }
        let pages = core.pointee.pages
        for lane in 0..<count {
            let number = candidates[lane]
            guard number != 0 else { continue }
            let row = pages[Int(number >> StateRow.unitBits)].base + Int(number & StateRow.unitMask) &* 8
            if row.load(as: UInt64.self) != hashes[lane] { candidates[lane] = 0 }
        }
    }

    // MARK: Inserting and removing

    /// The number of the key's row, which is made if there is none; then its value's memory is not initialised.
    @inlinable
    func findOrInsert(hash: UInt64, key: UnsafeRawBufferPointer) -> (number: UInt32, inserted: Bool) {
        let number = find(hash: hash, key: key)
        return number != 0 ? (number, false) : (insert(hash: hash, key: key), true)
    }

    /// Adds a row for a key that the table does not have.
    @usableFromInline @inline(never)
    func insert(hash: UInt64, key: UnsafeRawBufferPointer) -> UInt32 {
        if core.pointee.count >= core.pointee.growAt { growIndex(to: (core.pointee.mask + 1) * 2) }
        let paddedKey = (key.count + 7) & ~7
        let bytes = (keyOffset + paddedKey + operations.alignment - 1) & ~(operations.alignment - 1)
        let number = takeRow(bytes: bytes)
        let row = writableRow(number)
        row.storeBytes(of: hash, as: UInt64.self)
        row.storeBytes(of: UInt32(key.count), toByteOffset: StateRow.keyCountOffset, as: UInt32.self)
        row.storeBytes(of: UInt32(bytes / 8), toByteOffset: StateRow.unitsOffset, as: UInt32.self)
        if let base = key.baseAddress, key.count > 0 {
            (row + keyOffset).copyMemory(from: base, byteCount: key.count)
        }
        let tag = Self.tag(hash)
        place(UInt64(tag) << 32 | UInt64(number))
        core.pointee.count += 1
        return number
    }

    @inline(__always)
    private func place(_ entry: UInt64) {
        let index = core.pointee.index
        let mask = core.pointee.mask
        var position = Int(entry >> 32) & mask
        while index[position] != 0 { position = (position &+ 1) & mask }
        index[position] = entry
    }

    private func growIndex(to capacity: Int) {
        let old = core.pointee.index
        let oldCapacity = core.pointee.mask + 1
        core.pointee.index = .allocate(capacity: capacity)
        core.pointee.index.initialize(repeating: 0, count: capacity)
        core.pointee.mask = capacity - 1
        core.pointee.growAt = Self.growth(capacity)
        for position in 0..<oldCapacity where old[position] != 0 { place(old[position]) }
        old.deallocate()
    }

    private func takeRow(bytes: Int) -> UInt32 {
        if core.pointee.freeRows > 0, let number = freeRows[bytes / 8]?.popLast() {
            core.pointee.freeRows -= 1
            return number
        }
        if bytes > StateRow.sharedRowBytesMax {
            // A page of its own, which is never page 0; the open tail stays where it is.
            if pages.isEmpty { openTail(atLeast: 8) }
            let page = addPage(capacity: bytes, startOffset: 0)
            pages[page].used = bytes
            return UInt32(page) << StateRow.unitBits
        }
        if core.pointee.tailOffset + bytes > core.pointee.tailEnd { openTail(atLeast: bytes) }
        if core.pointee.pages[core.pointee.tailPage].epoch != core.pointee.epoch { detach(core.pointee.tailPage) }
        let offset = core.pointee.tailOffset
        core.pointee.tailOffset = offset + bytes
        return UInt32(core.pointee.tailPage) << StateRow.unitBits | UInt32(offset / 8)
    }

    /// Pages start small and double, so that a table of few keys (one a window) costs little.
    private func openTail(atLeast bytes: Int) {
        sealTail()
        let startOffset = pages.isEmpty ? 64 : 0
        var capacity = Swift.min(StateRow.firstPageBytes << Swift.min(pages.count, 6), StateRow.pageBytes)
        while capacity < bytes + startOffset { capacity *= 2 }
        let page = addPage(capacity: capacity, startOffset: startOffset)
        core.pointee.tailPage = page
        core.pointee.tailOffset = startOffset
        core.pointee.tailEnd = capacity
    }

    private func addPage(capacity: Int, startOffset: Int) -> Int {
        let page: StatePage
        if capacity == StateRow.pageBytes, startOffset == 0, let spare = sparePages.popLast() {
            page = spare
            page.version = versions.next()
        } else {
            page = StatePage(
                capacity: capacity, startOffset: startOffset, operations: operations, valueOffset: valueOffset, version: versions.next())
            pageBytes += capacity
        }
        let entry = StateTableCore.PageEntry(base: page.base, epoch: core.pointee.epoch)
        if let number = freePages.popLast() {
            pages[number] = page
            core.pointee.pages[number] = entry
            return number
        }
        precondition(pages.count < StateRow.pagesMax, "more than 32 GiB of rows in one state table")
        if pages.count == core.pointee.pageCapacity { growPageEntries() }
        pages.append(page)
        core.pointee.pages[pages.count - 1] = entry
        return pages.count - 1
    }

    private func growPageEntries() {
        let larger = UnsafeMutablePointer<StateTableCore.PageEntry>.allocate(capacity: core.pointee.pageCapacity * 2)
        larger.initialize(from: core.pointee.pages, count: pages.count)
        core.pointee.pages.deallocate()
        core.pointee.pages = larger
        core.pointee.pageCapacity *= 2
    }

    /// Removes the key and destroys its value. Returns whether there was one.
    @usableFromInline
    @discardableResult
    func remove(hash: UInt64, key: UnsafeRawBufferPointer) -> Bool {
        let number = find(hash: hash, key: key)
        guard number != 0 else { return false }
        operations.destroy(writableRow(number) + valueOffset)
        forget(number)
        return true
    }

    /// Removes a row whose value is not initialised, or no longer.
    @usableFromInline
    func forget(_ number: UInt32) {
        let row = writableRow(number)
        unindex(number, hash: row.load(as: UInt64.self))
        core.pointee.count -= 1
        let units = row.load(fromByteOffset: StateRow.unitsOffset, as: UInt32.self)
        row.storeBytes(of: units | StateRow.freeBit, toByteOffset: StateRow.unitsOffset, as: UInt32.self)
        if Int(units) * 8 > StateRow.sharedRowBytesMax {
            dropPage(Int(number >> StateRow.unitBits))
        } else {
            freeRows[Int(units), default: []].append(number)
            core.pointee.freeRows += 1
        }
    }

    private func dropPage(_ page: Int) {
        pageBytes -= pages[page].capacity
        pages[page] = StatePage(capacity: 0, startOffset: 0, operations: operations, valueOffset: valueOffset, version: versions.next())
        core.pointee.pages[page] = .init(base: pages[page].base, epoch: core.pointee.epoch)
        freePages.append(page)
    }

    /// Empties the row's entry and moves back the entries that were probed past it, so that no tombstones slow later lookups.
    private func unindex(_ number: UInt32, hash: UInt64) {
        let index = core.pointee.index
        let mask = core.pointee.mask
        let entry = UInt64(Self.tag(hash)) << 32 | UInt64(number)
        var hole = Int(entry >> 32) & mask
        while index[hole] != entry { hole = (hole &+ 1) & mask }
        var next = (hole &+ 1) & mask
        while index[next] != 0 {
            let home = Int(index[next] >> 32) & mask
            // Distances on the ring: the entry may move to the hole if its home is not between them.
            if (next &- home) & mask >= (next &- hole) & mask {
                index[hole] = index[next]
                hole = next
            }
            next = (next &+ 1) & mask
        }
        index[hole] = 0
    }

    /// Removes every key.
    ///
    /// - Parameter keepingCapacity: Whether to keep the index, and the pages that no snapshot holds, for the keys to come.
    @usableFromInline
    func removeAll(keepingCapacity: Bool) {
        sealTail()
        let old = pages
        pages = []
        freePages = []
        freeRows = [:]
        core.pointee.freeRows = 0
        core.pointee.tailPage = -1
        core.pointee.tailOffset = 0
        core.pointee.tailEnd = 0
        core.pointee.count = 0
        if keepingCapacity {
            recycle(old)
            core.pointee.index.update(repeating: 0, count: core.pointee.mask + 1)
        } else {
            sparePages = []
            core.pointee.index.deallocate()
            core.pointee.index = .allocate(capacity: Self.indexMin)
            core.pointee.index.initialize(repeating: 0, count: Self.indexMin)
            core.pointee.mask = Self.indexMin - 1
            core.pointee.growAt = Self.growth(Self.indexMin)
        }
        pageBytes = sparePages.count * StateRow.pageBytes
    }

    private func recycle(_ old: consuming [StatePage]) {
        while var page = old.popLast() {
            guard page.capacity == StateRow.pageBytes, page.startOffset == 0, isKnownUniquelyReferenced(&page) else { continue }
            page.destroyValues()
            page.used = 0
            sparePages.append(page)
        }
    }

    // MARK: Pages and snapshots

    /// Makes the page the table's own: copies it if a snapshot holds it.
    @usableFromInline @inline(never)
    func detach(_ page: Int) {
        if page == core.pointee.tailPage { sealTail() }
        if isKnownUniquelyReferenced(&pages[page]) {
            pages[page].version = versions.next()
        } else {
            pages[page] = pages[page].copy(version: versions.next())
            core.pointee.pages[page].base = pages[page].base
        }
        core.pointee.pages[page].epoch = core.pointee.epoch
    }

    /// Tells the open page how far it is filled. It changes nothing in a page that a snapshot holds: such a page is detached before
    /// the tail moves.
    func sealTail() {
        let page = core.pointee.tailPage
        if page >= 0, pages[page].used != core.pointee.tailOffset { pages[page].used = core.pointee.tailOffset }
    }

    /// The table as it is now, in O(pages) and without copying rows.
    @usableFromInline
    func capture() -> StateTableSnapshot {
        sealTail()
        core.pointee.epoch &+= 1
        return StateTableSnapshot(
            pages: pages, count: core.pointee.count, operations: operations, keyOffset: keyOffset, expired: expired?())
    }

    /// Lends the number of every row, in the order of their places. The body may write and remove the row it is lent.
    @usableFromInline
    func forEachRow<Failure: Error>(_ body: (UInt32) throws(Failure) -> Void) throws(Failure) {
        sealTail()
        for page in pages.indices {
            var offset = pages[page].startOffset
            let used = pages[page].used
            while offset < used {
                // The base is read anew: a write of the body may have copied the page.
                let units = core.pointee.pages[page].base.load(fromByteOffset: offset + StateRow.unitsOffset, as: UInt32.self)
                if units & StateRow.freeBit == 0 { try body(UInt32(page) << StateRow.unitBits | UInt32(offset / 8)) }
                offset += Int(units & ~StateRow.freeBit) * 8
            }
        }
    }

    /// Lends the key of a row.
    @inlinable @inline(__always)
    func key(of row: UnsafeRawPointer) -> UnsafeRawBufferPointer {
        UnsafeRawBufferPointer(start: row + keyOffset, count: Int(row.load(fromByteOffset: StateRow.keyCountOffset, as: UInt32.self)))
    }
}
