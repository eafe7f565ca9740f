internal import Foundation
internal import WeirBase
internal import WeirDataflow
internal import WeirStorage
internal import WeirWire

/// Task state on the shared filesystem, or inside messages where it is small.
enum StateFiles {
    /// States up to this size travel in the acknowledgement: Flink's `state.storage.fs.memory-threshold`.
    static let inlineBytesMax = 20 << 10

    /// Where the files of a checkpoint go.
    struct Place: Sendable {
        /// `execution.checkpointing.dir`.
        var root: String
        /// The savepoint's own directory; nil for a checkpoint.
        var savepoint: String?
    }

    static func write(_ bytes: [UInt8], checkpoint: UInt64, task: TaskAttempt, job: JobID, to place: Place) throws(JobFailure) -> WireStateHandle {
        var handle = WireStateHandle()
        handle.subtask = task.subtask.wire
        guard bytes.count > inlineBytesMax else {
            handle.inlineState = .init(bytes)
            return handle
        }
        let storage = CheckpointStorage(directory: place.root, job: job)
        let file =
            if let savepoint = place.savepoint {
                try storage.writeSavepointState(in: savepoint, subtask: task.subtask, epoch: task.epoch, payload: bytes)
            } else {
                try storage.writeState(CheckpointID(checkpoint), subtask: task.subtask, epoch: task.epoch, payload: bytes)
            }
        handle.file.path = file.path
        handle.file.length = UInt64(file.bytes)
        handle.file.crc32C = file.crc
        return handle
    }

    static func read(_ handle: WireStateHandle, job: JobID, below directory: String) throws(JobFailure) -> [UInt8] {
        switch handle.location {
        case nil: return []
        case .inlineState(let bytes): return [UInt8](bytes)
        case .file(let file):
            let storage = CheckpointStorage(directory: directory, job: job)
            return try storage.readState(StoredState(path: file.path, bytes: Int(clamping: file.length), crc: file.crc32C))
        }
    }
}
