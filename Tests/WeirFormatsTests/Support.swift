import WeirBase
import WeirFormats

/// Any JSON value, for comparing with other parsers.
enum Tree: JSONRecord, Equatable {
    case null
    case bool(Bool)
    case number(Double)
    case string(String)
    case array([Tree])
    case object([String: Tree])

    init(json: inout JSONReader) throws(JSONFailure) {
        switch json.nextKind {
        case .null:
            _ = json.readNull() ? 0 : try Int(json: &json)
            self = .null
        case .string: self = .string(try String(json: &json))
        case .bool: self = .bool(try Bool(json: &json))
        case .array: self = .array(try [Tree](json: &json))
        case .object:
            var members: [String: Tree] = [:]
            var more = try json.beginObject()
            while more {
                var name = ""
                _ = try json.readField { key in
                    name = key.name
                    return 0
                }
                members[name] = try Tree(json: &json)
                more = try json.nextMember()
            }
            self = .object(members)
        case .number, nil: self = .number(try Double(json: &json))
        }
    }

    func encode(json: inout JSONWriter) {
        switch self {
        case .null: json.writeNull()
        case .bool(let value): value.encode(json: &json)
        case .number(let value): value.encode(json: &json)
        case .string(let value): value.encode(json: &json)
        case .array(let elements): elements.encode(json: &json)
        case .object(let members):
            json.writeLiteral("{")
            for (index, member) in members.sorted(by: { $0.key < $1.key }).enumerated() {
                if index > 0 { json.writeLiteral(",") }
                member.key.encode(json: &json)
                json.writeLiteral(":")
                member.value.encode(json: &json)
            }
            json.writeLiteral("}")
        }
    }
}

/// Accepts any value without making anything of it: what happens to fields that no record reads.
struct Skipped: JSONRecord {
    init(json: inout JSONReader) throws(JSONFailure) { try json.skipValue() }
    func encode(json: inout JSONWriter) { json.writeNull() }
}

func decode<T: JSONRecord>(_ type: T.Type, _ text: String, strict: Bool = false) throws -> T {
    try decode(type, Array(text.utf8), strict: strict)
}

/// Decodes a copy that ends where its memory ends, so that a read past the end is found by a sanitizer.
func decode<T: JSONRecord>(_ type: T.Type, _ bytes: [UInt8], strict: Bool = false) throws -> T {
    let memory = UnsafeMutableRawBufferPointer.allocate(byteCount: bytes.count, alignment: 1)
    defer { memory.deallocate() }
    memory.copyBytes(from: bytes)
    return try JSONFormat(T.self, strict: strict).decode(UnsafeRawBufferPointer(memory))
}

func failure<T: JSONRecord>(_ type: T.Type, _ text: String, strict: Bool = false) -> JSONFailure? {
    do {
        _ = try decode(type, text, strict: strict)
        return nil
    } catch {
        return error as? JSONFailure
    }
}

func encoded<T: JSONRecord>(_ value: T) -> String {
    var writer = ByteWriter()
    JSONFormat(T.self).encode(value, into: &writer)
    return String(decoding: writer.finish(), as: UTF8.self)
}

func binary<T: BinaryCodable>(_ value: T) throws -> T {
    var writer = ByteWriter()
    BinaryFormat(T.self).encode(value, into: &writer)
    return try writer.finish().withUnsafeBytes { try BinaryFormat(T.self).decode($0) }
}

struct Random {
    private var state: UInt64
    init(seed: UInt64) { state = seed &* 0xD134_2543_DE82_EF95 &+ 1 }

    mutating func next() -> UInt64 {
        state &+= 0x9E37_79B9_7F4A_7C15
        var value = state
        value = (value ^ value >> 30) &* 0xBF58_476D_1CE4_E5B9
        value = (value ^ value >> 27) &* 0x94D0_49BB_1331_11EB
        return value ^ value >> 31
    }

    mutating func below(_ limit: Int) -> Int { Int(next() % UInt64(limit)) }
}
