@_exported public import ArgumentParser
internal import Foundation
internal import Glibc
internal import Logging
internal import Synchronization
internal import WeirBase
internal import WeirGraph
public import WeirStreams
internal import WeirTransport
internal import WeirWire
internal import WeirWorker

/// A stream job as a program: its options are the job's parameters, ``StreamDefinition/define(in:)`` its graph.
///
///     @main struct Totals: StreamJob {
///         @Option var threshold = 10
///         func define(in job: JobContext) throws { … }
///     }
///
/// Started alone, the program runs the job on an embedded cluster of one process. `weir run` describes it, uploads it, and TaskManagers
/// start it as a worker.
public protocol StreamJob: ParsableArguments, StreamDefinition {
    /// What `weir list` shows; the type's name unless the job says otherwise.
    static var jobName: String { get }
}

extension StreamJob {
    public static var jobName: String { "\(Self.self)" }

    /// The program's entry point.
    public static func main() {
        let job = Self.parseOrExit()
        JobMain.run(job, name: jobName)
    }
}

/// The three lives of a job's program.
enum JobMain {
    static func run(_ definition: some StreamDefinition, name: String) -> Never {
        let environment = EmbeddedCluster.environment()
        let program: JobProgram
        do {
            let context = JobContext(name: name)
            if let parallelism = environment["WEIR_PARALLELISM"].flatMap({ Int($0) }), parallelism > 0 { context.parallelism = parallelism }
            try definition.define(in: context)
            program = try context.build()
        } catch {
            die("\(name) cannot be defined: \(error)", code: 65)
        }
        switch environment["WEIR_MODE"] {
        case "describe": describe(program, environment)
        case "worker": work(program, environment)
        case nil, "": EmbeddedCluster.run(program)
        case let mode?: die("WEIR_MODE is \"\(mode)\": it is describe, worker, or not set", code: 64)
        }
    }

    static func die(_ message: String, code: Int32) -> Never {
        say(message)
        exit(code)
    }

    static func say(_ message: String) { try? FileHandle.standardError.write(contentsOf: Data((message + "\n").utf8)) }

    /// Writes what `weir run` submits: a SubmitJob message without artifact, to the descriptor it names.
    private static func describe(_ program: JobProgram, _ environment: [String: String]) -> Never {
        guard let descriptor = environment["WEIR_OUTPUT_FD"].flatMap({ Int32($0) }) else { die("WEIR_OUTPUT_FD is not set", code: 64) }
        if environment["WEIR_PREFLIGHT"] == "1" { check(program, environment) }
        var message = WireSubmitJob()
        message.name = program.jobGraph.name
        message.graph = .init(program.jobGraph.encode())
        message.graphHash = program.jobGraph.hash
        message.options = program.settings
        message.parallelism = UInt32(program.graph.defaultParallelism)
        let bytes = encoded(message)
        var offset = 0
        while offset < bytes.count {
            let written = bytes.withUnsafeBytes { write(descriptor, $0.baseAddress! + offset, bytes.count - offset) }
            if written < 0 && errno == EINTR { continue }
            guard written > 0 else { die("cannot write the job's description: \(String(cString: strerror(errno)))", code: 74) }
            offset += written
        }
        exit(0)
    }

    /// Lets the connectors look at what they will need. Warnings go to stderr, where `weir run` passes them on; an error ends the program.
    private static func check(_ program: JobProgram, _ environment: [String: String]) {
        var options: [String: String] = [:]
        do {
            if let json = environment["WEIR_JOB_OPTIONS"] { options = try JSONDecoder().decode([String: String].self, from: Data(json.utf8)) }
        } catch {
            say("error: WEIR_JOB_OPTIONS is no JSON object of strings, so the job's options cannot be checked: \(error)")
            exit(66)
        }
        let uids = program.graph.nodes.map(\.uid)
        let unknown = KafkaProperties.problems(with: options, uids: uids).map { PreflightFinding(.error, $0) }
        let findings = unknown + program.preflight.run(settings: options)
        for finding in findings { say("\(finding.severity.rawValue): \(finding.message)") }
        if findings.contains(where: { $0.severity == .error }) { exit(66) }
    }

    private static func work(_ program: JobProgram, _ environment: [String: String]) -> Never {
        do {
            let settings = try WorkerSettings(environment: environment)
            Lifeline.install()
            // A file at its size limit and a pipe that nobody reads are errors of a write, which are told; a signal would end the worker unheard.
            signal(SIGXFSZ, SIG_IGN)
            signal(SIGPIPE, SIG_IGN)
            var logger = Logger(label: "weir.worker") { StreamLogHandler.standardError(label: $0) }
            logger.logLevel = .info
            let loop = try EventLoop(name: "worker")
            let service = try WorkerService(settings: settings, program: program, loop: loop, logger: logger) { reason in
                die("worker \(settings.worker) ends: \(reason)", code: 1)
            }
            service.start()
            while true { pause() }
        } catch {
            die("the worker cannot start: \(error)", code: 1)
        }
    }
}
