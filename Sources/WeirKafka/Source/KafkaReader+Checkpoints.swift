import WeirBase
public import WeirDataflow

extension KafkaReader {
    static let positionsName = "kafka.positions"
    static let startingName = "kafka.starting"
    /// A list without entries: the checkpoint only waits for it.
    static let lettersName = "kafka.deadLetters"

    @usableFromInline
    func restore(from state: RestoredState) throws {
        do {
            restored = KafkaRestoredState(
                positions: try Self.newest(state.union(Self.positionsName).map { try KafkaPosition(decoding: $0) }),
                starting: try state.union(Self.startingName).map { try KafkaStartingShare(decoding: $0) })
        } catch {
            throw JobFailure(
                domain: .system, recovery: .fail, message: "the Kafka positions of checkpoint \(state.checkpoint) are damaged",
                cause: String(describing: error))
        }
    }

    /// One position a partition: the one that was read farthest.
    private static func newest(_ positions: [KafkaPosition]) -> [KafkaPosition] {
        Dictionary(positions.map { ($0.split, $0) }) { first, second in first.next >= second.next ? first : second }
            .values.sorted { $0.split < $1.split }
    }

    @usableFromInline
    func snapshot(into builder: SnapshotBuilder) {
        let present = splits.filter { $0.phase != .dropped }.map(\.position)
        builder.addList(Self.positionsName, present.map { $0.encode() })
        if let context, !isSettled {
            builder.addList(Self.startingName, [KafkaStartingShare(subtask: context.subtask, parallelism: context.parallelism).encode()])
        }
        if let letters = deadLetters?.flush() { builder.addList(Self.lettersName, letters) }
        commits.snapshot(builder.checkpoint, present)
    }

    /// Tells the group. A failure is counted and nothing else: the offsets of the group serve people, not recovery.
    @usableFromInline
    func checkpointCompleted(_ checkpoint: UInt64) { commit(commits.completed(checkpoint)) }

    @usableFromInline
    func checkpointAborted(_ checkpoint: UInt64) { commits.aborted(checkpoint) }

    /// Commits of their own, for jobs without checkpoints.
    func commitIfDue() {
        guard let context, commits.isAutoCommitDue(now: context.clock.now) else { return }
        commit(commits.auto(splits.filter { $0.phase != .dropped }.map(\.position)))
    }

    private func commit(_ positions: [(KafkaPartition, offset: Int64)]) {
        guard !positions.isEmpty, consumer != nil else { return }
        if let reason = consumer!.commit(positions) {
            metrics?.commitsFailed.add(1)
            log?.warn("offsets cannot be committed: \(reason)")
        } else {
            commits.outstanding += 1
        }
    }

    func takeCommits() {
        guard let answered = consumer?.client.events.takeCommits(), answered.succeeded + answered.failed > 0 else { return }
        commits.outstanding = max(0, commits.outstanding - answered.succeeded - answered.failed)
        metrics?.commitsSucceeded.add(answered.succeeded)
        metrics?.commitsFailed.add(answered.failed)
        for (partition, offset) in answered.offsets {
            if let split = splitOfPartition[partition] { splits[split].gauges?.committedOffset.set(Int(offset)) }
        }
        if let failure = answered.failure { log?.warn("offsets were not committed, the next checkpoint tries again: \(failure)") }
    }
}

/// Which offsets to tell the group, and when. A value without a clock.
struct KafkaCommits {
    /// Barriers whose checkpoints are neither complete nor aborted. More are never in flight; the oldest is forgotten.
    private static let pendingMax = 64

    typealias Positions = [(KafkaPartition, offset: Int64)]

    /// Positions at barriers whose checkpoints are not complete yet, oldest first.
    private var pending: [(checkpoint: UInt64, positions: Positions)] = []
    private var onCheckpoints = false
    private var interval: Duration?
    private var lastAuto: [KafkaPartition: Int64] = [:]
    /// When the next commit without a checkpoint is due.
    private(set) var autoCommitAt: Instant?
    /// Commits that were sent and not answered.
    var outstanding = 0

    mutating func start(_ settings: KafkaSourceSettings, now: Instant) {
        onCheckpoints = settings.commitsOnCheckpoints
        interval = settings.autoCommitInterval
        autoCommitAt = interval.map { now.advanced(by: $0) }
    }

    mutating func snapshot(_ checkpoint: UInt64, _ positions: [KafkaPosition]) {
        guard onCheckpoints, !positions.isEmpty else { return }
        if pending.count == Self.pendingMax { pending.removeFirst() }
        pending.append((checkpoint, Self.known(positions)))
    }

    /// What to commit.
    mutating func completed(_ checkpoint: UInt64) -> Positions {
        guard let index = pending.lastIndex(where: { $0.checkpoint == checkpoint }) else { return [] }
        let positions = pending[index].positions
        pending.removeSubrange(...index)
        return positions
    }

    mutating func aborted(_ checkpoint: UInt64) { pending.removeAll { $0.checkpoint == checkpoint } }

    mutating func isAutoCommitDue(now: Instant) -> Bool {
        guard let interval, let due = autoCommitAt, due <= now else { return false }
        autoCommitAt = now.advanced(by: interval)
        return true
    }

    /// What changed since the last call.
    mutating func auto(_ positions: [KafkaPosition]) -> Positions {
        let changed = Self.known(positions).filter { lastAuto[$0.0] != $0.offset }
        for (partition, offset) in changed { lastAuto[partition] = offset }
        return changed
    }

    /// A position that is still "the earliest", or not known, says nothing to the group.
    private static func known(_ positions: [KafkaPosition]) -> Positions {
        positions.filter { $0.next >= 0 }.map { ($0.split, offset: $0.next) }
    }
}
