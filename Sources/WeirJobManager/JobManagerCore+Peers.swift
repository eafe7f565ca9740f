internal import Logging
internal import SwiftProtobuf
internal import WeirBase
internal import WeirControl
internal import WeirWire

/// Messages of TaskManagers and workers.
extension JobManagerCore {
    func registerTaskManager(_ message: WireRegisterTaskManager, from peer: any Peer) throws(Refusal) -> WireRegisterTaskManagerReply {
        guard !message.taskManager.isEmpty, message.slots > 0, message.slots <= 1_024 else {
            throw Refusal(.invalid, "a TaskManager needs an id and 1 to 1024 slots", hint: "set taskmanager.numberOfTaskSlots")
        }
        let id = TaskManagerID(message.taskManager)
        let connection = newConnection()
        let previous = taskManagers[id]
        taskManagers[id] = TaskManagerEntry(
            peer: peer, connection: connection, registration: message, registered: environment.clock.wallTime,
            lastHeartbeat: environment.clock.wallTime)
        if let previous, previous.peer !== peer { previous.peer.close(reason: "replaced by a new registration of \(id)") }
        handle(
            .taskManagerRegistered(
                TaskManagerRegistration(id: id, connection: connection, slots: Int(message.slots), host: message.dataHost)))
        var reply = WireRegisterTaskManagerReply()
        reply.clusterID = clusterID
        reply.heartbeatIntervalMs = UInt32(clamping: (configuration.duration("heartbeat.interval") ?? .seconds(1)).inMilliseconds)
        reply.heartbeatTimeoutMs = UInt32(clamping: (configuration.duration("heartbeat.timeout") ?? .seconds(10)).inMilliseconds)
        // What the control plane does not know any more after this registration shall stop.
        let wanted = Set(plane.clusterSnapshot().taskManagers.first { $0.id == id }?.workers.map(\.worker.rawValue) ?? [])
        reply.stopWorkers = message.runningWorkers.map(\.worker).filter { !wanted.contains($0) }
        return reply
    }

    func registerWorker(_ message: WireRegisterWorker, from peer: any Peer) throws(Refusal) -> WireRegisterWorkerReply {
        guard let job = JobID(message.job), !message.worker.isEmpty, let port = UInt16(exactly: message.dataPort) else {
            throw Refusal(.malformed, "a worker's registration lacks its job, its id or its data port")
        }
        let connection = newConnection()
        workers[WorkerID(message.worker)] = WorkerEntry(peer: peer, connection: connection, job: job)
        handle(
            .workerRegistered(
                WorkerRegistration(
                    worker: WorkerID(message.worker), job: job, connection: connection, graphHash: message.graphHash,
                    address: DataAddress(host: message.dataHost, port: port))))
        var reply = WireRegisterWorkerReply()
        reply.heartbeatIntervalMs = UInt32(clamping: (configuration.duration("heartbeat.interval") ?? .seconds(1)).inMilliseconds)
        reply.heartbeatTimeoutMs = UInt32(clamping: (configuration.duration("heartbeat.timeout") ?? .seconds(10)).inMilliseconds)
        return reply
    }

    func heartbeat(_ message: WireHeartbeat, from peer: any Peer) {
        let taskManager = TaskManagerID(message.sender)
        if let entry = taskManagers[taskManager], entry.peer === peer {
            taskManagers[taskManager]?.heartbeat = message
            taskManagers[taskManager]?.lastHeartbeat = environment.clock.wallTime
            handle(.taskManagerHeartbeat(taskManager, connection: entry.connection))
        } else if let entry = workers[WorkerID(message.sender)], entry.peer === peer {
            workers[WorkerID(message.sender)]?.alignment = message.alignment
            handle(.workerHeartbeat(WorkerID(message.sender), connection: entry.connection))
        }
    }

    /// What the sender of a heartbeat is told of the others of its job.
    func heartbeatReply(to sender: String) -> WireHeartbeatReply {
        var reply = WireHeartbeatReply()
        guard let own = workers[WorkerID(sender)] else { return reply }
        for (id, entry) in workers where entry.job == own.job && id.rawValue != sender {
            reply.alignment.merge(entry.alignment, uniquingKeysWith: min)
        }
        return reply
    }

    package func disconnected(_ peer: any Peer, reason: String) {
        // Those that this JobManager leaves are no failures.
        guard !isStopping else { return }
        for (id, entry) in taskManagers.sorted(by: { $0.key < $1.key }) where entry.peer === peer {
            taskManagers[id] = nil
            handle(.taskManagerLost(id, connection: entry.connection, reason: reason))
        }
        for (id, entry) in workers.sorted(by: { $0.key < $1.key }) where entry.peer === peer {
            workers[id] = nil
            handle(.workerConnectionLost(id, connection: entry.connection, reason: reason))
        }
    }

    func workerExited(_ message: WireWorkerExited) {
        let worker = WorkerID(message.worker)
        let status: WorkerExit.Status
        switch message.status {
        case .exitCode(let code): status = .code(code)
        case .signal(let signal): status = .signal(signal)
        case nil: return logger.warning("a worker exited without saying how", metadata: ["worker.id": "\(worker)"])
        }
        if let job = JobID(message.job) { jobs[job]?.lastExit = (worker, message.stderrTail) }
        handle(
            .workerExited(WorkerExit(worker: worker, status: status, standardError: message.stderrTail, isRequested: message.requested)))
    }

    /// The worker behind a connection and the job that a message names, if they belong together.
    private func sender(_ peer: any Peer, job text: String) -> (worker: WorkerID, job: JobID)? {
        guard let job = JobID(text), let entry = workers.first(where: { $0.value.peer === peer }), entry.value.job == job else { return nil }
        return (entry.key, job)
    }

    func taskStateChanged(_ message: WireTaskStateChanged, from peer: any Peer) {
        guard let (worker, job) = sender(peer, job: message.job), let state = TaskState(message.state) else { return }
        let subtask = SubtaskID(message.subtask)
        if jobs[job]?.tasks[subtask]?.worker == worker {
            jobs[job]?.tasks[subtask]?.state = state
            jobs[job]?.tasks[subtask]?.since = environment.clock.wallTime
        }
        handle(
            .taskStateChanged(
                TaskStateReport(
                    job: job, worker: worker, epoch: Epoch(message.epoch), subtask: subtask, state: state,
                    failure: message.hasFailure ? JobFailure(message.failure) : nil,
                    finalState: message.hasFinalState ? StateHandle(message.finalState) : nil)))
    }

    func acknowledgeCheckpoint(_ message: WireAcknowledgeCheckpoint, from peer: any Peer) {
        guard let (worker, job) = sender(peer, job: message.job), let state = StateHandle(message.state) else { return }
        handle(
            .checkpointAcknowledged(
                CheckpointAcknowledgement(
                    job: job, worker: worker, epoch: Epoch(message.epoch), checkpoint: CheckpointID(message.checkpoint), state: state,
                    statistics: SnapshotStatistics(
                        alignment: .seconds(max(0, message.alignmentMs) / 1000), synchronous: .seconds(max(0, message.syncMs) / 1000),
                        asynchronous: .seconds(max(0, message.asyncMs) / 1000)))))
    }

    func declineCheckpoint(_ message: WireDeclineCheckpoint, from peer: any Peer) {
        guard let (worker, job) = sender(peer, job: message.job) else { return }
        handle(
            .checkpointDeclined(
                job: job, worker: worker, epoch: Epoch(message.epoch), checkpoint: CheckpointID(message.checkpoint),
                subtask: SubtaskID(message.subtask), reason: JobFailure(message.reason).description))
    }

    func restoreFailed(_ message: WireRestoreFailed, from peer: any Peer) {
        guard let (worker, job) = sender(peer, job: message.job) else { return }
        handle(
            .restoreFailed(
                job: job, worker: worker, epoch: Epoch(message.epoch), checkpoint: CheckpointID(message.checkpoint), path: message.path,
                reason: message.reason))
    }

    func taskMetrics(_ message: WireTaskMetricsReport, from peer: any Peer) {
        guard let (_, job) = sender(peer, job: message.job) else { return }
        for metrics in message.tasks { jobs[job]?.tasks[SubtaskID(metrics.subtask)]?.metrics = metrics }
    }
}
