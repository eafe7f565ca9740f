// The job of the tests of exactly-once: sums what comes for each key, from Kafka to Kafka, and goes wrong where a test says so.
import Weir

@Record struct Addend {
    var key: String
    var value: Int64
}

@Record struct Total: BitwiseCopyable {
    var count: Int64 = 0
    var sum: Int64 = 0
}

struct Sum: AggregateFunction {
    func create() -> Total { Total() }

    func add(_ row: Addend, to accumulator: inout Total) {
        accumulator.count += 1
        accumulator.sum += row.value
    }

    func merge(_ other: Total, into accumulator: inout Total) {
        accumulator.count += other.count
        accumulator.sum += other.sum
    }

    func result(of accumulator: Total) -> Total { accumulator }
}

@main struct SummingJob: StreamJob {
    @Option(help: "Kafka's bootstrap servers.") var bootstrap: String
    @Option(help: "The topic of the addends: {\"key\":\"k\",\"value\":1}.") var input: String
    @Option(help: "The topic of the totals: \"key count sum\" for every addend.") var output: String
    @Option(help: "The transactional id prefix.") var prefix = "totals"
    @Option(help: "none, atLeastOnce or exactlyOnce.") var delivery = "exactlyOnce"
    @Option(help: "A directory of files that say what is to go wrong.") var signals: String?

    func validate() throws {
        guard KafkaDelivery(rawValue: delivery) != nil else { throw ValidationError("--delivery is none, atLeastOnce or exactlyOnce") }
    }

    func define(in job: JobContext) throws {
        let signals = Signals(signals)
        var sink = KafkaSink(bootstrap, topic: output, format: StringFormat())
            .keyed { @Sendable line in String(line.prefix { $0 != " " }) }
            .delivery(KafkaDelivery(rawValue: delivery) ?? .exactlyOnce).transactionalIDPrefix(prefix)
        if let signals { sink = sink.onStep { signals.passed($0, $1) } }
        try job.source(.kafka(bootstrap, topics: [input], format: .json(Addend.self)).starting(at: .earliest), uid: "addends")
            .map { row in
                try signals?.failIfTold()
                return row
            }
            .keyed(by: \.key)
            .aggregate(Sum()) { key, total in "\(key) \(total.count) \(total.sum)" }
            .uid("sums")
            .sink(to: sink, uid: "totals")
    }
}
