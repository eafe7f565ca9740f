import WeirBase
import WeirKafkaWire

/// Offsets that members and others commit, and when they lapse.
extension Group {
    /// Whether whoever commits may (KIP-447: transactions name their member too, since version 3 of TxnOffsetCommit).
    private func problem(with commit: OffsetCommit) -> KafkaErrorCode? {
        let isTransactional = commit.producerID != nil
        if commit.generation < 0, state == .empty { return nil }
        guard commit.generation >= 0 || !commit.memberID.isEmpty || commit.instanceID != nil else {
            // Nobody but members commits for a group that has some. Producers of old do not say for whom they commit.
            return isTransactional ? nil : .unknownMemberID
        }
        if let problem = problem(with: commit.memberID, instanceID: commit.instanceID) { return problem }
        guard commit.generation == generation else { return .illegalGeneration }
        // The member has heard of the new generation but has no partitions yet. It must not commit those it had.
        return !isTransactional && state == .completingRebalance ? .rebalanceInProgress : nil
    }

    /// - Returns: What became of each partition.
    mutating func commit(_ commit: OffsetCommit, now: CoordinatorTime) -> [TopicPartition: KafkaErrorCode] {
        if let problem = problem(with: commit) { return commit.offsets.mapValues { _ in problem } }
        let bytes = commit.offsets.reduce(0) { $0 + $1.key.topic.utf8.count + $1.value.metadata.utf8.count }
        guard bytes <= options.commitBytesMax else { return commit.offsets.mapValues { _ in .invalidCommitOffsetSize } }
        let accepted = commit.offsets.filter { $0.value.metadata.utf8.count <= options.offsetMetadataBytesMax }
        if !accepted.isEmpty {
            if let producerID = commit.producerID {
                offsets.prepare(accepted, producerID: producerID)
                outbox.append(.persist(.pendingOffsets(group: id, producerID: producerID, accepted)))
            } else {
                offsets.commit(accepted)
                outbox.append(.persist(.offsets(group: id, accepted)))
            }
        }
        if commit.producerID == nil { extendSession(commit.memberID, now: now) }
        return commit.offsets.mapValues { $0.metadata.utf8.count <= options.offsetMetadataBytesMax ? .none : .offsetMetadataTooLarge }
    }

    /// The producer's transaction ended.
    mutating func completeTransaction(producerID: Int64, commit: Bool) {
        guard offsets.complete(producerID: producerID, commit: commit) else { return }
        outbox.append(.persist(.pendingCompleted(group: id, producerID: producerID, commit: commit)))
    }

    /// For OffsetDelete: a consumer's partitions go only where no member reads their topic.
    mutating func deleteOffsets(_ partitions: [TopicPartition]) -> (KafkaErrorCode, [TopicPartition: KafkaErrorCode]) {
        var refused: Set<TopicPartition> = []
        if state != .empty {
            guard protocolType == ConsumerProtocol.type else { return (.nonEmptyGroup, [:]) }
            let topics = subscribedTopics
            refused = Set(partitions.filter { topics?.contains($0.topic) ?? true })
        }
        removeOffsets(partitions.filter { !refused.contains($0) })
        let results = partitions.map { ($0, refused.contains($0) ? KafkaErrorCode.groupSubscribedToTopic : .none) }
        return (.none, Dictionary(results) { first, _ in first })
    }

    mutating func removeOffsets(_ partitions: [TopicPartition]) {
        let known = partitions.filter { offsets.committed[$0] != nil || offsets.isPending($0) }
        guard !known.isEmpty else { return }
        offsets.remove(known)
        outbox.append(.persist(.offsetsRemoved(group: id, known.sorted())))
    }

    /// Removes offsets that nothing has kept for the retention (KIP-211): of an empty group since it became empty, of topics that
    /// no member of a stable one reads since their commit, and of a group that never had members since their commit.
    mutating func expireOffsets(now: CoordinatorTime) {
        let retention = options.offsetsRetention.inMilliseconds
        let expired: [TopicPartition]
        if protocolType == nil {
            expired = offsets.expired(at: now.wall, retentionMilliseconds: retention, since: nil)
        } else if state == .empty {
            expired = offsets.expired(at: now.wall, retentionMilliseconds: retention, since: stateSince)
        } else if state == .stable, let topics = subscribedTopics {
            expired = offsets.expired(at: now.wall, retentionMilliseconds: retention, since: nil) { !topics.contains($0.topic) }
        } else {
            return
        }
        removeOffsets(expired)
    }
}
