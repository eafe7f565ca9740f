internal import ArgumentParser
internal import Glibc
internal import Logging
internal import WeirBase
internal import WeirConfiguration
internal import WeirTaskManager

struct TaskManagerCommand: ParsableCommand {
    static let configuration = CommandConfiguration(
        commandName: "taskmanager", abstract: "Offers slots to a JobManager and runs the workers of its jobs.", version: "weir 0.1.0")

    @Option(help: ArgumentHelp("The configuration; default: weir.yaml in WEIR_CONF_DIR.", valueName: "file"))
    var config: String?

    @Option(name: .customShort("D"), help: ArgumentHelp("Set a configuration key.", valueName: "key=value"))
    var definitions: [String] = []

    @Flag(help: "End when standard input does too: for programs that start a taskmanager and may die.")
    var untilStdinEnds = false

    func run() throws {
        let process: TaskManagerProcess
        do {
            let configuration = try ConfigurationLoader.load(
                file: config, environment: TaskManagerProcess.environment, definitions: definitions)
            process = try TaskManagerProcess(
                configuration: configuration, print: { TaskManagerProcess.write($0, to: 1) }, complain: { TaskManagerProcess.write($0, to: 2) })
        } catch {
            TaskManagerProcess.write("error: \(error)", to: 2)
            throw ExitCode.validationFailure
        }
        LoggingSystem.bootstrap { StreamLogHandler.standardError(label: $0) }
        let code = process.run(logger: Logger(label: "taskmanager"), untilInputEnds: untilStdinEnds)
        // Without the exit handlers: other threads may be in the middle of something.
        if code == 0 { _exit(0) }
        throw ExitCode(code)
    }
}

// The parser takes -D key=value, and people also write -Dkey=value.
TaskManagerCommand.main(
    CommandLine.arguments.dropFirst().flatMap { $0.hasPrefix("-D") && $0 != "-D" ? ["-D", String($0.dropFirst(2))] : [$0] })
