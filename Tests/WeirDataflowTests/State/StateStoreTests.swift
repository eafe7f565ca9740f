import Testing
import WeirBase
import WeirGraph

@testable import WeirDataflow

struct StateStoreTests {
    private func snapshot(of store: KeyedStateStore, groups: Range<Int>) -> [RestoredState.Keyed] {
        let builder = SnapshotBuilder(checkpoint: 1)
        store.snapshot(into: builder)
        return builder.keyed.map { RestoredState.Keyed(name: $0.name, keyGroups: $0.keyGroups, bytes: encoded($0.part)) }
    }

    private func store(_ groups: Range<Int> = 0..<128) -> KeyedStateStore { KeyedStateStore(keyGroups: groups, maxParallelism: 128) }

    @Test func everyKindOfStateComesBack() throws {
        let first = store()
        let value: ValueState<String> = try first.value("value")
        let list: ListState<Int> = try first.list("list")
        let map: MapState<String, Double> = try first.map("map")
        let reducing = try first.reducing("maximum", of: Int.self) { max($0, $1) }
        let aggregating: AggregatingState<Int, Sum> = try first.aggregating("sum", initial: { Sum() }, add: { $0.count += Int64($1) })
        let timers = try first.timers("timers")
        let windows = try first.windows("windows", of: Int.self)
        for number in 0..<300 {
            let key = "key \(number % 100)"
            first.currentKey.set(key, hash: key.keyHash)
            value.value = "value \(number)"
            list.append(number)
            map["entry \(number)"] = Double(number)
            try reducing.add(number)
            try aggregating.add(number)
            timers.register(hash: first.currentKey.hash, keyBytes: first.currentKey.bytes, time: Int64(number))
            windows.table(Int64(number % 7)).put(key, number)
        }
        let parts = snapshot(of: first, groups: 0..<128)
        #expect(parts.map(\.name) == ["list", "map", "maximum", "sum", "timers", "value", "windows"])

        let second = store()
        let restoredValue: ValueState<String> = try second.value("value")
        try second.restore(from: RestoredState(checkpoint: 1, keyed: parts))
        // Declared after the restore: served from what is kept.
        let restoredList: ListState<Int> = try second.list("list")
        let restoredMap: MapState<String, Double> = try second.map("map")
        let restoredReducing = try second.reducing("maximum", of: Int.self) { max($0, $1) }
        let restoredSum: AggregatingState<Int, Sum> = try second.aggregating("sum", initial: { Sum() }, add: { $0.count += Int64($1) })
        #expect(second.unclaimed == ["timers", "windows"])
        #expect(try second.timers("timers").count == 300)
        #expect(try second.windows("windows", of: Int.self).all == [0, 1, 2, 3, 4, 5, 6])
        for number in 0..<100 {
            second.currentKey.set("key \(number)", hash: "key \(number)".keyHash)
            #expect(restoredValue.value == "value \(number + 200)")
            #expect(restoredList.elements == [number, number + 100, number + 200])
            #expect(restoredMap.count == 3)
            #expect(restoredMap["entry \(number + 100)"] == Double(number + 100))
            #expect(restoredReducing.value == number + 200)
            #expect(restoredSum.accumulator?.count == Int64(3 * number + 300))
        }
        #expect(second.unclaimed.isEmpty)
    }

    @Test func clearedStateTakesNoRow() throws {
        let store = store()
        let value: ValueState<Int> = try store.value("v")
        let list: ListState<Int> = try store.list("l")
        let map: MapState<Int, Int> = try store.map("m")
        store.currentKey.set("k", hash: "k".keyHash)
        value.value = 1
        value.value = nil
        list.append(1)
        list.elements = []
        map[1] = 1
        map[1] = nil
        #expect(value.value == nil && list.isEmpty && map.isEmpty)
        #expect(value.table.count == 0 && list.table.count == 0 && map.table.count == 0)
        #expect(
            value.update(from: 5) {
                $0 += 1; return $0
            } == 6)
    }

    @Test func oneNameWithTwoTypesIsRefused() throws {
        let store = store()
        _ = try store.value("a", of: Int.self)
        _ = try store.value("a", of: Int.self)
        let failure = #expect(throws: JobFailure.self) { try store.value("a", of: String.self) }
        #expect(failure?.message.contains("\"a\"") == true)
        #expect(throws: JobFailure.self) { try store.timers("a") }
    }

    @Test func damageNamesTheState() throws {
        let first = store()
        let value: ValueState<Int> = try first.value("counts")
        first.currentKey.set("k", hash: "k".keyHash)
        value.value = 3
        var bytes = snapshot(of: first, groups: 0..<128)[0].bytes
        bytes[60] ^= 4
        let second = store()
        _ = try second.value("counts", of: Int.self)
        let failure = #expect(throws: JobFailure.self) {
            try second.restore(from: RestoredState(checkpoint: 1, keyed: [.init(name: "counts", keyGroups: 0..<128, bytes: bytes)]))
        }
        #expect(failure?.message.contains("\"counts\"") == true)
        #expect(failure?.cause?.contains("checksum") == true)
    }
}
