// Container telemetry from Kafka: per container and window the count, minimum, maximum and mean of temperature and CO2, to Kafka.
//
// Input, one JSON object a record on the topic `telemetries` (fields beyond these are skipped):
//     {"containerID":"C-17","timestamp":1700000000000,"temperature":4.2,"co2":402.5}
// Output on the topic `summaries`:
//     {"containerID":"C-17","windowStart":1699999995000,"count":3,"temperatureMinimum":4.0,…}
import Weir

@Record struct Reading {
    var containerID: String
    /// Event time, milliseconds since 1970.
    var timestamp: Int64
    var temperature: Double
    var co2: Double
}

@Record struct Summary {
    var containerID: String
    var windowStart: Int64
    var count: Int
    var temperatureMinimum: Double
    var temperatureMaximum: Double
    var temperatureMean: Double
    var co2Minimum: Double
    var co2Maximum: Double
    var co2Mean: Double
}

/// Both measures in one pass. Plain numbers only, so that the state lies inline in the table.
@Record struct Measures: BitwiseCopyable {
    var count = 0
    var temperature = Measure()
    var co2 = Measure()
}

@Record struct Measure: BitwiseCopyable {
    var minimum = Double.infinity
    var maximum = -Double.infinity
    var sum = 0.0

    mutating func add(_ value: Double) {
        minimum = min(minimum, value)
        maximum = max(maximum, value)
        sum += value
    }

    mutating func merge(_ other: Measure) {
        minimum = min(minimum, other.minimum)
        maximum = max(maximum, other.maximum)
        sum += other.sum
    }
}

struct TelemetryMeasures: AggregateFunction {
    func create() -> Measures { Measures() }

    func add(_ row: Reading, to accumulator: inout Measures) {
        accumulator.count += 1
        accumulator.temperature.add(row.temperature)
        accumulator.co2.add(row.co2)
    }

    func merge(_ other: Measures, into accumulator: inout Measures) {
        accumulator.count += other.count
        accumulator.temperature.merge(other.temperature)
        accumulator.co2.merge(other.co2)
    }

    func result(of accumulator: Measures) -> Measures { accumulator }
}

@main struct TelemetryAggregate: StreamJob {
    @Option(help: "Kafka's bootstrap servers.") var bootstrap = "localhost:9092"
    @Option(help: "The length of a window in seconds.") var windowSeconds = 15
    @Option(help: "The topic of the readings.") var input = "telemetries"
    @Option(help: "The topic of the summaries.") var output = "summaries"
    @Flag(help: "Write each summary once, in transactions; else a failure may write summaries again.") var exactlyOnce = false

    func define(in job: JobContext) throws {
        let summaries = KafkaSink(bootstrap, topic: output, format: .json(Summary.self))
        try job.source(
            .kafka(bootstrap, topics: [input], format: .json(Reading.self)).starting(at: .earliest),
            watermarks: .boundedOutOfOrderness(.seconds(5), timestamp: \.timestamp), uid: "readings"
        )
        .filter { $0.temperature.isFinite && $0.co2.isFinite }
        .keyed(by: \.containerID)
        .window(.tumbling(.seconds(windowSeconds)))
        .aggregate(TelemetryMeasures()) { key, window, m in
            let count = Double(m.count)
            return Summary(
                containerID: key, windowStart: window.start, count: m.count,
                temperatureMinimum: m.temperature.minimum, temperatureMaximum: m.temperature.maximum, temperatureMean: m.temperature.sum / count,
                co2Minimum: m.co2.minimum, co2Maximum: m.co2.maximum, co2Mean: m.co2.sum / count)
        }
        .uid("per-container")
        .sink(to: exactlyOnce ? summaries.delivery(.exactlyOnce).transactionalIDPrefix(output) : summaries, uid: "summaries")
    }
}
