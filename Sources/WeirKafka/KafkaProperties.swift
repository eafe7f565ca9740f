/// Settings of the Kafka client by librdkafka's names: everything its `CONFIGURATION.md` lists passes through.
///
///     var properties = KafkaProperties()
///     properties["security.protocol"] = "SASL_SSL"
///     properties["sasl.password"] = "…"
///
/// Printing them masks secrets, so that they may be logged.
public struct KafkaProperties: Sendable, Equatable, CustomStringConvertible, ExpressibleByDictionaryLiteral {
    private var values: [String: String] = [:]

    public init() {}

    /// Later pairs win over earlier ones of the same key.
    public init(dictionaryLiteral elements: (String, String)...) {
        for (key, value) in elements { values[key] = value }
    }

    public init(_ values: [String: String]) { self.values = values }

    public subscript(key: String) -> String? {
        get { values[key] }
        set { values[key] = newValue }
    }

    /// Key and value pairs, sorted by key.
    public var pairs: [(key: String, value: String)] { values.sorted { $0.key < $1.key }.map { ($0.key, $0.value) } }

    /// These properties, with those of `other` winning.
    public func merging(_ other: KafkaProperties) -> KafkaProperties {
        KafkaProperties(values.merging(other.values) { $1 })
    }

    /// `key=value` pairs sorted by key, separated by blanks, with secrets as `******`.
    public var description: String {
        pairs.map { "\($0.key)=\(Self.isSecret($0.key) ? "******" : $0.value)" }.joined(separator: " ")
    }

    /// Whether the value must not be printed.
    public static func isSecret(_ key: String) -> Bool {
        ["password", "secret", "key.pem", "oauthbearer.config", "token", "sasl.jaas"].contains { key.contains($0) }
    }
}

extension KafkaProperties {
    /// Lays the properties of a job's options over these: `kafka.property.NAME` for every client, and over it `kafka.UID.property.NAME` for the
    /// source or sink with that uid.
    func configured(by settings: [String: String], uid: String) -> KafkaProperties {
        var result = self
        for prefix in ["kafka.property.", "kafka.\(uid).property."] {
            for (key, value) in settings where key.hasPrefix(prefix) && key.utf8.count > prefix.utf8.count {
                result[String(key.dropFirst(prefix.count))] = value
            }
        }
        return result
    }

    /// The options that are Kafka's and mean nothing to any operator, each with what is wrong.
    ///
    /// - Parameters:
    ///   - uids: Of all operators of the job.
    ///   - settings: The job's options.
    package static func problems(with settings: [String: String], uids: [String]) -> [String] {
        settings.keys.filter { $0.hasPrefix("kafka.") && !$0.hasPrefix("kafka.property.") }.sorted().compactMap { key in
            guard let uid = uids.filter({ key.hasPrefix("kafka.\($0).") }).max(by: { $0.count < $1.count }) else {
                return "\(key): no operator of the job has such a uid; there are \(uids.sorted().joined(separator: ", "))"
            }
            let rest = String(key.dropFirst("kafka.\(uid).".count))
            let names = ["topics", "topic-pattern"] + KafkaSinkSettings.optionNames
            if rest.hasPrefix("property.") || names.contains(rest) { return nil }
            return "\(key): of an operator these can be set: kafka.\(uid).property.NAME, "
                + names.map { "kafka.\(uid).\($0)" }.joined(separator: ", ")
        }
    }
}

extension String {
    /// Whether `part` occurs in the text, byte by byte: the standard library's own search needs Foundation or a regular expression.
    fileprivate func contains(_ part: String) -> Bool {
        let bytes = Array(utf8)
        let wanted = Array(part.utf8)
        guard bytes.count >= wanted.count else { return false }
        return (0...(bytes.count - wanted.count)).contains { bytes[$0..<($0 + wanted.count)].elementsEqual(wanted) }
    }
}
