package import WeirBase
internal import WeirDataflow
package import WeirWire

/// What a task had done at one moment: numbers, apart from the counters that go on.
package struct TaskSample: Sendable {
    /// A number of an operator.
    package struct Metric: Sendable {
        package var name: String
        package var value: Int
        /// Whether it is a state and not a sum.
        package var isGauge: Bool
        package init(_ name: String, _ value: Int, isGauge: Bool = false) {
            self.name = name
            self.value = value
            self.isGauge = isGauge
        }
    }

    package var recordsIn = 0
    package var recordsOut = 0
    package var bytesIn = 0
    package var bytesOut = 0
    /// Milliseconds since 1970; `Int64.min` before the first one.
    package var watermark = Int64.min
    package var busyNanoseconds = 0
    package var idleNanoseconds = 0
    package var backPressuredNanoseconds = 0
    package var operators: [(name: String, metrics: [Metric])] = []

    package init() {}

    init(_ metrics: TaskMetrics) {
        recordsIn = metrics.rowsIn.value
        recordsOut = metrics.rowsOut
        bytesIn = metrics.bytesIn
        bytesOut = metrics.bytesOut
        watermark = Int64(metrics.watermark.value)
        busyNanoseconds = metrics.busyNanoseconds.value
        idleNanoseconds = metrics.idleNanoseconds.value
        backPressuredNanoseconds = metrics.backPressuredNanoseconds.value
        operators = metrics.operators.map { item in
            var own = item.counters.map { Metric($0.name, $0.value, isGauge: $0.isGauge) }
            // A source counts what it takes itself: nothing comes in from another operator.
            if item.rowsIn > 0, !own.contains(where: { $0.name == "numRecordsIn" }) { own.insert(Metric("numRecordsIn", item.rowsIn), at: 0) }
            return (item.name, own)
        }
    }

    /// The shares of the time since an earlier sample; all zero if no time passed.
    package func ratios(since earlier: TaskSample?) -> (busy: Double, idle: Double, backPressured: Double) {
        let busy = busyNanoseconds - (earlier?.busyNanoseconds ?? 0)
        let idle = idleNanoseconds - (earlier?.idleNanoseconds ?? 0)
        let backPressured = backPressuredNanoseconds - (earlier?.backPressuredNanoseconds ?? 0)
        let total = Double(busy + idle + backPressured)
        guard total > 0 else { return (0, 0, 0) }
        return (Double(busy) / total, Double(idle) / total, Double(backPressured) / total)
    }

    /// The sample as a message.
    ///
    /// - Parameter earlier: The sample of the report before.
    package func wire(of subtask: SubtaskID, since earlier: TaskSample?) -> WireTaskMetrics {
        var message = WireTaskMetrics()
        message.subtask = subtask.wire
        message.recordsIn = UInt64(clamping: recordsIn)
        message.recordsOut = UInt64(clamping: recordsOut)
        message.bytesIn = UInt64(clamping: bytesIn)
        message.bytesOut = UInt64(clamping: bytesOut)
        message.watermarkMs = watermark
        (message.busyRatio, message.idleRatio, message.backPressuredRatio) = ratios(since: earlier)
        for item in operators {
            for metric in item.metrics {
                message.counters["\(item.name).\(metric.name)"] = Int64(metric.value)
                if metric.name == "numLateRecordsDropped" { message.lateRecords += UInt64(clamping: metric.value) }
            }
        }
        return message
    }
}
