import Testing
import WeirBase

@testable import WeirDataflow

private final class Counted: Sendable {
    let alive: Counter
    init(_ alive: Counter) {
        self.alive = alive
        alive.add(1)
    }
    deinit { alive.add(-1) }
}

@Suite struct BatchTests {
    @Test func rowsEndTheirLivesWithTheBatchOrAtRemoval() {
        let alive = Counter()
        var batch: Batch<Counted>? = Batch(capacity: 4)
        for _ in 0..<3 { batch?.append(Counted(alive), timestamp: 0) }
        #expect(alive.value == 3)
        batch?.removeAll()
        #expect(alive.value == 0)
        batch?.append(Counted(alive), timestamp: 0)
        batch = nil
        #expect(alive.value == 0)
    }

    @Test func aRecycledBatchComesBackEmpty() {
        let pool = BatchPool<Int64>(capacity: 8)
        let batch = pool.take()
        batch.append(1, timestamp: 1, keyHash: 5)
        batch.hasKeyHashes = true
        batch.recycle()
        let again = pool.take()
        #expect(again === batch)
        #expect(again.count == 0 && !again.hasKeyHashes && again.capacity == 8)
        #expect(pool.take() !== batch)
    }

    @Test func aPoolIsFreedThoughBatchesPointToIt() {
        weak var core: BatchPoolCore?
        do {
            let pool = BatchPool<Int64>(capacity: 8)
            core = pool.core
            pool.take().recycle()
        }
        #expect(core == nil)
    }

    @Test func aCopyHasItsOwnRows() {
        let alive = Counter()
        let batch = Batch<Counted>(capacity: 4)
        batch.append(Counted(alive), timestamp: 7)
        let copy = batch.copied()
        batch.removeAll()
        #expect(alive.value == 1)
        #expect(copy.count == 1 && copy.timestamps[0] == 7)
        copy.removeAll()
        #expect(alive.value == 0)
    }

    @Test func thePoolKeepsNoMoreThanItsLimit() {
        let pool = BatchPool<Int64>(capacity: 1)
        let batches = (0..<200).map { _ in pool.take() }
        for batch in batches { batch.recycle() }
        var kept = 0
        while pool.core.take() != nil { kept += 1 }
        #expect(kept == BatchPoolCore.freeMax)
    }
}
