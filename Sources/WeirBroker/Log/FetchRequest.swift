import WeirKafkaWire

/// A Fetch request as far as one node without fetch sessions understands it.
struct FetchRequest {
    struct Partition {
        var topic: String
        var partition: Int32
        var leaderEpoch: Int32
        var offset: Int64
        var maxBytes: Int
    }

    var maxWaitMilliseconds: Int32
    var minBytes: Int
    var maxBytes: Int
    var isolation: IsolationLevel
    /// In the order in which the client wants them served.
    var partitions: [Partition] = []

    init(_ request: KafkaStruct, bytesMax: Int) {
        maxWaitMilliseconds = request.int32("maxWaitMs")
        minBytes = min(Int(request.int32("minBytes")), bytesMax)
        maxBytes = max(0, min(Int(request.int32("maxBytes")), bytesMax))
        isolation = IsolationLevel(rawValue: request.int8("isolationLevel")) ?? .readUncommitted
        for topic in request.structures("topics") {
            let name = topic.string("topic")
            for partition in topic.structures("partitions") {
                partitions.append(
                    Partition(
                        topic: name, partition: partition.int32("partition"), leaderEpoch: partition.int32("currentLeaderEpoch"),
                        offset: partition.int64("fetchOffset"), maxBytes: Int(max(0, partition.int32("partitionMaxBytes")))))
            }
        }
    }

    struct Answer {
        var response: KafkaStruct
        /// Of records.
        var bytes = 0
        /// Whether there is nothing to wait for: enough records, or an error.
        var isComplete = false
    }

    /// What the logs hold for it now.
    func answer(_ broker: Broker) -> Answer {
        var answer = Answer(response: KafkaStruct(responseOf: .fetch))
        answer.isComplete = partitions.isEmpty
        var index = 0
        while index < partitions.count {
            let name = partitions[index].topic
            answer.response.append(to: "responses") { topic in
                topic["topic"] = .string(name)
                while index < partitions.count, partitions[index].topic == name {
                    let partition = partitions[index]
                    index += 1
                    topic.append(to: "partitions") { read(partition, broker, &answer.bytes, &answer.isComplete, into: &$0) }
                }
            }
        }
        if answer.bytes >= minBytes { answer.isComplete = true }
        return answer
    }

    private func read(
        _ partition: Partition, _ broker: Broker, _ bytes: inout Int, _ hasError: inout Bool, into entry: inout KafkaStruct
    ) {
        entry["partitionIndex"] = .int(partition.partition)
        entry["highWatermark"] = -1
        entry["records"] = .bytes(.empty)
        do throws(LogRejection) {
            let log = try broker.log(partition.topic, partition.partition, leaderEpoch: partition.leaderEpoch)
            // The first batch of an answer is sent whatever its size (KIP-74).
            let fetched = try log.read(
                from: partition.offset, maxBytes: min(partition.maxBytes, max(0, maxBytes - bytes)), atLeastOne: bytes == 0, isolation: isolation)
            entry["highWatermark"] = .int(log.highWatermark)
            entry["lastStableOffset"] = .int(log.lastStableOffset)
            entry["logStartOffset"] = .int(log.logStartOffset)
            entry["records"] = .bytes(fetched.records)
            bytes += fetched.records.count
            if let aborted = fetched.abortedTransactions {
                entry["abortedTransactions"] = .array([])
                for transaction in aborted {
                    entry.append(to: "abortedTransactions") { item in
                        item["producerId"] = .int(transaction.producerID)
                        item["firstOffset"] = .int(transaction.firstOffset)
                    }
                }
            } else {
                entry["abortedTransactions"] = .null
            }
        } catch {
            hasError = true
            entry["errorCode"] = .code(error.code)
        }
    }
}
