import WeirBase
import WeirGraph

/// Runs one job: deploys it, watches its tasks, restarts or ends it.
///
/// A value: no I/O, clock, lock or task. Slots and worker processes are the ``Cluster``'s: the ``ControlPlane`` gives slots to a job in
/// WAITING_FOR_RESOURCES by ``assign(_:now:)`` and takes them back once ``holdsSlots`` is false.
///
///     CREATED → WAITING_FOR_RESOURCES → DEPLOYING → RUNNING → FINISHED
///                        ▲                  │          │
///                        └── RESTARTING ◀───┴──────────┤        any → CANCELLING → CANCELED
///                                                      └──▶ FAILING → FAILED
///
/// Every assignment begins a new epoch. Reports bear their epoch and worker; what does not match is dropped and its state discarded.
struct JobMaster: Sendable {
    /// A worker in this epoch.
    struct Assigned: Sendable {
        let worker: WorkerID
        let taskManager: TaskManagerID
        let slots: Int
        /// Set once registered.
        var address: DataAddress?
        var isLost = false
    }

    struct Stopping: Sendable {
        let request: RequestID
        let checkpoint: CheckpointID
        let path: String
    }

    struct Slot: Sendable {
        /// Index into ``assigned``.
        let worker: Int
        let local: Int
    }

    let job: JobID
    let graph: JobGraph
    let graphHash: UInt64
    let artifact: ArtifactReference
    let arguments: [String]
    let options: JobOptions
    let submitted: Instant

    var state = JobState.created
    var since: Instant
    var epoch: Epoch
    private var hasEpochBegun = false
    var reason: String?

    var strategy: RestartStrategy
    var coordinator: CheckpointCoordinator
    var restarts = 0
    var lastFailure: JobFailure?
    var lastFailureAt: Instant?
    /// The worker whose loss was the last failure.
    var lastFailedWorker: WorkerID?
    /// Why the job is not restarted, while it fails.
    var givenUpBecause: String?
    /// A worker whose connection broke, while the job, which is not restarted, waits to be told why.
    var awaitingExit: Assigned?

    /// In order of the slots they hold.
    var assigned: [Assigned] = []
    var placement: [SubtaskID: Slot] = [:]
    var tasks: [SubtaskID: TaskState] = [:]
    var isDeployed = false
    var restoringFrom: CheckpointID?

    /// Tasks whose CANCELED is awaited.
    var awaitingCancel: Set<SubtaskID> = []
    var hasDelayPassed = false
    /// The final checkpoint is complete; once all tasks have committed and are cancelled the job has finished.
    var isFinishing = false
    /// The savepoint that the job ends with, while its sinks commit.
    var stopping: Stopping?
    /// The job is to be cancelled once it is known whether the checkpoint that is being published exists.
    var isCancelRequested = false

    /// A restart is due: the control plane puts the job into WAITING_FOR_RESOURCES.
    var wantsResources = true
    /// Its own stream, so that one job's restarts do not shift another's jitter.
    var random: SplitMix64

    var outbox: [ControlEffect] = []

    init(_ submission: JobSubmission, random: SplitMix64, now: Instant) {
        self.random = random
        job = submission.job
        graph = submission.graph
        graphHash = submission.graph.hash
        artifact = submission.artifact
        arguments = submission.arguments
        options = submission.options
        submitted = now
        since = now
        epoch = submission.firstEpoch
        strategy = RestartStrategy(submission.options.restartStrategy)
        let vertices = graph.vertices.map {
            CheckpointVertex(
                vertex: $0.id, operators: $0.nodes.map { CheckpointOperator(uid: $0.uid, name: $0.name) }, parallelism: $0.parallelism)
        }
        coordinator = CheckpointCoordinator(
            job: job, options: submission.options.checkpointing, maxParallelism: graph.maxParallelism, vertices: vertices,
            restoreFrom: submission.restoreFrom, lastCheckpoint: submission.lastCheckpoint)
    }

    var slotsNeeded: Int { graph.slotsNeeded }

    /// Whether slots stay with the job: also while it restarts, so that its warm workers keep their place.
    var holdsSlots: Bool {
        switch state {
        case .deploying, .running, .restarting, .cancelling, .failing: true
        case .created, .waitingForResources, .canceled, .failed, .finished: false
        }
    }

    var needsScheduling: Bool { state == .waitingForResources || (wantsResources && !state.isTerminal) }

    mutating func take() -> [ControlEffect] {
        let effects = outbox
        outbox = []
        return effects
    }

    mutating func log(_ level: LogLevel, _ message: String, _ fields: LogField...) {
        outbox.append(.log(level, message, [LogField("job.id", "\(job)"), LogField("job.epoch", "\(epoch)")] + fields))
    }

    mutating func become(_ next: JobState, reason: String? = nil, now: Instant) {
        precondition(!state.isTerminal, "a job that has ended stays ended")
        let change = JobStateChange(job: job, from: state, to: next, epoch: epoch, reason: reason)
        state = next
        since = now
        self.reason = reason
        outbox.append(.jobStateChanged(change))
        log(.notice, "job state changed", LogField("job.state", next.rawValue), LogField("reason", reason ?? ""))
    }

    // MARK: Waiting and deploying

    mutating func waitForResources(freeSlots: Int, now: Instant) {
        wantsResources = false
        become(.waitingForResources, reason: Self.waiting(needed: slotsNeeded, free: freeSlots), now: now)
    }

    static func waiting(needed: Int, free: Int) -> String {
        let text = "needs \(needed) slot\(needed == 1 ? "" : "s"), \(free) \(free == 1 ? "is" : "are") free"
        return free < needed ? text + ": start another taskmanager, or run the job with a lower parallelism" : text
    }

    /// The job got its slots. Workers with an address are warm, the others are being started.
    mutating func assign(_ workers: [Assigned], now: Instant) {
        precondition(state == .waitingForResources, "slots go to jobs that wait for them")
        precondition(workers.reduce(0) { $0 + $1.slots } == slotsNeeded, "a job gets exactly the slots it needs")
        if hasEpochBegun { epoch = Epoch(epoch.rawValue + 1) }
        hasEpochBegun = true
        assigned = workers
        isDeployed = false
        isFinishing = false
        tasks = [:]
        placement = [:]
        let slots = workers.enumerated().flatMap { index, worker in (0..<worker.slots).map { Slot(worker: index, local: $0) } }
        for vertex in graph.vertices {
            for index in 0..<vertex.parallelism {
                let subtask = SubtaskID(vertex: vertex.id, index: Int32(index))
                // Narrow vertices spread over the slots; equally wide ones meet in the same slot, where forward edges are cheapest.
                placement[subtask] = slots[index * slots.count / vertex.parallelism]
                tasks[subtask] = .created
            }
        }
        become(.deploying, now: now)
        deployIfReady(now: now)
    }

    mutating func workerRegistered(_ worker: WorkerID, graphHash: UInt64, address: DataAddress, now: Instant) {
        guard graphHash == self.graphHash else {
            let failure = JobFailure(
                domain: .configuration, recovery: .fail,
                message: "the job's binary defines another graph on the worker than it did when it was submitted",
                cause: "graph hash \(hexadecimal(graphHash)) on worker \(worker), \(hexadecimal(self.graphHash)) submitted; "
                    + "the graph must depend on the program's arguments alone, not on time, environment or files")
            fail(failure, now: now)
            return
        }
        guard state == .deploying, let index = assigned.firstIndex(where: { $0.worker == worker }) else { return }
        assigned[index].address = address
        deployIfReady(now: now)
    }

    private mutating func deployIfReady(now: Instant) {
        let endpoints = assigned.compactMap { assigned in
            assigned.address.map { WorkerEndpoint(worker: assigned.worker, taskManager: assigned.taskManager, address: $0) }
        }
        guard state == .deploying, !isDeployed, endpoints.count == assigned.count else { return }
        isDeployed = true
        let checkpoint = coordinator.latestCompleted
        restoringFrom = checkpoint?.id
        if let checkpoint {
            log(.notice, "restoring from checkpoint", LogField("checkpoint.id", "\(checkpoint.id)"), LogField("checkpoint.path", checkpoint.path))
        }
        let placements = graph.vertices.map { vertex in
            let slots = (0..<vertex.parallelism).compactMap { placement[SubtaskID(vertex: vertex.id, index: Int32($0))] }
            return VertexPlacement(vertex: vertex.id, workers: slots.map(\.worker), slots: slots.map(\.local))
        }
        for (index, worker) in assigned.enumerated() {
            var deployments: [TaskDeployment] = []
            for vertex in graph.vertices {
                for subtask in 0..<vertex.parallelism {
                    let id = SubtaskID(vertex: vertex.id, index: Int32(subtask))
                    guard let slot = placement[id], slot.worker == index else { continue }
                    deployments.append(TaskDeployment(subtask: id, slot: slot.local, parallelism: vertex.parallelism))
                }
            }
            let vertices = Set(deployments.map(\.subtask.vertex))
            let plan = DeploymentPlan(
                job: job, epoch: epoch, slots: worker.slots, tasks: deployments.sorted { $0.subtask < $1.subtask }, workers: endpoints,
                placements: placements, restore: checkpoint.map { restorePlan(from: $0, for: vertices) })
            outbox.append(.deploy(worker.worker, plan))
        }
    }

    private func restorePlan(from checkpoint: CompletedCheckpoint, for vertices: Set<VertexID>) -> RestorePlan {
        let restores = graph.vertices.filter { vertices.contains($0.id) }.map { vertex in
            let operators = Set(vertex.nodes.map(\.operatorID))
            var parallelism: [VertexID: Int] = [:]
            for old in checkpoint.vertices where !operators.isDisjoint(with: old.operators.map(\.id)) { parallelism[old.vertex] = old.parallelism }
            let handles = checkpoint.handles.compactMap { handle -> StateHandle? in
                guard let width = parallelism[handle.subtask.vertex] else { return nil }
                var handle = handle
                handle.parallelism = width
                return handle
            }
            return VertexRestore(vertex: vertex.id, handles: handles)
        }
        return RestorePlan(
            checkpoint: checkpoint.id, kind: checkpoint.kind, maxParallelism: checkpoint.maxParallelism, isShareable: checkpoint.isShareable,
            vertices: restores)
    }

    // MARK: Cancelling

    /// Cancels the job for a person. While a checkpoint is being published, a moment later: its sinks must hear of it first. Cancelled before,
    /// they would leave its transactions open for whoever restores it, and readers in front of them until their time-out.
    mutating func cancelOnRequest(now: Instant) {
        guard state == .running, !isFinishing, coordinator.isPublishing else { return cancel(now: now) }
        isCancelRequested = true
    }

    mutating func cancel(now: Instant) {
        switch state {
        case .created, .waitingForResources:
            end(.canceled, now: now)
        case .deploying, .running:
            stopFailed("the job was cancelled")
            become(.cancelling, now: now)
            absorb(coordinator.stop(), now: now)
            // While the job finishes, the cancellation is under way already.
            if !isFinishing { cancelTasks() }
            isFinishing = false
            advance(now: now)
        case .restarting:
            outbox.append(.cancelTimer(.restartDelay(job, epoch)))
            become(.cancelling, now: now)
            advance(now: now)
        case .cancelling, .failing, .canceled, .failed, .finished:
            break
        }
    }

    mutating func savepoint(_ savepoint: CheckpointCoordinator.Savepoint, now: Instant) {
        absorb(coordinator.trigger(savepoint, now: now), now: now)
    }

    // MARK: Snapshots

    func snapshot(freeSlots: Int, workers: [WorkerSnapshot]) -> JobSnapshot {
        var counts = TaskCounts()
        let vertices = graph.vertices.map { vertex in
            var own = TaskCounts()
            for index in 0..<vertex.parallelism {
                let state = tasks[SubtaskID(vertex: vertex.id, index: Int32(index))] ?? .created
                own.count(state)
                counts.count(state)
            }
            return VertexSnapshot(vertex: vertex.id, name: vertex.name, parallelism: vertex.parallelism, tasks: own)
        }
        let held = holdsSlots ? assigned.filter { !$0.isLost }.reduce(0) { $0 + $1.slots } : 0
        return JobSnapshot(
            job: job, name: graph.name, state: state, since: since, submitted: submitted, epoch: epoch, slotsNeeded: slotsNeeded,
            slotsAvailable: state == .waitingForResources ? freeSlots : held, tasks: counts, vertices: vertices,
            reason: state == .waitingForResources ? Self.waiting(needed: slotsNeeded, free: freeSlots) : reason, restarts: restarts,
            lastFailure: lastFailure, lastFailureAt: lastFailureAt, lastFailedWorker: lastFailedWorker, latestCheckpoint: coordinator.latest,
            checkpointsCompleted: coordinator.completedCount, checkpointsFailed: coordinator.failedCount,
            checkpointsInProgress: coordinator.inFlight, retainedCheckpoints: coordinator.retained,
            damagedCheckpoints: coordinator.damaged, nextCheckpoint: CheckpointID(coordinator.nextID), workers: workers)
    }
}
