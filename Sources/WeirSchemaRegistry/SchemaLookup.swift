package import WeirBase
package import WeirFormats

/// What is known of the ids that records have named, and what is to be done about those that are not: the decisions of a registry's client.
///
/// A value: no I/O, clock, lock or thread. The same events give the same effects.
package struct SchemaLookup: Sendable {
    /// What a record gets for its id.
    package enum Answer: Sendable {
        case schema(AvroSchema)
        /// The registry has no such schema, or it is none that can be read: the record is bad.
        case absent(FormatFailure)
        /// The registry cannot be asked: no record is to blame.
        case unreachable(JobFailure)
        /// It is being asked.
        case pending
    }

    /// What came of one request.
    package enum Outcome: Sendable {
        case schema(AvroSchema)
        case absent(FormatFailure)
        /// Asking again can help.
        case failed(JobFailure)
        /// Asking again cannot help: no permission, for example.
        case refused(JobFailure)
    }

    package enum Effect: Sendable, Equatable {
        case request(UInt32)
        case requestLater(UInt32, Duration)
        /// Whoever waits for the id shall ask again.
        case wake(UInt32)
    }

    package struct Limits: Sendable {
        /// From the first request for an id to giving up.
        package var timeout = Duration.seconds(30)
        package var firstBackoff = Duration.milliseconds(100)
        package var backoffMax = Duration.seconds(5)
        /// How long an id that the registry does not have is not asked for again.
        package var absenceLifetime = Duration.seconds(30)
        /// How long a failure is given to those who waited for it before the id is asked for again.
        package var failureLifetime = Duration.seconds(1)
        package init() {}
    }

    private enum State {
        case fetching(since: Instant, attempts: Int)
        case known(AvroSchema)
        case absent(FormatFailure, until: Instant)
        case unreachable(JobFailure, until: Instant)
    }

    /// Ids remembered that the registry did not have, at most.
    package static let absentMax = 10_000

    private let limits: Limits
    private var states: [UInt32: State] = [:]
    private var absentCount = 0

    package init(limits: Limits = Limits()) { self.limits = limits }

    /// A record names an id.
    package mutating func ask(_ id: UInt32, now: Instant) -> (Answer, [Effect]) {
        switch states[id] {
        case .known(let schema): return (.schema(schema), [])
        case .absent(let failure, let until) where now < until: return (.absent(failure), [])
        case .unreachable(let failure, let until) where now < until: return (.unreachable(failure), [])
        case .fetching: return (.pending, [])
        case .absent:
            absentCount -= 1
            fallthrough
        case .unreachable, nil:
            states[id] = .fetching(since: now, attempts: 1)
            return (.pending, [.request(id)])
        }
    }

    /// A request was answered, or not.
    package mutating func finish(_ id: UInt32, _ outcome: Outcome, now: Instant) -> [Effect] {
        guard case .fetching(let since, let attempts) = states[id] else { return [] }
        switch outcome {
        case .schema(let schema): states[id] = .known(schema)
        case .absent(let failure):
            if absentCount >= Self.absentMax { forgetAbsent() }
            absentCount += 1
            states[id] = .absent(failure, until: now.advanced(by: limits.absenceLifetime))
        case .refused(let failure): states[id] = .unreachable(failure, until: now.advanced(by: limits.failureLifetime))
        case .failed(let failure):
            let pause = min(limits.backoffMax, limits.firstBackoff * (1 << min(attempts - 1, 16)))
            if since.duration(to: now) + pause < limits.timeout {
                states[id] = .fetching(since: since, attempts: attempts + 1)
                return [.requestLater(id, pause)]
            }
            states[id] = .unreachable(failure, until: now.advanced(by: limits.failureLifetime))
        }
        return [.wake(id)]
    }

    /// Damaged records can name four thousand million ids.
    private mutating func forgetAbsent() {
        states = states.filter { if case .absent = $0.value { false } else { true } }
        absentCount = 0
    }
}
