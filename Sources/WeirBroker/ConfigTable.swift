import WeirBase

/// A configuration key of Kafka's: of the broker or of a topic.
package struct ConfigKey: Sendable {
    package enum Kind: Sendable, Equatable {
        case int(ClosedRange<Int64>)
        case bool
        case string
        /// Words separated by commas, each one of these; any word when there are none.
        case list([String])
        case choice([String])
    }

    package let name: String
    package let kind: Kind
    package let defaultText: String
    package let documentation: String
    /// Whether it can be changed while the broker runs; a topic's always can.
    package var isReadOnly = false
    package var isSensitive = false
    /// The broker's property that gives a topic's its default.
    package var brokerKey: String?

    init(_ name: String, _ kind: Kind, _ defaultText: String, _ documentation: String, brokerKey: String? = nil) {
        self.name = name
        self.kind = kind
        self.defaultText = defaultText
        self.documentation = documentation
        self.brokerKey = brokerKey
    }

    /// The type's number in DescribeConfigs.
    var typeNumber: Int8 {
        switch kind {
        case .bool: 1
        case .string, .choice: 2
        case .int(let range): range.upperBound > Int64(Int32.max) ? 5 : 3
        case .list: 7
        }
    }

    /// What is wrong with a value; nil when nothing is.
    package func problem(with text: String) -> String? {
        switch kind {
        case .int(let range):
            guard let value = Int64(text) else { return "\(name) is \"\(text)\": a whole number is expected" }
            guard range.contains(value) else { return "\(name) is \(value): it must be in \(range.lowerBound)...\(range.upperBound)" }
        case .bool:
            guard text == "true" || text == "false" else { return "\(name) is \"\(text)\": true or false is expected" }
        case .string: break
        case .list(let words):
            let wrong = splitList(text).filter { !words.isEmpty && !words.contains($0) }
            guard wrong.isEmpty else { return "\(name) has \(wrong.joined(separator: ", ")): it knows \(words.joined(separator: ", "))" }
        case .choice(let words):
            guard words.contains(text) else { return "\(name) is \"\(text)\": it knows \(words.joined(separator: ", "))" }
        }
        return nil
    }
}

/// The words of a list: "a, b" → ["a", "b"].
func splitList(_ text: String) -> [String] {
    text.split(separator: ",").map { word in
        String(word.drop { $0 == " " }.reversed().drop { $0 == " " }.reversed())
    }.filter { !$0.isEmpty }
}

/// Values of keys of one table; what is not set has its default. Values were checked before they came in.
package struct ConfigValues: Sendable, Equatable {
    package private(set) var overrides: [String: String]
    private let lookup: @Sendable (String) -> String?

    init(overrides: [String: String], default lookup: @escaping @Sendable (String) -> String?) {
        self.overrides = overrides
        self.lookup = lookup
    }

    /// The text of a key; traps for a key that the table does not have.
    package func string(_ name: String) -> String {
        guard let text = overrides[name] ?? lookup(name) else { preconditionFailure("no configuration key \(name)") }
        return text
    }

    package func int64(_ name: String) -> Int64 {
        guard let value = Int64(string(name)) else { preconditionFailure("the configuration key \(name) is no number") }
        return value
    }

    package func int(_ name: String) -> Int { Int(int64(name)) }
    package func bool(_ name: String) -> Bool { string(name) == "true" }
    package func list(_ name: String) -> [String] { splitList(string(name)) }
    /// A key in milliseconds as a duration; nil for -1, "without end".
    package func milliseconds(_ name: String) -> Duration? {
        let value = int64(name)
        return value < 0 ? nil : .milliseconds(value)
    }

    mutating func set(_ name: String, _ value: String?) { overrides[name] = value }

    package static func == (left: ConfigValues, right: ConfigValues) -> Bool { left.overrides == right.overrides }
}
