import CRdKafka
package import WeirBase

/// What a source asks about topics. Each question blocks, up to its timeout.
protocol KafkaCatalog {
    /// The partitions of topics by name.
    ///
    /// - Throws: If no broker answers. What is the matter with one topic stands in its entry.
    func list(topics: [String], timeout: Duration) throws(JobFailure) -> KafkaListing

    /// All topics that a pattern matches, and those of `known` whether they are there or not.
    func list(pattern: KafkaTopicPattern, known: [String], timeout: Duration) throws(JobFailure) -> KafkaListing

    /// The first and the end offset of a partition.
    func range(of partition: KafkaPartition, timeout: Duration) throws(JobFailure) -> Range<Int64>

    /// The offsets of the first records at or after a time each (milliseconds since 1970); -1 where there is none. The times
    /// ``KafkaPosition/earliest`` and ``KafkaPosition/latest`` ask for the first and the end offset.
    ///
    /// - Throws: If nothing could be looked up. A partition that alone could not is missing in the result.
    func offsets(at times: [(KafkaPartition, offset: Int64)], timeout: Duration) throws(JobFailure) -> [KafkaPartition: Int64]

    /// The offsets that the group has committed; negative where there is none.
    func committed(_ partitions: [KafkaPartition], timeout: Duration) throws(JobFailure) -> [KafkaPartition: Int64]
}

extension KafkaClient: KafkaCatalog {
    func list(topics: [String], timeout: Duration) throws(JobFailure) -> KafkaListing {
        var listing = KafkaListing()
        for topic in topics {
            listing.topics[topic] = try listTopic(handle, topic: topic, bootstrap: bootstrap, timeout: timeout, events: events)
        }
        return listing
    }

    func list(pattern: KafkaTopicPattern, known: [String], timeout: Duration) throws(JobFailure) -> KafkaListing {
        var metadata: UnsafePointer<rd_kafka_metadata>?
        let error = rd_kafka_metadata(handle, 1, nil, &metadata, Int32(clamping: timeout.inMilliseconds))
        guard error == RD_KAFKA_RESP_ERR_NO_ERROR, let metadata else {
            serveEvents()  // Serves the call-backs that say why no broker answered.
            throw silentBroker(bootstrap, asked: "for its topics", timeout: timeout, error, events)
        }
        defer { rd_kafka_metadata_destroy(metadata) }
        var listing = KafkaListing()
        for index in 0..<Int(metadata.pointee.topic_cnt) {
            let topic = metadata.pointee.topics[index]
            let name = String(cString: topic.topic)
            guard pattern.matches(name), case .partitions(let count, let leaderless) = KafkaListing.Topic(topic) else { continue }
            listing.topics[name] = .partitions(count, leaderless: leaderless)
        }
        // A listing of everything may be partial; only the answer about a topic by its name says that it is gone.
        let vanished = known.filter { listing.topics[$0] == nil }
        return listing.merging(try list(topics: vanished, timeout: timeout))
    }

    package func range(of partition: KafkaPartition, timeout: Duration) throws(JobFailure) -> Range<Int64> {
        var low: Int64 = 0
        var high: Int64 = 0
        let error = rd_kafka_query_watermark_offsets(
            handle, partition.topic, partition.partition, &low, &high, Int32(clamping: timeout.inMilliseconds))
        guard error == RD_KAFKA_RESP_ERR_NO_ERROR else { throw lookupFailure("the range of \(partition)", error) }
        return low..<max(low, high)
    }

    func offsets(at times: [(KafkaPartition, offset: Int64)], timeout: Duration) throws(JobFailure) -> [KafkaPartition: Int64] {
        guard !times.isEmpty else { return [:] }
        let list = makeList(times)
        defer { rd_kafka_topic_partition_list_destroy(list) }
        let error = rd_kafka_offsets_for_times(handle, list, Int32(clamping: timeout.inMilliseconds))
        guard error == RD_KAFKA_RESP_ERR_NO_ERROR else { throw lookupFailure("the offsets of \(times.count) partitions", error) }
        return try read(list, "the offset")
    }

    func committed(_ partitions: [KafkaPartition], timeout: Duration) throws(JobFailure) -> [KafkaPartition: Int64] {
        guard !partitions.isEmpty else { return [:] }
        let list = makeList(partitions.map { ($0, offset: 0) })
        defer { rd_kafka_topic_partition_list_destroy(list) }
        let error = rd_kafka_committed(handle, list, Int32(clamping: timeout.inMilliseconds))
        guard error == RD_KAFKA_RESP_ERR_NO_ERROR else { throw lookupFailure("the committed offsets of the group", error) }
        return try read(list, "the committed offset")
    }

    private func read(
        _ list: UnsafeMutablePointer<rd_kafka_topic_partition_list_t>, _ what: String
    ) throws(JobFailure) -> [KafkaPartition: Int64] {
        var offsets: [KafkaPartition: Int64] = [:]
        var failure: JobFailure?
        for index in 0..<Int(list.pointee.cnt) {
            let entry = list.pointee.elems[index]
            let partition = KafkaPartition(String(cString: entry.topic), entry.partition)
            if entry.err == RD_KAFKA_RESP_ERR_NO_ERROR {
                offsets[partition] = entry.offset
            } else {
                failure = failure ?? lookupFailure("\(what) of \(partition)", entry.err)
            }
        }
        if let failure, offsets.isEmpty { throw failure }
        return offsets
    }

    private func lookupFailure(_ what: String, _ error: rd_kafka_resp_err_t) -> JobFailure {
        JobFailure(
            domain: .external, recovery: .restart, message: "cannot look up \(what) at the Kafka broker \(bootstrap)", cause: explain(error, events))
    }
}

/// The number of partitions of a topic, as a sink asks when it starts.
func lookUpPartitionCount(
    _ client: OpaquePointer, topic: String, bootstrap: String, timeout: Duration, missing recovery: JobFailure.Recovery,
    events: KafkaEvents
) throws(JobFailure) -> Int {
    let found = try listTopic(client, topic: topic, bootstrap: bootstrap, timeout: timeout, events: events)
    guard case .partitions(let count, _) = found else { throw found.failure(topic: topic, bootstrap: bootstrap, recovery: recovery) }
    return count
}

private func listTopic(
    _ client: OpaquePointer, topic: String, bootstrap: String, timeout: Duration, events: KafkaEvents
) throws(JobFailure) -> KafkaListing.Topic {
    guard let handle = rd_kafka_topic_new(client, topic, nil) else {
        throw JobFailure(
            domain: .configuration, recovery: .fail, message: "\"\(topic)\" is no name for a Kafka topic", cause: describe(rd_kafka_last_error()))
    }
    defer { rd_kafka_topic_destroy(handle) }
    var metadata: UnsafePointer<rd_kafka_metadata>?
    let error = rd_kafka_metadata(client, 0, handle, &metadata, Int32(clamping: timeout.inMilliseconds))
    guard error == RD_KAFKA_RESP_ERR_NO_ERROR, let metadata else {
        rd_kafka_poll(client, 0)  // Serves the callbacks that say why no broker answered.
        throw silentBroker(bootstrap, asked: "for the topic \"\(topic)\"", timeout: timeout, error, events)
    }
    defer { rd_kafka_metadata_destroy(metadata) }
    guard metadata.pointee.topic_cnt == 1 else { return .failed("the broker says nothing about it") }
    return KafkaListing.Topic(metadata.pointee.topics[0])
}

extension KafkaListing.Topic {
    fileprivate init(_ topic: rd_kafka_metadata_topic) {
        switch topic.err {
        case RD_KAFKA_RESP_ERR_NO_ERROR, RD_KAFKA_RESP_ERR_LEADER_NOT_AVAILABLE:
            guard topic.partition_cnt > 0 else {
                self = .missing
                return
            }
            var leaderless: Set<Int32> = []
            for index in 0..<Int(topic.partition_cnt) where topic.partitions[index].leader < 0 { leaderless.insert(topic.partitions[index].id) }
            self = .partitions(Int(topic.partition_cnt), leaderless: leaderless)
        case RD_KAFKA_RESP_ERR_UNKNOWN_TOPIC_OR_PART: self = .missing
        default: self = .failed(describe(topic.err))
        }
    }

    /// What to say about a topic that is needed and cannot be used.
    func failure(topic: String, bootstrap: String, recovery: JobFailure.Recovery) -> JobFailure {
        switch self {
        case .failed(let reason):
            JobFailure(
                domain: .external, recovery: recovery, message: "the Kafka topic \"\(topic)\" at \(bootstrap) cannot be used", cause: reason)
        case .missing, .partitions:
            JobFailure(
                domain: .external, recovery: recovery,
                message: "the Kafka topic \"\(topic)\" does not exist at \(bootstrap): create it, or correct the job's topic",
                cause: describe(RD_KAFKA_RESP_ERR_UNKNOWN_TOPIC_OR_PART))
        }
    }
}

private func silentBroker(
    _ bootstrap: String, asked question: String, timeout: Duration, _ error: rd_kafka_resp_err_t, _ events: KafkaEvents
) -> JobFailure {
    JobFailure(
        domain: .external, recovery: .restart,
        message: "no Kafka broker at \(bootstrap) answered within \(formatDuration(timeout)) when asked \(question):"
            + " check that the broker runs and that bootstrap.servers and the security properties are right",
        cause: explain(error, events))
}

/// An error code in words, with what librdkafka logged about it.
private func explain(_ error: rd_kafka_resp_err_t, _ events: KafkaEvents) -> String {
    guard let explanation = events.explanation else { return describe(error) }
    return "\(describe(error)); \(explanation)"
}
