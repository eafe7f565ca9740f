/// The broker's properties, under Kafka's names.
package enum BrokerProperties {
    private static let count: ClosedRange<Int64> = 0...Int64(Int32.max)
    private static let positive: ClosedRange<Int64> = 1...Int64(Int32.max)
    private static let long: ClosedRange<Int64> = -1...Int64.max

    package static let keys: [ConfigKey] = [
        ConfigKey("auto.create.topics.enable", .bool, "true", "Whether asking for the metadata of a topic that does not exist creates it."),
        ConfigKey("num.partitions", .int(1...10_000), "1", "Partitions of a topic that is created without saying how many."),
        ConfigKey("advertised.listener", .string, "", "host:port given to clients; empty: the address that the client connected to."),
        ConfigKey("socket.request.max.bytes", .int(1_024...Int64(Int32.max)), "104857600", "The largest request."),
        ConfigKey("max.connections", .int(1...100_000), "2000", "Connections at a time; more are closed at once."),
        ConfigKey("max.in.flight.requests.per.connection", .int(1...10_000), "100", "Requests of a connection that are not answered yet; more wait."),
        ConfigKey("connections.max.idle.ms", .int(-1...Int64(Int32.max)), "600000", "Idle connections are closed; -1: never."),
        ConfigKey("max.topics", .int(1...1_000_000), "10000", "Topics at a time."),
        ConfigKey("max.partitions", .int(1...1_000_000), "50000", "Partitions of all topics together."),
        ConfigKey("max.groups", .int(1...1_000_000), "10000", "Groups at a time."),
        ConfigKey("group.max.size", .int(positive), "10000", "Members of a group."),
        ConfigKey("max.transactional.ids", .int(1...10_000_000), "100000", "Transactional ids at a time."),
        ConfigKey("message.max.bytes", .int(count), "1048588", "The largest record batch.", brokerKey: nil),
        ConfigKey(
            "compression.type", .choice(["producer", "uncompressed", "gzip", "snappy", "lz4", "zstd"]), "producer",
            "Batches are stored as they came, whatever this says."),
        ConfigKey("log.message.timestamp.type", .choice(["CreateTime", "LogAppendTime"]), "CreateTime", "Whose clock gives a record its timestamp."),
        ConfigKey("log.retention.ms", .int(long), "604800000", "Age at which segments are deleted; -1: never."),
        ConfigKey("log.retention.bytes", .int(long), "-1", "Size of a partition above which its oldest segments are deleted; -1: without bound."),
        ConfigKey("log.retention.check.interval.ms", .int(1...Int64(Int32.max)), "300000", "How often retention is applied."),
        ConfigKey("log.segment.bytes", .int(14...Int64(Int32.max)), "1073741824", "Size at which a segment is closed."),
        ConfigKey("log.roll.ms", .int(1...Int64.max), "604800000", "Age at which a segment is closed."),
        ConfigKey("log.index.interval.bytes", .int(count), "4096", "Bytes between two entries of a segment's indexes."),
        ConfigKey(
            "log.memory.bytes", .int(1_048_576...Int64.max), "4294967296",
            "What the logs of a broker without a data directory may hold together; then it refuses records. Kafka has no such key."),
        ConfigKey("log.cleanup.policy", .list(["delete", "compact"]), "delete", "Logs are never compacted, whatever this says."),
        ConfigKey("producer.id.expiration.ms", .int(positive), "86400000", "Age at which an idle producer's sequence numbers are forgotten."),
        ConfigKey("fetch.max.bytes", .int(1_024...Int64(Int32.max)), "57671680", "The largest answer to a fetch, but for its first batch."),
        ConfigKey("offsets.retention.minutes", .int(positive), "10080", "Age at which offsets of an empty group are forgotten."),
        ConfigKey("offsets.retention.check.interval.ms", .int(positive), "600000", "How often that is looked at."),
        ConfigKey("offset.metadata.max.bytes", .int(count), "4096", "The longest metadata of a committed offset."),
        ConfigKey("group.min.session.timeout.ms", .int(count), "1", "The shortest session timeout. Kafka's is 6000: tests want less."),
        ConfigKey("group.max.session.timeout.ms", .int(count), "1800000", "The longest session timeout."),
        ConfigKey("group.initial.rebalance.delay.ms", .int(count), "0", "How long a new group waits for more members. Kafka's is 3000."),
        ConfigKey("transaction.max.timeout.ms", .int(positive), "900000", "The longest transaction timeout a producer may ask for."),
        ConfigKey(
            "transaction.abort.timed.out.transaction.cleanup.interval.ms", .int(positive), "1000",
            "How often transactions that timed out are looked for. Kafka's is 10000."),
        ConfigKey("transactional.id.expiration.ms", .int(positive), "604800000", "Age at which an idle transactional id is forgotten."),
        ConfigKey(
            "sasl.enabled.mechanisms", .list(["PLAIN", "SCRAM-SHA-256", "SCRAM-SHA-512"]), "PLAIN,SCRAM-SHA-256,SCRAM-SHA-512",
            "The mechanisms that clients may use."),
        users,
    ]

    private static let users: ConfigKey = {
        var key = ConfigKey("sasl.users", .string, "", "name:password pairs, separated by commas. When it is set, clients must authenticate.")
        key.isSensitive = true
        return key
    }()

    package static let table = Dictionary(uniqueKeysWithValues: keys.map { ($0.name, $0) })

    /// The properties with these set.
    ///
    /// - Throws: ``BrokerFailure`` with every problem: keys that do not exist, values that are none.
    package static func values(_ overrides: [String: String]) throws(BrokerFailure) -> ConfigValues {
        var problems: [String] = []
        for (name, value) in overrides.sorted(by: { $0.key < $1.key }) {
            guard let key = table[name] else {
                problems.append("\(name) is no property of this broker")
                continue
            }
            if let problem = key.problem(with: value) { problems.append(problem) }
        }
        guard problems.isEmpty else { throw BrokerFailure(problems.joined(separator: "; ")) }
        return ConfigValues(overrides: overrides) { table[$0]?.defaultText }
    }
}

/// A topic's configuration, under Kafka's names.
package enum TopicProperties {
    private static let long: ClosedRange<Int64> = -1...Int64.max
    private static let count: ClosedRange<Int64> = 0...Int64(Int32.max)

    package static let keys: [ConfigKey] = [
        ConfigKey(
            "cleanup.policy", .list(["delete", "compact"]), "delete", "Logs are never compacted, whatever this says.", brokerKey: "log.cleanup.policy"
        ),
        ConfigKey(
            "compression.type", .choice(["producer", "uncompressed", "gzip", "snappy", "lz4", "zstd"]), "producer",
            "Batches are stored as they came, whatever this says.", brokerKey: "compression.type"),
        ConfigKey("delete.retention.ms", .int(0...Int64.max), "86400000", "Without effect."),
        ConfigKey("file.delete.delay.ms", .int(0...Int64.max), "60000", "Without effect."),
        ConfigKey("flush.messages", .int(1...Int64.max), "9223372036854775807", "Without effect."),
        ConfigKey("flush.ms", .int(0...Int64.max), "9223372036854775807", "Without effect."),
        ConfigKey(
            "index.interval.bytes", .int(count), "4096", "Bytes between two entries of a segment's indexes.", brokerKey: "log.index.interval.bytes"),
        ConfigKey("max.compaction.lag.ms", .int(1...Int64.max), "9223372036854775807", "Without effect."),
        ConfigKey("max.message.bytes", .int(count), "1048588", "The largest record batch.", brokerKey: "message.max.bytes"),
        ConfigKey(
            "message.timestamp.type", .choice(["CreateTime", "LogAppendTime"]), "CreateTime", "Whose clock gives a record its timestamp.",
            brokerKey: "log.message.timestamp.type"),
        ConfigKey("min.cleanable.dirty.ratio", .string, "0.5", "Without effect."),
        ConfigKey("min.compaction.lag.ms", .int(0...Int64.max), "0", "Without effect."),
        ConfigKey("min.insync.replicas", .int(1...Int64(Int32.max)), "1", "More than 1 makes acks=all fail: there is one replica."),
        ConfigKey("preallocate", .bool, "false", "Without effect."),
        ConfigKey(
            "retention.bytes", .int(long), "-1", "Size of a partition above which its oldest segments are deleted; -1: without bound.",
            brokerKey: "log.retention.bytes"),
        ConfigKey("retention.ms", .int(long), "604800000", "Age at which segments are deleted; -1: never.", brokerKey: "log.retention.ms"),
        ConfigKey("segment.bytes", .int(14...Int64(Int32.max)), "1073741824", "Size at which a segment is closed.", brokerKey: "log.segment.bytes"),
        ConfigKey("segment.index.bytes", .int(4...Int64(Int32.max)), "10485760", "Without effect."),
        ConfigKey("segment.jitter.ms", .int(0...Int64.max), "0", "Without effect."),
        ConfigKey("segment.ms", .int(1...Int64.max), "604800000", "Age at which a segment is closed.", brokerKey: "log.roll.ms"),
        ConfigKey("unclean.leader.election.enable", .bool, "false", "Without effect."),
    ]

    package static let table = Dictionary(uniqueKeysWithValues: keys.map { ($0.name, $0) })

    /// A topic's configuration with these set; what is not set comes from the broker's properties.
    static func values(_ overrides: [String: String], broker: ConfigValues) -> ConfigValues {
        ConfigValues(overrides: overrides) { name in
            guard let key = table[name] else { return nil }
            return key.brokerKey.map { broker.string($0) } ?? key.defaultText
        }
    }
}
