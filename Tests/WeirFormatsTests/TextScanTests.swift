import CWeirScan
import Testing

/// The scan that the processor's vectors do finds what the plain one finds, at any address.
@Suite struct TextScanTests {
    private static let special: [UInt8] = [0x00, 0x1F, 0x20, 0x22, 0x2F, 0x30, 0x39, 0x3A, 0x5C, 0x7F, 0x80, 0xB0, 0xB9, 0xFF]

    @Test(arguments: 0..<50 as Range<UInt64>) func vectorsAndBytesAgree(seed: UInt64) {
        var random = Random(seed: seed)
        let text = (0..<80).map { _ in random.below(2) == 0 ? Self.special[random.below(Self.special.count)] : UInt8(random.below(256)) }
        text.withUnsafeBytes { text in
            for offset in 0..<16 {
                let fast = weir_text_scan(text.baseAddress! + offset)
                let plain = weir_text_scan_portable(text.baseAddress! + offset)
                #expect(fast.quotes == plain.quotes && fast.stops == plain.stops && fast.digits == plain.digits)
                for index in 0..<64 {
                    let byte = text[offset + index]
                    #expect(plain.quotes >> UInt64(index) & 1 == (byte == 0x22 ? 1 : 0))
                    #expect(plain.stops >> UInt64(index) & 1 == (byte == 0x5C || byte < 0x20 || byte >= 0x80 ? 1 : 0))
                    #expect(plain.digits >> UInt64(index) & 1 == ((0x30...0x39).contains(byte) ? 1 : 0))
                }
            }
        }
    }
}
