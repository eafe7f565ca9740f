internal import CRdKafka
internal import Foundation
package import WeirBase

/// The broker that tests take instead of the embedded one: KAFKA_BOOTSTRAP of the environment; nil where that is empty or not set.
package func externalBootstrap() -> String? {
    ProcessInfo.processInfo.environment["KAFKA_BOOTSTRAP"].flatMap { $0.isEmpty ? nil : $0 }
}

/// Creates and deletes topics of any Kafka broker, for tests and demos. Not thread-safe.
package final class TopicAdministration {
    private static let timeoutMilliseconds: Int32 = 30_000
    private let client: OpaquePointer

    package init(bootstrap: String) throws(JobFailure) {
        client = try makeClient(RD_KAFKA_PRODUCER, ["bootstrap.servers": bootstrap])
    }

    deinit { rd_kafka_destroy(client) }

    /// Returns once every partition of the new topic has a leader.
    package func create(_ name: String, partitions: Int32) throws(JobFailure) {
        var text = [CChar](repeating: 0, count: 512)
        var topic = rd_kafka_NewTopic_new(name, partitions, 1, &text, text.count)
        let queue = rd_kafka_queue_new(client)
        defer {
            rd_kafka_queue_destroy(queue)
            rd_kafka_NewTopic_destroy(topic)
        }
        rd_kafka_CreateTopics(client, &topic, 1, nil, queue)
        guard let event = rd_kafka_queue_poll(queue, Self.timeoutMilliseconds) else { throw Self.failure(name, RD_KAFKA_RESP_ERR__TIMED_OUT) }
        defer { rd_kafka_event_destroy(event) }
        guard rd_kafka_event_error(event) == RD_KAFKA_RESP_ERR_NO_ERROR else { throw Self.failure(name, rd_kafka_event_error(event)) }
        var count = 0
        let results = rd_kafka_CreateTopics_result_topics(rd_kafka_event_CreateTopics_result(event), &count)
        let error = results.flatMap { $0[0] }.map { rd_kafka_topic_result_error($0) } ?? RD_KAFKA_RESP_ERR_UNKNOWN
        guard error == RD_KAFKA_RESP_ERR_NO_ERROR else { throw Self.failure(name, error) }
        try waitForLeaders(name, partitions)
    }

    private func waitForLeaders(_ name: String, _ partitions: Int32) throws(JobFailure) {
        let handle = rd_kafka_topic_new(client, name, nil)
        defer { rd_kafka_topic_destroy(handle) }
        let deadline = ContinuousClock.now + .milliseconds(Int(Self.timeoutMilliseconds))
        while ContinuousClock.now < deadline {
            var metadata: UnsafePointer<rd_kafka_metadata>?
            guard rd_kafka_metadata(client, 0, handle, &metadata, Self.timeoutMilliseconds) == RD_KAFKA_RESP_ERR_NO_ERROR, let metadata else {
                continue
            }
            defer { rd_kafka_metadata_destroy(metadata) }
            let topic = metadata.pointee.topics[0]
            if topic.partition_cnt == partitions, (0..<Int(partitions)).allSatisfy({ topic.partitions[$0].leader >= 0 }) { return }
        }
        throw Self.failure(name, RD_KAFKA_RESP_ERR_LEADER_NOT_AVAILABLE)
    }

    /// Deletes a topic; one that is gone is no error.
    package func delete(_ name: String) {
        var topic = rd_kafka_DeleteTopic_new(name)
        let queue = rd_kafka_queue_new(client)
        rd_kafka_DeleteTopics(client, &topic, 1, nil, queue)
        if let event = rd_kafka_queue_poll(queue, Self.timeoutMilliseconds) { rd_kafka_event_destroy(event) }
        rd_kafka_queue_destroy(queue)
        rd_kafka_DeleteTopic_destroy(topic)
    }

    private static func failure(_ name: String, _ error: rd_kafka_resp_err_t) -> JobFailure {
        JobFailure(
            domain: .external, recovery: .fail, message: "cannot create the topic \(name)", cause: String(cString: rd_kafka_err2str(error)))
    }
}
