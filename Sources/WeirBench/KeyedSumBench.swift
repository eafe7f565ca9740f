import Weir
import WeirTestKit

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

    /// The same job on two workers: half of all rows go from process to process, over a socket.
    static var keyedSumExchange: [Benchmark] {
        [
            Benchmark(name: "keyed.sum.10k.w2", unit: "M records/CPU-s", goal: .atLeast(5)) {
                let records = 40_000_000
                let values = try (0..<3).map { _ in
                    let cluster = try LocalCluster(settings: ["cluster.evenly-spread-out-slots": "true"])
                    defer { cluster.stop() }
                    try cluster.startJobManager()
                    let taskManagers = try (1...2).map { number in
                        try MeasuredProcess(
                            cluster.binaries + "/taskmanager",
                            [
                                "-D", "jobmanager.rpc.port=\(cluster.port)", "-D", "io.tmp.dirs=\(cluster.directory)", "-D",
                                "taskmanager.resource-id=tm-\(number)",
                            ])
                    }
                    for taskManager in taskManagers { _ = try taskManager.line(containing: "registered with") }
                    let ran = try cluster.weir([
                        "run", "-p", "2", MeasuredProcess.ownPath, "--", KeyedSumJob.word, "--keys", "10000", "--records", "\(records)",
                    ])
                    guard ran.code == 0 else { throw benchFailure("the job failed", cause: ran.output.joined(separator: "\n")) }
                    for taskManager in taskManagers { taskManager.terminate() }
                    return Double(records) / 1e6 / (try taskManagers.reduce(0) { $0 + (try $1.finish().cpuSeconds) })
                }
                return Samples(
                    values, setup: "10000 keys, uniform, 2 taskmanagers with a worker and a slot each, \(records) records, taskmanagers and workers")
            }
        ]
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
