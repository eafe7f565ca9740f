public import WeirBase

/// Writes one row in Avro's binary form, following an ``AvroPlan``.
///
/// - Important: It borrows the plan: do not let it outlive it.
public struct AvroWriter: FieldWriter {
    @usableFromInline var bytes: ByteWriter
    @usableFromInline let nodes: UnsafePointer<AvroPlan.Node>
    @usableFromInline let steps: UnsafePointer<AvroPlan.Step>
    @usableFromInline let branches: UnsafePointer<Int32>
    /// What the next value has to be.
    @usableFromInline var node: UnsafePointer<AvroPlan.Node>
    @usableFromInline let plan: Unmanaged<AvroPlan>

    /// Goes on behind what `bytes` holds.
    @inlinable
    init(_ bytes: ByteWriter, plan: Unmanaged<AvroPlan>) {
        self.bytes = bytes
        (nodes, steps, branches, node) = plan._withUnsafeGuaranteedRef { ($0.nodes, $0.steps, $0.branches, $0.root) }
        self.plan = plan
    }

    // MARK: Failures

    @usableFromInline @inline(never)
    func mismatch(_ what: StaticString) -> FormatFailure {
        failure(.typeMismatch, "\(what) cannot be written as \(node.pointee.kind)")
    }

    public func failure(_ reason: FormatFailure.Reason, _ message: String) -> FormatFailure {
        FormatFailure("Avro", reason, message, field: plan._withUnsafeGuaranteedRef { $0.places[node - nodes] })
    }

    // MARK: Unions

    /// Writes which branch of a union the value is, and goes there.
    @inlinable @inline(__always)
    mutating func enterUnion() throws(FormatFailure) {
        guard node.pointee.kind == .union else { return }
        let first = branches + Int(node.pointee.first)
        guard first[1] >= 0 else { throw mismatch("a value") }
        writeLong(Int64(first[1]))
        node = nodes + Int(first[2])
    }

    @inlinable @inline(__always)
    public mutating func writeNull() throws(FormatFailure) {
        switch node.pointee.kind {
        case .null: break
        case .union:
            let branch = branches[Int(node.pointee.first)]
            guard branch >= 0 else { throw mismatch("nil") }
            writeLong(Int64(branch))
        default: throw mismatch("nil")
        }
    }

    // MARK: Numbers

    @inlinable @inline(__always)
    mutating func writeLong(_ value: Int64) {
        var bits = UInt64(bitPattern: value &<< 1 ^ value &>> 63)
        // Ten bytes at most, of which those that were not needed are given back.
        let out = bytes.reserve(10)
        var count = 0
        while bits >= 0x80 {
            out.storeBytes(of: UInt8(truncatingIfNeeded: bits) | 0x80, toByteOffset: count, as: UInt8.self)
            bits &>>= 7
            count &+= 1
        }
        out.storeBytes(of: UInt8(truncatingIfNeeded: bits), toByteOffset: count, as: UInt8.self)
        bytes.truncate(to: bytes.count &- 9 &+ count)
    }

    @inlinable @inline(__always)
    public mutating func writeInteger<T: FixedWidthInteger>(_ value: T) throws(FormatFailure) {
        if node.pointee.kind.rawValue > AvroPlan.Kind.long.rawValue { try enterUnion() }
        switch node.pointee.kind {
        case .long:
            guard let long = Int64(exactly: value) else { throw outOfRange("\(value)") }
            writeLong(long)
        case .int:
            guard let int = Int32(exactly: value) else { throw outOfRange("\(value)") }
            writeLong(Int64(int))
        default: throw mismatch("an integer")
        }
    }

    @usableFromInline @inline(never)
    func outOfRange(_ value: String) -> FormatFailure { failure(.outOfRange, "\(value) does not fit \(node.pointee.kind)") }

    @inlinable @inline(__always)
    public mutating func writeDouble(_ value: Double) throws(FormatFailure) {
        if node.pointee.kind != .double { try enterUnion() }
        guard node.pointee.kind == .double else { throw mismatch("a double") }
        bytes.writeDouble(value)
    }

    @inlinable
    public mutating func writeFloat(_ value: Float) throws(FormatFailure) {
        try enterUnion()
        switch node.pointee.kind {
        case .float: bytes.writeFloat(value)
        case .double: bytes.writeDouble(Double(value))
        default: throw mismatch("a float")
        }
    }

    @inlinable @inline(__always)
    public mutating func writeBool(_ value: Bool) throws(FormatFailure) {
        if node.pointee.kind != .boolean { try enterUnion() }
        guard node.pointee.kind == .boolean else { throw mismatch("a Bool") }
        bytes.writeU8(value ? 1 : 0)
    }

    // MARK: Bytes

    @inlinable @inline(__always)
    public mutating func writeString(_ value: String) throws(FormatFailure) {
        if node.pointee.kind != .string { try enterUnion() }
        switch node.pointee.kind {
        case .string, .bytes:
            var text = value
            text.withUTF8 { utf8 in
                writeLong(Int64(utf8.count))
                bytes.writeBytes(UnsafeRawBufferPointer(utf8))
            }
        case .enumeration: try writeSymbol(value)
        default: throw mismatch("a string")
        }
    }

    @usableFromInline @inline(never)
    mutating func writeSymbol(_ value: String) throws(FormatFailure) {
        guard let index = plan._withUnsafeGuaranteedRef({ $0.symbolIndices[Int(node.pointee.first)][value] }) else {
            throw failure(.outOfRange, "\"\(value)\" is no symbol of the enum")
        }
        writeLong(Int64(index))
    }

    @inlinable
    public mutating func writeBytes(_ value: [UInt8]) throws(FormatFailure) {
        try enterUnion()
        switch node.pointee.kind {
        case .bytes: writeLong(Int64(value.count))
        case .string:
            guard String(validating: value, as: UTF8.self) != nil else { throw failure(.invalidString, "bytes that are not UTF-8, for a string") }
            writeLong(Int64(value.count))
        case .fixed:
            guard value.count == Int(node.pointee.count) else {
                throw failure(.outOfRange, "\(value.count) bytes, for a fixed of \(node.pointee.count)")
            }
        default: throw mismatch("bytes")
        }
        bytes.writeBytes(value)
    }

    // MARK: Records

    /// Where in a record's fields the writer is.
    public struct RecordPlace {
        @usableFromInline var step: UnsafePointer<AvroPlan.Step>
        @inlinable
        init(step: UnsafePointer<AvroPlan.Step>) { self.step = step }
    }

    @inlinable @inline(__always)
    public mutating func beginRecord() throws(FormatFailure) -> RecordPlace {
        if node.pointee.kind != .record { try enterUnion() }
        guard node.pointee.kind == .record else { throw mismatch("a record") }
        return RecordPlace(step: steps + Int(node.pointee.first))
    }

    @inlinable @inline(__always)
    public mutating func nextField(_ place: inout RecordPlace) throws(FormatFailure) -> Int {
        while place.step.pointee.field == AvroPlan.Step.skip {
            writeConstant(place.step.pointee.constant)
            place.step += 1
        }
        let step = place.step.pointee
        guard step.field >= 0 else { return -1 }
        place.step += 1
        node = nodes + Int(step.node)
        return Int(step.field)
    }

    @usableFromInline @inline(never)
    mutating func writeConstant(_ index: Int32) { bytes.writeBytes(plan._withUnsafeGuaranteedRef { $0.constant(index) }) }

    // MARK: Arrays

    /// Where in an array the writer is.
    public struct ArrayPlace {
        @usableFromInline let item: UnsafePointer<AvroPlan.Node>
        @inlinable
        init(item: UnsafePointer<AvroPlan.Node>) { self.item = item }
    }

    /// One block of all elements.
    @inlinable @inline(__always)
    public mutating func beginArray(count: Int) throws(FormatFailure) -> ArrayPlace {
        if node.pointee.kind != .array { try enterUnion() }
        guard node.pointee.kind == .array else { throw mismatch("an array") }
        if count > 0 { writeLong(Int64(count)) }
        return ArrayPlace(item: nodes + Int(node.pointee.first))
    }

    @inlinable @inline(__always)
    public mutating func nextElement(_ place: inout ArrayPlace) throws(FormatFailure) { node = place.item }

    @inlinable @inline(__always)
    public mutating func endArray(_ place: ArrayPlace) throws(FormatFailure) { bytes.writeU8(0) }
}
