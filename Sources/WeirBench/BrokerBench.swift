extension Benchmark {
    private static let recordBytes = 100
    private static let partitions: Int32 = 4

    /// `weir broker` as a process of its own, with librdkafka in this one as its client.
    static var broker: [Benchmark] {
        let setup = "records of \(recordBytes) bytes, \(partitions) partitions, data on the disk without --fsync; librdkafka on the same machine"
        return [
            Benchmark(name: "broker.produce", unit: "records/s", goal: .atLeast(300_000)) {
                let broker = try BenchBroker()
                return Samples(
                    try (0..<5).map { run in try broker.produce(2_000_000, to: "produce-\(run)", partitions, recordBytes) },
                    setup: "2M \(setup), acks=all")
            },
            Benchmark(name: "broker.consume", unit: "records/s", goal: .atLeast(600_000)) {
                let broker = try BenchBroker()
                _ = try broker.produce(2_000_000, to: "consume", partitions, recordBytes)
                return Samples(try (0..<5).map { _ in try broker.consume(2_000_000, from: "consume", partitions) }, setup: "2M \(setup)")
            },
            Benchmark(name: "broker.start", unit: "s", goal: .atMost(0.1)) {
                Samples(try (0..<11).map { _ in try BenchBroker().startSeconds }, setup: "from the spawn to its ready line, an empty directory")
            },
            Benchmark(name: "broker.memory", unit: "MB", goal: .atMost(20)) {
                Samples(
                    try (0..<5).map { _ in Double(try BenchBroker().process.residentBytes) / 1e6 },
                    setup: "resident once it is ready, an empty directory")
            },
        ]
    }
}
