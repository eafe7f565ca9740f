internal import WeirBase
internal import WeirDataflow
internal import WeirWire

extension TaskMetrics {
    /// The counters as a message. Ratios are of the time since the deployment.
    func wire(of subtask: SubtaskID) -> WireTaskMetrics {
        var message = WireTaskMetrics()
        message.subtask = subtask.wire
        message.recordsIn = UInt64(clamping: rowsIn.value)
        message.recordsOut = UInt64(clamping: rowsOut)
        message.bytesIn = UInt64(clamping: bytesIn)
        message.bytesOut = UInt64(clamping: bytesOut)
        message.watermarkMs = Int64(watermark.value)
        let total = Double(busyNanoseconds.value + idleNanoseconds.value + backPressuredNanoseconds.value)
        if total > 0 {
            message.busyRatio = Double(busyNanoseconds.value) / total
            message.idleRatio = Double(idleNanoseconds.value) / total
            message.backPressuredRatio = Double(backPressuredNanoseconds.value) / total
        }
        for item in operators {
            for (name, value) in item.counters {
                message.counters["\(item.name).\(name)"] = Int64(value)
                if name == "lateRowsDropped" { message.lateRecords += UInt64(clamping: value) }
            }
        }
        return message
    }
}
