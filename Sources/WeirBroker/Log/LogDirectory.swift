internal import WeirBase

/// The logs of all partitions, in memory or below one directory: `<directory>/<topic>-<partition>/`.
///
/// - Important: It belongs to the broker's loop, as its logs do.
package final class LogDirectory {
    enum Place: Equatable, Sendable {
        /// - Parameter bytesMax: What all logs may hold together.
        case memory(bytesMax: Int)
        case disk(path: String)
    }

    private let place: Place
    private let files: OpenFiles
    private let budget: MemoryBudget
    private var logs: [String: [PartitionLog]] = [:]
    /// Told after an append or a marker in any log.
    package var onAppend: ((PartitionLog, _ bytes: Int) -> Void)?
    /// Fetches that wait for records.
    let fetches = FetchPurgatory()

    /// - Parameter isSynced: Whether acknowledgements wait for ``sync()``. Memory has nothing to flush.
    init(_ place: Place, isSynced: Bool) {
        self.place = place
        switch place {
        case .memory(let bytesMax):
            budget = MemoryBudget(bytesMax: bytesMax)
            files = OpenFiles(isSynced: false)
        case .disk:
            budget = MemoryBudget(bytesMax: 0)
            files = OpenFiles(isSynced: isSynced)
        }
    }

    /// The log of a partition; nil for one that was not opened.
    package func log(_ topic: String, _ partition: Int32) -> PartitionLog? {
        guard let logs = logs[topic], partition >= 0, partition < logs.count else { return nil }
        return logs[Int(partition)]
    }

    /// Every log, by topic and partition.
    package var all: [PartitionLog] { logs.sorted { $0.key < $1.key }.flatMap(\.value) }

    /// The logs of a topic, by partition; none for one that was not opened.
    package func logs(of topic: String) -> [PartitionLog] { logs[topic] ?? [] }

    /// Opens the logs of a topic's partitions that are not open yet.
    ///
    /// - Parameters:
    ///   - count: The topic's partitions, those that are open included.
    ///   - isNew: The topic or the partitions did not exist before: what a deleted topic of the same name left behind is removed.
    ///   - now: The broker's time, ms.
    /// - Throws: ``LogFailure``; the partitions before the one that fails are open.
    package func open(_ topic: String, partitions count: Int32, _ configuration: LogConfiguration, isNew: Bool, now: Int64) throws(LogFailure) {
        for partition in Int32(logs(of: topic).count)..<max(count, Int32(logs(of: topic).count)) {
            let storage = storage(topic, partition)
            if isNew { try storage.removeAll() }
            let log = try PartitionLog(topic: topic, partition: partition, storage: storage, configuration: configuration, now: now)
            log.onAppend = { [unowned self, unowned log] bytes in onAppend?(log, bytes) }
            logs[topic, default: []].append(log)
        }
    }

    private func storage(_ topic: String, _ partition: Int32) -> PartitionStorage {
        switch place {
        case .memory: .memory(name: "\(topic)-\(partition)", budget)
        case .disk(let path): .directory(path: "\(path)/\(topic)-\(partition)", files)
        }
    }

    package func configure(_ topic: String, _ configuration: LogConfiguration) {
        for log in logs(of: topic) { log.configuration = configuration }
    }

    /// Deletes a topic's logs with their files.
    package func delete(_ topic: String) throws(LogFailure) {
        guard let removed = logs.removeValue(forKey: topic) else { return }
        for log in removed { try log.removeAll() }
    }

    /// Deletes the directories that belong to no open log: those of topics whose deletion a crash interrupted.
    ///
    /// - Returns: Their names.
    package func removeOrphans() throws(LogFailure) -> [String] {
        guard case .disk(let path) = place else { return [] }
        let known = Set(all.map { "\($0.topic)-\($0.partition)" })
        let orphans = try OpenFiles.list(path).filter { !known.contains($0) && Self.isPartitionName($0) }
        for name in orphans { try files.removeDirectory(path + "/" + name) }
        return orphans
    }

    /// Whether a directory's name is `<topic>-<partition>`: others are not ours to delete.
    private static func isPartitionName(_ name: String) -> Bool {
        guard let dash = name.lastIndex(of: "-"), dash != name.startIndex else { return false }
        return Int32(name[name.index(after: dash)...]) != nil
    }

    // MARK: Durability

    /// Whether something was written that ``sync()`` would flush.
    package var needsSync: Bool { files.needsSync }

    /// Flushes everything written since the last call.
    package func sync() throws(LogFailure) { try files.sync() }

    /// Deletes what retention no longer keeps, and forgets producers that were silent for long.
    ///
    /// - Parameters:
    ///   - now: The broker's time, ms.
    ///   - producerExpiration: `producer.id.expiration.ms`.
    /// - Returns: How many segments were deleted.
    /// - Throws: ``LogFailure`` of the last log that failed; the others were looked at all the same.
    package func clean(now: Int64, producerExpiration: Int64) throws(LogFailure) -> Int {
        var removed = 0
        var failure: LogFailure?
        for log in all {
            log.expireProducers(before: now - producerExpiration)
            do throws(LogFailure) { removed += try log.retain(now: now) } catch { failure = error }
        }
        if let failure { throw failure }
        return removed
    }

    /// Writes what makes the next start quick, and flushes.
    func closeLogs() throws(LogFailure) {
        for log in all { try log.close() }
        try files.sync()
    }
}
