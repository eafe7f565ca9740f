import WeirBase

/// Reads one value in Avro's binary form straight into fields, following an ``AvroPlan``.
///
/// - Important: It borrows the memory and the plan: do not let it outlive either.
public struct AvroReader: FieldReader {
    /// Values inside each other that are skipped, at most.
    static let skipDepthMax = 128
    /// Elements without bytes in one array, at most: their number is not bounded by the record's bytes.
    package static let emptyElementsMax = 65_536

    @usableFromInline var cursor: UnsafeRawPointer
    @usableFromInline var end: UnsafeRawPointer
    @usableFromInline let start: UnsafeRawPointer
    @usableFromInline let nodes: UnsafePointer<AvroPlan.Node>
    @usableFromInline let steps: UnsafePointer<AvroPlan.Step>
    @usableFromInline let branches: UnsafePointer<Int32>
    /// What the value under the cursor is.
    @usableFromInline var node: UnsafePointer<AvroPlan.Node>
    @usableFromInline let plan: Unmanaged<AvroPlan>

    /// - Parameters:
    ///   - bytes: One value, or several of which each is read in turn.
    ///   - origin: What failures count bytes from; the start of `bytes` or before it.
    @inlinable
    init(_ bytes: UnsafeRawBufferPointer, plan: Unmanaged<AvroPlan>, origin: UnsafeRawPointer? = nil) {
        // An empty buffer may have no address; with cursor == end none is ever read from.
        cursor = bytes.baseAddress ?? UnsafeRawPointer(bitPattern: 8)!
        end = cursor + bytes.count
        start = origin ?? cursor
        (nodes, steps, branches, node) = plan._withUnsafeGuaranteedRef { ($0.nodes, $0.steps, $0.branches, $0.root) }
        self.plan = plan
    }

    /// Goes to the next of several values.
    mutating func restart() { node = plan._withUnsafeGuaranteedRef { $0.root } }

    /// Throws unless everything was read.
    @inlinable @inline(__always)
    func finish() throws(FormatFailure) {
        if cursor != end { throw leftOver() }
    }

    // MARK: Failures

    public func failure(_ reason: FormatFailure.Reason, _ message: String) -> FormatFailure { failure(reason, message, at: cursor) }

    @usableFromInline @inline(never)
    func failure(_ reason: FormatFailure.Reason, _ message: String, at place: UnsafeRawPointer) -> FormatFailure {
        let field = plan._withUnsafeGuaranteedRef { $0.places[node - nodes] }
        return FormatFailure("Avro", reason, message, offset: place - start, field: field)
    }

    @usableFromInline @inline(never)
    func leftOver() -> FormatFailure {
        FormatFailure("Avro", .trailingBytes, "\(end - cursor) bytes behind the record: it was written with another schema", offset: cursor - start)
    }

    @usableFromInline @inline(never)
    func truncated(_ needed: Int) -> FormatFailure {
        failure(.truncated, "\(needed) more bytes expected, \(end - cursor) left", at: cursor)
    }

    /// The failure of a value of another type than `expected`.
    @usableFromInline @inline(never)
    func mismatch(_ expected: StaticString) -> FormatFailure {
        if node.pointee.kind == .refused {
            return failure(.typeMismatch, plan._withUnsafeGuaranteedRef { $0.messages[Int(node.pointee.first)] }, at: cursor)
        }
        return failure(.typeMismatch, "\(expected) expected, found \(node.pointee.kind)", at: cursor)
    }

    @usableFromInline @inline(never)
    func outOfRange(_ value: Int64, _ type: Any.Type, at place: UnsafeRawPointer) -> FormatFailure {
        failure(.outOfRange, "\(value) does not fit \(type)", at: place)
    }

    // MARK: Integers

    /// A zigzag varint of up to ten bytes.
    @inlinable @inline(__always)
    mutating func readLong() throws(FormatFailure) -> Int64 {
        guard cursor < end else { throw truncated(1) }
        let first = cursor.load(as: UInt8.self)
        if first < 0x80 {
            cursor += 1
            return Int64(first >> 1) ^ -Int64(first & 1)
        }
        if end - cursor >= 8 {
            let word = UInt64(littleEndian: cursor.loadUnaligned(as: UInt64.self))
            let stops = ~word & 0x8080_8080_8080_8080
            if stops != 0 {
                // The bits up to the last byte's top one; then seven bits a byte are moved together, pair by pair.
                var bits = word & (stops ^ (stops &- 1)) & 0x7F7F_7F7F_7F7F_7F7F
                bits = (bits & 0x007F_007F_007F_007F) | (bits & 0x7F00_7F00_7F00_7F00) &>> 1
                bits = (bits & 0x0000_3FFF_0000_3FFF) | (bits & 0x3FFF_0000_3FFF_0000) &>> 2
                bits = (bits & 0x0000_0000_0FFF_FFFF) | (bits & 0x0FFF_FFFF_0000_0000) &>> 4
                cursor += stops.trailingZeroBitCount &>> 3 &+ 1
                return Int64(bitPattern: bits &>> 1) ^ -Int64(bits & 1)
            }
        }
        return try readLongByBytes()
    }

    @usableFromInline @inline(never)
    mutating func readLongByBytes() throws(FormatFailure) -> Int64 {
        let place = cursor
        var bits: UInt64 = 0
        var shift: UInt64 = 0
        while cursor < end {
            let byte = cursor.load(as: UInt8.self)
            if shift == 63, byte > 1 { throw failure(.malformed, "an integer of more than 64 bits", at: place) }
            cursor += 1
            bits |= UInt64(byte & 0x7F) << shift
            if byte < 0x80 { return Int64(bitPattern: bits >> 1) ^ -Int64(bits & 1) }
            shift += 7
        }
        throw truncated(1)
    }

    /// A length that must be there.
    @inlinable @inline(__always)
    mutating func readLength() throws(FormatFailure) -> Int {
        let place = cursor
        let length = try readLong()
        guard length >= 0, length <= Int64(end - cursor) else { throw wrongLength(length, at: place) }
        return Int(length)
    }

    @usableFromInline @inline(never)
    func wrongLength(_ length: Int64, at place: UnsafeRawPointer) -> FormatFailure {
        if length < 0 { return failure(.malformed, "a length of \(length)", at: place) }
        return failure(.truncated, "a length of \(length), with \(end - cursor) bytes left", at: place)
    }

    @inlinable @inline(__always)
    public mutating func readInteger<T: FixedWidthInteger>(_ type: T.Type) throws(FormatFailure) -> T {
        if node.pointee.kind.rawValue > AvroPlan.Kind.long.rawValue { try enterUnion() }
        guard node.pointee.kind.rawValue <= AvroPlan.Kind.long.rawValue else { throw mismatch("an integer") }
        let place = cursor
        let value = try readLong()
        guard let exact = T(exactly: value) else { throw outOfRange(value, T.self, at: place) }
        return exact
    }

    // MARK: Other numbers

    @inlinable @inline(__always)
    mutating func load<T: BitwiseCopyable>(_ type: T.Type) throws(FormatFailure) -> T {
        guard end - cursor >= MemoryLayout<T>.size else { throw truncated(MemoryLayout<T>.size) }
        defer { cursor += MemoryLayout<T>.size }
        return cursor.loadUnaligned(as: T.self)
    }

    @inlinable @inline(__always)
    public mutating func readDouble() throws(FormatFailure) -> Double {
        guard node.pointee.kind == .double else { return try readOtherDouble() }
        return Double(bitPattern: UInt64(littleEndian: try load(UInt64.self)))
    }

    @usableFromInline @inline(never)
    mutating func readOtherDouble() throws(FormatFailure) -> Double {
        try enterUnion()
        switch node.pointee.kind {
        case .double: return Double(bitPattern: UInt64(littleEndian: try load(UInt64.self)))
        case .float: return Double(Float(bitPattern: UInt32(littleEndian: try load(UInt32.self))))
        case .int, .long: return Double(try readLong())
        default: throw mismatch("a number")
        }
    }

    @inlinable
    public mutating func readFloat() throws(FormatFailure) -> Float {
        if node.pointee.kind != .float { try enterUnion() }
        switch node.pointee.kind {
        case .float: return Float(bitPattern: UInt32(littleEndian: try load(UInt32.self)))
        case .int, .long: return Float(try readLong())
        default: throw mismatch("a float")
        }
    }

    @inlinable @inline(__always)
    public mutating func readBool() throws(FormatFailure) -> Bool {
        if node.pointee.kind != .boolean { try enterUnion() }
        guard node.pointee.kind == .boolean else { throw mismatch("a boolean") }
        let byte = try load(UInt8.self)
        guard byte <= 1 else { throw failure(.malformed, "a boolean of \(byte)", at: cursor - 1) }
        return byte == 1
    }

    // MARK: Unions

    /// Goes from a union to the branch that the record has; stays where there is no union.
    @inlinable @inline(__always)
    mutating func enterUnion() throws(FormatFailure) {
        guard node.pointee.kind == .union else { return }
        let place = cursor
        let branch = try readLong()
        guard UInt64(bitPattern: branch) < UInt64(UInt32(bitPattern: node.pointee.count)) else { throw noBranch(branch, at: place) }
        node = nodes + Int(branches[Int(node.pointee.first) &+ Int(branch)])
    }

    @usableFromInline @inline(never)
    func noBranch(_ branch: Int64, at place: UnsafeRawPointer) -> FormatFailure {
        failure(.malformed, "branch \(branch) of a union of \(node.pointee.count)", at: place)
    }

    @inlinable @inline(__always)
    public mutating func readNull() throws(FormatFailure) -> Bool {
        try enterUnion()
        return node.pointee.kind == .null
    }

    // MARK: Bytes

    @inlinable @inline(__always)
    public mutating func readString() throws(FormatFailure) -> String {
        guard node.pointee.kind == .string else { return try readOtherString() }
        return try readText()
    }

    @inlinable @inline(__always)
    mutating func readText() throws(FormatFailure) -> String {
        let count = try readLength()
        let place = cursor
        cursor += count
        // Up to 15 bytes of ASCII are stored in the string itself; word by word, with zeros behind.
        if count <= 15, end - place >= 16 {
            let head = place.loadUnaligned(as: UInt64.self)
            let tail = place.loadUnaligned(fromByteOffset: 8, as: UInt64.self)
            let headMask = count >= 8 ? UInt64.max : (1 &<< UInt64(truncatingIfNeeded: 8 &* count)) &- 1
            let tailMask = count >= 8 ? (1 &<< UInt64(truncatingIfNeeded: 8 &* (count &- 8))) &- 1 : 0
            let (low, high) = (head & headMask.littleEndian, tail & tailMask.littleEndian)
            if (low | high) & 0x8080_8080_8080_8080 == 0 {
                return String(unsafeUninitializedCapacity: 15) { out in
                    guard let out = UnsafeMutableRawPointer(out.baseAddress) else { return 0 }
                    out.storeBytes(of: low, as: UInt64.self)
                    if count > 7 {
                        // Fifteen bytes are lent: the last word overlaps the first.
                        out.storeBytes(
                            of: place.loadUnaligned(fromByteOffset: count &- 8, as: UInt64.self), toByteOffset: count &- 8, as: UInt64.self)
                    }
                    return count
                }
            }
        }
        return try makeText(place, count)
    }

    @usableFromInline @inline(never)
    func makeText(_ place: UnsafeRawPointer, _ count: Int) throws(FormatFailure) -> String {
        guard let text = String(validating: UnsafeRawBufferPointer(start: place, count: count), as: UTF8.self) else {
            throw failure(.invalidString, "a string that is not UTF-8", at: place)
        }
        return text
    }

    @usableFromInline @inline(never)
    mutating func readOtherString() throws(FormatFailure) -> String {
        try enterUnion()
        switch node.pointee.kind {
        case .string, .bytes: return try readText()
        case .enumeration:
            let place = cursor
            let symbol = try readLong()
            guard symbol >= 0, symbol < Int64(node.pointee.count) else {
                throw failure(.malformed, "symbol \(symbol) of an enum of \(node.pointee.count)", at: place)
            }
            guard let text = plan._withUnsafeGuaranteedRef({ $0.symbols[Int(node.pointee.first) + Int(symbol)] }) else {
                throw failure(.typeMismatch, "symbol \(symbol) of the enum, which the reader's schema does not have", at: place)
            }
            return text
        default: throw mismatch("a string")
        }
    }

    @inlinable
    public mutating func readBytes() throws(FormatFailure) -> [UInt8] {
        try enterUnion()
        let count: Int
        switch node.pointee.kind {
        case .bytes, .string: count = try readLength()
        case .fixed:
            count = Int(node.pointee.count)
            guard end - cursor >= count else { throw truncated(count) }
        default: throw mismatch("bytes")
        }
        defer { cursor += count }
        return [UInt8](UnsafeRawBufferPointer(start: cursor, count: count))
    }
}
