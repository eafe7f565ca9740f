import CRdKafka
import WeirBase
import WeirStreams

/// What a source looks at when its job is submitted.
enum KafkaSourcePreflight {
    /// The longest that one question may take: a person waits.
    private static let timeoutMax = Duration.seconds(10)

    static func run(_ described: KafkaSourceSettings, _ setup: PreflightSetup) -> [PreflightFinding] {
        let settings: KafkaSourceSettings
        do {
            settings = try described.configured(by: setup.settings, uid: setup.uid)
        } catch {
            return error.problems.map { PreflightFinding(.error, $0) }
        }
        do throws(JobFailure) {
            let client = try KafkaClient(consumer: settings.clientProperties, purpose: "reading \(settings.subscription.description)")
            let timeout = min(settings.lookupTimeout, timeoutMax)
            return try topics(settings, setup, client, timeout) + group(settings, client, timeout) + letters(settings, client, timeout)
        } catch {
            return [PreflightFinding(.error, oneLine(error))]
        }
    }

    private static func topics(
        _ settings: KafkaSourceSettings, _ setup: PreflightSetup, _ client: KafkaClient, _ timeout: Duration
    ) throws(JobFailure) -> [PreflightFinding] {
        guard case .pattern(let pattern) = settings.subscription else {
            let names = settings.subscription.topicNames ?? []
            let listing = try client.list(topics: names, timeout: timeout)
            var findings: [PreflightFinding] = []
            for name in names {
                guard let found = listing.topics[name] else { continue }
                guard case .partitions(let count, let leaderless) = found else {
                    let failure = found.failure(topic: name, bootstrap: settings.bootstrap, recovery: .fail)
                    findings.append(PreflightFinding(.error, oneLine(failure)))
                    continue
                }
                for partition in settings.subscription.partitions where partition.topic == name && partition.partition >= count {
                    findings.append(PreflightFinding(.error, "the Kafka partition \(partition) does not exist: the topic has \(count), from 0"))
                }
                if !leaderless.isEmpty {
                    findings.append(
                        PreflightFinding(
                            .warning, "\(leaderless.count) of \(count) partitions of \"\(name)\" have no leader: nothing is read of them"))
                }
            }
            return findings + idleSubtasks(listing, settings, setup)
        }
        let listing = try client.list(pattern: KafkaTopicPattern(pattern), known: [], timeout: timeout)
        guard listing.topics.isEmpty else { return [] }
        return [PreflightFinding(.warning, "no Kafka topic at \(settings.bootstrap) matches \"\(pattern)\" yet")]
    }

    private static func idleSubtasks(_ listing: KafkaListing, _ settings: KafkaSourceSettings, _ setup: PreflightSetup) -> [PreflightFinding] {
        var partitions = settings.subscription.partitions
        if partitions.isEmpty {
            for (topic, found) in listing.topics {
                if case .partitions(let count, _) = found { partitions += (0..<Int32(count)).map { KafkaPartition(topic, $0) } }
            }
        }
        let assignment = KafkaAssignment(settings.subscription, parallelism: setup.parallelism)
        let idle = setup.parallelism - Set(partitions.compactMap { assignment.owner(of: $0) }).count
        guard idle > 0, !partitions.isEmpty else { return [] }
        return [PreflightFinding(.warning, "\(idle) of \(setup.parallelism) subtasks have nothing to read: there are \(partitions.count) partitions")]
    }

    /// Members of the group that is only told of offsets: as long as there are some, the broker refuses what the source commits.
    private static func group(_ settings: KafkaSourceSettings, _ client: KafkaClient, _ timeout: Duration) -> [PreflightFinding] {
        guard let group = settings.group, settings.commitsOnCheckpoints || settings.autoCommitInterval != nil else { return [] }
        guard let members = client.members(of: group, timeout: timeout), members > 0 else { return [] }
        return [
            PreflightFinding(
                .warning,
                "the consumer group \"\(group)\" has \(members) members now: while they are there, the broker refuses the offsets that the source"
                    + " commits. Give the source a group of its own")
        ]
    }

    private static func letters(
        _ settings: KafkaSourceSettings, _ client: KafkaClient, _ timeout: Duration
    ) throws(JobFailure) -> [PreflightFinding] {
        guard case .deadLetter(let topic) = settings.poison else { return [] }
        guard case .partitions? = try client.list(topics: [topic], timeout: timeout).topics[topic] else {
            return [PreflightFinding(.warning, "the dead-letter topic \"\(topic)\" does not exist yet: create it, unless the broker does by itself")]
        }
        return []
    }

    private static func oneLine(_ failure: JobFailure) -> String {
        failure.cause.map { "\(failure.message) (\($0))" } ?? failure.message
    }
}

extension KafkaClient {
    /// How many members a consumer group has; nil if nobody says.
    func members(of group: String, timeout: Duration) -> Int? {
        var list: UnsafePointer<rd_kafka_group_list>?
        guard rd_kafka_list_groups(handle, group, &list, Int32(clamping: timeout.inMilliseconds)) == RD_KAFKA_RESP_ERR_NO_ERROR, let list else {
            return nil
        }
        defer { rd_kafka_group_list_destroy(list) }
        guard list.pointee.group_cnt > 0 else { return 0 }
        return Int(list.pointee.groups[0].member_cnt)
    }
}
