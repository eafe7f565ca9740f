internal import WeirBase
package import WeirWire

extension Rendering {
    // MARK: weir checkpoints

    /// - Parameters:
    ///   - detail: Whose subtasks are shown; nil: those of the checkpoint in progress, if there is one.
    ///   - last: Lines of the table, at most.
    package static func text(_ history: WireCheckpointHistory, detail: UInt64?, last: Int, format: TimeFormat) -> String {
        let stats = history.stats
        var text = "job          \(history.job) (\(oneLine(history.name)))\n"
        text += "checkpoints  \(stats.completed) completed, \(stats.failed) failed, \(stats.inProgress) in progress"
        if stats.restoredFrom > 0 { text += "; restored from \(stats.restoredFrom)" }
        guard !stats.recent.isEmpty else { return text + "\n\nno checkpoint was triggered yet" }
        var table = TextTable(
            ("ID", .right), ("KIND", .left), ("STATE", .left), ("TRIGGERED", .left), ("DURATION", .right), ("SIZE", .right), ("ACK", .right),
            ("ALIGN", .right), ("SYNC", .right), ("ASYNC", .right), ("PATH OR REASON", .left))
        for checkpoint in stats.recent.reversed().prefix(last) {
            table.add(
                "\(checkpoint.checkpoint)", checkpoint.kind.word, checkpoint.state.word, format.dateAndTime(checkpoint.triggeredMs),
                checkpoint.durationMs > 0 ? milliseconds(checkpoint.durationMs) : "-", formatBytes(checkpoint.stateBytes),
                "\(checkpoint.acknowledged)/\(checkpoint.tasks)", milliseconds(checkpoint.alignmentMsMax), milliseconds(checkpoint.syncMsMax),
                milliseconds(checkpoint.asyncMsMax),
                checkpoint.state == .completed ? checkpoint.path : String(oneLine(checkpoint.message).prefix(120)))
        }
        text += "\n\n" + table.text
        let shown = stats.recent.last { checkpoint in detail.map { checkpoint.checkpoint == $0 } ?? (checkpoint.state == .inProgress) }
        if let shown { text += "\n\n" + subtasks(shown, history) }
        return text
    }

    private static func subtasks(_ checkpoint: WireCheckpointInfo, _ history: WireCheckpointHistory) -> String {
        let vertices = Dictionary(history.vertices.map { ($0.vertex, $0) }, uniquingKeysWith: { first, _ in first })
        func name(_ subtask: WireSubtask) -> String {
            guard let vertex = vertices[subtask.vertex] else { return "\(subtask.vertex)-\(subtask.index)" }
            return "\(vertex.name) (\(subtask.index + 1)/\(vertex.parallelism))"
        }
        var text = "checkpoint \(checkpoint.checkpoint), \(checkpoint.state.word)"
        if checkpoint.state == .inProgress, !checkpoint.holders.isEmpty {
            let names = checkpoint.holders.prefix(10).map { oneLine(name($0)) }.joined(separator: ", ")
            let rest = checkpoint.holders.count - 10
            text += ": the barrier is held by \(names)" + (rest > 0 ? " and \(rest) more" : "")
        }
        guard !checkpoint.details.isEmpty else { return text }
        var table = TextTable(
            ("SUBTASK", .left), ("ACKNOWLEDGED AFTER", .right), ("ALIGN", .right), ("SYNC", .right), ("ASYNC", .right), ("SIZE", .right),
            ("SHARED FILES", .right))
        for task in checkpoint.details {
            table.add(
                name(task.subtask), milliseconds(task.acknowledgedMs), milliseconds(task.alignmentMs), milliseconds(task.syncMs),
                milliseconds(task.asyncMs), formatBytes(task.stateBytes), "\(task.sharedFiles)")
        }
        return text + "\n" + table.text
    }

    /// "0.4 ms", "350 ms", "4.2 s".
    private static func milliseconds(_ value: Double) -> String {
        guard value.isFinite, value > 0 else { return "0 ms" }
        return value < 10 ? formatDecimal(value) + " ms" : formatElapsed(milliseconds: Int64(value.rounded()))
    }

    package static func json(_ history: WireCheckpointHistory) -> JSONValue {
        .object([
            "job": .string(history.job), "name": .string(history.name), "completed": .unsigned(history.stats.completed),
            "failed": .unsigned(history.stats.failed), "inProgress": .unsigned(history.stats.inProgress),
            "restoredFrom": history.stats.restoredFrom == 0 ? .null : .unsigned(history.stats.restoredFrom),
            "checkpoints": .array(history.stats.recent.map { json(detailed: $0) }),
        ])
    }

    private static func json(detailed checkpoint: WireCheckpointInfo) -> JSONValue {
        .object([
            "checkpoint": .unsigned(checkpoint.checkpoint), "kind": .string(checkpoint.kind.word), "state": .string(checkpoint.state.word),
            "triggeredMs": .integer(checkpoint.triggeredMs), "durationMs": .number(checkpoint.durationMs),
            "stateBytes": .unsigned(checkpoint.stateBytes), "acknowledged": .unsigned(UInt64(checkpoint.acknowledged)),
            "tasks": .unsigned(UInt64(checkpoint.tasks)), "alignmentMsMax": .number(checkpoint.alignmentMsMax),
            "syncMsMax": .number(checkpoint.syncMsMax), "asyncMsMax": .number(checkpoint.asyncMsMax), "path": .optional(checkpoint.path),
            "message": .optional(checkpoint.message), "holders": .array(checkpoint.holders.map { json($0) }),
            "subtasks": .array(
                checkpoint.details.map { task in
                    .object([
                        "subtask": json(task.subtask), "acknowledgedMs": .number(task.acknowledgedMs), "alignmentMs": .number(task.alignmentMs),
                        "syncMs": .number(task.syncMs), "asyncMs": .number(task.asyncMs), "stateBytes": .unsigned(task.stateBytes),
                        "sharedFiles": .unsigned(UInt64(task.sharedFiles)),
                    ])
                }),
        ])
    }

    private static func json(_ subtask: WireSubtask) -> JSONValue {
        .object(["vertex": .integer(Int64(subtask.vertex)), "index": .integer(Int64(subtask.index))])
    }

    // MARK: weir savepoint

    package static func json(_ savepoint: WireSavepointInfo) -> JSONValue {
        .object([
            "job": .string(savepoint.job), "checkpoint": .unsigned(savepoint.checkpoint), "path": .string(savepoint.path),
            "state": .string(savepoint.state.word),
        ])
    }
}

extension WireCheckpointInfo.Kind {
    var word: String {
        switch self {
        case .periodic: "periodic"
        case .final: "final"
        case .savepoint: "savepoint"
        case .unspecified, .UNRECOGNIZED: "-"
        }
    }
}
