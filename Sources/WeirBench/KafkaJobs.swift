import Weir

/// A topic of telemetry → 10 s event-time windows a device → discarded.
struct KafkaWindowsJob: StreamJob {
    static let word = "kafka-windows"
    @Argument var word: String
    @Option var bootstrap: String
    @Option var topic: String

    func define(in job: JobContext) throws {
        try job.source(
            .kafka(bootstrap, topics: [topic], format: .json(ProjectedReading.self)).stopping(at: .latest),
            watermarks: .boundedOutOfOrderness(.seconds(2), timestamp: \.timestamp), uid: "readings"
        )
        .keyed(by: \.containerID)
        .window(.tumbling(.seconds(10)))
        .aggregate(Statistics(of: \.temperature)) { key, window, s in
            DeviceWindow(containerID: key, windowStart: window.start, count: s.count, minimum: s.minimum, maximum: s.maximum, mean: s.mean)
        }
        .uid("windows")
        .discard()
    }
}

/// A topic → another, values as they are.
struct KafkaPassThroughJob: StreamJob {
    static let word = "kafka-pass-through"
    @Argument var word: String
    @Option var bootstrap: String
    @Option var input: String
    @Option var output: String
    @Flag var exactlyOnce = false

    func define(in job: JobContext) throws {
        job.checkpointing.interval = .seconds(1)
        let sink = KafkaSink(bootstrap, topic: output, format: BytesFormat())
        try job.source(
            .kafka(bootstrap, topics: [input], format: BytesFormat()).stopping(at: .latest), watermarks: .none, uid: "input"
        )
        .sink(to: exactlyOnce ? sink.delivery(.exactlyOnce).transactionalIDPrefix(output) : sink, uid: "output")
    }
}
