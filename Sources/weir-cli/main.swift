internal import ArgumentParser
internal import WeirBrokerCommand
internal import WeirCLI
internal import WeirKafkaCommand

/// `weir`, with the broker and what looks after Kafka: the command line in WeirCLI is linked into every job, which has no use for them.
struct Program: ParsableCommand {
    static let configuration: CommandConfiguration = {
        var configuration = WeirCommand.configuration
        configuration.subcommands += [BrokerCommand.self, KafkaCommand.self]
        return configuration
    }()
}

Program.main(WeirCommand.words(CommandLine.arguments.dropFirst()))
