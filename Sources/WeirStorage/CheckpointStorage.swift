package import WeirBase

/// The state of a task in a file: what the task acknowledges, and what its successor restores from.
package struct StoredState: Hashable, Sendable {
    /// Relative to the job's directory, so that the directory can move.
    package var path: String
    /// Bytes of the payload, without the header.
    package var bytes: Int
    /// CRC-32C of the payload: a file that was replaced by another whole one is told from the one meant.
    package var crc: UInt32

    package init(path: String, bytes: Int, crc: UInt32) {
        self.path = path
        self.bytes = bytes
        self.crc = crc
    }
}

/// The checkpoints of one job in a directory that all of its workers see:
///
///     <directory>/<job id>/chk-<n>/<vertex>-<subtask>-<epoch>.state
///     <directory>/<job id>/chk-<n>/_metadata
///
/// A checkpoint exists from the moment its `_metadata` does. Files appear whole or not at all: written under a temporary name,
/// flushed, renamed, and the directory flushed. Names hold the epoch, so that a task of an old attempt overwrites nothing. Neither
/// locks nor hard links are used: it works on NFS.
///
/// Every call blocks on the disk: use it on I/O threads. Failures are `external` and name the path.
package struct CheckpointStorage: Sendable {
    package let jobDirectory: String
    let files: any StorageFiles
    let retry: StorageRetry

    /// - Parameter directory: `execution.checkpointing.dir`.
    package init(directory: String, job: JobID, files: any StorageFiles = SystemFiles(), retry: StorageRetry = .standard) {
        jobDirectory = directory + "/" + job.description
        self.files = files
        self.retry = retry
    }

    package func directory(of checkpoint: CheckpointID) -> String { jobDirectory + "/chk-\(checkpoint)" }
    package func metadataPath(of checkpoint: CheckpointID) -> String { directory(of: checkpoint) + "/" + CheckpointFile.metadataName }

    // MARK: Files

    /// Writes the state of a task, durably.
    package func writeState(
        _ checkpoint: CheckpointID, subtask: SubtaskID, epoch: Epoch, payload: [UInt8]
    ) throws(JobFailure) -> StoredState {
        let path = "chk-\(checkpoint)/\(subtask.vertex)-\(subtask.index)-\(epoch).state"
        let crc = try write(checkpoint, path: jobDirectory + "/" + path, payload: payload)
        return StoredState(path: path, bytes: payload.count, crc: crc)
    }

    /// Writes the state of a task into a savepoint, durably.
    ///
    /// - Parameter directory: The savepoint's own, absolute; made if it is not there.
    /// - Returns: With the absolute path: the savepoint is not yet whole, and not yet to be moved.
    package func writeSavepointState(
        in directory: String, subtask: SubtaskID, epoch: Epoch, payload: [UInt8]
    ) throws(JobFailure) -> StoredState {
        do throws(FileFailure) { try retry.run { () throws(FileFailure) in try files.makeDirectory(directory) } } catch {
            throw failure("cannot write the savepoint \(directory)", error)
        }
        let path = "\(directory)/\(subtask.vertex)-\(subtask.index)-\(epoch).state"
        let crc = try CheckpointFile.write(payload, to: path, files: files, retry: retry)
        return StoredState(path: path, bytes: payload.count, crc: crc)
    }

    /// Makes the checkpoint exist. Every file that the payload names must have been written before.
    package func writeMetadata(_ checkpoint: CheckpointID, payload: [UInt8]) throws(JobFailure) {
        _ = try write(checkpoint, path: metadataPath(of: checkpoint), payload: payload)
    }

    private func write(_ checkpoint: CheckpointID, path: String, payload: [UInt8]) throws(JobFailure) -> UInt32 {
        do throws(FileFailure) { try retry.run { () throws(FileFailure) in try files.makeDirectory(directory(of: checkpoint)) } } catch {
            throw failure("cannot write checkpoint \(checkpoint)", error)
        }
        return try CheckpointFile.write(payload, to: path, files: files, retry: retry)
    }

    /// Reads the state of a task and checks that it is the file that was acknowledged. An absolute path is taken as it is.
    package func readState(_ file: StoredState) throws(JobFailure) -> [UInt8] {
        let path = file.path.hasPrefix("/") ? file.path : jobDirectory + "/" + file.path
        return try CheckpointFile.read(path, bytes: file.bytes, crc: file.crc, files: files, retry: retry)
    }

    package func readMetadata(_ checkpoint: CheckpointID) throws(JobFailure) -> [UInt8] {
        try CheckpointFile.read(metadataPath(of: checkpoint), files: files, retry: retry)
    }

    // MARK: Housekeeping

    /// Every checkpoint that exists, newest first. Whether it is whole is seen when it is read.
    package func completed() throws(JobFailure) -> [CheckpointID] {
        var completed: [CheckpointID] = []
        for checkpoint in try directories() where try names(in: checkpoint).contains(CheckpointFile.metadataName) { completed.append(checkpoint) }
        return completed
    }

    /// The highest id in the directory, also of checkpoints that were never completed: ids go on above it.
    package func highest() throws(JobFailure) -> CheckpointID? { try directories().first }

    /// The newest checkpoint whose metadata is whole, and why the newer ones are not: for a person to read.
    package func latestReadable() throws(JobFailure) -> (checkpoint: CheckpointID, metadata: [UInt8], damaged: [JobFailure])? {
        var damaged: [JobFailure] = []
        for checkpoint in try completed() {
            do throws(JobFailure) { return (checkpoint, try readMetadata(checkpoint), damaged) } catch { damaged.append(error) }
        }
        // Nothing is left to restore from: starting anew would silently lose the state.
        if let first = damaged.first { throw first }
        return nil
    }

    /// Deletes a checkpoint, its metadata first: one deleted by half does not exist.
    package func delete(_ checkpoint: CheckpointID) throws(JobFailure) {
        let directory = directory(of: checkpoint)
        let names = try names(in: checkpoint)
        do throws(FileFailure) {
            if names.contains(CheckpointFile.metadataName) {
                try files.remove(directory + "/" + CheckpointFile.metadataName)
                try files.syncDirectory(directory)
            }
            for name in names where name != CheckpointFile.metadataName { try files.remove(directory + "/" + name) }
            try files.remove(directory)
        } catch {
            throw failure("cannot delete checkpoint \(checkpoint) in \(directory)", error)
        }
    }

    /// Deletes completed checkpoints but the newest ones.
    ///
    /// - Parameters:
    ///   - retained: How many stay; at least 1.
    ///   - kept: Others that stay, because something needs them.
    /// - Returns: What was deleted, newest first.
    @discardableResult
    package func deleteOld(retained: Int, keeping kept: Set<CheckpointID> = []) throws(JobFailure) -> [CheckpointID] {
        var deleted: [CheckpointID] = []
        for checkpoint in try completed().dropFirst(Swift.max(retained, 1)) where !kept.contains(checkpoint) {
            try delete(checkpoint)
            deleted.append(checkpoint)
        }
        return deleted
    }

    /// Deletes what nothing needs: files of checkpoints that never completed, of tasks that died while they wrote, of old attempts.
    ///
    /// A checkpoint with `_metadata` that is not among those retained is left whole: it could not be read, and is for a person to look at.
    ///
    /// - Parameters:
    ///   - retained: The checkpoints that are known.
    ///   - needed: Files that they name, relative to the job's directory.
    ///   - end: Checkpoints from this one on are not looked at; nil: none is in flight.
    /// - Returns: What was deleted, relative to the job's directory.
    /// - Important: No task may be writing for a checkpoint below `end`.
    @discardableResult
    package func sweep(retained: Set<CheckpointID>, keeping needed: Set<String>, below end: CheckpointID? = nil) throws(JobFailure) -> [String] {
        var deleted: [String] = []
        for checkpoint in try directories() where end.map({ checkpoint < $0 }) ?? true {
            let names = try names(in: checkpoint)
            if names.contains(CheckpointFile.metadataName), !retained.contains(checkpoint) { continue }
            var left = 0
            for name in names {
                let path = "chk-\(checkpoint)/\(name)"
                guard name != CheckpointFile.metadataName, !needed.contains(path) else {
                    left += 1
                    continue
                }
                do throws(FileFailure) { try files.remove(jobDirectory + "/" + path) } catch { throw failure("cannot delete \(path)", error) }
                deleted.append(path)
            }
            guard left == 0 else { continue }
            do throws(FileFailure) { try files.remove(directory(of: checkpoint)) } catch {
                throw failure("cannot delete the directory of checkpoint \(checkpoint)", error)
            }
        }
        return deleted
    }

    /// Newest first; what is not named as a checkpoint is left alone.
    private func directories() throws(JobFailure) -> [CheckpointID] {
        let names: [String]
        do throws(FileFailure) { names = try files.list(jobDirectory) } catch {
            if error.isMissing { return [] }
            throw failure("cannot list the checkpoints in \(jobDirectory)", error)
        }
        return names.compactMap { name in
            guard name.hasPrefix("chk-"), let number = UInt64(name.dropFirst(4)), name == "chk-\(number)" else { return nil }
            return CheckpointID(number)
        }.sorted(by: >)
    }

    /// Empty for a directory that is gone: somebody else swept it.
    private func names(in checkpoint: CheckpointID) throws(JobFailure) -> [String] {
        do throws(FileFailure) { return try files.list(directory(of: checkpoint)) } catch {
            if error.isMissing { return [] }
            throw failure("cannot list checkpoint \(checkpoint)", error)
        }
    }

    private func failure(_ message: String, _ cause: FileFailure) -> JobFailure {
        JobFailure(domain: .external, recovery: .restart, message: message, cause: "\(cause.operation) \(cause.path): \(cause.reason)")
    }
}

/// `Array.withUnsafeBytes` with the type of what it throws.
func withBytes<Result, Failure: Error>(
    _ bytes: [UInt8], _ body: (UnsafeRawBufferPointer) throws(Failure) -> Result
) throws(Failure) -> Result {
    var result: Swift.Result<Result, Failure>?
    bytes.withUnsafeBytes { pointer in
        do throws(Failure) { result = .success(try body(pointer)) } catch { result = .failure(error) }
    }
    return try result!.get()
}
