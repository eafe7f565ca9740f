package import ArgumentParser
internal import Glibc
internal import WeirBase
internal import WeirConfiguration

/// `weir`: the command line of a cluster.
package struct WeirCommand: ParsableCommand {
    package static let configuration = CommandConfiguration(
        commandName: "weir", abstract: "Run and watch jobs on a Weir cluster.", version: "weir \(weirVersion)",
        subcommands: [
            RunCommand.self, ListCommand.self, InfoCommand.self, CheckpointsCommand.self, SavepointCommand.self, StopCommand.self,
            CancelCommand.self, LogsCommand.self, ClusterCommand.self,
        ])

    package init() {}

    /// The words of a command line as the parser takes them: `-Dkey=value`, up to `--`, becomes `-D key=value`.
    package static func words(_ arguments: some Sequence<String>) -> [String] {
        var words: [String] = []
        var ended = false
        for word in arguments {
            if word == "--" { ended = true }
            if !ended, word.hasPrefix("-D"), word != "-D" {
                words += ["-D", String(word.dropFirst(2))]
            } else {
                words.append(word)
            }
        }
        return words
    }
}

/// The options of every command.
struct ClusterOptions: ParsableArguments {
    @Option(
        name: [.customLong("jobmanager"), .customShort("m")],
        help: ArgumentHelp("Where the JobManager is; default: jobmanager.rpc.address and .port of the configuration.", valueName: "host:port"))
    var jobManager: String?

    @Option(help: ArgumentHelp("The configuration; default: weir.yaml in WEIR_CONF_DIR.", valueName: "file"))
    var config: String?

    @Flag(help: "Print JSON for programs.")
    var json = false

    /// The layers of the configuration; a `-D` may also say where the JobManager is.
    func configuration(definitions: [String] = []) throws -> Configuration {
        do {
            return try ConfigurationLoader.load(file: config, environment: processEnvironment(), definitions: definitions)
        } catch {
            throw usage(error.description)
        }
    }

    func address(_ configuration: Configuration) throws -> JobManagerAddress {
        // A cluster id is compared only where somebody set one.
        let clusterID = configuration.values["cluster.id"] ?? ""
        let port = UInt16(clamping: configuration.integer("jobmanager.rpc.port") ?? 6_123)
        if let jobManager {
            guard let address = JobManagerAddress(jobManager, defaultPort: port, clusterID: clusterID) else {
                throw usage("--jobmanager \(jobManager): expected host:port")
            }
            return address
        }
        guard port > 0 else { throw usage("jobmanager.rpc.port is 0: say where the JobManager listens with --jobmanager host:port") }
        return JobManagerAddress(host: configuration.string("jobmanager.rpc.address") ?? "127.0.0.1", port: port, clusterID: clusterID)
    }

    func connect() throws -> JobManagerClient {
        try JobManagerClient(try address(try configuration()))
    }
}

/// A mistake of the command line: said, then exit code 64.
package func usage(_ message: String) -> ExitCode {
    writeText("error: \(message)\n", to: 2)
    return .validationFailure
}

/// Runs a command's body; a failure is said on stderr and becomes exit code 1.
package func reportingFailure<R>(_ body: () throws -> R) throws -> R {
    do {
        return try body()
    } catch let failure as CommandFailure {
        writeText(failure.description + "\n", to: 2)
        throw ExitCode.failure
    }
}

package func printOut(_ text: String) { writeText(text + "\n", to: 1) }

func processEnvironment() -> [String: String] {
    var result: [String: String] = [:]
    var entry = environ
    while let text = entry.pointee {
        entry += 1
        let pair = String(cString: text).split(separator: "=", maxSplits: 1, omittingEmptySubsequences: false)
        if pair.count == 2 { result[String(pair[0])] = String(pair[1]) }
    }
    return result
}
