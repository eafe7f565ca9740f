import CRdKafka
package import WeirBase

/// Questions to the broker, asked when a source starts. Each blocks, up to its timeout.
extension KafkaConsumerHandle {
    /// How many partitions a topic has.
    ///
    /// - Throws: A failure that names the topic and the broker if the topic does not exist, may not be read, or no broker answers.
    package func partitionCount(of topic: String, timeout: Duration, missing recovery: JobFailure.Recovery) throws(JobFailure) -> Int {
        try lookUpPartitionCount(client, topic: topic, bootstrap: bootstrap, timeout: timeout, missing: recovery, events: events)
    }

    /// The first and the end offset of a partition.
    package func range(of partition: KafkaPartition, timeout: Duration) throws(JobFailure) -> Range<Int64> {
        var low: Int64 = 0
        var high: Int64 = 0
        let error = rd_kafka_query_watermark_offsets(
            client, partition.topic, partition.partition, &low, &high, Int32(clamping: timeout.inMilliseconds))
        guard error == RD_KAFKA_RESP_ERR_NO_ERROR else { throw lookupFailure("the range of \(partition)", error) }
        return low..<max(low, high)
    }

    /// The offsets of the first records at or after a timestamp each; -1 where there is none.
    ///
    /// - Parameter partitions: With milliseconds since 1970, or -2 for the earliest offset, or -1 for the end.
    package func offsets(at partitions: [(KafkaPartition, offset: Int64)], timeout: Duration) throws(JobFailure) -> [KafkaPartition: Int64] {
        guard !partitions.isEmpty else { return [:] }
        let list = makeList(partitions)
        defer { rd_kafka_topic_partition_list_destroy(list) }
        let error = rd_kafka_offsets_for_times(client, list, Int32(clamping: timeout.inMilliseconds))
        guard error == RD_KAFKA_RESP_ERR_NO_ERROR else { throw lookupFailure("the offsets of \(partitions.count) partitions", error) }
        return try read(list, "the offset")
    }

    /// The offsets that the group has committed; negative where there is none.
    package func committed(_ partitions: [KafkaPartition], timeout: Duration) throws(JobFailure) -> [KafkaPartition: Int64] {
        guard !partitions.isEmpty else { return [:] }
        let list = makeList(partitions.map { ($0, offset: 0) })
        defer { rd_kafka_topic_partition_list_destroy(list) }
        let error = rd_kafka_committed(client, list, Int32(clamping: timeout.inMilliseconds))
        guard error == RD_KAFKA_RESP_ERR_NO_ERROR else { throw lookupFailure("the committed offsets of the group", error) }
        return try read(list, "the committed offset")
    }

    private func read(
        _ list: UnsafeMutablePointer<rd_kafka_topic_partition_list_t>, _ what: String
    ) throws(JobFailure) -> [KafkaPartition: Int64] {
        var offsets: [KafkaPartition: Int64] = [:]
        for index in 0..<Int(list.pointee.cnt) {
            let entry = list.pointee.elems[index]
            let partition = KafkaPartition(String(cString: entry.topic), entry.partition)
            guard entry.err == RD_KAFKA_RESP_ERR_NO_ERROR else { throw lookupFailure("\(what) of \(partition)", entry.err) }
            offsets[partition] = entry.offset
        }
        return offsets
    }

    private func lookupFailure(_ what: String, _ error: rd_kafka_resp_err_t) -> JobFailure {
        JobFailure(
            domain: .external, recovery: .restart, message: "cannot look up \(what) at the Kafka broker \(bootstrap)",
            cause: explain(error, events))
    }
}

/// The number of partitions of a topic, as the source and the sink both ask when they start.
func lookUpPartitionCount(
    _ client: OpaquePointer, topic: String, bootstrap: String, timeout: Duration, missing recovery: JobFailure.Recovery,
    events: KafkaEvents
) throws(JobFailure) -> Int {
    guard let handle = rd_kafka_topic_new(client, topic, nil) else {
        throw JobFailure(
            domain: .configuration, recovery: .fail, message: "\"\(topic)\" is no name for a Kafka topic", cause: describe(rd_kafka_last_error()))
    }
    defer { rd_kafka_topic_destroy(handle) }
    var metadata: UnsafePointer<rd_kafka_metadata>?
    let error = rd_kafka_metadata(client, 0, handle, &metadata, Int32(clamping: timeout.inMilliseconds))
    guard error == RD_KAFKA_RESP_ERR_NO_ERROR, let metadata else {
        rd_kafka_poll(client, 0)  // Serves the callbacks that say why no broker answered.
        throw JobFailure(
            domain: .external, recovery: .restart,
            message: "no Kafka broker at \(bootstrap) answered within \(formatDuration(timeout)) when asked for the topic \"\(topic)\":"
                + " check that the broker runs and that bootstrap.servers and the security properties are right",
            cause: explain(error, events))
    }
    defer { rd_kafka_metadata_destroy(metadata) }
    guard metadata.pointee.topic_cnt == 1 else {
        throw JobFailure(
            domain: .external, recovery: .restart, message: "the Kafka broker at \(bootstrap) says nothing about the topic \"\(topic)\"")
    }
    let found = metadata.pointee.topics[0]
    switch found.err {
    case RD_KAFKA_RESP_ERR_NO_ERROR, RD_KAFKA_RESP_ERR_LEADER_NOT_AVAILABLE:
        if found.partition_cnt > 0 { return Int(found.partition_cnt) }
        fallthrough
    case RD_KAFKA_RESP_ERR_UNKNOWN_TOPIC_OR_PART:
        throw JobFailure(
            domain: .external, recovery: recovery,
            message: "the Kafka topic \"\(topic)\" does not exist at \(bootstrap): create it, or correct the job's topic", cause: describe(found.err))
    default:
        throw JobFailure(
            domain: .external, recovery: recovery, message: "the Kafka topic \"\(topic)\" at \(bootstrap) cannot be used",
            cause: describe(found.err))
    }
}

/// An error code in words, with what librdkafka logged about it.
private func explain(_ error: rd_kafka_resp_err_t, _ events: KafkaEvents) -> String {
    guard let explanation = events.explanation else { return describe(error) }
    return "\(describe(error)); \(explanation)"
}
