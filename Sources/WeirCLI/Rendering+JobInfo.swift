internal import WeirBase
package import WeirWire

extension Rendering {
    // MARK: weir info, for people

    package static func text(_ info: WireJobInfo, nowMs: Int64, format: TimeFormat) -> String {
        [
            header(info, nowMs: nowMs, format: format), vertices(info), tasks(info, nowMs: nowMs), metrics(info),
            checkpoints(info, format: format), failures(info, format: format), options(info),
        ].filter { !$0.isEmpty }.joined(separator: "\n\n")
    }

    private static func header(_ info: WireJobInfo, nowMs: Int64, format: TimeFormat) -> String {
        let job = info.summary
        var lines = [
            "job          \(job.job)", "name         \(oneLine(job.name))",
            "state        \(job.state.word)" + (job.statusMessage.isEmpty ? "" : ": \(oneLine(job.statusMessage))"),
            "submitted    \(format.dateAndTime(job.submittedMs))",
        ]
        if job.endedMs != 0 {
            lines.append(
                "ended        \(format.dateAndTime(job.endedMs)), after \(formatElapsed(milliseconds: job.endedMs - job.submittedMs))")
        } else if job.submittedMs != 0 {
            lines.append("elapsed      \(formatElapsed(milliseconds: nowMs - job.submittedMs))")
        }
        lines.append("tasks        \(job.tasksRunning) running of \(job.tasks)")
        lines.append("restarts     \(job.restarts) (epoch \(info.epoch))")
        if !info.arguments.isEmpty { lines.append("arguments    " + info.arguments.map { quoted($0) }.joined(separator: " ")) }
        return lines.joined(separator: "\n")
    }

    /// As a shell would take it.
    static func quoted(_ argument: String) -> String {
        let plain = argument.utf8.allSatisfy { byte in
            (0x30...0x39).contains(byte) || (0x41...0x5A).contains(byte) || (0x61...0x7A).contains(byte) || "-_./:=,@%+".utf8.contains(byte)
        }
        guard !plain || argument.isEmpty else { return argument }
        return "'" + oneLine(argument).split(separator: "'", omittingEmptySubsequences: false).joined(separator: #"'\''"#) + "'"
    }

    private static func vertices(_ info: WireJobInfo) -> String {
        var table = TextTable(
            ("VERTEX", .right), ("NAME", .left), ("PARALLELISM", .right), ("RUNNING", .right), ("IN", .right), ("OUT", .right),
            ("BUSY", .right), ("BACK-PRESSURED", .right))
        for vertex in info.vertices.sorted(by: { $0.vertex < $1.vertex }) {
            let tasks = info.tasks.filter { $0.subtask.vertex == vertex.vertex }
            let measured = tasks.filter(\.hasMetrics).map(\.metrics)
            table.add(
                "\(vertex.vertex)", vertex.name, "\(vertex.parallelism)", "\(tasks.count { $0.state == .running })",
                total(measured.map(\.recordsIn)), total(measured.map(\.recordsOut)), percent(measured.map(\.busyRatio)),
                percent(measured.map(\.backPressuredRatio)))
        }
        return table.isEmpty ? "" : table.text
    }

    private static func total(_ counts: [UInt64]) -> String {
        counts.isEmpty ? "-" : "\(counts.reduce(0, &+))"
    }

    /// The highest: the busiest subtask is the one that limits.
    private static func percent(_ ratios: [Double]) -> String {
        guard let highest = ratios.max(), highest.isFinite else { return "-" }
        return "\(Int((min(max(highest, 0), 1) * 100).rounded())) %"
    }

    private static func tasks(_ info: WireJobInfo, nowMs: Int64) -> String {
        var table = TextTable(
            ("TASK", .left), ("STATE", .left), ("SINCE", .right), ("TASKMANAGER", .left), ("WORKER", .left), ("SLOT", .right),
            ("IN", .right), ("OUT", .right), ("LATE", .right))
        let names = Dictionary(info.vertices.map { ($0.vertex, $0) }, uniquingKeysWith: { first, _ in first })
        let sorted = info.tasks.sorted { ($0.subtask.vertex, $0.subtask.index) < ($1.subtask.vertex, $1.subtask.index) }
        for task in sorted {
            let parallelism = names[task.subtask.vertex].map { "\($0.parallelism)" } ?? "?"
            let metrics = task.hasMetrics ? task.metrics : nil
            table.add(
                "\(task.subtask.vertex) (\(task.subtask.index + 1)/\(parallelism))", task.state.word,
                task.stateSinceMs == 0 ? "-" : formatElapsed(milliseconds: nowMs - task.stateSinceMs),
                task.taskManager.isEmpty ? "-" : task.taskManager, task.worker.isEmpty ? "-" : task.worker, "\(task.slot)",
                metrics.map { "\($0.recordsIn)" } ?? "-", metrics.map { "\($0.recordsOut)" } ?? "-",
                metrics.map { "\($0.lateRecords)" } ?? "-")
        }
        return table.isEmpty ? "" : table.text
    }

    /// Lines of the table of metrics, at most.
    static let metricsMax = 100

    /// The operators' own numbers over all subtasks: of a count the sum says most, of a state the least and the greatest.
    private static func metrics(_ info: WireJobInfo) -> String {
        struct Line: Hashable, Comparable {
            var vertex: Int32
            var name: String
            static func < (left: Line, right: Line) -> Bool { (left.vertex, left.name) < (right.vertex, right.name) }
        }
        var values: [Line: [Int64]] = [:]
        for task in info.tasks where task.hasMetrics {
            for (name, value) in task.metrics.counters { values[Line(vertex: task.subtask.vertex, name: name), default: []].append(value) }
        }
        guard !values.isEmpty else { return "" }
        var table = TextTable(("VERTEX", .right), ("METRIC", .left), ("SUBTASKS", .right), ("SUM", .right), ("LEAST", .right), ("GREATEST", .right))
        let sorted = values.sorted { $0.key < $1.key }
        for (line, values) in sorted.prefix(metricsMax) {
            table.add(
                "\(line.vertex)", oneLine(line.name), "\(values.count)", "\(values.reduce(0, &+))", "\(values.min() ?? 0)",
                "\(values.max() ?? 0)")
        }
        let rest = sorted.count - metricsMax
        return table.text + (rest > 0 ? "\n\(rest) more with --json" : "")
    }

    private static func checkpoints(_ info: WireJobInfo, format: TimeFormat) -> String {
        guard info.hasCheckpoints else { return "" }
        let stats = info.checkpoints
        guard stats.completed + stats.failed + stats.inProgress > 0 || stats.restoredFrom > 0 else { return "" }
        var text = "checkpoints  \(stats.completed) completed, \(stats.failed) failed, \(stats.inProgress) in progress"
        if stats.restoredFrom > 0 { text += "; restored from \(stats.restoredFrom)" }
        var table = TextTable(
            ("CHECKPOINT", .right), ("STATE", .left), ("TRIGGERED", .left), ("DURATION", .right), ("SIZE", .right), ("ACKNOWLEDGED", .right),
            ("PATH", .left))
        for checkpoint in stats.recent.suffix(10).reversed() {
            table.add(
                "\(checkpoint.checkpoint)", checkpoint.state.word, format.dateAndTime(checkpoint.triggeredMs),
                checkpoint.state == .inProgress ? "-" : "\(formatDecimal(checkpoint.durationMs)) ms", formatBytes(checkpoint.stateBytes),
                "\(checkpoint.acknowledged)/\(checkpoint.tasks)", checkpoint.message.isEmpty ? checkpoint.path : checkpoint.message)
        }
        return table.isEmpty ? text : text + "\n" + table.text
    }

    private static func failures(_ info: WireJobInfo, format: TimeFormat) -> String {
        guard !info.failures.isEmpty else { return "" }
        let shown = info.failures.suffix(5)
        var lines = ["failures     the last \(shown.count), oldest first"]
        for record in shown {
            lines.append(JobWatch.Event(timestampMs: record.timestampMs, what: .failure(record)).text(format))
            if record.runningAgainMs > 0 { lines.append("                running again after \(record.runningAgainMs) ms") }
        }
        return lines.joined(separator: "\n")
    }

    private static func options(_ info: WireJobInfo) -> String {
        guard !info.options.isEmpty else { return "" }
        var table = TextTable(("OPTION", .left), ("VALUE", .left))
        for (key, value) in info.options.sorted(by: { $0.key < $1.key }) { table.add(key, maskSecret(name: key, value: value)) }
        return table.text
    }

    // MARK: weir info, for programs

    package static func json(_ info: WireJobInfo) -> JSONValue {
        .object([
            "summary": json(info.summary), "epoch": .unsigned(UInt64(info.epoch)), "maxParallelism": .unsigned(UInt64(info.maxParallelism)),
            "arguments": .array(info.arguments.map { .string($0) }),
            "options": .object(
                info.options.sorted { $0.key < $1.key }.map { key, value in
                    JSONValue.Member(name: key, value: .string(maskSecret(name: key, value: value)))
                }),
            "vertices": .array(
                info.vertices.map {
                    .object(["vertex": .integer(Int64($0.vertex)), "name": .string($0.name), "parallelism": .unsigned(UInt64($0.parallelism))])
                }),
            "tasks": .array(info.tasks.map { json($0) }), "checkpoints": json(info.checkpoints),
            "failures": .array(info.failures.map { json($0) }),
            "history": .array(
                info.history.map {
                    .object([
                        "timestampMs": .integer($0.timestampMs), "state": .string($0.state.word), "epoch": .unsigned(UInt64($0.epoch)),
                    ])
                }),
        ])
    }

    private static func json(_ task: WireTaskInfo) -> JSONValue {
        .object([
            "vertex": .integer(Int64(task.subtask.vertex)), "index": .integer(Int64(task.subtask.index)), "state": .string(task.state.word),
            "stateSinceMs": .integer(task.stateSinceMs), "worker": .optional(task.worker), "taskManager": .optional(task.taskManager),
            "slot": .unsigned(UInt64(task.slot)), "metrics": task.hasMetrics ? json(task.metrics) : .null,
        ])
    }

    private static func json(_ metrics: WireTaskMetrics) -> JSONValue {
        .object([
            "recordsIn": .unsigned(metrics.recordsIn), "recordsOut": .unsigned(metrics.recordsOut), "bytesIn": .unsigned(metrics.bytesIn),
            "bytesOut": .unsigned(metrics.bytesOut), "watermarkMs": metrics.watermarkMs == .min ? .null : .integer(metrics.watermarkMs),
            "busyRatio": .number(metrics.busyRatio), "backPressuredRatio": .number(metrics.backPressuredRatio),
            "idleRatio": .number(metrics.idleRatio), "lateRecords": .unsigned(metrics.lateRecords),
            "counters": .object(
                metrics.counters.sorted { $0.key < $1.key }.map { JSONValue.Member(name: $0.key, value: .integer($0.value)) }),
        ])
    }

    private static func json(_ stats: WireCheckpointStats) -> JSONValue {
        .object([
            "completed": .unsigned(stats.completed), "failed": .unsigned(stats.failed), "inProgress": .unsigned(stats.inProgress),
            "restoredFrom": stats.restoredFrom == 0 ? .null : .unsigned(stats.restoredFrom),
            "recent": .array(
                stats.recent.map {
                    .object([
                        "checkpoint": .unsigned($0.checkpoint), "state": .string($0.state.word), "triggeredMs": .integer($0.triggeredMs),
                        "durationMs": .number($0.durationMs), "stateBytes": .unsigned($0.stateBytes), "path": .optional($0.path),
                        "message": .optional($0.message), "acknowledged": .unsigned(UInt64($0.acknowledged)),
                        "tasks": .unsigned(UInt64($0.tasks)), "syncMsMax": .number($0.syncMsMax), "alignmentMsMax": .number($0.alignmentMsMax),
                    ])
                }),
        ])
    }

    static func json(_ record: WireFailureRecord) -> JSONValue {
        .object([
            "timestampMs": .integer(record.timestampMs), "epoch": .unsigned(UInt64(record.epoch)), "failure": json(record.failure),
            "subtask": record.hasSubtask
                ? .object(["vertex": .integer(Int64(record.subtask.vertex)), "index": .integer(Int64(record.subtask.index))]) : .null,
            "worker": .optional(record.worker), "taskManager": .optional(record.taskManager),
            "stderrTail": .array(record.stderrTail.map { .string($0) }),
            "runningAgainMs": record.runningAgainMs == 0 ? .null : .unsigned(UInt64(record.runningAgainMs)),
        ])
    }

    static func json(_ failure: WireFailure) -> JSONValue {
        .object([
            "domain": .string(failure.domain.word), "recovery": .string(failure.recovery.word), "message": .string(failure.message),
            "cause": .optional(failure.cause),
            "place": failure.hasPlace
                ? .object([
                    "operator": .string(failure.place.operatorName), "subtask": .integer(Int64(failure.place.subtask)),
                    "parallelism": .integer(Int64(failure.place.parallelism)), "taskManager": .optional(failure.place.taskManager),
                ]) : .null,
        ])
    }
}
