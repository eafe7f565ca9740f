import WeirBase
import WeirKafkaWire

/// Parses a file of faults: one a line, blank lines and what stands behind "#" are skipped.
///
///     on EndTxn 1 lose-answer            the first EndTxn is handled, its answer lost
///     on Produce 3-5 error 7             the third to the fifth are answered with error 7
///     on Fetch 2+ delay 500ms            from the second on
///     on any 100 close
///     at 10s refuse-connections 2s       ten seconds after the start, for two seconds
///
/// Actions on a request: `delay TIME`, `drop`, `close`, `lose-answer`, `error CODE`, `truncate BYTES`. Actions on the broker, with `on` or `at`:
/// `stop-answering TIME`, `refuse-connections TIME`, `leaderless TOPIC[/PARTITION] TIME`, `restart TIME`, `slow-disk DELAY TIME`.
package enum FaultFile {
    private static let bytesMax = 1 << 20

    package static func load(_ path: String) throws(BrokerFailure) -> [Fault] {
        let file = try DataFile(path, .read)
        let size = try file.size()
        guard size <= bytesMax else { throw BrokerFailure("a file of faults has at most \(bytesMax) bytes", path: path) }
        do {
            return try parse(String(decoding: try file.read(size, at: 0).array, as: UTF8.self))
        } catch {
            throw BrokerFailure(error.message, path: path)
        }
    }

    /// - Throws: ``BrokerFailure`` with every line that is no fault.
    package static func parse(_ text: String) throws(BrokerFailure) -> [Fault] {
        var faults: [Fault] = []
        var problems: [String] = []
        for (number, line) in text.split(separator: "\n", omittingEmptySubsequences: false).enumerated() {
            var words = (line.split(separator: "#", maxSplits: 1, omittingEmptySubsequences: false).first ?? "").split { $0 == " " || $0 == "\t" }[
                ...]
            if words.isEmpty { continue }
            guard let trigger = trigger(&words), let action = action(&words), words.isEmpty else {
                problems.append("line \(number + 1) is no fault: \(line)")
                continue
            }
            if case .time = trigger, action.isOfRequest {
                problems.append("line \(number + 1): this action needs a request, \"on API n\": \(line)")
                continue
            }
            faults.append(Fault(trigger: trigger, action: action))
        }
        guard problems.isEmpty else { throw BrokerFailure(problems.joined(separator: "; ")) }
        return faults
    }

    private static func trigger(_ words: inout ArraySlice<Substring>) -> Fault.Trigger? {
        switch words.popFirst() {
        case "at": return words.popFirst().flatMap { parseDuration(String($0)) }.map { .time($0) }
        case "on":
            guard let name = words.popFirst(), let count = words.popFirst() else { return nil }
            let api = name == "any" ? nil : ApiKey(name: String(name))
            guard name == "any" || api != nil, let numbers = numbers(count) else { return nil }
            return .requests(api, numbers)
        default: return nil
        }
    }

    /// "3", "3-5" or "3+".
    private static func numbers(_ text: Substring) -> ClosedRange<Int>? {
        if text.last == "+" { return Int(text.dropLast()).flatMap { $0 >= 1 ? $0...Int.max : nil } }
        let bounds = text.split(separator: "-", omittingEmptySubsequences: false).map { Int($0) }
        guard bounds.count <= 2, let first = bounds.first ?? nil, let last = bounds.last ?? nil, first >= 1, last >= first else { return nil }
        return first...last
    }

    private static func action(_ words: inout ArraySlice<Substring>) -> FaultAction? {
        func time() -> Duration? { words.popFirst().flatMap { parseDuration(String($0)) } }
        switch words.popFirst() {
        case "delay": return time().map { .delay($0) }
        case "drop": return .drop
        case "close": return .close
        case "lose-answer": return .loseAnswer
        case "error": return words.popFirst().flatMap { Int16($0) }.map { .error(KafkaErrorCode(rawValue: $0)) }
        case "truncate": return words.popFirst().flatMap { Int($0) }.flatMap { $0 >= 0 ? .truncate(bytes: $0) : nil }
        case "stop-answering": return time().map { .stopAnswering($0) }
        case "refuse-connections": return time().map { .refuseConnections($0) }
        case "restart": return time().map { .restart(downtime: $0) }
        case "slow-disk":
            guard let delay = time(), let duration = time() else { return nil }
            return .slowDisk(delay: delay, duration)
        case "leaderless":
            guard let place = words.popFirst(), let duration = time() else { return nil }
            let parts = place.split(separator: "/", omittingEmptySubsequences: false)
            if parts.count == 1 { return .leaderless(topic: String(place), partition: nil, duration) }
            guard parts.count == 2, let partition = Int32(parts[1]) else { return nil }
            return .leaderless(topic: String(parts[0]), partition: partition, duration)
        default: return nil
        }
    }
}
