import CRdKafka
package import WeirBase

/// The reading side of a consumer: partitions assigned by hand, each at an offset, and the messages that come of them.
///
/// Used by one thread, which it never makes wait longer than librdkafka's main thread takes to answer. It joins no group, so no
/// rebalance call-back crosses the C boundary.
package struct KafkaConsumerHandle: ~Copyable {
    package let client: KafkaClient
    /// Messages.
    private let queue: OpaquePointer
    /// Errors and the results of commits, told by call-backs while it is polled.
    private let callbacks: OpaquePointer

    private let messages: UnsafeMutablePointer<UnsafeMutablePointer<rd_kafka_message_t>?>
    private let capacity: Int
    private var held = 0

    /// - Parameters:
    ///   - capacity: The most messages of one ``poll(max:waitMilliseconds:)``.
    ///   - wake: Called from any thread when something came into an empty queue.
    package init(client: KafkaClient, capacity: Int = 1_024, wake: @escaping @Sendable () -> Void) throws(JobFailure) {
        guard let queue = rd_kafka_queue_get_consumer(client.handle), let callbacks = rd_kafka_queue_get_main(client.handle) else {
            throw JobFailure(domain: .system, recovery: .restart, message: "the Kafka consumer has no queue")
        }
        client.events.onWake(wake)
        for queue in [queue, callbacks] {
            rd_kafka_queue_cb_event_enable(
                queue, { _, opaque in if let opaque { KafkaEvents.of(opaque).wakeUp() } }, Unmanaged.passUnretained(client.events).toOpaque())
        }
        self.client = client
        self.queue = queue
        self.callbacks = callbacks
        self.capacity = capacity
        messages = .allocate(capacity: capacity)
        messages.initialize(repeating: nil, count: capacity)
    }

    deinit {
        weir_kafka_release(messages, held)
        messages.deallocate()
        client.events.onWake(nil)
        for queue in [queue, callbacks] {
            rd_kafka_queue_cb_event_enable(queue, nil, nil)
            rd_kafka_queue_destroy(queue)
        }
    }

    /// Reads these partitions too from now on, each from its offset.
    package func add(_ positions: [(KafkaPartition, offset: Int64)]) throws(JobFailure) {
        guard !positions.isEmpty else { return }
        let list = makeList(positions)
        defer { rd_kafka_topic_partition_list_destroy(list) }
        try check(rd_kafka_incremental_assign(client.handle, list), "assign \(positions.count) Kafka partitions")
    }

    /// Reads these partitions no longer. Messages of them that were fetched and not polled are dropped.
    package func remove(_ partitions: [KafkaPartition]) throws(JobFailure) {
        guard !partitions.isEmpty else { return }
        let list = makeList(partitions.map { ($0, offset: 0) })
        defer { rd_kafka_topic_partition_list_destroy(list) }
        try check(rd_kafka_incremental_unassign(client.handle, list), "give back \(partitions.count) Kafka partitions")
    }

    /// Goes on with a partition at another offset.
    package func move(_ partition: KafkaPartition, to offset: Int64) throws(JobFailure) {
        try remove([partition])
        try add([(partition, offset: offset)])
    }

    private func check(_ error: OpaquePointer?, _ what: String) throws(JobFailure) {
        guard let error else { return }
        defer { rd_kafka_error_destroy(error) }
        throw JobFailure(domain: .system, recovery: .restart, message: "cannot \(what)", cause: String(cString: rd_kafka_error_string(error)))
    }

    /// Stops fetching partitions. Messages of them that were fetched and not polled are dropped, and fetched again after
    /// ``resume(_:)``.
    package func pause(_ partitions: [KafkaPartition]) {
        let list = makeList(partitions.map { ($0, offset: 0) })
        defer { rd_kafka_topic_partition_list_destroy(list) }
        _ = rd_kafka_pause_partitions(client.handle, list)
    }

    package func resume(_ partitions: [KafkaPartition]) {
        let list = makeList(partitions.map { ($0, offset: 0) })
        defer { rd_kafka_topic_partition_list_destroy(list) }
        _ = rd_kafka_resume_partitions(client.handle, list)
    }

    /// Takes up to `max` messages that are there, without waiting for any. Those of the call before are freed.
    ///
    /// - Returns: What was taken, lent until the next call.
    mutating func poll(max: Int) -> KafkaMessages {
        release()
        // Serves the call-backs of errors and commits, which have a queue of their own.
        client.serveEvents()
        held = Swift.max(0, weir_kafka_consume(queue, 0, messages, Swift.min(max, capacity)))
        return KafkaMessages(first: messages, count: held)
    }

    /// Messages that were fetched and not polled.
    var queued: Int { Int(rd_kafka_queue_length(queue)) }

    /// Frees the messages of the last ``poll(max:)``.
    package mutating func release() {
        weir_kafka_release(messages, held)
        held = 0
    }

    /// The end of a partition as the last answer to a fetch had it, transactions that are under way included; nil before the first.
    package func knownEnd(of partition: KafkaPartition) -> Int64? {
        var low: Int64 = 0
        var high: Int64 = 0
        let error = rd_kafka_get_watermark_offsets(client.handle, partition.topic, partition.partition, &low, &high)
        return error == RD_KAFKA_RESP_ERR_NO_ERROR && high >= 0 ? high : nil
    }

    /// Tells the group of offsets, without waiting. The result comes to ``KafkaEvents/takeCommits()``.
    ///
    /// - Returns: nil, or why nothing was sent.
    package func commit(_ positions: [(KafkaPartition, offset: Int64)]) -> String? {
        let list = makeList(positions)
        defer { rd_kafka_topic_partition_list_destroy(list) }
        let error = rd_kafka_commit(client.handle, list, 1)
        return error == RD_KAFKA_RESP_ERR_NO_ERROR ? nil : describe(error)
    }
}

/// Messages that a consumer lends, each of which may be an error instead of a record.
struct KafkaMessages {
    fileprivate let first: UnsafeMutablePointer<UnsafeMutablePointer<rd_kafka_message_t>?>
    let count: Int

    @inline(__always)
    subscript(index: Int) -> UnsafePointer<rd_kafka_message_t> {
        guard let message = first[index] else { preconditionFailure("message \(index) of \(count) was never taken") }
        return UnsafePointer(message)
    }
}
