import Glibc
import WeirKafkaWire

/// A client that speaks the protocol itself, one connection, so that tests decide every byte and every order. Blocking.
final class WireClient {
    struct Failure: Error, CustomStringConvertible {
        var description: String
    }

    /// How long an answer may take.
    private static let timeoutSeconds = 20

    private let descriptor: Int32
    private var nextCorrelation: Int32 = 1
    private var sent: [(correlation: Int32, api: ApiKey, version: Int16)] = []

    /// - Parameter bootstrap: "127.0.0.1:49152".
    init(_ bootstrap: String) throws {
        guard let colon = bootstrap.lastIndex(of: ":"), let port = UInt16(bootstrap[bootstrap.index(after: colon)...]) else {
            throw Failure(description: "no address: \(bootstrap)")
        }
        descriptor = socket(AF_INET, Int32(SOCK_STREAM.rawValue), 0)
        var address = sockaddr_in()
        address.sin_family = sa_family_t(AF_INET)
        address.sin_port = port.bigEndian
        address.sin_addr.s_addr = inet_addr(String(bootstrap[..<colon]))
        let code = withUnsafePointer(to: &address) {
            $0.withMemoryRebound(to: sockaddr.self, capacity: 1) { connect(descriptor, $0, socklen_t(MemoryLayout<sockaddr_in>.size)) }
        }
        guard code == 0 else { throw Failure(description: "cannot connect to \(bootstrap): error \(errno)") }
        var timeout = timeval(tv_sec: Self.timeoutSeconds, tv_usec: 0)
        setsockopt(descriptor, SOL_SOCKET, SO_RCVTIMEO, &timeout, socklen_t(MemoryLayout<timeval>.size))
        var on: Int32 = 1
        setsockopt(descriptor, Int32(IPPROTO_TCP), TCP_NODELAY, &on, socklen_t(MemoryLayout<Int32>.size))
    }

    deinit { close(descriptor) }

    /// Sends a request and returns its answer.
    ///
    /// - Parameter version: The newest one by default.
    func call(_ api: ApiKey, version: Int16? = nil, _ fill: (inout KafkaStruct) -> Void = { _ in }) throws -> KafkaStruct {
        try send(api, version: version, fill)
        return try receive()
    }

    /// Sends a request; ``receive()`` gives the answers in the same order.
    ///
    /// - Parameter expectsAnswer: False for Produce with acks=0.
    func send(_ api: ApiKey, version: Int16? = nil, expectsAnswer: Bool = true, _ fill: (inout KafkaStruct) -> Void = { _ in }) throws {
        var body = KafkaStruct(requestOf: api)
        fill(&body)
        let version = version ?? ApiSchema.of(api).versions.highest
        if expectsAnswer { sent.append((nextCorrelation, api, version)) }
        let pieces = KafkaMessage.request(api, version: version, correlationID: nextCorrelation, clientID: "test", body: body)
        nextCorrelation += 1
        try send(pieces.flatMap(\.array))
    }

    /// Sends bytes as they are.
    func send(_ bytes: [UInt8]) throws {
        var done = 0
        while done < bytes.count {
            let count = bytes[done...].withUnsafeBytes { Glibc.send(descriptor, $0.baseAddress, $0.count, Int32(MSG_NOSIGNAL)) }
            guard count > 0 else { throw Failure(description: "cannot send: error \(errno)") }
            done += count
        }
    }

    /// The answer to the oldest request that has none yet.
    func receive() throws -> KafkaStruct {
        let request = sent.removeFirst()
        let length = Int(KafkaBytes(try receive(4)).load(Int32.self, at: 0))
        let answer = try KafkaMessage.decodeResponse(request.api, version: request.version, frame: KafkaBytes(try receive(length)))
        guard answer.correlationID == request.correlation else {
            throw Failure(description: "an answer to request \(answer.correlationID) instead of \(request.correlation)")
        }
        return answer.body
    }

    private func receive(_ count: Int) throws -> [UInt8] {
        var bytes = [UInt8](repeating: 0, count: count)
        var done = 0
        while done < count {
            let got = bytes[done...].withUnsafeMutableBytes { recv(descriptor, $0.baseAddress, $0.count, 0) }
            guard got > 0 else { throw Failure(description: got == 0 ? "the broker closed the connection" : "no answer: error \(errno)") }
            done += got
        }
        return bytes
    }

    /// Whether nothing has come for a time.
    func isSilent(forMilliseconds time: Int32) -> Bool {
        var poll = pollfd(fd: descriptor, events: Int16(POLLIN), revents: 0)
        return Glibc.poll(&poll, 1, time) == 0
    }
}

// MARK: Requests that many tests send

extension WireClient {
    struct Produced: Equatable {
        var code: KafkaErrorCode
        var baseOffset: Int64
    }

    func createTopic(_ name: String, partitions: Int32 = 1, config: [String: String] = [:]) throws {
        let answer = try call(.createTopics) { request in
            request["timeoutMs"] = 1_000
            request.append(to: "topics") { topic in
                topic["name"] = .string(name)
                topic["numPartitions"] = .int(partitions)
                topic["replicationFactor"] = 1
                for (key, value) in config.sorted(by: { $0.key < $1.key }) {
                    topic.append(to: "configs") { entry in
                        entry["name"] = .string(key)
                        entry["value"] = .string(value)
                    }
                }
            }
        }
        let code = answer.structures("topics")[0].errorCode()
        guard code == .none else { throw Failure(description: "cannot create \(name): \(code)") }
    }

    static func produce(
        _ request: inout KafkaStruct, _ topic: String, _ partition: Int32, _ records: KafkaBytes, acks: Int16, transactionalID: String?
    ) {
        request["acks"] = .int(acks)
        request["timeoutMs"] = 1_000
        request["transactionalId"] = .optional(transactionalID)
        request.append(to: "topicData") { data in
            data["name"] = .string(topic)
            data.append(to: "partitionData") { entry in
                entry["index"] = .int(partition)
                entry["records"] = .bytes(records)
            }
        }
    }

    func produce(
        _ topic: String, _ records: KafkaBytes, partition: Int32 = 0, acks: Int16 = -1, transactionalID: String? = nil
    ) throws -> Produced {
        let answer = try call(.produce) {
            Self.produce(&$0, topic, partition, records, acks: acks, transactionalID: transactionalID)
        }
        let entry = answer.structures("responses")[0].structures("partitionResponses")[0]
        return Produced(code: entry.errorCode(), baseOffset: entry.int64("baseOffset"))
    }

    struct FetchedPartition {
        var topic: String
        var partition: Int32 = 0
        var offset: Int64 = 0
        var maxBytes: Int32 = 1 << 20
        var leaderEpoch: Int32 = -1
    }

    static func fetch(
        _ request: inout KafkaStruct, _ partitions: [FetchedPartition], minBytes: Int32, maxBytes: Int32, maxWait: Int32, isolation: IsolationCode
    ) {
        request["maxWaitMs"] = .int(maxWait)
        request["minBytes"] = .int(minBytes)
        request["maxBytes"] = .int(maxBytes)
        request["isolationLevel"] = .int(isolation.rawValue)
        for wanted in partitions {
            request.append(to: "topics") { topic in
                topic["topic"] = .string(wanted.topic)
                topic.append(to: "partitions") { entry in
                    entry["partition"] = .int(wanted.partition)
                    entry["fetchOffset"] = .int(wanted.offset)
                    entry["partitionMaxBytes"] = .int(wanted.maxBytes)
                    entry["currentLeaderEpoch"] = .int(wanted.leaderEpoch)
                }
            }
        }
    }

    enum IsolationCode: Int8 {
        case readUncommitted = 0
        case readCommitted = 1
    }

    /// The answers' partitions, in order.
    func fetch(
        _ partitions: [FetchedPartition], minBytes: Int32 = 1, maxBytes: Int32 = 1 << 20, maxWait: Int32 = 0,
        isolation: IsolationCode = .readUncommitted
    ) throws -> [KafkaStruct] {
        try call(.fetch) { Self.fetch(&$0, partitions, minBytes: minBytes, maxBytes: maxBytes, maxWait: maxWait, isolation: isolation) }
            .structures("responses").flatMap { $0.structures("partitions") }
    }
}
