internal import ArgumentParser
internal import WeirBrokerCommand
internal import WeirCLI

/// `weir`, with the broker: the command line in WeirCLI is linked into every job, which has no use for one.
struct Program: ParsableCommand {
    static let configuration: CommandConfiguration = {
        var configuration = WeirCommand.configuration
        configuration.subcommands.append(BrokerCommand.self)
        return configuration
    }()
}

Program.main(WeirCommand.words(CommandLine.arguments.dropFirst()))
