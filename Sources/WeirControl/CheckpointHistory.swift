package import WeirBase

/// What a task measured while it took part in a checkpoint.
package struct SnapshotStatistics: Hashable, Sendable {
    /// From the first barrier of its inputs to the last; zero at a source.
    package var alignment: Duration
    /// In which the task stood still: capture and forwarding.
    package var synchronous: Duration
    /// From the capture to the last byte on the disk.
    package var asynchronous: Duration

    package init(alignment: Duration = .zero, synchronous: Duration = .zero, asynchronous: Duration = .zero) {
        self.alignment = alignment
        self.synchronous = synchronous
        self.asynchronous = asynchronous
    }
}

/// One checkpoint as people see it.
package struct CheckpointRecord: Hashable, Sendable {
    package enum Outcome: Hashable, Sendable {
        case inProgress
        case completed(path: String)
        case failed(reason: String)
    }

    package struct Task: Hashable, Sendable {
        package var subtask: SubtaskID
        package var acknowledged: Instant
        package var sizeBytes: Int
        /// Of earlier files that the state refers to.
        package var sharedFiles: Int
        package var statistics: SnapshotStatistics
    }

    package var id: CheckpointID
    package var kind: CheckpointKind
    package var triggered: Instant
    /// Nil while it is in progress, and where it ended with the tasks.
    package var ended: Instant?
    package var outcome = Outcome.inProgress
    package var sizeBytes = 0
    package var tasks: Int
    package var acknowledged = 0
    package var alignmentMax = Duration.zero
    package var synchronousMax = Duration.zero
    package var asynchronousMax = Duration.zero
    /// Those that have acknowledged; of old checkpoints forgotten.
    package var details: [Task] = []
    /// Of a checkpoint in progress: tasks that have not acknowledged though every task before them has.
    package var holders: [SubtaskID] = []
}

/// The latest checkpoints of a job, the oldest first: bounded, whatever the job's age.
package struct CheckpointHistory: Sendable {
    /// Older ones are forgotten.
    package static let recordsMax = 100
    /// Of older ones the tasks are forgotten.
    package static let detailedMax = 10

    package private(set) var records: [CheckpointRecord] = []

    mutating func began(_ id: CheckpointID, _ kind: CheckpointKind, tasks: Int, now: Instant) {
        records.append(CheckpointRecord(id: id, kind: kind, triggered: now, tasks: tasks))
        if records.count > Self.recordsMax { records.removeFirst() }
        for index in records.indices.dropLast(Self.detailedMax) where records[index].outcome != .inProgress { records[index].details = [] }
    }

    mutating func acknowledged(_ id: CheckpointID, _ state: StateHandle, _ statistics: SnapshotStatistics, now: Instant) {
        update(id) { record in
            record.acknowledged += 1
            record.sizeBytes += state.sizeBytes
            record.alignmentMax = max(record.alignmentMax, statistics.alignment)
            record.synchronousMax = max(record.synchronousMax, statistics.synchronous)
            record.asynchronousMax = max(record.asynchronousMax, statistics.asynchronous)
            record.details.append(
                .init(
                    subtask: state.subtask, acknowledged: now, sizeBytes: state.sizeBytes, sharedFiles: state.shared.count,
                    statistics: statistics))
        }
    }

    mutating func completed(_ id: CheckpointID, path: String, now: Instant) {
        update(id) {
            $0.outcome = .completed(path: path)
            $0.ended = now
        }
    }

    mutating func failed(_ id: CheckpointID, reason: String, now: Instant?) {
        update(id) {
            $0.outcome = .failed(reason: reason)
            $0.ended = now
        }
    }

    /// From the end: what changes is young.
    private mutating func update(_ id: CheckpointID, _ body: (inout CheckpointRecord) -> Void) {
        if let index = records.lastIndex(where: { $0.id == id }) { body(&records[index]) }
    }
}
