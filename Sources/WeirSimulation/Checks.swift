import WeirBase
import WeirControl
import WeirGraph

/// What must hold, whatever happens. Kept apart from the control plane's own books: it believes only what it saw leave.
package struct Checks {
    package struct Statistics: Sendable, Hashable {
        package var checkpoints = 0
        package var savepoints = 0
        package var restores = 0
        package var epochs = 0
        package var discarded = 0
        package var damaged = 0
        package var finished = 0
        package var canceled = 0

        package init() {}
    }

    private struct JobRecord {
        var state = JobState.created
        var epoch = Epoch(0)
        /// Durable, not discarded.
        var durable: [CheckpointID: CompletedCheckpoint] = [:]
        var savepoints: [CheckpointID: CompletedCheckpoint] = [:]
        /// Restored without being claimed: read, never deleted, never built on.
        var foreign: [CheckpointID: CompletedCheckpoint] = [:]
        /// Handed to storage, answer not yet seen by the control plane.
        var publishing: [CheckpointID: CompletedCheckpoint] = [:]
        var files: Set<String> = []
        var damaged: Set<String> = []
        var lastTriggered = CheckpointID(0)
        /// The highest checkpoint that a sink has committed, and by whom the final one was.
        var committed = CheckpointID(0)
        var finalID: CheckpointID?
        var committedFinal: Set<SubtaskID> = []
        var runs: [EpochTask: WorkerID] = [:]
        var deployed: [TaskManagerID: Int] = [:]
        var deployedEpoch: Epoch?
    }

    private struct EpochTask: Hashable {
        let epoch: Epoch
        let subtask: SubtaskID
    }

    private let scenario: Scenario
    private var jobs: [JobID: JobRecord] = [:]
    package private(set) var violations: [String] = []
    package private(set) var statistics = Statistics()

    init(scenario: Scenario) {
        self.scenario = scenario
        for job in scenario.jobs {
            var record = JobRecord()
            for checkpoint in job.submission.restoreFrom {
                record.files.formUnion(checkpoint.handles.flatMap(\.files).map(\.path))
                if checkpoint.isOwned { record.durable[checkpoint.id] = checkpoint } else { record.foreign[checkpoint.id] = checkpoint }
            }
            jobs[job.submission.job] = record
        }
    }

    mutating func violate(_ message: String) { violations.append(message) }

    private func submission(_ job: JobID) -> JobSubmission? { scenario.jobs.first { $0.submission.job == job }?.submission }

    // MARK: The control plane's effects

    mutating func observe(_ effect: ControlEffect, now: Instant) {
        switch effect {
        case .triggerCheckpoint(_, let trigger):
            triggered(trigger)
        case .publishCheckpoint(let checkpoint):
            publishes(checkpoint)
        case .discardState(let job, let files):
            discards(files, job: job, allowing: nil)
        case .discardCheckpoint(let job, let id, _, let files):
            if jobs[job]?.durable.removeValue(forKey: id) == nil { violate("checkpoint \(id) of \(job) was discarded but is not retained") }
            discards(files, job: job, allowing: id)
        case .notifyCheckpointComplete(_, let notice):
            let record = jobs[notice.job]
            if record?.durable[notice.checkpoint] == nil, record?.savepoints[notice.checkpoint] == nil {
                violate("tasks were told of checkpoint \(notice.checkpoint), which does not exist")
            }
            if notice.isFinal { jobs[notice.job]?.finalID = notice.checkpoint }
        case .acceptTaskManager(let id, _, _):
            // What ran there counts as lost, and its slots as free.
            for job in jobs.keys { jobs[job]?.deployed[id] = nil }
        case .deploy(let worker, let plan):
            deploys(plan, to: worker)
        case .jobStateChanged(let change):
            changed(change)
        case .reply(_, .savepointCompleted(let job, let id, _)):
            if jobs[job]?.savepoints[id] == nil { violate("savepoint \(id) was announced but does not exist") }
        default:
            break
        }
    }

    private mutating func triggered(_ trigger: CheckpointTrigger) {
        let job = trigger.job
        if let state = jobs[job]?.state, state != .running { violate("checkpoint \(trigger.checkpoint) was triggered in state \(state)") }
        // One trigger reaches several workers: equal is the same one.
        if let last = jobs[job]?.lastTriggered, trigger.checkpoint < last {
            violate("checkpoint id \(trigger.checkpoint) comes after \(last)")
        }
        jobs[job]?.lastTriggered = trigger.checkpoint
        if trigger.epoch != jobs[job]?.epoch { violate("checkpoint \(trigger.checkpoint) was triggered for epoch \(trigger.epoch)") }
    }

    private mutating func publishes(_ checkpoint: CompletedCheckpoint) {
        guard let submission = submission(checkpoint.job) else { return }
        let subtasks = submission.graph.subtasks.sorted()
        if checkpoint.handles.map(\.subtask) != subtasks {
            violate("checkpoint \(checkpoint.id) lacks state: \(checkpoint.handles.map(\.subtask)) of \(subtasks)")
        }
        for handle in checkpoint.handles {
            for file in handle.files where jobs[checkpoint.job]?.files.contains(file.path) != true {
                violate("checkpoint \(checkpoint.id) names \(file.path), which was discarded")
            }
            for file in handle.shared where !mayShare(file, checkpoint.job) {
                violate("checkpoint \(checkpoint.id) builds on \(file.path), which is a savepoint's or not the job's own")
            }
            guard case .file(let file) = handle.content else { continue }
            let prefix = "\(checkpoint.job.low)/e\(checkpoint.epoch)/"
            if !file.path.hasPrefix("\(prefix)\(checkpoint.id)/"), !file.path.hasPrefix("\(prefix)end/") {
                violate("checkpoint \(checkpoint.id) of epoch \(checkpoint.epoch) took foreign state \(file.path)")
            }
        }
        if jobs[checkpoint.job]?.publishing.isEmpty == false { violate("two checkpoints of \(checkpoint.job) are published at a time") }
        jobs[checkpoint.job]?.publishing[checkpoint.id] = checkpoint
    }

    private func mayShare(_ file: StateFile, _ job: JobID) -> Bool {
        let restored = submission(job)?.restoreFrom.first { $0.handles.contains { $0.files.contains(file) } }
        return restored?.isShareable ?? true
    }

    private mutating func discards(_ files: [StateFile], job: JobID, allowing id: CheckpointID?) {
        guard let record = jobs[job] else { return violate("state of an unknown job \(job) was discarded") }
        let needed = [record.savepoints, record.publishing, record.foreign].reduce(record.durable) { $0.merging($1) { left, _ in left } }
        for (other, checkpoint) in needed where other != id {
            for file in checkpoint.handles.flatMap(\.files) where files.contains(file) {
                violate("\(file.path) was discarded, which checkpoint \(other) needs")
            }
        }
        statistics.discarded += files.count
        jobs[job]?.files.subtract(files.map(\.path))
    }

    private mutating func deploys(_ plan: DeploymentPlan, to worker: WorkerID) {
        guard let record = jobs[plan.job], let submission = submission(plan.job) else { return }
        if record.deployedEpoch != plan.epoch {
            if let last = record.deployedEpoch, plan.epoch <= last { violate("epoch \(plan.epoch) was deployed after \(last)") }
            jobs[plan.job]?.deployedEpoch = plan.epoch
            jobs[plan.job]?.deployed = [:]
            statistics.epochs += 1
            if plan.restore != nil { statistics.restores += 1 }
        }
        if !record.publishing.isEmpty { violate("epoch \(plan.epoch) was deployed while a checkpoint was being published") }
        // A savepoint that the job ends with is the latest as soon as it exists: sinks may have committed what it names.
        let last = record.savepoints.filter { if case .savepoint(_, let mode) = $0.value.kind { mode.endsJob } else { false } }
        let intact = record.durable.merging(last) { left, _ in left }.merging(record.foreign) { left, _ in left }.filter { entry in
            !entry.value.handles.contains { $0.files.contains { record.damaged.contains($0.path) } }
        }
        // A damaged file is only known once somebody read it, so an older choice may not be wrong; a newer one would not exist.
        if record.damaged.isEmpty, plan.restore?.checkpoint != intact.keys.max() {
            violate(
                "epoch \(plan.epoch) restores from \(String(describing: plan.restore?.checkpoint)), "
                    + "the latest is \(String(describing: intact.keys.max()))")
        }
        if record.damaged.isEmpty, record.committed > (plan.restore?.checkpoint ?? CheckpointID(0)) {
            violate("epoch \(plan.epoch) restores from before checkpoint \(record.committed), which sinks have committed")
        }
        if let restore = plan.restore {
            for vertex in restore.vertices {
                let width = submission.graph.vertex(vertex.vertex)?.parallelism
                if vertex.handles.count != width { violate("vertex \(vertex.vertex) is given \(vertex.handles.count) handles to restore") }
            }
        }
        let placed = plan.placements.flatMap { placement in
            zip(placement.workers, placement.slots).map { [placement.vertex.rawValue, Int32($0), Int32($1)] }
        }
        if Set(placed).count != placed.count { violate("a slot of \(plan.job) holds two subtasks of a vertex") }
        guard let endpoint = plan.workers.first(where: { $0.worker == worker }) else { return violate("worker \(worker) is not in its plan") }
        jobs[plan.job]?.deployed[endpoint.taskManager] = plan.slots
        let used = jobs.values.reduce(0) { $0 + ($1.deployed[endpoint.taskManager] ?? 0) }
        let offered = scenario.taskManagers.first { $0.id == endpoint.taskManager }?.slots ?? 0
        if used > offered { violate("\(endpoint.taskManager) has \(offered) slots, \(used) are used") }
    }

    private mutating func changed(_ change: JobStateChange) {
        guard let record = jobs[change.job] else { return }
        if record.state != change.from { violate("\(change.job) left state \(change.from), but it was in \(record.state)") }
        if !Self.next(change.from).contains(change.to) { violate("\(change.job) went from \(change.from) to \(change.to)") }
        jobs[change.job]?.state = change.to
        jobs[change.job]?.epoch = change.epoch
        if change.to == .waitingForResources || change.to.isTerminal { jobs[change.job]?.deployed = [:] }
        if change.to == .canceled { statistics.canceled += 1 }
        guard change.to == .finished, let submission = submission(change.job) else { return }
        statistics.finished += 1
        let sinks = submission.graph.vertices.filter { $0.nodes.first?.kind == .sink }.map(\.id)
        for sink in submission.graph.subtasks where sinks.contains(sink.vertex) && !record.committedFinal.contains(sink) {
            violate("\(change.job) finished though sink \(sink) has not committed the final checkpoint")
        }
    }

    private static func next(_ state: JobState) -> [JobState] {
        switch state {
        case .created: [.waitingForResources, .canceled]
        case .waitingForResources: [.deploying, .canceled]
        case .deploying: [.running, .restarting, .cancelling, .failing]
        case .running: [.restarting, .cancelling, .failing, .finished]
        case .restarting: [.waitingForResources, .cancelling, .failing]
        case .cancelling: [.canceled]
        case .failing: [.failed]
        case .canceled, .failed, .finished: []
        }
    }

    // MARK: What the simulated world did

    mutating func becameDurable(_ checkpoint: CompletedCheckpoint) {
        if checkpoint.kind.isSavepoint {
            jobs[checkpoint.job]?.savepoints[checkpoint.id] = checkpoint
            statistics.savepoints += 1
        } else {
            jobs[checkpoint.job]?.durable[checkpoint.id] = checkpoint
            statistics.checkpoints += 1
        }
    }

    mutating func publicationAnswered(_ job: JobID, _ id: CheckpointID) { jobs[job]?.publishing[id] = nil }

    mutating func wrote(_ path: String, job: JobID) { jobs[job]?.files.insert(path) }

    mutating func reads(_ files: [StateFile], job: JobID, checkpoint: CheckpointID, subtask: SubtaskID) {
        for file in files where jobs[job]?.files.contains(file.path) != true {
            violate("task \(subtask) cannot restore checkpoint \(checkpoint): \(file.path) was discarded")
        }
    }

    mutating func damaged(_ path: String, job: JobID) {
        statistics.damaged += 1
        jobs[job]?.damaged.insert(path)
    }

    func isDamaged(_ path: String, job: JobID) -> Bool { jobs[job]?.damaged.contains(path) ?? false }

    mutating func runs(_ job: JobID, _ epoch: Epoch, _ subtask: SubtaskID, on worker: WorkerID) {
        let key = EpochTask(epoch: epoch, subtask: subtask)
        if let other = jobs[job]?.runs[key] { violate("task \(subtask) runs twice in epoch \(epoch): on \(other) and \(worker)") }
        jobs[job]?.runs[key] = worker
    }

    mutating func commits(_ id: CheckpointID, job: JobID, sink: SubtaskID) {
        guard let record = jobs[job] else { return }
        jobs[job]?.committed = max(record.committed, id)
        if record.finalID == id { jobs[job]?.committedFinal.insert(sink) }
    }

    // MARK: After each step, and at the end

    mutating func afterStep(plane: ControlPlane) {
        let cluster = plane.clusterSnapshot()
        for manager in cluster.taskManagers where manager.freeSlots < 0 || manager.freeSlots > manager.slots {
            violate("\(manager.id) has \(manager.freeSlots) of \(manager.slots) slots free")
        }
    }

    mutating func atEnd(plane: ControlPlane, workers: [(WorkerID, JobID)]) {
        guard violations.isEmpty else { return }
        for job in scenario.jobs {
            let id = job.submission.job
            guard let snapshot = plane.jobSnapshot(id), let record = jobs[id] else {
                violate("job \(id) was forgotten")
                continue
            }
            let hopeless = snapshot.state == .failed && !record.damaged.isEmpty && snapshot.retainedCheckpoints.isEmpty
            let expected: JobState =
                switch job.ending {
                case .unbounded: .running
                case .bounded: .finished
                case .stoppedWithSavepoint: .finished
                case .cancelled: .canceled
                }
            if snapshot.state != expected, !hopeless {
                let failure = snapshot.lastFailure?.description ?? "none"
                violate(
                    "job \(snapshot.name) (\(job.ending)) ends as \(snapshot.state), not \(expected): \(snapshot.reason ?? ""), "
                        + "tasks \(snapshot.tasks), last failure \(failure)")
            }
            let calm = Instant(nanoseconds: 0).advanced(by: scenario.faultsUntil)
            if snapshot.state == .running, snapshot.latestCheckpoint.map({ $0.completedAt < calm }) ?? true {
                violate("job \(snapshot.name) runs without checkpoints")
            }
            if snapshot.state.isTerminal, let worker = workers.first(where: { $0.1 == id }) {
                violate("worker \(worker.0) outlives its job \(snapshot.name)")
            }
            checkRetention(job, snapshot, record)
        }
    }

    private mutating func checkRetention(_ job: Scenario.Job, _ snapshot: JobSnapshot, _ record: JobRecord) {
        // What storage has not answered for yet, the control plane cannot know of.
        // Damaged ones are put aside for a person to look at.
        let mine = record.durable.values.filter { checkpoint in
            record.publishing[checkpoint.id] == nil
                && !checkpoint.handles.contains { $0.files.contains { record.damaged.contains($0.path) } }
        }.map(\.id).sorted()
        let limit = job.submission.options.checkpointing.retained
        switch snapshot.state {
        case .finished:
            if !mine.isEmpty { violate("a finished job left checkpoints \(mine)") }
        case .canceled where job.submission.options.checkpointing.retention != .retainOnCancellation:
            if !mine.isEmpty { violate("a cancelled job left checkpoints \(mine)") }
        default:
            if record.damaged.isEmpty, mine.count > limit { violate("\(mine.count) checkpoints are retained, \(limit) may be") }
        }
    }
}
