internal import Foundation
internal import Glibc
internal import SwiftProtobuf
package import WeirBase
package import WeirControl
internal import WeirGraph
internal import WeirStorage
package import WeirWire

/// The JobManager's disk: job graphs, uploaded binaries, and the `_metadata` of checkpoints. Blocking; used on the storage thread.
///
///     <storage>/artifacts/<sha256>          the binaries
///     <storage>/jobs/<job id>/submission    the SubmitJob message, as it came
///     <storage>/jobs/<job id>/epoch         the last epoch, in decimal
///     <storage>/jobs/<job id>/ended         present once the job has ended: its last state
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
    private let files = SystemFiles()

    /// - Parameter usesArtifacts: False in the embedded cluster, whose workers are this very process.
    package init(directory: String, checkpoints: String?, usesArtifacts: Bool = true) throws(JobFailure) {
        self.directory = directory
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
    private static func plainPath(_ text: String) -> String { text.hasPrefix("file://") ? String(text.dropFirst("file://".count)) : text }

    private func storage(_ job: JobID) -> CheckpointStorage { CheckpointStorage(directory: checkpointRoot, job: job) }
    private func jobDirectory(_ job: JobID) -> String { directory + "/jobs/" + job.description }

    // MARK: Jobs

    /// Persists a submission, and reads the checkpoint that it starts from.
    func persist(submission: WireSubmitJob, job: JobID) -> Result<[CompletedCheckpoint], Refusal> {
        do {
            if let artifacts, try !artifacts.contains(submission.artifactSha256, sizeBytes: Int(clamping: submission.artifactBytes)) {
                return .failure(Refusal(.notFound, "the job's binary \(submission.artifactSha256) was not uploaded", hint: "submit with weir run"))
            }
            if let artifacts { try ExecutableFile.check(artifacts.path(of: submission.artifactSha256)) }
            var restoreFrom: [CompletedCheckpoint] = []
            if !submission.restorePath.isEmpty {
                do throws(JobFailure) { restoreFrom = [try external(submission.restorePath, job: job)] } catch {
                    return .failure(
                        Refusal(.notFound, error, hint: "name the directory of a checkpoint; weir info shows that of a job's latest"))
                }
            }
            try files.makeDirectory(jobDirectory(job))
            try files.makeDirectory(storage(job).jobDirectory)
            try writeAtomically(encoded(submission), to: jobDirectory(job) + "/submission")
            return .success(restoreFrom)
        } catch let failure as FileFailure {
            return .failure(Refusal(.unavailable, failure.jobFailure()))
        } catch let failure as JobFailure {
            return .failure(Refusal(.unavailable, failure))
        } catch {
            return .failure(Refusal(.internal, "\(error)"))
        }
    }

    /// Deletes what was persisted of a job that was refused.
    func forget(job: JobID) -> JobFailure? {
        attempt { () throws(FileFailure) in
            for name in ["submission", "epoch", "ended"] { try files.remove(jobDirectory(job) + "/" + name) }
            try files.remove(jobDirectory(job))
            try files.remove(storage(job).jobDirectory)
        }
    }

    func recordState(_ change: JobStateChange) -> JobFailure? {
        attempt { () throws(FileFailure) in
            try writeAtomically(Array("\(change.epoch)".utf8), to: jobDirectory(change.job) + "/epoch")
            if change.to.isTerminal { try writeAtomically(Array(change.to.rawValue.utf8), to: jobDirectory(change.job) + "/ended") }
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
        let existing = try storage.completed()
        var checkpoints: [CompletedCheckpoint] = []
        for id in existing.reversed() {
            do throws(JobFailure) { checkpoints.append(try load(storage.directory(of: id))) } catch { problems.append(describe(error)) }
        }
        if checkpoints.isEmpty, !existing.isEmpty {
            throw JobFailure(
                domain: .external, recovery: .fail, message: "none of its \(existing.count) checkpoints in \(storage.jobDirectory) can be read")
        }
        if checkpoints.isEmpty, !submission.restorePath.isEmpty { checkpoints = [try external(submission.restorePath, job: job)] }
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

    func publish(_ checkpoint: CompletedCheckpoint) -> Result<String, JobFailure> {
        let storage = storage(checkpoint.job)
        do throws(JobFailure) {
            try storage.writeMetadata(checkpoint.id, payload: CheckpointMetadata.encode(checkpoint))
            return .success(storage.directory(of: checkpoint.id))
        } catch {
            // Not there, or not known to be: the control plane must be able to rely on it being gone.
            try? files.remove(storage.metadataPath(of: checkpoint.id))
            return .failure(error)
        }
    }

    /// Deletes `_metadata` first: from then on the checkpoint does not exist.
    func discard(job: JobID, checkpoint: CheckpointID, path: String, files names: [StateFile]) -> JobFailure? {
        attempt { () throws(FileFailure) in
            try files.remove(path + "/_metadata")
            for file in names { try files.remove(absolute(file, job: job)) }
            removeIfEmpty(path)
        }
    }

    func discard(job: JobID, files names: [StateFile]) -> JobFailure? {
        attempt { () throws(FileFailure) in
            for file in names {
                let path = absolute(file, job: job)
                try files.remove(path)
                removeIfEmpty(String(path[..<(path.lastIndex(of: "/") ?? path.startIndex)]))
            }
        }
    }

    /// A directory that still holds the file of a slower task stays.
    private func removeIfEmpty(_ path: String) {
        guard path.contains("/chk-") else { return }
        rmdir(path)
    }

    private func absolute(_ file: StateFile, job: JobID) -> String {
        file.path.hasPrefix("/") ? file.path : storage(job).jobDirectory + "/" + file.path
    }

    private func load(_ path: String) throws(JobFailure) -> CompletedCheckpoint {
        let bytes = try CheckpointFile.read(path + "/_metadata")
        do {
            return try CheckpointMetadata.decode(bytes, path: path)
        } catch {
            throw JobFailure(domain: .external, recovery: .fail, message: "\(path)/_metadata is damaged", cause: "\(error)")
        }
    }

    /// A checkpoint named by the user: its files are read where they are, and never deleted.
    private func external(_ text: String, job: JobID) throws(JobFailure) -> CompletedCheckpoint {
        var path = Self.plainPath(text)
        while path.count > 1, path.hasSuffix("/") { path.removeLast() }
        if path.hasSuffix("/_metadata") { path.removeLast("/_metadata".count) }
        var checkpoint = try load(path)
        let root = String(path.prefix(upTo: path.lastIndex(of: "/") ?? path.startIndex))
        func rooted(_ file: StateFile) -> StateFile {
            file.path.hasPrefix("/") ? file : StateFile(path: root + "/" + file.path, lengthBytes: file.lengthBytes, crc32c: file.crc32c)
        }
        checkpoint.handles = checkpoint.handles.map { handle in
            var handle = handle
            if case .file(let file) = handle.content { handle.content = .file(rooted(file)) }
            handle.shared = handle.shared.map(rooted)
            return handle
        }
        checkpoint.job = job
        checkpoint.isOwned = false
        return checkpoint
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

    private func attempt(_ body: () throws(FileFailure) -> Void) -> JobFailure? {
        do throws(FileFailure) {
            try body()
            return nil
        } catch {
            return error.jobFailure()
        }
    }

    private func writeAtomically(_ bytes: [UInt8], to path: String) throws(FileFailure) {
        var result: Result<Void, FileFailure> = .success(())
        bytes.withUnsafeBytes { raw in
            do throws(FileFailure) { try files.write(path + ".tmp", [raw]) } catch { result = .failure(error) }
        }
        try result.get()
        try files.rename(path + ".tmp", to: path)
    }
}
