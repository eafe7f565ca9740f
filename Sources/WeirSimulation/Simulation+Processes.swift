import WeirBase
import WeirControl
import WeirGraph

/// TaskManagers, workers, tasks and their faults.
extension Simulation {
    func happenToProcess(_ happening: Happening) {
        switch happening {
        case .taskManagerStarts(let id): start(id)
        case .taskManagerBeats(let id, let connection): beat(id, connection)
        case .taskManagerNoticesLoss(let id, let connection): noticeLoss(id, connection)
        case .taskManagerStartsWorker(let id, let order): startWorker(id, order)
        case .taskManagerStopsWorker(_, let worker): end(worker, .signal(9))
        case .workerRegisters(let worker): register(worker)
        case .workerBeats(let worker): beat(worker)
        case .workerEnds(let worker, let status): end(worker, status)
        case .deploy(let worker, let plan): deploy(worker, plan)
        case .cancelTasks(let worker, let epoch): cancelTasks(worker, epoch)
        case .trigger(let worker, let trigger):
            for source in trigger.sources {
                if case .savepoint(_, .drains) = trigger.kind { finish(worker, trigger.epoch, source) }
                snapshot(worker, trigger.epoch, source, trigger.checkpoint, trigger.kind)
            }
        case .complete(let worker, let notice): complete(worker, notice)
        case .taskRestored(let worker, let epoch, let subtask): restored(worker, epoch, subtask)
        case .taskEnds(let worker, let epoch, let subtask): finish(worker, epoch, subtask)
        case .taskCancelled(let worker, let epoch, let subtask): cancelled(worker, epoch, subtask)
        case .barrier(let worker, let epoch, let to, let from, let id, let kind): barrier(worker, epoch, to, from, id, kind)
        case .endOfData(let worker, let epoch, let to, let from): endOfData(worker, epoch, to, from)
        case .acknowledges(let worker, let epoch, let id, let handle): acknowledge(worker, epoch, id, handle)
        default: preconditionFailure("not a process's: \(happening)")
        }
    }

    // MARK: TaskManagers

    private func start(_ id: TaskManagerID) {
        guard var manager = managers[id], manager.connection == nil else { return }
        let connection = newConnection()
        manager.isAlive = true
        manager.isSilent = false
        manager.connection = connection
        manager.acceptedAs = connection
        managers[id] = manager
        let running = workers.values.filter { $0.taskManager == id && $0.isAlive }.map(\.id).sorted()
        let registration = TaskManagerRegistration(id: id, connection: connection, slots: manager.slots, host: "host", runningWorkers: running)
        send(.event(.taskManagerRegistered(registration)), over: .fromTaskManager(id, connection))
        after(.milliseconds(500), .taskManagerBeats(id, connection))
    }

    private func beat(_ id: TaskManagerID, _ connection: ConnectionID) {
        guard let manager = managers[id], manager.connection == connection, manager.isAlive else { return }
        if !manager.isSilent { send(.event(.taskManagerHeartbeat(id, connection: connection)), over: .fromTaskManager(id, connection)) }
        after(.milliseconds(500), .taskManagerBeats(id, connection))
    }

    /// The TaskManager sees its connection gone: its workers must not run on unsupervised. Then it connects anew.
    private func noticeLoss(_ id: TaskManagerID, _ connection: ConnectionID) {
        guard managers[id]?.connection == connection, managers[id]?.isAlive == true else { return }
        managers[id]?.connection = nil
        if managers[id]?.acceptedAs == connection { managers[id]?.acceptedAs = nil }
        // It kills its workers, but not always before it is back.
        for worker in workersOn(id) { after(draw.milliseconds(0...1_500), .workerEnds(worker, .signal(9))) }
        after(draw.milliseconds(100...2_000), .taskManagerStarts(id))
    }

    private func workersOn(_ id: TaskManagerID) -> [WorkerID] {
        workers.values.filter { $0.taskManager == id && $0.isAlive }.map(\.id).sorted()
    }

    private func crash(_ id: TaskManagerID) {
        guard let manager = managers[id], manager.isAlive, let connection = manager.connection else { return }
        note("crash of \(id)")
        managers[id]?.isAlive = false
        managers[id]?.connection = nil
        managers[id]?.acceptedAs = nil
        for worker in workersOn(id) { after(draw.milliseconds(0...50), .workerEnds(worker, .signal(9))) }
        if draw.chance(700) {
            send(.event(.taskManagerLost(id, connection: connection, reason: "reset by peer")), over: .fromTaskManager(id, connection))
        }  // Else the host died with it and only the heartbeat tells.
        after(draw.milliseconds(100...8_000), .taskManagerStarts(id))
    }

    private func cut(_ id: TaskManagerID) {
        guard let connection = managers[id]?.connection, managers[id]?.isAlive == true else { return }
        note("connection of \(id) cut")
        closedLinks.insert(.toTaskManager(id, connection))
        if draw.chance(500) { closedLinks.insert(.fromTaskManager(id, connection)) }  // What is in flight is lost.
        if managers[id]?.acceptedAs == connection { managers[id]?.acceptedAs = nil }
        after(draw.latency(), .event(.taskManagerLost(id, connection: connection, reason: "reset by peer")))
        after(draw.latency(), .taskManagerNoticesLoss(id, connection))
    }

    private func startWorker(_ id: TaskManagerID, _ order: StartWorker) {
        guard let manager = managers[id], manager.isAlive, let connection = manager.connection else { return }
        if faultsAreOn, draw.chance(20) {
            send(.event(.workerStartFailed(order.worker, reason: "no artifact")), over: .fromTaskManager(id, connection))
            return
        }
        guard workers[order.worker] == nil else { return checks.violate("worker \(order.worker) was started twice") }
        workers[order.worker] = SimulatedWorker(id: order.worker, job: order.job, taskManager: id, connection: newConnection())
        after(draw.milliseconds(5...100), .workerRegisters(order.worker))
    }

    // MARK: Workers

    private func register(_ id: WorkerID) {
        guard let worker = workers[id], worker.isAlive, let job = scenario.jobs.first(where: { $0.submission.job == worker.job }) else { return }
        let registration = WorkerRegistration(
            worker: id, job: worker.job, connection: worker.connection, graphHash: job.submission.graph.hash,
            address: DataAddress(host: "host", port: 1))
        send(.event(.workerRegistered(registration)), over: .fromWorker(id))
        after(.milliseconds(500), .workerBeats(id))
    }

    private func beat(_ id: WorkerID) {
        guard let worker = workers[id], worker.isAlive else { return }
        if !worker.isSilent { send(.event(.workerHeartbeat(id, connection: worker.connection)), over: .fromWorker(id)) }
        after(.milliseconds(500), .workerBeats(id))
    }

    func end(_ id: WorkerID, _ status: WorkerExit.Status) {
        guard let worker = workers[id], worker.isAlive else { return }
        note("end of \(id): \(status)")
        workers[id]?.isAlive = false
        if draw.chance(800) {
            send(.event(.workerConnectionLost(id, connection: worker.connection, reason: "end of stream")), over: .fromWorker(id))
        }
        guard let manager = managers[worker.taskManager], manager.isAlive, let connection = manager.connection else { return }
        let exit = WorkerExit(worker: id, status: status, standardError: ["Fatal error"])
        send(.event(.workerExited(exit)), over: .fromTaskManager(worker.taskManager, connection))
    }

    private func cut(_ id: WorkerID) {
        guard let worker = workers[id], worker.isAlive else { return }
        note("connection of \(id) cut")
        if draw.chance(500) { closedLinks.insert(.fromWorker(id)) }
        closedLinks.insert(.toWorker(id))
        after(draw.latency(), .event(.workerConnectionLost(id, connection: worker.connection, reason: "reset by peer")))
        after(draw.milliseconds(0...2_000), .workerEnds(id, .code(1)))
    }

    // MARK: Tasks

    /// The worker and task, if both still live in the epoch.
    private func task(_ id: WorkerID, _ epoch: Epoch, _ subtask: SubtaskID) -> SimulatedTask? {
        guard let worker = workers[id], worker.isAlive, worker.plan?.epoch == epoch else { return nil }
        return worker.tasks[subtask]
    }

    private func report(_ id: WorkerID, _ subtask: SubtaskID, _ state: TaskState, failure: JobFailure? = nil, finalState: StateHandle? = nil) {
        guard let worker = workers[id], let plan = worker.plan else { return }
        let report = TaskStateReport(
            job: worker.job, worker: id, epoch: plan.epoch, subtask: subtask, state: state, failure: failure, finalState: finalState)
        send(.event(.taskStateChanged(report)), over: .fromWorker(id))
    }

    private func deploy(_ id: WorkerID, _ plan: DeploymentPlan) {
        guard let worker = workers[id], worker.isAlive else { return }
        if let living = worker.tasks.first(where: { $0.value.state != .canceled && $0.value.state != .failed }) {
            checks.violate("worker \(id) got epoch \(plan.epoch) while task \(living.key) of epoch \(worker.plan?.epoch.description ?? "?") lives")
        }
        workers[id]?.plan = plan
        workers[id]?.tasks = [:]
        for deployment in plan.tasks {
            var task = SimulatedTask()
            task.isStuck = faultsAreOn && draw.chance(5)
            workers[id]?.tasks[deployment.subtask] = task
            report(id, deployment.subtask, .deploying)
            after(draw.milliseconds(1...200), .taskRestored(id, plan.epoch, deployment.subtask))
        }
    }

    private func restored(_ id: WorkerID, _ epoch: Epoch, _ subtask: SubtaskID) {
        guard task(id, epoch, subtask)?.state == .deploying, let worker = workers[id], let plan = worker.plan else { return }
        if let restore = plan.restore {
            let handles = restore.vertices.first { $0.vertex == subtask.vertex }?.handles ?? []
            checks.reads(handles.flatMap(\.files), job: worker.job, checkpoint: restore.checkpoint, subtask: subtask)
            if faultsAreOn, draw.chance(scenario.damagesRestore), let file = handles.flatMap(\.files).first {
                checks.damaged(file.path, job: worker.job)
            }
            if let file = handles.flatMap(\.files).first(where: { checks.isDamaged($0.path, job: worker.job) }) {
                let event = ControlEvent.restoreFailed(
                    job: worker.job, worker: id, epoch: epoch, checkpoint: restore.checkpoint, path: file.path, reason: "checksum")
                send(.event(event), over: .fromWorker(id))
                fail(id, subtask)
                return
            }
            if restore.isShareable {
                workers[id]?.tasks[subtask]?.base = handles.first { $0.subtask == subtask }?.files ?? []
            }
        }
        workers[id]?.tasks[subtask]?.state = .running
        checks.runs(worker.job, epoch, subtask, on: id)
        report(id, subtask, .running)
        if scenario.jobs.contains(where: { $0.submission.job == worker.job && $0.ending.isBounded }), isSource(subtask, of: worker.job) {
            after(draw.milliseconds(500...6_000), .taskEnds(id, epoch, subtask))
        }
    }

    private func fail(_ id: WorkerID, _ subtask: SubtaskID) {
        workers[id]?.tasks[subtask]?.state = .failed
        report(id, subtask, .failed, failure: JobFailure(domain: .user, recovery: .restart, message: "the simulated job threw"))
    }

    private func cancelTasks(_ id: WorkerID, _ epoch: Epoch) {
        guard let worker = workers[id], worker.isAlive, worker.plan?.epoch == epoch else { return }
        for (subtask, task) in worker.tasks.sorted(by: { $0.key < $1.key }) where !task.isStuck {
            after(draw.milliseconds(0...100), .taskCancelled(id, epoch, subtask))
        }
    }

    private func cancelled(_ id: WorkerID, _ epoch: Epoch, _ subtask: SubtaskID) {
        guard let task = task(id, epoch, subtask), task.state != .canceled, task.state != .failed else { return }
        workers[id]?.tasks[subtask]?.state = .canceled
        report(id, subtask, .canceled)
    }

    // MARK: Barriers and the end of data

    private func graph(of job: JobID) -> JobGraph? { scenario.jobs.first { $0.submission.job == job }?.submission.graph }

    private func isSource(_ subtask: SubtaskID, of job: JobID) -> Bool { graph(of: job)?.vertex(subtask.vertex)?.isSource ?? false }

    private func neighbours(_ subtask: SubtaskID, of job: JobID, upstream: Bool) -> [SubtaskID] {
        guard let graph = graph(of: job) else { return [] }
        return graph.edges.filter { (upstream ? $0.to : $0.from) == subtask.vertex }.flatMap { edge -> [SubtaskID] in
            let other = upstream ? edge.from : edge.to
            return (0..<(graph.vertex(other)?.parallelism ?? 0)).map { SubtaskID(vertex: other, index: Int32($0)) }
        }
    }

    private func sendDownstream(_ id: WorkerID, _ subtask: SubtaskID, _ element: (WorkerID, SubtaskID) -> Happening) {
        guard let worker = workers[id], let plan = worker.plan else { return }
        for target in neighbours(subtask, of: worker.job, upstream: false) {
            guard let endpoint = plan.worker(of: target) else { continue }
            send(element(endpoint.worker, target), over: .data(from: id, to: endpoint.worker))
        }
    }

    private func barrier(_ id: WorkerID, _ epoch: Epoch, _ to: SubtaskID, _ from: SubtaskID, _ checkpoint: CheckpointID, _ kind: CheckpointKind) {
        guard task(id, epoch, to) != nil else { return }
        workers[id]?.tasks[to]?.barriers[checkpoint, default: []].insert(from)
        // Alignment also passes when the missing channels have ended for good.
        alignAll(id, epoch, to, kind: kind)
    }

    private func alignAll(_ id: WorkerID, _ epoch: Epoch, _ subtask: SubtaskID, kind: CheckpointKind) {
        guard let task = task(id, epoch, subtask), let worker = workers[id] else { return }
        let upstream = Set(neighbours(subtask, of: worker.job, upstream: true))
        for (checkpoint, arrived) in task.barriers.sorted(by: { $0.key < $1.key }) {
            let silent = answersAfterEnd(worker.job) ? [] : task.endedInputs
            guard arrived.union(silent).isSuperset(of: upstream) else { continue }
            workers[id]?.tasks[subtask]?.barriers[checkpoint] = nil
            snapshot(id, epoch, subtask, checkpoint, kind)
        }
    }

    private func answersAfterEnd(_ job: JobID) -> Bool {
        scenario.jobs.first { $0.submission.job == job }?.ending != .bounded(answersAfterEnd: false)
    }

    private func snapshot(_ id: WorkerID, _ epoch: Epoch, _ subtask: SubtaskID, _ checkpoint: CheckpointID, _ kind: CheckpointKind) {
        guard let task = task(id, epoch, subtask), task.answersBarriers, task.state == .running || task.state == .finished,
            let worker = workers[id]
        else { return }
        if faultsAreOn, draw.chance(scenario.declines) {
            let event = ControlEvent.checkpointDeclined(
                job: worker.job, worker: id, epoch: epoch, checkpoint: checkpoint, subtask: subtask, reason: "no space")
            send(.event(event), over: .fromWorker(id))
            return
        }
        let handle = state(of: subtask, task, job: worker.job, epoch: epoch, name: "\(checkpoint)", kind: kind)
        if !kind.isSavepoint { workers[id]?.tasks[subtask]?.acknowledged[checkpoint] = handle }
        // The asynchronous part: nothing stops it, not even a cancellation; it may come after the timeout.
        let delay = faultsAreOn && draw.chance(scenario.lateAcknowledgements) ? draw.milliseconds(1_000...5_000) : draw.milliseconds(0...50)
        after(delay, .acknowledges(id, epoch, checkpoint, handle))
        sendDownstream(id, subtask) { .barrier($0, epoch, to: $1, from: subtask, checkpoint, kind) }
    }

    private func state(
        of subtask: SubtaskID, _ task: SimulatedTask, job: JobID, epoch: Epoch, name: String, kind: CheckpointKind
    ) -> StateHandle {
        if draw.chance(200) { return StateHandle(subtask: subtask, content: .inline([1, 2, 3])) }
        let file = StateFile(path: "\(job.low)/e\(epoch)/\(name)/\(subtask)", lengthBytes: 100, crc32c: 7)
        checks.wrote(file.path, job: job)
        return StateHandle(subtask: subtask, content: .file(file), shared: kind.isSavepoint ? [] : Array(task.base.prefix(3)))
    }

    private func acknowledge(_ id: WorkerID, _ epoch: Epoch, _ checkpoint: CheckpointID, _ handle: StateHandle) {
        guard let worker = workers[id], worker.isAlive else { return }
        let report = CheckpointAcknowledgement(job: worker.job, worker: id, epoch: epoch, checkpoint: checkpoint, state: handle)
        send(.event(.checkpointAcknowledged(report)), over: .fromWorker(id))
    }

    private func complete(_ id: WorkerID, _ notice: CheckpointNotice) {
        guard let worker = workers[id], worker.isAlive, worker.plan?.epoch == notice.epoch else { return }
        for (subtask, task) in worker.tasks {
            if let handle = task.acknowledged[notice.checkpoint] { workers[id]?.tasks[subtask]?.base = handle.files }
            if graph(of: worker.job)?.vertex(subtask.vertex)?.nodes.first?.kind == .sink {
                checks.commits(notice.checkpoint, job: worker.job, sink: subtask)
            }
        }
    }

    private func finish(_ id: WorkerID, _ epoch: Epoch, _ subtask: SubtaskID) {
        guard let task = task(id, epoch, subtask), task.state == .running, let worker = workers[id] else { return }
        workers[id]?.tasks[subtask]?.state = .finished
        var finalState: StateHandle?
        if !answersAfterEnd(worker.job) {
            workers[id]?.tasks[subtask]?.answersBarriers = false
            finalState = state(of: subtask, task, job: worker.job, epoch: epoch, name: "end", kind: .final)
        }
        report(id, subtask, .finished, finalState: finalState)
        sendDownstream(id, subtask) { .endOfData($0, epoch, to: $1, from: subtask) }
    }

    private func endOfData(_ id: WorkerID, _ epoch: Epoch, _ to: SubtaskID, _ from: SubtaskID) {
        guard task(id, epoch, to) != nil, let worker = workers[id] else { return }
        workers[id]?.tasks[to]?.endedInputs.insert(from)
        alignAll(id, epoch, to, kind: .periodic)
        let upstream = Set(neighbours(to, of: worker.job, upstream: true))
        guard let task = task(id, epoch, to), task.endedInputs.isSuperset(of: upstream) else { return }
        // A task that restores may still be behind its inputs.
        after(task.state == .running ? .zero : draw.milliseconds(200...400), .taskEnds(id, epoch, to))
    }

    // MARK: Faults

    func crashReceiver(of link: Link) {
        switch link {
        case .toTaskManager(let id, _): crash(id)
        case .toWorker(let id), .data(_, let id): end(id, .signal(11))
        case .fromTaskManager(let id, _): if draw.chance(200) { crash(id) }
        case .fromWorker(let id): end(id, .signal(11))
        }
    }

    func causeFault() {
        let living = workers.values.filter(\.isAlive).map(\.id).sorted()
        let standing = managers.values.filter(\.isAlive).map(\.id).sorted()
        switch draw.below(12) {
        case 0: if let id = draw.pick(standing) { crash(id) }
        case 1: if let id = draw.pick(standing) { cut(id) }
        case 2: if let id = draw.pick(standing) { managers[id]?.isSilent = true }
        case 3, 4: if let id = draw.pick(living) { end(id, .signal(11)) }
        case 5, 6: if let id = draw.pick(living) { cut(id) }
        case 7: if let id = draw.pick(living) { workers[id]?.isSilent = true }
        default:
            guard let id = draw.pick(living), let worker = workers[id] else { return }
            let running = worker.tasks.filter { $0.value.state == .running || $0.value.state == .finished }.keys.sorted()
            if let subtask = draw.pick(running) { fail(id, subtask) }
        }
    }
}

extension Scenario.Ending {
    var isBounded: Bool {
        if case .bounded = self { return true }
        return false
    }
}
