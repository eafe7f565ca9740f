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
        ["password", "secret", "key.pem", "oauthbearer.config", "token"].contains { key.contains($0) }
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
