import CRdKafka
import Foundation
import Testing
import WeirBase
import WeirBroker
import WeirKafkaWire

@testable import WeirKafka

/// The broker that a test talks to: an embedded one of its own, or the one at `KAFKA_BOOTSTRAP`.
///
/// Topics are made by ``topic(partitions:config:)`` and have names that nothing else has.
final class TestKafka: @unchecked Sendable {  // librdkafka's handle and the broker may be used by any thread; nothing changes after init.
    static let foreign = ProcessInfo.processInfo.environment["KAFKA_BOOTSTRAP"]
    /// For tests that need a broker which they may disturb.
    static var isEmbedded: Bool { foreign == nil }

    let bootstrap: String
    /// nil where the broker is not ours.
    private let embedded: Broker?
    private let client: OpaquePointer

    init(properties: [String: String] = [:]) throws {
        if let foreign = Self.foreign {
            (bootstrap, embedded) = (foreign, nil)
        } else {
            var options = BrokerOptions()
            options.properties = properties.merging(["auto.create.topics.enable": "false"]) { own, _ in own }
            let broker = try Broker(options: options)
            try broker.start()
            (bootstrap, embedded) = (broker.bootstrap, broker)
        }
        client = try Self.client(RD_KAFKA_PRODUCER, ["bootstrap.servers": bootstrap, "log_level": "2"])
    }

    deinit {
        rd_kafka_destroy(client)
        embedded?.stop()
    }

    /// The embedded broker, to be disturbed.
    var broker: Broker {
        get throws { try #require(embedded) }
    }

    static func client(_ type: rd_kafka_type_t, _ properties: [String: String]) throws -> OpaquePointer {
        var text = [CChar](repeating: 0, count: 512)
        let configuration = rd_kafka_conf_new()
        for (key, value) in properties {
            try #require(rd_kafka_conf_set(configuration, key, value, &text, text.count) == RD_KAFKA_CONF_OK, "\(string(text))")
        }
        return try #require(rd_kafka_new(type, configuration, &text, text.count), "\(string(text))")
    }

    // MARK: Topics

    /// Makes a topic and gives its name.
    func topic(partitions: Int32 = 1, prefix: String = "t", config: [String: String] = [:]) throws -> String {
        let name = "\(prefix)-\(String(UInt64.random(in: .min ... .max), radix: 36))"
        try create(name, partitions: partitions, config: config)
        return name
    }

    func create(_ name: String, partitions: Int32, config: [String: String] = [:]) throws {
        var text = [CChar](repeating: 0, count: 512)
        var topic = rd_kafka_NewTopic_new(name, partitions, 1, &text, text.count)
        defer { rd_kafka_NewTopic_destroy(topic) }
        for (key, value) in config { rd_kafka_NewTopic_set_config(topic, key, value) }
        try administer { queue in
            rd_kafka_CreateTopics(client, &topic, 1, nil, queue)
        } errors: { event in
            var count = 0
            let results = rd_kafka_CreateTopics_result_topics(rd_kafka_event_CreateTopics_result(event), &count)
            return (0..<count).compactMap { results?[$0] }.map(rd_kafka_topic_result_error)
        }
    }

    func setPartitions(_ topic: String, to count: Int) throws {
        var text = [CChar](repeating: 0, count: 512)
        var partitions = rd_kafka_NewPartitions_new(topic, count, &text, text.count)
        defer { rd_kafka_NewPartitions_destroy(partitions) }
        try administer { queue in
            rd_kafka_CreatePartitions(client, &partitions, 1, nil, queue)
        } errors: { event in
            var count = 0
            let results = rd_kafka_CreatePartitions_result_topics(rd_kafka_event_CreatePartitions_result(event), &count)
            return (0..<count).compactMap { results?[$0] }.map(rd_kafka_topic_result_error)
        }
    }

    func delete(_ topic: String) throws {
        var deletion = rd_kafka_DeleteTopic_new(topic)
        defer { rd_kafka_DeleteTopic_destroy(deletion) }
        try administer { queue in
            rd_kafka_DeleteTopics(client, &deletion, 1, nil, queue)
        } errors: { event in
            var count = 0
            let results = rd_kafka_DeleteTopics_result_topics(rd_kafka_event_DeleteTopics_result(event), &count)
            return (0..<count).compactMap { results?[$0] }.map(rd_kafka_topic_result_error)
        }
    }

    /// Deletes the records of a partition below an offset.
    func deleteRecords(_ topic: String, _ partition: Int32 = 0, before offset: Int64) throws {
        let list = makeList([(KafkaPartition(topic, partition), offset: offset)])
        defer { rd_kafka_topic_partition_list_destroy(list) }
        var deletion = rd_kafka_DeleteRecords_new(list)
        defer { rd_kafka_DeleteRecords_destroy(deletion) }
        try administer { queue in
            rd_kafka_DeleteRecords(client, &deletion, 1, nil, queue)
        } errors: { event in
            guard let offsets = rd_kafka_DeleteRecords_result_offsets(rd_kafka_event_DeleteRecords_result(event)) else { return [] }
            return (0..<Int(offsets.pointee.cnt)).map { offsets.pointee.elems[$0].err }
        }
    }

    private func administer(_ ask: (OpaquePointer) -> Void, errors: (OpaquePointer) -> [rd_kafka_resp_err_t]) throws {
        let queue = try #require(rd_kafka_queue_new(client))
        defer { rd_kafka_queue_destroy(queue) }
        ask(queue)
        let event = try #require(rd_kafka_queue_poll(queue, 15_000))
        defer { rd_kafka_event_destroy(event) }
        try #require(rd_kafka_event_error(event) == RD_KAFKA_RESP_ERR_NO_ERROR, "\(String(cString: rd_kafka_event_error_string(event)))")
        for error in errors(event) { try #require(error == RD_KAFKA_RESP_ERR_NO_ERROR, "\(describe(error))") }
    }

    // MARK: Groups

    /// The offset that a group has committed; nil for none.
    func committed(_ group: String, _ topic: String, _ partition: Int32 = 0) throws -> Int64? {
        let consumer = try KafkaClient(consumer: ["bootstrap.servers": bootstrap, "group.id": group], purpose: "a test")
        let offset = try consumer.committed([KafkaPartition(topic, partition)], timeout: .seconds(10))[KafkaPartition(topic, partition)]
        return offset.flatMap { $0 < 0 ? nil : $0 }
    }

    /// Commits an offset as somebody else of the group would.
    func commit(_ group: String, _ topic: String, _ partition: Int32 = 0, _ offset: Int64) throws {
        let consumer = try KafkaClient(consumer: ["bootstrap.servers": bootstrap, "group.id": group], purpose: "a test")
        let list = makeList([(KafkaPartition(topic, partition), offset: offset)])
        defer { rd_kafka_topic_partition_list_destroy(list) }
        let error = rd_kafka_commit(consumer.handle, list, 0)
        try #require(error == RD_KAFKA_RESP_ERR_NO_ERROR, "\(describe(error))")
    }
}
