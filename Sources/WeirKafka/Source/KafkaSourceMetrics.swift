import WeirBase
import WeirDataflow

/// The numbers that a source shows, under Flink's names.
final class KafkaSourceMetrics {
    /// Numbers of one partition, under `topic.<topic>.partition.<number>.`.
    struct PartitionGauges {
        let currentOffset: Counter
        let committedOffset: Counter
    }

    /// Partitions of a subtask that get numbers of their own; more would swamp whoever looks at them.
    static let partitionsMax = 100
    /// The shortest time between two looks at lags.
    private static let updateInterval = Duration.milliseconds(100)
    /// The ends of partitions that are not being fetched, because the queue is full or they are paused, are asked for this often.
    private static let endsInterval = Duration.seconds(5)

    let recordsIn: Counter
    let bytesIn: Counter
    let tombstones: Counter
    let deserializationErrors: Counter
    let commitsSucceeded: Counter
    let commitsFailed: Counter
    private let pendingRecords: Counter
    private let emitLag: Counter
    private let watermarkLag: Counter
    private let idleTime: Counter
    private let context: OperatorContext
    private var partitions = 0
    private var updateAt: Instant?
    private var lastRecordsIn = 0
    private var lastRecordAt: Instant

    /// The greatest event time of a row that was passed on.
    var greatestEmitted = Int64.min
    var watermark = Int64.min
    var isAskingForEnds = false
    /// When the ends are asked for next; nil while the question is open.
    private(set) var endsAt: Instant?

    init(_ context: OperatorContext) {
        self.context = context
        recordsIn = context.counter("numRecordsIn")
        bytesIn = context.counter("numBytesIn")
        tombstones = context.counter("tombstones")
        deserializationErrors = context.counter("deserializationErrors")
        commitsSucceeded = context.counter("commitsSucceeded")
        commitsFailed = context.counter("commitsFailed")
        pendingRecords = context.counter("pendingRecords")
        emitLag = context.counter("currentEmitEventTimeLag")
        watermarkLag = context.counter("watermarkLag")
        idleTime = context.counter("sourceIdleTime")
        lastRecordAt = context.clock.now
        // States from the start: a number that is added to shows as a sum.
        for gauge in [pendingRecords, emitLag, watermarkLag, idleTime] { gauge.set(0) }
    }

    /// The numbers of another partition; nil where there are too many.
    func partition(_ partition: KafkaPartition) -> PartitionGauges? {
        guard partitions < Self.partitionsMax else { return nil }
        partitions += 1
        let prefix = "topic.\(partition.topic).partition.\(partition.partition)."
        let gauges = PartitionGauges(
            currentOffset: context.counter(prefix + "currentOffset"), committedOffset: context.counter(prefix + "committedOffset"))
        for gauge in [gauges.currentOffset, gauges.committedOffset] { gauge.set(-1) }
        return gauges
    }

    /// Whether lags are to be looked at now. At the latest when the source has nothing to do.
    func isDue(isIdle: Bool) -> Bool {
        let now = context.clock.now
        if recordsIn.value != lastRecordsIn { (lastRecordsIn, lastRecordAt) = (recordsIn.value, now) }
        guard isIdle || updateAt.map({ $0 <= now }) ?? true else { return false }
        updateAt = now.advanced(by: Self.updateInterval)
        return true
    }

    /// - Parameter pending: Records that are readable and not read; nil: not known.
    func update(pending: Int64?) {
        let now = context.clock.now
        let wallTime = context.processingTime()
        if let pending { pendingRecords.set(Int(pending)) }
        if greatestEmitted != .min { emitLag.set(Int(clamping: wallTime.subtractingReportingOverflow(greatestEmitted).partialValue)) }
        if watermark != .min { watermarkLag.set(Int(clamping: wallTime.subtractingReportingOverflow(watermark).partialValue)) }
        idleTime.set(Int(lastRecordAt.duration(to: now).inMilliseconds))
    }

    /// Whether to ask for the ends of partitions now.
    func asksForEnds() -> Bool {
        guard !isAskingForEnds else { return false }
        let now = context.clock.now
        guard let due = endsAt else {
            endsAt = now.advanced(by: Self.endsInterval)
            return false
        }
        guard due <= now else { return false }
        (isAskingForEnds, endsAt) = (true, nil)
        return true
    }
}

extension KafkaReader {
    func updateMetrics(isIdle: Bool) {
        guard let metrics, metrics.isDue(isIdle: isIdle) else { return }
        var pending: Int64 = 0
        for split in splits where split.phase == .reading || split.phase == .waiting {
            split.gauges?.currentOffset.set(Int(split.position.next))
            pending += self.pending(split)
        }
        metrics.update(pending: pending)
        let reading = splits.filter { $0.phase == .reading }.map(\.position.split)
        if !reading.isEmpty, metrics.asksForEnds() { lookups?.ask(.ends(reading)) }
    }

    /// Records of a split that are readable and not read yet. Offsets that hold none, such as markers of transactions, count until the source
    /// has come to the end behind them, and no longer: a partition that was read to its end has none pending.
    private func pending(_ split: Split) -> Int64 {
        guard split.position.next >= 0 else { return 0 }
        // At the end, only what the broker says is readable is known to be; before it, the last fetch knows best.
        let fetched = split.isAtEnd ? 0 : consumer?.knownEnd(of: split.position.split) ?? 0
        let end = min(max(split.end, fetched), split.position.stop)
        return max(0, end - split.position.next)
    }
}
