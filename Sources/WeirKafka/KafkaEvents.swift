import CRdKafka
import Synchronization
import WeirBase

/// What a client of librdkafka says outside of calls: log lines, errors, results of commits and deliveries.
///
/// Log lines come on librdkafka's threads, the rest on the thread that polls. Kept small: the latest few lines explain a failure.
package final class KafkaEvents: Sendable {
    /// A record that was not written, or will not be.
    package struct DeliveryFailure: Sendable, Equatable {
        package var topic: String
        package var partition: Int32
        package var reason: String
    }

    private struct State {
        var lines: [String] = []
        var error: String?
        var commitsSucceeded = 0
        var commitsFailed = 0
        var commitFailure: String?
        var committed: [KafkaPartition: Int64] = [:]
        var deliveryFailure: DeliveryFailure?
        var deliveriesFailed = 0
    }

    /// What a producer tells every now and then.
    let statistics = KafkaProducerStatistics()

    private static let linesMax = 8
    private let state = Mutex(State())
    private let wake = Mutex<(@Sendable () -> Void)?>(nil)

    package init() {}

    /// The newest error or log line that may explain why a call timed out.
    package var explanation: String? { state.withLock { $0.error ?? $0.lines.last } }

    /// What was said about commits since the last call.
    package struct Commits: Sendable, Equatable {
        package var succeeded = 0
        package var failed = 0
        /// Why the last of those that failed did.
        package var failure: String?
        /// The offsets of those that succeeded.
        package var offsets: [KafkaPartition: Int64] = [:]
    }

    package func takeCommits() -> Commits {
        state.withLock { state in
            defer { (state.commitsSucceeded, state.commitsFailed, state.commitFailure, state.committed) = (0, 0, nil, [:]) }
            return Commits(
                succeeded: state.commitsSucceeded, failed: state.commitsFailed, failure: state.commitFailure, offsets: state.committed)
        }
    }

    package var deliveriesFailed: Int { state.withLock { $0.deliveriesFailed } }

    /// The first failed delivery since the last call, which is told once.
    package func takeDeliveryFailure() -> DeliveryFailure? {
        state.withLock { state in
            defer { state.deliveryFailure = nil }
            return state.deliveryFailure
        }
    }

    /// Calls `body` from any thread when something came into an empty queue.
    package func onWake(_ body: (@Sendable () -> Void)?) { wake.withLock { $0 = body } }

    func wakeUp() { wake.withLock { $0 }?() }

    func log(level: Int32, line: String) {
        // Syslog levels: 4 is a warning. Less urgent lines explain nothing.
        guard level <= 4 else { return }
        state.withLock { state in
            if state.lines.count == Self.linesMax { state.lines.removeFirst() }
            state.lines.append(line)
        }
    }

    func fail(_ reason: String) { state.withLock { $0.error = reason } }

    func commitFinished(_ failure: String?, _ offsets: [KafkaPartition: Int64]) {
        state.withLock { state in
            if let failure {
                state.commitsFailed += 1
                state.commitFailure = failure
            } else {
                state.commitsSucceeded += 1
                state.committed.merge(offsets) { $1 }
            }
        }
    }

    func deliveryFailed(_ failure: DeliveryFailure) {
        state.withLock { state in
            state.deliveriesFailed += 1
            if state.deliveryFailure == nil { state.deliveryFailure = failure }
        }
    }

    /// The events of the client that a callback was called for. The handle that owns the client keeps them alive until it is gone.
    static func of(_ opaque: UnsafeMutableRawPointer) -> KafkaEvents {
        Unmanaged<KafkaEvents>.fromOpaque(opaque).takeUnretainedValue()
    }
}

/// Makes a client with callbacks into `events`.
///
/// - Parameters:
///   - forced: Properties that the handle depends on; they win over `properties`.
///   - purpose: What the client is for, for messages: `reading topic telemetries`.
/// - Throws: A configuration failure that names the property and what librdkafka says about it.
func makeClient(
    _ type: rd_kafka_type_t, properties: KafkaProperties, forced: KafkaProperties, events: KafkaEvents, purpose: String
) throws(JobFailure) -> OpaquePointer {
    let configuration = rd_kafka_conf_new()
    var text = [CChar](repeating: 0, count: 512)
    for (key, value) in properties.merging(forced).pairs {
        guard rd_kafka_conf_set(configuration, key, value, &text, text.count) == RD_KAFKA_CONF_OK else {
            rd_kafka_conf_destroy(configuration)
            throw JobFailure(
                domain: .configuration, recovery: .fail, message: "the Kafka property \(key) for \(purpose) is refused",
                cause: string(text))
        }
    }
    rd_kafka_conf_set_opaque(configuration, Unmanaged.passUnretained(events).toOpaque())
    rd_kafka_conf_set_log_cb(configuration) { client, level, facility, line in
        guard let client, let line, let opaque = rd_kafka_opaque(client) else { return }
        KafkaEvents.of(opaque).log(level: level, line: "\(facility.map { String(cString: $0) } ?? "LOG"): \(String(cString: line))")
    }
    rd_kafka_conf_set_error_cb(configuration) { _, error, reason, opaque in
        let code = rd_kafka_resp_err_t(rawValue: error)
        // That all brokers are down is always said last, and says less than what came before.
        guard let opaque, code != RD_KAFKA_RESP_ERR__ALL_BROKERS_DOWN else { return }
        KafkaEvents.of(opaque).fail(reason.map { String(cString: $0) } ?? describe(code))
    }
    if type == RD_KAFKA_CONSUMER {
        rd_kafka_conf_set_offset_commit_cb(configuration) { _, error, list, opaque in
            guard let opaque else { return }
            var offsets: [KafkaPartition: Int64] = [:]
            var failure = error != RD_KAFKA_RESP_ERR_NO_ERROR && error != RD_KAFKA_RESP_ERR__NO_OFFSET ? describe(error) : nil
            for index in 0..<Int(list?.pointee.cnt ?? 0) {
                guard let entry = list?.pointee.elems[index] else { continue }
                let partition = KafkaPartition(String(cString: entry.topic), entry.partition)
                if entry.err == RD_KAFKA_RESP_ERR_NO_ERROR {
                    offsets[partition] = entry.offset
                } else {
                    failure = failure ?? "\(partition): \(describe(entry.err))"
                }
            }
            KafkaEvents.of(opaque).commitFinished(failure, offsets)
        }
    } else {
        rd_kafka_conf_set_stats_cb(configuration) { _, json, count, opaque in
            if let opaque, let json { KafkaEvents.of(opaque).statistics.take(UnsafeRawBufferPointer(start: json, count: count)) }
            return 0  // librdkafka frees the text.
        }
        rd_kafka_conf_set_dr_msg_cb(configuration) { _, message, opaque in
            guard let opaque, let message, message.pointee.err != RD_KAFKA_RESP_ERR_NO_ERROR else { return }
            let topic = message.pointee.rkt.map { String(cString: rd_kafka_topic_name($0)) } ?? "?"
            KafkaEvents.of(opaque).deliveryFailed(
                .init(topic: topic, partition: message.pointee.partition, reason: describeDelivery(message.pointee.err)))
        }
    }
    guard let client = rd_kafka_new(type, configuration, &text, text.count) else {
        rd_kafka_conf_destroy(configuration)
        throw JobFailure(
            domain: .configuration, recovery: .fail, message: "no Kafka client can be made for \(purpose)", cause: string(text))
    }
    return client
}

/// Why a record was not written, and what to do where somebody can do something.
private func describeDelivery(_ error: rd_kafka_resp_err_t) -> String {
    let advice =
        switch error {
        case RD_KAFKA_RESP_ERR_MSG_SIZE_TOO_LARGE: ": write smaller records, or raise the topic's max.message.bytes"
        case RD_KAFKA_RESP_ERR_TOPIC_AUTHORIZATION_FAILED: ": allow the sink's user to write the topic"
        case RD_KAFKA_RESP_ERR_TRANSACTIONAL_ID_AUTHORIZATION_FAILED: ": allow the sink's user to write the transactional ids with the sink's prefix"
        case RD_KAFKA_RESP_ERR_CLUSTER_AUTHORIZATION_FAILED: ": allow the sink's user to write idempotently, or leave enable.idempotence out"
        default: ""
        }
    return describe(error) + advice
}

/// librdkafka's sentence for an error code.
func describe(_ error: rd_kafka_resp_err_t) -> String { String(cString: rd_kafka_err2str(error)) }

/// The text of a C buffer up to its zero.
func string(_ text: [CChar]) -> String {
    String(decoding: text.prefix { $0 != 0 }.map { UInt8(bitPattern: $0) }, as: UTF8.self)
}
