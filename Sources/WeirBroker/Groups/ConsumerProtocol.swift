/// What the broker reads of the consumers' embedded protocol: the topics that a member subscribes to.
enum ConsumerProtocol {
    static let type = "consumer"

    /// The topics of a member's metadata: `version: i16 | count: i32 | (length: i16 | UTF-8)*`, big-endian, and what follows.
    ///
    /// - Returns: Nil for bytes that are no subscription; assignors may send what they like.
    static func subscribedTopics(_ metadata: [UInt8]) -> Set<String>? {
        var rest = metadata[...]
        func integer(_ bytes: Int) -> Int? {
            guard rest.count >= bytes else { return nil }
            defer { rest = rest.dropFirst(bytes) }
            return rest.prefix(bytes).reduce(0) { $0 << 8 | Int($1) }
        }
        guard let version = integer(2), version < 0x8000, let count = integer(4), count <= rest.count / 2 else { return nil }
        var topics: Set<String> = []
        for _ in 0..<count {
            guard let length = integer(2), length <= rest.count, let topic = String(validating: rest.prefix(length), as: UTF8.self) else {
                return nil
            }
            topics.insert(topic)
            rest = rest.dropFirst(length)
        }
        return topics
    }
}
