internal import Foundation
internal import Glibc
internal import Logging
internal import Synchronization
internal import WeirBase
internal import WeirCLI
internal import WeirConfiguration
internal import WeirGraph
internal import WeirJobManager
internal import WeirStreams
internal import WeirTaskManager
internal import WeirTransport
internal import WeirWire
internal import WeirWorker

/// A JobManager, a TaskManager and the job's worker in this one process, joined by loopback: the code paths of a cluster.
enum EmbeddedCluster {
    /// Runs the job to its end and exits with 0 where it finished, else 1.
    static func run(_ program: JobProgram) -> Never {
        signal(SIGPIPE, SIG_IGN)
        do {
            exit(try runToEnd(program) ? 0 : 1)
        } catch {
            JobMain.die("\(program.jobGraph.name) cannot run: \(error)", code: 1)
        }
    }

    private static func runToEnd(_ program: JobProgram) throws -> Bool {
        var configuration = try ConfigurationLoader.load(file: nil, environment: environment(), definitions: [])
        let scratch = try TemporaryDirectory(below: configuration.string("io.tmp.dirs") ?? "/tmp")
        defer { scratch.remove() }
        var settings = ["jobmanager.rpc.port": "0", "jobmanager.bind-host": "127.0.0.1"]
        if configuration.string("jobmanager.storage.dir") == nil { settings["jobmanager.storage.dir"] = scratch.path + "/jobmanager" }
        try configuration.merge(settings, origin: "the embedded cluster")
        var logger = Logger(label: "weir.embedded") { StreamLogHandler.standardError(label: $0) }
        logger.logLevel = .warning

        let jobManager = try JobManager(configuration: configuration, logger: logger, usesArtifacts: false)
        let clusterID = configuration.string("cluster.id") ?? "weir"
        let taskManager = try TaskManager(
            options: TaskManagerOptions(
                resourceID: "embedded", slots: program.jobGraph.slotsNeeded,
                pinsSlots: configuration.boolean("taskmanager.slots.pinned") ?? false, jobManagerPort: jobManager.port, clusterID: clusterID,
                artifactDirectory: scratch.path + "/artifacts", logDirectory: scratch.path + "/log"),
            launcher: ThreadLauncher(program: program, logger: logger), logger: logger)
        taskManager.start()

        var submission = WireSubmitJob()
        submission.name = program.jobGraph.name
        submission.graph = .init(program.jobGraph.encode())
        submission.graphHash = program.jobGraph.hash
        submission.options = program.settings
        submission.parallelism = UInt32(program.graph.defaultParallelism)
        let address = JobManagerAddress(host: "127.0.0.1", port: jobManager.port, clusterID: clusterID)
        let client = try JobManagerClient(address)
        let reply = try client.request(.submitJob, submission, deadline: .seconds(60), as: WireSubmitJobReply.self)
        let attachment = JobAttachment(
            address: address, job: reply.job, asJSON: false, print: { JobMain.say($0) },
            wait: { milliseconds in
                usleep(UInt32(milliseconds) * 1_000)
                return false
            })
        let end = attachment.follow(client)
        // The process ends with this: slots and network threads need no farewell, but files do.
        jobManager.stop()
        return end == .terminal(.finished)
    }

    static func environment() -> [String: String] { ProcessInfo.processInfo.environment }
}

/// A directory of this process's own.
private struct TemporaryDirectory {
    let path: String

    init(below parent: String) throws(ConfigurationError) {
        var template = Array((parent + "/weir-embedded-XXXXXX").utf8CString)
        guard mkdtemp(&template) != nil else {
            throw ConfigurationError(["cannot make a directory below \(parent): \(String(cString: strerror(errno)))"])
        }
        path = String(decoding: template.dropLast().map { UInt8(bitPattern: $0) }, as: UTF8.self)
    }

    /// Deletes the tree.
    func remove() { try? FileManager.default.removeItem(atPath: path) }
}

/// Runs workers on threads of this process.
private struct ThreadLauncher: WorkerLauncher {
    let program: JobProgram
    let logger: Logger
    var needsArtifact: Bool { false }

    func launch(
        _ launch: WorkerLaunch, onExit: @escaping @Sendable (WorkerExit) -> Void
    ) throws(WorkerLaunchFailure) -> any RunningWorkerHandle {
        do {
            return try ThreadWorker(settings: WorkerSettings(environment: launch.environment), program: program, logger: logger, onExit: onExit)
        } catch {
            throw WorkerLaunchFailure("\(error)")
        }
    }
}

private final class ThreadWorker: RunningWorkerHandle, @unchecked Sendable {  // `service` is set once in init.
    private let loop: EventLoop
    private var service: WorkerService?
    private let onExit: @Sendable (WorkerExit) -> Void
    private let hasEnded = Atomic<Bool>(false)

    init(settings: WorkerSettings, program: JobProgram, logger: Logger, onExit: @escaping @Sendable (WorkerExit) -> Void) throws {
        self.onExit = onExit
        loop = try EventLoop(name: "worker")
        service = try WorkerService(settings: settings, program: program, loop: loop, logger: logger) { [weak self] reason in
            self?.end(.exited(1), [reason])
        }
        service?.start()
    }

    var pid: UInt32 { UInt32(getpid()) }
    func stop(grace: Duration) { end(.exited(0), []) }

    private func end(_ status: WorkerExit.Status, _ lines: [String]) {
        guard !hasEnded.exchange(true, ordering: .relaxed) else { return }
        // On a thread of its own: slots are joined, which neither they nor the loop may do.
        var thread = pthread_t()
        let work = Unmanaged.passRetained(
            Work { [self] in
                service?.stop()
                loop.shutDown()
                onExit(WorkerExit(status: status, standardErrorTail: lines))
            })
        let code = pthread_create(
            &thread, nil,
            { argument in
                if let argument { Unmanaged<Work>.fromOpaque(argument).takeRetainedValue().body() }
                return nil
            }, work.toOpaque())
        if code == 0 { pthread_detach(thread) } else { work.release() }
    }
}

private final class Work {
    let body: () -> Void
    init(_ body: @escaping () -> Void) { self.body = body }
}
