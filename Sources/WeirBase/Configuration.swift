/// A key of the configuration: its name is Flink's where the meaning is.
package struct ConfigurationKey: Sendable {
    package enum Kind: Sendable, Equatable {
        case string
        case integer(ClosedRange<Int>)
        case number(ClosedRange<Double>)
        case boolean
        case duration
        case bytes
        case oneOf([String])
    }

    /// A name that ends in `.*` stands for every key below it.
    package let name: String
    package let kind: Kind
    /// As a person would write it; empty: not set.
    package let fallback: String
    package let summary: String

    package init(_ name: String, _ kind: Kind, default fallback: String, _ summary: String) {
        self.name = name
        self.kind = kind
        self.fallback = fallback
        self.summary = summary
    }

    /// Whether a setting of this name is one of this key.
    package func matches(_ setting: String) -> Bool {
        guard let prefix else { return setting == name }
        return setting.hasPrefix(prefix) && setting.utf8.count > prefix.utf8.count
    }

    /// What all settings of a key that ends in `.*` begin with, the dot included.
    package var prefix: String? { name.hasSuffix(".*") ? String(name.dropLast()) : nil }

    /// nil if the text is a value of this key; else what it should have been.
    package func problem(with text: String) -> String? {
        let expected: String
        switch kind {
        case .string: return nil
        case .boolean:
            if text == "true" || text == "false" { return nil }
            expected = "true or false"
        case .integer(let range):
            if let value = Int(text), range.contains(value) { return nil }
            expected = "a whole number from \(range.lowerBound) to \(range.upperBound)"
        case .number(let range):
            if let value = Double(text), range.contains(value) { return nil }
            expected = "a number from \(range.lowerBound) to \(range.upperBound)"
        case .duration:
            if parseDuration(text) != nil { return nil }
            expected = "a duration such as 10s, 500ms or 5min"
        case .bytes:
            if ByteCount(text) != nil { return nil }
            expected = "a size such as 64mb or 32kb"
        case .oneOf(let names):
            if names.contains(text) { return nil }
            expected = "one of " + names.joined(separator: ", ")
        }
        return "\(name) is \"\(text)\": it takes \(expected)"
    }
}

/// Settings by key, each checked against the keys that exist. Later layers win: file, environment, `-D`.
package struct Configuration: Sendable {
    package private(set) var values: [String: String] = [:]
    package let keys: [ConfigurationKey]

    package init(keys: [ConfigurationKey]) { self.keys = keys }

    /// Lays settings over what is there.
    ///
    /// - Parameter origin: Where they come from ("conf/weir.yaml", "-D"), for the messages.
    /// - Throws: ``ConfigurationError`` with every problem; then nothing was changed.
    package mutating func merge(_ settings: [String: String], origin: String) throws(ConfigurationError) {
        var problems: [String] = []
        for (name, value) in settings.sorted(by: { $0.key < $1.key }) {
            guard let key = keys.first(where: { $0.matches(name) }) else {
                let near = nearest(to: name).map { "; did you mean \($0)?" } ?? ""
                problems.append("\(origin): unknown key \(name)\(near)")
                continue
            }
            if let problem = key.problem(with: value) { problems.append("\(origin): \(problem)") }
        }
        guard problems.isEmpty else { throw ConfigurationError(problems) }
        values.merge(settings) { _, new in new }
    }

    /// The value in force, or nil where it is not set and has no default.
    package func string(_ name: String) -> String? {
        if let value = values[name] { return value }
        guard let key = keys.first(where: { $0.name == name }) else { preconditionFailure("no such configuration key: \(name)") }
        return key.fallback.isEmpty ? nil : key.fallback
    }

    package func integer(_ name: String) -> Int? { string(name).flatMap { Int($0) } }
    package func number(_ name: String) -> Double? { string(name).flatMap { Double($0) } }
    package func boolean(_ name: String) -> Bool? { string(name).map { $0 == "true" } }
    package func duration(_ name: String) -> Duration? { string(name).flatMap { parseDuration($0) } }
    package func bytes(_ name: String) -> ByteCount? { string(name).flatMap { ByteCount($0) } }

    /// Every key with its value in force, sorted, secrets masked: what is printed at start.
    package var effective: [(name: String, value: String)] {
        let named = keys.filter { $0.prefix == nil }.map { key in (key.name, maskSecret(name: key.name, value: string(key.name) ?? "")) }
        let below = keys.compactMap(\.prefix).flatMap { settings(below: $0) }.map { ($0.key, maskSecret(name: $0.key, value: $0.value)) }
        return (named + below).sorted { $0.0 < $1.0 }
    }

    /// The settings whose names begin with a prefix.
    package func settings(below prefix: String) -> [String: String] { values.filter { $0.key.hasPrefix(prefix) } }

    private func nearest(to name: String) -> String? {
        let scored = keys.map { ($0.name, editDistance(name, $0.name)) }
        guard let best = scored.min(by: { ($0.1, $0.0) < ($1.1, $1.0) }), best.1 <= max(3, name.count / 3) else { return nil }
        return best.0
    }
}

/// The value, or asterisks where the name tells that it is a secret.
package func maskSecret(name: String, value: String) -> String {
    let lower = name.lowercased()
    let secret = ["password", "secret", "token", "sasl.jaas", "credential", "apikey", "api-key", "ssl.key.pem"].contains { lower.contains($0) }
    return secret && !value.isEmpty ? "******" : value
}

/// Levenshtein's distance between two names: O(n·m).
package func editDistance(_ left: String, _ right: String) -> Int {
    let a = Array(left.utf8.prefix(200))
    let b = Array(right.utf8.prefix(200))
    var previous = Array(0...b.count)
    for i in 0..<a.count {
        var current = [i + 1]
        for j in 0..<b.count {
            current.append(min(previous[j + 1] + 1, current[j] + 1, previous[j] + (a[i] == b[j] ? 0 : 1)))
        }
        previous = current
    }
    return previous[b.count]
}
