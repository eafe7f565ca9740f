extension JSONReader {

    // MARK: Eight digits at a time

    /// How many of the eight bytes are digits before the first that is none.
    @inlinable @inline(__always)
    static func digitCount(_ word: UInt64) -> Int {
        let digits = word ^ 0x3030_3030_3030_3030
        // 0x76 + 10 sets a byte's top bit. A carry only reaches bytes behind one that is no digit.
        let others = ((digits &+ 0x7676_7676_7676_7676) | digits) & 0x8080_8080_8080_8080
        return others.trailingZeroBitCount &>> 3
    }

    /// Sets the top bit of each byte that is no digit.
    @inlinable @inline(__always)
    static func nonDigits(_ word: UInt64) -> UInt64 {
        let digits = word ^ 0x3030_3030_3030_3030
        return (((digits & 0x7F7F_7F7F_7F7F_7F7F) &+ 0x7676_7676_7676_7676) | digits) & 0x8080_8080_8080_8080
    }

    /// The number that the first `count` bytes, 1 to 8 digits, spell.
    @inlinable @inline(__always)
    static func number(_ word: UInt64, digits count: Int) -> UInt64 {
        // Shifted up, the digits get leading zeros; then neighbours are joined: 8 x 1, 4 x 2, 2 x 4, 1 x 8 digits.
        var value = (word & 0x0F0F_0F0F_0F0F_0F0F) &<< UInt64(truncatingIfNeeded: 64 &- 8 &* count)
        value = value &* 10 &+ (value &>> 8)
        let low = (value & 0x0000_00FF_0000_00FF) &* 0x000F_4240_0000_0064
        let high = ((value &>> 16) & 0x0000_00FF_0000_00FF) &* 0x0000_2710_0000_0001
        return (low &+ high) &>> 32
    }

    /// Ten to the power of 1 to 8.
    @inlinable @inline(__always)
    static func powerOfTen(_ exponent: Int) -> UInt64 {
        switch exponent {
        case 1: 10
        case 2: 100
        case 3: 1_000
        case 4: 10_000
        case 5: 100_000
        case 6: 1_000_000
        case 7: 10_000_000
        default: 100_000_000
        }
    }

    @inlinable @inline(__always)
    static func powerOfTen(_ exponent: Int) -> Double {
        switch exponent {
        case 1: 10
        case 2: 100
        case 3: 1e3
        case 4: 1e4
        case 5: 1e5
        case 6: 1e6
        case 7: 1e7
        default: 1e8
        }
    }

    @inlinable @inline(__always)
    static func isExponent(_ byte: UInt8) -> Bool { byte | 0x20 == UInt8(ascii: "e") }

    // MARK: Integers

    /// Reads an integer exactly; one that the type cannot hold is a failure, and so is a fraction or an exponent.
    @inlinable @inline(__always)
    public mutating func readInteger<Integer: FixedWidthInteger>(_ type: Integer.Type) throws(JSONFailure) -> Integer {
        let begin = cursor
        let isNegative = next == UInt8(ascii: "-")
        var place = isNegative ? begin + 1 : begin
        var word = word(at: place)
        var count = Self.digitCount(word)
        guard count > 0, count == 1 || UInt8(truncatingIfNeeded: word) != UInt8(ascii: "0") else { throw integerFailure(at: begin) }
        var magnitude = Self.number(word, digits: count)
        place += count
        if count == 8 {
            word = self.word(at: place)
            count = Self.digitCount(word)
            if count > 0 {
                magnitude = magnitude &* Self.powerOfTen(count) &+ Self.number(word, digits: count)
                place += count
                if count == 8 { (magnitude, place) = try moreDigits(magnitude, place, begin: begin) }
            }
        }
        cursor = place
        if isNegative {
            guard magnitude <= 1 << 63, let value = Integer(exactly: Int64(truncatingIfNeeded: 0 &- magnitude)) else {
                throw rangeFailure("\(Integer.self)", at: begin)
            }
            return value
        }
        guard let value = Integer(exactly: magnitude) else { throw rangeFailure("\(Integer.self)", at: begin) }
        return value
    }

    /// Goes on after sixteen digits.
    @usableFromInline @inline(never)
    mutating func moreDigits(
        _ magnitude: UInt64, _ place: UnsafeRawPointer, begin: UnsafeRawPointer
    ) throws(JSONFailure) -> (UInt64, UnsafeRawPointer) {
        var magnitude = magnitude
        var place = place
        while true {
            let digit = byte(at: place) &- 0x30
            guard digit < 10 else { return (magnitude, place) }
            let (product, overflow) = magnitude.multipliedReportingOverflow(by: 10)
            let (sum, carry) = product.addingReportingOverflow(UInt64(digit))
            guard !overflow, !carry else { throw rangeFailure("a 64-bit integer", at: begin) }
            magnitude = sum
            place += 1
        }
    }

    @usableFromInline @inline(never)
    mutating func integerFailure(at place: UnsafeRawPointer) -> JSONFailure {
        let digits = byte(at: place) == UInt8(ascii: "-") ? place + 1 : place
        guard digits == place, byte(at: place) != UInt8(ascii: "0") else { return numberFailure(at: digits) }
        return unexpected("an integer", at: place)
    }

    @usableFromInline @inline(never)
    mutating func rangeFailure(_ type: @autoclosure () -> String, at place: UnsafeRawPointer) -> JSONFailure {
        failure(.outOfRange, "the number does not fit \(type())", at: place)
    }

    /// The failure of digits that should have been at `place`: none, or one zero too many.
    @usableFromInline @inline(never)
    mutating func numberFailure(at place: UnsafeRawPointer) -> JSONFailure {
        guard byte(at: place) == UInt8(ascii: "0") else { return unexpected("a digit", at: place) }
        return failure(.syntax, "a number begins with a zero too many", at: place)
    }

    // MARK: Floating point

    /// Reads a number, correctly rounded. Beyond the largest finite value it fails; below the smallest it is zero.
    @inlinable @inline(__always)
    public mutating func readDouble() throws(JSONFailure) -> Double {
        let begin = cursor
        let isNegative = next == UInt8(ascii: "-")
        var place = isNegative ? begin + 1 : begin
        let word = word(at: place)
        // At most seven bytes with one dot inside, as measurements are: all of it is in the word.
        let others = Self.nonDigits(word)
        let later = others & (others &- 1)
        let dot = others.trailingZeroBitCount & ~7
        let stop = later.trailingZeroBitCount & ~7
        if later != 0, dot != 0, stop > dot &+ 8, UInt8(truncatingIfNeeded: word) != UInt8(ascii: "0") || dot == 8,
            UInt8(truncatingIfNeeded: word &>> UInt64(truncatingIfNeeded: dot)) == UInt8(ascii: "."),
            !Self.isExponent(UInt8(truncatingIfNeeded: word &>> UInt64(truncatingIfNeeded: stop)))
        {
            let whole = word & ((1 &<< UInt64(truncatingIfNeeded: dot)) &- 1)
            let decimals = ((word &>> 8) &>> UInt64(truncatingIfNeeded: dot)) &<< UInt64(truncatingIfNeeded: dot)
            let mantissa = Self.number(whole | decimals, digits: (stop &>> 3) &- 1)
            let value = Double(Int64(truncatingIfNeeded: mantissa)) / Self.powerOfTen(((stop &- dot) &>> 3) &- 1)
            cursor = place + (stop &>> 3)
            return Double(bitPattern: value.bitPattern | (isNegative ? 1 << 63 : 0))
        }
        let count = others.trailingZeroBitCount &>> 3
        // Seven digits and seven decimals at most: the mantissa and the power of ten are exact, so that one division rounds once.
        guard count &- 1 < 7, count > 0, count == 1 || UInt8(truncatingIfNeeded: word) != UInt8(ascii: "0") else {
            return try readLongDouble()
        }
        place += count
        var behind = UInt8(truncatingIfNeeded: word &>> UInt64(truncatingIfNeeded: 8 &* count))
        var value: Double
        if behind == UInt8(ascii: ".") {
            let decimals = self.word(at: place + 1)
            let scale = Self.digitCount(decimals)
            guard scale &- 1 < 7, scale > 0 else { return try readLongDouble() }
            let power: UInt64 = Self.powerOfTen(scale)
            let mantissa = Self.number(word, digits: count) &* power &+ Self.number(decimals, digits: scale)
            value = Double(Int64(truncatingIfNeeded: mantissa)) / Double(Int64(truncatingIfNeeded: power))
            place += 1 &+ scale
            behind = UInt8(truncatingIfNeeded: decimals &>> UInt64(truncatingIfNeeded: 8 &* scale))
        } else {
            value = Double(Int64(truncatingIfNeeded: Self.number(word, digits: count)))
        }
        if Self.isExponent(behind) { return try readLongDouble() }
        cursor = place
        // Without a branch that the sign, which is random, could mispredict.
        return Double(bitPattern: value.bitPattern | (isNegative ? 1 << 63 : 0))
    }

    /// Reads a number, rounded once to a `Float`.
    @inlinable
    public mutating func readFloat() throws(JSONFailure) -> Float {
        let begin = cursor
        let value = try readDouble()
        // Rounding twice goes wrong only where the first result lies on the middle between two floats, or below the normal ones.
        guard value.bitPattern & 0x1FFF_FFFF != 0x1000_0000, value == 0 || abs(value) >= 2 * Double(Float.leastNormalMagnitude) else {
            return try roundedFloat(from: begin)
        }
        let float = Float(value)
        guard float.isFinite else { throw rangeFailure("Float", at: begin) }
        return float
    }

    @usableFromInline @inline(never)
    mutating func roundedFloat(from begin: UnsafeRawPointer) throws(JSONFailure) -> Float {
        let text = String(decoding: UnsafeRawBufferPointer(start: begin, count: cursor - begin), as: UTF8.self)
        guard let value = Float(text), value.isFinite else { throw rangeFailure("Float", at: begin) }
        return value
    }

    /// Any number of JSON's grammar, from the cursor on.
    @usableFromInline @inline(never)
    mutating func readLongDouble() throws(JSONFailure) -> Double {
        let begin = cursor
        if next != UInt8(ascii: "-"), next &- 0x30 > 9 { throw unexpected("a number", at: begin) }
        let behind = try numberEnd(from: begin)
        cursor = behind
        if let value = Decimal(begin, behind).rounded() { return value }
        let text = String(decoding: UnsafeRawBufferPointer(start: begin, count: behind - begin), as: UTF8.self)
        guard let value = Double(text), value.isFinite else { throw rangeFailure("Double", at: begin) }
        return value
    }
}

/// A number as `mantissa * 10^exponent`, while its mantissa has 19 digits at most.
struct Decimal {
    var mantissa: UInt64 = 0
    var exponent = 0
    var isNegative = false
    /// False where digits were left out.
    var isExact = true

    /// Takes apart a number whose grammar has been checked.
    init(_ begin: UnsafeRawPointer, _ end: UnsafeRawPointer) {
        var place = begin
        var digits = 0
        var isFraction = false
        while place < end {
            let byte = place.load(as: UInt8.self)
            place += 1
            switch byte {
            case UInt8(ascii: "-"): isNegative = true
            case UInt8(ascii: "."): isFraction = true
            case UInt8(ascii: "0")...UInt8(ascii: "9"):
                if mantissa == 0, byte == 0x30 {
                    // A zero in front does not count as a digit.
                } else if digits == 19 {
                    isExact = false
                    return
                } else {
                    mantissa = mantissa * 10 + UInt64(byte - 0x30)
                    digits += 1
                }
                if isFraction { exponent -= 1 }
            default:
                addExponent(place, end)
                return
            }
        }
    }

    private mutating func addExponent(_ begin: UnsafeRawPointer, _ end: UnsafeRawPointer) {
        var place = begin
        var sign = 1
        var value = 0
        while place < end {
            let byte = place.load(as: UInt8.self)
            place += 1
            if byte == UInt8(ascii: "-") {
                sign = -1
            } else if byte != UInt8(ascii: "+") {
                value = min(value * 10 + Int(byte - 0x30), 100_000)
            }
        }
        exponent += sign * value
    }

    /// The nearest double, ties to even; nil where 64-bit arithmetic cannot tell it.
    func rounded() -> Double? {
        guard isExact else { return nil }
        let magnitude: Double
        if mantissa == 0 {
            magnitude = 0
        } else if exponent >= 0, exponent <= 19 {
            let product = mantissa.multipliedFullWidth(by: Self.power(exponent))
            magnitude = Self.round(high: product.high, low: product.low)
        } else if exponent < 0, exponent >= -19 {
            // Both shifted up to their top bits, the quotient has 63 or 64 bits; that anything is left goes into the lowest one,
            // which is far below where a double is rounded.
            let divisor = Self.power(-exponent)
            let shift = mantissa.leadingZeroBitCount - divisor.leadingZeroBitCount
            let top = mantissa << UInt64(mantissa.leadingZeroBitCount)
            let (quotient, rest) = (divisor << UInt64(divisor.leadingZeroBitCount)).dividingFullWidth((top >> 1, top << 63))
            magnitude = Double(sign: .plus, exponent: -63 - shift, significand: Double(quotient | (rest == 0 ? 0 : 1)))
        } else {
            return nil
        }
        return isNegative ? -magnitude : magnitude
    }

    private static func round(high: UInt64, low: UInt64) -> Double {
        guard high != 0 else { return Double(low) }
        let shift = UInt64(high.leadingZeroBitCount)
        let top = shift == 0 ? high : high << shift | low >> (64 - shift)
        let rest = low << shift
        return Double(sign: .plus, exponent: 64 - Int(shift), significand: Double(top | (rest == 0 ? 0 : 1)))
    }

    private static func power(_ exponent: Int) -> UInt64 {
        var power: UInt64 = 1
        for _ in 0..<exponent { power *= 10 }
        return power
    }
}
