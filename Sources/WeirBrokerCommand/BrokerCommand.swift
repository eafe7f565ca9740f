package import ArgumentParser
internal import Glibc
internal import Logging
internal import WeirBase
internal import WeirBroker

/// `weir broker`: Kafka's protocol on one node, for development and tests.
package struct BrokerCommand: ParsableCommand {
    package static let configuration = CommandConfiguration(
        commandName: "broker", abstract: "Run a Kafka broker for development and tests.",
        discussion: """
            One node, one process, Kafka's protocol with transactions. It is not for production: there, run Kafka. \
            Without --data everything is in memory and gone at the end.
            """)

    @Option(help: "The address to listen on.")
    var host = "127.0.0.1"

    @Option(help: "The port to listen on; 0 takes a free one, which the first line of the output names.")
    var port: UInt16 = 0

    @Option(help: ArgumentHelp("Where to keep the data.", valueName: "directory"))
    var data: String?

    @Flag(help: "Keep the data in memory, the default.")
    var memory = false

    @Flag(help: "Acknowledge only what is on the disk: what was acknowledged survives a crash of the host.")
    var fsync = false

    @Option(help: ArgumentHelp("Topics to create, with their partitions: orders:4,results:1.", valueName: "name:partitions,…"))
    var topics = ""

    @Option(help: ArgumentHelp("What goes wrong on purpose; proto-docs/broker.md lists the lines.", valueName: "file"))
    var faults: String?

    @Option(name: .customLong("property"), help: ArgumentHelp("Set one of Kafka's broker properties.", valueName: "key=value"))
    var properties: [String] = []

    @Option(help: "trace, debug, info, notice, warning or error, to stderr.")
    var logLevel = "warning"

    @Flag(help: "End when standard input does too: for programs that start a broker and may die.")
    var untilStdinEnds = false

    package init() {}

    package func run() throws {
        // Every thread inherits the mask, so that the signals come to `sigwait` below and nowhere else.
        var signals = sigset_t()
        sigemptyset(&signals)
        sigaddset(&signals, SIGTERM)
        sigaddset(&signals, SIGINT)
        pthread_sigmask(SIG_BLOCK, &signals, nil)
        let broker: Broker
        do {
            broker = try Broker(options: try options())
            try broker.start { failure in
                Self.say("error: \(failure)\n", to: 2)
                _exit(1)
            }
        } catch {
            Self.say("error: \(error)\n", to: 2)
            throw ExitCode.failure
        }
        Self.say("broker ready on \(broker.bootstrap), \(place); for development and tests\n", to: 1)
        if untilStdinEnds { try Self.watchStandardInput() }
        var signal: Int32 = 0
        sigwait(&signals, &signal)
        broker.stop()
    }

    /// Has the process end as by a signal when standard input ends.
    private static func watchStandardInput() throws {
        var thread = pthread_t()
        let code = pthread_create(
            &thread, nil,
            { _ in
                var buffer = [UInt8](repeating: 0, count: 256)
                while true {
                    let count = read(STDIN_FILENO, &buffer, buffer.count)
                    if count > 0 || (count < 0 && errno == EINTR) { continue }
                    kill(getpid(), SIGTERM)
                    return nil
                }
            }, nil)
        guard code == 0 else { throw ExitCode.failure }
        pthread_detach(thread)
    }

    private var place: String { data.map { "data in \($0)" } ?? "data in memory" }

    func options() throws -> BrokerOptions {
        var options = BrokerOptions()
        options.host = host
        options.port = port
        guard data == nil || !memory else { throw BrokerFailure("--data and --memory exclude each other") }
        guard data != nil || !fsync else { throw BrokerFailure("--fsync needs --data") }
        if let data { options.storage = .directory(data) }
        options.fsync = fsync
        options.topics = try initialTopics()
        for property in properties {
            let pair = property.split(separator: "=", maxSplits: 1, omittingEmptySubsequences: false)
            guard pair.count == 2 else { throw BrokerFailure("--property \(property): key=value is expected") }
            options.properties[String(pair[0])] = String(pair[1])
        }
        if let faults { options.faults = try FaultFile.load(faults) }
        guard let level = Logger.Level(rawValue: logLevel) else { throw BrokerFailure("--log-level \(logLevel) is no level") }
        options.logger = Logger(label: "weir.broker") { StreamLogHandler.standardError(label: $0) }
        options.logger.logLevel = level
        return options
    }

    private func initialTopics() throws -> [BrokerOptions.InitialTopic] {
        try topics.split(separator: ",").map { item in
            let parts = item.split(separator: ":", maxSplits: 1, omittingEmptySubsequences: false)
            guard let partitions = parts.count == 2 ? Int32(parts[1]) : 1, partitions > 0 else {
                throw BrokerFailure("--topics \(item): name:partitions is expected")
            }
            return BrokerOptions.InitialTopic(name: String(parts[0]), partitions: partitions)
        }
    }

    private static func say(_ text: String, to descriptor: Int32) {
        let bytes = Array(text.utf8)
        var sent = 0
        while sent < bytes.count {
            let count = bytes.withUnsafeBytes { write(descriptor, $0.baseAddress.map { $0 + sent }, bytes.count - sent) }
            if count < 0, errno == EINTR { continue }
            guard count > 0 else { return }
            sent += count
        }
    }
}
