internal import WeirBase
internal import WeirControl
internal import WeirStorage

/// Savepoints, and checkpoints that a user names.
extension JobStore {
    /// Makes a savepoint exist: with names relative to its own directory, so that it may be moved.
    func publish(_ checkpoint: CompletedCheckpoint, in directory: String, _ mode: SavepointMode) -> Result<String, JobFailure> {
        let metadata = directory + "/" + CheckpointFile.metadataName
        do throws(JobFailure) {
            let relocatable = try relocatable(checkpoint, in: directory)
            let names: [String]
            do throws(FileFailure) {
                try files.makeDirectory(directory)
                names = try files.list(directory)
            } catch {
                throw error.jobFailure()
            }
            guard !names.contains(CheckpointFile.metadataName) else {
                return .failure(JobFailure(domain: .external, recovery: .restart, message: "there is a savepoint at \(directory) already"))
            }
            do throws(JobFailure) {
                try CheckpointFile.write(CheckpointMetadata.encode(relocatable), to: metadata, files: files, retry: retry)
                if mode.endsJob {
                    do throws(FileFailure) {
                        try writeAtomically(Array(directory.utf8), to: jobDirectory(checkpoint.job) + "/stopped-at")
                    } catch {
                        throw error.jobFailure()
                    }
                }
            } catch {
                // Not there, or not known to be: the control plane must be able to rely on it being gone.
                try? files.remove(metadata)
                throw error
            }
            if let fenced = fenced(checkpoint.job), fenced.recovery == .fail { return .failure(fenced) }
            return .success(directory)
        } catch {
            return .failure(error)
        }
    }

    private func relocatable(_ checkpoint: CompletedCheckpoint, in directory: String) throws(JobFailure) -> CompletedCheckpoint {
        var checkpoint = checkpoint
        for index in checkpoint.handles.indices {
            guard checkpoint.handles[index].shared.isEmpty else { throw foreign(checkpoint.handles[index].shared[0].path, directory) }
            guard case .file(var file) = checkpoint.handles[index].content else { continue }
            guard file.path.hasPrefix(directory + "/") else { throw foreign(file.path, directory) }
            file.path = String(file.path.dropFirst(directory.utf8.count + 1))
            checkpoint.handles[index].content = .file(file)
        }
        return checkpoint
    }

    private func foreign(_ path: String, _ directory: String) -> JobFailure {
        JobFailure(
            domain: .system, recovery: .restart, message: "the savepoint \(directory) would not stand for itself", cause: "it needs \(path)")
    }

    /// A checkpoint or savepoint named by the user: its files are read where they are now.
    ///
    /// - Parameter claimed: Whether they become the job's own, to be deleted once nothing needs them; else they are never deleted.
    /// - Returns: It, and the job that wrote it.
    func external(_ text: String, job: JobID, claimed: Bool) throws(JobFailure) -> (checkpoint: CompletedCheckpoint, writer: JobID) {
        var checkpoint = try CompletedCheckpoint(readingFrom: text, files: files)
        let writer = checkpoint.job
        checkpoint.job = job
        checkpoint.isOwned = claimed
        return (checkpoint, writer)
    }

    /// The savepoint that a job was to end with when its JobManager died: its sinks may have committed what it names.
    func stoppedAt(_ job: JobID, problems: inout [String]) throws -> CompletedCheckpoint? {
        guard try files.list(jobDirectory(job)).contains("stopped-at") else { return nil }
        let path = String(decoding: try files.read(jobDirectory(job) + "/stopped-at"), as: UTF8.self)
        do throws(JobFailure) { return try external(path, job: job, claimed: false).checkpoint } catch {
            problems.append("job \(job) was to end with the savepoint \(path), which cannot be read: \(error.message)")
            return nil
        }
    }
}
