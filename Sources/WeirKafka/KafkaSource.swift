import WeirBase
public import WeirDataflow
public import WeirFormats
public import WeirStreams

/// What a source subtask needs to know, whatever its rows are.
@usableFromInline
struct KafkaSourceSettings: Sendable {
    var properties: KafkaProperties
    var topics: [String]
    var start = KafkaStart.earliest
    var stop = KafkaStop.never
    var poison = KafkaPoisonPolicy.fail
    var outOfRange = KafkaRangePolicy.fail
    var lookupTimeout = Duration.seconds(15)

    var isBounded: Bool { stop != .never }
    var bootstrap: String { properties["bootstrap.servers"] ?? "" }
}

/// Reads topics of Kafka: what `.kafka(_:topics:format:)` makes.
///
///     try job.source(
///         .kafka("localhost:9092", topics: ["telemetries"], format: .json(Reading.self)).starting(at: .earliest),
///         watermarks: .boundedOutOfOrderness(.seconds(5), timestamp: \.timestamp), uid: "readings")
///
/// Each partition is read by one subtask, in order. The offsets are part of every checkpoint, and only they decide where a restored job
/// goes on. With `group.id` set, the group is told of them when a checkpoint completes, for people and tools to see. Rows carry Kafka's
/// timestamp unless the watermark strategy reads one out of them. Watermarks are made a partition: a slow one makes nobody late.
///
/// The job fails, with what to do about it, if a topic is missing, no broker answers, a record cannot be read, or the offset to read is
/// not on the broker (see ``onPoison(_:)`` and ``onOutOfRange(_:)``).
public struct KafkaSource<Format: DeserializationSchema>: StreamSourceDescriptor {
    public typealias Row = Format.Row

    @usableFromInline var settings: KafkaSourceSettings
    @usableFromInline let format: Format

    public init(_ bootstrap: String, topics: [String], format: Format) {
        settings = KafkaSourceSettings(properties: ["bootstrap.servers": bootstrap], topics: topics)
        self.format = format
    }

    public var name: String { "kafka(\(settings.topics.joined(separator: ",")))" }

    // MARK: Choices

    /// Where to start, unless a checkpoint says it; ``KafkaStart/earliest`` if nothing is said.
    public func starting(at start: KafkaStart) -> Self { with { $0.start = start } }

    /// Ends the source there, and with all sources the job; it runs for ever if nothing is said.
    public func stopping(at stop: KafkaStop) -> Self { with { $0.stop = stop } }

    /// The consumer group that is told of the offsets when a checkpoint completes.
    public func group(_ id: String) -> Self { property("group.id", id) }

    /// Sets a property of the client by librdkafka's name, for example `security.protocol`.
    public func property(_ key: String, _ value: String) -> Self { with { $0.properties[key] = value } }

    /// Sets properties of the client; they win over those set before.
    public func properties(_ properties: KafkaProperties) -> Self {
        with { $0.properties = $0.properties.merging(properties) }
    }

    /// What to do about a record that the format cannot read; fail if nothing is said.
    public func onPoison(_ policy: KafkaPoisonPolicy) -> Self { with { $0.poison = policy } }

    /// What to do if the broker has not got the offset to read; fail if nothing is said.
    public func onOutOfRange(_ policy: KafkaRangePolicy) -> Self { with { $0.outOfRange = policy } }

    /// How long each question to the broker may take when the source starts; 15 s if nothing is said.
    public func lookupTimeout(_ timeout: Duration) -> Self { with { $0.lookupTimeout = timeout } }

    private func with(_ change: (inout KafkaSourceSettings) -> Void) -> Self {
        var copy = self
        change(&copy.settings)
        return copy
    }

    // MARK: StreamSourceDescriptor

    public func validate() throws {
        var problems: [String] = []
        if settings.topics.isEmpty { problems.append("a Kafka source needs at least one topic") }
        if Set(settings.topics).count != settings.topics.count { problems.append("a Kafka source names a topic twice") }
        if settings.topics.contains("") { problems.append("a Kafka topic has an empty name") }
        if settings.bootstrap.isEmpty { problems.append("a Kafka source needs the address of a broker") }
        if settings.properties["group.id"] == nil, case .committed = settings.start {
            problems.append("a Kafka source that starts at committed offsets needs a group: add .group(\"…\")")
        }
        for key in KafkaConsumerHandle.reservedProperties where settings.properties[key] != nil {
            problems.append("the Kafka property \(key) is set by Weir: checkpoints hold the offsets. Leave it out")
        }
        if settings.lookupTimeout < .milliseconds(1) { problems.append("the lookup timeout of a Kafka source must be at least 1 ms") }
        if !problems.isEmpty { throw ConfigurationError(problems) }
    }

    @inlinable
    public func makeSource(_ setup: SourceSetup<Row>) throws -> AnySource {
        KafkaSourceOperator(setup: setup, settings: settings, format: format)
    }
}

extension StreamSourceDescriptor {
    /// Reads topics of Kafka; see ``KafkaSource``.
    ///
    /// - Parameters:
    ///   - bootstrap: Addresses of brokers, `host:port,host:port`.
    ///   - topics: At least one; each must exist when the job starts.
    ///   - format: How a record's value becomes a row.
    @inlinable
    public static func kafka<Format: DeserializationSchema>(
        _ bootstrap: String, topics: [String], format: Format
    ) -> KafkaSource<Format> where Self == KafkaSource<Format> {
        KafkaSource(bootstrap, topics: topics, format: format)
    }
}
