internal import WeirGraph
public import WeirBase

/// What a table of raw memory has to know of the values in it: their layout, and how to copy, destroy, write and read one.
///
/// The table itself is not generic, so that it is compiled once; the closures are made in ``init(_:)``, which is inlined into the
/// job's module and specialised there. A closure call a value is paid only for values with references, and in snapshots.
public final class StateValueOperations: Sendable {
    /// Bytes of a value in a row, a multiple of 8.
    @usableFromInline let paddedSize: Int
    /// At least 8, a power of two.
    @usableFromInline let alignment: Int
    /// Whether copying the bytes copies the value: then pages are copied and dropped wholesale.
    @usableFromInline let isBitwise: Bool
    /// ``Schema/fingerprint`` of the values: written into snapshots and compared on restore.
    public let fingerprint: UInt64
    /// The type of the values.
    @usableFromInline let valueType: any BinaryCodable.Type
    var schema: Schema { valueType.schema }

    @usableFromInline let destroy: @Sendable (_ value: UnsafeMutableRawPointer) -> Void
    @usableFromInline let copy: @Sendable (_ target: UnsafeMutableRawPointer, _ source: UnsafeRawPointer) -> Void
    @usableFromInline let encode: @Sendable (_ value: UnsafeRawPointer, _ writer: inout ByteWriter) -> Void
    /// Touches the target only after the value was read whole; `replacing` says whether the target holds a value.
    @usableFromInline
    let decode: @Sendable (_ target: UnsafeMutableRawPointer, _ replacing: Bool, _ reader: inout ByteReader) throws(DecodingFailure) -> Void

    /// - Parameter type: The values' type; its alignment is at most 64.
    @inlinable @inline(__always)
    public init<Value: BinaryCodable>(_ type: Value.Type) {
        precondition(MemoryLayout<Value>.alignment <= 64, "values aligned to more than a cache line")
        paddedSize = (MemoryLayout<Value>.size + 7) & ~7
        alignment = Swift.max(MemoryLayout<Value>.alignment, 8)
        isBitwise = _isPOD(Value.self)
        fingerprint = Value.schema.fingerprint
        valueType = Value.self
        destroy = { $0.assumingMemoryBound(to: Value.self).deinitialize(count: 1) }
        copy = { $0.initializeMemory(as: Value.self, from: $1.assumingMemoryBound(to: Value.self), count: 1) }
        encode = { $0.assumingMemoryBound(to: Value.self).pointee.encode(into: &$1) }
        decode = { (target, replacing, reader) throws(DecodingFailure) in
            let value = try Value(from: &reader)
            let place = target.assumingMemoryBound(to: Value.self)
            if replacing { place.pointee = value } else { place.initialize(to: value) }
        }
    }
}

/// Which keys a subtask owns: those whose key group is in a range.
public struct KeyGroupFilter: Sendable, Equatable {
    package let groups: Range<Int>
    package let maxParallelism: Int
    package init(groups: Range<Int>, maxParallelism: Int) {
        self.groups = groups
        self.maxParallelism = maxParallelism
    }
    package func contains(hash: UInt64) -> Bool {
        groups.contains(KeyGroups.keyGroup(hash: hash, maxParallelism: maxParallelism))
    }
}
