import WeirBase

/// The offsets of one group: those that hold, and those that open transactions would set.
struct GroupOffsets: Sendable, Equatable {
    /// When a value was given, relative to the others of the group: a transaction that ends does not undo a commit made after its own.
    typealias Sequence = UInt64

    struct Entry: Sendable, Equatable {
        var value: CommittedOffset
        var sequence: Sequence
    }

    private(set) var committed: [TopicPartition: Entry] = [:]
    /// By producer id.
    private(set) var pending: [Int64: [TopicPartition: Entry]] = [:]
    private var nextSequence: Sequence = 0

    var isEmpty: Bool { committed.isEmpty && pending.isEmpty }

    private mutating func takeSequence() -> Sequence {
        defer { nextSequence += 1 }
        return nextSequence
    }

    mutating func commit(_ offsets: [TopicPartition: CommittedOffset]) {
        let sequence = takeSequence()
        for (partition, value) in offsets { committed[partition] = Entry(value: value, sequence: sequence) }
    }

    mutating func prepare(_ offsets: [TopicPartition: CommittedOffset], producerID: Int64) {
        let sequence = takeSequence()
        for (partition, value) in offsets { pending[producerID, default: [:]][partition] = Entry(value: value, sequence: sequence) }
    }

    /// - Returns: Whether the producer had offsets here.
    @discardableResult
    mutating func complete(producerID: Int64, commit: Bool) -> Bool {
        guard let offsets = pending.removeValue(forKey: producerID) else { return false }
        guard commit else { return true }
        for (partition, entry) in offsets where entry.sequence >= committed[partition]?.sequence ?? 0 { committed[partition] = entry }
        return true
    }

    /// Removes what holds and what would.
    mutating func remove(_ partitions: some Collection<TopicPartition>) {
        for partition in partitions {
            committed[partition] = nil
            for producer in pending.keys {
                pending[producer]?[partition] = nil
                if pending[producer]?.isEmpty == true { pending[producer] = nil }
            }
        }
    }

    func isPending(_ partition: TopicPartition) -> Bool { pending.values.contains { $0[partition] != nil } }

    func fetch(_ partition: TopicPartition, requireStable: Bool) -> FetchedOffset {
        if requireStable, isPending(partition) { return .unstable }
        return committed[partition].map { .committed($0.value) } ?? .none
    }

    /// Partitions with an offset that holds, sorted.
    var partitions: [TopicPartition] { committed.keys.sorted() }

    /// Partitions whose offset nothing keeps, sorted.
    ///
    /// - Parameters:
    ///   - retentionMilliseconds: Counted from `since`, or from each commit where that is nil.
    ///   - isCandidate: Which partitions may expire at all.
    func expired(
        at now: WallTime, retentionMilliseconds: Int64, since: WallTime?, where isCandidate: (TopicPartition) -> Bool = { _ in true }
    ) -> [TopicPartition] {
        committed.filter { partition, entry in
            guard !isPending(partition), isCandidate(partition) else { return false }
            if let expiresAt = entry.value.expiresAt { return expiresAt <= now }
            return (since ?? entry.value.committedAt).advanced(byMilliseconds: retentionMilliseconds) <= now
        }.keys.sorted()
    }

    /// Records that make the same offsets again, in the order of their sequences.
    func records(group: String) -> [CoordinatorRecord] {
        var all: [(sequence: Sequence, partition: TopicPartition, record: CoordinatorRecord)] = []
        for (partition, entry) in committed { all.append((entry.sequence, partition, .offsets(group: group, [partition: entry.value]))) }
        for (producer, offsets) in pending {
            for (partition, entry) in offsets {
                all.append((entry.sequence, partition, .pendingOffsets(group: group, producerID: producer, [partition: entry.value])))
            }
        }
        return all.sorted { ($0.sequence, $0.partition) < ($1.sequence, $1.partition) }.map(\.record)
    }
}
