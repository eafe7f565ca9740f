import Weir

/// Readings as they come from devices: JSON objects of 9 fields and about 150 bytes. Seeded: the same index gives the same line.
struct TelemetryLines {
    static let start: Int64 = 1_700_000_000_000
    let devices: Int
    let seed: UInt64

    /// Writes a reading without a line end. Each device sends about one a second, up to 2 s out of order.
    func write(_ index: Int, to writer: inout ByteWriter) {
        let random = randomBits(seed: seed, index: UInt64(index))
        let device = Int(((random & 0xFFFF_FFFF) * UInt64(devices)) >> 32)
        let time = Self.start + Int64(index) * 1_000 / Int64(devices) - Int64((random >> 32) % 2_000)
        text("{\"containerID\":\"C-", &writer)
        number(100_000 + device, &writer)
        text("\",\"timestamp\":", &writer)
        number(Int(time), &writer)
        text(",\"temperature\":", &writer)
        decimal(Int(random >> 48 & 0xFF) - 80, &writer)
        text(",\"co2\":", &writer)
        decimal(1_600 + Int(random >> 40 & 0x3FF), &writer)
        text(",\"humidity\":", &writer)
        decimal(160 + Int(random >> 20 & 0xFF), &writer)
        text(",\"battery\":", &writer)
        number(Int(random >> 8 & 0x3F) + 30, &writer)
        text(random & 0x700 == 0 ? ",\"door\":true,\"site\":\"H" : ",\"door\":false,\"site\":\"H", &writer)
        number(10 + device % 90, &writer)
        text("\",\"seq\":", &writer)
        number(10_000 + index % 90_000, &writer)
        text("}", &writer)
    }

    private func text(_ literal: StaticString, _ writer: inout ByteWriter) {
        writer.writeBytes(UnsafeRawBufferPointer(start: literal.utf8Start, count: literal.utf8CodeUnitCount))
    }

    /// Quarters, whose sums are exact in any order.
    private func decimal(_ quarters: Int, _ writer: inout ByteWriter) {
        if quarters < 0 { writer.writeU8(UInt8(ascii: "-")) }
        number(abs(quarters) / 4, &writer)
        writer.writeU8(UInt8(ascii: "."))
        let hundredths = abs(quarters) % 4 * 25
        writer.writeU8(UInt8(ascii: "0") + UInt8(hundredths / 10))
        writer.writeU8(UInt8(ascii: "0") + UInt8(hundredths % 10))
    }

    private func number(_ value: Int, _ writer: inout ByteWriter) {
        if value >= 10 { number(value / 10, &writer) }
        writer.writeU8(UInt8(ascii: "0") + UInt8(value % 10))
    }
}
