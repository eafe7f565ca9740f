import WeirBase
import WeirFormats

/// Decodes a copy that ends where its memory ends, so that a read past the end is found by a sanitizer.
func decodeCopy<Format: DeserializationSchema>(_ bytes: [UInt8], _ format: Format) throws -> Format.Row {
    let memory = UnsafeMutableRawBufferPointer.allocate(byteCount: bytes.count, alignment: 1)
    defer { memory.deallocate() }
    memory.copyBytes(from: bytes)
    return try format.decode(UnsafeRawBufferPointer(memory))
}

func encodedBytes<Format: SerializationSchema>(_ row: Format.Row, _ format: Format) throws -> [UInt8] {
    var writer = ByteWriter()
    try format.encode(row, into: &writer)
    return writer.finish()
}

func formatFailure<Format: DeserializationSchema>(_ bytes: [UInt8], _ format: Format) -> FormatFailure? {
    do {
        _ = try decodeCopy(bytes, format)
        return nil
    } catch {
        return error as? FormatFailure
    }
}

/// Why a schema is refused; nil if it is not.
func schemaProblem(_ body: () throws(AvroSchemaFailure) -> Void) -> String? {
    do throws(AvroSchemaFailure) {
        try body()
        return nil
    } catch {
        return error.message
    }
}

func hex(_ bytes: [UInt8]) -> String { bytes.map { ($0 < 16 ? "0" : "") + String($0, radix: 16) }.joined() }

func bytes(hex text: String) -> [UInt8] {
    let digits = Array(text)
    return stride(from: 0, to: digits.count - 1, by: 2).compactMap { UInt8(String(digits[$0...($0 + 1)]), radix: 16) }
}

/// Writes Avro's binary form by hand, a second time and independently of the format.
struct AvroBytes {
    var bytes: [UInt8] = []

    mutating func long(_ value: Int64) {
        var bits = UInt64(bitPattern: value << 1) ^ UInt64(bitPattern: value >> 63)
        repeat {
            bytes.append(UInt8(bits & 0x7F) | (bits > 0x7F ? 0x80 : 0))
            bits >>= 7
        } while bits > 0
    }
    mutating func string(_ text: String) {
        long(Int64(text.utf8.count))
        bytes += Array(text.utf8)
    }
    mutating func double(_ value: Double) { bytes += withUnsafeBytes(of: value.bitPattern.littleEndian) { Array($0) } }
    mutating func float(_ value: Float) { bytes += withUnsafeBytes(of: value.bitPattern.littleEndian) { Array($0) } }

    static func make(_ body: (inout AvroBytes) -> Void) -> [UInt8] {
        var bytes = AvroBytes()
        body(&bytes)
        return bytes.bytes
    }
}

/// A schema drawn at random, with values of it.
indirect enum RandomAvro {
    case null, boolean, int, long, float, double, bytes, string
    case array(RandomAvro)
    case map(RandomAvro)
    case nullable(RandomAvro)
    case enumeration(String)
    case fixed(String, Int)
    case record(String, [RandomAvro])
    /// A type that was defined before.
    case named(String)
    /// A list of itself: a record of a number, and of null or the next one.
    case chain(String)

    /// - Parameter names: How many types have names so far.
    static func draw(_ random: inout Random, depth: Int = 0, names: inout Int) -> RandomAvro {
        func name() -> String {
            names += 1
            return "T\(names)"
        }
        switch random.below(depth < 4 ? 15 : 8) {
        case 0: return .null
        case 1: return .boolean
        case 2: return .int
        case 3: return .long
        case 4: return .float
        case 5: return .double
        case 6: return .bytes
        case 7: return .string
        case 8: return .array(draw(&random, depth: depth + 1, names: &names))
        case 9: return .map(draw(&random, depth: depth + 1, names: &names))
        case 10:
            switch draw(&random, depth: depth + 1, names: &names) {
            case .null, .nullable: return .nullable(.long)
            case let other: return .nullable(other)
            }
        case 11: return .enumeration(name())
        case 12: return .fixed(name(), random.below(20))
        case 13: return .chain(name())
        default:
            let own = name()
            return .record(own, (0..<random.below(5)).map { _ in draw(&random, depth: depth + 1, names: &names) })
        }
    }

    var schema: String {
        switch self {
        case .null: #""null""#
        case .boolean: #""boolean""#
        case .int: #""int""#
        case .long: #"{"type":"long","logicalType":"timestamp-millis"}"#
        case .float: #""float""#
        case .double: #""double""#
        case .bytes: #""bytes""#
        case .string: #""string""#
        case .array(let items): #"{"type":"array","items":\#(items.schema)}"#
        case .map(let values): #"{"type":"map","values":\#(values.schema)}"#
        case .nullable(let other): #"["null",\#(other.schema)]"#
        case .enumeration(let name): #"{"type":"enum","name":"\#(name)","symbols":["A","B","C"]}"#
        case .fixed(let name, let size): #"{"type":"fixed","name":"\#(name)","size":\#(size)}"#
        case .record(let name, let fields):
            #"{"type":"record","name":"\#(name)","fields":["#
                + fields.enumerated().map { #"{"name":"f\#($0)","type":\#($1.schema)}"# }.joined(separator: ",") + "]}"
        case .named(let name): #""\#(name)""#
        case .chain(let name):
            #"{"type":"record","name":"\#(name)","fields":[{"name":"x","type":"long"},{"name":"next","type":["null","\#(name)"]}]}"#
        }
    }

    func write(_ random: inout Random, into avro: inout AvroBytes) {
        switch self {
        case .null, .named: break
        case .boolean: avro.bytes.append(UInt8(random.below(2)))
        case .int: avro.long(Int64(Int32(truncatingIfNeeded: random.next())))
        case .long: avro.long(Int64(bitPattern: random.next()) >> Int64(random.below(64)))
        case .float: avro.float(Float(random.below(1_000)))
        case .double: avro.double(Double(random.below(1_000)))
        case .bytes, .string: avro.string(String(repeating: "é", count: random.below(20)))
        case .array(let items): Self.blocks(&random, &avro) { items.write(&$0, into: &$1) }
        case .map(let values):
            Self.blocks(&random, &avro) { random, avro in
                avro.string("key\(random.below(100))")
                values.write(&random, into: &avro)
            }
        case .nullable(let other):
            let isNull = random.below(2) == 0
            avro.long(isNull ? 0 : 1)
            if !isNull { other.write(&random, into: &avro) }
        case .enumeration: avro.long(Int64(random.below(3)))
        case .fixed(_, let size): avro.bytes += (0..<size).map { _ in UInt8(truncatingIfNeeded: random.next()) }
        case .record(_, let fields): for field in fields { field.write(&random, into: &avro) }
        case .chain:
            let links = random.below(10)
            for link in 0...links {
                avro.long(Int64(link))
                avro.long(link == links ? 0 : 1)
            }
        }
    }

    /// Up to three blocks, some of them with their length.
    private static func blocks(_ random: inout Random, _ avro: inout AvroBytes, item: (inout Random, inout AvroBytes) -> Void) {
        for _ in 0..<random.below(3) {
            let count = 1 + random.below(4)
            var inner = AvroBytes()
            for _ in 0..<count { item(&random, &inner) }
            if random.below(2) == 0 {
                avro.long(Int64(count))
            } else {
                avro.long(-Int64(count))
                avro.long(Int64(inner.bytes.count))
            }
            avro.bytes += inner.bytes
        }
        avro.long(0)
    }
}
