import Testing
import WeirBase
import WeirKafkaWire

@testable import WeirBroker

/// DescribeConfigs, AlterConfigs, IncrementalAlterConfigs.
@Suite struct ConfigTests {
    private let test: TestBroker
    private var client: WireClient { test.client }

    init() throws {
        test = try TestBroker { $0.properties = ["log.retention.ms": "1000", "sasl.enabled.mechanisms": "PLAIN"] }
        try client.createTopic("t", config: ["segment.bytes": "4096"])
    }

    private func describe(_ type: Int8, _ name: String, keys: [String]? = nil, version: Int16? = nil) throws -> KafkaStruct {
        try client.call(.describeConfigs, version: version) { request in
            request["includeSynonyms"] = true
            request["includeDocumentation"] = true
            request.append(to: "resources") {
                $0["resourceType"] = .int(type)
                $0["resourceName"] = .string(name)
                $0["configurationKeys"] = keys.map { .strings($0) } ?? .null
            }
        }.structures("results")[0]
    }

    private func value(_ key: String) throws -> String? {
        try describe(2, "t", keys: [key]).structures("configs").first?.optionalString("value")
    }

    private enum Operation: Int8 {
        case set, delete, append, subtract
    }

    private func change(_ operation: Operation, _ key: String, _ value: String?, validateOnly: Bool = false) throws -> KafkaErrorCode {
        try client.call(.incrementalAlterConfigs) { request in
            request["validateOnly"] = .bool(validateOnly)
            request.append(to: "resources") { resource in
                resource["resourceType"] = 2
                resource["resourceName"] = "t"
                resource.append(to: "configs") {
                    $0["name"] = .string(key)
                    $0["configOperation"] = .int(operation.rawValue)
                    $0["value"] = .optional(value)
                }
            }
        }.structures("responses")[0].errorCode()
    }

    @Test func aTopicsValuesSayWhereTheyComeFrom() throws {
        let configs = try describe(2, "t").structures("configs")
        #expect(configs.map { $0.string("name") } == TopicProperties.keys.map(\.name))
        func entry(_ name: String) throws -> KafkaStruct { try #require(configs.first { $0.string("name") == name }) }
        let own = try entry("segment.bytes")
        #expect((own.string("value"), own.int8("configSource"), own.int8("configType")) == ("4096", 1, 3))
        #expect(own.structures("synonyms").map { $0.string("value") } == ["4096", "1073741824"])
        let brokers = try entry("retention.ms")
        #expect((brokers.string("value"), brokers.int8("configSource"), brokers.int8("configType")) == ("1000", 4, 5))
        #expect(brokers.structures("synonyms").map { $0.string("name") } == ["log.retention.ms", "log.retention.ms"])
        let standard = try entry("cleanup.policy")
        #expect((standard.string("value"), standard.int8("configSource"), standard.int8("configType")) == ("delete", 5, 7))
        #expect(standard.optionalString("documentation")?.isEmpty == false)
    }

    @Test func everyVersionDescribes() throws {
        for version in ApiSchema.of(.describeConfigs).versions.lowest...ApiSchema.of(.describeConfigs).versions.highest {
            let entry = try describe(2, "t", keys: ["segment.bytes"], version: version).structures("configs")
            #expect(entry.map { $0.string("value") } == ["4096"])
        }
    }

    @Test func theBrokersPropertiesAreDescribedAndSecretsAreNot() throws {
        let test = try TestBroker { $0.properties["sasl.users"] = "alice:secret" }
        test.broker.run { broker in
            for key in BrokerProperties.keys where key.isSensitive { #expect(broker.properties.string(key.name) == "alice:secret") }
        }
        let entry = try #require(try describe(4, "1", keys: ["num.partitions"]).structures("configs").first)
        #expect((entry.string("value"), entry.bool("readOnly")) == ("1", true))
        #expect(try describe(4, "1", keys: ["sasl.users"]).structures("configs").first?.isNull("value") == true)
        #expect(try describe(4, "").structures("configs").isEmpty)
        #expect(try describe(4, "2").errorCode() == .invalidRequest)
        #expect(try describe(2, "nothing").errorCode() == .unknownTopicOrPartition)
        #expect(try describe(16, "t").errorCode() == .invalidRequest)
    }

    @Test func valuesAreSetDeletedAppendedAndSubtracted() throws {
        #expect(try change(.set, "retention.ms", "77") == .none)
        #expect(try value("retention.ms") == "77")
        #expect(try change(.delete, "retention.ms", nil) == .none)
        #expect(try value("retention.ms") == "1000")
        #expect(try change(.append, "cleanup.policy", "compact") == .none)
        #expect(try value("cleanup.policy") == "delete,compact")
        #expect(try change(.subtract, "cleanup.policy", "delete") == .none)
        #expect(try value("cleanup.policy") == "compact")
        #expect(try value("segment.bytes") == "4096", "what is not named stays")
    }

    @Test func whatIsWrongChangesNothing() throws {
        #expect(try change(.set, "retention.ms", "-2") == .invalidConfig)
        #expect(try change(.set, "retention.ms", nil) == .invalidConfig)
        #expect(try change(.append, "retention.ms", "1") == .invalidConfig)
        #expect(try change(.set, "nonsense", "1") == .invalidConfig)
        #expect(try change(.set, "retention.ms", "5", validateOnly: true) == .none)
        #expect(try value("retention.ms") == "1000")
    }

    @Test func alterConfigsReplacesEverythingThatIsSet() throws {
        let answer = try client.call(.alterConfigs) { request in
            request.append(to: "resources") { resource in
                resource["resourceType"] = 2
                resource["resourceName"] = "t"
                resource.append(to: "configs") {
                    $0["name"] = "max.message.bytes"
                    $0["value"] = "100"
                }
            }
        }
        #expect(answer.structures("responses")[0].errorCode() == .none)
        #expect(try value("max.message.bytes") == "100")
        #expect(try value("segment.bytes") == "1073741824")
        #expect(try client.produce("t", batch(5)).code == .messageTooLarge, "the log follows")
    }

    @Test func theBrokersOwnPropertiesCannotBeChanged() throws {
        let answer = try client.call(.incrementalAlterConfigs) { request in
            request.append(to: "resources") {
                $0["resourceType"] = 4
                $0["resourceName"] = "1"
            }
        }
        #expect(answer.structures("responses")[0].errorCode() == .invalidRequest)
    }
}
