/// Which subtask owns which keys. Savepoints depend on every result: `KeyGroupTests` pins a table.
package enum KeyGroups {
    /// The largest max parallelism a job may have.
    package static let maxParallelismLimit = 32_768
    /// The max parallelism of a job that does not say.
    package static let maxParallelismDefault = 128

    /// The key group of a key, from the hash of its bytes: in `0..<maxParallelism`.
    ///
    /// The high half of the hash decides, scaled by a multiplication: state tables index by the low half.
    @inlinable @inline(__always)
    package static func keyGroup(hash: UInt64, maxParallelism: Int) -> Int {
        Int(truncatingIfNeeded: ((hash >> 32) &* UInt64(truncatingIfNeeded: maxParallelism)) >> 32)
    }

    /// Returns the subtask that owns a key group.
    ///
    /// - Parameters:
    ///   - keyGroup: In `0..<maxParallelism`.
    ///   - parallelism: Subtasks of the operator, in `1...maxParallelism`.
    ///   - maxParallelism: Key groups of the job, in `1...32_768`; fixed for as long as its savepoints live.
    /// - Returns: A subtask index in `0..<parallelism`, which never falls as `keyGroup` rises.
    /// - Complexity: O(1), without allocating.
    @inlinable @inline(__always)
    package static func subtask(keyGroup: Int, parallelism: Int, maxParallelism: Int) -> Int {
        keyGroup * parallelism / maxParallelism
    }

    /// The key groups of a subtask: contiguous, and together with those of the others all of `0..<maxParallelism`.
    package static func range(subtask: Int, parallelism: Int, maxParallelism: Int) -> Range<Int> {
        let start = (subtask * maxParallelism + parallelism - 1) / parallelism
        let end = ((subtask + 1) * maxParallelism + parallelism - 1) / parallelism
        return start..<end
    }
}
