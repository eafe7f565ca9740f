package import ArgumentParser

/// `weir kafka`: what a job's Kafka sinks leave in a cluster.
package struct KafkaCommand: ParsableCommand {
    package static let configuration = CommandConfiguration(
        commandName: "kafka", abstract: "Look after what Kafka sinks leave in a Kafka cluster.", subcommands: [TransactionsCommand.self])

    package init() {}
}
