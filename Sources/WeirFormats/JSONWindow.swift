internal import CWeirScan

/// 64 bytes of a document, classified at once: the members that no field reads are skipped by bits instead of bytes.
///
/// Bit `i` stands for the byte `base + i`. Places are offsets from ``base``.
@usableFromInline
struct JSONWindow {
    @usableFromInline let base: UnsafeRawPointer
    @usableFromInline let quotes: UInt64
    @usableFromInline let digits: UInt64
    /// Where what is known of the bytes ends: at the first escape, control character or byte beyond ASCII, or at the end. At most 64.
    @usableFromInline let limit: Int

    /// The window in which `place` lies: it begins there, or ends with the document.
    // Not inlined: it is large, and would keep the loop around it from being inlined where the look-up is known.
    @usableFromInline @inline(never)
    init(at place: UnsafeRawPointer, start: UnsafeRawPointer, end: UnsafeRawPointer) {
        let left = end - place
        let masks: weir_text_masks
        if left >= 64 {
            base = place
            masks = weir_text_scan(base)
        } else if end - start >= 64 {
            base = end - 64
            masks = weir_text_scan(base)
        } else {
            base = place
            masks = Self.scanCopy(of: place, left)
        }
        quotes = masks.quotes
        digits = masks.digits
        let stops = masks.stops & (~0 &<< UInt64(truncatingIfNeeded: place - base))
        limit = min(stops.trailingZeroBitCount, end - base)
    }

    /// A short document, with zeros behind it.
    private static func scanCopy(of place: UnsafeRawPointer, _ count: Int) -> weir_text_masks {
        var copy: (UInt64, UInt64, UInt64, UInt64, UInt64, UInt64, UInt64, UInt64) = (0, 0, 0, 0, 0, 0, 0, 0)
        return withUnsafeMutableBytes(of: &copy) { copy in
            copy.copyMemory(from: UnsafeRawBufferPointer(start: place, count: count))
            return weir_text_scan(copy.baseAddress!)
        }
    }

    /// Behind the string, number or word at `value`, if that is one without escapes and exponent; 64 or more if not, or if it does not end in
    /// the window.
    ///
    /// - Parameters:
    ///   - value: Less than ``limit``.
    ///   - quotes: The quotes from `value` on.
    // Needed once a window: not inlined, for the reason given above.
    @usableFromInline @inline(never)
    func valueEnd(_ value: Int, quotes: UInt64) -> Int {
        let first = (base + value).load(as: UInt8.self)
        if first == UInt8(ascii: "\"") { return (quotes & (quotes &- 1)).trailingZeroBitCount &+ 1 }
        let isNegative = first == UInt8(ascii: "-")
        let begin = isNegative ? value &+ 1 : value
        guard begin < limit else { return 64 }
        let others = ~digits & (~0 &<< UInt64(truncatingIfNeeded: begin))
        let whole = others.trailingZeroBitCount
        guard whole < limit else { return 64 }
        if whole == begin { return isNegative ? 64 : wordEnd(value) }
        guard whole == begin &+ 1 || (base + begin).load(as: UInt8.self) != UInt8(ascii: "0") else { return 64 }
        guard (base + whole).load(as: UInt8.self) == UInt8(ascii: ".") else { return whole }
        let stop = (others & (others &- 1)).trailingZeroBitCount
        return stop > whole &+ 1 ? stop : 64
    }

    /// Behind `true`, `false` or `null`; 64 if it is none of them.
    @inlinable @inline(__always)
    func wordEnd(_ value: Int) -> Int {
        guard value &+ 5 < limit else { return 64 }
        let place = base + value
        let four = UInt32(littleEndian: place.loadUnaligned(as: UInt32.self))
        if four == 0x6575_7274 || four == 0x6C6C_756E { return value &+ 4 }
        return four == 0x736C_6166 && place.load(fromByteOffset: 4, as: UInt8.self) == UInt8(ascii: "e") ? value &+ 5 : 64
    }

    /// Whether the number or word at `value` ends right before `stop`, and is one without exponent.
    ///
    /// - Parameters:
    ///   - value: Where a value begins that is no string.
    ///   - stop: In `value...62`; what lies before it is known.
    @inlinable @inline(__always)
    func isScalar(from value: Int, to stop: Int) -> Bool {
        let isNegative = (base + value).load(as: UInt8.self) == UInt8(ascii: "-")
        let begin = isNegative ? value &+ 1 : value
        // Less than 64; zero where nothing is there.
        let span = stop &- begin
        let others = (~digits &>> UInt64(truncatingIfNeeded: begin)) & ((1 &<< UInt64(truncatingIfNeeded: span)) &- 1)
        let startsWithZero = (base + begin).load(as: UInt8.self) == UInt8(ascii: "0")
        if others == 0 { return span == 1 || (span > 1 && !startsWithZero) }
        let dot = others.trailingZeroBitCount
        if (base + begin).load(fromByteOffset: dot, as: UInt8.self) == UInt8(ascii: ".") {
            return others & (others &- 1) == 0 && dot > 0 && dot &+ 1 < span && (dot == 1 || !startsWithZero)
        }
        return wordEnd(value) == stop
    }

    @inlinable @inline(__always)
    func isComma(_ place: Int) -> Bool { (base + place).load(as: UInt8.self) == UInt8(ascii: ",") }
}
