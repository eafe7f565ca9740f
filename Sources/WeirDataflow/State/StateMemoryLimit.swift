internal import WeirBase

/// How large the keyed states of one operator of one subtask may become together: `taskmanager.memory.managed.size`.
///
/// Counted are pages and indexes, which is where keys and values lie; not the strings and arrays that values refer to.
package final class StateMemoryLimit {
    package static let key = "taskmanager.memory.managed.size"
    private let bytesMax: Int
    private var batches = 0
    /// Summing up takes longer the more windows are open.
    private static let batchesPerCheck = 16

    package init(bytesMax: Int) { self.bytesMax = bytesMax }

    /// - Returns: Nil where no limit is set.
    /// - Throws: `JobFailure` for a number of bytes that is none.
    init?(_ settings: [String: String]) throws(JobFailure) {
        guard let text = settings[Self.key], !text.isEmpty else { return nil }
        guard let bytes = ByteCount(text) else {
            throw JobFailure(domain: .configuration, recovery: .fail, message: "\(Self.key): \"\(text)\" is no number of bytes")
        }
        bytesMax = bytes.bytes
    }

    /// Whether it is time for ``check(_:)``.
    func isDue() -> Bool {
        batches = batches + 1 == Self.batchesPerCheck ? 0 : batches + 1
        return batches == 0
    }

    /// - Throws: `JobFailure` that does not restart the job: the same state would be too large again.
    func check(_ states: [(name: String, bytes: Int)]) throws(JobFailure) {
        let sum = states.reduce(0) { $0 + $1.bytes }
        guard sum > bytesMax else { return }
        let sizes = states.map { "\($0.name) \(ByteCount(bytes: $0.bytes))" }.joined(separator: ", ")
        throw JobFailure(
            domain: .resource, recovery: .fail,
            message: "the keyed state has \(ByteCount(bytes: sum)) and may have \(ByteCount(bytes: bytesMax)): \(sizes)",
            cause: "raise \(Self.key) or the parallelism of the operator, or give the state a TTL")
    }
}
