import CRdKafka
package import WeirBase

/// A producer to one topic. The one owner of the C handle; used by one thread.
///
/// - Important: ``flush(timeout:)`` and ``waitForRoom(milliseconds:)`` block, up to their timeouts.
package struct KafkaProducerHandle: ~Copyable {
    private let client: OpaquePointer
    private let topicHandle: OpaquePointer
    package let events: KafkaEvents
    package let topic: String
    let bootstrap: String

    /// What became of a record that was handed over.
    package enum Outcome: Equatable {
        case queued
        /// The client holds as much as it may: wait for room and try again.
        case queueFull
        case refused(String)
    }

    package init(properties: KafkaProperties, topic: String) throws(JobFailure) {
        // The partition of a key as Java's clients choose it, so that topics written by both stay in order.
        let defaults: KafkaProperties = ["partitioner": "murmur2_random"]
        // A call-back for each record that was written would cost as much as the record.
        let forced: KafkaProperties = ["delivery.report.only.error": "true"]
        let events = KafkaEvents()
        let client = try makeClient(
            RD_KAFKA_PRODUCER, properties: defaults.merging(properties), forced: forced, events: events, purpose: "writing \(topic)")
        guard let handle = rd_kafka_topic_new(client, topic, nil) else {
            rd_kafka_destroy(client)
            throw JobFailure(
                domain: .configuration, recovery: .fail, message: "\"\(topic)\" is no name for a Kafka topic",
                cause: describe(rd_kafka_last_error()))
        }
        self.client = client
        topicHandle = handle
        self.events = events
        self.topic = topic
        bootstrap = properties["bootstrap.servers"] ?? ""
    }

    deinit {
        // What is still queued here was not flushed: the job failed, and the records come again.
        rd_kafka_purge(client, RD_KAFKA_PURGE_F_QUEUE | RD_KAFKA_PURGE_F_INFLIGHT | RD_KAFKA_PURGE_F_NON_BLOCKING)
        rd_kafka_topic_destroy(topicHandle)
        rd_kafka_destroy(client)  // Joins librdkafka's threads: nothing calls back after this line.
    }

    /// Records that were handed over and neither written nor given up yet.
    package var pending: Int { Int(rd_kafka_outq_len(client)) }

    package func partitionCount(timeout: Duration, missing recovery: JobFailure.Recovery) throws(JobFailure) -> Int {
        try lookUpPartitionCount(client, topic: topic, bootstrap: bootstrap, timeout: timeout, missing: recovery, events: events)
    }

    /// Hands a record over, which is copied.
    ///
    /// - Parameters:
    ///   - partition: nil to choose by the key.
    ///   - value: nil for a tombstone.
    ///   - timestamp: Milliseconds since 1970; 0 for now.
    package func produce(
        key: UnsafeRawBufferPointer?, value: UnsafeRawBufferPointer?, partition: Int32? = nil, timestamp: Int64 = 0
    ) -> Outcome {
        let error = weir_kafka_produce(
            client, topicHandle, partition ?? weir_kafka_partition_any, key.map(start), key?.count ?? 0, value.map(start), value?.count ?? 0,
            timestamp)
        switch error {
        case RD_KAFKA_RESP_ERR_NO_ERROR: return .queued
        case RD_KAFKA_RESP_ERR__QUEUE_FULL: return .queueFull
        default: return .refused(describe(error))
        }
    }

    /// Serves call-backs of failed deliveries, without waiting.
    package func poll() { rd_kafka_poll(client, 0) }

    /// Waits a moment for the queue to drain.
    package func waitForRoom(milliseconds: Int32) { rd_kafka_poll(client, milliseconds) }

    /// Sends everything now, whatever `linger.ms` says, and waits for the answers.
    ///
    /// - Returns: Whether nothing is pending any more.
    package func flush(timeout: Duration) -> Bool {
        rd_kafka_flush(client, Int32(clamping: timeout.inMilliseconds)) == RD_KAFKA_RESP_ERR_NO_ERROR
    }
}

/// An address for bytes that are there: an empty buffer may have none, which Kafka would take for null.
private func start(of bytes: UnsafeRawBufferPointer) -> UnsafeRawPointer {
    bytes.baseAddress ?? UnsafeRawPointer(bitPattern: 8)!
}
