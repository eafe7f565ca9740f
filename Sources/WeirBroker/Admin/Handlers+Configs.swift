import WeirKafkaWire

/// What a configuration belongs to, by the numbers of DescribeConfigs.
private enum ConfigResource: Int8 {
    case topic = 2
    case broker = 4
}

extension Broker {
    /// DescribeConfigs, AlterConfigs, IncrementalAlterConfigs.
    func registerConfigHandlers() {
        register(.describeConfigs) { [unowned self] request, context in describeConfigs(request, context) }
        register(.alterConfigs) { [unowned self] request, context in
            alterConfigs(request, context) { _, pairs in
                var config: [String: String] = [:]
                for pair in pairs {
                    guard let value = pair.optionalString("value") else {
                        return .failure(TopicFailure(.invalidConfig, "The config \(pair.string("name")) has no value."))
                    }
                    config[pair.string("name")] = value
                }
                return .success(config)
            }
        }
        register(.incrementalAlterConfigs) { [unowned self] request, context in
            alterConfigs(request, context) { Self.incremental($0, $1) }
        }
    }

    // MARK: Describing

    private func describeConfigs(_ request: KafkaStruct, _ context: RequestContext) {
        var response = KafkaStruct(responseOf: .describeConfigs)
        for resource in request.structures("resources") {
            response.append(to: "results") { result in
                result["resourceType"] = resource["resourceType"]
                result["resourceName"] = resource["resourceName"]
                describe(resource, request, &result)
            }
        }
        context.reply(response)
    }

    private func describe(_ resource: KafkaStruct, _ request: KafkaStruct, _ result: inout KafkaStruct) {
        let name = resource.string("resourceName")
        let wanted = Set(resource.strings("configurationKeys"))
        let isWanted = { (key: ConfigKey) in wanted.isEmpty || wanted.contains(key.name) }
        switch ConfigResource(rawValue: resource.int8("resourceType")) {
        case .topic:
            guard let topic = topics[name] else { return refuse(TopicCatalogue.unknown(name), &result) }
            for key in TopicProperties.keys where isWanted(key) {
                result.append(to: "configs") { entry in
                    describe(key, topic.config.string(key.name), topicConfigSource(key, topic.config), request, &entry)
                    if request.bool("includeSynonyms") { addSynonyms(of: key, topic.config, &entry) }
                }
            }
        case .broker:
            // The empty name stands for what is set for all brokers at run time: nothing.
            guard !name.isEmpty else { return }
            guard name == "\(Self.nodeID)" else {
                return refuse(TopicFailure(.invalidRequest, "Unexpected broker id \(name): this is broker \(Self.nodeID)."), &result)
            }
            for key in BrokerProperties.keys where isWanted(key) {
                let source = properties.overrides[key.name] == nil ? ConfigSource.builtIn : .staticBroker
                result.append(to: "configs") { entry in
                    describe(key, properties.string(key.name), source, request, &entry)
                    entry["readOnly"] = true
                }
            }
        case nil:
            refuse(TopicFailure(.invalidRequest, "Unsupported resource type \(resource.int8("resourceType"))."), &result)
        }
    }

    private func describe(_ key: ConfigKey, _ value: String, _ source: ConfigSource, _ request: KafkaStruct, _ entry: inout KafkaStruct) {
        entry["name"] = .string(key.name)
        entry["value"] = key.isSensitive ? .null : .string(value)
        entry["isSensitive"] = .bool(key.isSensitive)
        entry["isDefault"] = .bool(source == .builtIn)
        entry["configSource"] = .int(source.rawValue)
        entry["configType"] = .int(key.typeNumber)
        if request.bool("includeDocumentation") { entry["documentation"] = .string(key.documentation) }
    }

    /// Everything that a topic's value may come from, the nearest first.
    private func addSynonyms(of key: ConfigKey, _ config: ConfigValues, _ entry: inout KafkaStruct) {
        var synonyms: [(String, String, ConfigSource)] = []
        if let value = config.overrides[key.name] { synonyms.append((key.name, value, .topic)) }
        if let broker = key.brokerKey {
            if let value = properties.overrides[broker] { synonyms.append((broker, value, .staticBroker)) }
            synonyms.append((broker, BrokerProperties.table[broker]?.defaultText ?? key.defaultText, .builtIn))
        } else {
            synonyms.append((key.name, key.defaultText, .builtIn))
        }
        for (name, value, source) in synonyms {
            entry.append(to: "synonyms") { synonym in
                synonym["name"] = .string(name)
                synonym["value"] = .string(value)
                synonym["source"] = .int(source.rawValue)
            }
        }
    }

    // MARK: Altering

    /// The configuration that a topic gets, from the one it has and what was asked for.
    private typealias Change = (_ present: [String: String], _ asked: [KafkaStruct]) -> Result<[String: String], TopicFailure>

    private func alterConfigs(_ request: KafkaStruct, _ context: RequestContext, _ change: Change) {
        var response = KafkaStruct(responseOf: context.apiKey)
        let resources = request.structures("resources")
        let repeated = Self.repeated(resources.map { "\($0.int8("resourceType")) \($0.string("resourceName"))" })
        for resource in resources {
            response.append(to: "responses") { entry in
                entry["resourceType"] = resource["resourceType"]
                entry["resourceName"] = resource["resourceName"]
                do throws(TopicChangeFailure) {
                    guard !repeated.contains("\(resource.int8("resourceType")) \(resource.string("resourceName"))") else {
                        throw .refused(TopicFailure(.invalidRequest, "The request names the resource more than once."))
                    }
                    try alter(resource, validateOnly: request.bool("validateOnly"), change)
                } catch {
                    report(error, &entry)
                }
            }
        }
        afterCommit { context.reply(response) }
    }

    private func alter(_ resource: KafkaStruct, validateOnly: Bool, _ change: Change) throws(TopicChangeFailure) {
        let name = resource.string("resourceName")
        guard ConfigResource(rawValue: resource.int8("resourceType")) == .topic else {
            throw .refused(TopicFailure(.invalidRequest, "Only the configurations of topics can be changed while this broker runs."))
        }
        guard let topic = topics[name] else { throw .refused(TopicCatalogue.unknown(name)) }
        let asked = resource.structures("configs")
        guard Self.repeated(asked.map { $0.string("name") }).isEmpty else {
            throw .refused(TopicFailure(.invalidConfig, "The request names a config more than once."))
        }
        switch change(topic.config.overrides, asked) {
        case .failure(let failure): throw .refused(failure)
        case .success(let config):
            if let failure = TopicCatalogue.problem(withConfig: config) { throw .refused(failure) }
            if !validateOnly { try topics.configure(name, config) }
        }
    }

    private static func incremental(_ present: [String: String], _ asked: [KafkaStruct]) -> Result<[String: String], TopicFailure> {
        var config = present
        for item in asked {
            let name = item.string("name")
            guard let key = TopicProperties.table[name] else {
                return .failure(TopicFailure(.invalidConfig, "Unknown topic config name: \(name)"))
            }
            let operation = item.int8("configOperation")
            guard operation == 1 || !item.isNull("value") else {
                return .failure(TopicFailure(.invalidConfig, "The config \(name) has no value."))
            }
            let present = splitList(config[name] ?? key.defaultText)
            let words = splitList(item.string("value"))
            let isList = if case .list = key.kind { true } else { false }
            switch operation {
            case 0: config[name] = item.string("value")
            case 1: config[name] = nil
            case 2 where isList: config[name] = (present + words.filter { !present.contains($0) }).joined(separator: ",")
            case 3 where isList: config[name] = present.filter { !words.contains($0) }.joined(separator: ",")
            case 2, 3: return .failure(TopicFailure(.invalidConfig, "The config \(name) is no list: nothing can be appended or subtracted."))
            default: return .failure(TopicFailure(.invalidRequest, "Unknown config operation \(operation)."))
            }
        }
        return .success(config)
    }

    private func refuse(_ failure: TopicFailure, _ result: inout KafkaStruct) {
        result["errorCode"] = .code(failure.code)
        result["errorMessage"] = .string(failure.message)
    }
}
