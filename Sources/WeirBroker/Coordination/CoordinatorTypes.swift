import WeirBase

/// The two clocks that a decision needs, read once an event.
///
/// Sessions and rebalances are measured on the monotonic clock. What outlives the process (a transaction's age, the age of a committed
/// offset) is measured on the wall clock, as in Kafka.
struct CoordinatorTime: Sendable, Equatable {
    var instant: Instant
    var wall: WallTime
}

/// Names a request that waits for its answer. Every request given to a coordinator is answered once.
struct RequestToken: Hashable, Sendable, CustomStringConvertible {
    let rawValue: UInt64
    init(_ rawValue: UInt64) { self.rawValue = rawValue }
    var description: String { "request-\(rawValue)" }
}

/// A producer as partitions know it: an epoch fences those before it (KIP-98).
struct ProducerIdentity: Hashable, Sendable, CustomStringConvertible {
    var id: Int64
    var epoch: Int16

    /// What requests and answers carry where there is no producer.
    static let none = ProducerIdentity(id: -1, epoch: -1)

    var description: String { "\(id)@\(epoch)" }
}

extension WallTime {
    /// - Parameter milliseconds: Clamped, so that no timeout that a client asks for overflows.
    func advanced(byMilliseconds milliseconds: Int64) -> WallTime {
        let (sum, overflow) = self.milliseconds.addingReportingOverflow(milliseconds)
        return WallTime(milliseconds: overflow ? (milliseconds < 0 ? .min : .max) : sum)
    }
}
