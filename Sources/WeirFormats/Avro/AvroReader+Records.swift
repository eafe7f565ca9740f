import WeirBase

extension AvroReader {
    /// Where in a record's fields the cursor is.
    public struct RecordPlace {
        @usableFromInline var step: UnsafePointer<AvroPlan.Step>
        /// The record's bytes, while those of a default are read.
        @usableFromInline var suspended: (cursor: UnsafeRawPointer, end: UnsafeRawPointer)?

        @inlinable
        init(step: UnsafePointer<AvroPlan.Step>) {
            self.step = step
            suspended = nil
        }
    }

    @inlinable @inline(__always)
    public mutating func beginRecord() throws(FormatFailure) -> RecordPlace {
        if node.pointee.kind != .record { try enterUnion() }
        guard node.pointee.kind == .record else { throw mismatch("a record") }
        return RecordPlace(step: steps + Int(node.pointee.first))
    }

    @inlinable @inline(__always)
    public mutating func nextField(_ place: inout RecordPlace) throws(FormatFailure) -> Int {
        let step = place.step.pointee
        guard step.field >= 0 else { return try nextUnusualField(&place) }
        place.step += 1
        node = nodes + Int(step.node)
        return Int(step.field)
    }

    /// Fields that the row does not have, fields that the record does not have, and the end.
    @usableFromInline @inline(never)
    mutating func nextUnusualField(_ place: inout RecordPlace) throws(FormatFailure) -> Int {
        while true {
            let step = place.step.pointee
            switch step.field {
            case AvroPlan.Step.end:
                if let (cursor, end) = place.suspended { (self.cursor, self.end) = (cursor, end) }
                place.suspended = nil
                return -1
            case AvroPlan.Step.skip:
                do throws(FormatFailure) {
                    try skip(nodes + Int(step.node), depth: 0)
                } catch {
                    throw error.at(field: plan._withUnsafeGuaranteedRef { $0.stepPlaces[place.step - steps] })
                }
                place.step += 1
            case ...AvroPlan.Step.firstDefault:
                if place.suspended == nil { place.suspended = (cursor, end) }
                let bytes = plan._withUnsafeGuaranteedRef { $0.constant(step.constant) }
                cursor = bytes.baseAddress ?? cursor
                end = cursor + bytes.count
                place.step += 1
                node = nodes + Int(step.node)
                return Int(AvroPlan.Step.firstDefault - step.field)
            default:
                place.step += 1
                node = nodes + Int(step.node)
                return Int(step.field)
            }
        }
    }

    // MARK: Arrays

    /// Where in an array the cursor is.
    public struct ArrayPlace {
        @usableFromInline let item: UnsafePointer<AvroPlan.Node>
        /// Elements left of the block.
        @usableFromInline var left = 0
        @usableFromInline var emptyElements = 0

        @inlinable
        init(item: UnsafePointer<AvroPlan.Node>) { self.item = item }
    }

    @inlinable @inline(__always)
    public mutating func beginArray() throws(FormatFailure) -> ArrayPlace {
        if node.pointee.kind != .array { try enterUnion() }
        guard node.pointee.kind == .array else { throw mismatch("an array") }
        return ArrayPlace(item: nodes + Int(node.pointee.first))
    }

    @inlinable @inline(__always)
    public mutating func nextElement(_ place: inout ArrayPlace) throws(FormatFailure) -> Bool {
        node = place.item
        if place.left == 0 {
            place.left = try readBlockCount(isEmpty: place.item.pointee.isEmpty, &place.emptyElements)
            if place.left == 0 { return false }
        }
        place.left &-= 1
        return true
    }

    /// Reads what stands before a block of elements: its count and, if that is negative, its bytes.
    @usableFromInline @inline(never)
    mutating func readBlockCount(isEmpty: Bool, _ emptyElements: inout Int) throws(FormatFailure) -> Int {
        let place = cursor
        var count = try readLong()
        if count < 0 {
            guard count > .min else { throw failure(.malformed, "a block of \(count) elements", at: place) }
            count = -count
            _ = try readLength()
        }
        if isEmpty {
            guard count <= Int64(Self.emptyElementsMax - emptyElements) else {
                throw failure(.tooLarge, "more than \(Self.emptyElementsMax) elements without bytes", at: place)
            }
            emptyElements += Int(count)
        } else if count > Int64(end - cursor) {
            throw failure(.truncated, "a block of \(count) elements, with \(end - cursor) bytes left", at: place)
        }
        return Int(count)
    }

    // MARK: Skipping

    private mutating func advance(_ count: Int) throws(FormatFailure) {
        guard count <= end - cursor else { throw truncated(count) }
        cursor += count
    }

    /// Moves past a value without making anything of it.
    ///
    /// - Parameter depth: Of values around this one.
    mutating func skip(_ value: UnsafePointer<AvroPlan.Node>, depth: Int) throws(FormatFailure) {
        guard !value.pointee.isEmpty else { return }
        guard depth <= Self.skipDepthMax else {
            throw failure(.tooLarge, "more than \(Self.skipDepthMax) values inside each other", at: cursor)
        }
        switch value.pointee.kind {
        case .null, .refused: break
        case .boolean: try advance(1)
        case .int, .long, .enumeration: _ = try readLong()
        case .float: try advance(4)
        case .double: try advance(8)
        case .bytes, .string: cursor += try readLength()
        case .fixed: try advance(Int(value.pointee.count))
        case .record:
            var step = steps + Int(value.pointee.first)
            while step.pointee.field != AvroPlan.Step.end {
                try skip(nodes + Int(step.pointee.node), depth: depth + 1)
                step += 1
            }
        case .union:
            let place = cursor
            let branch = try readLong()
            guard branch >= 0, branch < Int64(value.pointee.count) else {
                throw failure(.malformed, "branch \(branch) of a union of \(value.pointee.count)", at: place)
            }
            try skip(nodes + Int(branches[Int(value.pointee.first) + Int(branch)]), depth: depth + 1)
        case .array: try skipArray(value, depth: depth)
        }
    }

    private mutating func skipArray(_ value: UnsafePointer<AvroPlan.Node>, depth: Int) throws(FormatFailure) {
        let item = nodes + Int(value.pointee.first)
        while true {
            let place = cursor
            let count = try readLong()
            if count == 0 { return }
            if count < 0 {
                cursor += try readLength()
            } else if !item.pointee.isEmpty {
                guard count <= Int64(end - cursor) else {
                    throw failure(.truncated, "a block of \(count) elements, with \(end - cursor) bytes left", at: place)
                }
                for _ in 0..<count { try skip(item, depth: depth + 1) }
            }
        }
    }
}
