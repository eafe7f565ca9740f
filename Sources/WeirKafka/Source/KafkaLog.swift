import Logging
import Synchronization
import WeirBase
import WeirDataflow

/// What people should see of a connector's doings, in the worker's log. The same kind of line comes once in ten seconds at most.
final class KafkaLog: Sendable {
    private static let pause = Duration.seconds(10)
    /// Kinds of lines that are remembered; beyond it the oldest times are forgotten.
    private static let kindsMax = 64

    private let logger: Logger
    private let clock: any WeirClock
    private let last = Mutex<[String: Instant]>([:])

    init(_ context: OperatorContext) {
        var logger = Logger(label: "weir.kafka") { StreamLogHandler.standardError(label: $0) }
        logger[metadataKey: "operator.name"] = "\(context.operatorName)"
        logger[metadataKey: "subtask"] = "\(context.subtask)"
        self.logger = logger
        clock = context.clock
    }

    /// - Parameter text: Its words up to the first colon tell its kind.
    func warn(_ text: String) {
        let kind = String(text.prefix { $0 != ":" })
        let now = clock.now
        let isFresh = last.withLock { last in
            if let time = last[kind], time.duration(to: now) < Self.pause { return false }
            if last.count >= Self.kindsMax { last.removeAll() }
            last[kind] = now
            return true
        }
        if isFresh { logger.warning("\(text)") }
    }
}
