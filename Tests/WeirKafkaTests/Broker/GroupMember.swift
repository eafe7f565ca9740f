import CRdKafka
import Testing

@testable import WeirKafka

/// A consumer that has joined a group, as other programs do.
final class GroupMember {
    private let client: OpaquePointer

    init(_ kafka: TestKafka, group: String, topic: String) throws {
        client = try TestKafka.client(
            RD_KAFKA_CONSUMER, ["bootstrap.servers": kafka.bootstrap, "group.id": group, "session.timeout.ms": "6000", "log_level": "2"])
        rd_kafka_poll_set_consumer(client)
        let list = rd_kafka_topic_partition_list_new(1)
        defer { rd_kafka_topic_partition_list_destroy(list) }
        rd_kafka_topic_partition_list_add(list, topic, weir_kafka_partition_any)
        try #require(rd_kafka_subscribe(client, list) == RD_KAFKA_RESP_ERR_NO_ERROR)
    }

    deinit {
        rd_kafka_consumer_close(client)
        rd_kafka_destroy(client)
    }

    func waitForAssignment() async throws {
        let end = ContinuousClock.now + .seconds(20)
        while ContinuousClock.now < end {
            if let message = rd_kafka_consumer_poll(client, 50) { rd_kafka_message_destroy(message) }
            var list: UnsafeMutablePointer<rd_kafka_topic_partition_list_t>?
            guard rd_kafka_assignment(client, &list) == RD_KAFKA_RESP_ERR_NO_ERROR, let list else { continue }
            defer { rd_kafka_topic_partition_list_destroy(list) }
            if list.pointee.cnt > 0 { return }
        }
        Issue.record("the member was assigned nothing")
    }
}
