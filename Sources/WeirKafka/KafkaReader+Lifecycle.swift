import WeirBase
public import WeirDataflow

extension KafkaReader {
    static let stateName = "kafka.positions"
    /// Barriers whose checkpoints are neither complete nor aborted. More are never in flight; the oldest is forgotten.
    private static let pendingCommitsMax = 64

    @usableFromInline
    func restore(from state: RestoredState) throws {
        for entry in state.union(Self.stateName) {
            do {
                restored.append(try KafkaPosition(decoding: entry))
            } catch {
                throw JobFailure(
                    domain: .system, recovery: .fail, message: "the Kafka positions of checkpoint \(state.checkpoint) are damaged",
                    cause: String(describing: error))
            }
        }
    }

    @usableFromInline
    func snapshot(into builder: SnapshotBuilder) {
        builder.addList(Self.stateName, splits.map { $0.position.encode() })
        guard settings.properties["group.id"] != nil, !splits.isEmpty else { return }
        if pendingCommits.count == Self.pendingCommitsMax { pendingCommits.removeFirst() }
        // A position that is still "the earliest" says nothing to the group.
        pendingCommits.append(
            (builder.checkpoint, splits.filter { $0.position.next >= 0 }.map { ($0.position.split, offset: $0.position.next) }))
    }

    /// Tells the group. A failure is counted and nothing else: the offsets of the group serve people, not recovery.
    @usableFromInline
    func checkpointCompleted(_ checkpoint: UInt64) {
        guard let index = pendingCommits.lastIndex(where: { $0.checkpoint == checkpoint }) else { return }
        let positions = pendingCommits[index].positions
        pendingCommits.removeSubrange(...index)
        guard !positions.isEmpty, consumer != nil else { return }
        if consumer!.commit(positions) == nil {
            commitsSent += 1
        } else {
            context?.counter("commitsFailed").add(1)
        }
    }

    @usableFromInline
    func checkpointAborted(_ checkpoint: UInt64) { pendingCommits.removeAll { $0.checkpoint == checkpoint } }

    func countCommits() {
        guard commitsSent > 0, let events = consumer?.events, let context else { return }
        let (succeeded, failed) = events.takeCommits()
        if succeeded > 0 { context.counter("commitsSucceeded").add(succeeded) }
        if failed > 0 { context.counter("commitsFailed").add(failed) }
        commitsSent -= succeeded + failed
    }

    @usableFromInline
    func close() {
        // Commits are on their way: without a moment for the answers they might not even be sent.
        var rounds = 0
        while commitsSent > 0, rounds < 10, consumer != nil {
            _ = consumer!.poll(max: 1, waitMilliseconds: 20)
            countCommits()
            rounds += 1
        }
        consumer?.events.onWake(nil)
        consumer = nil
    }

    /// Connects, finds out the partitions and their offsets, and begins to fetch. Blocks up to the timeout of lookups, several times.
    ///
    /// - Throws: What is missing or unreachable.
    @usableFromInline
    func start(_ context: OperatorContext) throws {
        self.context = context
        tick()
        let consumer = try KafkaConsumerHandle(
            properties: settings.properties, capacity: Self.batchMax, tellsEnds: settings.isBounded,
            purpose: "reading \(settings.topics.joined(separator: ", "))")
        let waker = context.waker
        consumer.events.onWake { waker.wake() }

        var counts: [String: Int] = [:]
        let timeout = settings.lookupTimeout
        for topic in settings.topics {
            counts[topic] = try consumer.partitionCount(of: topic, timeout: timeout, missing: context.isRestored ? .restart : .fail)
        }
        try checkRestored(counts)
        let own = KafkaPartition.assigned(to: context.subtask, of: context.parallelism, counts: counts)
        let known = Dictionary(restored.map { ($0.split, $0) }) { first, second in first.next >= second.next ? first : second }
        let fresh = own.filter { known[$0] == nil }
        // What no checkpoint knows although there is one was added to the topic since: nothing of it was read.
        let start: KafkaStart = known.isEmpty ? settings.start : .earliest
        let starts = try resolve(start, fresh, consumer)
        let stops = try resolveStops(own.filter { (known[$0]?.stop ?? KafkaPosition.unbounded) == KafkaPosition.unbounded }, consumer)
        restored = []

        self.consumer = consume consumer
        for split in own {
            var position = known[split] ?? KafkaPosition(split: split, next: starts[split] ?? -2)
            if !settings.isBounded { position.stop = KafkaPosition.unbounded } else if let stop = stops[split] { position.stop = stop }
            addSplit(position)
        }
        try assign()
    }

    private func checkRestored(_ counts: [String: Int]) throws {
        for position in restored {
            guard let count = counts[position.split.topic] else { continue }  // The job reads this topic no more.
            guard position.split.partition < count else {
                throw JobFailure(
                    domain: .external, recovery: .fail,
                    message: "\(position.split) is in the checkpoint, but the topic has only \(count) partitions at \(settings.bootstrap):"
                        + " it was made anew, or this is another cluster")
            }
        }
    }
}
