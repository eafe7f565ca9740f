package import WeirBase

/// The decisions of the JobManager: cluster, jobs and checkpoints.
///
/// A value: no I/O, clock, lock or task. The same events at the same instants from the same seed give the same effects. The shell reports
/// events one at a time and carries out the effects in order:
///
///     var plane = ControlPlane(options: options, random: SplitMix64(seed: seed))
///     for effect in plane.start(now: clock.now) { perform(effect) }
///     for effect in plane.handle(event, now: clock.now) { perform(effect) }
package struct ControlPlane: Sendable {
    private let options: ControlOptions
    private var random: SplitMix64
    private var cluster: Cluster
    private var jobs: [JobID: JobMaster] = [:]
    /// In order of submission: who came first gets slots first.
    private var order: [JobID] = []
    private var outbox: [ControlEffect] = []

    package init(options: ControlOptions = ControlOptions(), random: SplitMix64) {
        self.options = options
        self.random = random
        cluster = Cluster(options: options)
    }

    /// Sets the first timer. Once, before any event.
    package mutating func start(now: Instant) -> [ControlEffect] { [.setTimer(.heartbeatCheck, after: options.heartbeatInterval)] }

    package mutating func handle(_ event: ControlEvent, now: Instant) -> [ControlEffect] {
        dispatch(event, now: now)
        schedule(now: now)
        defer { outbox = [] }
        return outbox
    }

    // MARK: Snapshots

    /// In order of submission; ended jobs too.
    package func jobSnapshots() -> [JobSnapshot] { order.compactMap { jobSnapshot($0) } }

    package func jobSnapshot(_ job: JobID) -> JobSnapshot? {
        jobs[job]?.snapshot(freeSlots: cluster.freeSlots, workers: cluster.workers(of: job).compactMap { cluster.snapshot(of: $0) })
    }

    package func clusterSnapshot() -> ClusterSnapshot { cluster.snapshot() }

    /// The job's latest checkpoints, the oldest first; nil for a job that is not known.
    package func checkpointHistory(_ job: JobID) -> [CheckpointRecord]? { jobs[job]?.checkpointHistory() }

    // MARK: Events

    private mutating func dispatch(_ event: ControlEvent, now: Instant) {
        switch event {
        case .taskManagerRegistered(let registration):
            let (effects, lost) = cluster.register(registration, now: now)
            // What died with the old connection is stopped before the new one is accepted.
            fell(lost, now: now)
            outbox += effects
            exitReportsLost(registration.id, now: now)
        case .taskManagerHeartbeat(let id, let connection):
            cluster.heartbeat(id, connection: connection, now: now)
        case .taskManagerLost(let id, let connection, let reason):
            taskManagerLost(id, connection: connection, reason: reason, now: now)
        case .workerRegistered(let registration):
            workerRegistered(registration, now: now)
        case .workerHeartbeat(let worker, let connection):
            cluster.heartbeat(worker, connection: connection, now: now)
        case .workerConnectionLost(let worker, let connection, let reason):
            workerLost(cluster.connectionLost(worker, connection: connection, reason: reason), now: now)
        case .workerStartFailed(let worker, let reason):
            outbox.append(.cancelTimer(.workerStart(worker)))
            workerLost(cluster.startFailed(worker, reason: reason), now: now)
        case .workerExited(let exit):
            outbox.append(.cancelTimer(.workerStart(exit.worker)))
            switch cluster.exited(exit) {
            case .loses(let lost): workerLost(lost, now: now)
            case .explains(let lost):
                update(lost.job) {
                    $0.explain(lost.worker, failure: lost.failure)
                    $0.exitReported(lost.worker, now: now)
                }
            case .confirms(let lost): update(lost.job) { $0.exitReported(lost.worker, now: now) }
            case .nothing: break
            }
        case .submitJob(let request, let submission):
            submit(request, submission, now: now)
        case .cancelJob(let request, let job):
            guard jobs[job] != nil else { return refuseUnknown(request, job) }
            update(job) { $0.cancelOnRequest(now: now) }
            if let state = jobs[job]?.state { outbox.append(.reply(request, .cancelAccepted(job, state))) }
        case .triggerSavepoint(let request, let job, let directory, let mode):
            guard jobs[job] != nil else { return refuseUnknown(request, job) }
            update(job) { $0.savepoint(.init(request: request, directory: directory, mode: mode), now: now) }
        case .taskStateChanged(let report):
            update(report.job) { $0.taskStateChanged(report, now: now) }
        case .checkpointAcknowledged(let report):
            update(report.job) { $0.acknowledged(report, now: now) }
        case .checkpointDeclined(let job, let worker, let epoch, let checkpoint, let subtask, let reason):
            update(job) { $0.declined(checkpoint, worker: worker, epoch: epoch, subtask: subtask, reason: reason, now: now) }
        case .restoreFailed(let job, let worker, let epoch, let checkpoint, let path, let reason):
            update(job) { $0.restoreFailed(worker: worker, epoch: epoch, checkpoint: checkpoint, path: path, reason: reason, now: now) }
        case .checkpointPublished(let job, let checkpoint, let path):
            update(job) { $0.published(checkpoint, path: path, now: now) }
        case .checkpointPublishFailed(let job, let checkpoint, let reason):
            update(job) { $0.publishFailed(checkpoint, reason: reason, now: now) }
        case .jobFenced(let job, let failure):
            update(job) { $0.fail(failure, now: now) }
        case .timerFired(let timer):
            timerFired(timer, now: now)
        }
    }

    private mutating func timerFired(_ timer: TimerID, now: Instant) {
        switch timer {
        case .heartbeatCheck:
            outbox.append(.setTimer(.heartbeatCheck, after: options.heartbeatInterval))
            checkHeartbeats(now: now)
        case .workerStart(let worker):
            workerLost(cluster.startTimedOut(worker), now: now)
        case .restartDelay(let job, let epoch):
            update(job) { $0.restartDelayPassed(epoch, now: now) }
        case .cancellation(let job, let epoch):
            update(job) { $0.cancellationTimedOut(epoch, now: now) }
        case .exitReport(let job, let epoch):
            update(job) { $0.exitReportTimedOut(epoch, now: now) }
        case .checkpointTrigger(let job):
            update(job) { $0.checkpointTimer(.trigger, now: now) }
        case .checkpointTimeout(let job, let checkpoint):
            update(job) { $0.checkpointTimer(.timeout(checkpoint), now: now) }
        }
    }

    private mutating func refuseUnknown(_ request: RequestID, _ job: JobID) {
        let failure = JobFailure(domain: .configuration, recovery: .fail, message: "there is no job \(job)")
        outbox.append(.reply(request, .refused(failure)))
    }

    // MARK: Jobs

    private mutating func submit(_ request: RequestID, _ submission: JobSubmission, now: Instant) {
        if jobs[submission.job] != nil {
            // The client asks again since it did not hear the answer.
            outbox.append(.reply(request, .jobSubmitted(submission.job)))
            return
        }
        if let failure = submission.refusal ?? tooManyJobs() {
            outbox.append(.reply(request, .refused(failure)))
            return
        }
        var jobRandom = random
        random = SplitMix64(seed: jobRandom.next())
        jobs[submission.job] = JobMaster(submission, random: SplitMix64(seed: jobRandom.next()), now: now)
        order.append(submission.job)
        outbox.append(.reply(request, .jobSubmitted(submission.job)))
        forgetEndedJobs()
    }

    private func tooManyJobs() -> JobFailure? {
        guard jobs.values.filter({ !$0.state.isTerminal }).count >= options.jobsMax else { return nil }
        return JobFailure(
            domain: .resource, recovery: .fail, message: "\(options.jobsMax) jobs run already, no more are accepted (jobmanager.jobs-max)")
    }

    private mutating func forgetEndedJobs() {
        let ended = order.filter { jobs[$0]?.state.isTerminal == true }
        for job in ended.prefix(max(0, ended.count - options.endedJobsMax)) {
            jobs[job] = nil
            order.removeAll { $0 == job }
        }
    }

    /// Lets a job act and carries out what it wants of the cluster.
    private mutating func update(_ job: JobID, _ body: (inout JobMaster) -> Void) {
        guard var master = jobs.removeValue(forKey: job) else { return }
        let wasEnded = master.state.isTerminal
        body(&master)
        collect(&master)
        jobs[job] = master
        guard master.state.isTerminal, !wasEnded else { return }
        cluster.release(job)
        for worker in cluster.workers(of: job) { outbox += cluster.stop(worker, kill: false) }
    }

    private mutating func collect(_ master: inout JobMaster) {
        for effect in master.take() {
            if case .stopWorker(let worker, _, let kill) = effect {
                outbox += cluster.stop(worker, kill: kill)
            } else {
                outbox.append(effect)
            }
        }
    }

    /// Gives slots to the jobs that wait for them, the oldest first; a later one that fits need not wait for an earlier one that does not.
    private mutating func schedule(now: Instant) {
        for job in order {
            // Asked first: most jobs want nothing most of the time, and this runs after every event.
            guard jobs[job]?.needsScheduling == true, var master = jobs.removeValue(forKey: job) else { continue }
            if master.wantsResources, !master.state.isTerminal {
                cluster.release(job)
                master.waitForResources(freeSlots: cluster.freeSlots, now: now)
            }
            if master.state == .waitingForResources { assign(&master, now: now) }
            collect(&master)
            jobs[job] = master
        }
    }

    private mutating func assign(_ master: inout JobMaster, now: Instant) {
        let job = master.job
        let warm = Set(cluster.workers(of: job).compactMap { cluster.workers[$0]?.taskManager })
        guard let allocation = cluster.allocate(job, slots: master.slotsNeeded, preferring: warm) else { return }
        let used = Set(allocation.shares.map(\.taskManager))
        collect(&master)
        for worker in cluster.workers(of: job) {
            guard let entry = cluster.workers[worker], !used.contains(entry.taskManager) else { continue }
            outbox += cluster.stop(worker, kill: false)
        }
        var workers: [JobMaster.Assigned] = []
        for share in allocation.shares {
            let known = cluster.worker(of: job, on: share.taskManager)
            let worker = known ?? WorkerID("\(share.taskManager)-\(hexadecimal(random.next()))")
            if known == nil {
                cluster.addWorker(worker, job: job, taskManager: share.taskManager, now: now)
                let start = StartWorker(
                    job: job, worker: worker, artifact: master.artifact, arguments: master.arguments, slots: share.slots)
                outbox.append(.startWorker(share.taskManager, start))
                outbox.append(.setTimer(.workerStart(worker), after: options.workerStartTimeout))
            }
            workers.append(
                .init(worker: worker, taskManager: share.taskManager, slots: share.slots, address: cluster.workers[worker]?.address))
        }
        master.assign(workers, now: now)
    }

    // MARK: Workers and TaskManagers

    private mutating func workerRegistered(_ registration: WorkerRegistration, now: Instant) {
        switch cluster.register(registration, now: now) {
        case .failure(let refusal):
            outbox.append(.disconnectWorker(registration.worker, connection: registration.connection, reason: refusal.reason))
        case .success:
            outbox.append(.cancelTimer(.workerStart(registration.worker)))
            outbox.append(.acceptWorker(registration.worker, connection: registration.connection))
            update(registration.job) {
                $0.workerRegistered(registration.worker, graphHash: registration.graphHash, address: registration.address, now: now)
            }
        }
    }

    private mutating func workerLost(_ lost: Cluster.LostWorker?, now: Instant) {
        guard let lost else { return }
        // It may live on behind a broken connection; killing what is dead does no harm.
        if cluster.workers[lost.worker] != nil { outbox += cluster.stop(lost.worker, kill: true) }
        update(lost.job) { $0.workerLost(lost.worker, failure: lost.failure, isExitAwaited: lost.isExitAwaited, now: now) }
    }

    private mutating func taskManagerLost(_ id: TaskManagerID, connection: ConnectionID, reason: String, now: Instant) {
        let (effects, lost) = cluster.connectionLost(id, connection: connection, reason: reason)
        outbox += effects
        fell(lost, now: now)
        exitReportsLost(id, now: now)
    }

    /// Workers that fell with their TaskManager: closing their connections fences those that live on.
    private mutating func fell(_ lost: [Cluster.LostWorker], now: Instant) {
        for lost in lost {
            outbox.append(.cancelTimer(.workerStart(lost.worker)))
            outbox.append(.stopWorker(lost.worker, on: lost.taskManager, kill: true))
        }
        for lost in lost { update(lost.job) { $0.workerLost(lost.worker, failure: lost.failure, now: now) } }
    }

    /// Nobody will report how the workers of a lost TaskManager ended.
    private mutating func exitReportsLost(_ id: TaskManagerID, now: Instant) {
        for job in jobs.keys.sorted() { update(job) { $0.exitReportsLost(of: id, now: now) } }
    }

    private mutating func checkHeartbeats(now: Instant) {
        let silent = cluster.silent(now: now)
        for manager in silent.taskManagers {
            let reason = "no heartbeat for \(formatDuration(options.heartbeatTimeout)) (heartbeat.timeout)"
            taskManagerLost(manager.id, connection: manager.connection, reason: reason, now: now)
            outbox.append(.disconnectTaskManager(manager.id, connection: manager.connection, reason: reason))
        }
        for worker in silent.workers { workerLost(worker, now: now) }
    }
}
