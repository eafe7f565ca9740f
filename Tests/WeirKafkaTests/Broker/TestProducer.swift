import CRdKafka
import Testing
import WeirBase

@testable import WeirKafka

/// A record as a test writes it.
struct TestRecord {
    var value: String?
    var key: String?
    var partition: Int32 = 0
    /// Milliseconds since 1970; 0: now.
    var timestamp: Int64 = 0
    var headers: [KafkaRecord.Header] = []
}

/// Writes records and knows that they were written.
final class TestProducer {
    private let client: OpaquePointer
    private let topic: String
    private let events = KafkaEvents()

    /// - Parameter transactionalID: nil writes without transactions.
    init(_ kafka: TestKafka, _ topic: String, transactionalID: String? = nil, properties: KafkaProperties = [:]) throws {
        var all: KafkaProperties = ["bootstrap.servers": kafka.bootstrap, "linger.ms": "0", "enable.idempotence": "true", "log_level": "2"]
        if let transactionalID { all["transactional.id"] = transactionalID }
        client = try makeClient(RD_KAFKA_PRODUCER, properties: all.merging(properties), forced: [:], events: events, purpose: "a test")
        self.topic = topic
        if transactionalID != nil { try check(rd_kafka_init_transactions(client, 20_000)) }
    }

    deinit {
        rd_kafka_purge(client, RD_KAFKA_PURGE_F_QUEUE | RD_KAFKA_PURGE_F_INFLIGHT)
        rd_kafka_destroy(client)
    }

    private func check(_ error: OpaquePointer?) throws {
        guard let error else { return }
        defer { rd_kafka_error_destroy(error) }
        Issue.record("\(String(cString: rd_kafka_error_string(error)))")
        throw JobFailure(domain: .external, recovery: .fail, message: String(cString: rd_kafka_error_string(error)))
    }

    func begin() throws { try check(rd_kafka_begin_transaction(client)) }
    func commit() throws { try check(rd_kafka_commit_transaction(client, 20_000)) }
    func abort() throws { try check(rd_kafka_abort_transaction(client, 20_000)) }

    /// Hands records over without waiting for them to be written.
    func send(_ records: [TestRecord]) throws {
        for record in records {
            let headers = rd_kafka_headers_new(record.headers.count)
            for header in record.headers {
                if let value = header.value {
                    _ = value.withUnsafeBytes {
                        rd_kafka_header_add(headers, header.key, -1, $0.baseAddress ?? UnsafeRawPointer(bitPattern: 8), value.count)
                    }
                } else {
                    rd_kafka_header_add(headers, header.key, -1, nil, 0)
                }
            }
            let key = record.key.map { Array($0.utf8) }
            let value = record.value.map { Array($0.utf8) }
            while true {
                let error = (key ?? []).withUnsafeBytes { keyBytes in
                    (value ?? []).withUnsafeBytes { valueBytes in
                        weir_kafka_produce_with_headers(
                            client, topic, record.partition, key == nil ? nil : keyBytes.baseAddress ?? UnsafeRawPointer(bitPattern: 8),
                            keyBytes.count,
                            value == nil ? nil : valueBytes.baseAddress ?? UnsafeRawPointer(bitPattern: 8), valueBytes.count, record.timestamp,
                            headers)
                    }
                }
                if error == RD_KAFKA_RESP_ERR__QUEUE_FULL {
                    rd_kafka_poll(client, 10)
                    continue
                }
                try #require(error == RD_KAFKA_RESP_ERR_NO_ERROR, "\(describe(error))")
                break
            }
        }
    }

    func flush() throws {
        try #require(rd_kafka_flush(client, 30_000) == RD_KAFKA_RESP_ERR_NO_ERROR)
        let failure = events.takeDeliveryFailure()
        try #require(failure == nil, "\(String(describing: failure))")
    }

    func write(_ records: [TestRecord]) throws {
        try send(records)
        try flush()
    }

    func write(_ values: [String], to partition: Int32 = 0, timestamp: Int64 = 0) throws {
        try write(values.map { TestRecord(value: $0, partition: partition, timestamp: timestamp) })
    }
}

extension TestKafka {
    /// Writes values to one partition, and returns once they are there.
    func write(_ topic: String, _ values: [String], to partition: Int32 = 0, timestamp: Int64 = 0) throws {
        try TestProducer(self, topic).write(values, to: partition, timestamp: timestamp)
    }

    func write(_ topic: String, _ records: [TestRecord]) throws { try TestProducer(self, topic).write(records) }
}
