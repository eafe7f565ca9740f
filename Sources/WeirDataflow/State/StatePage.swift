internal import WeirBase

/// Where things are in a row. A row is a multiple of 8 bytes (of the value's alignment, if that is more):
///
///     | hash u64 | key bytes u32 | units u32 | padding to the value's alignment | value | key, padded to 8 |
///
/// `units` is the size of the row in 8 bytes; its top bit marks a free row, whose value and key are gone.
public enum StateRow {
    @usableFromInline static let keyCountOffset = 8
    @usableFromInline static let unitsOffset = 12
    @usableFromInline static let freeBit: UInt32 = 1 << 31
    /// Rows are addressed by a 32-bit number: 19 bits of page, 13 bits of 8-byte unit in the page.
    @usableFromInline static let unitBits: UInt32 = 13
    @usableFromInline static let unitMask: UInt32 = (1 << 13) - 1
    @usableFromInline static let pageBytes = 65_536
    static let firstPageBytes = 1_024
    /// A row larger than this has a page of its own, so that the tail of a page wasted by a large row stays small.
    static let sharedRowBytesMax = 8_192
    static let pagesMax = 1 << 19
}

/// Rows one after the other in raw memory.
///
/// The table that made it writes it as long as nothing else holds it. A snapshot holds pages by reference; the table then copies
/// a page before its first write.
///
/// `@unchecked Sendable`: memory and `used` change only while the table holds the one reference, which
/// ``StateRowTable`` checks before its first write after every capture.
@usableFromInline
final class StatePage: @unchecked Sendable {
    let base: UnsafeMutableRawPointer
    let capacity: Int
    /// Bytes of rows, free ones included. Behind the table's tail while that is open: see ``StateRowTable/sealTail()``.
    var used: Int
    /// Page 0 leaves out its first cache line, so that no row has the number 0.
    let startOffset: Int
    let operations: StateValueOperations
    let valueOffset: Int
    /// Names the page's content in the snapshots that hold it: a page gets another number before the first write behind a capture.
    var version: UInt64

    init(capacity: Int, startOffset: Int, operations: StateValueOperations, valueOffset: Int, version: UInt64) {
        base = .allocate(byteCount: Swift.max(capacity, 8), alignment: 64)
        self.capacity = capacity
        self.startOffset = startOffset
        used = startOffset
        self.operations = operations
        self.valueOffset = valueOffset
        self.version = version
    }

    deinit {
        destroyValues()
        base.deallocate()
    }

    func destroyValues() {
        guard !operations.isBitwise else { return }
        forEachRow { operations.destroy($0 + valueOffset) }
    }

    /// A page of its own with the same rows at the same places.
    func copy(version: UInt64) -> StatePage {
        let page = StatePage(
            capacity: capacity, startOffset: startOffset, operations: operations, valueOffset: valueOffset, version: version)
        page.base.copyMemory(from: base, byteCount: used)
        page.used = used
        guard !operations.isBitwise else { return page }
        let distance = page.base - base
        forEachRow { operations.copy($0 + distance + valueOffset, $0 + valueOffset) }
        return page
    }

    /// Lends every live row, in the order of their places.
    @inline(__always)
    func forEachRow<Failure: Error>(_ body: (UnsafeMutableRawPointer) throws(Failure) -> Void) throws(Failure) {
        var offset = startOffset
        while offset < used {
            let row = base + offset
            let units = row.load(fromByteOffset: StateRow.unitsOffset, as: UInt32.self)
            if units & StateRow.freeBit == 0 { try body(row) }
            offset += Int(units & ~StateRow.freeBit) * 8
        }
    }
}

/// Numbers for the contents of pages, each given once in the life of a state.
final class StatePageVersions {
    private var last: UInt64 = 0

    func next() -> UInt64 {
        last += 1
        return last
    }
}
