import WeirKafkaWire

extension Broker {
    /// Metadata, topics, configurations, the cluster.
    func registerAdminHandlers() {
        register(.metadata) { [unowned self] request, context in metadata(request, context) }
        register(.createTopics) { [unowned self] request, context in createTopics(request, context) }
        register(.deleteTopics) { [unowned self] request, context in deleteTopics(request, context) }
        register(.createPartitions) { [unowned self] request, context in createPartitions(request, context) }
        register(.describeCluster) { [unowned self] _, context in describeCluster(context) }
        registerConfigHandlers()
    }

    // MARK: Metadata

    private func metadata(_ request: KafkaStruct, _ context: RequestContext) {
        var response = KafkaStruct(responseOf: .metadata)
        response.append(to: "brokers") { node in
            node["nodeId"] = .int(Self.nodeID)
            node["host"] = .string(context.advertised.host)
            node["port"] = .int(context.advertised.port)
        }
        response["clusterId"] = .string(clusterID)
        response["controllerId"] = .int(Self.nodeID)
        // Version 0 asks for all topics by naming none; later ones by null.
        let asked = request.structures("topics")
        if request.isNull("topics") || (context.apiVersion == 0 && asked.isEmpty) {
            for topic in topics.all { response.append(to: "topics") { describe(topic, &$0) } }
        }
        // Before version 4 a client cannot say that it does not want the topic.
        let mayCreate = properties.bool("auto.create.topics.enable") && (context.apiVersion < 4 || request.bool("allowAutoTopicCreation"))
        for wanted in asked { response.append(to: "topics") { answer(wanted, mayCreate: mayCreate, &$0) } }
        context.reply(response)
    }

    private func answer(_ wanted: KafkaStruct, mayCreate: Bool, _ entry: inout KafkaStruct) {
        guard let name = wanted.optionalString("name") else {
            let id = wanted.uuid("topicId")
            guard let topic = topics.topic(id: id) else {
                entry["topicId"] = .uuid(id)
                entry["name"] = .null
                entry["errorCode"] = .code(.unknownTopicID)
                return
            }
            return describe(topic, &entry)
        }
        if let topic = topics[name] { return describe(topic, &entry) }
        entry["name"] = .string(name)
        guard mayCreate else {
            entry["errorCode"] = .code(TopicCatalogue.problem(withName: name) == nil ? .unknownTopicOrPartition : .invalidTopic)
            return
        }
        do throws(TopicChangeFailure) {
            describe(try topics.create(name, partitions: Int32(properties.int("num.partitions"))), &entry)
        } catch {
            if case .failed(let failure) = error { fail(failure) }
            entry["errorCode"] = .code(error.asTopicFailure.code)
        }
    }

    private func describe(_ topic: Topic, _ entry: inout KafkaStruct) {
        entry["name"] = .string(topic.name)
        entry["topicId"] = .uuid(topic.id)
        for partition in 0..<topic.partitionCount {
            let isLeaderless = isLeaderless(topic.name, partition)
            entry.append(to: "partitions") { state in
                state["errorCode"] = .code(isLeaderless ? .leaderNotAvailable : .none)
                state["partitionIndex"] = .int(partition)
                state["leaderId"] = .int(isLeaderless ? -1 : Self.nodeID)
                state["leaderEpoch"] = .int(isLeaderless ? -1 : Self.leaderEpoch)
                state["replicaNodes"] = .ints([Self.nodeID])
                state["isrNodes"] = .ints([Self.nodeID])
            }
        }
    }

    private func describeCluster(_ context: RequestContext) {
        var response = KafkaStruct(responseOf: .describeCluster)
        response["clusterId"] = .string(clusterID)
        response["controllerId"] = .int(Self.nodeID)
        response.append(to: "brokers") { node in
            node["brokerId"] = .int(Self.nodeID)
            node["host"] = .string(context.advertised.host)
            node["port"] = .int(context.advertised.port)
        }
        context.reply(response)
    }

    // MARK: Topics

    private func createTopics(_ request: KafkaStruct, _ context: RequestContext) {
        var response = KafkaStruct(responseOf: .createTopics)
        let wanted = request.structures("topics")
        let repeated = Self.repeated(wanted.map { $0.string("name") })
        for item in wanted {
            let name = item.string("name")
            if repeated.contains(name) {
                // One answer for a name that is asked for twice, as Kafka gives it.
                guard !response.structures("topics").contains(where: { $0.string("name") == name }) else { continue }
            }
            response.append(to: "topics") { entry in
                entry["name"] = .string(name)
                do throws(TopicChangeFailure) {
                    guard !repeated.contains(name) else {
                        throw .refused(TopicFailure(.invalidRequest, "The request names the topic '\(name)' more than once."))
                    }
                    try create(item, validateOnly: request.bool("validateOnly"), &entry)
                } catch {
                    report(error, &entry)
                    entry["configs"] = .null
                }
            }
        }
        afterCommit { context.reply(response) }
    }

    private func create(_ item: KafkaStruct, validateOnly: Bool, _ entry: inout KafkaStruct) throws(TopicChangeFailure) {
        let name = item.string("name")
        let partitions = try partitionCount(item)
        var config: [String: String] = [:]
        for pair in item.structures("configs") {
            guard let value = pair.optionalString("value") else {
                throw .refused(TopicFailure(.invalidConfig, "The config \(pair.string("name")) has no value."))
            }
            config[pair.string("name")] = value
        }
        let values: ConfigValues
        if validateOnly {
            if let failure = topics.problem(creating: name, partitions: partitions, config: config) { throw .refused(failure) }
            values = TopicProperties.values(config, broker: properties)
        } else {
            let topic = try topics.create(name, partitions: partitions, config: config)
            entry["topicId"] = .uuid(topic.id)
            values = topic.config
        }
        entry["numPartitions"] = .int(partitions)
        entry["replicationFactor"] = 1
        for key in TopicProperties.keys {
            entry.append(to: "configs") { line in
                line["name"] = .string(key.name)
                line["value"] = .string(values.string(key.name))
                line["configSource"] = .int(topicConfigSource(key, values).rawValue)
            }
        }
    }

    /// The partitions that a CreateTopics asks for, by number or by assignment.
    private func partitionCount(_ item: KafkaStruct) throws(TopicChangeFailure) -> Int32 {
        let count = item.int32("numPartitions")
        let factor = item.int16("replicationFactor")
        let assignments = item.structures("assignments")
        guard !assignments.isEmpty else {
            guard factor == 1 || factor == -1 else {
                throw .refused(TopicFailure(.invalidReplicationFactor, "Replication factor: \(factor) larger than available brokers: 1."))
            }
            return count == -1 ? Int32(properties.int("num.partitions")) : count
        }
        guard count == -1, factor == -1 else {
            throw .refused(TopicFailure(.invalidRequest, "An assignment excludes a number of partitions and a replication factor."))
        }
        let indexes = assignments.map { $0.int32("partitionIndex") }.sorted()
        guard indexes.elementsEqual(0..<Int32(indexes.count)), assignments.allSatisfy({ $0.int32s("brokerIds") == [Self.nodeID] }) else {
            throw .refused(TopicFailure(.invalidReplicaAssignment, "Partitions are numbered from 0, and each is on broker \(Self.nodeID) alone."))
        }
        return Int32(indexes.count)
    }

    private func deleteTopics(_ request: KafkaStruct, _ context: RequestContext) {
        var response = KafkaStruct(responseOf: .deleteTopics)
        for name in request.strings("topicNames") { response.append(to: "responses") { delete(name, &$0) } }
        for item in request.structures("topics") {
            response.append(to: "responses") { entry in
                if let name = item.optionalString("name") { return delete(name, &entry) }
                let id = item.uuid("topicId")
                entry["topicId"] = .uuid(id)
                guard let topic = topics.topic(id: id) else {
                    entry["name"] = .null
                    entry["errorCode"] = .code(.unknownTopicID)
                    return
                }
                delete(topic.name, &entry)
            }
        }
        afterCommit { context.reply(response) }
    }

    private func delete(_ name: String, _ entry: inout KafkaStruct) {
        entry["name"] = .string(name)
        if let topic = topics[name] { entry["topicId"] = .uuid(topic.id) }
        do throws(TopicChangeFailure) {
            try topics.delete(name)
        } catch {
            report(error, &entry)
        }
    }

    private func createPartitions(_ request: KafkaStruct, _ context: RequestContext) {
        var response = KafkaStruct(responseOf: .createPartitions)
        let wanted = request.structures("topics")
        let repeated = Self.repeated(wanted.map { $0.string("name") })
        for item in wanted {
            let name = item.string("name")
            response.append(to: "results") { entry in
                entry["name"] = .string(name)
                do throws(TopicChangeFailure) {
                    guard !repeated.contains(name) else {
                        throw .refused(TopicFailure(.invalidRequest, "The request names the topic '\(name)' more than once."))
                    }
                    try addPartitions(item, validateOnly: request.bool("validateOnly"))
                } catch {
                    report(error, &entry)
                }
            }
        }
        afterCommit { context.reply(response) }
    }

    private func addPartitions(_ item: KafkaStruct, validateOnly: Bool) throws(TopicChangeFailure) {
        let name = item.string("name")
        let count = item.int32("count")
        if let failure = topics.problem(addingPartitions: name, to: count) { throw .refused(failure) }
        if !item.isNull("assignments") {
            let assignments = item.structures("assignments")
            let added = Int(count - (topics[name]?.partitionCount ?? 0))
            guard assignments.count == added, assignments.allSatisfy({ $0.int32s("brokerIds") == [Self.nodeID] }) else {
                throw .refused(
                    TopicFailure(.invalidReplicaAssignment, "\(added) partitions are added, each on broker \(Self.nodeID) alone."))
            }
        }
        if !validateOnly { try topics.addPartitions(name, to: count) }
    }

    /// Puts a failure into an element of a response.
    func report(_ failure: TopicChangeFailure, _ entry: inout KafkaStruct) {
        if case .failed(let failure) = failure { fail(failure) }
        let refusal = failure.asTopicFailure
        entry["errorCode"] = .code(refusal.code)
        entry["errorMessage"] = .string(refusal.message)
    }

    static func repeated(_ names: [String]) -> Set<String> {
        var seen: Set<String> = []
        return Set(names.filter { !seen.insert($0).inserted })
    }

    // MARK: Configurations

    /// Where a configuration value comes from, by the numbers of DescribeConfigs.
    enum ConfigSource: Int8 {
        case topic = 1
        case dynamicBroker = 2
        case staticBroker = 4
        case builtIn = 5
    }

    func topicConfigSource(_ key: ConfigKey, _ values: ConfigValues) -> ConfigSource {
        if values.overrides[key.name] != nil { return .topic }
        return key.brokerKey.map { properties.overrides[$0] != nil } == true ? .staticBroker : .builtIn
    }
}
