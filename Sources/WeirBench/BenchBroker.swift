import CRdKafka
import Glibc
import WeirBase
import WeirTestKit

/// A broker with a directory of its own.
final class BenchBroker {
    let process: MeasuredProcess
    let startSeconds: Double
    let bootstrap: String
    private let directory: ScratchDirectory

    init() throws {
        directory = try ScratchDirectory()
        process = try MeasuredProcess(
            try LocalCluster.binaryDirectory() + "/weir", ["broker", "--data", directory.path + "/data", "--property", "num.partitions=4"])
        let line = try process.line(containing: "broker ready on ")
        startSeconds = (ContinuousClock.now - process.started).inSeconds
        bootstrap = String(line.dropFirst("broker ready on ".count).prefix { $0 != "," })
    }

    private func client(_ type: rd_kafka_type_t, _ settings: [(String, String)]) throws -> OpaquePointer {
        let configuration = rd_kafka_conf_new()
        for (key, value) in settings + [("bootstrap.servers", bootstrap), ("log_level", "2")] {
            guard rd_kafka_conf_set(configuration, key, value, nil, 0) == RD_KAFKA_CONF_OK else {
                throw benchFailure("librdkafka refuses \(key)", cause: value)
            }
        }
        guard let client = rd_kafka_new(type, configuration, nil, 0) else { throw benchFailure("librdkafka does not start", cause: "") }
        return client
    }

    /// - Returns: Records a second, until the last one is acknowledged.
    func produce(_ count: Int, to topic: String, _ partitions: Int32, _ recordBytes: Int) throws -> Double {
        let record = [UInt8](repeating: UInt8(ascii: "x"), count: recordBytes)
        return try produce(count, to: topic, partitions) { _, writer in writer.writeBytes(record) }
    }

    /// Produces records that `write` gives the values of, 100 at a time to each partition in turn.
    ///
    /// - Returns: Records a second, until the last one is acknowledged.
    @discardableResult
    func produce(
        _ count: Int, to topic: String, _ partitions: Int32, write: (_ index: Int, _ value: inout ByteWriter) -> Void
    ) throws -> Double {
        let client = try client(
            RD_KAFKA_PRODUCER,
            [
                ("acks", "all"), ("linger.ms", "5"), ("queue.buffering.max.messages", "1000000"), ("queue.buffering.max.kbytes", "1048576"),
                ("batch.num.messages", "10000"),
            ])
        defer { rd_kafka_destroy(client) }
        let handle = rd_kafka_topic_new(client, topic, nil)
        defer { rd_kafka_topic_destroy(handle) }
        // The topic is created and the connection opened before the clock runs.
        var metadata: UnsafePointer<rd_kafka_metadata>?
        guard rd_kafka_metadata(client, 0, handle, &metadata, 10_000) == RD_KAFKA_RESP_ERR_NO_ERROR else {
            throw benchFailure("no metadata of \(topic)", cause: "")
        }
        rd_kafka_metadata_destroy(metadata)
        var value = ByteWriter(capacity: 1_024)
        let start = ContinuousClock.now
        for index in 0..<count {
            value.removeAll()
            write(index, &value)
            while true {
                let code = value.withBytes { bytes in
                    rd_kafka_produce(
                        handle, Int32(index / 100) % partitions, Int32(RD_KAFKA_MSG_F_COPY), UnsafeMutableRawPointer(mutating: bytes.baseAddress),
                        bytes.count, nil, 0, nil)
                }
                if code == 0 { break }
                rd_kafka_poll(client, 1)
            }
            if index % 1_000 == 0 { rd_kafka_poll(client, 0) }
        }
        rd_kafka_flush(client, 60_000)
        let seconds = (ContinuousClock.now - start).inSeconds
        let stored = try end(of: topic, partitions, client)
        guard stored == count else { throw benchFailure("\(stored) of \(count) records arrived", cause: "") }
        return Double(count) / seconds
    }

    /// The offsets of a topic that a client sees, markers of transactions included.
    private func end(of topic: String, _ partitions: Int32, _ client: OpaquePointer) throws -> Int64 {
        var end: Int64 = 0
        for partition in 0..<partitions {
            var low: Int64 = 0
            var high: Int64 = 0
            guard rd_kafka_query_watermark_offsets(client, topic, partition, &low, &high, 10_000) == RD_KAFKA_RESP_ERR_NO_ERROR else {
                throw benchFailure("the broker does not tell the end of \(topic)", cause: "")
            }
            end += high - low
        }
        return end
    }

    /// Makes the topic, if the broker has not got it, by asking for it.
    func makeTopic(_ topic: String) throws { try produce(0, to: topic, 1) { _, _ in } }

    /// Waits while somebody writes a topic that was empty.
    ///
    /// - Returns: The seconds from its first record, committed or not, to its last committed one.
    func secondsToFill(_ topic: String, _ partitions: Int32, records: Int) throws -> Double {
        let all = try client(RD_KAFKA_CONSUMER, [("group.id", "bench"), ("isolation.level", "read_uncommitted")])
        defer { rd_kafka_destroy(all) }
        let committed = try client(RD_KAFKA_CONSUMER, [("group.id", "bench"), ("isolation.level", "read_committed")])
        defer { rd_kafka_destroy(committed) }
        let deadline = ContinuousClock.now + .seconds(120)
        func wait(for wanted: Int64, _ client: OpaquePointer) throws -> ContinuousClock.Instant {
            while try end(of: topic, partitions, client) < wanted {
                guard ContinuousClock.now < deadline else { throw benchFailure("\(topic) was not filled in 120 s", cause: "") }
                usleep(2_000)
            }
            return .now
        }
        let first = try wait(for: 1, all)
        return (try wait(for: Int64(records), committed) - first).inSeconds
    }

    /// - Returns: Records a second, from the assignment to the last one.
    func consume(_ count: Int, from topic: String, _ partitions: Int32) throws -> Double {
        let client = try client(
            RD_KAFKA_CONSUMER, [("group.id", "bench"), ("enable.auto.commit", "false"), ("queued.min.messages", "1000000")])
        defer { rd_kafka_destroy(client) }
        let queue = rd_kafka_queue_get_consumer(client)
        defer { rd_kafka_queue_destroy(queue) }
        let list = rd_kafka_topic_partition_list_new(partitions)
        defer { rd_kafka_topic_partition_list_destroy(list) }
        for partition in 0..<partitions { rd_kafka_topic_partition_list_add(list, topic, partition).pointee.offset = 0 }
        var messages = [UnsafeMutablePointer<rd_kafka_message_t>?](repeating: nil, count: 1_000)
        let start = ContinuousClock.now
        rd_kafka_assign(client, list)
        var taken = 0
        while taken < count {
            let got = weir_kafka_consume(queue, 1_000, &messages, messages.count)
            guard got >= 0, ContinuousClock.now - start < .seconds(60) else { throw benchFailure("\(taken) of \(count) records came", cause: "") }
            for message in messages[..<got] {
                guard let message else { continue }
                if message.pointee.err == RD_KAFKA_RESP_ERR_NO_ERROR { taken += 1 }
                rd_kafka_message_destroy(message)
            }
        }
        return Double(count) / (ContinuousClock.now - start).inSeconds
    }
}
