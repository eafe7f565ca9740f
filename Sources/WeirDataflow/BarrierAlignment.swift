internal import WeirBase

/// What a task does between the first barrier of a checkpoint and the last.
package enum BarrierAlignment: Sendable, Hashable {
    /// Holds back each channel behind its barrier: `EXACTLY_ONCE`.
    case aligned
    /// Holds nothing back: rows behind a barrier may be in the snapshot and come again after a restore. `AT_LEAST_ONCE`.
    case atLeastOnce
    /// As ``aligned`` until the checkpoint is this old. From then on its barriers overtake rows, and the rows in flight become part of the
    /// snapshot (FLIP-76, FLIP-182). Zero: from the start.
    case unaligned(after: Duration)

    package static let modeKey = "execution.checkpointing.mode"
    package static let unalignedKey = "execution.checkpointing.unaligned.enabled"
    package static let timeoutKey = "execution.checkpointing.aligned-checkpoint-timeout"

    /// - Parameter settings: Checked where the job was submitted.
    /// - Throws: `JobFailure` for a duration that is none.
    init(settings: [String: String]) throws(JobFailure) {
        if settings[Self.modeKey] == "AT_LEAST_ONCE" {
            self = .atLeastOnce
        } else if settings[Self.unalignedKey] == "true" {
            let text = settings[Self.timeoutKey] ?? "0ms"
            guard let timeout = parseDuration(text) else {
                throw JobFailure(domain: .configuration, recovery: .fail, message: "\(Self.timeoutKey): \"\(text)\" is no duration")
            }
            self = .unaligned(after: timeout)
        } else {
            self = .aligned
        }
    }

    /// When barriers may overtake rows, as an age of their checkpoint; nil for never.
    var overtakesAfter: Duration? {
        if case .unaligned(let timeout) = self { return timeout }
        return nil
    }

    /// Whether a barrier overtakes rows at a time, milliseconds since 1970. Savepoints are always aligned, as in Flink: whoever restores one,
    /// perhaps in another version of the job, need not know the rows between its operators.
    func overtakes(_ barrier: Barrier, wallTime: Int64) -> Bool { overtakingBegins(barrier).map { $0 <= wallTime } ?? false }

    /// The time from which a barrier overtakes rows, milliseconds since 1970; nil: it never does.
    func overtakingBegins(_ barrier: Barrier) -> Int64? {
        guard let timeout = overtakesAfter, !barrier.flags.contains(.savepoint) else { return nil }
        return timeout == .zero ? .min : barrier.timestamp &+ timeout.inMilliseconds
    }
}
