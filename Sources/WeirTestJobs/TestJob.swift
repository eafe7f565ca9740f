// The job of the tests that break things: rows from a seed, summed a device and window, to files; and ways to go wrong when told to.
import Weir
import WeirKafka
import WeirTestKit

@Record struct Measurement {
    var device: Int
    var timestamp: Int64
    var value: Int64
}

@Record struct DeviceTotals: BitwiseCopyable {
    var count: Int64 = 0
    var sum: Int64 = 0
}

/// Sums measurements, and goes wrong where a test says so: the user code of the job.
struct Totals: AggregateFunction {
    let misbehaviour: Misbehaviour

    func create() -> DeviceTotals { DeviceTotals() }

    func add(_ row: Measurement, to accumulator: inout DeviceTotals) {
        if row.value & 15 == 0 { misbehaviour.strike() }
        accumulator.count += 1
        accumulator.sum += row.value
    }

    func merge(_ other: DeviceTotals, into accumulator: inout DeviceTotals) {
        accumulator.count += other.count
        accumulator.sum += other.sum
    }

    func result(of accumulator: DeviceTotals) -> DeviceTotals { accumulator }
}

@main struct TestJob: StreamJob {
    @Option(help: "The directory of the windows.") var output: String
    @Option(help: "Rows in all.") var rows: UInt64 = 10_000
    @Option(help: "Rows a second; as fast as they are taken unless said.") var perSecond: Double?
    @Option(help: "Keys.") var devices = 100
    @Option(help: "What the rows follow from.") var seed: UInt64 = 1
    @Option(help: "Read the rows from the topic measurements of this broker instead.") var bootstrap: String?
    @Option(help: "Keep partitions together in event time, to so many milliseconds.") var alignedTo: Int?
    @Option(help: "Write the windows to the topic windows of this broker instead, exactly once.") var windowsTo: String?
    @OptionGroup var misbehaviour: MisbehaviourOptions

    func validate() throws {
        guard devices >= 1 else { throw ValidationError("--devices takes at least 1") }
    }

    func define(in job: JobContext) throws {
        misbehaviour.whileDefining()
        let windows = try measurements(in: job)
            .keyed(by: \.device)
            .window(.tumbling(.milliseconds(SeededRows.windowMilliseconds)))
            .aggregate(Totals(misbehaviour: Misbehaviour(misbehaviour))) { device, window, totals in
                "\(device) \(window.start) \(totals.count) \(totals.sum)"
            }
            .uid(misbehaviour.windowUID)
        guard let windowsTo else {
            // Often enough that files are published, and also left open at barriers, while a test runs.
            windows.sink(to: .lines(output).rollInterval(.seconds(1)), uid: "files")
            return
        }
        let strike = misbehaviour.atCommit()
        let topic = KafkaSink(windowsTo, topic: "windows", format: .string).delivery(.exactlyOnce).transactionalIDPrefix("windows")
        windows.sink(to: topic.onStep { step, _ in if step == .completed { strike() } }, uid: "topic")
    }

    private func measurements(in job: JobContext) throws -> DataStream<Measurement> {
        let disorder = Duration.milliseconds(SeededRows.disorderMilliseconds)
        var watermarks = WatermarkStrategy<Measurement>.boundedOutOfOrderness(disorder, timestamp: \.timestamp)
        if let alignedTo { watermarks = watermarks.aligned(with: "measurements", within: .milliseconds(alignedTo)) }
        if let bootstrap {
            let topic = KafkaSource.kafka(bootstrap, topics: ["measurements"], format: .json(Measurement.self)).lookupTimeout(.seconds(2))
            return try job.source(topic.starting(at: .earliest), watermarks: watermarks, uid: "measurements")
        }
        let seeded = SeededRows(seed: seed, devices: devices)
        let source = GeneratedSource<Measurement>(count: rows, rate: perSecond) { index in
            let row = seeded.row(index)
            return Measurement(device: row.device, timestamp: row.timestamp, value: row.value)
        }
        return try job.source(source, watermarks: watermarks, uid: "measurements")
    }
}
