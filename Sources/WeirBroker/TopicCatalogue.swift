import WeirBase
package import WeirKafkaWire

/// A topic: what the broker knows of it, but for its records.
package struct Topic: Sendable, Equatable {
    package let name: String
    package let id: KafkaUUID
    /// Partitions are numbered from 0.
    package internal(set) var partitionCount: Int32
    package internal(set) var config: ConfigValues

    package func hasPartition(_ partition: Int32) -> Bool { partition >= 0 && partition < partitionCount }
}

/// What became of a topic.
package enum TopicChange: Sendable {
    case created(Topic)
    /// Partitions from `first` on are new.
    case partitionsAdded(Topic, first: Int32)
    case configured(Topic)
    /// The topic is gone, and so is everything under its name.
    case deleted(Topic)
}

/// A request about a topic is refused: the code and the reason in words.
package struct TopicFailure: Error, Sendable, Equatable {
    package var code: KafkaErrorCode
    package var message: String

    package init(_ code: KafkaErrorCode, _ message: String) {
        self.code = code
        self.message = message
    }
}

/// The topics of the broker, durable before a change is told to anyone. Used on the loop's thread.
package final class TopicCatalogue {
    /// The longest name of a topic: it is a directory's, with the partition's number behind it.
    package static let nameBytesMax = 249

    private var topics: [String: Topic] = [:]
    private var names: [KafkaUUID: String] = [:]
    private(set) var partitionTotal = 0
    private var observers: [(TopicChange) throws(BrokerFailure) -> Void] = []
    private let properties: ConfigValues
    private let file: TopicFile?
    private let makeID: () -> KafkaUUID

    /// - Parameter file: Where the topics are kept; nil keeps them in memory only.
    init(properties: ConfigValues, file: TopicFile?, makeID: @escaping () -> KafkaUUID) throws(BrokerFailure) {
        self.properties = properties
        self.file = file
        self.makeID = makeID
        for entry in try file?.load() ?? [] {
            insert(
                Topic(
                    name: entry.name, id: entry.id, partitionCount: entry.partitionCount,
                    config: TopicProperties.values(entry.config, broker: properties)))
        }
    }

    package subscript(name: String) -> Topic? { topics[name] }
    package func topic(id: KafkaUUID) -> Topic? { names[id].flatMap { topics[$0] } }
    package func hasPartition(_ topic: String, _ partition: Int32) -> Bool { topics[topic]?.hasPartition(partition) ?? false }
    /// By name.
    package var all: [Topic] { topics.values.sorted { $0.name < $1.name } }
    package var count: Int { topics.count }

    /// Calls a closure after each change, in the order of the registrations. One that throws ends the broker: its disk fails.
    package func observe(_ observer: @escaping (TopicChange) throws(BrokerFailure) -> Void) { observers.append(observer) }

    // MARK: Changes

    /// What stands against creating a topic; nil when nothing does.
    package func problem(creating name: String, partitions: Int32, config: [String: String]) -> TopicFailure? {
        if let problem = Self.problem(withName: name) { return TopicFailure(.invalidTopic, problem) }
        guard topics[name] == nil else { return TopicFailure(.topicAlreadyExists, "Topic '\(name)' already exists.") }
        guard partitions >= 1 else { return TopicFailure(.invalidPartitions, "Number of partitions must be larger than 0.") }
        if let failure = limitProblem(newTopics: 1, newPartitions: Int(partitions)) { return failure }
        return Self.problem(withConfig: config)
    }

    package func create(_ name: String, partitions: Int32, config: [String: String] = [:]) throws(TopicChangeFailure) -> Topic {
        if let failure = problem(creating: name, partitions: partitions, config: config) { throw .refused(failure) }
        let topic = Topic(
            name: name, id: makeID(), partitionCount: partitions, config: TopicProperties.values(config, broker: properties))
        insert(topic)
        try store(undo: { self.remove(topic) })
        try tell(.created(topic))
        return topic
    }

    package func addPartitions(_ name: String, to count: Int32) throws(TopicChangeFailure) {
        guard var topic = topics[name] else { throw .refused(Self.unknown(name)) }
        if let failure = problem(addingPartitions: name, to: count) { throw .refused(failure) }
        let old = topic
        topic.partitionCount = count
        replace(old, topic)
        try store(undo: { self.replace(topic, old) })
        try tell(.partitionsAdded(topic, first: old.partitionCount))
    }

    package func problem(addingPartitions name: String, to count: Int32) -> TopicFailure? {
        guard let topic = topics[name] else { return Self.unknown(name) }
        guard count > topic.partitionCount else {
            let what =
                count == topic.partitionCount
                ? "already has \(count) partitions" : "currently has \(topic.partitionCount) partitions, which is higher than the requested \(count)"
            return TopicFailure(.invalidPartitions, "Topic '\(name)' \(what).")
        }
        return limitProblem(newTopics: 0, newPartitions: Int(count - topic.partitionCount))
    }

    /// Replaces the configuration that is set for a topic.
    package func configure(_ name: String, _ config: [String: String]) throws(TopicChangeFailure) {
        guard var topic = topics[name] else { throw .refused(Self.unknown(name)) }
        if let failure = Self.problem(withConfig: config) { throw .refused(failure) }
        let old = topic
        topic.config = TopicProperties.values(config, broker: properties)
        replace(old, topic)
        try store(undo: { self.replace(topic, old) })
        try tell(.configured(topic))
    }

    package func delete(_ name: String) throws(TopicChangeFailure) {
        guard let topic = topics[name] else { throw .refused(Self.unknown(name)) }
        remove(topic)
        try store(undo: { self.insert(topic) })
        try tell(.deleted(topic))
    }

    static func unknown(_ name: String) -> TopicFailure {
        TopicFailure(.unknownTopicOrPartition, "This server does not host the topic '\(name)'.")
    }

    /// What is wrong with the name of a topic, by Kafka's rules; nil when nothing is.
    package static func problem(withName name: String) -> String? {
        if name.isEmpty { return "A topic's name must not be empty." }
        if name == "." || name == ".." { return "A topic cannot be named '\(name)'." }
        if name.utf8.count > nameBytesMax { return "A topic's name has \(name.utf8.count) characters; at most \(nameBytesMax) are allowed." }
        let isLegal = name.utf8.allSatisfy { byte in
            switch byte {
            case UInt8(ascii: "a")...UInt8(ascii: "z"), UInt8(ascii: "A")...UInt8(ascii: "Z"), UInt8(ascii: "0")...UInt8(ascii: "9"),
                UInt8(ascii: "."), UInt8(ascii: "_"), UInt8(ascii: "-"):
                true
            default: false
            }
        }
        return isLegal ? nil : "The topic's name '\(name)' has a character other than ASCII letters, digits, '.', '_' and '-'."
    }

    package static func problem(withConfig config: [String: String]) -> TopicFailure? {
        for (name, value) in config.sorted(by: { $0.key < $1.key }) {
            guard let key = TopicProperties.table[name] else { return TopicFailure(.invalidConfig, "Unknown topic config name: \(name)") }
            if let problem = key.problem(with: value) { return TopicFailure(.invalidConfig, problem) }
        }
        return nil
    }

    private func limitProblem(newTopics: Int, newPartitions: Int) -> TopicFailure? {
        let topicsMax = properties.int("max.topics")
        let partitionsMax = properties.int("max.partitions")
        guard topics.count + newTopics <= topicsMax else {
            return TopicFailure(.policyViolation, "This broker holds at most \(topicsMax) topics (max.topics).")
        }
        guard partitionTotal + newPartitions <= partitionsMax else {
            return TopicFailure(.policyViolation, "This broker holds at most \(partitionsMax) partitions (max.partitions).")
        }
        return nil
    }

    // MARK: State

    private func insert(_ topic: Topic) {
        topics[topic.name] = topic
        names[topic.id] = topic.name
        partitionTotal += Int(topic.partitionCount)
    }

    private func remove(_ topic: Topic) {
        topics[topic.name] = nil
        names[topic.id] = nil
        partitionTotal -= Int(topic.partitionCount)
    }

    private func replace(_ old: Topic, _ new: Topic) {
        remove(old)
        insert(new)
    }

    private func store(undo: () -> Void) throws(TopicChangeFailure) {
        guard let file else { return }
        do {
            try file.save(all.map { TopicFile.Entry(name: $0.name, id: $0.id, partitionCount: $0.partitionCount, config: $0.config.overrides) })
        } catch {
            undo()
            throw .failed(error)
        }
    }

    private func tell(_ change: TopicChange) throws(TopicChangeFailure) {
        for observer in observers {
            do { try observer(change) } catch { throw .failed(error) }
        }
    }
}

/// Why a topic was not changed.
package enum TopicChangeFailure: Error, Sendable {
    /// By the rules: the client is told.
    case refused(TopicFailure)
    /// By the disk.
    case failed(BrokerFailure)

    package var asTopicFailure: TopicFailure {
        switch self {
        case .refused(let failure): failure
        case .failed(let failure): TopicFailure(.kafkaStorageError, failure.description)
        }
    }
}
