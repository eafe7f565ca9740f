import WeirBase
import WeirGraph

@testable import WeirControl

/// A control plane, a clock, and short words for what tests do with them.
struct ControlPlaneBench {
    static let job = JobID(high: 1, low: 2)

    var plane: ControlPlane
    var now = Instant(nanoseconds: 0)
    var connections: UInt64 = 0

    init(_ change: (inout ControlOptions) -> Void = { _ in }) {
        var options = ControlOptions()
        change(&options)
        plane = ControlPlane(options: options, random: SplitMix64(seed: 1))
        _ = plane.start(now: now)
    }

    /// source → sink.
    static func graph(parallelism: Int = 2, sinks: Int? = nil) -> JobGraph {
        let vertices = [
            JobVertex(
                id: VertexID(0), nodes: [JobNode(id: 0, uid: "source", name: "source", kind: .source)], parallelism: parallelism),
            JobVertex(id: VertexID(1), nodes: [JobNode(id: 1, uid: "sink", name: "sink", kind: .sink)], parallelism: sinks ?? parallelism),
        ]
        let edge = JobEdge(id: 0, from: VertexID(0), fromNode: 0, to: VertexID(1), partitioner: .hash)
        return JobGraph(name: "test", maxParallelism: 128, vertices: vertices, edges: [edge])
    }

    static func submission(_ job: JobID = job, parallelism: Int = 2, _ change: (inout JobSubmission) -> Void = { _ in }) -> JobSubmission {
        var submission = JobSubmission(
            job: job, graph: graph(parallelism: parallelism), artifact: ArtifactReference(sha256: "00", sizeBytes: 1))
        change(&submission)
        return submission
    }

    mutating func handle(_ event: ControlEvent) -> [ControlEffect] { plane.handle(event, now: now) }

    mutating func pass(_ duration: Duration) { now = now.advanced(by: duration) }

    mutating func connection() -> ConnectionID {
        connections += 1
        return ConnectionID(connections)
    }

    @discardableResult mutating func addTaskManager(_ name: String, slots: Int, running: [WorkerID] = []) -> [ControlEffect] {
        handle(
            .taskManagerRegistered(
                TaskManagerRegistration(id: TaskManagerID(name), connection: connection(), slots: slots, host: "host", runningWorkers: running)))
    }

    @discardableResult mutating func submit(_ submission: JobSubmission = submission()) -> [ControlEffect] {
        handle(.submitJob(RequestID(1), submission))
    }

    @discardableResult mutating func register(_ worker: WorkerID, job: JobID = job, hash: UInt64? = nil) -> [ControlEffect] {
        handle(
            .workerRegistered(
                WorkerRegistration(
                    worker: worker, job: job, connection: connection(), graphHash: hash ?? Self.graph().hash,
                    address: DataAddress(host: "host", port: 4711))))
    }

    @discardableResult mutating func report(
        _ state: TaskState, _ plan: DeploymentPlan, on worker: WorkerID, failure: JobFailure? = nil
    ) -> [ControlEffect] {
        plan.tasks.flatMap {
            handle(
                .taskStateChanged(
                    TaskStateReport(job: plan.job, worker: worker, epoch: plan.epoch, subtask: $0.subtask, state: state, failure: failure)))
        }
    }

    @discardableResult mutating func acknowledge(_ checkpoint: UInt64, _ plan: DeploymentPlan, on worker: WorkerID) -> [ControlEffect] {
        plan.tasks.flatMap { task in
            let file = StateFile(path: "e\(plan.epoch)/\(checkpoint)/\(task.subtask)", lengthBytes: 10, crc32c: 1)
            return handle(
                .checkpointAcknowledged(
                    CheckpointAcknowledgement(
                        job: plan.job, worker: worker, epoch: plan.epoch, checkpoint: CheckpointID(checkpoint),
                        state: StateHandle(subtask: task.subtask, content: .file(file)))))
        }
    }

    var snapshot: JobSnapshot? { plane.jobSnapshot(Self.job) }
    var state: JobState? { snapshot?.state }

    /// Two TaskManagers of one slot each, a job of two, all of it running.
    ///
    /// - Returns: Each worker with its plan, by worker.
    mutating func run(_ submission: JobSubmission = submission()) -> [(worker: WorkerID, plan: DeploymentPlan)] {
        addTaskManager("tm-1", slots: 1)
        addTaskManager("tm-2", slots: 1)
        let effects = submit(submission)
        return deployAll(effects)
    }

    /// A job of one worker on tm-1, by connection 3, that is not restarted.
    mutating func runWithoutRestarts() -> WorkerID {
        for manager in ["tm-1", "tm-2"] { addTaskManager(manager, slots: 2) }
        return deployAll(submit(Self.submission { $0.options.restartStrategy = .none }))[0].worker
    }

    /// Registers the started workers, then lets all tasks run.
    mutating func deployAll(_ effects: [ControlEffect]) -> [(worker: WorkerID, plan: DeploymentPlan)] {
        let registered = effects.startedWorkers.flatMap { register($0) }
        let deployments = (effects + registered).deployments
        for (worker, plan) in deployments { report(.running, plan, on: worker) }
        return deployments
    }

    /// Takes a checkpoint of a running job.
    @discardableResult mutating func checkpoint(_ id: UInt64, _ deployments: [(worker: WorkerID, plan: DeploymentPlan)]) -> [ControlEffect] {
        pass(.seconds(10))
        var effects = handle(.timerFired(.checkpointTrigger(Self.job)))
        for (worker, plan) in deployments { effects += acknowledge(id, plan, on: worker) }
        effects += handle(.checkpointPublished(job: Self.job, checkpoint: CheckpointID(id), path: "chk-\(id)"))
        return effects
    }
}

extension [ControlEffect] {
    var startedWorkers: [WorkerID] {
        compactMap {
            if case .startWorker(_, let start) = $0 { return start.worker }
            return nil
        }
    }

    var deployments: [(worker: WorkerID, plan: DeploymentPlan)] {
        compactMap {
            if case .deploy(let worker, let plan) = $0 { return (worker, plan) }
            return nil
        }
    }

    var states: [JobState] {
        compactMap {
            if case .jobStateChanged(let change) = $0 { return change.to }
            return nil
        }
    }

    var stopped: [(worker: WorkerID, kill: Bool)] {
        compactMap {
            if case .stopWorker(let worker, _, let kill) = $0 { return (worker, kill) }
            return nil
        }
    }

    var cancelled: [WorkerID] {
        compactMap {
            if case .cancelTasks(let worker, _, _) = $0 { return worker }
            return nil
        }
    }

    var discarded: [String] {
        flatMap { effect -> [String] in
            switch effect {
            case .discardState(_, let files), .discardCheckpoint(_, _, _, let files): files.map(\.path)
            default: []
            }
        }
    }

    var refusal: JobFailure? {
        for case .reply(_, .refused(let failure)) in self { return failure }
        return nil
    }
}
