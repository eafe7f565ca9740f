import Weir
import WeirBase
import WeirDataflow

/// A key of 24 bytes, a value of 24 bytes: what the goals for keyed state speak of.
struct StateKey: RecordKey, BitwiseCopyable {
    var first: UInt64
    var second: UInt64
    var third: UInt64

    init(_ number: UInt64) {
        first = number
        second = number ^ 0x5555_5555_5555_5555
        third = 7
    }

    static var schema: Schema {
        .record(name: "StateKey", fields: [.init("first", .int64), .init("second", .int64), .init("third", .int64)])
    }

    func withKeyBytes<Result>(_ body: (UnsafeRawBufferPointer) throws -> Result) rethrows -> Result {
        try withUnsafeBytes(of: self, body)
    }

    func encode(into writer: inout ByteWriter) {
        writer.writeU64(first)
        writer.writeU64(second)
        writer.writeU64(third)
    }

    init(from reader: inout ByteReader) throws(DecodingFailure) {
        first = try reader.readU64()
        second = try reader.readU64()
        third = try reader.readU64()
    }
}

@Record struct StateValue: BitwiseCopyable {
    var count: Int64 = 0
    var sum: Int64 = 0
    var latest: Int64 = 0
}

/// A table with the keys `0..<keys`, and batches of rows for it.
struct FilledTable {
    static let batchRows = 1_024
    let table = StateTable<StateValue>()
    let keys: UInt64
    private var random = SplitMix64(seed: 3)
    private let hashes = UnsafeMutablePointer<UInt64>.allocate(capacity: batchRows)
    private let batch = UnsafeMutablePointer<StateKey>.allocate(capacity: batchRows)

    init(keys: UInt64) {
        self.keys = keys
        var next: UInt64 = 0
        while next < keys {
            let count = Int(min(UInt64(Self.batchRows), keys - next))
            for index in 0..<count { batch[index] = StateKey(next + UInt64(index)) }
            update(count)
            next += UInt64(count)
        }
    }

    func free() {
        hashes.deallocate()
        batch.deallocate()
    }

    private func update(_ count: Int) {
        for index in 0..<count { hashes[index] = batch[index].keyHash }
        table.update(count: count, hashes: hashes, key: { batch[$0] }, initial: { _ in StateValue() }) { index, value in
            value.count &+= 1
            value.sum &+= Int64(truncatingIfNeeded: batch[index].first)
            value.latest = Int64(index)
        }
    }

    /// Draws keys for a batch, and updates their values; the time of the update alone, hashing included.
    mutating func updateOne(of range: Range<UInt64>) -> Duration {
        let width = UInt64(range.count)
        for index in 0..<Self.batchRows { batch[index] = StateKey(range.lowerBound + random.next() % width) }
        let started = ContinuousClock.now
        update(Self.batchRows)
        return ContinuousClock.now - started
    }
}

extension Benchmark {
    static var state: [Benchmark] {
        [
            Benchmark(name: "state.upsert.1m", unit: "ns/record", goal: .atMost(110)) { upsert(keys: 1_000_000) },
            Benchmark(name: "state.upsert.10m", unit: "ns/record", goal: .atMost(140)) { upsert(keys: 10_000_000) },
            Benchmark(name: "state.bytesPerKey", unit: "B", goal: .atMost(150)) { bytesPerKey(keys: 10_000_000) },
            Benchmark(name: "checkpoint.stall.10m", unit: "ms", goal: .atMost(5)) { stall(keys: 10_000_000) },
        ]
    }

    private static func upsert(keys: UInt64) -> Samples {
        var filled = FilledTable(keys: keys)
        defer { filled.free() }
        let batches = 2_000
        let values = (0..<5).map { _ in
            (0..<batches).reduce(0.0) { sum, _ in sum + filled.updateOne(of: 0..<keys).inSeconds } * 1e9 / Double(batches * FilledTable.batchRows)
        }
        return Samples(values, setup: "\(keys) keys present, uniform, 24 B keys and values, batches of \(FilledTable.batchRows), hashing included")
    }

    private static func bytesPerKey(keys: UInt64) -> Samples {
        let filled = FilledTable(keys: keys)
        defer { filled.free() }
        return Samples([Double(filled.table.bytes) / Double(keys)], setup: "\(keys) keys, 24 B keys and values, pages and index")
    }

    private static func stall(keys: UInt64) -> Samples {
        var filled = FilledTable(keys: keys)
        defer { filled.free() }
        var longestBatch = 0.0
        let values = (0..<5).map { _ in
            let started = ContinuousClock.now
            let snapshot = filled.table.capture()
            let stall = (ContinuousClock.now - started).inSeconds * 1e3
            for _ in 0..<200 { longestBatch = max(longestBatch, filled.updateOne(of: 0..<keys).inSeconds * 1e3) }
            withExtendedLifetime(snapshot) {}
            return stall
        }
        return Samples(
            values,
            setup:
                "\(keys) keys, 24 B keys and values; the capture. The longest of the first batches of \(FilledTable.batchRows) rows behind it, which copy the pages that they touch, took \(formatted(longestBatch)) ms"
        )
    }
}
