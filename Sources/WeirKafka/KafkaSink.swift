public import WeirBase
public import WeirDataflow
public import WeirFormats
public import WeirStreams

/// What a sink subtask needs to know, whatever its rows are.
@usableFromInline
struct KafkaSinkSettings: Sendable {
    var properties: KafkaProperties
    var topic: String
    var lookupTimeout = Duration.seconds(15)
    var flushTimeout = Duration.seconds(60)
    var writesEventTime = true

    var bootstrap: String { properties["bootstrap.servers"] ?? "" }
}

/// Writes a topic of Kafka, at least once: what `.kafka(_:topic:format:)` makes.
///
///     .sink(to: .kafka("localhost:9092", topic: "summaries", format: .json(Summary.self)).keyed(by: \.containerID), uid: "summaries")
///
/// At the barrier of a checkpoint everything is flushed, and the checkpoint fails unless all of it was written: after a failure records
/// may be there twice, none is lost. A full queue holds up the operator, and so the job, until there is room. A record that cannot be
/// delivered fails the job once, at the next write, flush or barrier. Keys choose partitions as Java's clients do (`murmur2_random`).
public struct KafkaSink<Format: SerializationSchema>: StreamSinkDescriptor {
    public typealias Row = Format.Row
    /// Appends a row's key. Nothing written means an empty key.
    public typealias Key = @Sendable (Row, inout ByteWriter) -> Void

    @usableFromInline var settings: KafkaSinkSettings
    @usableFromInline let format: Format
    @usableFromInline var key: Key?

    public init(_ bootstrap: String, topic: String, format: Format) {
        settings = KafkaSinkSettings(properties: ["bootstrap.servers": bootstrap], topic: topic)
        self.format = format
        key = nil
    }

    public var name: String { "kafka(\(settings.topic))" }

    // MARK: Choices

    /// Gives records a key: rows of one key go to one partition and keep their order there.
    ///
    /// - Parameter key: A key path, or a closure written `{ @Sendable in … }`: behind a leading dot the compiler does not see by itself that
    ///   it may be sent.
    public func keyed(by key: @escaping @Sendable (Row) -> String) -> Self {
        keyedByBytes { row, writer in
            var text = key(row)
            text.withUTF8 { writer.writeBytes(UnsafeRawBufferPointer($0)) }
        }
    }

    /// Gives records a key of bytes.
    public func keyedByBytes(_ key: @escaping Key) -> Self {
        var copy = self
        copy.key = key
        return copy
    }

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

    private func with(_ change: (inout KafkaSinkSettings) -> Void) -> Self {
        var copy = self
        change(&copy.settings)
        return copy
    }

    // MARK: StreamSinkDescriptor

    public func validate() throws {
        var problems: [String] = []
        if settings.topic.isEmpty { problems.append("a Kafka sink needs a topic") }
        if settings.bootstrap.isEmpty { problems.append("a Kafka sink needs the address of a broker") }
        if settings.properties["transactional.id"] != nil {
            problems.append("the Kafka property transactional.id is set, but this sink writes without transactions. Leave it out")
        }
        if settings.properties["acks"] == "0" || settings.properties["request.required.acks"] == "0" {
            problems.append("the Kafka property acks is 0: records could be lost unseen. Use 1 or all")
        }
        if settings.lookupTimeout < .milliseconds(1) { problems.append("the lookup timeout of a Kafka sink must be at least 1 ms") }
        if settings.flushTimeout < .milliseconds(1) { problems.append("the flush timeout of a Kafka sink must be at least 1 ms") }
        if !problems.isEmpty { throw ConfigurationError(problems) }
    }

    @inlinable
    public func makeSink(_ setup: SinkSetup) throws -> AnyOperator {
        KafkaSinkOperator(settings: settings, format: format, key: key)
    }
}

extension StreamSinkDescriptor {
    /// Writes a topic of Kafka, at least once; see ``KafkaSink``.
    ///
    /// - Parameters:
    ///   - bootstrap: Addresses of brokers, `host:port,host:port`.
    ///   - topic: Must exist, or be made by the broker when it is asked for.
    ///   - format: How a row becomes a record's value.
    @inlinable
    public static func kafka<Format: SerializationSchema>(
        _ bootstrap: String, topic: String, format: Format
    ) -> KafkaSink<Format> where Self == KafkaSink<Format> {
        KafkaSink(bootstrap, topic: topic, format: format)
    }
}
