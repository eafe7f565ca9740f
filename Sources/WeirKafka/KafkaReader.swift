import CRdKafka
import WeirBase
public import WeirDataflow
import WeirStreams

/// A record as the broker gave it, lent until the next call of the source.
public struct KafkaRecord {
    /// nil: a tombstone.
    @usableFromInline let valueStart: UnsafeRawPointer?
    @usableFromInline let keyStart: UnsafeRawPointer?
    @usableFromInline let valueBytes: Int
    @usableFromInline let keyBytes: Int
    /// Its place in the partition.
    public let offset: Int64
    /// Kafka's time of the record, milliseconds since 1970; `AnyBatch.noTimestamp` if it has none.
    public let timestamp: Int64

    /// nil for a tombstone: data to those who keep the latest value of each key, nothing to others.
    @inlinable public var value: UnsafeRawBufferPointer? { valueStart.map { UnsafeRawBufferPointer(start: $0, count: valueBytes) } }
    @inlinable public var key: UnsafeRawBufferPointer? { keyStart.map { UnsafeRawBufferPointer(start: $0, count: keyBytes) } }
}

/// Records of one partition that came one behind the other.
@usableFromInline
struct KafkaRun {
    @usableFromInline let split: Int
    /// Indices into ``KafkaReader/records``.
    @usableFromInline let range: Range<Int>
}

/// The part of a source subtask that does not depend on the type of its rows: the consumer, the positions, the watermarks.
@usableFromInline
final class KafkaReader {
    struct Split {
        var position: KafkaPosition
        var isFinished = false
    }

    /// What came between the records and is dealt with once those before it are handled.
    enum Notice {
        case end(split: Int, offset: Int64)
        case outOfRange(split: Int)
        case failure(JobFailure)
    }

    static let batchMax = 1_024

    let settings: KafkaSourceSettings
    var context: OperatorContext?
    var consumer: KafkaConsumerHandle?
    var splits: [Split] = []
    var watermarks: SplitWatermarks
    var notices: [Notice] = []
    var restored: [KafkaPosition] = []
    /// Positions at barriers whose checkpoints are not complete yet, oldest first.
    var pendingCommits: [(checkpoint: UInt64, positions: [(KafkaPartition, offset: Int64)])] = []
    var commitsSent = 0
    private var clock = SourceClock()
    private var saysIdle = false

    /// The records of the last ``take(_:)``, which the runs point into.
    @usableFromInline let records: UnsafeMutablePointer<KafkaRecord>
    @usableFromInline var runs: [KafkaRun] = []
    private var recordCount = 0
    /// Which split a topic's handle and a partition mean: names are compared once only.
    private var splitOfTopic: [TopicKey: Int] = [:]
    private var lastKey = TopicKey(topic: nil, partition: -1)
    private var lastSplit = -1

    struct TopicKey: Hashable {
        let topic: OpaquePointer?
        let partition: Int32
    }

    init(settings: KafkaSourceSettings, watermarks: SplitWatermarks) {
        self.settings = settings
        self.watermarks = watermarks
        records = .allocate(capacity: Self.batchMax)
    }

    deinit { records.deallocate() }

    // MARK: Records

    /// Takes up to `budget` records that are there, in runs of one partition. No call waits.
    ///
    /// - Returns: How many messages were taken, including those that carry no record; 0 means that nothing is there now.
    @usableFromInline
    func take(_ budget: Int) throws -> Int {
        runs.removeAll(keepingCapacity: true)
        recordCount = 0
        try settleNotices()
        guard consumer != nil else { return 0 }
        let taken = consumer!.poll(max: max(1, min(budget, Self.batchMax)))
        countCommits()
        var bytes = 0
        for index in 0..<taken {
            let message = consumer!.message(index)
            guard message.pointee.err == RD_KAFKA_RESP_ERR_NO_ERROR else {
                note(message)
                continue
            }
            let split = split(of: message)
            guard split >= 0 else { continue }  // Fetched before the assignment changed.
            let offset = message.pointee.offset
            let position = splits[split].position
            if splits[split].isFinished || offset < position.next { continue }
            guard offset < position.stop else {
                notices.append(.end(split: split, offset: offset))
                continue
            }
            bytes += message.pointee.len + message.pointee.key_len
            append(message, split: split)
        }
        context?.counter("numBytesIn").add(bytes)
        return taken
    }

    @inline(__always)
    private func append(_ message: UnsafePointer<rd_kafka_message_t>, split: Int) {
        let time = rd_kafka_message_timestamp(message, nil)
        (records + recordCount).initialize(
            to: KafkaRecord(
                valueStart: message.pointee.payload.map { UnsafeRawPointer($0) }, keyStart: message.pointee.key.map { UnsafeRawPointer($0) },
                valueBytes: message.pointee.len, keyBytes: message.pointee.key_len, offset: message.pointee.offset,
                timestamp: time < 0 ? AnyBatch.noTimestamp : time))
        if let last = runs.last, last.split == split {
            runs[runs.count - 1] = KafkaRun(split: split, range: last.range.lowerBound..<(recordCount + 1))
        } else {
            runs.append(KafkaRun(split: split, range: recordCount..<(recordCount + 1)))
        }
        recordCount += 1
    }

    @inline(__always)
    private func split(of message: UnsafePointer<rd_kafka_message_t>) -> Int {
        let key = TopicKey(topic: message.pointee.rkt, partition: message.pointee.partition)
        if key == lastKey { return lastSplit }
        return findSplit(key)
    }

    private func findSplit(_ key: TopicKey) -> Int {
        if let known = splitOfTopic[key] {
            (lastKey, lastSplit) = (key, known)
            return known
        }
        guard let topic = key.topic else { return -1 }
        let partition = KafkaPartition(String(cString: rd_kafka_topic_name(topic)), key.partition)
        guard let split = splits.firstIndex(where: { $0.position.split == partition }) else { return -1 }
        splitOfTopic[key] = split
        (lastKey, lastSplit) = (key, split)
        return split
    }

    /// The records of a run were handled: the next checkpoint need not read them again.
    @usableFromInline
    func advance(_ run: KafkaRun, greatest: Int64) {
        splits[run.split].position.next = records[run.range.upperBound - 1].offset + 1
        if greatest != .min { splits[run.split].position.greatest = max(splits[run.split].position.greatest, greatest) }
        watermarks.observe(split: run.split, greatest: greatest, now: clock.now)
        if splits[run.split].position.next >= splits[run.split].position.stop { finish(run.split) }
    }

    /// Every record of the last ``take(_:)`` was handled: sends the watermark and says when to be called again.
    @usableFromInline
    func settle(taken: Int) throws -> SourceStatus {
        consumer?.release()
        if taken > 0 {
            try sendWatermark()
            clock.wantsMore = true
            return .more
        }
        if !notices.isEmpty { return .more }
        if settings.isBounded, splits.allSatisfy(\.isFinished) { return .finished }
        clock.wantsMore = false
        try sendWatermark()
        guard !splits.isEmpty else { return .idle(wakeAfter: nil) }
        return .idle(wakeAfter: watermarks.nextIdleness(now: clock.now).map { .nanoseconds(max($0, 1_000_000)) })
    }

    /// Called before rows are emitted: a source that was idle must hold back the watermark again before they pass.
    @usableFromInline
    func becomeActive() throws {
        guard saysIdle else { return }
        saysIdle = false
        try context?.emitStatus(idle: false)
    }

    private func sendWatermark() throws {
        guard !splits.isEmpty else {
            guard !saysIdle else { return }
            saysIdle = true
            try context?.emitStatus(idle: true)
            return
        }
        switch watermarks.advance(now: clock.now) {
        case .watermark(let time):
            try becomeActive()
            try context?.emitWatermark(time)
        case .idle:
            saysIdle = true
            try context?.emitStatus(idle: true)
        case .unchanged: break
        }
    }

    /// Called at the start of each poll, for the clock of idleness.
    @usableFromInline
    func tick() { if let context { clock.advance(to: context.clock.now.nanoseconds) } }

    /// A record that the format refused.
    ///
    /// - Throws: Where the record is and what it begins with, unless such records are to be skipped.
    @usableFromInline
    func poison(_ record: KafkaRecord, split: Int, _ error: any Error) throws {
        context?.counter("deserializationErrors").add(1)
        guard settings.poison == .fail else { return }
        let partition = splits[split].position.split
        throw JobFailure(
            domain: .user, recovery: .fail,
            message: "the record at offset \(record.offset) of \(partition) cannot be read: it begins with \(firstBytes(record.value))",
            cause: String(describing: error))
    }

    @usableFromInline
    func countTombstone() { context?.counter("tombstones").add(1) }

    // MARK: What is no record

    private func note(_ message: UnsafePointer<rd_kafka_message_t>) {
        let error = message.pointee.err
        switch error {
        case RD_KAFKA_RESP_ERR__PARTITION_EOF:
            let split = split(of: message)
            if split >= 0 { notices.append(.end(split: split, offset: message.pointee.offset)) }
        case RD_KAFKA_RESP_ERR__AUTO_OFFSET_RESET, RD_KAFKA_RESP_ERR_OFFSET_OUT_OF_RANGE:
            let split = split(of: message)
            if split >= 0 { notices.append(.outOfRange(split: split)) }
        case RD_KAFKA_RESP_ERR__MAX_POLL_EXCEEDED, RD_KAFKA_RESP_ERR__TRANSPORT, RD_KAFKA_RESP_ERR__ALL_BROKERS_DOWN,
            RD_KAFKA_RESP_ERR__TIMED_OUT, RD_KAFKA_RESP_ERR__RESOLVE, RD_KAFKA_RESP_ERR_LEADER_NOT_AVAILABLE,
            RD_KAFKA_RESP_ERR_NOT_LEADER_FOR_PARTITION, RD_KAFKA_RESP_ERR_COORDINATOR_NOT_AVAILABLE, RD_KAFKA_RESP_ERR_NOT_COORDINATOR:
            context?.counter("brokerErrors").add(1)  // librdkafka tries again by itself.
        case RD_KAFKA_RESP_ERR_GROUP_AUTHORIZATION_FAILED where settings.properties["group.id"] == nil:
            break  // The group's name is only there because librdkafka wants one.
        default:
            let partition = message.pointee.rkt.map { "\(String(cString: rd_kafka_topic_name($0)))[\(message.pointee.partition)]" }
            notices.append(
                .failure(
                    JobFailure(
                        domain: .external, recovery: .restart,
                        message: "reading \(partition ?? settings.topics.joined(separator: ", ")) from Kafka at \(settings.bootstrap) failed",
                        cause: String(cString: rd_kafka_message_errstr(message)))))
        }
    }

    private func settleNotices() throws {
        guard !notices.isEmpty else { return }
        let present = notices
        notices.removeAll()
        for notice in present {
            switch notice {
            case .end(let split, let offset): if offset >= splits[split].position.stop { finish(split) }
            case .failure(let failure): throw failure
            case .outOfRange(let split): try leaveRange(split)
            }
        }
    }

    private func finish(_ split: Int) {
        guard !splits[split].isFinished else { return }
        splits[split].isFinished = true
        splits[split].position.next = max(splits[split].position.next, splits[split].position.stop)
        watermarks.finish(split: split)
        consumer?.pause(splits[split].position.split)
    }

    private func leaveRange(_ split: Int) throws {
        let wanted = splits[split].position.next
        let partition = splits[split].position.split
        guard let range = try consumer?.range(of: partition, timeout: settings.lookupTimeout) else { return }
        let target: Int64
        switch settings.outOfRange {
        case .fail:
            throw JobFailure(
                domain: .external, recovery: .fail,
                message: "offset \(wanted) of \(partition), the next to read, is not on the Kafka broker \(settings.bootstrap), which has"
                    + " \(range.lowerBound) to \(range.upperBound): records were deleted, or the topic was made anew. Start from another"
                    + " position, or allow the source to skip with onOutOfRange")
        case .earliest: target = range.lowerBound
        case .latest: target = range.upperBound
        }
        context?.counter("recordsLost").add(Int(max(0, target - wanted)))
        splits[split].position.next = target
        if target >= splits[split].position.stop { finish(split) }
        try assign()
    }

    /// Hands the positions of all splits that are not finished to the consumer.
    func assign() throws {
        splitOfTopic.removeAll()
        (lastKey, lastSplit) = (TopicKey(topic: nil, partition: -1), -1)
        let open = splits.filter { !$0.isFinished }.map { ($0.position.split, offset: $0.position.next) }
        try consumer?.assign(open)
    }

    func addSplit(_ position: KafkaPosition) {
        splits.append(Split(position: position))
        let number = watermarks.addSplit(greatest: position.greatest, now: clock.now)
        precondition(number == splits.count - 1, "splits and their watermarks are numbered alike")
        if position.next >= position.stop, position.next >= 0 {
            splits[number].isFinished = true
            watermarks.finish(split: number)
        }
    }
}

/// The clock of idleness: it stops while the source would go on but is not called, because what follows has no room.
private struct SourceClock {
    /// A longer pause between two calls that should follow at once is back pressure.
    private static let pauseNanosecondsMax: Int64 = 10_000_000

    private(set) var now: Int64 = 0
    private var last: Int64?
    var wantsMore = false

    mutating func advance(to time: Int64) {
        if let last {
            let passed = max(0, time &- last)
            now &+= wantsMore ? min(passed, Self.pauseNanosecondsMax) : passed
        }
        last = time
    }
}

/// The start of a value, as text where it is text, for messages.
func firstBytes(_ value: UnsafeRawBufferPointer?, max bytesMax: Int = 64) -> String {
    guard let value else { return "nothing (null)" }
    let head = value.prefix(bytesMax)
    let isText = head.allSatisfy { (0x20..<0x7F).contains($0) || $0 == 0x09 || $0 == 0x0A || $0 == 0x0D }
    let text =
        isText
        ? "\"" + String(decoding: head, as: UTF8.self) + "\""
        : head.map {
            let digits = String($0, radix: 16); return digits.utf8.count == 1 ? "0" + digits : digits
        }.joined(separator: " ")
    return value.count > bytesMax ? "\(text)… (\(value.count) bytes)" : text
}
