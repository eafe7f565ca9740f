import CRdKafka
import Glibc
import WeirBase
import WeirTestKit

extension Benchmark {
    private static let recordBytes = 100
    private static let partitions: Int32 = 4

    /// `weir broker` as a process of its own, with librdkafka in this one as its client.
    static var broker: [Benchmark] {
        let setup = "records of \(recordBytes) bytes, \(partitions) partitions, data on the disk without --fsync; librdkafka on the same machine"
        return [
            Benchmark(name: "broker.produce", unit: "records/s", goal: .atLeast(300_000)) {
                let broker = try BenchBroker()
                return Samples(
                    try (0..<5).map { run in try broker.produce(2_000_000, to: "produce-\(run)", partitions, recordBytes) },
                    setup: "2M \(setup), acks=all")
            },
            Benchmark(name: "broker.consume", unit: "records/s", goal: .atLeast(600_000)) {
                let broker = try BenchBroker()
                _ = try broker.produce(2_000_000, to: "consume", partitions, recordBytes)
                return Samples(try (0..<5).map { _ in try broker.consume(2_000_000, from: "consume", partitions) }, setup: "2M \(setup)")
            },
            Benchmark(name: "broker.start", unit: "s", goal: .atMost(0.1)) {
                Samples(try (0..<11).map { _ in try BenchBroker().startSeconds }, setup: "from the spawn to its ready line, an empty directory")
            },
            Benchmark(name: "broker.memory", unit: "MB", goal: .atMost(20)) {
                Samples(
                    try (0..<5).map { _ in Double(try BenchBroker().process.residentBytes) / 1e6 },
                    setup: "resident once it is ready, an empty directory")
            },
        ]
    }
}

/// A broker with a directory of its own.
private final class BenchBroker {
    let process: MeasuredProcess
    let startSeconds: Double
    private let bootstrap: String
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
        var record = [UInt8](repeating: UInt8(ascii: "x"), count: recordBytes)
        let start = ContinuousClock.now
        var sent = 0
        while sent < count {
            let code = record.withUnsafeMutableBytes { bytes in
                rd_kafka_produce(
                    handle, Int32(sent / 100) % partitions, Int32(RD_KAFKA_MSG_F_COPY), bytes.baseAddress, bytes.count, nil, 0, nil)
            }
            if code == 0 { sent += 1 } else { rd_kafka_poll(client, 1) }
            if sent % 1_000 == 0 { rd_kafka_poll(client, 0) }
        }
        rd_kafka_flush(client, 60_000)
        let seconds = (ContinuousClock.now - start).inSeconds
        var stored: Int64 = 0
        for partition in 0..<partitions {
            var low: Int64 = 0
            var high: Int64 = 0
            rd_kafka_query_watermark_offsets(client, topic, partition, &low, &high, 10_000)
            stored += high - low
        }
        guard stored == count else { throw benchFailure("\(stored) of \(count) records arrived", cause: "") }
        return Double(count) / seconds
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
