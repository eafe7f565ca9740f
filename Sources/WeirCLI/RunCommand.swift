internal import ArgumentParser
internal import Glibc
internal import WeirBase
internal import WeirConfiguration
internal import WeirWire

/// `weir run`
struct RunCommand: ParsableCommand {
    static let configuration = CommandConfiguration(
        commandName: "run", abstract: "Submit a job: a program built with Weir.",
        discussion: """
            The program runs here once to describe its graph, is uploaded, and runs on the cluster's TaskManagers. Without -d the command \
            stays and says what happens to the job; its exit code is 0 for FINISHED. Ctrl-C then leaves the job running.
            """)

    @OptionGroup var cluster: ClusterOptions

    @Flag(name: [.customShort("d"), .customLong("detached")], help: "Return once the job is submitted.")
    var detached = false

    @Option(name: [.customShort("p"), .customLong("parallelism")], help: "The parallelism of operators that do not set their own.")
    var parallelism: Int?

    @Option(help: "The job's name; default: what the program says.")
    var name: String?

    @Option(
        name: [.customLong("from"), .customLong("from-checkpoint")],
        help: ArgumentHelp("Start from the savepoint or checkpoint in this directory.", valueName: "path"))
    var from: String?

    @Flag(help: "With --from: take it over; the job deletes it once newer checkpoints stand for it. Otherwise it is only read.")
    var claim = false

    @Flag(name: [.customLong("allow-unclaimed-state")], help: "With --from: drop the state of operators that the job does not have.")
    var allowUnclaimedState = false

    @Option(name: .customShort("D"), help: ArgumentHelp("Set an option of the job.", valueName: "key=value"))
    var definitions: [String] = []

    @Flag(help: "Do not look first whether brokers answer and topics exist.")
    var skipPreflight = false

    @Argument(help: "The job's program, e.g. .build/release/MyJob.")
    var binary: String

    @Argument(parsing: .postTerminator, help: "The program's own arguments, behind --.")
    var arguments: [String] = []

    func validate() throws {
        if let parallelism, !(1...32_768).contains(parallelism) {
            throw ValidationError("-p \(parallelism): the parallelism is a whole number from 1 to 32768")
        }
        if from == nil, claim || allowUnclaimedState { throw ValidationError("--claim and --allow-unclaimed-state say how to start --from a path") }
        if let name, name.isEmpty || name.utf8.count > 200 { throw ValidationError("--name takes 1 to 200 bytes") }
    }

    func run() throws {
        // First: it must be there before any thread is.
        let interrupt = Interrupt()
        let configuration = try cluster.configuration(definitions: definitions)
        let address = try cluster.address(configuration)
        var options: [String: String] = [:]
        do {
            options = configuration.settings(below: "kafka.").merging(try ConfigurationLoader.pairs(definitions)) { $1 }
        } catch {
            throw usage(error.description)
        }
        try reportingFailure {
            try JobBinary.check(path: binary)
            var plan = JobSubmission(
                binary: binary, arguments: arguments, name: name, parallelism: parallelism, restorePath: from, options: options)
            plan.claims = claim
            plan.allowsUnclaimedState = allowUnclaimedState
            let submission = try plan.describe(isChecked: !skipPreflight) { writeText($0 + "\n", to: 2) }
            let client = try JobManagerClient(address)
            let artifact = try ArtifactFile(path: binary)
            try upload(artifact, to: client, interrupt: interrupt)
            let (job, connected) = try JobSubmission.submit(submission, artifact: artifact, client: client)
            if cluster.json {
                let event = JSONValue.object(["event": .string("submitted"), "job": .string(job), "name": .string(submission.name)])
                printOut(event.line)
            } else {
                printOut("job \(job) (\(oneLine(submission.name))) submitted to \(address.text)")
            }
            guard !detached else { return }
            try attach(job: job, client: connected, interrupt: interrupt)
        }
    }

    private func upload(_ artifact: ArtifactFile, to client: JobManagerClient, interrupt: Interrupt) throws {
        let bar = ProgressBar(label: "uploading")
        let started = monotonicMilliseconds()
        let sent = try ArtifactUpload.run(artifact, to: client) { done, total in
            bar.update(done, total)
            // Nothing was submitted yet: leaving is safe, and the upload goes on from here next time.
            if interrupt.wait(milliseconds: 0) {
                bar.finish()
                writeText("interrupted: nothing was submitted\n", to: 2)
                Glibc.exit(130)
            }
        }
        bar.finish()
        guard !cluster.json, sent > 0 else { return }
        let took = formatElapsed(milliseconds: monotonicMilliseconds() - started)
        writeText("uploaded \(artifact.path): \(formatBytes(sent)) in \(took)\n", to: 2)
    }

    private func attach(job: String, client: JobManagerClient, interrupt: Interrupt) throws {
        let attachment = JobAttachment(
            address: client.address, job: job, asJSON: cluster.json, print: { printOut($0) }, wait: { interrupt.wait(milliseconds: $0) })
        switch attachment.follow(client) {
        case .terminal(.finished): return
        case .terminal: throw ExitCode.failure
        case .detached:
            writeText("\ndetached: the job goes on. Follow it with `weir info \(job)`, end it with `weir cancel \(job)`\n", to: 2)
        case .lost(let reason):
            throw CommandFailure("lost sight of job \(job): \(reason)", hint: "the job may go on; see `weir info \(job)`")
        }
    }
}
