package import WeirWire

/// What the commands print, for people and for programs. Pure: the tests pin it.
package enum Rendering {
    /// Digits of a job's id in tables: enough to be unique, and commands take any beginning.
    static let shortIDCount = 12

    static func shortID(_ job: String) -> String { String(job.prefix(shortIDCount)) }

    // MARK: weir list

    package static func table(_ jobs: [WireJobSummary], nowMs: Int64, format: TimeFormat) -> String {
        guard !jobs.isEmpty else { return "no jobs" }
        var table = TextTable(
            ("JOB", .left), ("NAME", .left), ("STATE", .left), ("TASKS", .right), ("RESTARTS", .right), ("CHECKPOINT", .right),
            ("SUBMITTED", .left), ("ELAPSED", .right), ("MESSAGE", .left))
        for job in sorted(jobs) {
            table.add(
                shortID(job.job), job.name, job.state.word, "\(job.tasksRunning)/\(job.tasks)", "\(job.restarts)",
                job.lastCheckpoint == 0 ? "-" : "\(job.lastCheckpoint)", format.dateAndTime(job.submittedMs),
                elapsed(job, nowMs: nowMs), String(oneLine(job.statusMessage).prefix(80)))
        }
        return table.text
    }

    /// The latest first.
    private static func sorted(_ jobs: [WireJobSummary]) -> [WireJobSummary] {
        jobs.sorted { ($0.submittedMs, $0.job) > ($1.submittedMs, $1.job) }
    }

    private static func elapsed(_ job: WireJobSummary, nowMs: Int64) -> String {
        guard job.submittedMs != 0 else { return "-" }
        return formatElapsed(milliseconds: (job.endedMs == 0 ? nowMs : job.endedMs) - job.submittedMs)
    }

    package static func json(_ jobs: [WireJobSummary]) -> JSONValue {
        .object(["jobs": .array(sorted(jobs).map { json($0) })])
    }

    package static func json(_ job: WireJobSummary) -> JSONValue {
        .object([
            "job": .string(job.job), "name": .string(job.name), "state": .string(job.state.word),
            "submittedMs": .integer(job.submittedMs), "endedMs": job.endedMs == 0 ? .null : .integer(job.endedMs),
            "tasks": .unsigned(UInt64(job.tasks)), "tasksRunning": .unsigned(UInt64(job.tasksRunning)),
            "restarts": .unsigned(UInt64(job.restarts)),
            "lastCheckpoint": job.lastCheckpoint == 0 ? .null : .unsigned(job.lastCheckpoint),
            "message": .optional(job.statusMessage),
        ])
    }

    // MARK: weir cluster

    package static func text(_ cluster: WireClusterInfo, nowMs: Int64, format: TimeFormat) -> String {
        var text = "cluster       \(cluster.clusterID)\n"
        text += "software      \(cluster.software)\n"
        text += "started       \(format.dateAndTime(cluster.startedMs))\n"
        text += "slots         \(cluster.slotsFree) free of \(cluster.slotsTotal)\n"
        text += "jobs running  \(cluster.jobsRunning)\n\n"
        guard !cluster.taskManagers.isEmpty else { return text + "no TaskManagers; start one with `taskmanager`" }
        var table = TextTable(
            ("TASKMANAGER", .left), ("HOST", .left), ("PID", .right), ("SLOTS", .right), ("FREE", .right), ("WORKERS", .right),
            ("MEMORY", .right), ("HEARTBEAT", .right))
        for manager in cluster.taskManagers.sorted(by: { $0.taskManager < $1.taskManager }) {
            table.add(
                manager.taskManager, manager.host, "\(manager.pid)", "\(manager.slots)", "\(manager.slotsFree)", "\(manager.workers.count)",
                manager.residentBytes == 0 ? "-" : formatBytes(manager.residentBytes),
                manager.lastHeartbeatMs == 0 ? "-" : formatElapsed(milliseconds: nowMs - manager.lastHeartbeatMs) + " ago")
        }
        return text + table.text
    }

    package static func json(_ cluster: WireClusterInfo) -> JSONValue {
        let managers = cluster.taskManagers.sorted { $0.taskManager < $1.taskManager }.map { manager in
            JSONValue.object([
                "taskManager": .string(manager.taskManager), "host": .string(manager.host), "pid": .unsigned(UInt64(manager.pid)),
                "slots": .unsigned(UInt64(manager.slots)), "slotsFree": .unsigned(UInt64(manager.slotsFree)),
                "registeredMs": .integer(manager.registeredMs), "residentBytes": .unsigned(manager.residentBytes),
                "lastHeartbeatMs": .integer(manager.lastHeartbeatMs),
                "workers": .array(
                    manager.workers.sorted { $0.worker < $1.worker }.map {
                        .object(["worker": .string($0.worker), "job": .string($0.job), "pid": .unsigned(UInt64($0.pid))])
                    }),
            ])
        }
        return .object([
            "clusterId": .string(cluster.clusterID), "software": .string(cluster.software), "startedMs": .integer(cluster.startedMs),
            "slotsTotal": .unsigned(UInt64(cluster.slotsTotal)), "slotsFree": .unsigned(UInt64(cluster.slotsFree)),
            "jobsRunning": .unsigned(UInt64(cluster.jobsRunning)), "taskManagers": .array(managers),
        ])
    }
}
