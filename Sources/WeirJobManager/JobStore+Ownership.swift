internal import Synchronization
internal import WeirBase
internal import WeirControl
internal import WeirStorage
internal import WeirWire

/// Two live JobManagers in one directory, two jobs on one savepoint: the second is refused, or the first fenced off.
extension JobStore {
    /// In a savepoint or checkpoint that a job has claimed: the job's id.
    static let claimName = "_claimed"

    /// Becomes the owner of a job's checkpoint directory; who was it before can publish and delete nothing any more.
    func own(_ job: JobID) throws(FileFailure) {
        let owner = try retry.run { () throws(FileFailure) in try DirectoryOwner.take(storage(job).jobDirectory, files: files) }
        owners.withLock { $0[job] = owner }
    }

    /// The job has ended, or never began.
    func disown(_ job: JobID) throws(FileFailure) {
        guard let owner = owners.withLock({ $0.removeValue(forKey: job) }) else { return }
        try owner.release(files: files)
    }

    /// Why nothing of the job may be written or deleted: another JobManager has taken it over (recovery fail), or the storage does not answer
    /// (recovery restart). Nil: this JobManager is the owner, or the job has ended here.
    func fenced(_ job: JobID) -> JobFailure? {
        guard let owner = owners.withLock({ $0[job] }) else { return nil }
        do throws(FileFailure) {
            guard try !retry.run({ () throws(FileFailure) in try owner.isConfirmed(files: files) }) else { return nil }
        } catch {
            return error.jobFailure()
        }
        return JobFailure(
            domain: .system, recovery: .fail, message: "job \(job) was taken over by another JobManager with the same directories",
            cause: "\(owner.path) is gone; give every JobManager a jobmanager.storage.dir of its own")
    }

    /// Marks what a job takes over, so that no second job takes it too.
    ///
    /// - Throws: ``Refusal`` where another job has claimed it, ``FileFailure`` where nothing can be written there.
    func claim(_ path: String, for job: JobID) throws {
        let mark = path + "/" + Self.claimName
        do throws(FileFailure) { try files.createExclusively(mark) } catch {
            guard try files.list(path).contains(Self.claimName) else { throw error }
            let holder = String(decoding: try files.read(mark), as: UTF8.self)
            guard holder == job.description else {
                throw Refusal(
                    .conflict, "\(path) was claimed by job \(holder.isEmpty ? "(unknown)" : holder)",
                    hint: "restore it without --claim, or a copy of it")
            }
            return
        }
        try writeAtomically(Array(job.description.utf8), to: mark)
    }

    /// Deletes what no checkpoint of the job needs. Before it runs, or between two epochs.
    ///
    /// - Parameter end: The first checkpoint that the next epoch may take; nil while none can begin.
    func sweep(job: JobID, retained: [CompletedCheckpoint], below end: CheckpointID? = nil) -> JobFailure? {
        if let fenced = fenced(job) { return fenced }
        let own = retained.filter(\.isOwned)
        do throws(JobFailure) {
            try storage(job).sweep(retained: Set(own.map(\.id)), keeping: Set(own.flatMap(\.handles).flatMap(\.files).map(\.path)), below: end)
            return nil
        } catch {
            return error
        }
    }
}
