internal import Foundation
internal import SwiftProtobuf
internal import Synchronization
package import WeirBase
package import WeirControl
internal import WeirGraph
package import WeirStorage
package import WeirWire

/// The JobManager's disk: job graphs, uploaded binaries, and the `_metadata` of checkpoints. Blocking; used on the storage thread.
///
///     <storage>/artifacts/<sha256>          the binaries
///     <storage>/jobs/<job id>/submission    the SubmitJob message, as it came
///     <storage>/jobs/<job id>/epoch         the last epoch, in decimal
///     <storage>/jobs/<job id>/ended         present once the job has ended: its last state
///     <storage>/jobs/<job id>/stopped-at    the savepoint that the job was to end with: from then on it restores from nothing older
///     <checkpoints>/<job id>/chk-<n>/       see proto-docs/checkpoint-format.md
package final class JobStore: Sendable {
    /// A job of an earlier JobManager that had not ended.
    package struct RecoveredJob: Sendable {
        package var job: JobID
        package var submission: WireSubmitJob
        package var lastEpoch: UInt32
        package var lastCheckpoint: CheckpointID?
        /// The best last.
        package var checkpoints: [CompletedCheckpoint]
    }

    private let directory: String
    /// `execution.checkpointing.dir`, of which each job has a directory.
    package let checkpointRoot: String
    private let artifacts: ArtifactStore?
    let files: any StorageFiles
    let retry: StorageRetry
    /// The jobs whose checkpoint directories this JobManager owns.
    let owners = Mutex<[JobID: DirectoryOwner]>([:])

    /// - Parameter usesArtifacts: False in the embedded cluster, whose workers are this very process.
    package init(
        directory: String, checkpoints: String?, usesArtifacts: Bool = true, files: any StorageFiles = SystemFiles(), retry: StorageRetry = .standard
    ) throws(JobFailure) {
        self.directory = directory
        self.files = files
        self.retry = retry
        checkpointRoot = Self.plainPath(checkpoints ?? directory + "/checkpoints")
        do throws(FileFailure) {
            try files.makeDirectory(directory + "/jobs")
            try files.makeDirectory(checkpointRoot)
        } catch {
            throw error.jobFailure(.fail)
        }
        artifacts = usesArtifacts ? try ArtifactStore(directory: directory + "/artifacts") : nil
    }

    /// Flink's users write `file:///path`.
    static func plainPath(_ text: String) -> String { text.hasPrefix("file://") ? String(text.dropFirst("file://".count)) : text }

    func storage(_ job: JobID) -> CheckpointStorage { CheckpointStorage(directory: checkpointRoot, job: job, files: files, retry: retry) }
    func jobDirectory(_ job: JobID) -> String { directory + "/jobs/" + job.description }

    // MARK: Jobs

    /// Persists a submission, and reads the checkpoint that it starts from.
    ///
    /// - Parameter live: Jobs that have not ended: what they own cannot be claimed.
    func persist(submission: WireSubmitJob, job: JobID, live: Set<JobID>) -> Result<[CompletedCheckpoint], Refusal> {
        do {
            if let artifacts, try !artifacts.contains(submission.artifactSha256, sizeBytes: Int(clamping: submission.artifactBytes)) {
                return .failure(Refusal(.notFound, "the job's binary \(submission.artifactSha256) was not uploaded", hint: "submit with weir run"))
            }
            if let artifacts { try ExecutableFile.check(artifacts.path(of: submission.artifactSha256)) }
            var restoreFrom: [CompletedCheckpoint] = []
            if !submission.restorePath.isEmpty {
                let found: (checkpoint: CompletedCheckpoint, writer: JobID)
                do throws(JobFailure) { found = try external(submission.restorePath, job: job, claimed: submission.claim) } catch {
                    return .failure(
                        Refusal(
                            .notFound, error,
                            hint: "name the directory of a savepoint or checkpoint; weir checkpoints JOB shows those of a job"))
                }
                if submission.claim, live.contains(found.writer), !found.checkpoint.kind.isSavepoint {
                    return .failure(
                        Refusal(
                            .conflict, "checkpoint \(submission.restorePath) belongs to job \(found.writer), which has not ended",
                            hint: "cancel that job first, or restore without --claim"))
                }
                if submission.claim { try claim(found.checkpoint.path, for: job) }
                restoreFrom = [found.checkpoint]
            }
            try files.makeDirectory(jobDirectory(job))
            try files.makeDirectory(storage(job).jobDirectory)
            try own(job)
            try writeAtomically(encoded(submission), to: jobDirectory(job) + "/submission")
            return .success(restoreFrom)
        } catch let refusal as Refusal {
            return .failure(refusal)
        } catch let failure as FileFailure {
            return .failure(Refusal(.unavailable, failure.jobFailure()))
        } catch let failure as JobFailure {
            return .failure(Refusal(.unavailable, failure))
        } catch {
            return .failure(Refusal(.internal, "\(error)"))
        }
    }

    /// Deletes what was persisted of a job that was refused, and gives back what it claimed.
    func forget(job: JobID, claimed: [String]) -> JobFailure? {
        attempt { () throws(FileFailure) in
            for path in claimed { try files.remove(path + "/" + Self.claimName) }
            try disown(job)
            for name in ["submission", "epoch", "ended", "stopped-at"] { try files.remove(jobDirectory(job) + "/" + name) }
            try files.remove(jobDirectory(job))
            try files.remove(storage(job).jobDirectory)
        }
    }

    func recordState(_ change: JobStateChange) -> JobFailure? {
        if let fenced = fenced(change.job) { return fenced }
        return attempt { () throws(FileFailure) in
            try writeAtomically(Array("\(change.epoch)".utf8), to: jobDirectory(change.job) + "/epoch")
            if change.to.isTerminal {
                try writeAtomically(Array(change.to.rawValue.utf8), to: jobDirectory(change.job) + "/ended")
                try disown(change.job)
            }
        }
    }

    /// Jobs that had not ended, in order of id, and in words what could not be read.
    ///
    /// A job whose every checkpoint is damaged is left out: started from nothing it would lose its state without a word. What is left out stays on
    /// the disk.
    func recover() -> (jobs: [RecoveredJob], problems: [String]) {
        var jobs: [RecoveredJob] = []
        var problems: [String] = []
        do {
            for name in try files.list(directory + "/jobs") {
                guard let job = JobID(name), try !files.list(jobDirectory(job)).contains("ended") else { continue }
                do {
                    jobs.append(try recover(job, problems: &problems))
                } catch {
                    problems.append("job \(job) is not taken up: \(describe(error))")
                }
            }
        } catch {
            problems.append(describe(error))
        }
        return (jobs, problems)
    }

    private func recover(_ job: JobID, problems: inout [String]) throws -> RecoveredJob {
        let submission = try WireSubmitJob(serializedBytes: files.read(jobDirectory(job) + "/submission"))
        var epoch: UInt32 = 0
        if try files.list(jobDirectory(job)).contains("epoch") {
            let text = String(decoding: try files.read(jobDirectory(job) + "/epoch"), as: UTF8.self)
            guard let number = UInt32(text) else {
                throw JobFailure(domain: .external, recovery: .fail, message: "\(jobDirectory(job))/epoch holds \"\(text)\" and no number")
            }
            epoch = number
        }
        let storage = storage(job)
        try files.makeDirectory(storage.jobDirectory)
        // Before anything is read: from here on no other JobManager adds to it.
        try own(job)
        let existing = try storage.completed()
        var checkpoints: [CompletedCheckpoint] = []
        for id in existing.reversed() {
            do throws(JobFailure) { checkpoints.append(try load(storage.directory(of: id))) } catch { problems.append(describe(error)) }
        }
        if checkpoints.isEmpty, !existing.isEmpty {
            throw JobFailure(
                domain: .external, recovery: .fail, message: "none of its \(existing.count) checkpoints in \(storage.jobDirectory) can be read")
        }
        let lowest = checkpoints.first?.id
        if !submission.restorePath.isEmpty, checkpoints.isEmpty || submission.claim {
            do throws(JobFailure) {
                let restored = try external(submission.restorePath, job: job, claimed: submission.claim).checkpoint
                // A claimed one is the oldest of those retained, or was deleted since.
                if lowest.map({ restored.id < $0 }) ?? true { checkpoints.insert(restored, at: 0) }
            } catch {
                if checkpoints.isEmpty { throw error }
            }
        }
        if let problem = sweep(job: job, retained: checkpoints) { problems.append(describe(problem)) }
        if let stopped = try stoppedAt(job, problems: &problems) {
            checkpoints.append(stopped)
            checkpoints.sort { $0.id < $1.id }
        }
        return RecoveredJob(
            job: job, submission: submission, lastEpoch: epoch, lastCheckpoint: try storage.highest(), checkpoints: checkpoints)
    }

    private func describe(_ error: any Error) -> String {
        switch error {
        case let failure as FileFailure: "cannot \(failure.operation) \(failure.path): \(failure.reason)"
        case let failure as JobFailure: failure.message + (failure.cause.map { ": " + $0 } ?? "")
        default: "\(error)"
        }
    }

    // MARK: Checkpoints

    func publish(_ checkpoint: CompletedCheckpoint, atMilliseconds now: Int64) -> Result<String, JobFailure> {
        var checkpoint = checkpoint
        checkpoint.publishedMilliseconds = now
        if let fenced = fenced(checkpoint.job) { return .failure(fenced) }
        if case .savepoint(let directory, let mode) = checkpoint.kind { return publish(checkpoint, in: directory, mode) }
        let storage = storage(checkpoint.job)
        do throws(JobFailure) {
            try storage.writeMetadata(checkpoint.id, payload: CheckpointMetadata.encode(checkpoint))
            // Whoever has taken over meanwhile may have read it, or not: it stays, and nobody here is told that it exists. Where nobody can say,
            // it exists.
            if let fenced = fenced(checkpoint.job), fenced.recovery == .fail { return .failure(fenced) }
            return .success(storage.directory(of: checkpoint.id))
        } catch {
            // Not there, or not known to be: the control plane must be able to rely on it being gone.
            try? files.remove(storage.metadataPath(of: checkpoint.id))
            return .failure(error)
        }
    }

    /// Deletes `_metadata` first: from then on the checkpoint does not exist.
    func discard(job: JobID, checkpoint: CheckpointID, path: String, files names: [StateFile]) -> JobFailure? {
        if let fenced = fenced(job) { return fenced }
        return attempt { () throws(FileFailure) in
            try files.remove(path + "/" + CheckpointFile.metadataName)
            // It must not come back after a crash, without its files.
            do throws(FileFailure) { try files.syncDirectory(path) } catch { guard error.isMissing else { throw error } }
            for file in names { try files.remove(absolute(file, job: job)) }
            try files.remove(path + "/" + Self.claimName)
            removeIfEmpty(path)
        }
    }

    func discard(job: JobID, files names: [StateFile]) -> JobFailure? {
        if let fenced = fenced(job) { return fenced }
        return attempt { () throws(FileFailure) in
            for file in names {
                let path = absolute(file, job: job)
                try files.remove(path)
                removeIfEmpty(String(path[..<(path.lastIndex(of: "/") ?? path.startIndex)]))
            }
        }
    }

    /// A directory that still holds the file of a slower task stays.
    private func removeIfEmpty(_ path: String) {
        let name = path.split(separator: "/").last ?? ""
        guard name.hasPrefix("chk-") || name.hasPrefix("savepoint-") else { return }
        try? files.remove(path)
    }

    private func absolute(_ file: StateFile, job: JobID) -> String {
        file.path.hasPrefix("/") ? file.path : storage(job).jobDirectory + "/" + file.path
    }

    func load(_ path: String) throws(JobFailure) -> CompletedCheckpoint {
        let bytes = try CheckpointFile.read(path + "/" + CheckpointFile.metadataName, files: files, retry: retry)
        do {
            return try CheckpointMetadata.decode(bytes, path: path)
        } catch {
            throw JobFailure(domain: .external, recovery: .fail, message: "\(path)/_metadata is damaged", cause: "\(error)")
        }
    }

    // MARK: Artifacts

    func fetch(_ message: WireFetchArtifact) throws(Refusal) -> WireArtifactChunk {
        try artifact { store throws(JobFailure) in
            var chunk = WireArtifactChunk()
            let (bytes, total) = try store.read(message.sha256, offset: Int(clamping: message.offset), bytesMax: min(Int(message.bytesMax), 4 << 20))
            chunk.bytes = .init(bytes)
            chunk.totalBytes = UInt64(total)
            return chunk
        }
    }

    func beginUpload(_ message: WireBeginUpload) throws(Refusal) -> WireUploadOffset {
        try artifact { store throws(JobFailure) in
            let progress = try store.begin(message.sha256, sizeBytes: Int(clamping: message.totalBytes))
            return Self.offset(progress)
        }
    }

    func upload(_ message: WireUploadChunk) throws(Refusal) -> WireUploadOffset {
        try artifact { store throws(JobFailure) in
            Self.offset(try store.append(message.sha256, offset: Int(clamping: message.offset), bytes: [UInt8](message.bytes)))
        }
    }

    private static func offset(_ progress: ArtifactStore.Progress) -> WireUploadOffset {
        var reply = WireUploadOffset()
        reply.offset = UInt64(progress.offset)
        reply.complete = progress.isComplete
        return reply
    }

    private func artifact<Reply>(_ body: (ArtifactStore) throws(JobFailure) -> Reply) throws(Refusal) -> Reply {
        guard let artifacts else { throw Refusal(.invalid, "an embedded cluster takes no binaries") }
        do throws(JobFailure) { return try body(artifacts) } catch {
            throw Refusal(error.domain == .configuration ? .invalid : .unavailable, error)
        }
    }

    func attempt(_ body: () throws(FileFailure) -> Void) -> JobFailure? {
        do throws(FileFailure) {
            try body()
            return nil
        } catch {
            return error.jobFailure()
        }
    }

    func writeAtomically(_ bytes: [UInt8], to path: String) throws(FileFailure) {
        var result: Result<Void, FileFailure> = .success(())
        bytes.withUnsafeBytes { raw in
            do throws(FileFailure) { try retry.run { () throws(FileFailure) in try files.writeAtomically(path, [raw]) } } catch {
                result = .failure(error)
            }
        }
        try result.get()
    }
}
