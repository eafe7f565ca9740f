import Testing
import WeirBase
@testable import WeirStreams

@Suite struct GeneratedSplitsTests {
    private func take(_ splits: inout GeneratedSplits, _ limit: Int) -> [UInt64] {
        var indices = [UInt64](repeating: 0, count: limit)
        let count = indices.withUnsafeMutableBufferPointer { $0.baseAddress.map { splits.next($0, limit: limit) } ?? 0 }
        return Array(indices[..<count])
    }

    @Test func oneSubtaskCountsUp() {
        var splits = GeneratedSplits(count: 200, splits: 64, subtask: 0, parallelism: 1)
        #expect(take(&splits, 150) == Array(0..<150))
        #expect(take(&splits, 150) == Array(150..<200))
        #expect(take(&splits, 150).isEmpty)
    }

    /// Any history of runs, checkpoints and parallelisms gives every index once, rising in each run of a subtask that does not lag.
    @Test(arguments: 0..<50 as Range<UInt64>) func everyIndexComesOnceAcrossRescaling(seed: UInt64) throws {
        var random = SplitMix64(seed: seed)
        let count = UInt64.random(in: 0...3_000, using: &random)
        let splits = Int.random(in: 1...16, using: &random)
        var entries: [(split: UInt64, position: UInt64)] = []
        var seen: [UInt64] = []
        while seen.count < count {
            let parallelism = Int.random(in: 1...splits, using: &random)
            var next: [(split: UInt64, position: UInt64)] = []
            for subtask in 0..<parallelism {
                var own = GeneratedSplits(count: count, splits: splits, subtask: subtask, parallelism: parallelism)
                try own.restore(entries)
                for _ in 0..<Int.random(in: 0...5, using: &random) {
                    seen += take(&own, Int.random(in: 1...100, using: &random))
                }
                next += zip(own.own, own.positions).map { (split: $0, position: $1) }
            }
            entries = next
        }
        #expect(seen.sorted() == Array(0..<count))
    }

    @Test func anImpossiblePositionIsAnErrorNotATrap() {
        var splits = GeneratedSplits(count: nil, splits: 64, subtask: 0, parallelism: 1)
        #expect(throws: DecodingFailure.self) { try splits.restore([(split: 0, position: .max)]) }
    }
}
