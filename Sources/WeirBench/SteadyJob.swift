import Weir

/// A keyed job without end at a steady rate: what runs while something else is measured.
struct SteadyJob: StreamJob {
    static let word = "steady"
    @Argument var word: String
    @Option var rate = 50_000.0

    func define(in job: JobContext) throws {
        try job.source(
            GeneratedSource(rate: rate, seed: 1) { index, random in
                KeyedNumber(key: Int64(truncatingIfNeeded: random % 10_000), value: Int64(truncatingIfNeeded: index))
            }, uid: "numbers"
        )
        .keyed(by: \.key)
        .sum(\.value)
        .uid("sums")
        .discard()
    }
}
