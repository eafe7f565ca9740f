/// Why a job, a task or a request failed, in words that say what to do.
public struct JobFailure: Error, Sendable, Equatable, CustomStringConvertible {
    /// Whose problem it is.
    public enum Domain: String, Sendable {
        /// The job's own code threw or trapped.
        case user
        /// Something outside Weir: Kafka, a disk, the network.
        case external
        /// A fault of Weir itself.
        case system
        /// Slots, memory, descriptors.
        case resource
        /// Options, graph, arguments.
        case configuration
    }

    /// Whether running again can help.
    public enum Recovery: String, Sendable { case restart, fail }

    /// Where in the job it happened.
    public struct Place: Sendable, Equatable {
        public var operatorName: String
        /// From 0; printed from 1, as Flink does.
        public var subtask: Int
        public var parallelism: Int
        public var taskManager: String
        public init(operatorName: String, subtask: Int, parallelism: Int, taskManager: String) {
            self.operatorName = operatorName
            self.subtask = subtask
            self.parallelism = parallelism
            self.taskManager = taskManager
        }
    }

    public var domain: Domain
    public var recovery: Recovery
    public var message: String
    public var place: Place?
    public var cause: String?

    public init(domain: Domain, recovery: Recovery, message: String, place: Place? = nil, cause: String? = nil) {
        self.domain = domain
        self.recovery = recovery
        self.message = message
        self.place = place
        self.cause = cause
    }

    public var description: String {
        var text = "\(domain.rawValue) error: \(message)"
        if let place {
            text += "\n  at: \(place.operatorName) (\(place.subtask + 1)/\(place.parallelism))"
            if !place.taskManager.isEmpty { text += " on \(place.taskManager)" }
        }
        if let cause { text += "\n  cause: \(cause)" }
        return text
    }
}

/// Every problem of a configuration at once, so that a person corrects it in one go.
public struct ConfigurationError: Error, Sendable, Equatable, CustomStringConvertible {
    public var problems: [String]
    public init(_ problems: [String]) { self.problems = problems }
    public var description: String {
        problems.count == 1 ? "configuration: \(problems[0])" : "configuration:\n" + problems.map { "  - \($0)" }.joined(separator: "\n")
    }
}
