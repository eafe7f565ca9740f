internal import CRdKafka
internal import Glibc
package import WeirBase

/// Writes records of a topic, for tests and demos. Not thread-safe.
package final class TopicWriter {
    private let client: OpaquePointer
    private let topic: OpaquePointer

    /// - Parameter properties: librdkafka's, laid over those of the writer.
    package init(bootstrap: String, topic name: String, properties: [String: String] = [:]) throws(JobFailure) {
        let own = ["bootstrap.servers": bootstrap, "linger.ms": "5", "partitioner": "murmur2_random"]
        client = try makeClient(RD_KAFKA_PRODUCER, own.merging(properties) { $1 })
        guard let topic = rd_kafka_topic_new(client, name, nil) else {
            rd_kafka_destroy(client)
            throw JobFailure(domain: .external, recovery: .fail, message: "no handle for topic \(name)")
        }
        self.topic = topic
    }

    deinit {
        rd_kafka_topic_destroy(topic)
        rd_kafka_destroy(client)
    }

    /// Hands a record over; waits where librdkafka's queue is full.
    package func write(key: String, value: String, timestamp: Int64) throws(JobFailure) {
        var key = key
        var value = value
        while true {
            let error = key.withUTF8 { key in
                value.withUTF8 { value in
                    weir_kafka_produce(client, topic, weir_kafka_partition_any, key.baseAddress, key.count, value.baseAddress, value.count, timestamp)
                }
            }
            switch error {
            case RD_KAFKA_RESP_ERR_NO_ERROR: return
            case RD_KAFKA_RESP_ERR__QUEUE_FULL: rd_kafka_poll(client, 10)
            default: throw JobFailure(domain: .external, recovery: .fail, message: "cannot write", cause: String(cString: rd_kafka_err2str(error)))
            }
        }
    }

    /// The same value to one partition.
    package func write(partition: Int32, value: String, timestamp: Int64) throws(JobFailure) {
        var value = value
        let error = value.withUTF8 { weir_kafka_produce(client, topic, partition, nil, 0, $0.baseAddress, $0.count, timestamp) }
        guard error == RD_KAFKA_RESP_ERR_NO_ERROR else {
            throw JobFailure(domain: .external, recovery: .fail, message: "cannot write", cause: String(cString: rd_kafka_err2str(error)))
        }
    }

    /// Waits until everything is acknowledged.
    package func flush() throws(JobFailure) {
        guard rd_kafka_flush(client, 30_000) == RD_KAFKA_RESP_ERR_NO_ERROR else {
            throw JobFailure(domain: .external, recovery: .fail, message: "the broker did not take all records within 30 s")
        }
    }
}

/// Reads the values of a topic from the beginning. Not thread-safe.
package final class TopicReader {
    private let client: OpaquePointer

    /// - Parameter properties: librdkafka's, laid over those of the reader.
    package init(bootstrap: String, topic: String, partitions: Int32, properties: [String: String] = [:]) throws(JobFailure) {
        let own = ["bootstrap.servers": bootstrap, "group.id": "weir-reader", "enable.auto.commit": "false"]
        client = try makeClient(RD_KAFKA_CONSUMER, own.merging(properties) { $1 })
        rd_kafka_poll_set_consumer(client)
        guard let list = rd_kafka_topic_partition_list_new(partitions) else { preconditionFailure("librdkafka is out of memory") }
        for partition in 0..<partitions { rd_kafka_topic_partition_list_add(list, topic, partition).pointee.offset = weir_kafka_offset_earliest }
        let error = rd_kafka_assign(client, list)
        rd_kafka_topic_partition_list_destroy(list)
        guard error == RD_KAFKA_RESP_ERR_NO_ERROR else {
            throw JobFailure(domain: .external, recovery: .fail, message: "cannot read \(topic)", cause: String(cString: rd_kafka_err2str(error)))
        }
    }

    deinit { rd_kafka_destroy_flags(client, Int32(RD_KAFKA_DESTROY_F_NO_CONSUMER_CLOSE)) }

    /// The next value; nil if none comes within the time.
    package func next(milliseconds: Int32) -> [UInt8]? {
        guard let message = rd_kafka_consumer_poll(client, milliseconds) else { return nil }
        defer { rd_kafka_message_destroy(message) }
        guard message.pointee.err == RD_KAFKA_RESP_ERR_NO_ERROR, let payload = message.pointee.payload else { return nil }
        return [UInt8](UnsafeRawBufferPointer(start: payload, count: message.pointee.len))
    }
}

/// The end of each partition of a topic.
///
/// - Parameter committed: The end for `read_committed` readers, who come no further than the first open transaction.
package func topicEnds(bootstrap: String, topic: String, partitions: Int32, committed: Bool) throws(JobFailure) -> [Int64] {
    let isolation = committed ? "read_committed" : "read_uncommitted"
    let client = try makeClient(RD_KAFKA_CONSUMER, ["bootstrap.servers": bootstrap, "group.id": "weir-reader", "isolation.level": isolation])
    defer { rd_kafka_destroy_flags(client, Int32(RD_KAFKA_DESTROY_F_NO_CONSUMER_CLOSE)) }
    var ends: [Int64] = []
    for partition in 0..<partitions {
        var low: Int64 = 0
        var high: Int64 = 0
        let error = rd_kafka_query_watermark_offsets(client, topic, partition, &low, &high, 10_000)
        guard error == RD_KAFKA_RESP_ERR_NO_ERROR else {
            throw JobFailure(
                domain: .external, recovery: .fail, message: "no end of \(topic)[\(partition)]", cause: String(cString: rd_kafka_err2str(error)))
        }
        ends.append(high)
    }
    return ends
}

func makeClient(_ type: rd_kafka_type_t, _ properties: [String: String]) throws(JobFailure) -> OpaquePointer {
    guard let configuration = rd_kafka_conf_new() else { preconditionFailure("librdkafka is out of memory") }
    var problem = [CChar](repeating: 0, count: 512)
    for (name, value) in properties {
        guard rd_kafka_conf_set(configuration, name, value, &problem, problem.count) == RD_KAFKA_CONF_OK else {
            rd_kafka_conf_destroy(configuration)
            throw JobFailure(domain: .configuration, recovery: .fail, message: text(problem))
        }
    }
    guard let client = rd_kafka_new(type, configuration, &problem, problem.count) else {
        rd_kafka_conf_destroy(configuration)
        throw JobFailure(domain: .external, recovery: .fail, message: "no Kafka client", cause: text(problem))
    }
    return client
}

private func text(_ characters: [CChar]) -> String {
    String(decoding: characters.prefix { $0 != 0 }.map { UInt8(bitPattern: $0) }, as: UTF8.self)
}
