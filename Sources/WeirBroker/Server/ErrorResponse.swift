import WeirKafkaWire

/// Responses that say nothing but an error, for faults: the same code wherever the response has room for one.
enum ErrorResponse {
    /// An array of the response that has an element for each of the request's.
    private indirect enum Mirror {
        case each(_ request: String, _ response: String, copying: [(String, String)], error: String?, inside: Mirror?)
        /// An array of plain values, each of which becomes a structure's field.
        case eachValue(_ request: String, _ response: String, into: String, error: String)
    }

    private static let partitions = Mirror.each(
        "partitions", "partitions", copying: [("partitionIndex", "partitionIndex")], error: "errorCode", inside: nil)

    private static func topics(_ inside: Mirror) -> [Mirror] {
        [.each("topics", "topics", copying: [("name", "name")], error: nil, inside: inside)]
    }

    private static let resources = Mirror.each(
        "resources", "responses", copying: [("resourceType", "resourceType"), ("resourceName", "resourceName")], error: "errorCode", inside: nil)

    private static func mirrors(_ api: ApiKey) -> [Mirror] {
        switch api {
        case .produce:
            [
                .each(
                    "topicData", "responses", copying: [("name", "name")], error: nil,
                    inside: .each("partitionData", "partitionResponses", copying: [("index", "index")], error: "errorCode", inside: nil))
            ]
        case .fetch:
            [
                .each(
                    "topics", "responses", copying: [("topic", "topic")], error: nil,
                    inside: .each("partitions", "partitions", copying: [("partition", "partitionIndex")], error: "errorCode", inside: nil))
            ]
        case .listOffsets, .offsetCommit, .txnOffsetCommit, .deleteRecords: topics(partitions)
        case .offsetDelete: topics(partitions)
        case .offsetFetch:
            topics(.eachValue("partitionIndexes", "partitions", into: "partitionIndex", error: "errorCode")) + [
                .each("groups", "groups", copying: [("groupId", "groupId")], error: "errorCode", inside: nil)
            ]
        case .describeProducers: topics(.eachValue("partitionIndexes", "partitions", into: "partitionIndex", error: "errorCode"))
        case .metadata: [.each("topics", "topics", copying: [("name", "name"), ("topicId", "topicId")], error: "errorCode", inside: nil)]
        case .createTopics: [.each("topics", "topics", copying: [("name", "name")], error: "errorCode", inside: nil)]
        case .deleteTopics:
            [
                .each("topics", "responses", copying: [("name", "name"), ("topicId", "topicId")], error: "errorCode", inside: nil),
                .eachValue("topicNames", "responses", into: "name", error: "errorCode"),
            ]
        case .createPartitions: [.each("topics", "results", copying: [("name", "name")], error: "errorCode", inside: nil)]
        case .describeConfigs:
            [
                .each(
                    "resources", "results", copying: [("resourceType", "resourceType"), ("resourceName", "resourceName")], error: "errorCode",
                    inside: nil)
            ]
        case .alterConfigs, .incrementalAlterConfigs: [resources]
        case .findCoordinator: [.eachValue("coordinatorKeys", "coordinators", into: "key", error: "errorCode")]
        case .describeGroups: [.eachValue("groups", "groups", into: "groupId", error: "errorCode")]
        case .deleteGroups: [.eachValue("groupsNames", "results", into: "groupId", error: "errorCode")]
        case .addPartitionsToTxn:
            [
                .each(
                    "topics", "resultsByTopic", copying: [("name", "name")], error: nil,
                    inside: .eachValue("partitions", "resultsByPartition", into: "partitionIndex", error: "partitionErrorCode"))
            ]
        case .describeTransactions:
            [.eachValue("transactionalIds", "transactionStates", into: "transactionalId", error: "errorCode")]
        default: []
        }
    }

    static func response(to request: KafkaStruct, of api: ApiKey, code: KafkaErrorCode) -> KafkaStruct {
        var response = KafkaStruct(responseOf: api)
        let mirrors = mirrors(api)
        // The code of the whole answer stands where there is no other: a fetch as a whole has errors of its own.
        if mirrors.isEmpty || api == .findCoordinator, response.schema.fields.contains(where: { $0.name == "errorCode" }) {
            response["errorCode"] = .code(code)
        }
        for mirror in mirrors { fill(&response, from: request, mirror, code) }
        return response
    }

    private static func fill(_ response: inout KafkaStruct, from request: KafkaStruct, _ mirror: Mirror, _ code: KafkaErrorCode) {
        switch mirror {
        case .each(let source, let target, let copying, let error, let inside):
            for element in request.structures(source) {
                response.append(to: target) { answer in
                    for (from, to) in copying { answer[to] = element[from] }
                    if let error { answer[error] = .code(code) }
                    if let inside { fill(&answer, from: element, inside, code) }
                }
            }
        case .eachValue(let source, let target, let field, let error):
            guard case .array(let values) = request[source] else { return }
            for value in values {
                response.append(to: target) { answer in
                    answer[field] = value
                    answer[error] = .code(code)
                }
            }
        }
    }
}
