import CRdKafka
package import WeirBase

/// A consumer of partitions assigned by hand, at the offsets that a checkpoint holds.
///
/// The one owner of the C handle. It joins no group, so no rebalance callback crosses the C boundary. Used by one thread.
///
/// - Important: The lookups of `KafkaConsumerHandle+Lookups.swift` block, up to the timeout they are given; ``poll(max:)`` never does.
package struct KafkaConsumerHandle: ~Copyable {
    let client: OpaquePointer
    /// Messages.
    private let queue: OpaquePointer
    /// Errors and the results of commits, told by call-backs while it is polled.
    private let callbacks: OpaquePointer
    package let events: KafkaEvents
    /// Where the broker is, for messages.
    let bootstrap: String

    private let messages: UnsafeMutablePointer<UnsafeMutablePointer<rd_kafka_message_t>?>
    private let capacity: Int
    private var held = 0

    /// Properties that a source's checkpoints depend on: nobody else sets them.
    package static let reservedProperties = [
        "allow.auto.create.topics", "auto.offset.reset", "enable.auto.commit", "enable.auto.offset.store", "enable.partition.eof",
    ]

    /// - Parameters:
    ///   - properties: librdkafka's; `bootstrap.servers` is needed.
    ///   - capacity: The most messages of one ``poll(max:)``.
    ///   - tellsEnds: Whether the end of a partition is told as a message with the error `_PARTITION_EOF`.
    package init(properties: KafkaProperties, capacity: Int = 1_024, tellsEnds: Bool = false, purpose: String) throws(JobFailure) {
        var forced: KafkaProperties = [
            // Offsets are kept in checkpoints; the group is told of them only when a checkpoint completes.
            "enable.auto.commit": "false", "enable.auto.offset.store": "false",
            // Never jump silently: the source decides what to do about an offset that is not there.
            "auto.offset.reset": "error",
            "enable.partition.eof": tellsEnds ? "true" : "false",
            "allow.auto.create.topics": "false",
        ]
        // librdkafka wants a group name even where no group is joined and nothing is committed.
        if properties["group.id"] == nil { forced["group.id"] = "weir-without-group" }
        let events = KafkaEvents()
        let client = try makeClient(RD_KAFKA_CONSUMER, properties: properties, forced: forced, events: events, purpose: purpose)
        guard let queue = rd_kafka_queue_get_consumer(client), let callbacks = rd_kafka_queue_get_main(client) else {
            rd_kafka_destroy(client)
            throw JobFailure(domain: .system, recovery: .restart, message: "the Kafka consumer for \(purpose) has no queue")
        }
        for queue in [queue, callbacks] {
            rd_kafka_queue_cb_event_enable(
                queue, { _, opaque in if let opaque { KafkaEvents.of(opaque).wakeUp() } }, Unmanaged.passUnretained(events).toOpaque())
        }
        self.client = client
        self.queue = queue
        self.callbacks = callbacks
        self.events = events
        self.bootstrap = properties["bootstrap.servers"] ?? ""
        self.capacity = capacity
        messages = .allocate(capacity: capacity)
        messages.initialize(repeating: nil, count: capacity)
    }

    deinit {
        weir_kafka_release(messages, held)
        messages.deallocate()
        for queue in [queue, callbacks] {
            rd_kafka_queue_cb_event_enable(queue, nil, nil)
            rd_kafka_queue_destroy(queue)
        }
        // Joins librdkafka's threads: nothing calls back after this line. There is no group to leave.
        rd_kafka_destroy_flags(client, RD_KAFKA_DESTROY_F_NO_CONSUMER_CLOSE)
    }

    /// Reads exactly these partitions from now on, each from its offset. Messages that were fetched before are dropped.
    package mutating func assign(_ positions: [(KafkaPartition, offset: Int64)]) throws(JobFailure) {
        release()
        let list = makeList(positions)
        defer { rd_kafka_topic_partition_list_destroy(list) }
        let error = rd_kafka_assign(client, list)
        guard error == RD_KAFKA_RESP_ERR_NO_ERROR else {
            throw JobFailure(
                domain: .system, recovery: .restart, message: "cannot assign \(positions.count) Kafka partitions", cause: describe(error))
        }
    }

    /// Stops fetching a partition.
    package func pause(_ partition: KafkaPartition) {
        let list = makeList([(partition, offset: 0)])
        defer { rd_kafka_topic_partition_list_destroy(list) }
        _ = rd_kafka_pause_partitions(client, list)
    }

    /// Takes up to `max` messages that are there, without waiting for any. Those of the call before are freed.
    ///
    /// - Returns: How many; they are lent by ``message(_:)`` until the next call.
    package mutating func poll(max: Int, waitMilliseconds: Int32 = 0) -> Int {
        release()
        // Serves the call-backs of errors and commits, which have a queue of their own.
        rd_kafka_poll(client, 0)
        held = Swift.max(0, weir_kafka_consume(queue, waitMilliseconds, messages, Swift.min(max, capacity)))
        return held
    }

    /// A message of the last ``poll(max:)``, which may be an error instead.
    @inline(__always)
    func message(_ index: Int) -> UnsafePointer<rd_kafka_message_t> {
        guard let message = messages[index] else { preconditionFailure("message \(index) of \(held) was never taken") }
        return UnsafePointer(message)
    }

    /// Frees the messages of the last ``poll(max:)``.
    package mutating func release() {
        weir_kafka_release(messages, held)
        held = 0
    }

    /// Tells the group of offsets, without waiting. The result comes to ``KafkaEvents/takeCommits()``.
    ///
    /// - Returns: nil, or why nothing was sent.
    package func commit(_ positions: [(KafkaPartition, offset: Int64)]) -> String? {
        let list = makeList(positions)
        defer { rd_kafka_topic_partition_list_destroy(list) }
        let error = rd_kafka_commit(client, list, 1)
        return error == RD_KAFKA_RESP_ERR_NO_ERROR ? nil : describe(error)
    }

    /// A list for the C functions. The caller destroys it.
    func makeList(_ positions: [(KafkaPartition, offset: Int64)]) -> UnsafeMutablePointer<rd_kafka_topic_partition_list_t> {
        guard let list = rd_kafka_topic_partition_list_new(Int32(positions.count)) else { preconditionFailure("librdkafka is out of memory") }
        for (partition, offset) in positions {
            rd_kafka_topic_partition_list_add(list, partition.topic, partition.partition)?.pointee.offset = offset
        }
        return list
    }
}
