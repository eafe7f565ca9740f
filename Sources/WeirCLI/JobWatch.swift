package import WeirWire

/// Turns successive views of a job into what happened in between: a value, so that tests feed it what they like.
package struct JobWatch: Sendable {
    /// One thing that happened.
    package struct Event: Sendable, Equatable {
        package enum What: Sendable, Equatable {
            case state(WireJobState, epoch: UInt32, message: String)
            case failure(WireFailureRecord)
            /// Checkpoint 0: from the start.
            case restoring(checkpoint: UInt64, epoch: UInt32)
            case runningAgain(milliseconds: UInt32)
        }

        package var timestampMs: Int64
        package var what: What

        package init(timestampMs: Int64, what: What) {
            self.timestampMs = timestampMs
            self.what = what
        }
    }

    private struct FailureKey: Hashable {
        var timestampMs: Int64
        var epoch: UInt32
        var worker: String
        var message: String
    }

    private var lastChange: WireStateChange?
    private var failures: Set<FailureKey> = []
    private var recovered: Set<FailureKey> = []
    private var firstEpoch: UInt32?

    package init() {}

    /// What happened since the last view, in order of time.
    package mutating func observe(_ info: WireJobInfo) -> [Event] {
        var events = stateEvents(info)
        var present: Set<FailureKey> = []
        for record in info.failures {
            let key = FailureKey(
                timestampMs: record.timestampMs, epoch: record.epoch, worker: record.worker, message: record.failure.message)
            present.insert(key)
            if !failures.contains(key) {
                failures.insert(key)
                events.append(Event(timestampMs: record.timestampMs, what: .failure(record)))
            }
            if record.runningAgainMs > 0, recovered.insert(key).inserted {
                let when = record.timestampMs + Int64(record.runningAgainMs)
                events.append(Event(timestampMs: when, what: .runningAgain(milliseconds: record.runningAgainMs)))
            }
        }
        // The JobManager keeps a bounded number, and so does this.
        failures.formIntersection(present)
        recovered.formIntersection(present)
        // Sorting by time keeps the order of equal times: a failure comes after the state changes of its millisecond otherwise.
        return events.enumerated().sorted { left, right in
            (left.element.timestampMs, left.element.rank, left.offset) < (right.element.timestampMs, right.element.rank, right.offset)
        }.map(\.element)
    }

    private mutating func stateEvents(_ info: WireJobInfo) -> [Event] {
        var fresh = info.history[...]
        if let lastChange, let seen = info.history.lastIndex(of: lastChange) { fresh = info.history[(seen + 1)...] }
        if info.history.isEmpty {
            // A JobManager that keeps no history: the state alone.
            var change = WireStateChange()
            change.state = info.summary.state
            change.epoch = info.epoch
            change.timestampMs = max(info.summary.submittedMs, info.summary.endedMs)
            if lastChange?.state != change.state || lastChange?.epoch != change.epoch { fresh = [change] }
        }
        guard let newest = fresh.last else { return [] }
        lastChange = newest
        let lastEpochStart = fresh.last { $0.state == .deploying && isRestart($0) }
        if firstEpoch == nil { firstEpoch = fresh.first?.epoch }
        var events: [Event] = []
        for change in fresh {
            // The summary's message belongs to the latest state only.
            let message = change == newest && change.state == info.summary.state ? info.summary.statusMessage : ""
            events.append(Event(timestampMs: change.timestampMs, what: .state(change.state, epoch: change.epoch, message: message)))
            if change == lastEpochStart, isRestart(change) {
                let what = Event.What.restoring(checkpoint: info.checkpoints.restoredFrom, epoch: change.epoch)
                events.append(Event(timestampMs: change.timestampMs, what: what))
            }
        }
        return events
    }

    /// Epochs begin at 0 or 1; a restart raises them.
    private func isRestart(_ change: WireStateChange) -> Bool {
        change.epoch > (firstEpoch ?? 1)
    }
}

extension JobWatch.Event {
    /// Among things of one millisecond: the failure first, then what follows from it.
    fileprivate var rank: Int {
        switch what {
        case .failure: 0
        case .state, .restoring: 1
        case .runningAgain: 2
        }
    }

    /// For people.
    package func text(_ format: TimeFormat) -> String {
        let time = format.time(timestampMs)
        switch what {
        case .state(let state, _, let message):
            return "\(time)  \(state.word)" + (message.isEmpty ? "" : ": \(oneLine(message))")
        case .failure(let record):
            var text = "\(time)  " + describe(record.failure).replacingNewlines(with: "\n              ")
            let place = [record.worker.isEmpty ? "" : "worker \(record.worker)", record.taskManager]
                .filter { !$0.isEmpty }.joined(separator: " on ")
            let isSaid = record.failure.hasPlace || record.failure.message.contains("\(record.worker) on \(record.taskManager)")
            if !place.isEmpty, !isSaid { text += "\n                at: \(place)" }
            if !record.stderrTail.isEmpty {
                text += "\n                last lines of its stderr:"
                for line in record.stderrTail { text += "\n                  " + oneLine(line) }
            }
            return text
        case .restoring(let checkpoint, _):
            return checkpoint == 0
                ? "\(time)  restarting from the start: there is no completed checkpoint"
                : "\(time)  restarting from checkpoint \(checkpoint)"
        case .runningAgain(let milliseconds):
            return "\(time)  RUNNING again after \(milliseconds) ms"
        }
    }

    /// For programs: one object a line.
    package func json(job: String) -> JSONValue {
        switch what {
        case .state(let state, let epoch, let message):
            return .object([
                "event": .string("state"), "job": .string(job), "timestampMs": .integer(timestampMs), "state": .string(state.word),
                "epoch": .unsigned(UInt64(epoch)), "message": .optional(message),
            ])
        case .failure(let record):
            return .object([
                "event": .string("failure"), "job": .string(job), "timestampMs": .integer(timestampMs),
                "failure": Rendering.json(record),
            ])
        case .restoring(let checkpoint, let epoch):
            return .object([
                "event": .string("restoring"), "job": .string(job), "timestampMs": .integer(timestampMs),
                "checkpoint": checkpoint == 0 ? .null : .unsigned(checkpoint), "epoch": .unsigned(UInt64(epoch)),
            ])
        case .runningAgain(let milliseconds):
            return .object([
                "event": .string("runningAgain"), "job": .string(job), "timestampMs": .integer(timestampMs),
                "afterMs": .unsigned(UInt64(milliseconds)),
            ])
        }
    }
}

extension String {
    fileprivate func replacingNewlines(with text: String) -> String {
        split(separator: "\n", omittingEmptySubsequences: false).joined(separator: text)
    }
}
