import CRdKafka
import Foundation
import Synchronization

@testable import WeirBroker

/// A producer with a transactional id; its messages are numbers, in decimal.
final class TransactionalProducer: RdKafkaClient {
    struct Failure: Error, CustomStringConvertible {
        var description: String
        var isFatal: Bool
    }

    private static let timeoutMilliseconds: Int32 = 20_000
    /// The last statistics, as JSON; librdkafka's own thread does not touch it, ``identity()`` polls.
    private final class Statistics: Sendable {
        let text = Mutex("")
    }

    private let statistics = Statistics()

    /// Returns once the producer has its id and epoch.
    init(_ bootstrap: String, id: String, _ more: [String: String]) throws {
        let opaque = Unmanaged.passUnretained(statistics).toOpaque()
        let settings = Self.settings(bootstrap, ["transactional.id": id, "linger.ms": "0", "transaction.timeout.ms": "60000"].merging(more) { $1 })
        try super.init(RD_KAFKA_PRODUCER, settings) { configuration in
            rd_kafka_conf_set_opaque(configuration, opaque)
            rd_kafka_conf_set_stats_cb(configuration) { _, json, length, opaque in
                guard let json, let opaque else { return 0 }
                let text = String(decoding: UnsafeRawBufferPointer(start: json, count: length), as: UTF8.self)
                Unmanaged<Statistics>.fromOpaque(opaque).takeUnretainedValue().text.withLock { $0 = text }
                return 0
            }
        }
        try check { rd_kafka_init_transactions(handle, Self.timeoutMilliseconds) }
    }

    private func check(_ call: () -> OpaquePointer?) throws {
        guard let error = call() else { return }
        defer { rd_kafka_error_destroy(error) }
        throw Failure(
            description: "\(String(cString: rd_kafka_error_name(error))): \(String(cString: rd_kafka_error_string(error)))",
            isFatal: rd_kafka_error_is_fatal(error) != 0)
    }

    func begin() throws { try check { rd_kafka_begin_transaction(handle) } }
    func commit() throws { try check { rd_kafka_commit_transaction(handle, Self.timeoutMilliseconds) } }
    func abort() throws { try check { rd_kafka_abort_transaction(handle, Self.timeoutMilliseconds) } }

    func send(_ number: Int, _ topic: String, partition: Int32 = 0) throws {
        let handle = rd_kafka_topic_new(self.handle, topic, nil)
        defer { rd_kafka_topic_destroy(handle) }
        let code = Array("\(number)".utf8).withUnsafeBytes { bytes in
            rd_kafka_produce(
                handle, partition, Int32(RD_KAFKA_MSG_F_COPY), UnsafeMutableRawPointer(mutating: bytes.baseAddress), bytes.count, nil, 0, nil)
        }
        guard code == 0 else { throw Failure(description: String(cString: rd_kafka_err2name(rd_kafka_last_error())), isFatal: false) }
    }

    func flush() throws {
        let code = rd_kafka_flush(handle, Self.timeoutMilliseconds)
        guard code == RD_KAFKA_RESP_ERR_NO_ERROR else { throw Failure(description: String(cString: rd_kafka_err2name(code)), isFatal: false) }
    }

    func sendOffset(_ offset: Int64, _ topic: String, group: String) throws {
        let list = rd_kafka_topic_partition_list_new(1)
        defer { rd_kafka_topic_partition_list_destroy(list) }
        rd_kafka_topic_partition_list_add(list, topic, 0).pointee.offset = offset
        let metadata = rd_kafka_consumer_group_metadata_new(group)
        defer { rd_kafka_consumer_group_metadata_destroy(metadata) }
        try check { rd_kafka_send_offsets_to_transaction(handle, list, metadata, Self.timeoutMilliseconds) }
    }

    var fatalError: rd_kafka_resp_err_t {
        var text = [CChar](repeating: 0, count: 256)
        return rd_kafka_fatal_error(handle, &text, text.count)
    }

    /// The producer's id and epoch, out of its statistics. Needs `statistics.interval.ms`.
    func identity() throws -> ProducerIdentity {
        struct Report: Decodable {
            struct EOS: Decodable {
                var producer_id: Int64
                var producer_epoch: Int16
            }
            var eos: EOS
        }
        let deadline = ContinuousClock.now + .seconds(20)
        while ContinuousClock.now < deadline {
            rd_kafka_poll(handle, 20)
            let text = statistics.text.withLock { $0 }
            // Reports from before the producer had its id say -1.
            guard !text.isEmpty, let eos = try? JSONDecoder().decode(Report.self, from: Data(text.utf8)).eos, eos.producer_id >= 0 else { continue }
            return ProducerIdentity(id: eos.producer_id, epoch: eos.producer_epoch)
        }
        throw Failure(description: "no statistics with a producer id", isFatal: false)
    }
}

/// Reads one partition from an offset to its end.
final class PartitionReader: RdKafkaClient {
    init(_ bootstrap: String, _ topic: String, _ partition: Int32, from offset: Int64, isolation: String) throws {
        let settings = [
            "group.id": "reader", "enable.auto.commit": "false", "enable.partition.eof": "true", "isolation.level": isolation, "check.crcs": "true",
            "fetch.wait.max.ms": "50",
        ]
        try super.init(RD_KAFKA_CONSUMER, Self.settings(bootstrap, settings)) { _ in }
        rd_kafka_poll_set_consumer(handle)
        let list = rd_kafka_topic_partition_list_new(1)
        rd_kafka_topic_partition_list_add(list, topic, partition).pointee.offset = offset
        rd_kafka_assign(handle, list)
        rd_kafka_topic_partition_list_destroy(list)
    }

    func readToEnd() throws -> [Int] {
        var numbers: [Int] = []
        let deadline = ContinuousClock.now + .seconds(20)
        while ContinuousClock.now < deadline {
            guard let message = rd_kafka_consumer_poll(handle, 100) else { continue }
            defer { rd_kafka_message_destroy(message) }
            switch message.pointee.err {
            case RD_KAFKA_RESP_ERR__PARTITION_EOF: return numbers
            case RD_KAFKA_RESP_ERR_NO_ERROR: numbers.append(Self.number(message))
            default: throw Failure(description: String(cString: rd_kafka_err2name(message.pointee.err)))
            }
        }
        throw Failure(description: "no end of the partition within 20 s, after \(numbers)")
    }

    static func number(_ message: UnsafeMutablePointer<rd_kafka_message_t>) -> Int {
        let value = UnsafeRawBufferPointer(start: message.pointee.payload, count: message.pointee.len)
        return Int(String(decoding: value, as: UTF8.self)) ?? -1
    }
}

/// A member of a group that reads a topic of numbers.
final class GroupConsumer: RdKafkaClient {
    private(set) var numbers: [Int] = []
    private var isClosed = false

    init(_ bootstrap: String, _ settings: [String: String], topic: String) throws {
        try super.init(RD_KAFKA_CONSUMER, Self.settings(bootstrap, settings)) { _ in }
        rd_kafka_poll_set_consumer(handle)
        let list = rd_kafka_topic_partition_list_new(1)
        rd_kafka_topic_partition_list_add(list, topic, -1)
        rd_kafka_subscribe(handle, list)
        rd_kafka_topic_partition_list_destroy(list)
    }

    deinit { close() }

    func close() {
        guard !isClosed else { return }
        isClosed = true
        rd_kafka_consumer_close(handle)
    }

    /// How many partitions it has.
    var assigned: Int {
        var list: UnsafeMutablePointer<rd_kafka_topic_partition_list_t>?
        guard rd_kafka_assignment(handle, &list) == RD_KAFKA_RESP_ERR_NO_ERROR, let list else { return 0 }
        defer { rd_kafka_topic_partition_list_destroy(list) }
        return Int(list.pointee.cnt)
    }

    /// Changes with every generation of the group that the member is told of.
    var generation: [UInt8] {
        let metadata = rd_kafka_consumer_group_metadata(handle)
        defer { rd_kafka_consumer_group_metadata_destroy(metadata) }
        var bytes: UnsafeMutableRawPointer?
        var count = 0
        guard let metadata, rd_kafka_consumer_group_metadata_write(metadata, &bytes, &count) == nil, let bytes else { return [] }
        defer { rd_kafka_mem_free(nil, bytes) }
        return [UInt8](UnsafeRawBufferPointer(start: bytes, count: count))
    }

    private func poll() {
        guard let message = rd_kafka_consumer_poll(handle, 20) else { return }
        defer { rd_kafka_message_destroy(message) }
        if message.pointee.err == RD_KAFKA_RESP_ERR_NO_ERROR { numbers.append(PartitionReader.number(message)) }
    }

    /// Lets members work until something is so.
    static func poll(_ members: [GroupConsumer?], until isDone: () -> Bool) throws {
        let deadline = ContinuousClock.now + .seconds(30)
        while !isDone() {
            guard ContinuousClock.now < deadline else {
                throw Failure(description: "not within 30 s; partitions: \(members.compactMap { $0?.assigned })")
            }
            for member in members { member?.poll() }
        }
    }
}
