import WeirBase

/// Start and stop positions as offsets. Looked up once: from the first checkpoint on the offsets stand in the state.
extension KafkaReader {
    private static let earliest: Int64 = -2
    private static let latest: Int64 = -1

    /// - Returns: An offset for each of `partitions`, or -2 for the earliest.
    func resolve(
        _ start: KafkaStart, _ partitions: [KafkaPartition], _ consumer: borrowing KafkaConsumerHandle
    ) throws -> [KafkaPartition: Int64] {
        switch start {
        case .earliest:
            // Left to the broker, but where an empty range must be seen.
            guard settings.isBounded else { return [:] }
            return try lookUp(Self.earliest, partitions, consumer)
        case .latest: return try lookUp(Self.latest, partitions, consumer)
        case .timestamp(let time): return try resolve(timestamp: time, partitions, consumer)
        case .committed(let otherwise): return try resolveCommitted(partitions, otherwise, consumer)
        case .offsets(let listed, let otherwise):
            var offsets: [KafkaPartition: Int64] = [:]
            for partition in partitions { offsets[partition] = listed[partition.topic]?[partition.partition] }
            let rest = partitions.filter { offsets[$0] == nil }
            guard !rest.isEmpty else { return offsets }
            let others =
                settings.properties["group.id"] != nil
                ? try resolveCommitted(rest, otherwise, consumer) : try reset(rest, otherwise, consumer, why: "it is not listed")
            return offsets.merging(others) { $1 }
        }
    }

    /// - Returns: An offset for each of `partitions`; empty for a source without an end.
    func resolveStops(
        _ partitions: [KafkaPartition], _ consumer: borrowing KafkaConsumerHandle
    ) throws -> [KafkaPartition: Int64] {
        switch settings.stop {
        case .never: return [:]
        case .latest: return try lookUp(Self.latest, partitions, consumer)
        case .timestamp(let time): return try resolve(timestamp: time, partitions, consumer)
        case .offsets(let listed):
            var offsets: [KafkaPartition: Int64] = [:]
            for partition in partitions {
                guard let offset = listed[partition.topic]?[partition.partition] else {
                    throw JobFailure(
                        domain: .configuration, recovery: .fail, message: "the source has no stop offset for \(partition): list every partition")
                }
                offsets[partition] = offset
            }
            return offsets
        }
    }

    private func lookUp(
        _ time: Int64, _ partitions: [KafkaPartition], _ consumer: borrowing KafkaConsumerHandle
    ) throws -> [KafkaPartition: Int64] {
        try consumer.offsets(at: partitions.map { ($0, offset: time) }, timeout: settings.lookupTimeout)
    }

    private func resolve(
        timestamp: Int64, _ partitions: [KafkaPartition], _ consumer: borrowing KafkaConsumerHandle
    ) throws -> [KafkaPartition: Int64] {
        // The ends first: a record that comes between the two questions must not be missed.
        let ends = try lookUp(Self.latest, partitions, consumer)
        return try lookUp(timestamp, partitions, consumer).merging(ends) { found, end in found >= 0 ? found : end }
    }

    private func resolveCommitted(
        _ partitions: [KafkaPartition], _ otherwise: KafkaStart.Reset, _ consumer: borrowing KafkaConsumerHandle
    ) throws -> [KafkaPartition: Int64] {
        let committed = try consumer.committed(partitions, timeout: settings.lookupTimeout).filter { $0.value >= 0 }
        let rest = partitions.filter { committed[$0] == nil }
        let group = settings.properties["group.id"] ?? ""
        return try reset(rest, otherwise, consumer, why: "the group \"\(group)\" has committed no offset").merging(committed) { $1 }
    }

    private func reset(
        _ partitions: [KafkaPartition], _ rule: KafkaStart.Reset, _ consumer: borrowing KafkaConsumerHandle, why: String
    ) throws -> [KafkaPartition: Int64] {
        guard let first = partitions.first else { return [:] }
        switch rule {
        case .earliest: return try lookUp(Self.earliest, partitions, consumer)
        case .latest: return try lookUp(Self.latest, partitions, consumer)
        case .fail:
            throw JobFailure(
                domain: .configuration, recovery: .fail, message: "the source has nowhere to start in \(first): \(why), and no reset is allowed")
        }
    }
}
