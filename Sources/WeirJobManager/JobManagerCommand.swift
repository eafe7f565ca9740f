package import ArgumentParser
internal import CWeirProcess
@preconcurrency internal import Glibc
internal import Logging
internal import WeirBase
internal import WeirConfiguration

/// The `jobmanager` program.
package struct JobManagerCommand: ParsableCommand {
    package static let configuration = CommandConfiguration(
        commandName: "jobmanager", abstract: "Schedules Weir jobs onto taskmanagers and coordinates their checkpoints.", version: JobManager.software)

    @Option(help: ArgumentHelp("A YAML file of settings; default: weir.yaml in $WEIR_CONF_DIR.", valueName: "file")) var config: String?
    @Option(name: .customShort("D"), help: ArgumentHelp("A setting, key=value; wins over file and environment.", valueName: "key=value"))
    var define: [String] = []

    @Flag(help: "End when standard input does too: for programs that start a jobmanager and may die.") var untilStdinEnds = false

    package init() {}

    package func run() throws {
        setlinebuf(stdout)
        let configuration: Configuration
        do {
            configuration = try ConfigurationLoader.load(file: config, environment: Self.environment(), definitions: define)
            for (name, value) in configuration.effective where !value.isEmpty { print("  \(name): \(value)") }
        } catch {
            fputs("jobmanager: \(error)\n", stderr)
            throw ExitCode(64)
        }
        // Blocked before any thread starts, so that only the wait below takes them.
        var signals = sigset_t()
        sigemptyset(&signals)
        sigaddset(&signals, SIGTERM)
        sigaddset(&signals, SIGINT)
        pthread_sigmask(SIG_BLOCK, &signals, nil)
        signal(SIGPIPE, SIG_IGN)
        let jobManager: JobManager
        do {
            var logger = Logger(label: "weir.jobmanager") { StreamLogHandler.standardError(label: $0) }
            logger.logLevel = .info
            jobManager = try JobManager(configuration: configuration, logger: logger)
        } catch {
            fputs("jobmanager cannot start: \(error)\n", stderr)
            throw ExitCode(1)
        }
        let host = configuration.string("jobmanager.bind-host") ?? ""
        print("jobmanager ready: listening on \(host):\(jobManager.port), storage in \(jobManager.storageDirectory)")
        guard !untilStdinEnds || weir_end_with_standard_input() == 0 else { throw ExitCode(1) }
        var received: Int32 = 0
        sigwait(&signals, &received)
        print("jobmanager stops")
        // A second signal ends the process at once.
        signal(SIGTERM, SIG_DFL)
        signal(SIGINT, SIG_DFL)
        pthread_sigmask(SIG_UNBLOCK, &signals, nil)
        jobManager.stop()
    }

    private static func environment() -> [String: String] {
        var result: [String: String] = [:]
        var entry = environ
        while let pointer = entry.pointee {
            let text = String(cString: pointer)
            if let equals = text.firstIndex(of: "=") { result[String(text[..<equals])] = String(text[text.index(after: equals)...]) }
            entry += 1
        }
        return result
    }
}
