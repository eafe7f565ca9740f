import WeirBase
import WeirKafkaWire

/// The file `topics` of the data directory, replaced as a whole by each change. Text, one line an entry:
///
///     weir-broker-topics 1
///     topic <name> <id: 32 hexadecimal digits> <partitions> [<key>=<value>]…
///     crc32c <8 hexadecimal digits, of everything before this line>
///
/// In values, "%", blanks and control characters are written as "%" and two hexadecimal digits.
struct TopicFile {
    struct Entry: Equatable {
        var name: String
        var id: KafkaUUID
        var partitionCount: Int32
        var config: [String: String]
    }

    let path: String
    private static let firstLine = "weir-broker-topics 1"

    func save(_ entries: [Entry]) throws(BrokerFailure) {
        var text = Self.firstLine + "\n"
        for entry in entries {
            text += "topic \(entry.name) \(entry.id) \(entry.partitionCount)"
            for (key, value) in entry.config.sorted(by: { $0.key < $1.key }) { text += " \(key)=\(Self.escape(value))" }
            text += "\n"
        }
        text += "crc32c \(Self.checksum(text))\n"
        try DataFile.replace(path, with: Array(text.utf8))
    }

    /// - Throws: ``BrokerFailure`` with the path for a damaged file. A file that is missing holds no topics.
    func load() throws(BrokerFailure) -> [Entry] {
        guard DataFile.exists(path) else { return [] }
        let file = try DataFile(path, .read)
        let bytes = try file.read(try file.size(), at: 0)
        guard let text = bytes.withUnsafeBytes({ String(validating: $0, as: UTF8.self) }) else { throw damaged("it is not UTF-8") }
        var lines = text.split(separator: "\n", omittingEmptySubsequences: false)
        guard lines.popLast()?.isEmpty == true, let last = lines.popLast() else { throw damaged("it is cut off") }
        let covered = lines.map { $0 + "\n" }.joined()
        guard last == "crc32c \(Self.checksum(covered))" else { throw damaged("its checksum is wrong") }
        guard lines.first.map(String.init) == Self.firstLine else { throw damaged("it is of another version") }
        var entries: [Entry] = []
        for line in lines.dropFirst() {
            guard let entry = Self.parse(line) else { throw damaged("this is no topic: \(line)") }
            entries.append(entry)
        }
        return entries
    }

    private func damaged(_ why: String) -> BrokerFailure { BrokerFailure("the list of topics is damaged, \(why)", path: path) }

    private static func parse(_ line: Substring) -> Entry? {
        let words = line.split(separator: " ")
        guard words.count >= 4, words[0] == "topic", let id = KafkaUUID(hexadecimal: words[2]), let partitions = Int32(words[3]), partitions > 0
        else { return nil }
        var config: [String: String] = [:]
        for word in words.dropFirst(4) {
            let pair = word.split(separator: "=", maxSplits: 1, omittingEmptySubsequences: false)
            guard pair.count == 2, let value = unescape(pair[1]) else { return nil }
            config[String(pair[0])] = value
        }
        return Entry(name: String(words[1]), id: id, partitionCount: partitions, config: config)
    }

    private static func checksum(_ text: String) -> String {
        String(hexadecimal(UInt64(Array(text.utf8).withUnsafeBytes { crc32c($0) })).suffix(8))
    }

    private static func escape(_ value: String) -> String {
        var bytes: [UInt8] = []
        for byte in value.utf8 {
            if byte <= 0x20 || byte == 0x7F || byte == UInt8(ascii: "%") {
                bytes += Array("%".utf8) + Array(hexadecimal(UInt64(byte)).suffix(2).utf8)
            } else {
                bytes.append(byte)
            }
        }
        return String(decoding: bytes, as: UTF8.self)
    }

    private static func unescape(_ text: Substring) -> String? {
        var bytes: [UInt8] = []
        var rest = Array(text.utf8)[...]
        while let byte = rest.popFirst() {
            guard byte == UInt8(ascii: "%") else {
                bytes.append(byte)
                continue
            }
            guard rest.count >= 2, let value = UInt8(String(decoding: rest.prefix(2), as: UTF8.self), radix: 16) else { return nil }
            rest = rest.dropFirst(2)
            bytes.append(value)
        }
        return String(validating: bytes, as: UTF8.self)
    }
}

extension KafkaUUID {
    /// Parses 32 hexadecimal digits, as ``description`` prints them.
    init?(hexadecimal text: Substring) {
        guard text.utf8.count == 32, let high = UInt64(text.prefix(16), radix: 16), let low = UInt64(text.suffix(16), radix: 16) else { return nil }
        self.init(high: high, low: low)
    }
}
