import Foundation
import Testing
import WeirFormats

/// Mutated documents: nothing traps, and what is accepted means what another parser makes of it.
@Suite struct JSONFuzzTests {
    private static let seeds = [
        #"{"containerID":"C-000123","timestamp":1700000000000,"temperature":4.25,"co2_ppm":401.5,"humidity":50.5,"tags":["a","b"],"a":-1,"b":2}"#,
        #"[1,2.5,-3e10,"a\u00e9\n\"😀\uD83D\uDE00",null,true,false,{"x":{"y":[[],{}]}}]"#,
        #" { "a" : [ 0.1 , 1E-5 , 12345678901234567890 ] , "" : { } } "#,
        #"{"key with \"escapes\" \\ and \u0041":"value","nested":[[[[[[1]]]]]],"é":"é€😀"}"#,
    ]
    private static let pieces = [
        "\"", "\\", "{", "}", "[", "]", ",", ":", "0", "-", ".",
        "e", "E+", "1", "null", "true", " ", "\\u", "\\ud83d", "\u{1}", "é", "\n",
    ]

    private func mutated(_ random: inout Random) -> [UInt8] {
        var bytes = Array(Self.seeds[random.below(Self.seeds.count)].utf8)
        for _ in 0..<(1 + random.below(4)) where !bytes.isEmpty {
            let place = random.below(bytes.count)
            switch random.below(6) {
            case 0: bytes[place] = UInt8(random.below(256))
            case 1: bytes[place] ^= 1 << UInt8(random.below(8))
            case 2: bytes.removeSubrange(place..<min(bytes.count, place + 1 + random.below(4)))
            case 3: bytes.insert(contentsOf: Array(Self.pieces[random.below(Self.pieces.count)].utf8), at: place)
            case 4: bytes.insert(contentsOf: bytes[place..<min(bytes.count, place + random.below(20))], at: random.below(bytes.count))
            default: bytes.removeLast(random.below(min(bytes.count, 10)))
            }
        }
        return bytes
    }

    @Test(arguments: 0..<40 as Range<UInt64>) func acceptedDocumentsMeanWhatFoundationReads(seed: UInt64) throws {
        var random = Random(seed: seed)
        for _ in 0..<250 {
            let bytes = mutated(&random)
            let tree = try? decode(Tree.self, bytes)
            let skipped = try? decode(Skipped.self, bytes)
            // Numbers beyond a double are JSON; only reading them fails.
            if tree != nil { #expect(skipped != nil) }
            _ = try? decode(Reading.self, bytes)
            _ = try? decode(Reading.self, bytes, strict: true)
            guard let tree else { continue }
            let reference = try JSONSerialization.jsonObject(with: Data(bytes), options: [.fragmentsAllowed])
            #expect(try tree.isClose(to: Tree(reference)), "\(String(decoding: bytes, as: UTF8.self))")
            #expect(try decode(Tree.self, encoded(tree)) == tree)
        }
    }

    @Test(arguments: 0..<20 as Range<UInt64>) func aRecordHoldsWhatTheDocumentSays(seed: UInt64) throws {
        var random = Random(seed: seed)
        for _ in 0..<250 {
            let bytes = mutated(&random)
            guard let reading = try? decode(Reading.self, bytes) else { continue }
            guard case .object(let members) = try decode(Tree.self, bytes) else {
                Issue.record("a record of no object")
                continue
            }
            #expect(members["containerID"] == .string(reading.containerID))
            #expect(members["timestamp"] == .number(Double(reading.timestamp)))
            #expect(members["temperature"] == .number(reading.temperature))
            #expect(members["co2_ppm"] == .number(reading.co2))
            #expect((members["humidity"] ?? .null) == reading.humidity.map { .number($0) } ?? .null)
            #expect(members["tags"] == .array(reading.tags.map { .string($0) }))
        }
    }
}

extension Tree {
    /// Equal but for the last bits of numbers, which Foundation does not always round correctly: other tests see to those.
    fileprivate func isClose(to other: Tree) -> Bool {
        switch (self, other) {
        case (.number(let one), .number(let two)): one == two || abs(one - two) <= 1e-14 * max(abs(one), abs(two))
        case (.array(let one), .array(let two)): one.count == two.count && zip(one, two).allSatisfy { $0.isClose(to: $1) }
        case (.object(let one), .object(let two)):
            one.count == two.count && one.allSatisfy { name, value in two[name].map { value.isClose(to: $0) } ?? false }
        default: self == other
        }
    }

    /// What Foundation made of a document.
    fileprivate init(_ value: Any) throws {
        switch value {
        case is NSNull: self = .null
        case let text as String: self = .string(text)
        case let elements as [Any]: self = .array(try elements.map { try Tree($0) })
        case let members as [String: Any]: self = .object(try members.mapValues { try Tree($0) })
        case let number as NSNumber:
            self = isBoolean(number) ? .bool(number.boolValue) : .number(number.doubleValue)
        default: throw CocoaError(.coderInvalidValue)
        }
    }
}

/// Whether a number was `true` or `false` in the document.
private func isBoolean(_ number: NSNumber) -> Bool { String(cString: number.objCType) == "c" }
