internal import ArgumentParser
internal import WeirTransport
internal import WeirWire

/// `weir checkpoints`
struct CheckpointsCommand: ParsableCommand {
    static let configuration = CommandConfiguration(
        commandName: "checkpoints", abstract: "Show a job's checkpoints: how long they took, how large they are, who holds one up.")

    @OptionGroup var cluster: ClusterOptions

    @Option(help: ArgumentHelp("Show the subtasks of this checkpoint; default: of one in progress.", valueName: "id"))
    var checkpoint: UInt64?

    @Option(help: ArgumentHelp("How many to show, the latest first.", valueName: "count"))
    var last = 20

    @Argument(help: "The job's id, the beginning of it, or the job's name.")
    var job: String

    func validate() throws {
        if last < 1 { throw ValidationError("--last \(last): at least 1") }
    }

    func run() throws {
        try reportingFailure {
            let client = try cluster.connect()
            var request = WireGetCheckpoints()
            request.job = try client.resolve(job).job
            let history: WireCheckpointHistory = try client.ask(.getCheckpoints, request, to: "show the checkpoints")
            if let checkpoint, !history.stats.recent.contains(where: { $0.checkpoint == checkpoint }) {
                throw CommandFailure("checkpoint \(checkpoint) is not among the latest of job \(history.job)")
            }
            printOut(
                cluster.json
                    ? Rendering.json(history).pretty : Rendering.text(history, detail: checkpoint, last: last, format: .local))
        }
    }
}
