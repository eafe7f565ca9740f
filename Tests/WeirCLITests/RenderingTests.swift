import Testing
import WeirCLI
import WeirWire

/// 2026-11-23 10:00:00 UTC.
private let noon: Int64 = 1_795_428_000_000

private func job(_ id: String, _ name: String, _ state: WireJobState) -> WireJobSummary {
    var job = WireJobSummary()
    job.job = id
    job.name = name
    job.state = state
    job.submittedMs = noon
    job.tasks = 4
    return job
}

private var telemetry: WireJobSummary {
    var job = job("0123456789abcdef0123456789abcdef", "TelemetryAggregate", .running)
    job.tasksRunning = 4
    job.restarts = 2
    job.lastCheckpoint = 41
    return job
}

private var wordCount: WireJobSummary {
    var job = job("fedcba9876543210fedcba9876543210", "WordCount", .failed)
    job.submittedMs = noon - 3_600_000
    job.endedMs = noon - 3_599_500
    job.statusMessage = "cannot read /data/in.txt:\nNo such file or directory"
    return job
}

@Suite struct TextTableTests {
    @Test func columnsAreAsWideAsTheirWidestCell() {
        var table = TextTable(("NAME", .left), ("COUNT", .right), ("NOTE", .left))
        table.add("a", "1", "")
        table.add("längere", "12345678", "x")
        #expect(
            table.text == """
                NAME        COUNT  NOTE
                a               1
                längere  12345678  x
                """)
    }

    @Test func controlCharactersDoNotReachTheTerminal() {
        var table = TextTable(("A", .left))
        table.add("one\n\u{1B}[31mtwo\u{7F}")
        #expect(table.text == "A\none [31mtwo")
    }
}

@Suite struct RenderingTests {
    @Test func jobsAreATableLatestFirst() {
        #expect(
            Rendering.table([wordCount, telemetry], nowMs: noon + 65_000, format: .utc) == """
                JOB           NAME                STATE    TASKS  RESTARTS  CHECKPOINT  SUBMITTED              ELAPSED  MESSAGE
                0123456789ab  TelemetryAggregate  RUNNING    4/4         2          41  2026-11-23 10:00:00  1 min 5 s
                fedcba987654  WordCount           FAILED     0/4         0           -  2026-11-23 09:00:00     500 ms  cannot read /data/in.txt: No such file or directory
                """)
        #expect(Rendering.table([], nowMs: 0, format: .utc) == "no jobs")
    }

    @Test func jobsAreStableJSON() {
        #expect(
            Rendering.json([wordCount]).pretty == #"""
                {
                  "jobs": [
                    {
                      "job": "fedcba9876543210fedcba9876543210",
                      "name": "WordCount",
                      "state": "FAILED",
                      "submittedMs": 1795424400000,
                      "endedMs": 1795424400500,
                      "tasks": 4,
                      "tasksRunning": 0,
                      "restarts": 0,
                      "lastCheckpoint": null,
                      "message": "cannot read /data/in.txt:\nNo such file or directory"
                    }
                  ]
                }
                """#)
        #expect(Rendering.json([] as [WireJobSummary]).line == #"{"jobs":[]}"#)
    }

    @Test func clusterShowsItsTaskManagers() {
        var cluster = WireClusterInfo()
        cluster.clusterID = "weir"
        cluster.software = "weir 0.1.0"
        cluster.startedMs = noon
        cluster.slotsTotal = 4
        cluster.slotsFree = 1
        cluster.jobsRunning = 1
        #expect(Rendering.text(cluster, nowMs: noon, format: .utc).hasSuffix("no TaskManagers; start one with `taskmanager`"))
        var manager = WireTaskManagerInfo()
        manager.taskManager = "tm-a-12"
        manager.host = "a"
        manager.pid = 12
        manager.slots = 4
        manager.slotsFree = 1
        manager.residentBytes = 25 << 20
        manager.lastHeartbeatMs = noon - 250
        var worker = WireRunningWorker()
        worker.worker = "w-1"
        worker.job = "j"
        worker.pid = 99
        manager.workers = [worker]
        cluster.taskManagers = [manager]
        #expect(
            Rendering.text(cluster, nowMs: noon, format: .utc) == """
                cluster       weir
                software      weir 0.1.0
                started       2026-11-23 10:00:00
                slots         1 free of 4
                jobs running  1

                TASKMANAGER  HOST  PID  SLOTS  FREE  WORKERS    MEMORY   HEARTBEAT
                tm-a-12      a      12      4     1        1  25.0 MiB  250 ms ago
                """)
        #expect(
            Rendering.json(cluster).line
                == #"{"clusterId":"weir","software":"weir 0.1.0","startedMs":1795428000000,"slotsTotal":4,"slotsFree":1,"jobsRunning":1,"#
                + #""taskManagers":[{"taskManager":"tm-a-12","host":"a","pid":12,"slots":4,"slotsFree":1,"registeredMs":0,"#
                + #""residentBytes":26214400,"lastHeartbeatMs":1795427999750,"workers":[{"worker":"w-1","job":"j","pid":99}]}]}"#)
    }

    @Test func infoShowsAllThatIsKnown() {
        #expect(Rendering.text(info(), nowMs: noon + 60_000, format: .utc) == infoText)
    }

    @Test func infoIsJSONWithSecretsMasked() {
        let text = Rendering.json(info()).line
        #expect(text.contains(#""options":{"kafka.sasl.password":"******","parallelism.default":"2"}"#))
        #expect(text.contains(#""runningAgainMs":320"#))
        #expect(text.contains(#""watermarkMs":null"#))
        #expect(!text.contains("hunter2"))
    }

    @Test func jsonIsEscaped() {
        let value = JSONValue.array([.string("\"\\\n\u{01}é"), .number(.nan), .number(0.5), .boolean(true), .null, .integer(-1)])
        #expect(value.line == #"["\"\\\n\u0001é",null,0.5,true,null,-1]"#)
        #expect(JSONValue.object([:]).pretty == "{}")
    }

    private func info() -> WireJobInfo {
        var info = WireJobInfo()
        info.summary = telemetry
        info.epoch = 3
        info.arguments = ["--bootstrap", "localhost:9092", "it's"]
        var vertex = WireVertexInfo()
        vertex.vertex = 1
        vertex.name = "readings -> filter"
        vertex.parallelism = 2
        info.vertices = [vertex]
        for index in 0..<2 {
            var task = WireTaskInfo()
            task.subtask.vertex = 1
            task.subtask.index = Int32(index)
            task.state = .running
            task.worker = "w-\(index)"
            task.taskManager = "tm-1"
            task.slot = UInt32(index)
            task.stateSinceMs = noon
            task.metrics.recordsIn = 1_000
            task.metrics.recordsOut = 990
            task.metrics.busyRatio = index == 0 ? 0.25 : 0.5
            task.metrics.watermarkMs = .min
            task.metrics.counters = ["readings.numBytesIn": 150_000, "readings.pendingRecords": index == 0 ? 7 : 12]
            info.tasks.append(task)
        }
        info.checkpoints.completed = 41
        info.checkpoints.restoredFrom = 17
        var checkpoint = WireCheckpointInfo()
        checkpoint.checkpoint = 41
        checkpoint.state = .completed
        checkpoint.triggeredMs = noon + 1_000
        checkpoint.durationMs = 12.34
        checkpoint.stateBytes = 2_048
        checkpoint.acknowledged = 2
        checkpoint.tasks = 2
        checkpoint.path = "/checkpoints/chk-41"
        info.checkpoints.recent = [checkpoint]
        var failure = WireFailureRecord()
        failure.timestampMs = noon + 500
        failure.failure.domain = .system
        failure.failure.message = "worker w-9 was killed (SIGKILL)"
        failure.worker = "w-9"
        failure.taskManager = "tm-2"
        failure.stderrTail = ["last words"]
        failure.runningAgainMs = 320
        info.failures = [failure]
        info.options = ["parallelism.default": "2", "kafka.sasl.password": "hunter2"]
        return info
    }

    private let infoText = """
        job          0123456789abcdef0123456789abcdef
        name         TelemetryAggregate
        state        RUNNING
        submitted    2026-11-23 10:00:00
        elapsed      1 min 0 s
        tasks        4 running of 4
        restarts     2 (epoch 3)
        arguments    --bootstrap localhost:9092 'it'\\''s'

        VERTEX  NAME                PARALLELISM  RUNNING    IN   OUT  BUSY  BACK-PRESSURED
             1  readings -> filter            2        2  2000  1980  50 %             0 %

        TASK     STATE        SINCE  TASKMANAGER  WORKER  SLOT    IN  OUT  LATE
        1 (1/2)  RUNNING  1 min 0 s  tm-1         w-0        0  1000  990     0
        1 (2/2)  RUNNING  1 min 0 s  tm-1         w-1        1  1000  990     0

        VERTEX  METRIC                   SUBTASKS     SUM   LEAST  GREATEST
             1  readings.numBytesIn             2  300000  150000    150000
             1  readings.pendingRecords         2      19       7        12

        checkpoints  41 completed, 0 failed, 0 in progress; restored from 17
        CHECKPOINT  STATE      TRIGGERED            DURATION     SIZE  ACKNOWLEDGED  PATH
                41  COMPLETED  2026-11-23 10:00:01   12.3 ms  2.0 KiB           2/2  /checkpoints/chk-41

        failures     the last 1, oldest first
        10:00:00.500  system error: worker w-9 was killed (SIGKILL)
                        at: worker w-9 on tm-2
                        last lines of its stderr:
                          last words
                        running again after 320 ms

        OPTION               VALUE
        kafka.sasl.password  ******
        parallelism.default  2
        """
}

@Suite struct FormattingTests {
    @Test func elapsedTime() {
        let pairs: [(Int64, String)] = [
            (-5, "0 ms"), (999, "999 ms"), (1_000, "1.0 s"), (59_999, "59.9 s"), (60_000, "1 min 0 s"), (3_725_000, "1 h 2 min"),
            (90_000_000, "1 d 1 h"),
        ]
        for (milliseconds, text) in pairs { #expect(formatElapsed(milliseconds: milliseconds) == text) }
    }

    @Test func byteCounts() {
        let pairs: [(UInt64, String)] = [
            (0, "0 B"), (1_023, "1023 B"), (1_024, "1.0 KiB"), (1_536, "1.5 KiB"), ((1 << 20) - 1, "1.0 MiB"), (5 << 30, "5.0 GiB"),
        ]
        for (bytes, text) in pairs { #expect(formatBytes(bytes) == text) }
    }

    @Test func times() {
        #expect(TimeFormat.utc.dateAndTime(0) == "-")
        #expect(TimeFormat.utc.time(noon + 7) == "10:00:00.007")
        #expect(TimeFormat.utc.time(-1) == "23:59:59.999")
    }
}
