import Testing
import WeirBase
import WeirGraph

@testable import WeirDataflow

struct StateWindowTests {
    @Test func everyWindowHasItsOwnKeys() throws {
        var random = SplitMix64(seed: 9)
        let windows = WindowedTables<Sum>()
        var expected: [Int64: [String: Sum]] = [:]
        for round in 0..<60 {
            let keys = (0..<700).map { _ in "k\(Int.random(in: 0..<200, using: &random))" }
            let starts = keys.map { _ in Int64(round) * 10 - Int64.random(in: 0..<(round % 2 == 0 ? 3 : 30), using: &random) / 10 * 10 }
            let hashes = keys.map(\.keyHash)
            windows.update(count: keys.count, hashes: hashes, namespace: { starts[$0] }, key: { keys[$0] }, initial: { _ in Sum() }) {
                $1.count += 1
                $1.total += Double($0)
            }
            for index in keys.indices {
                expected[starts[index], default: [:]][keys[index], default: Sum()].count += 1
                expected[starts[index]]![keys[index]]!.total += Double(index)
            }
            if round == 30 {
                let bytes = encoded(windows.namespaces.capture())
                let back = WindowedTables<Sum>()
                try bytes.withUnsafeBytes {
                    var reader = ByteReader($0)
                    try back.namespaces.restore(from: &reader, filter: everything)
                    try reader.expectEnd()
                }
                #expect(back.all == expected.keys.sorted())
                for start in back.all { #expect(back.existing(start)?.contents() == expected[start]) }
            }
            while let first = windows.first, first < Int64(round - 4) * 10 {
                #expect(windows.existing(first)?.contents() == expected.removeValue(forKey: first))
                windows.remove(first)
            }
            #expect(windows.all == expected.keys.sorted())
        }
        #expect(windows.bytes < 3_000_000)
    }

    @Test func aDroppedWindowLeavesItsSnapshotWhole() throws {
        let windows = WindowedTables<String>()
        for key in 0..<3_000 { windows.table(0).put("\(key)", "v\(key)") }
        let snapshot = windows.namespaces.capture()
        windows.remove(0)
        for key in 0..<3_000 { windows.table(10).put("\(key)", "other") }
        let back = WindowedTables<String>()
        try encoded(snapshot).withUnsafeBytes {
            var reader = ByteReader($0)
            try back.namespaces.restore(from: &reader, filter: everything)
        }
        #expect(back.all == [0])
        #expect(back.table(0).get("2999") == "v2999")
    }

    @Test func manySmallWindowsCostLittle() {
        let windows = WindowedTables<Sum>()
        for start in 0..<1_000 { windows.table(Int64(start)).put("only key", Sum()) }
        #expect(windows.bytes < 2_000_000)
    }
}

private struct Timer: Hashable, Comparable {
    var time: Int64
    var key: String
    var namespace: Int64
    static func < (left: Timer, right: Timer) -> Bool { left.time < right.time }
}

extension TimerQueue {
    @discardableResult
    fileprivate func add(_ timer: Timer) -> Bool {
        timer.key.withKeyBytes { register(hash: timer.key.keyHash, keyBytes: $0, namespace: timer.namespace, time: timer.time) }
    }
    fileprivate func cancel(_ timer: Timer) -> Bool {
        timer.key.withKeyBytes { delete(hash: timer.key.keyHash, keyBytes: $0, namespace: timer.namespace, time: timer.time) }
    }
    fileprivate func due(_ time: Int64) -> [Timer] {
        var fired: [Timer] = []
        fire(upTo: time) { hash, key, namespace, time in
            #expect(hash == KeyHash.hash(key))
            fired.append(Timer(time: time, key: String(decoding: key, as: UTF8.self), namespace: namespace))
        }
        return fired
    }
}

struct StateTimerTests {
    @Test(arguments: 0..<20 as Range<UInt64>) func agreesWithASet(seed: UInt64) throws {
        var random = SplitMix64(seed: seed)
        var queue = TimerQueue()
        var expected: Set<Timer> = []
        var now: Int64 = 0
        for _ in 0..<4_000 {
            let timer = Timer(
                time: now + Int64.random(in: 1..<60, using: &random), key: "k\(Int.random(in: 0..<20, using: &random))",
                namespace: Int64.random(in: 0..<2, using: &random))
            switch Int.random(in: 0..<100, using: &random) {
            case 0..<55: #expect(queue.add(timer) == expected.insert(timer).inserted)
            case 55..<90: #expect(queue.cancel(timer) == (expected.remove(timer) != nil))
            case 90..<98:
                now += Int64.random(in: 0..<8, using: &random)
                let fired = queue.due(now)
                #expect(fired.map(\.time) == fired.map(\.time).sorted())
                let due = expected.filter { $0.time <= now }
                #expect(Set(fired) == due && fired.count == due.count)
                expected.subtract(due)
            default:
                let bytes = encoded(queue.capture())
                queue = TimerQueue()
                for _ in 0..<2 {
                    try bytes.withUnsafeBytes {
                        var reader = ByteReader($0)
                        try queue.restore(from: &reader, filter: everything)
                        try reader.expectEnd()
                    }
                }
            }
            #expect(queue.count == expected.count)
            #expect(queue.nextTime == expected.min()?.time)
        }
    }

    @Test func timersRegisteredWhileFiringFireToo() {
        let queue = TimerQueue()
        queue.add(Timer(time: 1, key: "a", namespace: 0))
        var times: [Int64] = []
        queue.fire(upTo: 5) { hash, key, _, time in
            times.append(time)
            queue.register(hash: hash, keyBytes: key, time: time + 1)
        }
        #expect(times == [1, 2, 3, 4, 5])
        #expect(queue.nextTime == 6)
    }

    @Test func timersOfEqualTimesFireInOneOrderAlsoAfterARestore() throws {
        let queue = TimerQueue()
        for key in 0..<500 { queue.add(Timer(time: Int64(key % 3), key: "k\(key)", namespace: 0)) }
        let bytes = encoded(queue.capture())
        let back = TimerQueue()
        try bytes.withUnsafeBytes {
            var reader = ByteReader($0)
            try back.restore(from: &reader, filter: everything)
        }
        #expect(back.due(10) == queue.due(10))
    }

    @Test func deletedTimersDoNotPileUp() {
        let queue = TimerQueue()
        for round in 0..<100_000 {
            queue.add(Timer(time: Int64(round) + 1_000_000, key: "k\(round % 10)", namespace: 0))
            #expect(queue.cancel(Timer(time: Int64(round) + 1_000_000, key: "k\(round % 10)", namespace: 0)))
        }
        #expect(queue.count == 0)
        #expect(queue.bytes < 20_000)
    }

    @Test func timersFollowTheirKeys() throws {
        let queue = TimerQueue()
        for key in 0..<500 { queue.add(Timer(time: 5, key: "k\(key)", namespace: Int64(key))) }
        let bytes = encoded(queue.capture())
        var total = 0
        for subtask in 0..<3 {
            let groups = KeyGroups.range(subtask: subtask, parallelism: 3, maxParallelism: 128)
            let part = TimerQueue()
            try bytes.withUnsafeBytes {
                var reader = ByteReader($0)
                try part.restore(from: &reader, filter: KeyGroupFilter(groups: groups, maxParallelism: 128))
            }
            total += part.count
            for timer in part.due(5) { #expect(groups.contains(KeyGroups.keyGroup(hash: timer.key.keyHash, maxParallelism: 128))) }
        }
        #expect(total == 500)
    }
}
