internal import Logging
internal import SwiftProtobuf
internal import WeirBase
internal import WeirConfiguration
internal import WeirControl
internal import WeirGraph
internal import WeirWire

/// Requests of clients: submission, lists, cancellation.
extension JobManagerCore {
    // MARK: Submission

    func submit(_ message: WireSubmitJob, _ responder: Responder) {
        if !message.requestID.isEmpty, let job = submissions[message.requestID] {
            var reply = WireSubmitJobReply()
            reply.job = job.description
            responder.reply(reply)
            return
        }
        let id = environment.randomID()
        let submission: JobSubmission
        do {
            submission = try prepare(message, id: id)
        } catch {
            responder.refuse(error)
            return
        }
        if let other = jobOrder.first(where: { jobs[$0]?.submission.name == message.name && jobs[$0]?.state.isTerminal == false }) {
            responder.refuse(
                Refusal(
                    .conflict, "a job named \"\(message.name)\" runs already: \(other)",
                    hint: "cancel it (weir cancel \(other)) or submit under another name (weir run --name NAME …)"))
            return
        }
        // The name is taken from here on, although the job is not yet persisted.
        jobs[id] = JobRecord(id: id, submission: message, graph: submission.graph, submitted: environment.clock.wallTime)
        jobOrder.append(id)
        if !message.requestID.isEmpty { submissions[message.requestID] = id }
        let store = jobStore
        let live = Set(jobs.values.filter { !$0.state.isTerminal }.map(\.id))
        environment.store {
            store.persist(submission: message, job: id, live: live)
        } then: { [weak self] result in
            self?.persisted(submission, result, responder)
        }
    }

    private func persisted(_ submission: JobSubmission, _ result: Result<[CompletedCheckpoint], Refusal>, _ responder: Responder) {
        var submission = submission
        switch result {
        case .failure(let refusal):
            jobs[submission.job] = nil
            jobOrder.removeAll { $0 == submission.job }
            submissions = submissions.filter { $0.value != submission.job }
            responder.refuse(refusal)
        case .success(let restoreFrom):
            submission.restoreFrom = restoreFrom
            handle(.submitJob(newRequest(responder), submission))
            if plane.jobSnapshot(submission.job) == nil {  // Refused: the control plane has answered why.
                jobs[submission.job] = nil
                jobOrder.removeAll { $0 == submission.job }
                submissions = submissions.filter { $0.value != submission.job }
                let store = jobStore
                let job = submission.job
                let claimed = submission.restoreFrom.filter(\.isOwned).map(\.path)
                environment.store {
                    store.forget(job: job, claimed: claimed)
                } then: { _ in
                }
            }
        }
    }

    /// Checks a submission and makes the control plane's value of it, without what must be read from disk.
    private func prepare(_ message: WireSubmitJob, id: JobID) throws(Refusal) -> JobSubmission {
        let graph: JobGraph
        do {
            graph = try JobGraph.decode([UInt8](message.graph))
        } catch {
            throw Refusal(.malformed, "the job graph cannot be read: \(error)", hint: "build the job and the cluster from the same version of Weir")
        }
        guard graph.hash == message.graphHash else {
            throw Refusal(.malformed, "the job graph's hash does not match", hint: "build the job and the cluster from the same version of Weir")
        }
        let options: JobOptions
        do {
            options = try jobOptions(message.options)
        } catch {
            throw Refusal(.invalid, "\(error)", hint: "correct the job's options")
        }
        guard let size = Int(exactly: message.artifactBytes) else { throw Refusal(.malformed, "an artifact of 2^63 bytes") }
        return JobSubmission(
            job: id, graph: graph, artifact: ArtifactReference(sha256: message.artifactSha256, sizeBytes: size), arguments: message.arguments,
            options: options, allowNonRestoredState: message.allowNonRestoredState)
    }

    private func jobOptions(_ settings: [String: String]) throws(ConfigurationError) -> JobOptions {
        var merged = configuration
        try merged.merge(settings, origin: "the job's options")
        return try JobOptions(merged)
    }

    /// Takes up the jobs of an earlier JobManager that had not ended.
    package func recover() {
        let store = jobStore
        environment.store {
            store.recover()
        } then: { [weak self] recovered in
            for problem in recovered.problems { self?.logger.error("cannot be recovered", metadata: ["cause": "\(problem)"]) }
            for job in recovered.jobs { self?.recover(job) }
            let waiting = self?.untilRecovered ?? []
            self?.untilRecovered = nil
            for request in waiting { request() }
        }
    }

    private func recover(_ recovered: JobStore.RecoveredJob) {
        do {
            var submission = try prepare(recovered.submission, id: recovered.job)
            submission.restoreFrom = recovered.checkpoints
            submission.firstEpoch = Epoch(recovered.lastEpoch &+ 1)
            submission.lastCheckpoint = recovered.lastCheckpoint
            jobs[recovered.job] = JobRecord(
                id: recovered.job, submission: recovered.submission, graph: submission.graph, submitted: environment.clock.wallTime)
            jobOrder.append(recovered.job)
            if !recovered.submission.requestID.isEmpty { submissions[recovered.submission.requestID] = recovered.job }
            logger.notice(
                "job recovered",
                metadata: ["job.id": "\(recovered.job)", "checkpoint.id": "\(recovered.checkpoints.last.map { "\($0.id)" } ?? "none")"])
            let responder = Responder { [logger] result in
                if case .failure(let refusal) = result { logger.error("job not recovered", metadata: ["cause": "\(refusal.message)"]) }
            }
            handle(.submitJob(newRequest(responder), submission))
        } catch {
            logger.error("job not recovered", metadata: ["job.id": "\(recovered.job)", "cause": "\(error.message)"])
        }
    }

    // MARK: Looking up

    /// Finds a job by id, by the beginning of one, or by name: the latest of that name.
    func find(_ text: String) throws(Refusal) -> JobID {
        if let id = JobID(text), jobs[id] != nil { return id }
        if let id = jobOrder.last(where: { jobs[$0]?.submission.name == text }) { return id }
        let matches = text.count >= 4 ? jobOrder.filter { $0.description.hasPrefix(text.lowercased()) } : []
        if matches.count == 1 { return matches[0] }
        if matches.count > 1 {
            throw Refusal(.conflict, "\"\(text)\" is the beginning of \(matches.count) job ids", hint: "give more digits: weir list --all shows them")
        }
        let names = Set(jobs.values.map(\.submission.name)).sorted { (editDistance($0, text), $0) < (editDistance($1, text), $1) }.prefix(3)
        throw Refusal(
            .notFound, "there is no job \"\(text)\"",
            hint: names.isEmpty ? "no job was submitted yet" : "there are: " + names.joined(separator: ", ") + " (weir list --all)")
    }

    func summary(_ record: JobRecord) -> WireJobSummary {
        let snapshot = plane.jobSnapshot(record.id)
        var message = WireJobSummary()
        message.job = record.id.description
        message.name = record.submission.name
        message.state = record.state.wire
        message.submittedMs = record.submitted.milliseconds
        message.endedMs = record.ended?.milliseconds ?? 0
        message.tasks = UInt32(snapshot?.tasks.total ?? record.graph.subtasks.count)
        message.tasksRunning = UInt32(snapshot?.tasks.running ?? 0)
        message.restarts = UInt32(clamping: snapshot?.restarts ?? 0)
        message.lastCheckpoint = snapshot?.latestCheckpoint?.id.rawValue ?? 0
        message.statusMessage = record.reason ?? ""
        return message
    }

    func list(_ message: WireListJobs) -> WireJobList {
        var reply = WireJobList()
        reply.jobs = jobOrder.compactMap { jobs[$0] }.filter { message.includeTerminated || !$0.state.isTerminal }.map { summary($0) }
        return reply
    }

    func info(_ message: WireGetJob) throws(Refusal) -> WireJobInfo {
        let id = try find(message.job)
        guard let record = jobs[id] else { throw Refusal(.notFound, "there is no job \(id)") }
        let snapshot = plane.jobSnapshot(id)
        var reply = WireJobInfo()
        reply.summary = summary(record)
        reply.epoch = snapshot?.epoch.rawValue ?? 0
        reply.maxParallelism = UInt32(record.graph.maxParallelism)
        reply.arguments = record.submission.arguments
        reply.options = Dictionary(
            uniqueKeysWithValues: record.submission.options.map { ($0.key, maskSecret(name: $0.key, value: $0.value)) })
        reply.vertices = vertices(record)
        reply.tasks = record.tasks.sorted { $0.key < $1.key }.map { subtask, task in
            var wire = WireTaskInfo()
            wire.subtask = subtask.wire
            wire.state = task.state.wire
            wire.worker = task.worker.rawValue
            wire.taskManager = task.taskManager.rawValue
            wire.slot = UInt32(task.slot)
            wire.metrics = task.metrics
            wire.stateSinceMs = task.since.milliseconds
            return wire
        }
        reply.failures = record.failures
        reply.history = record.changes
        reply.checkpoints = checkpointStats(record, snapshot)
        return reply
    }

    func cluster() -> WireClusterInfo {
        let snapshot = plane.clusterSnapshot()
        var reply = WireClusterInfo()
        reply.clusterID = clusterID
        reply.slotsTotal = UInt32(snapshot.slots)
        reply.slotsFree = UInt32(snapshot.freeSlots)
        reply.jobsRunning = UInt32(jobs.values.filter { !$0.state.isTerminal }.count)
        reply.software = JobManager.software
        reply.startedMs = started.milliseconds
        reply.taskManagers = snapshot.taskManagers.map { taskManager in
            var wire = WireTaskManagerInfo()
            wire.taskManager = taskManager.id.rawValue
            wire.host = taskManager.host
            wire.slots = UInt32(taskManager.slots)
            wire.slotsFree = UInt32(taskManager.freeSlots)
            if let entry = taskManagers[taskManager.id] {
                wire.pid = entry.registration.pid
                wire.registeredMs = entry.registered.milliseconds
                wire.residentBytes = entry.heartbeat.residentBytes
                wire.lastHeartbeatMs = entry.lastHeartbeat.milliseconds
            }
            wire.workers = taskManager.workers.map { worker in
                var running = WireRunningWorker()
                running.worker = worker.worker.rawValue
                running.job = worker.job.description
                return running
            }
            return wire
        }
        return reply
    }

    // MARK: Acting

    func cancel(_ message: WireCancelJob, _ responder: Responder) throws(Refusal) {
        let id = try find(message.job)
        if let state = jobs[id]?.state, state.isTerminal { throw Refusal(.conflict, "job \(id) has ended already: \(state.rawValue)") }
        handle(.cancelJob(newRequest(responder), id))
    }

    /// Passes the question on to the TaskManager that has the file.
    func fetchLogs(_ message: WireFetchLogs, _ responder: Responder) throws(Refusal) {
        let id = try find(message.job)
        guard let record = jobs[id] else { throw Refusal(.notFound, "there is no job \(id)") }
        // The worker's stdout goes by its id and ".out".
        let suffix = message.worker.hasSuffix(".out") ? ".out" : ""
        let wanted = message.worker.dropLast(suffix.count)
        let candidates = wanted.isEmpty ? record.workers : record.workers.filter { $0.worker.rawValue == wanted }
        guard let (worker, taskManager) = candidates.last else {
            throw Refusal(
                .notFound, "job \(id) has no worker\(message.worker.isEmpty ? " yet" : " \(message.worker)")",
                hint: record.workers.isEmpty ? "" : "it had: " + record.workers.map(\.worker.rawValue).joined(separator: ", "))
        }
        guard let entry = taskManagers[taskManager] else {
            throw Refusal(.unavailable, "the log of \(worker) is on TaskManager \(taskManager), which is not connected")
        }
        var request = WireReadLog()
        request.worker = worker.rawValue + suffix
        request.offset = message.offset
        request.bytesMax = message.bytesMax
        request.fromEnd = message.fromEnd
        entry.peer.request(.readLog, encoded(request)) { result in
            switch result {
            case .failure(let failure): responder.refuse(Refusal(.unavailable, "the log of \(worker) cannot be read: \(failure.message)"))
            case .success(let bytes):
                guard var chunk = try? WireLogChunk(serializedBytes: bytes) else {
                    responder.refuse(Refusal(.internal, "\(taskManager) answered with something else than a log"))
                    return
                }
                chunk.worker = worker.rawValue
                chunk.taskManager = taskManager.rawValue
                responder.reply(chunk)
            }
        }
    }
}
