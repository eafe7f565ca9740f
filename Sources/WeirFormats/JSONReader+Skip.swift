extension JSONReader {

    /// Skips a value of any type. What it skips is checked to be JSON: grammar, escapes, UTF-8 and depth.
    @inlinable @inline(__always)
    public mutating func skipValue() throws(JSONFailure) {
        switch next {
        case UInt8(ascii: "\""):
            let stop = stringStop(from: cursor + 1)
            if byte(at: stop) == UInt8(ascii: "\"") {
                cursor = stop + 1
            } else {
                cursor = try scanString(from: cursor + 1).close + 1
            }
        case UInt8(ascii: "-"), UInt8(ascii: "0")...UInt8(ascii: "9"): cursor = try shortNumberEnd(from: cursor)
        case UInt8(ascii: "t"), UInt8(ascii: "f"): _ = try readBool()
        case UInt8(ascii: "n"): if !readNull() { throw failure(.syntax, "null expected, found 'n'", at: cursor) }
        default: try skipNested()
        }
    }

    /// Behind the number at `begin`, whose grammar is checked; what follows is not looked at.
    @inlinable @inline(__always)
    mutating func shortNumberEnd(from begin: UnsafeRawPointer) throws(JSONFailure) -> UnsafeRawPointer {
        let place = byte(at: begin) == UInt8(ascii: "-") ? begin + 1 : begin
        let word = word(at: place)
        let count = Self.digitCount(word)
        guard count > 0, count < 8, count == 1 || UInt8(truncatingIfNeeded: word) != UInt8(ascii: "0") else {
            return try numberEnd(from: begin)
        }
        let behind = UInt8(truncatingIfNeeded: word &>> UInt64(truncatingIfNeeded: 8 &* count))
        if behind == UInt8(ascii: ",") { return place + count }
        if behind == UInt8(ascii: ".") {
            let decimals = self.word(at: place + (count &+ 1))
            let scale = Self.digitCount(decimals)
            guard scale > 0, scale < 8, !Self.isExponent(UInt8(truncatingIfNeeded: decimals &>> UInt64(truncatingIfNeeded: 8 &* scale))) else {
                return try numberEnd(from: begin)
            }
            return place + (count &+ 1 &+ scale)
        }
        if Self.isExponent(behind) { return try numberEnd(from: begin) }
        return place + count
    }

    /// The same for numbers of any length.
    @usableFromInline @inline(never)
    mutating func numberEnd(from begin: UnsafeRawPointer) throws(JSONFailure) -> UnsafeRawPointer {
        var place = byte(at: begin) == UInt8(ascii: "-") ? begin + 1 : begin
        let integer = place
        place = digitsEnd(from: place)
        guard place > integer, place == integer + 1 || byte(at: integer) != UInt8(ascii: "0") else { throw numberFailure(at: integer) }
        if byte(at: place) == UInt8(ascii: ".") {
            let fraction = place + 1
            place = digitsEnd(from: fraction)
            guard place > fraction else { throw unexpected("a digit after the decimal point", at: place) }
        }
        if Self.isExponent(byte(at: place)) {
            place += 1
            if byte(at: place) == UInt8(ascii: "+") || byte(at: place) == UInt8(ascii: "-") { place += 1 }
            let exponent = place
            place = digitsEnd(from: place)
            guard place > exponent else { throw unexpected("a digit of the exponent", at: place) }
        }
        return place
    }

    private func digitsEnd(from place: UnsafeRawPointer) -> UnsafeRawPointer {
        var place = place
        while true {
            let count = Self.digitCount(word(at: place))
            place += count
            if count < 8 { return place }
        }
    }

    private mutating func skipScalar() throws(JSONFailure) {
        guard nextKind != nil else { throw unexpected("a value", at: cursor) }
        try skipValue()
    }

    /// Skips an array or an object, without recursion.
    @usableFromInline @inline(never)
    mutating func skipNested() throws(JSONFailure) {
        let outside = depth
        // One bit a level, the lowest the innermost: 1 is an object. ``depthMax`` is the width.
        var objects: UInt128 = 0
        while true {
            var isComplete = true
            switch next {
            case UInt8(ascii: "{"):
                if try beginObject() {
                    objects = objects << 1 | 1
                    try skipName()
                    isComplete = false
                }
            case UInt8(ascii: "["):
                if try beginArray() {
                    objects = objects << 1
                    isComplete = false
                }
            default: try skipScalar()
            }
            while isComplete {
                if depth == outside { return }
                if objects & 1 == 1 {
                    if try nextMember() {
                        try skipName()
                        isComplete = false
                    } else {
                        objects >>= 1
                    }
                } else if try nextElement() {
                    isComplete = false
                } else {
                    objects >>= 1
                }
            }
        }
    }

    private mutating func skipName() throws(JSONFailure) {
        cursor = try scanString(from: cursor + 1).close + 1
        try readColon()
    }
}
