internal import ArgumentParser
internal import Glibc
internal import WeirBase
internal import WeirCLI
internal import WeirKafkaTransactions
internal import WeirKafkaWire
internal import WeirTransport

/// `weir kafka transactions`
struct TransactionsCommand: ParsableCommand {
    static let configuration = CommandConfiguration(
        commandName: "transactions", abstract: "Show the transactions of an exactly-once Kafka sink, abort or commit them.",
        discussion: """
            A job that has ended for good may leave transactions open: readers of committed records wait for them until they time out. \
            --abort ends them: their rows are never seen. --commit-from shows the rows that belong to a checkpoint, as the job would when it is \
            restored from there: do it when it will not be, and for the newest checkpoint only. Stop the job first: both fence off producers \
            that still run.
            """)

    /// For looking at one transaction, and for ending it.
    static let patience = Duration.seconds(30)

    @Option(help: ArgumentHelp("Brokers of the cluster.", valueName: "host:port,…"))
    var bootstrap: String

    @Option(help: "The sink's transactionalIDPrefix.")
    var prefix: String

    @Flag(help: "Abort the open transactions, but those that a --checkpoint names.")
    var abort = false

    @Option(help: ArgumentHelp("Commit exactly what this checkpoint or savepoint names as prepared.", valueName: "path"))
    var commitFrom: String?

    @Option(help: ArgumentHelp("Say which open transactions this checkpoint, or all in a job's directory, names. Repeatable.", valueName: "path"))
    var checkpoint: [String] = []

    @Flag(help: "Do not ask.")
    var yes = false

    @Flag(help: "Print JSON for programs.")
    var json = false

    @Option(name: .customLong("kafka"), help: ArgumentHelp("Set a property of the Kafka client.", valueName: "key=value"))
    var properties: [String] = []

    func validate() throws {
        if abort, commitFrom != nil { throw ValidationError("--abort and --commit-from exclude each other") }
        if prefix.isEmpty { throw ValidationError("--prefix is empty: give the sink's transactionalIDPrefix") }
        if abort, json, !yes { throw ValidationError("--abort asks, and --json is for programs: add --yes") }
        do {
            _ = try KafkaAddress.list(bootstrap)
        } catch {
            throw ValidationError("--bootstrap \(bootstrap): \(error)")
        }
        for property in properties { try check(property) }
    }

    private func check(_ property: String) throws {
        let pair = property.split(separator: "=", maxSplits: 1, omittingEmptySubsequences: false)
        guard pair.count == 2, !pair[0].isEmpty else { throw ValidationError("--kafka \(property): key=value is expected") }
        guard pair[0] == "security.protocol" else {
            throw ValidationError("--kafka \(pair[0]): the property has no meaning here; security.protocol has")
        }
        guard pair[1].lowercased() == "plaintext" else {
            throw ValidationError(
                "--kafka \(property): transactions are looked up over PLAINTEXT only; use a listener of the brokers without encryption")
        }
    }

    func run() throws {
        try reportingFailure {
            var found = CheckpointTransactions()
            for path in checkpoint + [commitFrom].compactMap({ $0 }) { found.add(try read(path)) }
            let client = try connected()
            defer { client.close() }
            let operation = TransactionOperation(prefix: prefix, client: client, clock: SystemClock())
            if let commitFrom { return try show(try operation.commit(from: commitFrom, found)) }
            var report = try operation.list()
            if !checkpoint.isEmpty { report.compare(with: found) }
            if abort, try confirm(report) { operation.abort(&report) }
            try show(report)
        }
    }

    private func connected() throws -> TransactionClient {
        do throws(KafkaClientFailure) { return try TransactionClient(bootstrap: bootstrap) } catch { throw CommandFailure(error.description) }
    }

    private func read(_ path: String) throws -> CheckpointTransactions {
        do throws(JobFailure) { return try CheckpointTransactions.read(path) } catch {
            throw CommandFailure(
                error.cause.map { "\(error.message): \($0)" } ?? error.message,
                hint: "name the directory of a checkpoint or savepoint; weir info shows that of a job's latest")
        }
    }

    /// Asks on the terminal, unless it was told not to, or there is nothing to abort.
    private func confirm(_ report: TransactionReport) throws -> Bool {
        let open = report.abortable
        guard !open.isEmpty, !yes else { return true }
        printOut(report.text(nowMs: wallClockMilliseconds()))
        writeText("\nAbort \(open.count == 1 ? "1 transaction" : "\(open.count) transactions")? Their rows are never seen. [y/N] ", to: 1)
        guard let answer = readLine() else { throw CommandFailure("nothing was aborted: nobody answered", hint: "add --yes where nobody can") }
        guard ["y", "yes"].contains(answer.lowercased()) else { throw CommandFailure("nothing was aborted") }
        return true
    }

    private func show(_ report: TransactionReport) throws {
        printOut(json ? report.json().pretty : report.text(nowMs: wallClockMilliseconds()))
        if report.entries.contains(where: { $0.outcome?.isFailure == true }) { throw ExitCode.failure }
    }
}
