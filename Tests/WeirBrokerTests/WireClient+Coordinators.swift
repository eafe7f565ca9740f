import WeirKafkaWire

@testable import WeirBroker

/// Requests to the coordinators.
extension WireClient {
    // MARK: Groups

    static func join(
        _ request: inout KafkaStruct, _ group: String, _ memberID: String, instance: String? = nil, session: Int32 = 30_000,
        protocols: [String] = ["range"]
    ) {
        request["groupId"] = .string(group)
        request["memberId"] = .string(memberID)
        request["groupInstanceId"] = .optional(instance)
        request["sessionTimeoutMs"] = .int(session)
        request["rebalanceTimeoutMs"] = 60_000
        request["protocolType"] = "consumer"
        for name in protocols {
            request.append(to: "protocols") { entry in
                entry["name"] = .string(name)
                entry["metadata"] = .bytes(KafkaBytes([1, 2, 3]))
            }
        }
    }

    /// Joins, twice where the version wants the member's id.
    func join(_ group: String, version: Int16 = 9, instance: String? = nil, session: Int32 = 30_000) throws -> KafkaStruct {
        let answer = try call(.joinGroup, version: version) { Self.join(&$0, group, "", instance: instance, session: session) }
        guard answer.errorCode() == .memberIDRequired else { return answer }
        return try call(.joinGroup, version: version) { Self.join(&$0, group, answer.string("memberId"), session: session) }
    }

    func sync(
        _ group: String, _ memberID: String, _ generation: Int32, version: Int16 = 5, assigning: [String: [UInt8]] = [:]
    ) throws -> KafkaStruct {
        try call(.syncGroup, version: version) { request in
            request["groupId"] = .string(group)
            request["memberId"] = .string(memberID)
            request["generationId"] = .int(generation)
            request["protocolType"] = "consumer"
            request["protocolName"] = "range"
            for (member, assignment) in assigning.sorted(by: { $0.key < $1.key }) {
                request.append(to: "assignments") { entry in
                    entry["memberId"] = .string(member)
                    entry["assignment"] = .bytes(KafkaBytes(assignment))
                }
            }
        }
    }

    /// Makes a stable group with this client as its only member; returns the member's id.
    func lead(_ group: String, session: Int32 = 30_000) throws -> String {
        let joined = try join(group, session: session)
        let member = joined.string("memberId")
        let synced = try sync(group, member, joined.int32("generationId"), assigning: [member: [7]])
        guard synced.errorCode() == .none else { throw Failure(description: "no assignment: \(synced.errorCode())") }
        return member
    }

    func heartbeat(_ group: String, _ memberID: String, _ generation: Int32, version: Int16 = 4) throws -> KafkaErrorCode {
        try call(.heartbeat, version: version) { request in
            request["groupId"] = .string(group)
            request["memberId"] = .string(memberID)
            request["generationId"] = .int(generation)
        }.errorCode()
    }

    func leave(_ group: String, _ memberID: String, version: Int16 = 5) throws -> KafkaErrorCode {
        let answer = try call(.leaveGroup, version: version) { request in
            request["groupId"] = .string(group)
            if version < 3 {
                request["memberId"] = .string(memberID)
            } else {
                request.append(to: "members") { $0["memberId"] = .string(memberID) }
            }
        }
        return answer.structures("members").first?.errorCode() ?? answer.errorCode()
    }

    /// - Returns: The error of each partition, in order.
    func commit(
        _ group: String, _ offsets: [(topic: String, partition: Int32, offset: Int64)], member: String = "", generation: Int32 = -1,
        metadata: String = "", version: Int16 = 8
    ) throws -> [KafkaErrorCode] {
        try call(.offsetCommit, version: version) { request in
            request["groupId"] = .string(group)
            request["memberId"] = .string(member)
            request["generationIdOrMemberEpoch"] = .int(generation)
            Self.fill(&request, offsets, metadata)
        }.structures("topics").flatMap { $0.structures("partitions") }.map { $0.errorCode() }
    }

    private static func fill(_ request: inout KafkaStruct, _ offsets: [(topic: String, partition: Int32, offset: Int64)], _ metadata: String) {
        for wanted in offsets {
            request.append(to: "topics") { topic in
                topic["name"] = .string(wanted.topic)
                topic.append(to: "partitions") { entry in
                    entry["partitionIndex"] = .int(wanted.partition)
                    entry["committedOffset"] = .int(wanted.offset)
                    entry["committedMetadata"] = .string(metadata)
                }
            }
        }
    }

    struct Committed: Equatable {
        var code = KafkaErrorCode.none
        var offset: Int64
        var metadata = ""
    }

    /// - Parameter partitions: Nil asks for all that the group has.
    func committed(_ group: String, topic: String, partitions: [Int32]?, stable: Bool = false, version: Int16 = 8) throws -> [Committed] {
        let answer = try call(.offsetFetch, version: version) { request in
            func fill(_ request: inout KafkaStruct) {
                request["groupId"] = .string(group)
                guard let partitions else { return request["topics"] = nil }
                request.append(to: "topics") { entry in
                    entry["name"] = .string(topic)
                    entry["partitionIndexes"] = .ints(partitions)
                }
            }
            if version >= 8 { request.append(to: "groups", fill) } else { fill(&request) }
            request["requireStable"] = .bool(stable)
        }
        return (version >= 8 ? answer.structures("groups")[0] : answer).structures("topics").flatMap { $0.structures("partitions") }.map {
            Committed(code: $0.errorCode(), offset: $0.int64("committedOffset"), metadata: $0.string("metadata"))
        }
    }

    // MARK: Transactions

    func initProducer(
        _ id: String?, timeout: Int32 = 60_000, expected: ProducerIdentity = .none, version: Int16 = 4
    ) throws -> (code: KafkaErrorCode, producer: ProducerIdentity) {
        let answer = try call(.initProducerId, version: version) { request in
            request["transactionalId"] = .optional(id)
            request["transactionTimeoutMs"] = .int(timeout)
            request["producerId"] = .int(expected.id)
            request["producerEpoch"] = .int(expected.epoch)
        }
        return (answer.errorCode(), ProducerIdentity(id: answer.int64("producerId"), epoch: answer.int16("producerEpoch")))
    }

    private static func fill(_ request: inout KafkaStruct, _ id: String, _ producer: ProducerIdentity) {
        request["transactionalId"] = .string(id)
        request["producerId"] = .int(producer.id)
        request["producerEpoch"] = .int(producer.epoch)
    }

    /// - Returns: The error of each partition, in order.
    func addPartitions(
        _ id: String, _ producer: ProducerIdentity, topic: String, _ partitions: [Int32], version: Int16 = 3
    ) throws -> [KafkaErrorCode] {
        try call(.addPartitionsToTxn, version: version) { request in
            Self.fill(&request, id, producer)
            request.append(to: "topics") { entry in
                entry["name"] = .string(topic)
                entry["partitions"] = .ints(partitions)
            }
        }.structures("resultsByTopic").flatMap { $0.structures("resultsByPartition") }.map { $0.errorCode("partitionErrorCode") }
    }

    func addOffsets(_ id: String, _ producer: ProducerIdentity, group: String, version: Int16 = 3) throws -> KafkaErrorCode {
        try call(.addOffsetsToTxn, version: version) { request in
            Self.fill(&request, id, producer)
            request["groupId"] = .string(group)
        }.errorCode()
    }

    func commitInTransaction(
        _ id: String, _ producer: ProducerIdentity, group: String, _ offsets: [(topic: String, partition: Int32, offset: Int64)],
        member: String = "", generation: Int32 = -1, version: Int16 = 3
    ) throws -> [KafkaErrorCode] {
        try call(.txnOffsetCommit, version: version) { request in
            Self.fill(&request, id, producer)
            request["groupId"] = .string(group)
            request["memberId"] = .string(member)
            request["generationId"] = .int(generation)
            Self.fill(&request, offsets, "")
        }.structures("topics").flatMap { $0.structures("partitions") }.map { $0.errorCode() }
    }

    static func end(_ request: inout KafkaStruct, _ id: String, _ producer: ProducerIdentity, commit: Bool) {
        fill(&request, id, producer)
        request["committed"] = .bool(commit)
    }

    func end(_ id: String, _ producer: ProducerIdentity, commit: Bool, version: Int16 = 3) throws -> KafkaErrorCode {
        try call(.endTxn, version: version) { Self.end(&$0, id, producer, commit: commit) }.errorCode()
    }

    func describeTransaction(_ id: String) throws -> KafkaStruct {
        try call(.describeTransactions) { $0["transactionalIds"] = .strings([id]) }.structures("transactionStates")[0]
    }

    /// Initialises a producer and opens a transaction on partitions of a topic.
    func beginTransaction(_ id: String, topic: String, _ partitions: [Int32], timeout: Int32 = 60_000) throws -> TestProducer {
        let (code, producer) = try initProducer(id, timeout: timeout)
        let added = try addPartitions(id, producer, topic: topic, partitions)
        guard code == .none, added.allSatisfy({ $0 == .none }) else { throw Failure(description: "no transaction: \(code), \(added)") }
        return TestProducer(id: producer.id, epoch: producer.epoch)
    }

    /// How many records a reader of committed records sees of a partition. No producer of it may have both aborted and committed there.
    func visibleRecords(_ topic: String, _ partition: Int32 = 0) throws -> Int {
        var count = 0
        var offset: Int64 = 0
        while true {
            // An answer ends with a segment at the latest.
            let entry = try fetch([FetchedPartition(topic: topic, partition: partition, offset: offset)], isolation: .readCommitted)[0]
            let aborted = Set(entry.structures("abortedTransactions").map { $0.int64("producerId") })
            var rest = entry.bytes("records")
            while !rest.isEmpty {
                let header = try RecordBatchHeader(rest)
                if !header.isControl, !aborted.contains(header.producerID) { count += Int(header.recordCount) }
                offset = header.lastOffset + 1
                rest = rest.slice(from: header.totalBytes)
            }
            if offset >= entry.int64("lastStableOffset") { return count }
        }
    }
}

extension TestProducer {
    var identity: ProducerIdentity { ProducerIdentity(id: id, epoch: epoch) }
}
