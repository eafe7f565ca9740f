import CRdKafka
import Foundation
import Synchronization

/// A client of librdkafka's with settings, destroyed with the last reference.
class RdKafkaClient {
    struct Failure: Error, CustomStringConvertible {
        var description: String
    }

    let handle: OpaquePointer

    init(_ type: rd_kafka_type_t, _ settings: [String: String], _ configure: (OpaquePointer?) -> Void) throws {
        let configuration = rd_kafka_conf_new()
        var text = [CChar](repeating: 0, count: 512)
        for (key, value) in settings {
            guard rd_kafka_conf_set(configuration, key, value, &text, text.count) == RD_KAFKA_CONF_OK else {
                throw Failure(description: String(decoding: text.prefix { $0 != 0 }.map(UInt8.init(bitPattern:)), as: UTF8.self))
            }
        }
        configure(configuration)
        guard let handle = rd_kafka_new(type, configuration, &text, text.count) else {
            throw Failure(description: String(decoding: text.prefix { $0 != 0 }.map(UInt8.init(bitPattern:)), as: UTF8.self))
        }
        self.handle = handle
    }

    deinit { rd_kafka_destroy(handle) }

    /// Settings of a client that comes back quickly after the broker was away.
    static func settings(_ bootstrap: String, _ more: [String: String]) -> [String: String] {
        [
            "bootstrap.servers": bootstrap, "log_level": "0", "reconnect.backoff.ms": "10", "reconnect.backoff.max.ms": "100",
            "retry.backoff.ms": "20",
        ].merging(more) { $1 }
    }
}

/// Counts what librdkafka reports of each message: those written, those that failed, why.
final class Deliveries: Sendable {
    struct State {
        var acknowledged: Set<Int> = []
        var failures: [String] = []
    }
    let state = Mutex(State())

    var acknowledgedCount: Int { state.withLock { $0.acknowledged.count } }
}

/// A producer whose messages are numbers, in decimal; the number travels as the message's opaque to its delivery report.
final class NumberProducer: RdKafkaClient {
    private let deliveries: Deliveries
    private var topics: [String: OpaquePointer] = [:]

    init(_ settings: [String: String], _ deliveries: Deliveries) throws {
        self.deliveries = deliveries
        let opaque = Unmanaged.passUnretained(deliveries).toOpaque()
        try super.init(RD_KAFKA_PRODUCER, settings) { configuration in
            rd_kafka_conf_set_opaque(configuration, opaque)
            rd_kafka_conf_set_dr_msg_cb(configuration) { _, message, opaque in
                guard let message, let opaque else { return }
                let deliveries = Unmanaged<Deliveries>.fromOpaque(opaque).takeUnretainedValue()
                deliveries.state.withLock { state in
                    if message.pointee.err == RD_KAFKA_RESP_ERR_NO_ERROR {
                        state.acknowledged.insert(Int(bitPattern: message.pointee._private) - 1)
                    } else {
                        state.failures.append(String(cString: rd_kafka_err2name(message.pointee.err)))
                    }
                }
            }
        }
    }

    deinit { for topic in topics.values { rd_kafka_topic_destroy(topic) } }

    /// Gives a number to the producer, once there is room for it.
    func send(_ number: Int, to topic: String, partition: Int32) throws {
        let handle = topics[topic] ?? rd_kafka_topic_new(self.handle, topic, nil)
        topics[topic] = handle
        let text = Array("\(number)".utf8)
        while true {
            let code = text.withUnsafeBytes { bytes in
                rd_kafka_produce(
                    handle, partition, Int32(RD_KAFKA_MSG_F_COPY), UnsafeMutableRawPointer(mutating: bytes.baseAddress), bytes.count, nil, 0,
                    UnsafeMutableRawPointer(bitPattern: number + 1))
            }
            if code == 0 { break }
            guard rd_kafka_last_error() == RD_KAFKA_RESP_ERR__QUEUE_FULL else {
                throw Failure(description: "cannot send: \(String(cString: rd_kafka_err2name(rd_kafka_last_error())))")
            }
            rd_kafka_poll(self.handle, 5)
        }
        rd_kafka_poll(self.handle, 0)
    }

    func flush() throws {
        let code = rd_kafka_flush(handle, 60_000)
        guard code == RD_KAFKA_RESP_ERR_NO_ERROR else { throw Failure(description: "cannot flush: \(String(cString: rd_kafka_err2name(code)))") }
    }

    // MARK: Transactions

    enum Outcome {
        case done
        /// The transaction must be aborted.
        case mustAbort
    }

    func beginTransaction() throws { _ = try outcome { rd_kafka_begin_transaction(handle) } }
    func initTransactions() throws { _ = try outcome { rd_kafka_init_transactions(handle, 10_000) } }
    func commitTransaction() throws -> Outcome { try outcome { rd_kafka_commit_transaction(handle, 10_000) } }
    func abortTransaction() throws { _ = try outcome { rd_kafka_abort_transaction(handle, 10_000) } }

    /// Calls until it succeeds or a person would have to look: librdkafka asks to call again after a timeout.
    private func outcome(_ call: () -> OpaquePointer?) throws -> Outcome {
        let deadline = ContinuousClock.now + .seconds(60)
        while true {
            guard let error = call() else { return .done }
            defer { rd_kafka_error_destroy(error) }
            if rd_kafka_error_txn_requires_abort(error) != 0 { return .mustAbort }
            guard rd_kafka_error_is_retriable(error) != 0, ContinuousClock.now < deadline else {
                throw Failure(description: "\(String(cString: rd_kafka_error_name(error))): \(String(cString: rd_kafka_error_string(error)))")
            }
        }
    }
}

/// A consumer of given partitions from their beginning, without a group.
final class NumberConsumer: RdKafkaClient {
    struct Record: Equatable {
        var partition: Int32
        var offset: Int64
        var number: Int
    }

    init(_ settings: [String: String], topic: String, partitions: Int32) throws {
        try super.init(RD_KAFKA_CONSUMER, settings.merging(["group.id": "unused", "enable.auto.commit": "false"]) { $1 }) { _ in }
        rd_kafka_poll_set_consumer(handle)
        let list = rd_kafka_topic_partition_list_new(partitions)
        for partition in 0..<partitions { rd_kafka_topic_partition_list_add(list, topic, partition).pointee.offset = 0 }
        rd_kafka_assign(handle, list)
        rd_kafka_topic_partition_list_destroy(list)
    }

    /// The next record that comes within a tenth of a second.
    func poll() throws -> Record? {
        guard let message = rd_kafka_consumer_poll(handle, 100) else { return nil }
        defer { rd_kafka_message_destroy(message) }
        // Errors are of connections and come while the broker is away.
        guard message.pointee.err == RD_KAFKA_RESP_ERR_NO_ERROR else { return nil }
        let value = UnsafeRawBufferPointer(start: message.pointee.payload, count: message.pointee.len)
        guard let number = Int(String(decoding: value, as: UTF8.self)) else { throw Failure(description: "a record that is no number") }
        return Record(partition: message.pointee.partition, offset: message.pointee.offset, number: number)
    }
}
