import Logging
import Synchronization
import WeirBase
package import WeirKafkaWire

/// What goes wrong.
package enum FaultAction: Sendable, Equatable {
    // For the request that triggered it.
    /// The request is handled later; those behind it on its connection wait too.
    case delay(Duration)
    /// The request is not handled and never answered; the connection stays.
    case drop
    /// The connection is closed and the request not handled.
    case close
    /// The request is handled, then the connection is closed instead of answering.
    case loseAnswer
    /// The request is not handled; every error code of its response is this one.
    case error(KafkaErrorCode)
    /// The request is handled; this many bytes of the answer are sent, its length included, then the connection is closed.
    case truncate(bytes: Int)

    // For the broker.
    /// Nothing is read and nothing answered for a time.
    case stopAnswering(Duration)
    /// Connections are closed, and new ones as soon as they come, for a time.
    case refuseConnections(Duration)
    /// A partition has no leader for a time: Metadata says -1, Produce, Fetch and ListOffsets are answered with error 6.
    case leaderless(topic: String, partition: Int32?, Duration)
    /// The broker ends at once and begins again after a time, on the same port.
    case restart(downtime: Duration)
    /// What waits for the disk waits this much longer, for a time.
    case slowDisk(delay: Duration, Duration)

    var isOfRequest: Bool {
        switch self {
        case .delay, .drop, .close, .loseAnswer, .error, .truncate: true
        case .stopAnswering, .refuseConnections, .leaderless, .restart, .slowDisk: false
        }
    }
}

/// Something that goes wrong, and when.
package struct Fault: Sendable, Equatable {
    package enum Trigger: Sendable, Equatable {
        /// Requests of an API (nil: of any), counted from 1 since the fault was added.
        case requests(ApiKey?, ClosedRange<Int>)
        /// A time after the broker's start.
        case time(Duration)
    }

    package var trigger: Trigger
    package var action: FaultAction

    /// On the next request of an API.
    package static func on(_ api: ApiKey?, _ action: FaultAction) -> Fault { on(api, 1, action) }

    /// On the n-th request of an API, counted from 1 since the fault is added.
    package static func on(_ api: ApiKey?, _ number: Int, _ action: FaultAction) -> Fault {
        Fault(trigger: .requests(api, number...number), action: action)
    }

    package static func on(_ api: ApiKey?, _ numbers: ClosedRange<Int>, _ action: FaultAction) -> Fault {
        Fault(trigger: .requests(api, numbers), action: action)
    }
}

/// The faults that wait for their trigger. From any thread.
package final class FaultInjector: Sendable {
    private struct Entry {
        var fault: Fault
        var seen = 0
    }

    private struct State {
        var entries: [Entry] = []
        var requests: [ApiKey: Int] = [:]
    }

    private let state: Mutex<State>

    init(_ faults: [Fault]) { state = Mutex(State(entries: faults.map { Entry(fault: $0) })) }

    /// Adds a fault that requests trigger; its count begins now.
    package func add(_ fault: Fault) {
        if case .time = fault.trigger { preconditionFailure("a fault at a time belongs into the broker's options") }
        state.withLock { $0.entries.append(Entry(fault: fault)) }
    }

    package func removeAll() { state.withLock { $0.entries = [] } }

    /// The requests of an API that came since the start, those that faults took included.
    package func requestCount(of api: ApiKey) -> Int { state.withLock { $0.requests[api] ?? 0 } }

    /// Counts a request and says what goes wrong with it, in the order in which the faults were added.
    func request(of api: ApiKey) -> [FaultAction] {
        state.withLock { state in
            state.requests[api, default: 0] += 1
            var actions: [FaultAction] = []
            for index in state.entries.indices {
                guard case .requests(let wanted, let numbers) = state.entries[index].fault.trigger, wanted == nil || wanted == api else { continue }
                state.entries[index].seen += 1
                if numbers.contains(state.entries[index].seen) { actions.append(state.entries[index].fault.action) }
            }
            state.entries.removeAll { entry in
                guard case .requests(_, let numbers) = entry.fault.trigger else { return false }
                return entry.seen >= numbers.upperBound
            }
            return actions
        }
    }

    /// Takes the faults that come at a time.
    func timed() -> [(Duration, FaultAction)] {
        state.withLock { state in
            let timed = state.entries.compactMap { entry -> (Duration, FaultAction)? in
                if case .time(let delay) = entry.fault.trigger { (delay, entry.fault.action) } else { nil }
            }
            state.entries.removeAll { if case .time = $0.fault.trigger { true } else { false } }
            return timed
        }
    }
}

/// The conditions that faults have brought about, on the loop.
struct FaultConditions {
    private var active: [UInt64: FaultAction] = [:]
    private var nextID: UInt64 = 1

    mutating func begin(_ action: FaultAction) -> UInt64 {
        defer { nextID += 1 }
        active[nextID] = action
        return nextID
    }

    mutating func end(_ id: UInt64) { active[id] = nil }
    mutating func endAll() { active = [:] }

    var isStalled: Bool { active.values.contains { if case .stopAnswering = $0 { true } else { false } } }
    var refusesConnections: Bool { active.values.contains { if case .refuseConnections = $0 { true } else { false } } }
    var diskDelay: Duration? { active.values.compactMap { if case .slowDisk(let delay, _) = $0 { delay } else { nil } }.max() }

    func isLeaderless(_ topic: String, _ partition: Int32) -> Bool {
        active.values.contains {
            if case .leaderless(topic, let lost, _) = $0 { lost == nil || lost == partition } else { false }
        }
    }
}

extension Broker {
    /// Whether a fault has taken a partition's leader: its requests are answered with ``KafkaErrorCode/notLeaderOrFollower``.
    package func isLeaderless(_ topic: String, _ partition: Int32) -> Bool { conditions.isLeaderless(topic, partition) }

    /// Brings about a condition, from now on and for its time. On the loop.
    package func perform(_ action: FaultAction) {
        precondition(!action.isOfRequest, "\(action) needs a request")
        logger.info("a fault is injected", metadata: ["fault.action": "\(action)"])
        switch action {
        case .restart(let downtime): restart(after: downtime)
        case .stopAnswering(let time), .refuseConnections(let time), .leaderless(_, _, let time), .slowDisk(_, let time):
            let id = conditions.begin(action)
            connections?.conditionsChanged()
            schedule(after: time) { [unowned self] in
                conditions.end(id)
                connections?.conditionsChanged()
            }
        case .delay, .drop, .close, .loseAnswer, .error, .truncate: break
        }
    }

    /// Ends every condition before its time. On the loop.
    package func endConditions() {
        conditions.endAll()
        connections?.conditionsChanged()
    }
}
