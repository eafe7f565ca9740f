internal import Foundation
internal import Synchronization
package import WeirBase
package import WeirDataflow
package import WeirStorage
package import WeirWire

/// Writes the snapshots of tasks to the shared filesystem, each with references to what of it lies there already, and reads them back.
/// Small states travel inside messages.
///
/// Every call but the notifications blocks on the disk.
package final class TaskStateStore: Sendable {
    /// States up to this size travel in the acknowledgement: Flink's `state.storage.fs.memory-threshold`.
    package static let inlineBytesMax = 20 << 10
    private let storage: CheckpointStorage
    private let isIncremental: Bool
    private let pages = Mutex<[TaskAttempt: SharedPages]>([:])

    package static let incrementalKey = "execution.checkpointing.incremental"

    /// - Parameters:
    ///   - directory: `execution.checkpointing.dir`.
    ///   - isIncremental: Whether checkpoints refer to pages that earlier ones wrote.
    package init(directory: String, job: JobID, isIncremental: Bool = true) {
        storage = CheckpointStorage(directory: directory, job: job)
        self.isIncremental = isIncremental
    }

    /// - Parameters:
    ///   - snapshot: With nothing deferred.
    ///   - savepoint: The directory of a savepoint, which must stand for itself; nil for a checkpoint.
    package func write(_ snapshot: TaskSnapshot, of task: TaskAttempt, savepoint: String? = nil) throws(JobFailure) -> WireStateHandle {
        let shared = isIncremental && savepoint == nil ? pages(of: task) : nil
        let encoded = try TaskStateCodec.encode(snapshot, sharing: shared?.confirmed)
        var handle = WireStateHandle()
        handle.subtask = task.subtask.wire
        handle.shared = encoded.shared.map(Self.wire)
        var lying = encoded.referred
        if encoded.bytes.count > Self.inlineBytesMax {
            let file =
                if let savepoint {
                    try storage.writeSavepointState(in: savepoint, subtask: task.subtask, epoch: task.epoch, payload: encoded.bytes)
                } else {
                    try storage.writeState(snapshot.checkpoint, subtask: task.subtask, epoch: task.epoch, payload: encoded.bytes)
                }
            handle.file = Self.wire(file)
            for (key, place) in encoded.written {
                lying[key] = PageLocation(file: file, offset: place.offset, bytes: place.bytes, crc: place.crc)
            }
        } else {
            handle.inlineState = .init(encoded.bytes)
        }
        shared?.wrote(snapshot.checkpoint.rawValue, lying)
        return handle
    }

    /// The checkpoint is complete in the whole job, and may be built on.
    package func completed(_ checkpoint: UInt64) { for pages in pages.withLock({ Array($0.values) }) { pages.completed(checkpoint) } }

    package func aborted(_ checkpoint: UInt64) { for pages in pages.withLock({ Array($0.values) }) { pages.aborted(checkpoint) } }

    private func pages(of task: TaskAttempt) -> SharedPages {
        pages.withLock { pages in
            if let known = pages[task] { return known }
            let new = SharedPages()
            pages[task] = new
            return new
        }
    }

    // MARK: Reading

    package func read(_ handle: WireStateHandle) throws -> [EncodedOperatorState] {
        let bytes: [UInt8] =
            switch handle.location {
            case nil: []
            case .inlineState(let bytes): [UInt8](bytes)
            case .file(let file): try storage.readState(Self.stored(file))
            }
        let shared = handle.shared.map(Self.stored)
        var reader = SharedPieceReader(storage: storage, files: shared)
        return try TaskStateCodec.decode(bytes) { try reader.read($0) }
    }

    private static func wire(_ file: StoredState) -> WireStateHandle.File {
        var message = WireStateHandle.File()
        message.path = file.path
        message.length = UInt64(file.bytes)
        message.crc32C = file.crc
        return message
    }

    private static func stored(_ file: WireStateHandle.File) -> StoredState {
        StoredState(path: file.path, bytes: Int(clamping: file.length), crc: file.crc32C)
    }
}
