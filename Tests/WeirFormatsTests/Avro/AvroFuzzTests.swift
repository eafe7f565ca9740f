import Testing
import WeirBase
import WeirFormats

@Record private struct Marked: Equatable { var marker: Int64 }

/// Random schemas and damaged bytes: nothing traps, nothing runs away, and what is skipped is skipped to the byte.
@Suite struct AvroFuzzTests {
    /// Some fields of any type, then one that is read.
    private func draw(_ random: inout Random) -> (schema: String, types: [RandomAvro]) {
        var names = 0
        let types = (0..<(1 + random.below(5))).map { _ in RandomAvro.draw(&random, names: &names) }
        let fields = types.enumerated().map { #"{"name":"f\#($0)","type":\#($1.schema)},"# }.joined()
        return (#"{"type":"record","name":"R","fields":[\#(fields){"name":"marker","type":"long"}]}"#, types)
    }

    @Test(arguments: 0..<40 as Range<UInt64>) func whatNoFieldTakesIsSkippedToTheByte(seed: UInt64) throws {
        var random = Random(seed: seed)
        for _ in 0..<25 {
            let (text, types) = draw(&random)
            let schema = try AvroSchema(parsing: text)
            #expect(try AvroSchema(parsing: schema.canonicalForm).fingerprint == schema.fingerprint)
            let format = try AvroFormat(Marked.self, framing: .none(writer: schema))
            let marker = Int64(bitPattern: random.next()) >> Int64(random.below(64))
            var avro = AvroBytes()
            for type in types { type.write(&random, into: &avro) }
            avro.long(marker)
            #expect(try decodeCopy(avro.bytes, format) == Marked(marker: marker), "\(text)")
            #expect(formatFailure(Array(avro.bytes.dropLast()), format) != nil)
            #expect(formatFailure(avro.bytes + [0], format)?.reason == .trailingBytes)
        }
    }

    @Test(arguments: 0..<40 as Range<UInt64>) func damagedBytesNeverTrap(seed: UInt64) throws {
        var random = Random(seed: seed)
        var accepted = 0
        for _ in 0..<20 {
            let (text, types) = draw(&random)
            let marked = try AvroFormat(Marked.self, framing: .none(writer: AvroSchema(parsing: text)))
            let reading = try AvroFormat(Reading.self)
            for _ in 0..<10 {
                var avro = AvroBytes()
                for type in types { type.write(&random, into: &avro) }
                avro.long(5)
                if (try? decodeCopy(damaged(avro.bytes, &random), marked)) != nil { accepted += 1 }
                let row = Reading(
                    containerID: "C-1", timestamp: 1, temperature: 2, humidity: 3, co2: 4, tags: ["a", "b", "c"], a: Int32.max, b: 2)
                if let read = try? decodeCopy(damaged(encodedBytes(row, reading), &random), reading) {
                    // What is accepted is a row like any other.
                    #expect(try decodeCopy(encodedBytes(read, reading), reading).containerID == read.containerID)
                }
            }
        }
        #expect(accepted > 0, "the fuzzing gets past the first byte")
    }

    private func damaged(_ bytes: [UInt8], _ random: inout Random) -> [UInt8] {
        var bytes = bytes
        for _ in 0..<(1 + random.below(3)) where !bytes.isEmpty {
            let place = random.below(bytes.count)
            switch random.below(6) {
            case 0: bytes[place] = UInt8(random.below(256))
            case 1: bytes[place] ^= 1 << UInt8(random.below(8))
            case 2: bytes.removeSubrange(place..<min(bytes.count, place + 1 + random.below(4)))
            case 3: bytes.insert(contentsOf: [UInt8](repeating: 0xFF, count: 1 + random.below(10)), at: place)
            case 4: bytes.insert(contentsOf: bytes[place..<min(bytes.count, place + random.below(20))], at: random.below(bytes.count))
            default: bytes.removeLast(random.below(min(bytes.count, 10)))
            }
        }
        return bytes
    }
}
