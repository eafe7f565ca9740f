import Testing
import WeirCLI
import WeirWire

@Suite struct JobWatchTests {
    private func change(_ ms: Int64, _ state: WireJobState, _ epoch: UInt32) -> WireStateChange {
        var change = WireStateChange()
        change.timestampMs = ms
        change.state = state
        change.epoch = epoch
        return change
    }

    private func info(_ history: [WireStateChange]) -> WireJobInfo {
        var info = WireJobInfo()
        info.history = history
        info.summary.state = history.last?.state ?? .created
        info.epoch = history.last?.epoch ?? 0
        return info
    }

    private func lines(_ events: [JobWatch.Event]) -> [String] { events.map { $0.text(.utc) } }

    @Test func eachChangeIsToldOnce() {
        var watch = JobWatch()
        let history = [change(1_000, .created, 1), change(1_010, .deploying, 1), change(1_200, .running, 1)]
        #expect(lines(watch.observe(info(Array(history[..<2])))) == ["00:00:01.000  CREATED", "00:00:01.010  DEPLOYING"])
        #expect(watch.observe(info(Array(history[..<2]))).isEmpty)
        #expect(lines(watch.observe(info(history))) == ["00:00:01.200  RUNNING"])
        // The JobManager dropped the oldest.
        #expect(lines(watch.observe(info(history.dropFirst(2) + [change(2_000, .finished, 1)]))) == ["00:00:02.000  FINISHED"])
    }

    @Test func restartIsToldWithItsCauseAndItsDuration() {
        var watch = JobWatch()
        var history = [change(1_000, .created, 1), change(1_010, .deploying, 1), change(1_200, .running, 1)]
        _ = watch.observe(info(history))
        history += [change(5_000, .restarting, 1), change(5_100, .deploying, 2)]
        var view = info(history)
        var record = WireFailureRecord()
        record.timestampMs = 5_000
        record.failure.domain = .user
        record.failure.message = "worker w-1 trapped"
        record.failure.place.operatorName = "map"
        record.failure.place.subtask = 1
        record.failure.place.parallelism = 4
        record.failure.place.taskManager = "tm-1"
        record.failure.cause = "SIGILL"
        record.stderrTail = ["Fatal error: boom"]
        view.failures = [record]
        view.checkpoints.restoredFrom = 12
        #expect(
            lines(watch.observe(view)) == [
                """
                00:00:05.000  user error: worker w-1 trapped
                                at: map (2/4) on tm-1
                                cause: SIGILL
                                last lines of its stderr:
                                  Fatal error: boom
                """, "00:00:05.000  RESTARTING", "00:00:05.100  DEPLOYING", "00:00:05.100  restarting from checkpoint 12",
            ])
        history.append(change(5_400, .running, 2))
        view = info(history)
        record.runningAgainMs = 400
        view.failures = [record]
        view.checkpoints.restoredFrom = 12
        #expect(lines(watch.observe(view)) == ["00:00:05.400  RUNNING", "00:00:05.400  RUNNING again after 400 ms"])
        #expect(watch.observe(view).isEmpty)
    }

    @Test func restartWithoutACheckpointSaysSo() {
        var watch = JobWatch()
        let history = [change(1_000, .running, 1), change(2_000, .restarting, 1), change(2_100, .deploying, 2)]
        #expect(lines(watch.observe(info(history))).last == "00:00:02.100  restarting from the start: there is no completed checkpoint")
    }

    @Test func firstStartIsNoRestart() {
        var watch = JobWatch()
        #expect(lines(watch.observe(info([change(1_000, .created, 0), change(1_100, .deploying, 1)]))).count == 3 - 1)
    }

    @Test func latestStateBearsTheMessage() {
        var watch = JobWatch()
        var view = info([change(1_000, .created, 1), change(1_001, .waitingForResources, 1)])
        view.summary.statusMessage = "needs 4 slots, 2 are free"
        #expect(
            lines(watch.observe(view)) == ["00:00:01.000  CREATED", "00:00:01.001  WAITING_FOR_RESOURCES: needs 4 slots, 2 are free"])
    }

    @Test func jobWithoutHistoryIsFollowedByItsState() {
        var watch = JobWatch()
        var view = info([])
        view.summary.state = .running
        view.summary.submittedMs = 1_000
        #expect(lines(watch.observe(view)) == ["00:00:01.000  RUNNING"])
        #expect(watch.observe(view).isEmpty)
    }

    @Test func eventsAreJSONLines() {
        let event = JobWatch.Event(timestampMs: 5, what: .restoring(checkpoint: 3, epoch: 2))
        #expect(event.json(job: "j").line == #"{"event":"restoring","job":"j","timestampMs":5,"checkpoint":3,"epoch":2}"#)
    }
}

@Suite struct JobResolutionTests {
    private func job(_ id: String, _ name: String, _ state: WireJobState = .running, at: Int64 = 0) -> WireJobSummary {
        var job = WireJobSummary()
        job.job = id
        job.name = name
        job.state = state
        job.submittedMs = at
        return job
    }

    private var jobs: [WireJobSummary] {
        [
            job("aaaa1111", "telemetry"), job("aaaa2222", "wordcount", .finished, at: 1), job("bbbb3333", "wordcount", .failed, at: 2),
            job("cccc4444", "twin"), job("dddd5555", "twin"),
        ]
    }

    private func failure(_ text: String, in jobs: [WireJobSummary]? = nil) -> CommandFailure? {
        do {
            _ = try JobResolution.resolve(text, in: jobs ?? self.jobs)
            return nil
        } catch { return error }
    }

    @Test func idNameAndBeginningAreFound() throws {
        #expect(try JobResolution.resolve("aaaa2222", in: jobs).job == "aaaa2222")
        #expect(try JobResolution.resolve("AAAA1111", in: jobs).job == "aaaa1111")
        #expect(try JobResolution.resolve("telemetry", in: jobs).job == "aaaa1111")
        #expect(try JobResolution.resolve("b", in: jobs).job == "bbbb3333")
        // Both have ended: the one submitted last.
        #expect(try JobResolution.resolve("wordcount", in: jobs).job == "bbbb3333")
    }

    @Test func unknownJobNamesTheNearest() {
        #expect(failure("telemetri") == CommandFailure("there is no job \"telemetri\"", hint: "did you mean telemetry?"))
        #expect(failure("zzzzzz")?.hint == "`weir list --all` shows all jobs")
        #expect(failure("x", in: [])?.hint == "the JobManager knows no job; submit one with `weir run BINARY`")
        #expect(failure("")?.message == "there is no job \"\"")
    }

    @Test func ambiguityListsTheCandidates() {
        #expect(failure("aaaa")?.message == "2 jobs have an id that begins with \"aaaa\"")
        #expect(failure("twin")?.detail == "cccc4444  twin  RUNNING\ndddd5555  twin  RUNNING")
    }
}

@Suite struct JobManagerAddressTests {
    @Test func hostsAndPorts() {
        func parse(_ text: String) -> String? { JobManagerAddress(text, defaultPort: 6_123)?.text }
        #expect(parse("host:1") == "host:1")
        #expect(parse("host") == "host:6123")
        #expect(parse("[::1]:7") == "[::1]:7")
        #expect(parse("[::1]") == "[::1]:6123")
        #expect(parse("::1") == "[::1]:6123")
        for bad in ["", ":1", "host:", "host:0", "host:65536", "host:x", "[::1", "[]:1", "[::1]x"] { #expect(parse(bad) == nil) }
    }
}
