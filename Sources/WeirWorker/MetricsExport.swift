package import CoreMetrics
internal import WeirBase
package import WeirDataflow
package import WeirWire

/// Passes the numbers of a worker's tasks on: to the JobManager as messages, and to whatever the job bootstrapped swift-metrics with.
///
/// Labels are `weir.task.NAME` and `weir.operator.NAME`, with Flink's names; dimensions are `job_name`, `tm_id`, `task_name`,
/// `subtask_index` and, for operators, `operator_name`.
package struct MetricsExport: Sendable {
    /// One task's numbers.
    package struct Sample: Sendable {
        package var attempt: TaskAttempt
        package var taskName: String
        package var metrics: TaskSample
        package init(attempt: TaskAttempt, taskName: String, metrics: TaskSample) {
            self.attempt = attempt
            self.taskName = taskName
            self.metrics = metrics
        }
    }

    private struct Key: Hashable {
        var subtask: SubtaskID
        /// Operators of one task may have one name.
        var position: Int
        var name: String
    }

    private enum Handler {
        /// With what was told of the sum so far.
        case counter(any CounterHandler, told: Int)
        case gauge(any RecorderHandler)
    }

    private let jobName: String
    private let taskManager: String
    private let factory: any MetricsFactory
    private var handlers: [Key: Handler] = [:]
    private var earlier: [TaskAttempt: TaskSample] = [:]

    package init(jobName: String, taskManager: String, factory: any MetricsFactory) {
        self.jobName = jobName
        self.taskManager = taskManager
        self.factory = factory
    }

    /// Publishes the numbers of all tasks that there are; those of others are taken back.
    ///
    /// - Returns: The messages, in the order of the samples.
    package mutating func publish(_ samples: [Sample]) -> [WireTaskMetrics] {
        var present: Set<Key> = []
        var messages: [WireTaskMetrics] = []
        for sample in samples {
            let before = earlier[sample.attempt]
            messages.append(sample.metrics.wire(of: sample.attempt.subtask, since: before))
            publish(sample, since: before, &present)
        }
        for key in handlers.keys.filter({ !present.contains($0) }) { takeBack(key) }
        earlier = Dictionary(samples.map { ($0.attempt, $0.metrics) }, uniquingKeysWith: { first, _ in first })
        return messages
    }

    private mutating func publish(_ sample: Sample, since before: TaskSample?, _ present: inout Set<Key>) {
        let task = sample.metrics
        let ratios = task.ratios(since: before)
        var metrics = [
            TaskSample.Metric("numRecordsIn", task.recordsIn), .init("numRecordsOut", task.recordsOut), .init("numBytesIn", task.bytesIn),
            .init("numBytesOut", task.bytesOut), .init("busyTimeMsPerSecond", Int(ratios.busy * 1_000), isGauge: true),
            .init("idleTimeMsPerSecond", Int(ratios.idle * 1_000), isGauge: true),
            .init("backPressuredTimeMsPerSecond", Int(ratios.backPressured * 1_000), isGauge: true),
        ]
        if task.watermark != .min { metrics.append(.init("currentInputWatermark", Int(task.watermark), isGauge: true)) }
        let dimensions = [
            ("job_name", jobName), ("tm_id", taskManager), ("task_name", sample.taskName), ("subtask_index", "\(sample.attempt.subtask.index)"),
        ]
        for metric in metrics {
            let key = Key(subtask: sample.attempt.subtask, position: -1, name: metric.name)
            present.insert(key)
            publish(metric, key, "weir.task.\(metric.name)", dimensions)
        }
        for (position, item) in task.operators.enumerated() {
            for metric in item.metrics {
                let key = Key(subtask: sample.attempt.subtask, position: position, name: metric.name)
                present.insert(key)
                publish(metric, key, "weir.operator.\(metric.name)", dimensions + [("operator_name", item.name)])
            }
        }
    }

    private mutating func publish(_ metric: TaskSample.Metric, _ key: Key, _ label: String, _ dimensions: [(String, String)]) {
        // Whether it is a gauge shows only when it was first set.
        if case .counter? = handlers[key], metric.isGauge { takeBack(key) }
        switch handlers[key] {
        case .gauge(let gauge): gauge.record(Int64(metric.value))
        case .counter(let counter, let told):
            // Behind a restart of the task, sums begin anew.
            let growth = metric.value >= told ? metric.value - told : metric.value
            if growth > 0 { counter.increment(by: Int64(growth)) }
            handlers[key] = .counter(counter, told: metric.value)
        case nil where metric.isGauge:
            let gauge = factory.makeRecorder(label: label, dimensions: dimensions, aggregate: false)
            gauge.record(Int64(metric.value))
            handlers[key] = .gauge(gauge)
        case nil:
            let counter = factory.makeCounter(label: label, dimensions: dimensions)
            if metric.value > 0 { counter.increment(by: Int64(metric.value)) }
            handlers[key] = .counter(counter, told: metric.value)
        }
    }

    private mutating func takeBack(_ key: Key) {
        switch handlers.removeValue(forKey: key) {
        case .counter(let counter, _): factory.destroyCounter(counter)
        case .gauge(let gauge): factory.destroyRecorder(gauge)
        case nil: break
        }
    }
}
