import Glibc
import Weir

/// How the job shall go wrong. Files are signals: a test makes one while the job runs.
struct MisbehaviourOptions: ParsableArguments {
    @Option(help: "User code traps when this file is there; it takes the file away first, so that it traps once.") var trapFile: String?
    @Option(help: "User code takes long for some of the rows as long as this file is there.") var slowFile: String?
    @Option(help: "How long, in microseconds.") var slowMicroseconds: UInt32 = 20_000
    @Option(help: "A worker waits in define(in:) as long as this file is there.") var slowStartFile: String?
    @Option(help: "A worker can write files of this many bytes and no more.") var fileBytesMax: UInt64?
    @Option(help: "A worker kills itself between a checkpoint's completion and the commit of its transaction while this file is there.")
    var killBeforeCommitFile: String?
    @Flag(help: "define(in:) traps.") var crashInDefine = false
    @Flag(help: "define(in:) traps in workers.") var crashInWorker = false
    @Flag(help: "Workers define another graph than was submitted.") var otherGraphInWorker = false

    private var isWorker: Bool { getenv("WEIR_MODE").map { String(cString: $0) } == "worker" }

    /// The uid is part of the graph's hash.
    var windowUID: String { otherGraphInWorker && isWorker ? "windows-of-the-worker" : "windows" }

    /// What to do once a checkpoint has completed.
    func atCommit() -> @Sendable () -> Void {
        guard let killBeforeCommitFile else { return {} }
        return { if access(killBeforeCommitFile, F_OK) == 0 { kill(getpid(), SIGKILL) } }
    }

    func whileDefining() {
        if crashInDefine || (crashInWorker && isWorker) { preconditionFailure("this job was told to crash in define") }
        guard isWorker else { return }
        if let slowStartFile { while access(slowStartFile, F_OK) == 0 { usleep(1_000) } }
        if let fileBytesMax {
            var limit = rlimit(rlim_cur: rlim_t(fileBytesMax), rlim_max: rlim_t(fileBytesMax))
            guard setrlimit(__rlimit_resource_t(RLIMIT_FSIZE.rawValue), &limit) == 0 else { preconditionFailure("no limit on file sizes can be set") }
        }
    }
}

/// Goes wrong in the middle of the data.
struct Misbehaviour: Sendable {
    private let trapFile: String?
    private let slowFile: String?
    private let slowMicroseconds: UInt32

    init(_ options: MisbehaviourOptions) {
        trapFile = options.trapFile
        slowFile = options.slowFile
        slowMicroseconds = options.slowMicroseconds
    }

    func strike() {
        if let trapFile, access(trapFile, F_OK) == 0, unlink(trapFile) == 0 { preconditionFailure("a measurement that cannot be") }
        if let slowFile, access(slowFile, F_OK) == 0 { usleep(slowMicroseconds) }
    }
}
