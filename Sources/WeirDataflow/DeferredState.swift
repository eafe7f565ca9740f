import Synchronization
package import WeirBase

/// Entries of a list state that are known only some time after the barrier: what a sink's flush gives.
///
/// Made by an operator at its barrier, fulfilled once from any thread. An operator that is closed must have fulfilled what it made, with a
/// failure if need be: else a checkpoint waits for it until it expires.
package final class DeferredState: Sendable {
    package typealias Outcome = Result<[[UInt8]], JobFailure>

    private enum State {
        case waiting([@Sendable (Outcome) -> Void])
        case done(Outcome)
    }

    private let state = Mutex(State.waiting([]))

    package init() {}

    /// Gives the entries, or why there are none: the task then declines the checkpoint. Only the first call counts.
    package func fulfil(_ outcome: Outcome) {
        let bodies = state.withLock { state -> [@Sendable (Outcome) -> Void] in
            guard case .waiting(let bodies) = state else { return [] }
            state = .done(outcome)
            return bodies
        }
        for body in bodies { body(outcome) }
    }

    /// Calls `body` once: now if the outcome is known, else on the thread that fulfils.
    package func whenDone(_ body: @escaping @Sendable (Outcome) -> Void) {
        let known = state.withLock { state -> Outcome? in
            switch state {
            case .done(let outcome): return outcome
            case .waiting(let bodies):
                state = .waiting(bodies + [body])
                return nil
            }
        }
        if let known { body(known) }
    }
}

extension TaskSnapshot {
    /// Waits, without holding a thread, for whatever operators deferred.
    ///
    /// - Parameter body: Called once, on this thread or on the one that fulfils the last part: with a snapshot that has nothing deferred, or
    ///   with the first failure.
    package func resolve(_ body: @escaping @Sendable (Result<TaskSnapshot, JobFailure>) -> Void) {
        let parts = operators.enumerated().flatMap { index, part in part.deferred.map { (index: index, name: $0.key, state: $0.value) } }
        guard !parts.isEmpty else { return body(.success(self)) }
        let gathering = Gathering(self, missing: parts.count, then: body)
        for part in parts {
            part.state.whenDone { gathering.take($0, operatorIndex: part.index, name: part.name) }
        }
    }
}

/// A snapshot some parts of which are still to come.
private final class Gathering: Sendable {
    private struct State {
        var missing: Int
        var lists: [Int: [String: [[UInt8]]]] = [:]
    }

    private let snapshot: TaskSnapshot
    private let then: @Sendable (Result<TaskSnapshot, JobFailure>) -> Void
    private let state: Mutex<State>

    init(_ snapshot: TaskSnapshot, missing: Int, then: @escaping @Sendable (Result<TaskSnapshot, JobFailure>) -> Void) {
        self.snapshot = snapshot
        self.then = then
        state = Mutex(State(missing: missing))
    }

    func take(_ outcome: DeferredState.Outcome, operatorIndex: Int, name: String) {
        let result = state.withLock { state -> Result<TaskSnapshot, JobFailure>? in
            guard state.missing > 0 else { return nil }  // It has failed already.
            switch outcome {
            case .failure(let failure):
                state.missing = 0
                return .failure(failure)
            case .success(let entries):
                state.lists[operatorIndex, default: [:]][name] = entries
                state.missing -= 1
                return state.missing == 0 ? .success(complete(state.lists)) : nil
            }
        }
        if let result { then(result) }
    }

    private func complete(_ lists: [Int: [String: [[UInt8]]]]) -> TaskSnapshot {
        TaskSnapshot(
            checkpoint: snapshot.checkpoint,
            operators: snapshot.operators.enumerated().map { index, part in
                OperatorSnapshot(
                    operatorID: part.operatorID, keyed: part.keyed,
                    operatorState: part.operatorState.merging((lists[index] ?? [:]).filter { !$0.value.isEmpty }) { $0 + $1 })
            })
    }
}
