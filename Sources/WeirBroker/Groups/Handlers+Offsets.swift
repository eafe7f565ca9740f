import WeirBase
import WeirKafkaWire

extension Broker {
    func registerOffsetHandlers() {
        register(.offsetCommit) { [unowned self] request, context in offsetCommit(request, context) }
        register(.offsetFetch) { [unowned self] request, context in offsetFetch(request, context) }
        register(.offsetDelete) { [unowned self] request, context in offsetDelete(request, context) }
    }

    // MARK: Commit

    private func offsetCommit(_ request: KafkaStruct, _ context: RequestContext) {
        let retention = request.int64("retentionTimeMs")
        let expiresAt = retention < 0 ? nil : wallTime.advanced(byMilliseconds: retention)
        let commit = OffsetCommit(
            group: request.string("groupId"), generation: request.int32("generationIdOrMemberEpoch"), memberID: request.string("memberId"),
            instanceID: request.optionalString("groupInstanceId"), offsets: committedOffsets(request, expiresAt: expiresAt))
        coordinators.handle(.commit(commit)) { reply in
            context.reply(Self.commitResponse(.offsetCommit, request, reply))
        }
    }

    /// The offsets in OffsetCommit or TxnOffsetCommit, without those of partitions that do not exist.
    func committedOffsets(_ request: KafkaStruct, expiresAt: WallTime? = nil) -> [TopicPartition: CommittedOffset] {
        var offsets: [TopicPartition: CommittedOffset] = [:]
        for topic in request.structures("topics") {
            let name = topic.string("name")
            for partition in topic.structures("partitions") where topics.hasPartition(name, partition.int32("partitionIndex")) {
                offsets[TopicPartition(topic: name, partition: partition.int32("partitionIndex"))] = CommittedOffset(
                    offset: partition.int64("committedOffset"), leaderEpoch: partition.int32("committedLeaderEpoch"),
                    metadata: partition.string("committedMetadata"), committedAt: wallTime, expiresAt: expiresAt)
            }
        }
        return offsets
    }

    /// Answers OffsetCommit or TxnOffsetCommit; a partition that the coordinator was not asked about does not exist.
    static func commitResponse(_ api: ApiKey, _ request: KafkaStruct, _ reply: GroupReply) -> KafkaStruct {
        guard case .commit(let results) = reply else { preconditionFailure("\(api) answered with \(reply)") }
        return commitResponse(api, request) { results[$0] ?? .unknownTopicOrPartition }
    }

    static func commitResponse(_ api: ApiKey, _ request: KafkaStruct, _ error: (TopicPartition) -> KafkaErrorCode) -> KafkaStruct {
        var response = KafkaStruct(responseOf: api)
        for topic in request.structures("topics") {
            let name = topic.string("name")
            response.append(to: "topics") { entry in
                entry["name"] = .string(name)
                for partition in topic.structures("partitions") {
                    let index = partition.int32("partitionIndex")
                    entry.append(to: "partitions") { entry in
                        entry["partitionIndex"] = .int(index)
                        entry["errorCode"] = .code(error(TopicPartition(topic: name, partition: index)))
                    }
                }
            }
        }
        return response
    }

    // MARK: Fetch

    /// A group that OffsetFetch asks for.
    private struct OffsetQuery {
        var group: String
        /// Nil for all that the group has.
        var partitions: [TopicPartition]?
    }

    private func offsetFetch(_ request: KafkaStruct, _ context: RequestContext) {
        let isBatch = context.apiVersion >= 8
        let queries = (isBatch ? request.structures("groups") : [request]).map(Self.offsetQuery)
        let requireStable = request.bool("requireStable")
        coordinators.query { (groups: GroupCoordinator) in
            queries.map { query in
                (query.partitions ?? groups.partitions(in: query.group)).map {
                    ($0, groups.fetch($0, group: query.group, requireStable: requireStable))
                }
            }
        } reply: { answers in
            var response = KafkaStruct(responseOf: .offsetFetch)
            for (query, offsets) in zip(queries, answers) {
                guard isBatch else {
                    Self.fill(&response, offsets)
                    continue
                }
                response.append(to: "groups") { entry in
                    entry["groupId"] = .string(query.group)
                    Self.fill(&entry, offsets)
                }
            }
            context.reply(response)
        }
    }

    private static func offsetQuery(_ request: KafkaStruct) -> OffsetQuery {
        var query = OffsetQuery(group: request.string("groupId"))
        guard !request.isNull("topics") else { return query }
        query.partitions = request.structures("topics").flatMap { topic in
            topic.int32s("partitionIndexes").map { TopicPartition(topic: topic.string("name"), partition: $0) }
        }
        return query
    }

    /// Partitions of a topic that follow each other stand under one entry.
    private static func fill(_ response: inout KafkaStruct, _ offsets: [(TopicPartition, FetchedOffset)]) {
        var index = 0
        while index < offsets.count {
            let topic = offsets[index].0.topic
            response.append(to: "topics") { entry in
                entry["name"] = .string(topic)
                while index < offsets.count, offsets[index].0.topic == topic {
                    entry.append(to: "partitions") { fill(&$0, offsets[index].0.partition, offsets[index].1) }
                    index += 1
                }
            }
        }
    }

    private static func fill(_ entry: inout KafkaStruct, _ partition: Int32, _ offset: FetchedOffset) {
        entry["partitionIndex"] = .int(partition)
        entry["committedOffset"] = -1
        entry["metadata"] = ""
        switch offset {
        case .none: break
        case .unstable: entry["errorCode"] = .code(.unstableOffsetCommit)
        case .committed(let value):
            entry["committedOffset"] = .int(value.offset)
            entry["committedLeaderEpoch"] = .int(value.leaderEpoch)
            entry["metadata"] = .string(value.metadata)
        }
    }

    // MARK: Delete

    private func offsetDelete(_ request: KafkaStruct, _ context: RequestContext) {
        let partitions = request.structures("topics").flatMap { topic in
            topic.structures("partitions").map { TopicPartition(topic: topic.string("name"), partition: $0.int32("partitionIndex")) }
        }
        let known = partitions.filter { topics.hasPartition($0.topic, $0.partition) }
        coordinators.handle(.deleteOffsets(group: request.string("groupId"), known)) { reply in
            guard case .deleteOffsets(let error, let results) = reply else { preconditionFailure("OffsetDelete answered with \(reply)") }
            var response = KafkaStruct(responseOf: .offsetDelete)
            if error == .none { response = Self.commitResponse(.offsetDelete, request) { results[$0] ?? .unknownTopicOrPartition } }
            response["errorCode"] = .code(error)
            context.reply(response)
        }
    }
}
