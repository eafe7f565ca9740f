import Weir

/// The running sum of ``KeyedSumJob`` over rows that end, with checkpoints or without.
struct CheckpointedSumJob: StreamJob {
    static let word = "checkpointed-sum"
    @Argument var word: String
    @Option var keys: UInt64
    @Option var records: UInt64
    @Option(help: "Milliseconds from one checkpoint to the next; 0 for none.") var interval: Int64
    @Option var directory: String

    func define(in job: JobContext) throws {
        let keys = keys
        job.checkpointing.interval = .milliseconds(interval)
        job.checkpointing.directory = directory
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
    /// Rows a second with a checkpoint every second, as a part of those without; runs of both kinds in turn.
    static var checkpointRatio: [Benchmark] {
        [
            Benchmark(name: "checkpoint.everySecond.ratio", unit: "", goal: .atLeast(0.85)) {
                let (keys, records) = (1_000_000, 40_000_000)
                func seconds(_ interval: Int) throws -> Double {
                    let directory = try ScratchDirectory()
                    let process = try MeasuredProcess(
                        "",
                        [
                            CheckpointedSumJob.word, "--keys", "\(keys)", "--records", "\(records)", "--interval", "\(interval)", "--directory",
                            directory.path,
                        ], environment: ["WEIR_PARALLELISM": "1"])
                    _ = try process.finish()
                    return (ContinuousClock.now - process.started).inSeconds
                }
                let values = try (0..<3).map { _ in
                    let without = try seconds(0)
                    return without / (try seconds(1_000))
                }
                return Samples(values, setup: "\(keys) keys, uniform, \(records) records, parallelism 1, embedded cluster, wall time")
            }
        ]
    }
}
