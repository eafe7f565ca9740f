import WeirBase

/// What a source subtask needs to know, whatever its rows are.
@usableFromInline
struct KafkaSourceSettings: Sendable {
    var properties: KafkaProperties
    var subscription: KafkaSubscription
    var start = KafkaStart.earliest
    var stop = KafkaStop.never
    var poison = KafkaPoisonPolicy.fail
    var outOfRange = KafkaRangePolicy.fail
    var removal = KafkaRemovalPolicy.fail
    var lookupTimeout = Duration.seconds(15)
    /// Zero or less: partitions that come later are not read.
    var discoveryInterval = Duration.seconds(300)
    /// nil: if there is a group.
    var commitOnCheckpoint: Bool?

    var isBounded: Bool { stop != .never }
    var bootstrap: String { properties["bootstrap.servers"] ?? "" }
    var group: String? { properties["group.id"].flatMap { $0.isEmpty ? nil : $0 } }
    var commitsOnCheckpoints: Bool { group != nil && commitOnCheckpoint ?? true }

    /// The time between two commits that need no checkpoint; nil if there are none.
    var autoCommitInterval: Duration? {
        guard properties["enable.auto.commit"] == "true", group != nil else { return nil }
        return .milliseconds(properties["auto.commit.interval.ms"].flatMap { Int64($0) } ?? 5_000)
    }

    /// What the client gets: the source itself commits, so that nothing is committed that was not handled.
    var clientProperties: KafkaProperties {
        var properties = properties
        properties["enable.auto.commit"] = nil
        properties["auto.commit.interval.ms"] = nil
        return properties
    }

    /// What the producer of dead letters gets: how to reach the cluster.
    var deadLetterProperties: KafkaProperties {
        let reach = ["bootstrap.servers", "client.id", "security.", "sasl.", "ssl.", "enable.ssl.", "enable.sasl.", "socket.", "broker.address."]
        return KafkaProperties(
            Dictionary(
                properties.pairs.filter { pair in reach.contains { pair.key.hasPrefix($0) } }.map { ($0.key, $0.value) },
                uniquingKeysWith: { $1 }))
    }

    /// With what a job's options say about the source.
    ///
    /// - Throws: `ConfigurationError` with every problem of the result.
    func configured(by options: [String: String], uid: String) throws(ConfigurationError) -> KafkaSourceSettings {
        var settings = self
        settings.properties = properties.configured(by: options, uid: uid)
        let topics = options["kafka.\(uid).topics"]
        let pattern = options["kafka.\(uid).topic-pattern"]
        if topics != nil, pattern != nil {
            throw ConfigurationError(["kafka.\(uid).topics and kafka.\(uid).topic-pattern are both set: a source has one of them"])
        }
        if let topics {
            settings.subscription = .topics(
                topics.split(separator: ",", omittingEmptySubsequences: false).map { String($0.drop { $0 == " " }) })
        }
        if let pattern { settings.subscription = .pattern(pattern) }
        let problems = settings.problems
        guard problems.isEmpty else { throw ConfigurationError(problems) }
        return settings
    }

    /// Everything that is wrong, as far as it shows without a connection.
    var problems: [String] {
        var problems: [String] = subscriptionProblems
        if bootstrap.isEmpty { problems.append("a Kafka source needs the address of a broker") }
        if group == nil {
            if case .committed = start { problems.append("a Kafka source that starts at committed offsets needs a group: add .group(\"…\")") }
            if stop == .committed { problems.append("a Kafka source that stops at committed offsets needs a group: add .group(\"…\")") }
            if commitOnCheckpoint == true { problems.append("a Kafka source that commits offsets needs a group: add .group(\"…\")") }
            if properties["enable.auto.commit"] == "true" {
                problems.append("the Kafka property enable.auto.commit needs a group: add .group(\"…\"), or leave it out")
            }
        }
        for key in KafkaClient.reservedProperties where properties[key] != nil {
            problems.append("the Kafka property \(key) is set by Weir: checkpoints hold the offsets. Leave it out")
        }
        if let text = properties["enable.auto.commit"], text != "true", text != "false" {
            problems.append("the Kafka property enable.auto.commit is \"\(text)\": it takes true or false")
        }
        if let text = properties["auto.commit.interval.ms"], Int64(text).map({ $0 < 1 }) ?? true {
            problems.append("the Kafka property auto.commit.interval.ms is \"\(text)\": it takes a whole number from 1")
        }
        if lookupTimeout < .milliseconds(1) { problems.append("the lookup timeout of a Kafka source must be at least 1 ms") }
        if case .deadLetter(let topic) = poison {
            if topic.isEmpty { problems.append("the dead-letter topic of a Kafka source has an empty name") }
            if case .topics(let topics) = subscription, topics.contains(topic) {
                problems.append("the dead-letter topic \"\(topic)\" is one that the source reads: it would read its own letters for ever")
            }
        }
        return problems + offsetProblems
    }

    private var subscriptionProblems: [String] {
        switch subscription {
        case .topics(let topics):
            var problems: [String] = []
            if topics.isEmpty { problems.append("a Kafka source needs at least one topic") }
            if Set(topics).count != topics.count { problems.append("a Kafka source names a topic twice") }
            if topics.contains("") { problems.append("a Kafka topic has an empty name") }
            return problems
        case .pattern(let pattern):
            return KafkaTopicPattern.problem(with: pattern).map { ["the topic pattern \"\(pattern)\" is no regular expression: \($0)"] } ?? []
        case .partitions(let listed):
            var problems: [String] = []
            if listed.allSatisfy({ $0.value.isEmpty }) { problems.append("a Kafka source needs at least one partition") }
            if listed.keys.contains("") { problems.append("a Kafka topic has an empty name") }
            for (topic, numbers) in listed.sorted(by: { $0.key < $1.key }) {
                if let number = numbers.first(where: { $0 < 0 }) { problems.append("\(topic)[\(number)] is no Kafka partition: they count from 0") }
                if Set(numbers).count != numbers.count { problems.append("a Kafka source names a partition of \"\(topic)\" twice") }
            }
            return problems
        }
    }

    private var offsetProblems: [String] {
        var problems: [String] = []
        if case .offsets(let listed, _) = start { problems += Self.negative(listed, "start") }
        if case .offsets(let listed) = stop { problems += Self.negative(listed, "stop") }
        return problems
    }

    private static func negative(_ listed: [String: [Int32: Int64]], _ what: String) -> [String] {
        listed.sorted { $0.key < $1.key }.flatMap { topic, offsets in
            offsets.filter { $0.value < 0 }.sorted { $0.key < $1.key }
                .map { "the \(what) offset \($0.value) of \(topic)[\($0.key)] is negative: offsets count from 0" }
        }
    }
}
