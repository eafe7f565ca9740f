package import WeirBase

/// Acknowledgements, publication, and the ways in which a checkpoint fails.
extension CheckpointCoordinator {
    // MARK: Acknowledgements

    package mutating func acknowledge(
        _ id: CheckpointID, _ state: StateHandle, statistics: SnapshotStatistics = SnapshotStatistics(), now: Instant
    ) -> [Effect] {
        guard isActive, let index = pending.firstIndex(where: { $0.id == id && $0.phase == .collecting && $0.epoch == epoch }),
            known.contains(state.subtask), pending[index].acknowledged[state.subtask] == nil, finalStates[state.subtask] == nil
        else {
            // Late, fenced off or said twice; a repetition names files that are needed, which discarding passes over.
            return discardFenced(id, state)
        }
        if let unknown = unknownFile(state, of: pending[index].kind) {
            // Discarded meanwhile, or not of this job: the checkpoint could never be restored.
            discard(state.ownFiles)
            fail(id, now: now, reason: "task \(state.subtask) builds on \(unknown), which no retained checkpoint holds")
            return take()
        }
        pending[index].acknowledged[state.subtask] = state
        history.acknowledged(id, state, statistics, now: now)
        checkAllPending(now: now)
        return take()
    }

    package mutating func decline(_ id: CheckpointID, by subtask: SubtaskID, reason: String, now: Instant) -> [Effect] {
        guard isActive, pending.contains(where: { $0.id == id && $0.phase == .collecting && $0.epoch == epoch }) else { return [] }
        fail(id, now: now, reason: "task \(subtask) declined: \(reason)")
        return take()
    }

    mutating func unknownFile(_ state: StateHandle, of kind: CheckpointKind) -> String? {
        guard !state.shared.isEmpty else { return nil }
        sharesFiles = true
        if kind.isSavepoint { return state.shared.first?.path }  // A savepoint stands for itself.
        let known =
            buildableFiles
            ?? Set((retained.filter(\.isShareable).flatMap(\.handles).flatMap(\.files) + lingering.flatMap(\.files)).map(\.path))
        buildableFiles = known
        return state.shared.first { !known.contains($0.path) }?.path
    }

    func missingTasks(_ id: CheckpointID) -> [SubtaskID] {
        guard let checkpoint = pending.first(where: { $0.id == id }) else { return [] }
        return subtasks.filter { checkpoint.acknowledged[$0] == nil && finalStates[$0] == nil }
    }

    /// Readies every checkpoint that has the state of all tasks, then publishes the next.
    mutating func checkAllPending(now: Instant) {
        guard isActive else { return }
        for index in pending.indices where pending[index].phase == .collecting {
            // Counting first: this runs once an acknowledgement, and looking each task up would make a checkpoint quadratic.
            let checkpoint = pending[index]
            guard checkpoint.acknowledged.count + finalStates.count >= subtasks.count else { continue }
            if checkpoint.kind.isSavepoint, finalStates.contains(where: { checkpoint.acknowledged[$0.key] == nil && !$0.value.files.isEmpty }) {
                // Its files go with the job's checkpoints, while a savepoint must stand for itself.
                fail(checkpoint.id, now: now, reason: "a task finished before the barrier reached it")
                return checkAllPending(now: now)
            }
            var handles: [StateHandle] = []
            handles.reserveCapacity(subtasks.count)
            for subtask in subtasks {
                guard let handle = checkpoint.acknowledged[subtask] ?? finalStates[subtask] else { break }
                handles.append(handle)
            }
            guard handles.count == subtasks.count else { continue }
            handles.sort { $0.subtask < $1.subtask }
            pending[index].phase = .ready
            pending[index].completed = CompletedCheckpoint(
                job: job, id: checkpoint.id, kind: checkpoint.kind, epoch: epoch, maxParallelism: maxParallelism, vertices: vertices,
                handles: handles, duration: checkpoint.triggered.duration(to: now))
            outbox.append(.cancelTimer(.timeout(checkpoint.id)))
        }
        publishNext()
    }

    // MARK: Publication

    private mutating func publishNext() {
        guard !isPublishing, let index = pending.firstIndex(where: { $0.phase == .ready }), let completed = pending[index].completed else {
            return
        }
        pending[index].phase = .publishing
        outbox.append(.publish(completed))
    }

    package mutating func published(_ id: CheckpointID, path: String, now: Instant) -> [Effect] {
        guard let index = pending.firstIndex(where: { $0.id == id && $0.phase == .publishing }) else { return [] }
        let checkpoint = pending.remove(at: index)
        guard var completed = checkpoint.completed else { preconditionFailure("what is published is complete") }
        completed.path = path
        completedCount += 1
        failuresInARow = 0
        history.completed(id, path: path, now: now)
        let isCurrent = isActive && checkpoint.epoch == epoch
        if let savepoint = checkpoint.savepoint {
            publishNext()
            ended(now: now)
            // Last: the job may end on this word, and nothing may be begun after it.
            finish(savepoint, completed, isCurrent: isCurrent)
            return take()
        }
        retain(completed, isCurrent: isCurrent, now: now)
        publishNext()
        ended(now: now)
        if isCurrent, completed.kind == .final { outbox.append(.finalCheckpointCompleted) }
        return take()
    }

    private mutating func retain(_ completed: CompletedCheckpoint, isCurrent: Bool, now: Instant) {
        let id = completed.id
        retained.append(completed)
        retained.sort { $0.id < $1.id }
        latest = CheckpointSnapshot(
            id: id, path: completed.path, duration: completed.duration, sizeBytes: completed.sizeBytes, completedAt: now)
        outbox.append(
            .log(
                .info, "checkpoint completed",
                fields(
                    id, LogField("checkpoint.duration", "\(completed.duration.inMilliseconds) ms"),
                    LogField("checkpoint.bytes", "\(completed.sizeBytes)"))))
        // An older one that still collects is worth nothing any more.
        for older in pending where older.id < id && older.savepoint == nil && older.phase != .publishing {
            give(up: older.id, reason: "checkpoint \(id) completed before it", now: now)
        }
        if isCurrent { outbox.append(.notifyComplete(id, isFinal: completed.kind == .final)) }
        discardLingering(before: id)
        while retained.count > options.retained { dropOldest() }
        if endedDiscarding == true {
            while !retained.isEmpty { dropOldest() }
        }
    }

    private mutating func finish(_ savepoint: Savepoint, _ completed: CompletedCheckpoint, isCurrent: Bool) {
        completedSavepoints.insert(completed.id)
        outbox.append(.log(.notice, "savepoint completed", fields(completed.id, LogField("savepoint.path", completed.path))))
        // Sinks commit for a savepoint only if the job ends with it: a job that goes on may yet restore from a checkpoint before it.
        if savepoint.mode.endsJob {
            // From the first commit on, only the savepoint is safe to restore: what fails before the last one goes on from there.
            var last = completed
            last.isOwned = false
            foreignFiles.formUnion(last.handles.flatMap(\.files).map(\.path))
            retained.append(last)
            retained.sort { $0.id < $1.id }
            if isCurrent { outbox.append(.notifyComplete(completed.id, isFinal: true)) }
            while retained.count > options.retained { dropOldest() }
            if endedDiscarding == true {
                while !retained.isEmpty { dropOldest() }
            }
        }
        outbox.append(.savepointCompleted(savepoint, completed.id, path: completed.path))
    }

    package mutating func publishFailed(_ id: CheckpointID, reason: String, now: Instant) -> [Effect] {
        guard pending.contains(where: { $0.id == id && $0.phase == .publishing }) else { return [] }
        fail(id, now: now, reason: "its metadata could not be written: \(reason)")
        publishNext()
        return take()
    }

    // MARK: Failing

    /// Ends a checkpoint by its own fault; too many in a row end the job.
    mutating func fail(_ id: CheckpointID, now: Instant, reason: String) {
        guard let checkpoint = pending.first(where: { $0.id == id }) else { return }
        let isCurrent = isActive && checkpoint.epoch == epoch
        give(up: id, reason: reason, now: now)
        failedCount += 1
        outbox.append(.log(.warning, "checkpoint failed", fields(id, LogField("reason", reason))))
        if isCurrent, checkpoint.savepoint?.mode == .drains {
            // The sources have said that nothing follows, and cannot take it back.
            let failure = JobFailure(
                domain: .external, recovery: .restart, message: "the job was drained for savepoint \(id), which failed", cause: reason)
            outbox.append(.failJob(failure))
            return
        }
        guard isCurrent, checkpoint.savepoint == nil else { return ended(now: now) }
        failuresInARow += 1
        if failuresInARow > options.tolerableFailed {
            let failure = JobFailure(
                domain: .external, recovery: .restart,
                message: "checkpoint \(id) failed, more than \(options.tolerableFailed) in a row are not tolerated", cause: reason)
            outbox.append(.failJob(failure))
            return
        }
        ended(now: now)
        if allFinished { retryFinal(now: now) }
    }

    /// Forgets a checkpoint that does not exist yet and discards what was written for it.
    ///
    /// - Parameter now: Nil where it ends with the tasks.
    mutating func give(up id: CheckpointID, reason: String, now: Instant?) {
        guard let index = pending.firstIndex(where: { $0.id == id }) else { return }
        history.failed(id, reason: reason, now: now)
        let checkpoint = pending.remove(at: index)
        if checkpoint.phase == .collecting { outbox.append(.cancelTimer(.timeout(id))) }
        if isActive, checkpoint.epoch == epoch { outbox.append(.notifyAborted(id)) }
        // Final states lie in `completed` too, but they are needed for as long as the epoch lasts.
        discard((checkpoint.completed?.handles ?? Array(checkpoint.acknowledged.values)).flatMap(\.files))
        if let savepoint = checkpoint.savepoint {
            let failure = JobFailure(domain: .external, recovery: .restart, message: "savepoint \(id) failed", cause: reason)
            outbox.append(.savepointFailed(savepoint, failure))
        }
    }

    // MARK: Discarding

    /// Files that a checkpoint needs that exists, may yet exist, or is kept for a person to look at.
    private func neededFiles() -> Set<String> {
        var needed = foreignFiles
        func need(_ handles: some Sequence<StateHandle>) {
            for handle in handles { for file in handle.files { needed.insert(file.path) } }
        }
        for checkpoint in retained + damaged { need(checkpoint.handles) }
        for checkpoint in pending { need(checkpoint.acknowledged.values) }
        for checkpoint in pending { need(checkpoint.completed?.handles ?? []) }
        need(finalStates.values)
        for dropped in lingering { for file in dropped.files { needed.insert(file.path) } }
        return needed
    }

    private func unneeded(_ files: [StateFile]) -> [StateFile] {
        guard !files.isEmpty else { return [] }
        let needed = neededFiles()
        return Set(files.filter { !needed.contains($0.path) }).sorted()
    }

    /// Discards those of the files that nothing needs.
    package mutating func discard(_ files: [StateFile]) {
        let files = unneeded(files)
        if !files.isEmpty { outbox.append(.discard(files)) }
    }

    /// Discards the state of a message that was fenced off; what it shares is others'.
    package mutating func discardFenced(_ id: CheckpointID, _ state: StateHandle) -> [Effect] {
        if !completedSavepoints.contains(id) { discard(state.ownFiles) }
        return take()
    }

    mutating func dropOldest() {
        let checkpoint = retained.removeFirst()
        guard checkpoint.isOwned else { return }
        if isActive, sharesFiles {
            lingering.append((droppedAt: CheckpointID(nextID - 1), files: checkpoint.handles.flatMap(\.files)))
            outbox.append(.discardCheckpoint(checkpoint.id, path: checkpoint.path, files: []))
            return
        }
        outbox.append(
            .discardCheckpoint(checkpoint.id, path: checkpoint.path, files: unneeded(checkpoint.handles.flatMap(\.files))))
    }

    /// Discards what lingers from drops before the checkpoint was triggered.
    mutating func discardLingering(before id: CheckpointID) {
        let over = lingering.filter { $0.droppedAt < id }
        lingering.removeAll { $0.droppedAt < id }
        discard(over.flatMap(\.files))
    }

    // MARK: Restoring

    /// A checkpoint cannot be read: it, and all that share the file, are put aside.
    ///
    /// - Returns: The effects; ``latestCompleted`` is what is left to restore from.
    package mutating func restoreFailed(_ id: CheckpointID, path: String, reason: String) -> [Effect] {
        let isDamaged = { (checkpoint: CompletedCheckpoint) in
            checkpoint.id == id || checkpoint.path == path || checkpoint.handles.contains { $0.files.contains { $0.path == path } }
        }
        for checkpoint in retained where isDamaged(checkpoint) {
            damaged.append(checkpoint)
            outbox.append(
                .log(
                    .error, "checkpoint is damaged and will not be used",
                    fields(
                        checkpoint.id, LogField("checkpoint.path", checkpoint.path), LogField("file.path", path), LogField("reason", reason))))
        }
        retained.removeAll(where: isDamaged)
        return take()
    }
}
