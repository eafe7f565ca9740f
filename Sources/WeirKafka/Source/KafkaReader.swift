import CRdKafka
import Synchronization
import WeirBase
public import WeirDataflow
public import WeirFormats
import WeirStreams

/// Records of one partition that came one behind the other.
@usableFromInline
struct KafkaRun {
    @usableFromInline let split: Int
    /// Indices into ``KafkaReader/records``.
    @usableFromInline let range: Range<Int>
}

/// The part of a source subtask that does not depend on the type of its rows: the consumer, the positions, the watermarks.
///
/// Used on the slot's thread, which never waits here: what takes time is asked through ``KafkaLookups``.
@usableFromInline
final class KafkaReader {
    struct Split {
        enum Phase {
            /// Start or stop are not known yet, or the range is being looked up.
            case waiting
            case reading
            case finished
            /// Its topic is gone.
            case dropped
        }

        var position: KafkaPosition
        var phase = Phase.waiting
        /// The broker said that nothing was left to read, and no record came since.
        var isAtEnd = false
        /// The end that the broker has told; what lies behind is not readable yet. 0: none was told.
        var end: Int64 = 0
        /// Stopped because its event time is too far ahead.
        var isPaused = false
        /// How often in a row the client said that an offset is out of a range in which it is.
        var falseAlarms = 0
        /// nil where there are too many partitions.
        var gauges: KafkaSourceMetrics.PartitionGauges?
    }

    /// What came between the records and is dealt with once those before it are handled.
    enum Notice {
        case end(split: Int, offset: Int64)
        case outOfRange(split: Int)
        case unknown
        case failure(JobFailure)
    }

    static let batchMax = 1_024

    let uid: String
    /// With what the job's options say, once the source starts.
    var settings: KafkaSourceSettings
    var context: OperatorContext?
    var log: KafkaLog?
    var lookups: KafkaLookups?
    var enumerator: KafkaSplitEnumerator?
    var consumer: KafkaConsumerHandle?
    var splits: [Split] = []
    var splitOfPartition: [KafkaPartition: Int] = [:]
    var watermarks: SplitWatermarks
    var notices: [Notice] = []
    var restored: KafkaRestoredState?
    var commits = KafkaCommits()
    var metrics: KafkaSourceMetrics?
    var deadLetters: KafkaDeadLetters?
    var clock = KafkaSourceClock()
    var prefetch: KafkaPrefetch
    var isSettled = false
    private var saysIdle = false
    private let hasIdleTimeout: Bool
    var alignment: KafkaAlignment?

    /// The records of the last ``take(_:)``, which the runs point into.
    @usableFromInline let records: UnsafeMutablePointer<KafkaRecord>
    @usableFromInline var runs: [KafkaRun] = []
    private var recordCount = 0
    /// Set while a record waits for its schema: the records stay, and are decoded again once it is opened.
    private var schemaGate: SchemaGate?
    /// Which split a topic's handle and a partition mean: names are compared once only.
    private var splitOfHandle: [TopicKey: Int] = [:]
    private var lastKey = TopicKey(topic: nil, partition: -1)
    private var lastSplit = -1

    struct TopicKey: Hashable {
        let topic: OpaquePointer?
        let partition: Int32
    }

    private final class SchemaGate: Sendable {
        let isOpen = Atomic<Bool>(false)
    }

    init<Row>(uid: String, settings: KafkaSourceSettings, watermarks strategy: WatermarkStrategy<Row>) {
        self.uid = uid
        self.settings = settings
        prefetch = KafkaPrefetch(settings.properties)
        watermarks = SplitWatermarks(strategy)
        hasIdleTimeout = strategy.idleTimeout != nil
        alignment = strategy.alignment.map { KafkaAlignment(wanted: $0) }
        records = .allocate(capacity: Self.batchMax)
    }

    deinit { records.deallocate() }

    // MARK: Records

    /// Takes up to `budget` records that are there, in runs of one partition. No call waits.
    ///
    /// - Returns: How many messages were taken, including those that carry no record; 0 means that nothing is there now.
    @usableFromInline
    func take(_ budget: Int) throws -> Int {
        if let schemaGate {
            guard schemaGate.isOpen.load(ordering: .acquiring) else { return 0 }
            self.schemaGate = nil
            return recordCount
        }
        runs.removeAll(keepingCapacity: true)
        recordCount = 0
        try settleNotices()
        guard consumer != nil, try hasRoomForMore() else { return 0 }
        let messages = consumer!.poll(max: max(1, min(budget, Self.batchMax)))
        if commits.outstanding > 0 { takeCommits() }
        var bytes = 0
        var index = 0
        while index < messages.count {
            let message = messages[index]
            guard message.pointee.err == RD_KAFKA_RESP_ERR_NO_ERROR else {
                note(message)
                index += 1
                continue
            }
            let split = split(of: message)
            if split >= 0, splits[split].phase == .reading {
                index = takeRun(of: split, messages, from: index, &bytes)
            } else {
                index += 1  // Fetched before the assignment changed.
            }
        }
        metrics?.bytesIn.add(bytes)
        metrics?.recordsIn.add(recordCount)
        keepFetching(bytes: bytes, records: recordCount)
        return messages.count
    }

    /// Takes the records of the partition that the message at `start` is of, up to the first message that is none.
    ///
    /// - Returns: The index of that message.
    private func takeRun(of split: Int, _ messages: KafkaMessages, from start: Int, _ bytes: inout Int) -> Int {
        // In locals: each access to a property of a class costs a check.
        let (topic, partition) = (messages[start].pointee.rkt, messages[start].pointee.partition)
        let (next, stop) = (splits[split].position.next, splits[split].position.stop)
        let (records, first) = (records, recordCount)
        var count = first
        var taken = 0
        var tombstones = 0
        var index = start
        while index < messages.count {
            let message = messages[index]
            guard message.pointee.rkt == topic, message.pointee.partition == partition, message.pointee.err == RD_KAFKA_RESP_ERR_NO_ERROR else {
                break
            }
            index += 1
            let offset = message.pointee.offset
            guard offset >= next else { continue }
            guard offset < stop else {
                notices.append(.end(split: split, offset: offset))
                continue
            }
            (records + count).initialize(to: KafkaRecord(message))
            count += 1
            taken += message.pointee.len + message.pointee.key_len
            if message.pointee.payload == nil { tombstones += 1 }
        }
        bytes += taken
        if tombstones > 0 { metrics?.tombstones.add(tombstones) }
        guard count > first else { return index }
        recordCount = count
        if let last = runs.last, last.split == split {
            runs[runs.count - 1] = KafkaRun(split: split, range: last.range.lowerBound..<count)
        } else {
            runs.append(KafkaRun(split: split, range: first..<count))
        }
        return index
    }

    private func split(of message: UnsafePointer<rd_kafka_message_t>) -> Int {
        let key = TopicKey(topic: message.pointee.rkt, partition: message.pointee.partition)
        if key == lastKey { return lastSplit }
        return findSplit(key)
    }

    private func findSplit(_ key: TopicKey) -> Int {
        if let known = splitOfHandle[key] {
            (lastKey, lastSplit) = (key, known)
            return known
        }
        guard let topic = key.topic else { return -1 }
        guard let split = splitOfPartition[KafkaPartition(String(cString: rd_kafka_topic_name(topic)), key.partition)] else { return -1 }
        splitOfHandle[key] = split
        (lastKey, lastSplit) = (key, split)
        return split
    }

    /// Handles, which are pointers, may mean other topics from now on.
    func forgetHandles() {
        splitOfHandle.removeAll()
        (lastKey, lastSplit) = (TopicKey(topic: nil, partition: -1), -1)
    }

    /// The records of a run below `end` were handled: the next checkpoint need not read them again.
    @usableFromInline
    func advance(_ run: KafkaRun, to end: Int, greatest: Int64) {
        guard end > run.range.lowerBound else { return }
        splits[run.split].position.next = records[end - 1].offset + 1
        splits[run.split].isAtEnd = false
        if greatest != .min {
            splits[run.split].position.greatest = max(splits[run.split].position.greatest, greatest)
            if let metrics { metrics.greatestEmitted = max(metrics.greatestEmitted, greatest) }
        }
        watermarks.observe(split: run.split, greatest: greatest, now: clock.now)
        if splits[run.split].position.isFinished { finish(run.split) }
    }

    /// The schema said that the record at `index` ends its partition.
    @usableFromInline
    func endStream(_ run: KafkaRun, at index: Int) {
        splits[run.split].position.next = records[index].offset + 1
        splits[run.split].position.hasEnded = true
        finish(run.split)
    }

    /// The record at `index` cannot be read before its schema comes: it and all behind it are given out again then.
    @usableFromInline
    func wait(for pending: SchemaPending, from index: Int, of run: KafkaRun) {
        let rest = runs.drop { $0.range.upperBound <= index }
        runs = rest.map { KafkaRun(split: $0.split, range: max($0.range.lowerBound, index)..<$0.range.upperBound) }
        let gate = SchemaGate()
        schemaGate = gate
        let waker = context?.waker
        pending.whenReady {
            gate.isOpen.store(true, ordering: .releasing)
            waker?.wake()
        }
    }

    // MARK: After the records

    /// Every record of the last ``take(_:)`` was handled: sends the watermark and says when to be called again.
    @usableFromInline
    func settle(taken: Int) throws -> SourceStatus {
        guard schemaGate == nil else {
            clock.wantsMore = false
            return .idle(wakeAfter: nil)
        }
        consumer?.release()
        if hasIdleTimeout { holdUnread(queueIsEmpty: taken == 0) }
        if taken > 0 || !notices.isEmpty {
            try sendWatermark()
            align()
            updateMetrics(isIdle: false)
            clock.wantsMore = true
            return .more
        }
        clock.wantsMore = false
        if isOver {
            updateMetrics(isIdle: true)
            return .finished
        }
        try sendWatermark()
        align()
        updateMetrics(isIdle: true)
        return .idle(wakeAfter: wakeAfter())
    }

    /// As long as something may lie unread in the queue, only a split whose end was seen is without records; one that is paused never is.
    private func holdUnread(queueIsEmpty: Bool) {
        for index in splits.indices where splits[index].phase == .reading {
            if splits[index].isPaused || (!queueIsEmpty && !splits[index].isAtEnd) { watermarks.hold(split: index, now: clock.now) }
        }
    }

    /// Whether nothing is left to read, now and for ever.
    private var isOver: Bool {
        guard isSettled, let enumerator, !splits.contains(where: { $0.phase == .waiting || $0.phase == .reading }) else { return false }
        return !enumerator.discovers || splits.contains { $0.position.hasEnded }
    }

    private func wakeAfter() -> Duration? {
        guard let context else { return nil }
        let now = context.clock.now
        var times: [Duration] = []
        if let idleness = watermarks.nextIdleness(now: clock.now) { times.append(.nanoseconds(idleness)) }
        if let deadline = enumerator?.deadline { times.append(now.duration(to: deadline)) }
        if let deadline = commits.autoCommitAt { times.append(now.duration(to: deadline)) }
        if let deadline = metrics?.endsAt { times.append(now.duration(to: deadline)) }
        return times.min().map { max($0, .milliseconds(1)) }
    }

    /// Called before rows are emitted: a source that was idle must hold back the watermark again before they pass.
    @usableFromInline
    func becomeActive() throws {
        guard saysIdle else { return }
        saysIdle = false
        try context?.emitStatus(idle: false)
    }

    private func sendWatermark() throws {
        guard splits.contains(where: { $0.phase != .dropped }) else {
            // Before the first listing nobody knows whether there will be partitions.
            guard isSettled, !saysIdle else { return }
            saysIdle = true
            try context?.emitStatus(idle: true)
            return
        }
        switch watermarks.advance(now: clock.now) {
        case .watermark(let time):
            try becomeActive()
            metrics?.watermark = time
            try context?.emitWatermark(time)
        case .idle:
            saysIdle = true
            try context?.emitStatus(idle: true)
        case .unchanged: break
        }
    }

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
        case RD_KAFKA_RESP_ERR_UNKNOWN_TOPIC_OR_PART, RD_KAFKA_RESP_ERR__UNKNOWN_PARTITION, RD_KAFKA_RESP_ERR__UNKNOWN_TOPIC:
            notices.append(.unknown)
        case RD_KAFKA_RESP_ERR__MAX_POLL_EXCEEDED, RD_KAFKA_RESP_ERR__TRANSPORT, RD_KAFKA_RESP_ERR__ALL_BROKERS_DOWN,
            RD_KAFKA_RESP_ERR__TIMED_OUT, RD_KAFKA_RESP_ERR__RESOLVE, RD_KAFKA_RESP_ERR_LEADER_NOT_AVAILABLE,
            RD_KAFKA_RESP_ERR_NOT_LEADER_FOR_PARTITION, RD_KAFKA_RESP_ERR_COORDINATOR_NOT_AVAILABLE, RD_KAFKA_RESP_ERR_NOT_COORDINATOR:
            context?.counter("brokerErrors").add(1)  // librdkafka tries again by itself.
        case RD_KAFKA_RESP_ERR_GROUP_AUTHORIZATION_FAILED where settings.group == nil:
            break  // The group's name is only there because librdkafka wants one.
        default:
            let partition = message.pointee.rkt.map { "\(String(cString: rd_kafka_topic_name($0)))[\(message.pointee.partition)]" }
            notices.append(
                .failure(
                    JobFailure(
                        domain: .external, recovery: .restart,
                        message: "reading \(partition ?? settings.subscription.description) from Kafka at \(settings.bootstrap) failed",
                        cause: String(cString: rd_kafka_message_errstr(message)))))
        }
    }

    private func settleNotices() throws {
        guard !notices.isEmpty else { return }
        let present = notices
        notices.removeAll()
        for notice in present {
            switch notice {
            case .end(let split, let offset): reachedEnd(split, offset)
            case .outOfRange(let split): leaveRange(split)
            case .unknown: try tell(.suspected)
            case .failure(let failure): throw failure
            }
        }
    }

    /// Everything below `offset` was handled: also markers of transactions and aborted records, which are never handed out.
    private func reachedEnd(_ split: Int, _ offset: Int64) {
        guard splits[split].phase == .reading else { return }
        splits[split].falseAlarms = 0
        let isEnd = offset < splits[split].position.stop
        splits[split].position.next = max(splits[split].position.next, min(offset, splits[split].position.stop))
        splits[split].isAtEnd = isEnd
        splits[split].end = max(splits[split].end, offset)
        if splits[split].position.isFinished { finish(split) }
    }

    func finish(_ split: Int) {
        guard splits[split].phase != .finished else { return }
        splits[split].phase = .finished
        splits[split].isPaused = false
        alignment?.forget(split)
        watermarks.finish(split: split)
        // A partition that is read to its stop takes no more of the network. That it fails means that it is not assigned any more.
        try? consumer?.remove([splits[split].position.split])
    }
}
