import WeirBase
import WeirKafkaTransactions
import WeirStreams

extension KafkaSinkSettings {
    /// Lays a job's options over what its program says: `kafka.property.NAME`, `kafka.UID.property.NAME`, `kafka.UID.topic`,
    /// `kafka.UID.transactional-id-prefix`, `kafka.UID.lost-transactions` and `kafka.UID.discard-prepared`.
    ///
    /// - Throws: ``ConfigurationError`` with what is wrong with them.
    func configured(by options: [String: String], uid: String) throws(ConfigurationError) -> KafkaSinkSettings {
        var settings = self
        var problems: [String] = []
        settings.properties = properties.configured(by: options, uid: uid)
        if let topic = options["kafka.\(uid).topic"] { settings.topic = topic }
        if let prefix = options["kafka.\(uid).transactional-id-prefix"] { settings.prefix = prefix }
        if let text = options["kafka.\(uid).lost-transactions"] {
            if let policy = KafkaLossPolicy(rawValue: text) {
                settings.lossPolicy = policy
            } else {
                problems.append("kafka.\(uid).lost-transactions is \"\(text)\": it can be fail or skip")
            }
        }
        if let text = options["kafka.\(uid).discard-prepared"] {
            switch text {
            case "true": settings.discardsPrepared = true
            case "false": settings.discardsPrepared = false
            default: problems.append("kafka.\(uid).discard-prepared is \"\(text)\": it can be true or false")
            }
        }
        problems += settings.problems
        if !problems.isEmpty { throw ConfigurationError(problems) }
        return settings
    }

    /// The options of a sink below `kafka.UID.`, but for properties.
    static let optionNames = ["topic", "transactional-id-prefix", "lost-transactions", "discard-prepared"]

    /// What is wrong, as far as that shows without a connection.
    var problems: [String] {
        var problems: [String] = []
        if topic.isEmpty { problems.append("a Kafka sink needs a topic") }
        if bootstrap.isEmpty { problems.append("a Kafka sink needs the address of a broker") }
        for key in KafkaProducer.reservedProperties where properties[key] != nil {
            problems.append(
                key == "transactional.id"
                    ? "the Kafka property transactional.id is set by Weir: choose .delivery(.exactlyOnce) and a .transactionalIDPrefix(\"…\") instead"
                    : "the Kafka property \(key) is set by Weir. Leave it out")
        }
        let acks = properties["acks"] ?? properties["request.required.acks"]
        if acks == "0", delivery != .none {
            problems.append("the Kafka property acks is 0: records could be lost unseen. Use 1 or all, or .delivery(.none)")
        }
        if isUpsert, !hasKey { problems.append("an upserting Kafka sink needs a key: add .keyed(by: …)") }
        if lookupTimeout < .milliseconds(1) { problems.append("the lookup timeout of a Kafka sink must be at least 1 ms") }
        if flushTimeout < .milliseconds(1) { problems.append("the flush timeout of a Kafka sink must be at least 1 ms") }
        if delivery == .exactlyOnce { problems += exactlyOnceProblems(acks: acks) }
        return problems
    }

    private func exactlyOnceProblems(acks: String?) -> [String] {
        var problems: [String] = []
        if prefix?.isEmpty ?? true {
            problems.append(
                "an exactly-once Kafka sink needs a prefix for the names of its producers: add .transactionalIDPrefix(\"…\"), another one for each sink"
            )
        }
        if let prefix, prefix.utf8.count > 200 { problems.append("the transactional id prefix has more than 200 bytes") }
        if let acks, acks != "all", acks != "-1" {
            problems.append("the Kafka property acks is \(acks), and exactly-once needs all. Leave it out")
        }
        if properties["enable.idempotence"].map({ $0 != "true" }) == true {
            problems.append("the Kafka property enable.idempotence is off, and exactly-once needs it. Leave it out")
        }
        if let text = properties["transaction.timeout.ms"] {
            if Int64(text).map({ (1_000...2_147_483_647).contains($0) }) != true {
                problems.append("the Kafka property transaction.timeout.ms is \"\(text)\": it must be in 1000...2147483647")
            }
        }
        if let security = properties["security.protocol"], security.lowercased() != "plaintext" {
            problems.append(
                "the Kafka property security.protocol is \(security): an exactly-once sink cannot recover over it yet. Use at-least-once, or PLAINTEXT"
            )
        }
        if (try? KafkaAddress.list(bootstrap)) == nil { problems.append("\"\(bootstrap)\" is no list of Kafka brokers: host:port,host:port") }
        return problems
    }

    /// The name that librdkafka is given for messages.
    func purpose(_ id: TransactionalID?) -> String { id.map { "writing \(topic) as \($0)" } ?? "writing \(topic)" }
}
