import Testing
import WeirBase
import WeirGraph

@testable import WeirDataflow

/// A value without references.
struct Sum: BinaryCodable, Equatable {
    var count: Int64 = 0
    var total: Double = 0
    static var schema: Schema { .record(name: "Sum", fields: [.init("count", .int64), .init("total", .double)]) }
    init(count: Int64 = 0, total: Double = 0) {
        self.count = count
        self.total = total
    }
    func encode(into writer: inout ByteWriter) {
        writer.writeI64(count)
        writer.writeDouble(total)
    }
    init(from reader: inout ByteReader) throws(DecodingFailure) {
        count = try reader.readI64()
        total = try reader.readDouble()
    }
}

let everything = KeyGroupFilter(groups: 0..<128, maxParallelism: 128)

extension StateTable {
    func put(_ key: String, _ value: Value) {
        key.withKeyBytes { bytes in
            let (place, inserted) = upsert(hash: KeyHash.hash(bytes), keyBytes: bytes)
            if inserted { place.initialize(to: value) } else { place.pointee = value }
        }
    }
    func get(_ key: String) -> Value? { key.withKeyBytes { find(hash: KeyHash.hash($0), keyBytes: $0)?.pointee } }
    func drop(_ key: String) -> Bool { key.withKeyBytes { remove(hash: KeyHash.hash($0), keyBytes: $0) } }
    func contents() -> [String: Value] {
        var all: [String: Value] = [:]
        forEach { _, key, value in
            #expect(all.updateValue(value, forKey: String(decoding: key, as: UTF8.self)) == nil, "a key lent twice")
        }
        return all
    }
}

func encoded(_ part: any KeyedStatePart) -> [UInt8] {
    var writer = ByteWriter()
    part.encode(into: &writer)
    return writer.finish()
}

func restored<Value: BinaryCodable>(_ bytes: [UInt8], filter: KeyGroupFilter = everything) throws -> StateTable<Value> {
    let table = StateTable<Value>()
    try restore(bytes, into: table, filter: filter)
    return table
}

func restore<Value: BinaryCodable>(_ bytes: [UInt8], into table: StateTable<Value>, filter: KeyGroupFilter) throws {
    try bytes.withUnsafeBytes { bytes in
        var reader = ByteReader(bytes)
        try table.restore(from: &reader, filter: filter)
        try reader.expectEnd()
    }
}

/// Keys of all lengths: empty, inline, padded, and larger than a page.
func randomKey(_ random: inout SplitMix64, of keys: Int) -> String {
    let number = Int.random(in: 0..<keys, using: &random)
    switch number % 50 {
    case 0 where number < 100: return String(repeating: "x", count: number * 2_000)
    case 1: return String(repeating: "y", count: 10_000 + number % 7)
    case 2..<10: return "\(number)"
    default: return "device-\(number)-" + String(repeating: "z", count: number % 40)
    }
}

struct StateTableTests {
    /// Runs random operations against a dictionary; holds up to three snapshots while the table goes on.
    private func model<Value: BinaryCodable & Equatable>(seed: UInt64, value: (UInt64) -> Value) throws {
        var random = SplitMix64(seed: seed)
        let keys = [20, 300, 5_000][Int(seed % 3)]
        let table = StateTable<Value>()
        var expected: [String: Value] = [:]
        var held: [(StateTableSnapshot, [String: Value])] = []
        for step in 0..<6_000 {
            let key = randomKey(&random, of: keys)
            switch Int.random(in: 0..<100, using: &random) {
            case 0..<60:
                let new = value(random.next())
                table.put(key, new)
                expected[key] = new
            case 60..<90:
                #expect(table.drop(key) == (expected.removeValue(forKey: key) != nil))
            case 90..<98:
                #expect(table.get(key) == expected[key])
            case 98:
                if step % 7 == 0 {
                    table.removeAll(keepingCapacity: step % 2 == 0)
                    expected = [:]
                }
            default:
                held.append((table.capture(), expected))
                if held.count > 3 { held.removeFirst() }
            }
            #expect(table.count == expected.count)
        }
        #expect(table.contents() == expected)
        for (key, value) in expected { #expect(table.get(key) == value) }
        held.append((table.capture(), expected))
        for (snapshot, then) in held {
            #expect(snapshot.count == then.count)
            let back: StateTable<Value> = try restored(encoded(snapshot))
            #expect(back.contents() == then)
        }
    }

    @Test(arguments: 0..<12 as Range<UInt64>) func agreesWithADictionaryForPlainValues(seed: UInt64) throws {
        try model(seed: seed) { Sum(count: Int64(bitPattern: $0), total: Double($0 >> 12)) }
    }

    @Test(arguments: 0..<12 as Range<UInt64>) func agreesWithADictionaryForStrings(seed: UInt64) throws {
        try model(seed: seed) { "value number \($0), long enough for the heap" }
    }

    @Test(arguments: 0..<6 as Range<UInt64>) func agreesWithADictionaryForArrays(seed: UInt64) throws {
        try model(seed: seed) { (number) -> [Int] in Array(repeating: Int(number >> 8), count: Int(number % 5)) }
    }

    @Test func batchUpdatesAreThoseOfOneByOne() {
        var random = SplitMix64(seed: 4)
        let table = StateTable<Sum>()
        var expected: [String: Sum] = [:]
        for round in 0..<40 {
            let keys = (0..<1_000).map { _ in "k\(Int.random(in: 0..<(round < 20 ? 3_000 : 50), using: &random))" }
            let hashes = keys.map(\.keyHash)
            for (index, key) in keys.enumerated() {
                expected[key, default: Sum()].count += 1
                expected[key]!.total += Double(index)
            }
            if round % 3 == 0 {
                table.withSlots(count: keys.count, hashes: hashes, key: { keys[$0] }, initial: { _ in Sum() }) { slots in
                    for index in keys.indices {
                        slots[index].pointee.count += 1
                        slots[index].pointee.total += Double(index)
                    }
                }
            } else {
                table.update(count: keys.count, hashes: hashes, key: { keys[$0] }, initial: { _ in Sum() }) { index, sum in
                    sum.count += 1
                    sum.total += Double(index)
                }
            }
            if round % 5 == 0 {
                let snapshot = table.capture()
                #expect(snapshot.count == expected.count)
            }
        }
        #expect(table.contents() == expected)
    }

    @Test func keysOfOneHashAreToldApart() {
        let table = StateTable<Int>()
        for key in 0..<200 {
            withUnsafeBytes(of: Int64(key)) { table.upsert(hash: 7, keyBytes: $0, initial: key).pointee += 0 }
        }
        for key in stride(from: 0, to: 200, by: 2) {
            #expect(withUnsafeBytes(of: Int64(key)) { table.remove(hash: 7, keyBytes: $0) })
        }
        for key in 0..<200 {
            #expect(withUnsafeBytes(of: Int64(key)) { table.find(hash: 7, keyBytes: $0)?.pointee } == (key % 2 == 0 ? nil : key))
        }
        #expect(withUnsafeBytes(of: Int32(1)) { table.find(hash: 7, keyBytes: $0) } == nil)
    }

    @Test func aSnapshotIsEncodedWhileTheTableIsWritten() async throws {
        let table = StateTable<[Int]>()
        for key in 0..<20_000 { table.put("key \(key)", [key]) }
        let expected = table.contents()
        let snapshot = table.capture()
        let encoding = Task.detached { encoded(snapshot) }
        for round in 0..<5 {
            for key in 0..<20_000 where key % 3 == round % 3 { table.put("key \(key)", [round, key]) }
            for key in stride(from: round, to: 20_000, by: 11) { _ = table.drop("key \(key)") }
        }
        let back: StateTable<[Int]> = try restored(await encoding.value)
        #expect(back.contents() == expected)
    }

    @Test func rowsThatWereFreedAreUsedAgain() {
        let table = StateTable<Int>()
        for round in 0..<50 {
            for key in 0..<1_000 { table.put("round \(round % 10) \(key)", key) }
            for key in 0..<1_000 { _ = table.drop("round \(round % 10) \(key)") }
        }
        #expect(table.count == 0)
        #expect(table.bytes < 300_000)
    }

    @Test func aKeyOfTwentyFourBytesTakesLessThanAHundredAndFifty() {
        let table = StateTable<Sum>()
        for key in 0..<200_000 { table.put("device-00000000-\(10_000_000 + key)", Sum()) }
        #expect(table.bytes / table.count <= 150)
    }

    @Test func removalByValueTakesOnlyWhatItIsToldTo() {
        let table = StateTable<String>()
        for key in 0..<500 { table.put("\(key)", "value \(key)") }
        let before = table.capture()
        table.removeAll { _, value in value.hasSuffix("7") }
        #expect(table.count == 450)
        #expect(table.get("17") == nil)
        #expect(table.get("18") == "value 18")
        #expect(before.count == 500)
    }
}

struct StateRestoreTests {
    private func filled(_ keys: Int) -> StateTable<String> {
        let table = StateTable<String>()
        for key in 0..<keys { table.put("key \(key)", "value of \(key)") }
        return table
    }

    @Test(arguments: [1, 2, 3, 7, 128]) func everyKeyIsRestoredOnceAtAnyParallelism(parallelism: Int) throws {
        // Two writers, each with its own key groups.
        var parts: [[UInt8]] = []
        var expected: [String: String] = [:]
        for subtask in 0..<2 {
            let groups = KeyGroups.range(subtask: subtask, parallelism: 2, maxParallelism: 128)
            let table = StateTable<String>()
            for key in 0..<3_000 where groups.contains(KeyGroups.keyGroup(hash: "key \(key)".keyHash, maxParallelism: 128)) {
                table.put("key \(key)", "of \(key)")
                expected["key \(key)"] = "of \(key)"
            }
            parts.append(encoded(table.capture()))
        }
        #expect(expected.count == 3_000)
        var found: [String: String] = [:]
        for subtask in 0..<parallelism {
            let groups = KeyGroups.range(subtask: subtask, parallelism: parallelism, maxParallelism: 128)
            let table = StateTable<String>()
            for part in parts + parts {  // Twice: restoring a part again changes nothing.
                try restore(part, into: table, filter: KeyGroupFilter(groups: groups, maxParallelism: 128))
            }
            found.merge(table.contents()) { _, _ in
                Issue.record("a key in two subtasks")
                return ""
            }
        }
        #expect(found == expected)
    }

    @Test func everyTruncationThrows() {
        let bytes = encoded(filled(40).capture())
        for count in 0..<bytes.count {
            #expect(throws: DecodingFailure.self) { let _: StateTable<String> = try restored(Array(bytes[..<count])) }
        }
    }

    @Test func everyFlippedBitThrows() {
        let bytes = encoded(filled(40).capture())
        for bit in 0..<(bytes.count * 8) {
            var damaged = bytes
            damaged[bit / 8] ^= 1 << (bit % 8)
            #expect(throws: DecodingFailure.self) { let _: StateTable<String> = try restored(damaged) }
        }
    }

    /// Bytes whose checksums are right and whose contents are not: what a hostile or confused writer could leave.
    @Test(arguments: 0..<300 as Range<UInt64>) func randomBlocksThrowOrRestoreButNeverTrap(seed: UInt64) {
        var random = SplitMix64(seed: seed)
        var writer = ByteWriter()
        var blocks = StateBlockWriter(
            kind: .table, schema: [String].schema, rows: Int.random(in: 0..<4, using: &random), into: &writer)
        for _ in 0..<Int.random(in: 0..<4, using: &random) {
            let key = (0..<Int.random(in: 0..<9, using: &random)).map { _ in UInt8.random(in: 0...255, using: &random) }
            let value = (0..<Int.random(in: 0..<30, using: &random)).map { _ in UInt8.random(in: 0...5, using: &random) }
            key.withUnsafeBytes { blocks.row(hash: random.next(), key: $0, into: &writer) { $0.writeBytes(value) } }
        }
        blocks.finish(into: &writer)
        let table = StateTable<[String]>()
        do {
            try restore(writer.finish(), into: table, filter: everything)
        } catch {
            #expect(error is DecodingFailure)
        }
        // Whatever was restored is whole.
        table.forEach { _, _, value in #expect(value.count < 30) }
    }

    @Test func anotherSchemaAndAnotherKindAreNamed() {
        let bytes = encoded(filled(3).capture())
        let schema = #expect(throws: DecodingFailure.self) { let _: StateTable<Int> = try restored(bytes) }
        #expect(schema?.message.contains("another schema") == true)
        let kind = #expect(throws: DecodingFailure.self) {
            try bytes.withUnsafeBytes {
                var reader = ByteReader($0)
                try TimerQueue().restore(from: &reader, filter: everything)
            }
        }
        #expect(kind?.message.contains("kind 1") == true)
    }

    @Test func manyBlocksAreReadBack() throws {
        let table = filled(20_000)
        let bytes = encoded(table.capture())
        #expect(bytes.count > 5 * StateFormat.blockBytes)
        let back: StateTable<String> = try restored(bytes)
        #expect(back.contents() == table.contents())
    }

    /// Pins the format: a change of these bytes is a change of every savepoint.
    @Test func theFormatIsPinned() {
        let table = StateTable<Int64>()
        withUnsafeBytes(of: UInt8(0x41)) { table.upsert(hash: 0x0102, keyBytes: $0, initial: 5).pointee += 0 }
        let bytes = encoded(table.capture())
        #expect(bytes.count == 32 + 8 + 5 + 20 + 18 + 20)
        #expect(Array(bytes[0..<12]) == Array("WEIRKSTA".utf8) + [2, 0, 1, 0])
        #expect(Array(bytes[24..<32]) == [1, 0, 0, 0, 0, 0, 0, 0])
        #expect(Array(bytes[32..<36]) == [5, 0, 0, 0])
        #expect(Array(bytes[40..<45]) == Array("int64".utf8))
        #expect(Array(bytes[45..<61]) == [18, 0, 0, 0, 1, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0])
        #expect(Array(bytes[65..<83]) == [2, 1, 0, 0, 0, 0, 0, 0, 1, 0x41, 5, 0, 0, 0, 0, 0, 0, 0])
        #expect(Array(bytes[83..<99]) == [UInt8](repeating: 0, count: 16))
    }

    /// Version 1 had no schema behind its header.
    @Test func versionOneIsRead() throws {
        let table = filled(30)
        let bytes = encoded(table.capture())
        let text = Int(bytes[32]) + 8
        var old = Array(bytes[..<32]) + bytes[(32 + text)...]
        old[8] = 1
        let crc = old.withUnsafeBytes { StateFormat.headerCRC(UnsafeRawBufferPointer(rebasing: $0[..<32])) }
        withUnsafeBytes(of: crc.littleEndian) { old.replaceSubrange(12..<16, with: $0) }
        let back: StateTable<String> = try restored(old)
        #expect(back.contents() == table.contents())
    }
}
