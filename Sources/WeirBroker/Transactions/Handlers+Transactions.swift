import WeirBase
import WeirKafkaWire

extension Broker {
    /// InitProducerId, AddPartitionsToTxn, AddOffsetsToTxn, TxnOffsetCommit, EndTxn, ListTransactions, DescribeTransactions.
    func registerTransactionHandlers() {
        register(.initProducerId) { [unowned self] request, context in initProducerID(request, context) }
        register(.addPartitionsToTxn) { [unowned self] request, context in addPartitions(request, context) }
        register(.addOffsetsToTxn) { [unowned self] request, context in addOffsets(request, context) }
        register(.txnOffsetCommit) { [unowned self] request, context in transactionalOffsetCommit(request, context) }
        register(.endTxn) { [unowned self] request, context in endTransaction(request, context) }
        register(.listTransactions) { [unowned self] request, context in listTransactions(request, context) }
        register(.describeTransactions) { [unowned self] request, context in describeTransactions(request, context) }
    }

    private static func producer(_ request: KafkaStruct) -> ProducerIdentity {
        ProducerIdentity(id: request.int64("producerId"), epoch: request.int16("producerEpoch"))
    }

    /// Clients that ask in an older version know 47 for a producer that was fenced, not 90.
    private static func code(_ error: KafkaErrorCode, _ context: RequestContext, fencedSince version: Int16) -> KafkaValue {
        .code(error == .producerFenced && context.apiVersion < version ? .invalidProducerEpoch : error)
    }

    private func initProducerID(_ request: KafkaStruct, _ context: RequestContext) {
        func reply(_ error: KafkaErrorCode, _ producer: ProducerIdentity) {
            var response = KafkaStruct(responseOf: .initProducerId)
            response["errorCode"] = Self.code(error, context, fencedSince: 4)
            response["producerId"] = .int(producer.id)
            response["producerEpoch"] = .int(producer.epoch)
            context.reply(response)
        }
        let held = Self.producer(request)
        // Both or neither.
        guard (held.id == -1) == (held.epoch == -1) else { return reply(.invalidRequest, .none) }
        let event = TransactionCoordinator.Event.initProducerID(
            transactionalID: request.optionalString("transactionalId"), timeoutMilliseconds: request.int32("transactionTimeoutMs"),
            expected: held == .none ? nil : held)
        coordinators.handle(event) { answer in
            guard case .producer(let error, let producer) = answer else { preconditionFailure("InitProducerId answered with \(answer)") }
            reply(error, producer)
        }
    }

    private func addPartitions(_ request: KafkaStruct, _ context: RequestContext) {
        let partitions = request.structures("topics").flatMap { topic in
            topic.int32s("partitions").map { TopicPartition(topic: topic.string("name"), partition: $0) }
        }
        func reply(_ error: (TopicPartition) -> KafkaErrorCode) {
            var response = KafkaStruct(responseOf: .addPartitionsToTxn)
            for topic in request.structures("topics") {
                let name = topic.string("name")
                response.append(to: "resultsByTopic") { entry in
                    entry["name"] = .string(name)
                    for partition in topic.int32s("partitions") {
                        entry.append(to: "resultsByPartition") { entry in
                            entry["partitionIndex"] = .int(partition)
                            entry["partitionErrorCode"] = Self.code(
                                error(TopicPartition(topic: name, partition: partition)), context, fencedSince: 2)
                        }
                    }
                }
            }
            context.reply(response)
        }
        // All or none.
        let exists = { [unowned self] (partition: TopicPartition) in topics.hasPartition(partition.topic, partition.partition) }
        guard partitions.allSatisfy(exists) else {
            return reply { exists($0) ? .operationNotAttempted : .unknownTopicOrPartition }
        }
        coordinators.handle(.addPartitions(transactionalID: request.string("transactionalId"), Self.producer(request), partitions)) { answer in
            let error = Self.error(answer)
            reply { _ in error }
        }
    }

    private static func error(_ answer: TransactionCoordinator.Reply) -> KafkaErrorCode {
        switch answer {
        case .done(let error), .producer(let error, _): error
        }
    }

    private func addOffsets(_ request: KafkaStruct, _ context: RequestContext) {
        let event = TransactionCoordinator.Event.addGroup(
            transactionalID: request.string("transactionalId"), Self.producer(request), group: request.string("groupId"))
        coordinators.handle(event) { answer in
            var response = KafkaStruct(responseOf: .addOffsetsToTxn)
            response["errorCode"] = Self.code(Self.error(answer), context, fencedSince: 2)
            context.reply(response)
        }
    }

    private func transactionalOffsetCommit(_ request: KafkaStruct, _ context: RequestContext) {
        let group = request.string("groupId")
        let producer = Self.producer(request)
        let problem =
            group.isEmpty
            ? .invalidGroupID : coordinators.verify(transactionalID: request.string("transactionalId"), producer: producer, group: group)
        guard problem == .none else { return context.reply(Self.commitResponse(.txnOffsetCommit, request) { _ in problem }) }
        let commit = OffsetCommit(
            group: group, generation: request.int32("generationId"), memberID: request.string("memberId"),
            instanceID: request.optionalString("groupInstanceId"), offsets: committedOffsets(request), producerID: producer.id)
        coordinators.handle(.commit(commit)) { reply in
            context.reply(Self.commitResponse(.txnOffsetCommit, request, reply))
        }
    }

    private func endTransaction(_ request: KafkaStruct, _ context: RequestContext) {
        let event = TransactionCoordinator.Event.end(
            transactionalID: request.string("transactionalId"), Self.producer(request), commit: request.bool("committed"))
        coordinators.handle(event) { answer in
            var response = KafkaStruct(responseOf: .endTxn)
            response["errorCode"] = Self.code(Self.error(answer), context, fencedSince: 2)
            context.reply(response)
        }
    }

    // MARK: Administration

    private func listTransactions(_ request: KafkaStruct, _ context: RequestContext) {
        let states = request.strings("stateFilters")
        let known = Set(TransactionState.allCases.map(\.name))
        let producers = Set(request.int64s("producerIdFilters"))
        let duration = request.int64("durationFilter")
        let now = wallTime
        coordinators.query { (transactions: TransactionCoordinator) in
            transactions.all
        } reply: { all in
            var response = KafkaStruct(responseOf: .listTransactions)
            response["unknownStateFilters"] = .strings(states.filter { !known.contains($0) })
            for transaction in all where (states.isEmpty || states.contains(transaction.state.name)) {
                if !producers.isEmpty, !producers.contains(transaction.producerID) { continue }
                if duration >= 0 {
                    guard let startedAt = transaction.startedAt, now.milliseconds - startedAt.milliseconds > duration else { continue }
                }
                response.append(to: "transactionStates") { entry in
                    entry["transactionalId"] = .string(transaction.transactionalID)
                    entry["producerId"] = .int(transaction.producerID)
                    entry["transactionState"] = .string(transaction.state.name)
                }
            }
            context.reply(response)
        }
    }

    private func describeTransactions(_ request: KafkaStruct, _ context: RequestContext) {
        let ids = request.strings("transactionalIds")
        coordinators.query { (transactions: TransactionCoordinator) in
            ids.map { transactions.transactions[$0] }
        } reply: { found in
            var response = KafkaStruct(responseOf: .describeTransactions)
            for (id, transaction) in zip(ids, found) {
                response.append(to: "transactionStates") { entry in
                    entry["transactionalId"] = .string(id)
                    if let transaction {
                        Self.describe(transaction, &entry)
                    } else {
                        entry["errorCode"] = .code(id.isEmpty ? .invalidRequest : .transactionalIDNotFound)
                    }
                }
            }
            context.reply(response)
        }
    }

    private static func describe(_ transaction: TransactionMetadata, _ entry: inout KafkaStruct) {
        entry["transactionState"] = .string(transaction.state.name)
        entry["transactionTimeoutMs"] = .int(transaction.timeoutMilliseconds)
        entry["transactionStartTimeMs"] = .int(transaction.startedAt?.milliseconds ?? -1)
        entry["producerId"] = .int(transaction.producerID)
        entry["producerEpoch"] = .int(transaction.epoch)
        // A group shows as the partition of the topic in which Kafka would keep its offsets.
        let groups = Set(transaction.groups.map { TopicPartition(topic: offsetsTopic, partition: offsetsPartition(of: $0)) })
        let byTopic = Dictionary(grouping: transaction.partitions.union(groups), by: \.topic)
        for (topic, partitions) in byTopic.sorted(by: { $0.key < $1.key }) {
            entry.append(to: "topics") { entry in
                entry["topic"] = .string(topic)
                entry["partitions"] = .ints(partitions.map(\.partition).sorted())
            }
        }
    }

    private static let offsetsTopic = "__consumer_offsets"

    /// Java's hash of the group's id, over Kafka's 50 partitions.
    static func offsetsPartition(of group: String) -> Int32 {
        let hash = group.utf16.reduce(Int32(0)) { $0 &* 31 &+ Int32($1) }
        return (hash & Int32.max) % 50
    }
}
