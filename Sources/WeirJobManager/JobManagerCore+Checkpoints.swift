internal import SwiftProtobuf
internal import WeirBase
internal import WeirConfiguration
internal import WeirControl
internal import WeirGraph
internal import WeirWire

/// Savepoints on request, and what checkpoints did, for people.
extension JobManagerCore {
    /// Answers when the savepoint is complete; a stop when the job is FINISHED.
    func triggerSavepoint(_ message: WireTriggerSavepoint, _ responder: Responder) throws(Refusal) {
        let id = try find(message.job)
        guard let record = jobs[id], !record.state.isTerminal else {
            throw Refusal(.conflict, "job \(id) has ended already: \(jobs[id]?.state.rawValue ?? "")")
        }
        guard message.stop || !message.drain else { throw Refusal(.invalid, "only a job that stops is drained") }
        let key = "execution.checkpointing.savepoint-dir"
        let configured = record.submission.options[key] ?? configuration.string(key) ?? ""
        var directory = JobStore.plainPath(message.directory.isEmpty ? configured : message.directory)
        guard !directory.isEmpty else {
            throw Refusal(.invalid, "no directory for the savepoint", hint: "name one, or set \(key)")
        }
        guard directory.hasPrefix("/") else {
            throw Refusal(.invalid, "the savepoint's directory \(directory) is relative", hint: "every process must find it: name it from the root")
        }
        while directory.count > 1, directory.hasSuffix("/") { directory.removeLast() }
        let mode: SavepointMode = message.stop ? (message.drain ? .drains : .stops) : .continues
        handle(.triggerSavepoint(newRequest(responder), id, directory: directory, mode: mode))
    }

    func checkpoints(_ message: WireGetCheckpoints) throws(Refusal) -> WireCheckpointHistory {
        let id = try find(message.job)
        guard let record = jobs[id] else { throw Refusal(.notFound, "there is no job \(id)") }
        var reply = WireCheckpointHistory()
        reply.job = id.description
        reply.name = record.submission.name
        reply.vertices = vertices(record)
        reply.stats = checkpointStats(record, plane.jobSnapshot(id))
        reply.stats.recent = (plane.checkpointHistory(id) ?? []).map { wire($0) }
        return reply
    }

    func vertices(_ record: JobRecord) -> [WireVertexInfo] {
        record.graph.vertices.map { vertex in
            var wire = WireVertexInfo()
            wire.vertex = vertex.id.rawValue
            wire.name = vertex.name
            wire.parallelism = UInt32(vertex.parallelism)
            return wire
        }
    }

    /// With the latest completed checkpoint alone: what `weir info` shows.
    func checkpointStats(_ record: JobRecord, _ snapshot: JobSnapshot?) -> WireCheckpointStats {
        var stats = WireCheckpointStats()
        stats.completed = UInt64(snapshot?.checkpointsCompleted ?? 0)
        stats.failed = UInt64(snapshot?.checkpointsFailed ?? 0)
        stats.inProgress = UInt64(snapshot?.checkpointsInProgress ?? 0)
        stats.restoredFrom = record.restoredFrom?.rawValue ?? 0
        guard let latest = snapshot?.latestCheckpoint else { return stats }
        var wire = WireCheckpointInfo()
        wire.checkpoint = latest.id.rawValue
        wire.state = .completed
        wire.durationMs = latest.duration.inSeconds * 1000
        wire.stateBytes = UInt64(latest.sizeBytes)
        wire.path = latest.path
        wire.tasks = UInt32(record.graph.subtasks.count)
        wire.acknowledged = wire.tasks
        wire.triggeredMs = wallMilliseconds(of: latest.completedAt) - latest.duration.inMilliseconds
        stats.recent = [wire]
        return stats
    }

    private func wire(_ record: CheckpointRecord) -> WireCheckpointInfo {
        var wire = WireCheckpointInfo()
        wire.checkpoint = record.id.rawValue
        switch record.kind {
        case .periodic: wire.kind = .periodic
        case .final: wire.kind = .final
        case .savepoint: wire.kind = .savepoint
        }
        switch record.outcome {
        case .inProgress: wire.state = .inProgress
        case .completed(let path):
            wire.state = .completed
            wire.path = path
        case .failed(let reason):
            wire.state = .aborted
            wire.message = reason
        }
        wire.triggeredMs = wallMilliseconds(of: record.triggered)
        let end = record.outcome == .inProgress ? environment.clock.now : record.ended
        wire.durationMs = end.map { record.triggered.duration(to: $0).inSeconds * 1000 } ?? 0
        wire.stateBytes = UInt64(record.sizeBytes)
        wire.acknowledged = UInt32(record.acknowledged)
        wire.tasks = UInt32(record.tasks)
        wire.alignmentMsMax = record.alignmentMax.inSeconds * 1000
        wire.syncMsMax = record.synchronousMax.inSeconds * 1000
        wire.asyncMsMax = record.asynchronousMax.inSeconds * 1000
        wire.holders = record.holders.map(\.wire)
        wire.details = record.details.sorted { $0.subtask < $1.subtask }.map { task in
            var detail = WireCheckpointTask()
            detail.subtask = task.subtask.wire
            detail.acknowledgedMs = record.triggered.duration(to: task.acknowledged).inSeconds * 1000
            detail.stateBytes = UInt64(task.sizeBytes)
            detail.alignmentMs = task.statistics.alignment.inSeconds * 1000
            detail.syncMs = task.statistics.synchronous.inSeconds * 1000
            detail.asyncMs = task.statistics.asynchronous.inSeconds * 1000
            detail.sharedFiles = UInt32(task.sharedFiles)
            return detail
        }
        return wire
    }

    private func wallMilliseconds(of instant: Instant) -> Int64 {
        environment.clock.wallTime.milliseconds - instant.duration(to: environment.clock.now).inMilliseconds
    }
}
