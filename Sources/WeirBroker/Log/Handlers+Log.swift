import Logging
import WeirBase
import WeirKafkaWire

extension Broker {
    /// Produce, Fetch, ListOffsets, DeleteRecords, DescribeProducers.
    func registerLogHandlers() {
        register(.produce) { [unowned self] request, context in produce(request, context) }
        register(.fetch) { [unowned self] request, context in fetch(request, context) }
        register(.listOffsets) { [unowned self] request, context in listOffsets(request, context) }
        register(.deleteRecords) { [unowned self] request, context in deleteRecords(request, context) }
        register(.describeProducers) { [unowned self] request, context in describeProducers(request, context) }
    }

    /// The log of a partition that a request names.
    ///
    /// - Parameter leaderEpoch: What the client believes to be the leader's epoch; -1 where it does not say.
    /// - Throws: ``LogRejection`` 3 for one that does not exist, 6 where a fault took the leader, 75 for an epoch that never was.
    func log(_ topic: String, _ partition: Int32, leaderEpoch: Int32 = -1) throws(LogRejection) -> PartitionLog {
        guard let log = logs.log(topic, partition) else {
            throw LogRejection(.unknownTopicOrPartition, "This server does not host the partition \(topic)-\(partition).")
        }
        guard !isLeaderless(topic, partition) else { throw LogRejection(.notLeaderOrFollower, "\(topic)-\(partition) has no leader now.") }
        guard leaderEpoch <= Self.leaderEpoch else {
            throw LogRejection(.unknownLeaderEpoch, "The leader of \(topic)-\(partition) has epoch \(Self.leaderEpoch), not \(leaderEpoch).")
        }
        return log
    }

    // MARK: Produce

    private func produce(_ request: KafkaStruct, _ context: RequestContext) {
        let acks = request.int16("acks")
        var response = KafkaStruct(responseOf: .produce)
        for topic in request.structures("topicData") {
            let name = topic.string("name")
            response.append(to: "responses") { answer in
                answer["name"] = .string(name)
                for partition in topic.structures("partitionData") {
                    answer.append(to: "partitionResponses") { append(partition, to: name, acks: acks, &$0) }
                }
            }
        }
        guard acks != 0 else { return context.finishWithoutReply() }
        afterCommit { context.reply(response) }
    }

    private func append(_ data: KafkaStruct, to topic: String, acks: Int16, _ answer: inout KafkaStruct) {
        let partition = data.int32("index")
        answer["index"] = .int(partition)
        answer["baseOffset"] = -1
        do throws(LogRejection) {
            guard (-1...1).contains(acks) else { throw LogRejection(.invalidRequiredAcks, "acks is \(acks); -1, 0 and 1 are known") }
            let log = try log(topic, partition)
            if acks == -1, let replicas = topics[topic]?.config.int("min.insync.replicas"), replicas > 1 {
                throw LogRejection(.notEnoughReplicas, "The topic wants \(replicas) replicas in sync; this broker is one.")
            }
            let appended = try log.append(data.bytes("records"), now: wallTime.milliseconds)
            answer["baseOffset"] = .int(appended.baseOffset)
            answer["logAppendTimeMs"] = .int(appended.logAppendTime)
            answer["logStartOffset"] = .int(log.logStartOffset)
        } catch {
            refuse(error, topic, partition, &answer)
        }
    }

    private func refuse(_ rejection: LogRejection, _ topic: String, _ partition: Int32, _ answer: inout KafkaStruct) {
        if rejection.code == .kafkaStorageError {
            logger.error("records cannot be stored", metadata: ["topic": "\(topic)", "partition": "\(partition)", "error": "\(rejection.message)"])
        }
        answer["errorCode"] = .code(rejection.code)
        answer["errorMessage"] = .string(rejection.message)
    }

    // MARK: Fetch

    private func fetch(_ request: KafkaStruct, _ context: RequestContext) {
        // Fetch sessions are declined: the answer to the request that opens one has no session's id, so nobody may name one.
        guard request.int32("sessionId") == 0 else {
            var response = KafkaStruct(responseOf: .fetch)
            response["errorCode"] = .code(.fetchSessionIDNotFound)
            return context.reply(response)
        }
        logs.fetches.answer(FetchRequest(request, bytesMax: properties.int("fetch.max.bytes")), context)
    }

    // MARK: Offsets

    private func listOffsets(_ request: KafkaStruct, _ context: RequestContext) {
        let isolation = IsolationLevel(rawValue: request.int8("isolationLevel")) ?? .readUncommitted
        var response = KafkaStruct(responseOf: .listOffsets)
        for topic in request.structures("topics") {
            let name = topic.string("name")
            response.append(to: "topics") { answer in
                answer["name"] = .string(name)
                for partition in topic.structures("partitions") {
                    answer.append(to: "partitions") { answerOffset(partition, of: name, isolation, &$0) }
                }
            }
        }
        context.reply(response)
    }

    private func answerOffset(_ wanted: KafkaStruct, of topic: String, _ isolation: IsolationLevel, _ answer: inout KafkaStruct) {
        let partition = wanted.int32("partitionIndex")
        answer["partitionIndex"] = .int(partition)
        do throws(LogRejection) {
            let log = try log(topic, partition, leaderEpoch: wanted.int32("currentLeaderEpoch"))
            let found: (offset: Int64, timestamp: Int64)?
            switch wanted.int64("timestamp") {
            case -1: found = (log.visibleEnd(isolation), -1)
            case -2: found = (log.logStartOffset, -1)
            case -3: found = try log.offsetOfMaxTimestamp()
            case let timestamp where timestamp >= 0: found = try log.offset(forTimestamp: timestamp, isolation: isolation)
            case let timestamp: throw LogRejection(.invalidRequest, "the special timestamp \(timestamp) is not known")
            }
            guard let found else { return }
            answer["offset"] = .int(found.offset)
            answer["timestamp"] = .int(found.timestamp)
            answer["leaderEpoch"] = .int(Self.leaderEpoch)
        } catch {
            answer["errorCode"] = .code(error.code)
        }
    }

    private func deleteRecords(_ request: KafkaStruct, _ context: RequestContext) {
        var response = KafkaStruct(responseOf: .deleteRecords)
        for topic in request.structures("topics") {
            let name = topic.string("name")
            response.append(to: "topics") { answer in
                answer["name"] = .string(name)
                for wanted in topic.structures("partitions") {
                    let partition = wanted.int32("partitionIndex")
                    answer.append(to: "partitions") { answer in
                        answer["partitionIndex"] = .int(partition)
                        answer["lowWatermark"] = -1
                        do throws(LogRejection) {
                            answer["lowWatermark"] = .int(try log(name, partition).deleteRecords(before: wanted.int64("offset")))
                        } catch {
                            answer["errorCode"] = .code(error.code)
                        }
                    }
                }
            }
        }
        afterCommit { context.reply(response) }
    }

    // MARK: Producers

    private func describeProducers(_ request: KafkaStruct, _ context: RequestContext) {
        var response = KafkaStruct(responseOf: .describeProducers)
        for topic in request.structures("topics") {
            let name = topic.string("name")
            response.append(to: "topics") { answer in
                answer["name"] = .string(name)
                for partition in topic.int32s("partitionIndexes") {
                    answer.append(to: "partitions") { describeProducers(of: name, partition, &$0) }
                }
            }
        }
        context.reply(response)
    }

    private func describeProducers(of topic: String, _ partition: Int32, _ answer: inout KafkaStruct) {
        answer["partitionIndex"] = .int(partition)
        do throws(LogRejection) {
            let producers = try log(topic, partition).producers.producers
            for (id, producer) in producers.sorted(by: { $0.key < $1.key }) {
                answer.append(to: "activeProducers") { entry in
                    entry["producerId"] = .int(id)
                    entry["producerEpoch"] = .int(producer.epoch)
                    entry["lastSequence"] = .int(producer.batches.last?.lastSequence ?? -1)
                    entry["lastTimestamp"] = .int(producer.batches.last?.timestamp ?? -1)
                    entry["coordinatorEpoch"] = .int(producer.coordinatorEpoch)
                    entry["currentTxnStartOffset"] = .int(producer.transactionStart ?? -1)
                }
            }
        } catch {
            answer["errorCode"] = .code(error.code)
            answer["errorMessage"] = .string(error.message)
        }
    }
}
