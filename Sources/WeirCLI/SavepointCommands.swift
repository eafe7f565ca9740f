internal import ArgumentParser
internal import WeirTransport
internal import WeirWire

/// `weir savepoint`
struct SavepointCommand: ParsableCommand {
    static let configuration = CommandConfiguration(
        commandName: "savepoint", abstract: "Save the state of a job, or look into a savepoint.",
        discussion: """
            A savepoint stands for itself: it may be moved, and a job of any parallelism up to its max parallelism starts from it with \
            `weir run --from`. Weir never deletes it unless a job claims it.
            """,
        subcommands: [TakeSavepointCommand.self, InspectSavepointCommand.self], defaultSubcommand: TakeSavepointCommand.self)
}

/// `weir savepoint JOB [DIR]`
struct TakeSavepointCommand: ParsableCommand {
    static let configuration = CommandConfiguration(commandName: "take", abstract: "Save the state of a job, which goes on.")

    @OptionGroup var cluster: ClusterOptions

    @Argument(help: "The job's id, the beginning of it, or the job's name.")
    var job: String

    @Argument(help: "Where the savepoint's directory is made; default: execution.checkpointing.savepoint-dir of the cluster.")
    var directory: String?

    func run() throws {
        try reportingFailure {
            let client = try cluster.connect()
            let savepoint = try client.savepoint(of: try client.resolve(job), in: directory)
            if cluster.json {
                printOut(Rendering.json(savepoint).pretty)
            } else {
                printOut("savepoint \(savepoint.checkpoint) of job \(savepoint.job) is complete: \(savepoint.path)")
            }
        }
    }
}

/// `weir stop`
struct StopCommand: ParsableCommand {
    static let configuration = CommandConfiguration(
        commandName: "stop", abstract: "End a job with a savepoint.",
        discussion: """
            Sources emit nothing behind the savepoint; once it is complete and every sink has committed, the job is FINISHED. If the savepoint \
            fails, the job goes on.
            """)

    @OptionGroup var cluster: ClusterOptions

    @Flag(help: "End the data first, so that every window fires: for a job that is not to be resumed.")
    var drain = false

    @Option(
        name: [.customLong("savepoint-dir")],
        help: ArgumentHelp(
            "Where the savepoint's directory is made; default: execution.checkpointing.savepoint-dir of the cluster.", valueName: "dir"))
    var directory: String?

    @Argument(help: "The job's id, the beginning of it, or the job's name.")
    var job: String

    func run() throws {
        try reportingFailure {
            let client = try cluster.connect()
            let found = try client.resolve(job)
            let savepoint = try client.savepoint(of: found, in: directory, stop: true, drain: drain)
            if cluster.json {
                printOut(Rendering.json(savepoint).pretty)
            } else {
                printOut("job \(savepoint.job) (\(oneLine(found.name))) is \(savepoint.state.word); savepoint \(savepoint.path)")
            }
        }
    }
}

extension JobManagerClient {
    /// The JobManager answers within `execution.checkpointing.timeout` and `task.cancellation.timeout`, whatever they are.
    static let savepointDeadline = Duration.seconds(24 * 3_600)

    /// Takes a savepoint and waits for it.
    func savepoint(
        of job: WireJobSummary, in directory: String?, stop: Bool = false, drain: Bool = false
    ) throws(CommandFailure) -> WireSavepointInfo {
        guard !job.state.isTerminal else {
            throw CommandFailure("job \(job.job) (\(oneLine(job.name))) has ended already: \(job.state.word)")
        }
        var request = WireTriggerSavepoint()
        request.job = job.job
        request.directory = directory.map { JobSubmission.absolute($0) } ?? ""
        request.stop = stop
        request.drain = drain
        return try ask(.triggerSavepoint, request, to: stop ? "stop the job" : "take a savepoint", deadline: Self.savepointDeadline)
    }
}
