import WeirBase

extension Benchmark {
    private static let records = 3_000_000
    private static let devices = 10_000
    private static let partitions: Int32 = 4
    private static let input = "telemetry"

    /// `weir broker` in a process of its own, records produced before; what is measured is the process of the job, librdkafka's threads included.
    static var kafka: [Benchmark] {
        [
            Benchmark(name: "kafka.windows", unit: "M records/CPU-s", goal: .atLeast(1)) {
                let broker = try filledBroker()
                return try perCPUSecond("10000 devices, 10 s windows, 3 of 9 fields read, discarded") { _ in
                    let job = try startJob(["--bootstrap", broker.bootstrap, "--topic", input], KafkaWindowsJob.word)
                    return try job.finish(watchingThreads: true)
                }
            },
            Benchmark(name: "kafka.passthrough", unit: "M records/CPU-s", goal: .atLeast(1)) {
                let broker = try filledBroker()
                return try perCPUSecond("topic to topic, at least once, a checkpoint a second") { run in
                    try passThrough(broker, "plain-\(run)").cost
                }
            },
            Benchmark(name: "kafka.exactlyOnce.ratio", unit: "ratio", goal: .atLeast(0.9)) {
                let broker = try filledBroker()
                let runs = try (0..<5).map { run in
                    (
                        plain: try passThrough(broker, "plain-\(run)"), exact: try passThrough(broker, "exact-\(run)", exactlyOnce: true)
                    )
                }
                let rates = Samples(runs.map { Double(records) / 1e3 / $0.plain.seconds }, setup: "")
                let cpu = Samples(runs.map { $0.exact.cost.cpuSeconds / $0.plain.cost.cpuSeconds }, setup: "")
                return Samples(
                    runs.map { $0.plain.seconds / $0.exact.seconds },
                    setup: "records a second exactly once / at least once, the latter \(formatted(rates.median)) k/s; topic to topic, a checkpoint a"
                        + " second, from the first record to the last committed one; CPU time \(formatted(cpu.median)) times; \(conditions)")
            },
        ]
    }

    private static var conditions: String {
        "\(records) records of 150 bytes, \(partitions) partitions, parallelism 1, broker in its own process on the same machine"
    }

    private static func filledBroker() throws -> BenchBroker {
        let broker = try BenchBroker()
        let telemetry = TelemetryLines(devices: devices, seed: 1)
        try broker.produce(records, to: input, partitions) { index, value in telemetry.write(index, to: &value) }
        return broker
    }

    private static func startJob(_ arguments: [String], _ word: String) throws -> MeasuredProcess {
        try MeasuredProcess("", [word] + arguments, environment: ["WEIR_PARALLELISM": "1"])
    }

    private static func passThrough(
        _ broker: BenchBroker, _ output: String, exactlyOnce: Bool = false
    ) throws -> (seconds: Double, cost: ProcessCost) {
        try broker.makeTopic(output)
        let job = try startJob(
            ["--bootstrap", broker.bootstrap, "--input", input, "--output", output] + (exactlyOnce ? ["--exactly-once"] : []),
            KafkaPassThroughJob.word)
        let seconds = try broker.secondsToFill(output, partitions, records: records)
        return (seconds, try job.finish(watchingThreads: true))
    }

    private static func perCPUSecond(_ what: String, _ run: (Int) throws -> ProcessCost) throws -> Samples {
        let costs = try (0..<5).map(run).sorted { $0.cpuSeconds < $1.cpuSeconds }
        return Samples(
            costs.map { Double(records) / 1e6 / $0.cpuSeconds },
            setup: "\(what); \(conditions), user and system time of the whole process, start included; ns a record: \(split(costs[costs.count / 2]))")
    }

    /// Where the time of a run went.
    private static func split(_ cost: ProcessCost) -> String {
        func nanoseconds(_ seconds: Double) -> String { "\(Int((seconds * 1e9 / Double(records)).rounded()))" }
        func total(_ prefix: String) -> Double { cost.threads.filter { $0.key.hasPrefix(prefix) }.values.reduce(0, +) }
        let slots = total("slot-")
        let librdkafka = total("rdk:")
        return "slot \(nanoseconds(slots)), librdkafka's threads \(nanoseconds(librdkafka)), others"
            + " \(nanoseconds(max(0, cost.cpuSeconds - slots - librdkafka)))"
    }
}
