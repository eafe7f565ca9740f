package import Logging
internal import SwiftProtobuf
package import WeirBase
package import WeirControl
internal import WeirGraph
internal import WeirWire

/// The services around the control plane that touch the world.
package protocol JobManagerEnvironment: AnyObject, Sendable {
    var clock: any WeirClock { get }
    /// Calls `body` on the loop after a time.
    func setTimer(_ timer: TimerID, after: Duration, _ body: @escaping @Sendable () -> Void)
    func cancelTimer(_ timer: TimerID)
    /// Runs blocking work on the storage thread, in order, and its result on the loop.
    func store<Value: Sendable>(_ work: @escaping @Sendable () -> Value, then: @escaping @Sendable (Value) -> Void)
    func randomID() -> JobID
}

/// The JobManager's state on its loop: connections, jobs for display, and the control plane whose effects it carries out.
///
/// Everything here runs on one loop thread. Blocking file work goes through ``JobManagerEnvironment/store(_:then:)``.
package final class JobManagerCore: @unchecked Sendable {  // Guarded by the loop: every entry is called on it.
    struct TaskManagerEntry {
        var peer: any Peer
        var connection: ConnectionID
        var registration: WireRegisterTaskManager
        var registered: WallTime
        var heartbeat = WireHeartbeat()
        var lastHeartbeat: WallTime
    }
    struct WorkerEntry {
        var peer: any Peer
        var connection: ConnectionID
        var job: JobID
        /// The least watermark of its sources in each alignment group.
        var alignment: [String: Int64] = [:]
    }

    let environment: any JobManagerEnvironment
    let configuration: Configuration
    let clusterID: String
    let jobStore: JobStore
    let logger: Logger
    let started: WallTime
    var plane: ControlPlane
    var taskManagers: [TaskManagerID: TaskManagerEntry] = [:]
    var workers: [WorkerID: WorkerEntry] = [:]
    var jobs: [JobID: JobRecord] = [:]
    var jobOrder: [JobID] = []
    var pending: [RequestID: Responder] = [:]
    /// Submissions by the client's request id: a retry is answered with the same job.
    var submissions: [String: JobID] = [:]
    private var nextRequest: UInt64 = 0
    private var nextConnection: UInt64 = 0
    private var queue: [ControlEvent] = []
    private var isHandling = false
    /// Requests of clients that came before the jobs of an earlier JobManager were taken up again; nil from then on. Answered before, they
    /// would say that there is no such job, or submit one a second time.
    var untilRecovered: [() -> Void]? = []
    static let untilRecoveredMax = 10_000
    /// The connections are being closed from this side.
    var isStopping = false

    package init(configuration: Configuration, jobStore: JobStore, environment: any JobManagerEnvironment, seed: UInt64, logger: Logger) throws {
        self.configuration = configuration
        self.environment = environment
        self.jobStore = jobStore
        self.logger = logger
        clusterID = configuration.string("cluster.id") ?? "weir"
        started = environment.clock.wallTime
        plane = ControlPlane(options: try ControlOptions(configuration), random: SplitMix64(seed: seed))
    }

    package func start() { perform(plane.start(now: environment.clock.now)) }

    func newRequest(_ responder: Responder) -> RequestID {
        nextRequest += 1
        pending[RequestID(nextRequest)] = responder
        return RequestID(nextRequest)
    }

    func newConnection() -> ConnectionID {
        nextConnection += 1
        return ConnectionID(nextConnection)
    }

    /// Reports an event; effects that report events themselves take their turn behind it.
    func handle(_ event: ControlEvent) {
        queue.append(event)
        guard !isHandling else { return }
        isHandling = true
        while !queue.isEmpty { perform(plane.handle(queue.removeFirst(), now: environment.clock.now)) }
        isHandling = false
    }

    private func perform(_ effects: [ControlEffect]) { for effect in effects { perform(effect) } }

    private func perform(_ effect: ControlEffect) {
        switch effect {
        case .acceptTaskManager: break
        case .disconnectTaskManager(let id, let connection, let reason):
            if let entry = taskManagers[id], entry.connection == connection {
                taskManagers[id] = nil
                entry.peer.close(reason: reason)
            }
        case .startWorker(let id, let start): startWorker(start, on: id)
        case .stopWorker(let worker, let id, let kill): stopWorker(worker, on: id, kill: kill)
        case .acceptWorker: break
        case .disconnectWorker(let id, let connection, let reason):
            if let entry = workers[id], entry.connection == connection {
                workers[id] = nil
                entry.peer.close(reason: reason)
            }
        case .deploy(let worker, let plan): deploy(plan, to: worker)
        case .cancelTasks(let worker, let job, let epoch):
            var message = WireCancelTasks()
            message.job = job.description
            message.epoch = epoch.rawValue
            workers[worker]?.peer.request(.cancelTasks, encoded(message)) { _ in }
        case .triggerCheckpoint(let worker, let trigger):
            var message = WireTriggerCheckpoint()
            message.job = trigger.job.description
            message.epoch = trigger.epoch.rawValue
            message.checkpoint = trigger.checkpoint.rawValue
            message.timestampMs = environment.clock.wallTime.milliseconds
            message.sources = trigger.sources.map(\.wire)
            if case .savepoint(let directory, let mode) = trigger.kind {
                message.savepoint = true
                message.directory = directory
                message.stop = mode.endsJob
                message.drain = mode == .drains
            }
            workers[worker]?.peer.send(.triggerCheckpoint, encoded(message))
        case .notifyCheckpointComplete(let worker, let notice):
            var message = WireNotifyCheckpointComplete()
            message.job = notice.job.description
            message.epoch = notice.epoch.rawValue
            message.checkpoint = notice.checkpoint.rawValue
            message.final = notice.isFinal
            workers[worker]?.peer.send(.notifyCheckpointComplete, encoded(message))
        case .notifyCheckpointAborted(let worker, let notice):
            var message = WireNotifyCheckpointAborted()
            message.job = notice.job.description
            message.epoch = notice.epoch.rawValue
            message.checkpoint = notice.checkpoint.rawValue
            workers[worker]?.peer.send(.notifyCheckpointAborted, encoded(message))
        case .publishCheckpoint(let checkpoint): publish(checkpoint)
        case .discardCheckpoint(let job, let id, let path, let files):
            let store = jobStore
            environment.store {
                store.discard(job: job, checkpoint: id, path: path, files: files)
            } then: { [logger] problem in
                if let problem { logger.warning("checkpoint not deleted", metadata: ["checkpoint.id": "\(id)", "cause": "\(problem)"]) }
            }
        case .discardState(let job, let files):
            let store = jobStore
            environment.store {
                store.discard(job: job, files: files)
            } then: { [logger] problem in
                if let problem { logger.warning("state not deleted", metadata: ["job.id": "\(job)", "cause": "\(problem)"]) }
            }
        case .setTimer(let timer, let delay):
            environment.setTimer(timer, after: delay) { [weak self] in self?.handle(.timerFired(timer)) }
        case .cancelTimer(let timer): environment.cancelTimer(timer)
        case .jobStateChanged(let change): changed(change)
        case .failureExplained(let job, let worker, let failure): jobs[job]?.explained(worker, failure)
        case .log(let level, let message, let fields):
            logger.log(
                level: Logger.Level(rawValue: level.rawValue) ?? .info, "\(message)",
                metadata: Logger.Metadata(fields.map { ($0.key, "\($0.value)") }, uniquingKeysWith: { first, _ in first }))
        case .reply(let request, let reply): answer(request, reply)
        }
    }

    private func startWorker(_ start: StartWorker, on id: TaskManagerID) {
        guard let entry = taskManagers[id], let record = jobs[start.job] else {
            handle(.workerStartFailed(start.worker, reason: "its TaskManager \(id) is gone"))
            return
        }
        jobs[start.job]?.workers.append((start.worker, id))
        var message = WireStartWorker()
        message.job = start.job.description
        message.worker = start.worker.rawValue
        message.jobName = record.submission.name
        message.artifactSha256 = start.artifact.sha256
        message.artifactBytes = UInt64(start.artifact.sizeBytes)
        message.arguments = start.arguments
        message.slots = UInt32(start.slots)
        message.graphHash = record.graph.hash
        message.options = record.submission.options
        if record.submission.parallelism > 0 { message.environment = ["WEIR_PARALLELISM": "\(record.submission.parallelism)"] }
        entry.peer.request(.startWorker, encoded(message)) { [weak self] result in
            if case .failure(let failure) = result { self?.handle(.workerStartFailed(start.worker, reason: failure.message)) }
        }
    }

    private func stopWorker(_ worker: WorkerID, on id: TaskManagerID, kill: Bool) {
        // A worker that ends in peace keeps its connection until its TaskManager has ended it: it would take the loss for a fault, and say so.
        // Closing fences one that may still write, and reaches one that its TaskManager cannot.
        if let entry = workers.removeValue(forKey: worker), kill || taskManagers[id] == nil { entry.peer.close(reason: "stopped") }
        var message = WireStopWorker()
        message.worker = worker.rawValue
        message.graceMs = kill ? 0 : 5_000
        taskManagers[id]?.peer.request(.stopWorker, encoded(message)) { _ in }
    }

    private func deploy(_ plan: DeploymentPlan, to worker: WorkerID) {
        guard let record = jobs[plan.job] else { return }
        jobs[plan.job]?.deployed(plan, on: worker, at: environment.clock.wallTime)
        let message = plan.wire(
            for: worker, graph: [UInt8](record.submission.graph), graphHash: record.graph.hash,
            checkpointDirectory: jobStore.checkpointRoot,
            // What the cluster says of these holds for every job that says nothing else.
            options: ["kafka.", "execution.checkpointing.", "taskmanager.memory.managed."].map { configuration.settings(below: $0) }
                .reduce(into: [:]) { $0.merge($1) { first, _ in first } }.merging(record.submission.options) { _, job in job })
        workers[worker]?.peer.request(.deploy, encoded(message)) { [weak self] result in
            guard case .failure(let failure) = result, let self else { return }
            // The worker could not even begin: every one of its tasks has failed.
            for task in plan.tasks.prefix(1) {
                let reason = JobFailure(domain: .system, recovery: .restart, message: "worker \(worker) refused its tasks: \(failure.message)")
                handle(
                    .taskStateChanged(
                        TaskStateReport(job: plan.job, worker: worker, epoch: plan.epoch, subtask: task.subtask, state: .failed, failure: reason)))
            }
        }
    }

    private func publish(_ checkpoint: CompletedCheckpoint) {
        let store = jobStore
        let now = environment.clock.wallTime.milliseconds
        environment.store {
            store.publish(checkpoint, atMilliseconds: now)
        } then: { [weak self, job = checkpoint.job, id = checkpoint.id] result in
            switch result {
            case .success(let path): self?.handle(.checkpointPublished(job: job, checkpoint: id, path: path))
            case .failure(let failure):
                // Asking again cannot help: somebody else runs the job.
                if failure.recovery == .fail { self?.handle(.jobFenced(job, failure)) }
                self?.handle(.checkpointPublishFailed(job: job, checkpoint: id, reason: "\(failure)"))
            }
        }
    }

    private func changed(_ change: JobStateChange) {
        jobs[change.job]?.changed(
            change, snapshot: plane.jobSnapshot(change.job), now: environment.clock.now, at: environment.clock.wallTime)
        let store = jobStore
        environment.store {
            store.recordState(change)
        } then: { [logger] problem in
            if let problem { logger.error("job state not persisted", metadata: ["job.id": "\(change.job)", "cause": "\(problem)"]) }
        }
        if change.from == .restarting, change.to == .waitingForResources { sweep(change.job) }
        if change.to.isTerminal { forgetOldJobs() }
    }

    /// Between two epochs no task of the job writes: what tasks left that died while they wrote can go.
    private func sweep(_ job: JobID) {
        guard let snapshot = plane.jobSnapshot(job) else { return }
        let store = jobStore
        let retained = snapshot.retainedCheckpoints + snapshot.damagedCheckpoints
        environment.store {
            store.sweep(job: job, retained: retained, below: snapshot.nextCheckpoint)
        } then: { [logger] problem in
            if let problem { logger.warning("left-over files not deleted", metadata: ["job.id": "\(job)", "cause": "\(problem)"]) }
        }
    }

    /// Ended jobs beyond what the control plane itself remembers leave the display too.
    private func forgetOldJobs() {
        let known = Set(plane.jobSnapshots().map(\.job))
        for job in jobOrder where !known.contains(job) && jobs[job]?.state.isTerminal == true {
            jobs[job] = nil
            submissions = submissions.filter { $0.value != job }
        }
        jobOrder.removeAll { jobs[$0] == nil }
    }

    private func answer(_ request: RequestID, _ reply: ControlReply) {
        guard let responder = pending.removeValue(forKey: request) else { return }
        switch reply {
        case .jobSubmitted(let job):
            var message = WireSubmitJobReply()
            message.job = job.description
            responder.reply(message)
        case .cancelAccepted: responder.reply(WireEmpty())
        case .savepointCompleted(let job, let checkpoint, let path):
            var message = WireSavepointInfo()
            message.job = job.description
            message.checkpoint = checkpoint.rawValue
            message.path = path
            message.state = (plane.jobSnapshot(job)?.state ?? .finished).wire
            responder.reply(message)
        case .refused(let failure):
            responder.refuse(Refusal(.conflict, failure))
        }
    }
}
