internal import ArgumentParser
internal import WeirTransport
internal import WeirWire

/// `weir list`
struct ListCommand: ParsableCommand {
    static let configuration = CommandConfiguration(commandName: "list", abstract: "Show the jobs of the cluster.")

    @OptionGroup var cluster: ClusterOptions

    @Flag(help: "Show ended jobs too.")
    var all = false

    func run() throws {
        try reportingFailure {
            let jobs = try cluster.connect().jobs(includeTerminated: all)
            printOut(cluster.json ? Rendering.json(jobs).pretty : Rendering.table(jobs, nowMs: wallClockMilliseconds(), format: .local))
        }
    }
}

/// `weir info`
struct InfoCommand: ParsableCommand {
    static let configuration = CommandConfiguration(commandName: "info", abstract: "Show a job: tasks, checkpoints, failures.")

    @OptionGroup var cluster: ClusterOptions

    @Argument(help: "The job's id, the beginning of it, or the job's name.")
    var job: String

    func run() throws {
        try reportingFailure {
            let client = try cluster.connect()
            var request = WireGetJob()
            request.job = try client.resolve(job).job
            let info: WireJobInfo = try client.ask(.getJob, request, to: "show the job")
            printOut(cluster.json ? Rendering.json(info).pretty : Rendering.text(info, nowMs: wallClockMilliseconds(), format: .local))
        }
    }
}

/// `weir cancel`
struct CancelCommand: ParsableCommand {
    static let configuration = CommandConfiguration(commandName: "cancel", abstract: "End a job.")

    /// A job whose tasks do not stop is ended by force before this.
    static let patienceMs: Int64 = 60_000

    @OptionGroup var cluster: ClusterOptions

    @Flag(inversion: .prefixedNo, help: "Wait until the job has ended.")
    var wait = true

    @Argument(help: "The job's id, the beginning of it, or the job's name.")
    var job: String

    func run() throws {
        try reportingFailure {
            let client = try cluster.connect()
            let found = try client.resolve(job)
            guard !found.state.isTerminal else {
                throw CommandFailure("job \(found.job) (\(oneLine(found.name))) has ended already: \(found.state.word)")
            }
            var request = WireCancelJob()
            request.job = found.job
            let _: WireEmpty = try client.ask(.cancelJob, request, to: "cancel the job")
            var state = WireJobState.cancelling
            let started = monotonicMilliseconds()
            let interrupt = Interrupt()
            while wait, !state.isTerminal {
                var query = WireGetJob()
                query.job = found.job
                state = try client.ask(.getJob, query, to: "see whether the job has ended", as: WireJobInfo.self).summary.state
                guard !state.isTerminal, !interrupt.wait(milliseconds: 50) else { break }
                guard monotonicMilliseconds() - started < Self.patienceMs else {
                    throw CommandFailure(
                        "job \(found.job) is still \(state.word) after \(Self.patienceMs / 1_000) s", hint: "see `weir info \(found.job)`")
                }
            }
            if cluster.json {
                printOut(JSONValue.object(["job": .string(found.job), "name": .string(found.name), "state": .string(state.word)]).pretty)
            } else {
                printOut("job \(found.job) (\(oneLine(found.name))) is \(state.word)")
            }
        }
    }
}

/// `weir logs`
struct LogsCommand: ParsableCommand {
    static let configuration = CommandConfiguration(
        commandName: "logs", abstract: "Show what a job's worker wrote to its stderr, or stdout.")

    static let pieceBytes: UInt32 = 256 << 10

    @OptionGroup var cluster: ClusterOptions

    @Option(help: "Which worker, as `weir info` names it; default: the job's latest.")
    var worker: String?

    @Flag(help: "Show the worker's stdout instead of its stderr.")
    var stdout = false

    @Flag(name: [.customShort("f"), .long], help: "Stay and show what comes, until Ctrl-C.")
    var follow = false

    @Option(help: ArgumentHelp("Start this many bytes before the end; default: at the start.", valueName: "bytes"))
    var tail: UInt64?

    @Argument(help: "The job's id, the beginning of it, or the job's name.")
    var job: String

    func run() throws {
        let interrupt = Interrupt()
        try reportingFailure {
            let client = try cluster.connect()
            let found = try client.resolve(job)
            var request = WireFetchLogs()
            request.job = found.job
            request.worker = try logName(of: found, client)
            request.bytesMax = Self.pieceBytes
            request.fromEnd = tail != nil
            request.offset = tail ?? 0
            while true {
                let chunk: WireLogChunk = try client.ask(.fetchLogs, request, to: "read the log")
                if !chunk.bytes.isEmpty { show(chunk, job: found.job) }
                request.fromEnd = false
                request.offset = chunk.offset + UInt64(chunk.bytes.count)
                if request.worker.isEmpty { request.worker = chunk.worker }
                if !chunk.bytes.isEmpty, request.offset < chunk.totalBytes { continue }
                guard follow, !interrupt.wait(milliseconds: 250) else { return }
            }
        }
    }

    /// A worker's stderr bears its id, its stdout the id and ".out".
    private func logName(of job: WireJobSummary, _ client: JobManagerClient) throws -> String {
        guard stdout else { return worker ?? "" }
        if let worker { return worker + ".out" }
        var request = WireGetJob()
        request.job = job.job
        let info: WireJobInfo = try client.ask(.getJob, request, to: "find the job's workers")
        guard let first = info.tasks.map(\.worker).filter({ !$0.isEmpty }).min() else {
            throw CommandFailure("job \(job.job) has no worker now", hint: "name one with --worker; `weir info \(job.job)` shows those that failed")
        }
        return first + ".out"
    }

    private func show(_ chunk: WireLogChunk, job: String) {
        let text = String(decoding: chunk.bytes, as: UTF8.self)
        guard cluster.json else { return writeText(text, to: 1) }
        let line = JSONValue.object([
            "job": .string(job), "worker": .string(chunk.worker), "taskManager": .string(chunk.taskManager), "path": .string(chunk.path),
            "offset": .unsigned(chunk.offset), "totalBytes": .unsigned(chunk.totalBytes), "text": .string(text),
        ])
        printOut(line.line)
    }
}

/// `weir cluster`
struct ClusterCommand: ParsableCommand {
    static let configuration = CommandConfiguration(commandName: "cluster", abstract: "Show the cluster: TaskManagers and slots.")

    @OptionGroup var cluster: ClusterOptions

    func run() throws {
        try reportingFailure {
            let info: WireClusterInfo = try cluster.connect().ask(.getCluster, WireGetCluster(), to: "show the cluster")
            printOut(cluster.json ? Rendering.json(info).pretty : Rendering.text(info, nowMs: wallClockMilliseconds(), format: .local))
        }
    }
}
