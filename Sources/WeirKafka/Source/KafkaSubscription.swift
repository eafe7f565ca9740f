import WeirBase

/// Which partitions a source reads.
public enum KafkaSubscription: Sendable, Equatable {
    /// All partitions of these topics, which must exist.
    case topics([String])
    /// All partitions of every topic whose whole name the regular expression matches. May match nothing yet. Kafka's own topics, whose
    /// names begin with `__`, are left out.
    case pattern(String)
    /// These partitions, which must exist: topic by topic.
    case partitions([String: [Int32]])
}

extension KafkaSubscription {
    /// For messages: `telemetries, alerts`.
    var description: String {
        switch self {
        case .topics(let topics): topics.joined(separator: ",")
        case .pattern(let pattern): "/\(pattern)/"
        case .partitions: partitions.map(\.description).joined(separator: ",")
        }
    }

    /// The partitions that were named one by one, sorted; empty for the other kinds.
    var partitions: [KafkaPartition] {
        guard case .partitions(let listed) = self else { return [] }
        return listed.flatMap { topic, numbers in numbers.map { KafkaPartition(topic, $0) } }.sorted()
    }

    /// The topics that were named, sorted; nil for a pattern.
    var topicNames: [String]? {
        switch self {
        case .topics(let topics): topics.sorted()
        case .pattern: nil
        case .partitions(let listed): listed.keys.sorted()
        }
    }
}

/// Who reads which partition: a function of names and numbers alone, so that subtasks that ask the broker at different times, while
/// partitions and topics are added, still agree without talking to each other.
///
/// - Named topics: `(place of the topic among the sorted names + partition) % parallelism`.
/// - A pattern: the place of a topic would change with every new one, so it starts at a hash of its name instead.
/// - Named partitions: `(place among the sorted partitions) % parallelism`.
struct KafkaAssignment {
    let parallelism: Int
    private let starts: [String: Int]
    private let places: [KafkaPartition: Int]
    private let pattern: KafkaTopicPattern?

    init(_ subscription: KafkaSubscription, parallelism: Int) {
        self.parallelism = parallelism
        var starts: [String: Int] = [:]
        var places: [KafkaPartition: Int] = [:]
        var pattern: KafkaTopicPattern?
        switch subscription {
        case .topics(let topics): for (place, topic) in topics.sorted().enumerated() { starts[topic] = place }
        case .pattern(let text): pattern = KafkaTopicPattern(text)
        case .partitions: for (place, partition) in subscription.partitions.enumerated() { places[partition] = place }
        }
        (self.starts, self.places, self.pattern) = (starts, places, pattern)
    }

    /// The subtask that reads a partition; nil if the source does not.
    func owner(of partition: KafkaPartition) -> Int? {
        if let place = places[partition] { return place % parallelism }
        if let start = starts[partition.topic] { return (start + Int(partition.partition)) % parallelism }
        guard let pattern, pattern.matches(partition.topic) else { return nil }
        return Int((KeyHash.hash(partition.topic) &+ UInt64(partition.partition)) % UInt64(parallelism))
    }
}

/// A regular expression for whole topic names.
struct KafkaTopicPattern {
    private let expression: Regex<AnyRegexOutput>?
    private let isForInternalTopics: Bool

    /// A text that is no regular expression matches nothing; ``problem(with:)`` tells it when the job is defined.
    init(_ text: String) {
        expression = try? Regex(text)
        isForInternalTopics = text.hasPrefix("__")
    }

    func matches(_ topic: String) -> Bool {
        guard let expression, isForInternalTopics || !topic.hasPrefix("__") else { return false }
        return topic.wholeMatch(of: expression) != nil
    }

    /// nil if the text is a regular expression.
    static func problem(with text: String) -> String? {
        do {
            _ = try Regex(text)
            return text.isEmpty ? "it is empty" : nil
        } catch {
            return "\(error)"
        }
    }
}

/// What the broker says about topics.
struct KafkaListing: Equatable, Sendable {
    enum Topic: Equatable, Sendable {
        /// How many partitions there are, and which of them have no leader at the moment.
        case partitions(Int, leaderless: Set<Int32>)
        /// The broker says that there is no such topic.
        case missing
        /// The broker says why it tells nothing.
        case failed(String)
    }

    var topics: [String: Topic] = [:]

    func merging(_ other: KafkaListing) -> KafkaListing { KafkaListing(topics: topics.merging(other.topics) { $1 }) }
}
