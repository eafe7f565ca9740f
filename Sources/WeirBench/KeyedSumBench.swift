import Weir

@Record struct KeyedNumber: BitwiseCopyable {
    var key: Int64
    var value: Int64
}

/// Generated rows → hash exchange → running sum a key → discarded.
struct KeyedSumJob: StreamJob {
    static let word = "keyed-sum"
    @Argument var word: String
    @Option var keys: UInt64
    @Option var records: UInt64

    func define(in job: JobContext) throws {
        let keys = keys
        try job.source(
            GeneratedSource(count: records, seed: 1) { index, random in
                KeyedNumber(key: Int64(truncatingIfNeeded: ((random >> 32) &* keys) >> 32), value: Int64(truncatingIfNeeded: index))
            }, uid: "numbers"
        )
        .keyed(by: \.key)
        .sum(\.value)
        .uid("sums")
        .discard()
    }
}

extension Benchmark {
    /// The job alone, on its embedded cluster: slots, rings and exchange of a worker. At parallelism 2 half of all rows change the slot.
    static var keyedSum: [Benchmark] {
        [(keys: 10_000, name: "10k", records: 60_000_000, goal: 12.5), (keys: 1_000_000, name: "1m", records: 30_000_000, goal: 5)]
            .flatMap { keys, name, records, goal in
                [1, 2].map { parallelism in
                    Benchmark(name: "keyed.sum.\(name).p\(parallelism)", unit: "M records/CPU-s", goal: .atLeast(goal)) {
                        try throughput(
                            records: records, runs: 5, parallelism: parallelism,
                            arguments: [KeyedSumJob.word, "--keys", "\(keys)", "--records", "\(records)"],
                            setup: "\(keys) keys, uniform, parallelism \(parallelism)")
                    }
                }
            }
    }

    /// Millions of records a CPU second of a job that runs to its end in a process of its own, JobManager and start included.
    static func throughput(records: Int, runs: Int, parallelism: Int, arguments: [String], setup: String) throws -> Samples {
        let values = try (0..<runs).map { _ in
            let process = try MeasuredProcess("", arguments, environment: ["WEIR_PARALLELISM": "\(parallelism)"])
            return Double(records) / 1e6 / (try process.finish().cpuSeconds)
        }
        return Samples(values, setup: "\(setup), \(records) records, whole process on the embedded cluster, user and system time")
    }
}
