import CRdKafka
package import WeirBase

/// A client of librdkafka, shared by the thread that reads and the thread that asks.
///
/// The one owner of the C handle, which locks for itself. Lookups (`KafkaClient+Lookups.swift`) block, up to their timeouts.
package final class KafkaClient: @unchecked Sendable {  // librdkafka's handle may be used by any thread; nothing here changes after init.
    let handle: OpaquePointer
    package let events: KafkaEvents
    /// Where the broker is, for messages.
    package let bootstrap: String
    /// Whether the group of the properties is the user's and not the one that librdkafka is given because it wants one.
    package let hasGroup: Bool

    /// Properties that a source's checkpoints depend on: nobody else sets them.
    package static let reservedProperties = ["allow.auto.create.topics", "auto.offset.reset", "enable.auto.offset.store", "enable.partition.eof"]

    /// A consumer that joins no group: partitions are assigned by hand.
    ///
    /// - Parameter properties: librdkafka's; `bootstrap.servers` is needed.
    /// - Throws: A configuration failure that names the property that is refused.
    package init(consumer properties: KafkaProperties, purpose: String) throws(JobFailure) {
        var forced: KafkaProperties = [
            // Offsets are kept in checkpoints; the source itself tells the group.
            "enable.auto.commit": "false", "enable.auto.offset.store": "false",
            // Never jump silently: the source decides what to do about an offset that is not there.
            "auto.offset.reset": "error",
            // Only the end tells that everything below it was read, markers of transactions included.
            "enable.partition.eof": "true", "allow.auto.create.topics": "false",
        ]
        hasGroup = properties["group.id"] != nil
        if !hasGroup { forced["group.id"] = "weir-without-group" }
        events = KafkaEvents()
        handle = try makeClient(RD_KAFKA_CONSUMER, properties: properties, forced: forced, events: events, purpose: purpose)
        bootstrap = properties["bootstrap.servers"] ?? ""
    }

    deinit {
        // Joins librdkafka's threads, so it may take a moment: the last reference goes on a thread that may wait. No group is left.
        rd_kafka_destroy_flags(handle, RD_KAFKA_DESTROY_F_NO_CONSUMER_CLOSE)
    }

    /// Serves the call-backs of errors and commits.
    func serveEvents(waitMilliseconds: Int32 = 0) { rd_kafka_poll(handle, waitMilliseconds) }
}

/// A list for the C functions. The caller destroys it.
func makeList(_ positions: [(KafkaPartition, offset: Int64)]) -> UnsafeMutablePointer<rd_kafka_topic_partition_list_t> {
    guard let list = rd_kafka_topic_partition_list_new(Int32(positions.count)) else { preconditionFailure("librdkafka is out of memory") }
    for (partition, offset) in positions {
        rd_kafka_topic_partition_list_add(list, partition.topic, partition.partition)?.pointee.offset = offset
    }
    return list
}
