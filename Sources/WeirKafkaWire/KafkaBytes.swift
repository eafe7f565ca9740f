import WeirBase

/// A slice of shared memory: record bytes go from the socket to the log and back without being copied again.
///
/// - Important: Who made the memory may write it (``withUnsafeMutableBytes(_:)``) until it is shared; after that nobody does, except where
///   the owner of every slice runs on the same thread. A slice keeps the whole memory that it was cut from.
package struct KafkaBytes: @unchecked Sendable, Equatable, CustomStringConvertible {
    // @unchecked: the memory is written before it is shared between threads, see above.

    /// Memory with one owner, given back when its last slice goes.
    final class Storage {
        let base: UnsafeMutableRawPointer
        let capacity: Int
        private let release: ((UnsafeMutableRawPointer) -> Void)?

        init(capacity: Int) {
            base = .allocate(byteCount: max(capacity, 16), alignment: 16)
            self.capacity = max(capacity, 16)
            release = nil
        }

        init(base: UnsafeMutableRawPointer, capacity: Int, release: @escaping (UnsafeMutableRawPointer) -> Void) {
            self.base = base
            self.capacity = capacity
            self.release = release
        }

        deinit {
            if let release { release(base) } else { base.deallocate() }
        }
    }

    let storage: Storage
    let start: Int
    package let count: Int

    init(storage: Storage, start: Int, count: Int) {
        self.storage = storage
        self.start = start
        self.count = count
    }

    package static let empty = KafkaBytes(storage: Storage(capacity: 0), start: 0, count: 0)

    /// New memory of `count` bytes that `fill` writes; it returns how many of them hold something, at most `count`.
    package init<Failure: Error>(count: Int, fill: (UnsafeMutableRawBufferPointer) throws(Failure) -> Int) throws(Failure) {
        let storage = Storage(capacity: count)
        let filled = try fill(UnsafeMutableRawBufferPointer(start: storage.base, count: count))
        precondition(filled >= 0 && filled <= count, "more bytes filled than there is room for")
        self.init(storage: storage, start: 0, count: filled)
    }

    package init(copying bytes: UnsafeRawBufferPointer) {
        let storage = Storage(capacity: bytes.count)
        if let base = bytes.baseAddress { storage.base.copyMemory(from: base, byteCount: bytes.count) }
        self.init(storage: storage, start: 0, count: bytes.count)
    }

    package init(_ bytes: [UInt8]) {
        self = bytes.withUnsafeBytes { KafkaBytes(copying: $0) }
    }

    /// Takes over memory that someone else made, a mapped file for example; `release` is called once, with the last slice.
    package init(owning base: UnsafeMutableRawPointer, count: Int, release: @escaping (UnsafeMutableRawPointer) -> Void) {
        self.init(storage: Storage(base: base, capacity: count, release: release), start: 0, count: count)
    }

    package var isEmpty: Bool { count == 0 }

    package func withUnsafeBytes<Result, Failure: Error>(
        _ body: (UnsafeRawBufferPointer) throws(Failure) -> Result
    ) throws(Failure) -> Result {
        try body(UnsafeRawBufferPointer(start: storage.base + start, count: count))
    }

    /// Lends the memory for writing: every slice of it sees the change. For the owner only, see the type's note.
    package func withUnsafeMutableBytes<Result, Failure: Error>(
        _ body: (UnsafeMutableRawBufferPointer) throws(Failure) -> Result
    ) throws(Failure) -> Result {
        try body(UnsafeMutableRawBufferPointer(start: storage.base + start, count: count))
    }

    /// The bytes from `offset` on, at most to the end; shares the memory.
    ///
    /// - Parameters:
    ///   - offset: In `0...count`.
    ///   - length: At most `count - offset`; nil takes the rest.
    package func slice(from offset: Int, count length: Int? = nil) -> KafkaBytes {
        let length = length ?? (count - offset)
        precondition(offset >= 0 && length >= 0 && offset <= count && length <= count - offset, "a slice outside of its bytes")
        return KafkaBytes(storage: storage, start: start + offset, count: length)
    }

    /// A big-endian integer at an offset; the caller has checked the bounds.
    package func load<T: FixedWidthInteger & BitwiseCopyable>(_ type: T.Type = T.self, at offset: Int) -> T {
        precondition(offset >= 0 && offset <= count - MemoryLayout<T>.size, "a load outside of its bytes")
        return T(bigEndian: (storage.base + start).loadUnaligned(fromByteOffset: offset, as: T.self))
    }

    /// Overwrites a big-endian integer at an offset. For the owner only, see the type's note.
    package func store<T: FixedWidthInteger & BitwiseCopyable>(_ value: T, at offset: Int) {
        precondition(offset >= 0 && offset <= count - MemoryLayout<T>.size, "a store outside of its bytes")
        (storage.base + start).storeBytes(of: value.bigEndian, toByteOffset: offset, as: T.self)
    }

    /// A copy of the bytes that holds nothing else in memory.
    package func copied() -> KafkaBytes { withUnsafeBytes { KafkaBytes(copying: $0) } }

    package var array: [UInt8] { withUnsafeBytes { [UInt8]($0) } }

    package static func == (left: KafkaBytes, right: KafkaBytes) -> Bool {
        guard left.count == right.count else { return false }
        return left.withUnsafeBytes { a in right.withUnsafeBytes { b in a.elementsEqual(b) } }
    }

    package var description: String { "\(count) bytes" }
}

/// The 128 bits by which newer requests name a topic.
package struct KafkaUUID: Hashable, Sendable, Comparable, CustomStringConvertible {
    package let high: UInt64
    package let low: UInt64

    package init(high: UInt64, low: UInt64) {
        self.high = high
        self.low = low
    }

    package static let zero = KafkaUUID(high: 0, low: 0)

    package static func < (left: KafkaUUID, right: KafkaUUID) -> Bool { (left.high, left.low) < (right.high, right.low) }

    package var description: String { hexadecimal(high) + hexadecimal(low) }
}
