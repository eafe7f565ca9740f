import Testing
import WeirBase

@testable import WeirDataflow

/// A store whose clock the test sets.
private final class Clocked {
    var now: Int64 = 1_000
    lazy var store = KeyedStateStore(keyGroups: 0..<128, maxParallelism: 128, wallTime: { [unowned self] in now })

    func key(_ key: String) { store.currentKey.set(key, hash: key.keyHash) }

    func snapshot() -> [KeyedStateSnapshot] {
        let builder = SnapshotBuilder(checkpoint: 1)
        store.snapshot(into: builder)
        return builder.keyed
    }
}

@Suite struct StateTTLTests {
    private let ttl = StateTTL(.milliseconds(100))

    @Test func whatHasExpiredIsNotReturned() throws {
        let clocked = Clocked()
        let value: ValueState<String> = try clocked.store.value("value", ttl: ttl)
        clocked.key("a")
        value.value = "first"
        clocked.now = 1_099
        #expect(value.value == "first")
        clocked.now = 1_100
        #expect(value.value == nil)
        value.value = "second"
        clocked.now = 1_150
        value.update(from: "none") { $0 += "!" }
        clocked.now = 1_249
        #expect(value.value == "second!")
        clocked.now = 1_250
        value.update(from: "none") { $0 += "!" }
        #expect(value.value == "none!")
    }

    @Test func readingProlongsOnlyWhereItIsToldTo() throws {
        for update in [StateTTL.Update.onCreateAndWrite, .onReadAndWrite] {
            let clocked = Clocked()
            let value: ValueState<Int> = try clocked.store.value("value", ttl: StateTTL(.milliseconds(100), update: update))
            clocked.key("a")
            value.value = 1
            clocked.now = 1_060
            #expect(value.value == 1)
            clocked.now = 1_120
            #expect((value.value == 1) == (update == .onReadAndWrite))
        }
    }

    @Test func everyKindExpires() throws {
        let clocked = Clocked()
        let list: ListState<Int> = try clocked.store.list("list", ttl: ttl)
        let map: MapState<String, Int> = try clocked.store.map("map", ttl: ttl)
        let reducing = try clocked.store.reducing("reducing", of: Int.self, ttl: ttl) { $0 + $1 }
        let aggregating: AggregatingState<Int, Int> = try clocked.store.aggregating("sum", ttl: ttl, initial: { 0 }, add: { $0 += $1 })
        clocked.key("a")
        for number in 1...2 {
            list.append(number)
            map["\(number)"] = number
            try reducing.add(number)
            try aggregating.add(number)
        }
        #expect(list.elements == [1, 2] && !list.isEmpty)
        #expect(map.entries == ["1": 1, "2": 2] && map["2"] == 2)
        #expect(reducing.value == 3 && aggregating.accumulator == 3)
        clocked.now += 100
        #expect(list.elements == [] && list.isEmpty)
        #expect(map.isEmpty && map["2"] == nil)
        #expect(reducing.value == nil && aggregating.accumulator == nil)
        list.append(7)
        map["x"] = 7
        try reducing.add(7)
        try aggregating.add(7)
        #expect(list.elements == [7] && map.entries == ["x": 7] && reducing.value == 7 && aggregating.accumulator == 7)
    }

    @Test func expiredKeysThatNobodyAsksForAreRemovedAsOthersAreUsed() throws {
        let clocked = Clocked()
        let value: ValueState<String> = try clocked.store.value("value", ttl: ttl)
        for number in 0..<1_000 {
            clocked.key("old \(number)")
            value.value = "a value that lies outside of its row"
        }
        let before = clocked.store.bytes
        clocked.now += 200
        for number in 0..<1_000 {
            clocked.key("new \(number)")
            value.value = "a value that lies outside of its row"
        }
        #expect(value.table.count == 1_000)
        #expect(clocked.store.bytes < before * 3 / 2)
    }

    /// Against a dictionary of (value, time).
    @Test(arguments: 0..<20 as Range<UInt64>) func agreesWithAModel(seed: UInt64) throws {
        var random = SplitMix64(seed: seed)
        let clocked = Clocked()
        let value: ValueState<Int> = try clocked.store.value("value", ttl: ttl)
        var model: [Int: (value: Int, time: Int64)] = [:]
        var held: [[KeyedStateSnapshot]] = []
        for step in 0..<5_000 {
            clocked.now += Int64(random.next() % 3)
            let key = Int(random.next() % 50)
            clocked.key("\(key)")
            let live = model[key].flatMap { $0.time + 100 > clocked.now ? $0.value : nil }
            switch random.next() % 8 {
            case 0:
                value.clear()
                model[key] = nil
            case 1...3:
                value.value = step
                model[key] = (step, clocked.now)
            case 4: held = [clocked.snapshot()]  // So that pages are copied.
            default: #expect(value.value == live)
            }
        }
        #expect(held.count <= 1)
    }

    @Test func aWholeSnapshotLeavesOutWhatHadExpired() throws {
        let clocked = Clocked()
        let value: ValueState<Int> = try clocked.store.value("value", ttl: ttl)
        for number in 0..<10 {
            clocked.key("\(number)")
            value.value = number
            clocked.now += 20
        }
        let bytes = encoded(try #require(clocked.snapshot().first).part)
        let restored = Clocked()
        restored.now = clocked.now
        try restored.store.restore(
            from: RestoredState(checkpoint: 1, keyed: [.init(name: "value", keyGroups: 0..<128, bytes: bytes)]))
        let again: ValueState<Int> = try restored.store.value("value", ttl: ttl)
        #expect(again.table.count == 4)
        restored.key("9")
        #expect(again.value == 9)
        restored.now += 60
        #expect(again.value == 9)
        restored.now += 20
        #expect(again.value == nil)
    }

    @Test func stateWithATTLIsOfAnotherTypeThanStateWithout() throws {
        let clocked = Clocked()
        let value: ValueState<Int> = try clocked.store.value("value")
        clocked.key("a")
        value.value = 1
        let bytes = encoded(try #require(clocked.snapshot().first).part)
        let other = Clocked()
        try other.store.restore(from: RestoredState(checkpoint: 1, keyed: [.init(name: "value", keyGroups: 0..<128, bytes: bytes)]))
        #expect(throws: JobFailure.self) { _ = try other.store.value("value", of: Int.self, ttl: ttl) }
        #expect(throws: JobFailure.self) { _ = try other.store.value("none", of: Int.self, ttl: StateTTL(.zero)) }
    }

    @Test func stateAboveItsLimitFailsAndNamesItself() throws {
        let store = KeyedStateStore(keyGroups: 0..<128, maxParallelism: 128, memoryLimit: StateMemoryLimit(bytesMax: 1 << 20))
        let value: ValueState<Int> = try store.value("sessions")
        var failure: JobFailure?
        for number in 0..<100_000 where failure == nil {
            let key = "key \(number)"
            store.currentKey.set(key, hash: key.keyHash)
            value.value = number
            do { try store.checkMemory() } catch { failure = error as? JobFailure }
        }
        #expect(store.bytes > 1 << 20 && store.bytes < 3 << 20)
        #expect(failure?.domain == .resource && failure?.recovery == .fail)
        #expect(failure?.message.contains("sessions") == true)
        #expect(failure?.cause?.contains(StateMemoryLimit.key) == true)
    }
}
