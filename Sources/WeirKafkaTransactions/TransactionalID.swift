/// The name of one producer of a sink: `<prefix>-<subtask>-<index>`.
///
/// The coordinator knows a producer, its sessions and its transaction by this name. A sink has a fixed small pool of them a subtask: a new
/// name a checkpoint would fill the coordinator's memory, which forgets a name only after days.
package struct TransactionalID: Hashable, Sendable, Comparable, CustomStringConvertible {
    package var prefix: String
    /// The subtask whose pool it is of.
    package var subtask: Int
    /// Its place in the pool.
    package var index: Int

    package init(prefix: String, subtask: Int, index: Int) {
        self.prefix = prefix
        self.subtask = subtask
        self.index = index
    }

    /// Reads a name as it stands in Kafka. The two numbers are the last ones: a prefix may hold hyphens and digits itself.
    ///
    /// - Returns: nil for a name that no sink with this prefix has, such as one of the prefix `<prefix>-1`.
    package init?(_ name: String, prefix: String) {
        guard name.hasPrefix(prefix + "-") else { return nil }
        let numbers = name.utf8.dropFirst(prefix.utf8.count + 1).split(separator: UInt8(ascii: "-"), omittingEmptySubsequences: false)
        guard numbers.count == 2, let subtask = Self.number(numbers[0]), let index = Self.number(numbers[1]) else { return nil }
        self.init(prefix: prefix, subtask: subtask, index: index)
    }

    private static func number(_ digits: Substring.UTF8View.SubSequence) -> Int? {
        guard !digits.isEmpty, digits.allSatisfy({ (UInt8(ascii: "0")...UInt8(ascii: "9")).contains($0) }) else { return nil }
        let text = String(Substring(digits))
        guard let value = Int(text), value <= Int(Int32.max), "\(value)" == text else { return nil }  // "07" is nobody's.
        return value
    }

    package var description: String { "\(prefix)-\(subtask)-\(index)" }

    /// The consumer group that holds the commit marker of this producer's transactions.
    package var markerGroup: String { "\(self).commits" }

    package static func < (left: Self, right: Self) -> Bool {
        (left.prefix, left.subtask, left.index) < (right.prefix, right.subtask, right.index)
    }
}

/// What the coordinator gave a producer when it was initialised. Each initialisation of a transactional id gives another session, and the
/// broker refuses every word of the sessions before it.
package struct ProducerSession: Hashable, Sendable, CustomStringConvertible {
    package var producerID: Int64
    package var epoch: Int16

    package init(producerID: Int64, epoch: Int16) {
        self.producerID = producerID
        self.epoch = epoch
    }

    package var description: String { "\(producerID):\(epoch)" }
}

/// The proof that a transaction was committed: an offset which the transaction itself commits to the group
/// ``TransactionalID/markerGroup``, for partition 0 of the sink's first topic.
///
/// The offset is the checkpoint's id, the offset's metadata `weir 1 <producer id> <epoch>`. It becomes visible exactly if the records do.
package struct CommitMarker: Hashable, Sendable, CustomStringConvertible {
    package var session: ProducerSession
    package var checkpoint: UInt64

    package init(session: ProducerSession, checkpoint: UInt64) {
        self.session = session
        self.checkpoint = checkpoint
    }

    package var metadata: String { "weir 1 \(session.producerID) \(session.epoch)" }

    /// - Returns: nil if the offset is not one that a sink wrote.
    package init?(offset: Int64, metadata: String) {
        let words = metadata.utf8.split(separator: UInt8(ascii: " ")).map { String(Substring($0)) }
        guard offset >= 0, words.count == 4, words[0] == "weir", words[1] == "1", let producerID = Int64(words[2]), let epoch = Int16(words[3])
        else { return nil }
        self.init(session: ProducerSession(producerID: producerID, epoch: epoch), checkpoint: UInt64(offset))
    }

    package var description: String { "checkpoint \(checkpoint) by \(session)" }
}
