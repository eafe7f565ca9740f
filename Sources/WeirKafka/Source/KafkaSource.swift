import WeirBase
public import WeirDataflow
public import WeirFormats
public import WeirStreams

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
/// New partitions, and with a pattern new topics, are looked for every five minutes (``discovering(every:)``) and read from their beginning.
/// The source starts without waiting for the broker; what it finds missing fails the job: a topic, every broker, a record that cannot be
/// read, an offset that is gone (see ``onPoison(_:)``, ``onOutOfRange(_:)``, ``onTopicRemoved(_:)``).
///
/// The job's options win over what the program says: `kafka.property.NAME` sets a property of every Kafka client of the job,
/// `kafka.UID.property.NAME` one of the source with that uid, `kafka.UID.topics` (names separated by commas) or
/// `kafka.UID.topic-pattern` what it reads. They come from the configuration file or the command line (`weir run -D key=value`).
public struct KafkaSource<Schema: KafkaDeserializationSchema>: StreamSourceDescriptor {
    public typealias Row = Schema.Row

    var settings: KafkaSourceSettings
    /// Made where the schema is concrete: a method of an operator that is generic over it would run unspecialised.
    let decode: KafkaDecode<Row>

    /// - Parameters:
    ///   - bootstrap: Addresses of brokers, `host:port,host:port`.
    ///   - schema: How a record becomes rows.
    @inlinable
    @inline(__always)
    public init(_ bootstrap: String, _ subscription: KafkaSubscription, schema: Schema) {
        self.init(bootstrap, subscription) { source, batch in try source.decode(into: &batch, schema: schema) }
    }

    @usableFromInline
    init(_ bootstrap: String, _ subscription: KafkaSubscription, decode: @escaping KafkaDecode<Row>) {
        settings = KafkaSourceSettings(properties: ["bootstrap.servers": bootstrap], subscription: subscription)
        self.decode = decode
    }

    /// - Parameter format: How a record's value becomes rows.
    @inlinable
    @inline(__always)
    public init<Format: DeserializationSchema>(_ bootstrap: String, topics: [String], format: Format) where Schema == KafkaValues<Format> {
        self.init(bootstrap, .topics(topics), schema: KafkaValues(format))
    }

    public var name: String { "kafka(\(settings.subscription.description))" }

    // MARK: Choices

    /// Where to start, unless a checkpoint says it; ``KafkaStart/earliest`` if nothing is said.
    public func starting(at start: KafkaStart) -> Self { with { $0.start = start } }

    /// Ends the source there, and with all sources the job; it runs for ever if nothing is said.
    public func stopping(at stop: KafkaStop) -> Self { with { $0.stop = stop } }

    /// The consumer group that is told of the offsets when a checkpoint completes.
    public func group(_ id: String) -> Self { property("group.id", id) }

    /// Whether the group is told of the offsets when a checkpoint completes (Flink's `commit.offsets.on.checkpoint`); it is if there is a group
    /// and nothing else is said. For jobs without checkpoints there are the properties `enable.auto.commit` and `auto.commit.interval.ms`.
    public func commitOnCheckpoint(_ commits: Bool) -> Self { with { $0.commitOnCheckpoint = commits } }

    /// Sets a property of the client by librdkafka's name, for example `security.protocol`.
    public func property(_ key: String, _ value: String) -> Self { with { $0.properties[key] = value } }

    /// Sets properties of the client; they win over those set before.
    public func properties(_ properties: KafkaProperties) -> Self {
        with { $0.properties = $0.properties.merging(properties) }
    }

    /// How often new partitions and topics are looked for (Flink's `partition.discovery.interval.ms`); 5 minutes if nothing is said, never if it
    /// is zero or less, or if the source has an end.
    public func discovering(every interval: Duration) -> Self { with { $0.discoveryInterval = interval } }

    /// What to do about a record that the format cannot read; fail if nothing is said.
    public func onPoison(_ policy: KafkaPoisonPolicy) -> Self { with { $0.poison = policy } }

    /// What to do if the broker has not got the offset to read; fail if nothing is said.
    public func onOutOfRange(_ policy: KafkaRangePolicy) -> Self { with { $0.outOfRange = policy } }

    /// What to do if a topic that is being read is deleted; fail if nothing is said.
    public func onTopicRemoved(_ policy: KafkaRemovalPolicy) -> Self { with { $0.removal = policy } }

    /// How long each question to the broker may take; 15 s if nothing is said.
    public func lookupTimeout(_ timeout: Duration) -> Self { with { $0.lookupTimeout = timeout } }

    private func with(_ change: (inout KafkaSourceSettings) -> Void) -> Self {
        var copy = self
        change(&copy.settings)
        return copy
    }

    // MARK: StreamSourceDescriptor

    public func validate() throws {
        let problems = settings.problems
        if !problems.isEmpty { throw ConfigurationError(problems) }
    }

    public var claims: [ResourceClaim] {
        guard let group = settings.group, settings.commitsOnCheckpoints || settings.autoCommitInterval != nil else { return [] }
        return (settings.subscription.topicNames ?? [settings.subscription.description]).map { topic in
            ResourceClaim(
                kind: "the offsets of the consumer group and topic", name: "\(group), \(topic)", severity: .warning,
                advice: "each overwrites what the other commits")
        }
    }

    public func preflight(_ setup: PreflightSetup) -> [PreflightFinding] { KafkaSourcePreflight.run(settings, setup) }

    public func makeSource(_ setup: SourceSetup<Row>) throws -> AnySource {
        KafkaSourceOperator(setup: setup, settings: settings, decode: decode)
    }
}

extension StreamSourceDescriptor {
    /// Reads topics of Kafka; see ``KafkaSource``.
    ///
    /// - Parameters:
    ///   - bootstrap: Addresses of brokers, `host:port,host:port`.
    ///   - topics: At least one; each must exist when the job starts.
    ///   - format: How a record's value becomes rows.
    @inlinable
    @inline(__always)
    public static func kafka<Format: DeserializationSchema>(
        _ bootstrap: String, topics: [String], format: Format
    ) -> KafkaSource<KafkaValues<Format>> where Self == KafkaSource<KafkaValues<Format>> {
        KafkaSource(bootstrap, topics: topics, format: format)
    }

    /// Reads every topic of Kafka whose whole name a regular expression matches; see ``KafkaSource``.
    @inlinable
    @inline(__always)
    public static func kafka<Format: DeserializationSchema>(
        _ bootstrap: String, topicPattern: String, format: Format
    ) -> KafkaSource<KafkaValues<Format>> where Self == KafkaSource<KafkaValues<Format>> {
        KafkaSource(bootstrap, .pattern(topicPattern), schema: KafkaValues(format))
    }

    /// Reads some partitions of Kafka, topic by topic; see ``KafkaSource``.
    @inlinable
    @inline(__always)
    public static func kafka<Format: DeserializationSchema>(
        _ bootstrap: String, partitions: [String: [Int32]], format: Format
    ) -> KafkaSource<KafkaValues<Format>> where Self == KafkaSource<KafkaValues<Format>> {
        KafkaSource(bootstrap, .partitions(partitions), schema: KafkaValues(format))
    }

    /// Reads whole records of Kafka: keys, headers, times and places too; see ``KafkaSource``.
    @inlinable
    @inline(__always)
    public static func kafka<Schema: KafkaDeserializationSchema>(
        _ bootstrap: String, _ subscription: KafkaSubscription, schema: Schema
    ) -> KafkaSource<Schema> where Self == KafkaSource<Schema> {
        KafkaSource(bootstrap, subscription, schema: schema)
    }
}
