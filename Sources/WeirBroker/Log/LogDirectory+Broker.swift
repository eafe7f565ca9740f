import Logging
import WeirBase

/// The logs as a part of the broker: opened for the topics of the catalogue, cleaned by its timer, flushed by its commits.
extension LogDirectory {
    /// In memory a segment is freed as a whole, so that small ones give room back sooner.
    private static let memorySegmentBytesMax = 16 << 20

    /// Opens the logs of all topics, repairs what a crash left, and follows the catalogue from then on.
    convenience init(broker: Broker) throws(BrokerFailure) {
        if let directory = broker.directory {
            self.init(.disk(path: directory.logsPath), isSynced: broker.options.fsync)
        } else {
            self.init(.memory(bytesMax: broker.properties.int("log.memory.bytes")), isSynced: false)
        }
        let isInMemory = broker.directory == nil
        do throws(LogFailure) {
            for topic in broker.topics.all {
                try open(
                    topic.name, partitions: topic.partitionCount, Self.configuration(topic, isInMemory), isNew: false,
                    now: broker.wallTime.milliseconds)
            }
            for name in try removeOrphans() {
                broker.logger.info("the directory of a deleted topic is removed", metadata: ["log.directory": "\(name)"])
            }
        } catch {
            throw error.brokerFailure
        }
        report(to: broker.logger)
        broker.topics.observe { [unowned self, unowned broker] (change) throws(BrokerFailure) in
            do throws(LogFailure) {
                try follow(change, isInMemory, now: broker.wallTime.milliseconds)
            } catch {
                throw error.brokerFailure
            }
        }
        onAppend = { [unowned fetches] log, bytes in fetches.arrived(bytes, in: log) }
        fetches.start(broker)
        scheduleCleaning(broker)
    }

    private func follow(_ change: TopicChange, _ isInMemory: Bool, now: Int64) throws(LogFailure) {
        switch change {
        case .created(let topic), .partitionsAdded(let topic, _):
            try open(topic.name, partitions: topic.partitionCount, Self.configuration(topic, isInMemory), isNew: true, now: now)
        case .configured(let topic): configure(topic.name, Self.configuration(topic, isInMemory))
        case .deleted(let topic):
            fetches.deleted(topic.name)
            try delete(topic.name)
        }
    }

    private static func configuration(_ topic: Topic, _ isInMemory: Bool) -> LogConfiguration {
        var configuration = LogConfiguration(topic.config)
        if isInMemory { configuration.segmentBytes = min(configuration.segmentBytes, memorySegmentBytesMax) }
        return configuration
    }

    private func report(to logger: Logger) {
        for log in all {
            guard let path = log.recovery.cutPath else { continue }
            logger.warning(
                "a torn tail, which was never acknowledged, is cut off", metadata: ["log.path": "\(path)", "log.bytes": "\(log.recovery.cutBytes)"])
        }
    }

    private func scheduleCleaning(_ broker: Broker) {
        broker.schedule(after: broker.properties.milliseconds("log.retention.check.interval.ms") ?? .seconds(300)) { [weak self, unowned broker] in
            guard let self else { return }
            do throws(LogFailure) {
                let removed = try clean(
                    now: broker.wallTime.milliseconds, producerExpiration: broker.properties.int64("producer.id.expiration.ms"))
                if removed > 0 { broker.logger.info("segments past their retention are deleted", metadata: ["log.segments": "\(removed)"]) }
            } catch {
                broker.logger.error("segments past their retention cannot be deleted", metadata: ["error": "\(error)"])
            }
            scheduleCleaning(broker)
        }
    }

    /// Brings what was written to the disk; see ``Broker/afterCommit(_:)``.
    func flush() throws(BrokerFailure) {
        do throws(LogFailure) { try sync() } catch { throw error.brokerFailure }
    }

    /// Writes what a start after an orderly end need not look for, and closes the files.
    func close() {
        // Without these files the next start reads the last segments, and finds the same.
        try? closeLogs()
    }
}

extension LogConfiguration {
    /// A topic's settings.
    init(_ config: ConfigValues) {
        self.init()
        segmentBytes = config.int("segment.bytes")
        segmentMilliseconds = config.int64("segment.ms")
        let retention = config.int64("retention.ms")
        retentionMilliseconds = retention < 0 ? nil : retention
        let bytes = config.int("retention.bytes")
        retentionBytes = bytes < 0 ? nil : bytes
        maxMessageBytes = config.int("max.message.bytes")
        timestampType = TimestampType(rawValue: config.string("message.timestamp.type")) ?? .createTime
    }
}
