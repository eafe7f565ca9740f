import Testing
import WeirBase

@Suite struct TimeTests {
    @Test(arguments: [("10s", 10_000), ("500 ms", 500), ("5min", 300_000), ("7", 7), ("1h", 3_600_000), ("2 d", 172_800_000)])
    func durationsParse(text: String, milliseconds: Int64) { #expect(parseDuration(text)?.inMilliseconds == milliseconds) }

    @Test(arguments: ["", "s", "-1s", "1.5s", "10 parsecs", "99999999999999999999s", "300000000000h"])
    func otherTextsAreNoDurations(text: String) { #expect(parseDuration(text) == nil) }

    @Test func durationsPrintInTheirLargestWholeUnit() {
        #expect(formatDuration(.seconds(90)) == "90 s")
        #expect(formatDuration(.seconds(120)) == "2 min")
        #expect(formatDuration(.zero) == "0 ms")
        #expect(formatDuration(.nanoseconds(1_500)) == "1500 ns")
    }

    @Test func sizesParse() {
        #expect(ByteCount("64mb")?.bytes == 64 << 20)
        #expect(ByteCount("32 KiB")?.bytes == 32 << 10)
        #expect(ByteCount("9999999999tb") == nil)
        #expect(ByteCount(bytes: 64 << 20).description == "64 mb")
    }
}

@Suite struct KeyHashTests {
    /// Savepoints depend on these values: a change here is a change of the format.
    @Test func theHashIsPinned() {
        let expected: [(String, UInt64)] = PinnedHashes.table
        for (text, hash) in expected { #expect(KeyHash.hash(text) == hash, "\(text): \(KeyHash.hash(text))") }
    }

    @Test func anIntegerHashesAsItsBytes() {
        for value in [0, 1, -1, 42, Int.max, Int.min] {
            #expect(value.keyHash == value.withKeyBytes { KeyHash.hash($0) })
        }
    }

    @Test func everyByteAndTheLengthCount() {
        var seen: Set<UInt64> = []
        for length in 0..<80 {
            for flipped in -1..<length {
                var bytes = [UInt8](repeating: 0, count: length)
                if flipped >= 0 { bytes[flipped] = 1 }
                #expect(seen.insert(bytes.withUnsafeBytes { KeyHash.hash($0) }).inserted, "length \(length), byte \(flipped)")
            }
        }
    }
}

@Suite struct ChecksumTests {
    @Test func knownAnswers() {
        // RFC 3720 B.4.
        #expect(Array("123456789".utf8).withUnsafeBytes { crc32c($0) } == 0xE306_9283)
        #expect([UInt8](repeating: 0, count: 32).withUnsafeBytes { crc32c($0) } == 0x8A91_36AA)
        #expect([UInt8](repeating: 0xFF, count: 32).withUnsafeBytes { crc32c($0) } == 0x62A8_AB43)
    }

    @Test func itGoesOnFromASeed() {
        let bytes = Array("a stream of bytes in two parts".utf8)
        let whole = bytes.withUnsafeBytes { crc32c($0) }
        let first = bytes[..<11].withUnsafeBytes { crc32c($0) }
        #expect(bytes[11...].withUnsafeBytes { crc32c($0, seed: first) } == whole)
    }
}

@Suite struct BinaryTests {
    private func roundTrip<T: BinaryCodable & Equatable>(_ value: T) throws {
        var writer = ByteWriter(capacity: 1)
        value.encode(into: &writer)
        let bytes = writer.finish()
        try bytes.withUnsafeBytes { raw in
            var reader = ByteReader(raw)
            #expect(try T(from: &reader) == value)
            try reader.expectEnd()
        }
        for end in 0..<bytes.count {
            bytes[..<end].withUnsafeBytes { raw in
                var reader = ByteReader(raw)
                #expect(throws: DecodingFailure.self) { _ = try T(from: &reader) }
            }
        }
    }

    @Test func valuesReturnAndPrefixesThrow() throws {
        try roundTrip(Int.min)
        try roundTrip(Int32(-7))
        try roundTrip(UInt64.max)
        try roundTrip(-0.5)
        try roundTrip(true)
        try roundTrip("über 日本")
        try roundTrip([String?.none, "x", ""])
        try roundTrip([[1, 2], [], [3]])
    }

    @Test func aDamagedCountAsksForNoMemory() {
        var writer = ByteWriter()
        writer.writeVarint(UInt64.max / 2)
        writer.finish().withUnsafeBytes { raw in
            var reader = ByteReader(raw)
            #expect(throws: DecodingFailure.self) { _ = try [Int](from: &reader) }
        }
    }

    @Test func overlongVarintsThrow() {
        for bytes: [UInt8] in [[UInt8](repeating: 0x80, count: 11), [UInt8](repeating: 0xFF, count: 9) + [2]] {
            bytes.withUnsafeBytes { raw in
                var reader = ByteReader(raw)
                #expect(throws: DecodingFailure.self) { _ = try reader.readVarint() }
            }
        }
    }

    @Test func jobIDsPrintAndParse() {
        let id = JobID(high: 1, low: 0xABCD)
        #expect(id.description == "0000000000000001000000000000abcd")
        #expect(JobID(id.description) == id)
        #expect(JobID("xyz") == nil)
    }
}

@Suite struct ConfigurationTests {
    private let keys = [
        ConfigurationKey("jobmanager.rpc.port", .integer(0...65_535), default: "6123", ""),
        ConfigurationKey("kafka.sasl.password", .string, default: "", ""),
        ConfigurationKey("heartbeat.interval", .duration, default: "1s", ""),
    ]

    @Test func laterLayersWin() throws {
        var configuration = Configuration(keys: keys)
        try configuration.merge(["jobmanager.rpc.port": "1"], origin: "file")
        try configuration.merge(["jobmanager.rpc.port": "2"], origin: "-D")
        #expect(configuration.integer("jobmanager.rpc.port") == 2)
        #expect(configuration.duration("heartbeat.interval") == .seconds(1))
    }

    @Test func everyProblemIsToldAtOnceAndNothingChanges() {
        var configuration = Configuration(keys: keys)
        let bad = ["jobmanager.rpc.prt": "1", "jobmanager.rpc.port": "70000", "heartbeat.interval": "soon"]
        #expect(
            throws: ConfigurationError([
                "f: heartbeat.interval is \"soon\": it takes a duration such as 10s, 500ms or 5min",
                "f: jobmanager.rpc.port is \"70000\": it takes a whole number from 0 to 65535",
                "f: unknown key jobmanager.rpc.prt; did you mean jobmanager.rpc.port?",
            ])
        ) { try configuration.merge(bad, origin: "f") }
        #expect(configuration.values.isEmpty)
    }

    @Test func secretsAreMasked() throws {
        var configuration = Configuration(keys: keys)
        try configuration.merge(["kafka.sasl.password": "hunter2"], origin: "f")
        #expect(configuration.effective.first { $0.name == "kafka.sasl.password" }?.value == "******")
    }

    @Test func aKeyThatEndsInAStarStandsForAllBelow() throws {
        var configuration = Configuration(keys: [ConfigurationKey("kafka.*", .string, default: "", "")])
        try configuration.merge(["kafka.property.linger.ms": "5", "kafka.readings.property.sasl.password": "hush"], origin: "-D")
        #expect(configuration.settings(below: "kafka.").count == 2)
        #expect(configuration.effective.map(\.value) == ["5", "******"])
        #expect(throws: ConfigurationError.self) { try configuration.merge(["kafka.": "x"], origin: "-D") }
        #expect(throws: ConfigurationError.self) { try configuration.merge(["kafk.property.a": "x"], origin: "-D") }
    }
}
