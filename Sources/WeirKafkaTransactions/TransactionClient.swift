import WeirBase
package import WeirKafkaWire

/// Asks coordinators about transactions, and ends them, without the producer that wrote them.
///
/// Classic requests only (EndTxn up to version 3): from version 5 on (KIP-890) the broker gives a producer a new epoch with each
/// transaction, which librdkafka does not take part in.
///
/// Used by one thread at a time. Each call waits until its patience is over at most. A coordinator that has moved is looked up anew by the
/// next call.
package final class TransactionClient {
    /// One request; a broker that says nothing for so long is asked again.
    package static let requestTimeout = Duration.seconds(5)
    package static let connectTimeout = Duration.seconds(3)

    private enum CoordinatorKey: Hashable {
        case group(String)
        case transaction(String)

        var name: String {
            switch self {
            case .group(let name), .transaction(let name): name
            }
        }
        var type: Int8 { if case .group = self { 0 } else { 1 } }
    }

    private let bootstrap: [KafkaAddress]
    private var connections: [KafkaAddress: KafkaConnection] = [:]
    private var coordinators: [CoordinatorKey: KafkaAddress] = [:]

    package init(bootstrap: String) throws(KafkaClientFailure) { self.bootstrap = try KafkaAddress.list(bootstrap) }

    package func close() {
        for connection in connections.values { connection.close() }
        connections = [:]
    }

    // MARK: Connections

    private func connection(_ address: KafkaAddress, _ patience: KafkaPatience) throws(KafkaClientFailure) -> KafkaConnection {
        if let connection = connections[address] { return connection }
        let connection = try KafkaConnection(address, patience.limited(to: Self.connectTimeout))
        connections[address] = connection
        return connection
    }

    private func drop(_ address: KafkaAddress) {
        connections.removeValue(forKey: address)?.close()
        coordinators = coordinators.filter { $0.value != address }
    }

    func send(
        _ api: ApiKey, atMost: Int16, to address: KafkaAddress, _ body: KafkaStruct, _ patience: KafkaPatience
    ) throws(KafkaClientFailure) -> KafkaStruct {
        do throws(KafkaClientFailure) {
            return try connection(address, patience).send(api, atMost: atMost, body, patience.limited(to: Self.requestTimeout))
        } catch {
            drop(address)
            throw error
        }
    }

    /// Asks whichever broker answers.
    func sendToAny(_ api: ApiKey, atMost: Int16, _ body: KafkaStruct, _ patience: KafkaPatience) throws(KafkaClientFailure) -> KafkaStruct {
        var failures: [String] = []
        let open = connections.keys.sorted { "\($0)" < "\($1)" }
        for address in open + bootstrap where !patience.isOver {
            do throws(KafkaClientFailure) {
                return try send(api, atMost: atMost, to: address, body, patience)
            } catch {
                failures.append(error.description)
            }
        }
        throw KafkaClientFailure(failures.isEmpty ? "no broker was asked in time" : "no broker answers: " + failures.joined(separator: "; "))
    }

    private func coordinator(_ key: CoordinatorKey, _ patience: KafkaPatience) throws(KafkaClientFailure) -> Result<KafkaAddress, KafkaErrorCode> {
        if let known = coordinators[key] { return .success(known) }
        var request = KafkaStruct(requestOf: .findCoordinator)
        request["key"] = .string(key.name)
        request["keyType"] = .int(key.type)
        let reply = try sendToAny(.findCoordinator, atMost: 3, request, patience)
        guard reply.errorCode() == .none else { return .failure(reply.errorCode()) }
        guard let port = UInt16(exactly: reply.int32("port")) else { throw KafkaClientFailure("the coordinator has the port \(reply.int32("port"))") }
        let address = KafkaAddress(host: reply.string("host"), port: port)
        coordinators[key] = address
        return .success(address)
    }

    /// Sends to the coordinator of a key.
    private func send(
        _ api: ApiKey, atMost: Int16, to key: CoordinatorKey, _ body: KafkaStruct, _ patience: KafkaPatience
    ) throws(KafkaClientFailure) -> Result<KafkaStruct, KafkaErrorCode> {
        switch try coordinator(key, patience) {
        case .failure(let code): return .failure(code)
        case .success(let address): return .success(try send(api, atMost: atMost, to: address, body, patience))
        }
    }

    /// Forgets a coordinator that says it is none, so that the next call looks it up.
    private func noted(_ code: KafkaErrorCode, _ key: CoordinatorKey) -> KafkaErrorCode {
        if [.coordinatorNotAvailable, .notCoordinator, .coordinatorLoadInProgress].contains(code) { coordinators[key] = nil }
        return code
    }

    // MARK: Requests

    /// EndTxn.
    package func endTransaction(
        _ id: TransactionalID, _ session: ProducerSession, commit: Bool, _ patience: KafkaPatience
    ) throws(KafkaClientFailure) -> KafkaErrorCode {
        var request = KafkaStruct(requestOf: .endTxn)
        request["transactionalId"] = .string(id.description)
        request["producerId"] = .int(session.producerID)
        request["producerEpoch"] = .int(session.epoch)
        request["committed"] = .bool(commit)
        let key = CoordinatorKey.transaction(id.description)
        switch try send(.endTxn, atMost: 3, to: key, request, patience) {
        case .failure(let code): return code
        case .success(let reply): return noted(reply.errorCode(), key)
        }
    }

    /// InitProducerId: a new session, which aborts the transaction of the one before and fences its producer.
    ///
    /// - Parameter expected: Only if this session holds the id still (KIP-360, Kafka 2.5); nil in any case.
    package func initialise(
        _ id: TransactionalID, timeoutMilliseconds: Int64, expected: ProducerSession? = nil, _ patience: KafkaPatience
    ) throws(KafkaClientFailure) -> Result<ProducerSession, KafkaErrorCode> {
        var request = KafkaStruct(requestOf: .initProducerId)
        request["transactionalId"] = .string(id.description)
        request["transactionTimeoutMs"] = .int(Int32(clamping: timeoutMilliseconds))
        if let expected {
            request["producerId"] = .int(expected.producerID)
            request["producerEpoch"] = .int(expected.epoch)
        }
        let key = CoordinatorKey.transaction(id.description)
        switch try send(.initProducerId, atMost: 4, to: key, request, patience) {
        case .failure(let code): return .failure(code)
        case .success(let reply):
            guard reply.errorCode() == .none else { return .failure(noted(reply.errorCode(), key)) }
            return .success(ProducerSession(producerID: reply.int64("producerId"), epoch: reply.int16("producerEpoch")))
        }
    }

    /// The commit marker of a transactional id, as the answer that ``TransactionResolution`` waits for.
    ///
    /// - Parameter stable: Needs Kafka 2.5 (OffsetFetch 7); an older broker answers without waiting.
    package func fetchMarker(
        _ id: TransactionalID, topic: String, stable: Bool, _ patience: KafkaPatience
    ) throws(KafkaClientFailure) -> TransactionResolution.Answer {
        var request = KafkaStruct(requestOf: .offsetFetch)
        request["groupId"] = .string(id.markerGroup)
        request["requireStable"] = .bool(stable)
        request.append(to: "topics") {
            $0["name"] = .string(topic)
            $0["partitionIndexes"] = .ints([0])
        }
        let key = CoordinatorKey.group(id.markerGroup)
        switch try send(.offsetFetch, atMost: 7, to: key, request, patience) {
        case .failure(let code): return .markerFailed(code)
        case .success(let reply):
            guard reply.errorCode() == .none else { return .markerFailed(noted(reply.errorCode(), key)) }
            guard let partition = reply.structures("topics").first?.structures("partitions").first else { return .marker(nil) }
            let code = partition.errorCode()
            // A topic that is not there (any more) has no offsets.
            guard code == .none || code == .unknownTopicOrPartition else { return .markerFailed(noted(code, key)) }
            let offset = partition.int64("committedOffset")
            guard offset >= 0, code == .none else { return .marker(nil) }
            let metadata = partition.string("metadata")
            return CommitMarker(offset: offset, metadata: metadata).map { .marker($0) } ?? .foreignMarker(metadata)
        }
    }

    /// A transactional id as brokers list it.
    package struct Listed: Sendable, Equatable {
        package var name: String
        package var producerID: Int64
        /// `Empty`, `Ongoing`, `PrepareCommit`, `CompleteCommit`, …
        package var state: String
    }

    /// All transactional ids that the user may see, of all brokers, in order; nil where a broker does not know ListTransactions (Kafka 3.0).
    package func listTransactions(_ patience: KafkaPatience) throws(KafkaClientFailure) -> [Listed]? {
        var found: [Listed] = []
        for (_, address) in try brokers(patience) {
            guard try connection(address, patience).speaks(.listTransactions) else { return nil }
            let reply = try send(.listTransactions, atMost: 0, to: address, KafkaStruct(requestOf: .listTransactions), patience)
            guard reply.errorCode() == .none else {
                throw KafkaClientFailure("\(address) does not list transactions: \(TransactionResolution.describe(reply.errorCode()))")
            }
            for state in reply.structures("transactionStates") {
                found.append(
                    Listed(name: state.string("transactionalId"), producerID: state.int64("producerId"), state: state.string("transactionState")))
            }
        }
        return found.sorted { $0.name < $1.name }
    }

    /// What the coordinator knows of a transaction.
    package struct Description: Sendable, Equatable {
        package var state: String
        package var session: ProducerSession
        /// Milliseconds since 1970; -1 if none is open.
        package var startedAt: Int64
        package var timeoutMilliseconds: Int64
        package var partitions: [String: [Int32]]
    }

    /// DescribeTransactions (Kafka 3.0).
    package func describe(_ id: String, _ patience: KafkaPatience) throws(KafkaClientFailure) -> Result<Description, KafkaErrorCode> {
        var request = KafkaStruct(requestOf: .describeTransactions)
        request["transactionalIds"] = .strings([id])
        let key = CoordinatorKey.transaction(id)
        switch try send(.describeTransactions, atMost: 0, to: key, request, patience) {
        case .failure(let code): return .failure(code)
        case .success(let reply):
            guard let state = reply.structures("transactionStates").first else { return .failure(.transactionalIDNotFound) }
            guard state.errorCode() == .none else { return .failure(noted(state.errorCode(), key)) }
            var partitions: [String: [Int32]] = [:]
            for topic in state.structures("topics") { partitions[topic.string("topic")] = topic.int32s("partitions") }
            return .success(
                Description(
                    state: state.string("transactionState"),
                    session: ProducerSession(producerID: state.int64("producerId"), epoch: state.int16("producerEpoch")),
                    startedAt: state.int64("transactionStartTimeMs"), timeoutMilliseconds: state.int64("transactionTimeoutMs"),
                    partitions: partitions))
        }
    }
}

extension TransactionClient {
    /// The greatest time-out that the broker lets a transaction have, in milliseconds; nil if it does not say, to this user.
    package func transactionTimeoutMax(_ patience: KafkaPatience) throws(KafkaClientFailure) -> Int64? {
        let brokers = try brokers(patience)
        guard let broker = brokers.first else { return nil }
        var request = KafkaStruct(requestOf: .describeConfigs)
        request.append(to: "resources") {
            $0["resourceType"] = 4  // A broker.
            $0["resourceName"] = .string("\(broker.id)")
            $0["configurationKeys"] = .strings(["transaction.max.timeout.ms"])
        }
        let reply = try send(.describeConfigs, atMost: 1, to: broker.address, request, patience)
        let entries = reply.structures("results").first?.structures("configs") ?? []
        return entries.first { $0.string("name") == "transaction.max.timeout.ms" }?.optionalString("value").flatMap { Int64($0) }
    }

    func brokers(_ patience: KafkaPatience) throws(KafkaClientFailure) -> [(id: Int32, address: KafkaAddress)] {
        var request = KafkaStruct(requestOf: .metadata)
        request["topics"] = .array([])
        request["allowAutoTopicCreation"] = .bool(false)
        return try sendToAny(.metadata, atMost: 8, request, patience).structures("brokers").compactMap { broker in
            guard let port = UInt16(exactly: broker.int32("port")) else { return nil }
            return (broker.int32("nodeId"), KafkaAddress(host: broker.string("host"), port: port))
        }
    }
}
