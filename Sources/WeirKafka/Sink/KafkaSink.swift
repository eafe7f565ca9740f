import WeirBase
public import WeirDataflow
public import WeirFormats
public import WeirStreams

/// What a sink promises about records when something fails.
public enum KafkaDelivery: String, Sendable, Equatable {
    /// Records may be lost and may be there twice.
    case none
    /// None is lost; some may be there twice. A checkpoint completes only once everything before its barrier was written.
    case atLeastOnce
    /// Each is there once for readers with `isolation.level=read_committed`, who see them when a checkpoint completes.
    case exactlyOnce
}

/// What to do about a transaction that a checkpoint says is to be committed and that the broker has aborted.
public enum KafkaLossPolicy: String, Sendable, Equatable {
    /// Fail the job, saying what was lost.
    case fail
    /// Go on without the records, and count them: `transactionsLost`.
    case skip
}

/// How a sink chooses partitions for records whose schema does not.
public enum KafkaPartitioner: Sendable, Equatable {
    /// By the key as Java's clients do (murmur2), records without a key anywhere. librdkafka's property `partitioner` names others.
    case key
    /// Each subtask writes one partition: `subtask % partitions`.
    case fixed
}

/// What a sink subtask needs to know, whatever its rows are.
@usableFromInline
struct KafkaSinkSettings: Sendable {
    var properties: KafkaProperties
    var topic: String
    var delivery = KafkaDelivery.atLeastOnce
    var prefix: String?
    var lossPolicy = KafkaLossPolicy.fail
    var discardsPrepared = false
    var partitioner = KafkaPartitioner.key
    var lookupTimeout = Duration.seconds(15)
    var flushTimeout = Duration.seconds(60)
    var writesEventTime = true
    var isUpsert = false
    var hasKey = false
    /// Called as a transaction passes its steps, on the thread that makes them: for tests that end the process there.
    var onStep: (@Sendable (KafkaSinkStep, UInt64) -> Void)?

    var bootstrap: String { properties["bootstrap.servers"] ?? "" }

    /// Kafka's own default is a minute, which a job that is away for a moment would exceed.
    static let transactionTimeoutDefault = Duration.seconds(15 * 60)

    /// `transaction.timeout.ms`.
    var transactionTimeoutMilliseconds: Int64 {
        properties["transaction.timeout.ms"].flatMap(Int64.init) ?? Self.transactionTimeoutDefault.inMilliseconds
    }
}

/// The steps of a transaction's commit, as `proto-docs/kafka-transactions.md` numbers them.
package enum KafkaSinkStep: Int, Sendable, CaseIterable {
    /// The barrier has passed, and not all rows are written.
    case sealing = 1
    /// All rows are on the broker, the marker is not.
    case flushed
    /// The marker is too; the checkpoint does not know it yet.
    case prepared
    /// The checkpoint has completed; the coordinator was not asked to commit.
    case completed
    /// The coordinator has been asked, or is about to be.
    case committing
    /// It is committed; nobody here knows yet.
    case committed
}

/// Writes topics of Kafka: what `.kafka(_:topic:format:)` makes.
///
///     .sink(to: .kafka("localhost:9092", topic: "summaries", format: .json(Summary.self)).keyed(by: \.containerID)
///             .delivery(.exactlyOnce).transactionalIDPrefix("summaries"), uid: "summaries")
///
/// At least once, unless ``delivery(_:)`` says otherwise. Exactly once, rows are written in transactions which are prepared at the barrier of
/// a checkpoint and committed when it has completed; readers need `isolation.level=read_committed`. A restored sink first commits what the
/// checkpoint names. What was lost in the meantime fails the job, see ``onLostTransaction(_:)``.
///
/// A full queue holds up the operator, and so the job, until there is room. A record that cannot be delivered fails the job once, at the next
/// write, flush or barrier. Keys choose partitions as Java's clients do (`murmur2_random`). Nothing waits on the slot's thread for the
/// broker, but for room in a full queue.
public struct KafkaSink<Schema: KafkaRecordSerializationSchema>: StreamSinkDescriptor {
    public typealias Row = Schema.Row

    var settings: KafkaSinkSettings
    var schema: Schema
    /// Made where the schema is concrete: a method of an operator that is generic over it would run unspecialised.
    let encode: KafkaEncode<Schema>

    /// - Parameters:
    ///   - topic: Where records go whose schema names none; markers of commits are kept for it too. Must exist, or be made by the broker when it
    ///     is asked for.
    @inlinable
    @inline(__always)
    public init(_ bootstrap: String, topic: String, schema: Schema) {
        self.init(bootstrap, topic: topic, schema: schema) { sink, batch in try sink.encodeRows(of: batch) }
    }

    @usableFromInline
    init(_ bootstrap: String, topic: String, schema: Schema, encode: @escaping KafkaEncode<Schema>) {
        settings = KafkaSinkSettings(properties: ["bootstrap.servers": bootstrap], topic: topic)
        self.schema = schema
        self.encode = encode
    }

    public var name: String { "kafka(\(settings.topic))" }

    // MARK: Choices

    /// What the sink promises; at least once if nothing is said.
    public func delivery(_ delivery: KafkaDelivery) -> Self { with { $0.delivery = delivery } }

    /// The start of the names by which the broker knows the sink's producers: needed for exactly-once, and unique to the sink among all
    /// that write to the cluster. Keep it when the job changes: after a change the restored job cleans up under the old one, once.
    public func transactionalIDPrefix(_ prefix: String) -> Self { with { $0.prefix = prefix } }

    /// What to do about a transaction that was lost; fail if nothing is said. The option `kafka.UID.lost-transactions` wins over it.
    public func onLostTransaction(_ policy: KafkaLossPolicy) -> Self { with { $0.lossPolicy = policy } }

    /// How records find partitions.
    public func partitioner(_ partitioner: KafkaPartitioner) -> Self { with { $0.partitioner = partitioner } }

    /// Leaves the records' timestamps to the client; else a row with an event time gives it to its record.
    public func withoutEventTime() -> Self { with { $0.writesEventTime = false } }

    /// Sets a property of the client by librdkafka's name, for example `compression.type`.
    public func property(_ key: String, _ value: String) -> Self { with { $0.properties[key] = value } }

    /// Sets properties of the client; they win over those set before.
    public func properties(_ properties: KafkaProperties) -> Self { with { $0.properties = $0.properties.merging(properties) } }

    /// How long the question for the topic may take when the sink starts; 15 s if nothing is said.
    public func lookupTimeout(_ timeout: Duration) -> Self { with { $0.lookupTimeout = timeout } }

    /// How long writing everything may take at a barrier, or making room in a full queue; 60 s if nothing is said.
    public func flushTimeout(_ timeout: Duration) -> Self { with { $0.flushTimeout = timeout } }

    /// Calls `body` as a transaction passes its steps: for tests that end the process there.
    package func onStep(_ body: @escaping @Sendable (KafkaSinkStep, UInt64) -> Void) -> Self { with { $0.onStep = body } }

    private func with(_ change: (inout KafkaSinkSettings) -> Void) -> Self {
        var copy = self
        change(&copy.settings)
        return copy
    }

    // MARK: StreamSinkDescriptor

    public func validate() throws {
        let problems = settings.problems
        if !problems.isEmpty { throw ConfigurationError(problems) }
    }

    public var claims: [ResourceClaim] {
        guard settings.delivery == .exactlyOnce, let prefix = settings.prefix else { return [] }
        return [
            ResourceClaim(
                kind: "the transactional id prefix", name: prefix,
                advice: "each exactly-once sink needs its own, else they abort each other's transactions")
        ]
    }

    public func preflight(_ setup: PreflightSetup) -> [PreflightFinding] { KafkaSinkPreflight(settings, setup).findings() }

    public func makeSink(_ setup: SinkSetup) throws -> AnyOperator {
        KafkaSinkOperator(settings: settings, schema: schema, encode: encode, uid: setup.uid)
    }
}

extension KafkaSink {
    /// A sink whose records have their value by a format.
    @inlinable
    @inline(__always)
    public init<Format: SerializationSchema>(_ bootstrap: String, topic: String, format: Format) where Schema == KafkaRowSchema<Format> {
        self.init(bootstrap, topic: topic, schema: KafkaRowSchema(format))
    }

    /// Gives records a key: rows of one key go to one partition and keep their order there.
    ///
    /// - Parameter key: A key path, or a closure written `{ @Sendable in … }`: behind a leading dot the compiler does not see by itself that
    ///   it may be sent.
    public func keyed<Format>(by key: @escaping @Sendable (Row) -> String) -> Self where Schema == KafkaRowSchema<Format> {
        keyedByBytes { row, writer in
            var text = key(row)
            text.withUTF8 { writer.writeBytes(UnsafeRawBufferPointer($0)) }
        }
    }

    /// Gives records a key of bytes.
    public func keyedByBytes<Format>(_ key: @escaping KafkaRowSchema<Format>.Key) -> Self where Schema == KafkaRowSchema<Format> {
        var copy = self
        copy.schema.key = key
        copy.settings.hasKey = true
        return copy
    }

    /// Makes the topic a table: the last record of a key is its value, and a row that `isDeletion` says deletes it is written as a
    /// tombstone, a record without a value. Needs a key.
    public func upserting<Format>(deletedWhen isDeletion: @escaping @Sendable (Row) -> Bool) -> Self where Schema == KafkaRowSchema<Format> {
        var copy = self
        copy.schema.isDeletion = isDeletion
        copy.settings.isUpsert = true
        return copy
    }

    /// Chooses the topic row by row.
    public func topic<Format>(by topic: @escaping @Sendable (Row) -> String) -> Self where Schema == KafkaRowSchema<Format> {
        var copy = self
        copy.schema.topic = topic
        return copy
    }

    /// Chooses the partition row by row.
    public func partition<Format>(by partition: @escaping @Sendable (Row) -> Int32) -> Self where Schema == KafkaRowSchema<Format> {
        var copy = self
        copy.schema.partition = partition
        return copy
    }

    /// Gives records headers.
    public func headers<Format>(
        _ headers: @escaping @Sendable (Row) -> [KafkaProducerRecord.Header]
    ) -> Self where Schema == KafkaRowSchema<Format> {
        var copy = self
        copy.schema.headers = headers
        return copy
    }
}

extension StreamSinkDescriptor {
    /// Writes a topic of Kafka; see ``KafkaSink``.
    ///
    /// - Parameters:
    ///   - bootstrap: Addresses of brokers, `host:port,host:port`.
    ///   - topic: Must exist, or be made by the broker when it is asked for.
    ///   - format: How a row becomes a record's value.
    @inlinable
    @inline(__always)
    public static func kafka<Format: SerializationSchema>(
        _ bootstrap: String, topic: String, format: Format
    ) -> KafkaSink<KafkaRowSchema<Format>> where Self == KafkaSink<KafkaRowSchema<Format>> {
        KafkaSink(bootstrap, topic: topic, format: format)
    }

    /// Writes topics of Kafka with a schema of one's own; see ``KafkaSink``.
    @inlinable
    @inline(__always)
    public static func kafka<Schema: KafkaRecordSerializationSchema>(
        _ bootstrap: String, topic: String, schema: Schema
    ) -> KafkaSink<Schema> where Self == KafkaSink<Schema> {
        KafkaSink(bootstrap, topic: topic, schema: schema)
    }
}
