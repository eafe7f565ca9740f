import WeirBase

/// Looks up start and stop positions. Done once a partition: from then on the offsets stand in the checkpoints.
struct KafkaResolver {
    let settings: KafkaSourceSettings
    let catalog: any KafkaCatalog

    private typealias Offsets = [KafkaPartition: Int64]

    /// Blocks up to the timeout of lookups, several times.
    ///
    /// - Returns: The positions that are known now.
    /// - Throws: If nothing can be looked up, or if a position that the job asks for is not there.
    func resolve(_ resolutions: [KafkaResolution]) throws(JobFailure) -> [KafkaPosition] {
        var starts: Offsets = [:]
        for rule in distinct(resolutions.compactMap(\.start)) {
            starts.merge(try start(rule, resolutions.filter { $0.start == rule }.map(\.position.split))) { $1 }
        }
        let stops = try stop(resolutions.filter(\.needsStop).map(\.position.split))
        return resolutions.compactMap { resolution in
            var position = resolution.position
            if resolution.start != nil {
                guard let offset = starts[position.split] else { return nil }
                position.next = offset
            }
            if resolution.needsStop {
                guard let offset = stops[position.split] else { return nil }
                position.stop = offset
            }
            return position
        }
    }

    private func distinct(_ rules: [KafkaStart]) -> [KafkaStart] {
        rules.reduce(into: []) { found, rule in if !found.contains(rule) { found.append(rule) } }
    }

    private func start(_ rule: KafkaStart, _ partitions: [KafkaPartition]) throws(JobFailure) -> Offsets {
        switch rule {
        case .earliest: return try lookUp(KafkaPosition.earliest, partitions)
        case .latest: return try lookUp(KafkaPosition.latest, partitions)
        case .timestamp(let time): return try lookUpTime(time, partitions)
        case .committed(let otherwise): return try committed(partitions, otherwise)
        case .offsets(let listed, let otherwise):
            var offsets: Offsets = [:]
            for partition in partitions { offsets[partition] = listed[partition.topic]?[partition.partition] }
            let rest = partitions.filter { offsets[$0] == nil }
            guard !rest.isEmpty else { return offsets }
            let others =
                settings.group != nil ? try committed(rest, otherwise) : try reset(rest, otherwise, why: "it is not listed")
            return offsets.merging(others) { $1 }
        }
    }

    private func stop(_ partitions: [KafkaPartition]) throws(JobFailure) -> Offsets {
        guard !partitions.isEmpty else { return [:] }
        switch settings.stop {
        case .never: return [:]
        case .latest: return try lookUp(KafkaPosition.latest, partitions)
        case .timestamp(let time): return try lookUpTime(time, partitions)
        case .committed:
            let offsets = try catalog.committed(partitions, timeout: settings.lookupTimeout)
            if let without = partitions.first(where: { offsets[$0] ?? 0 < 0 }) {
                throw JobFailure(
                    domain: .configuration, recovery: .fail,
                    message: "the source has nowhere to stop in \(without): the group \"\(settings.group ?? "")\" has committed no offset")
            }
            return offsets
        case .offsets(let listed):
            var offsets: Offsets = [:]
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

    private func lookUp(_ time: Int64, _ partitions: [KafkaPartition]) throws(JobFailure) -> Offsets {
        try catalog.offsets(at: partitions.map { ($0, offset: time) }, timeout: settings.lookupTimeout)
    }

    private func lookUpTime(_ time: Int64, _ partitions: [KafkaPartition]) throws(JobFailure) -> Offsets {
        // The ends first: a record that comes between the two questions must not be missed.
        let ends = try lookUp(KafkaPosition.latest, partitions)
        let found = try lookUp(time, partitions.filter { ends[$0] != nil })
        return found.reduce(into: [:]) { offsets, entry in offsets[entry.key] = entry.value >= 0 ? entry.value : ends[entry.key] }
    }

    private func committed(_ partitions: [KafkaPartition], _ otherwise: KafkaStart.Reset) throws(JobFailure) -> Offsets {
        let answers = try catalog.committed(partitions, timeout: settings.lookupTimeout)
        let committed = answers.filter { $0.value >= 0 }
        let rest = partitions.filter { answers[$0] != nil && committed[$0] == nil }
        let others = try reset(rest, otherwise, why: "the group \"\(settings.group ?? "")\" has committed no offset")
        return others.merging(committed) { $1 }
    }

    private func reset(_ partitions: [KafkaPartition], _ rule: KafkaStart.Reset, why: String) throws(JobFailure) -> Offsets {
        guard let first = partitions.first else { return [:] }
        switch rule {
        case .earliest: return try lookUp(KafkaPosition.earliest, partitions)
        case .latest: return try lookUp(KafkaPosition.latest, partitions)
        case .fail:
            throw JobFailure(
                domain: .configuration, recovery: .fail, message: "the source has nowhere to start in \(first): \(why), and no reset is allowed")
        }
    }
}
