internal import Foundation
internal import Synchronization
package import WeirBase
package import WeirDataflow
internal import WeirStorage
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
    ///   - isSavepoint: Whether it must stand for itself.
    package func write(_ snapshot: TaskSnapshot, of task: TaskAttempt, isSavepoint: Bool) throws(JobFailure) -> WireStateHandle {
        let shared = isIncremental && !isSavepoint ? pages(of: task) : nil
        let encoded = try TaskStateCodec.encode(snapshot, sharing: shared?.confirmed)
        var handle = WireStateHandle()
        handle.subtask = task.subtask.wire
        handle.shared = encoded.shared.map(Self.wire)
        var lying = encoded.referred
        if encoded.bytes.count > Self.inlineBytesMax {
            let file = try storage.writeState(snapshot.checkpoint, subtask: task.subtask, epoch: task.epoch, payload: encoded.bytes)
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

/// Reads pieces of files, and checks them and the files' headers.
private struct SharedPieceReader {
    let storage: CheckpointStorage
    let files: [StoredState]
    private var checked: Set<Int> = []
    /// Read at once, where pieces follow each other.
    private static let runBytesMax = 16 << 20

    init(storage: CheckpointStorage, files: [StoredState]) {
        self.storage = storage
        self.files = files
    }

    mutating func read(_ pieces: [SharedPiece]) throws -> [UInt8] {
        var bytes: [UInt8] = []
        bytes.reserveCapacity(pieces.reduce(0) { $0 + Int($1.bytes) })
        var first = 0
        while first < pieces.count {
            var (end, length) = (first + 1, Int(pieces[first].bytes))
            while end < pieces.count, pieces[end].file == pieces[first].file, pieces[end].offset == pieces[first].offset + UInt64(length),
                length + Int(pieces[end].bytes) <= Self.runBytesMax
            {
                length += Int(pieces[end].bytes)
                end += 1
            }
            bytes += try readRun(pieces[first..<end], length)
            first = end
        }
        return bytes
    }

    private mutating func readRun(_ pieces: ArraySlice<SharedPiece>, _ length: Int) throws -> [UInt8] {
        guard let first = pieces.first else { return [] }
        guard first.file <= files.count else { throw DecodingFailure("a piece of file \(first.file) of \(files.count)", offset: 0) }
        let file = files[first.file - 1]
        if checked.insert(first.file).inserted { try storage.checkHeader(of: file) }
        guard first.offset <= UInt64(file.bytes), UInt64(file.bytes) - first.offset >= UInt64(length) else {
            throw DecodingFailure("a piece at \(first.offset) of \(length) bytes of \(file.path), which has \(file.bytes)", offset: 0)
        }
        let bytes = try storage.readPiece(of: file, offset: Int(first.offset), bytes: length)
        try bytes.withUnsafeBytes { raw in
            var start = 0
            for piece in pieces {
                let end = start + Int(piece.bytes)
                guard crc32c(UnsafeRawBufferPointer(rebasing: raw[start..<end])) == piece.crc else {
                    throw JobFailure(
                        domain: .external, recovery: .fail, message: "the checkpoint file \(file.path) cannot be used",
                        cause: "damaged: a wrong checksum of the \(piece.bytes) bytes at \(piece.offset)")
                }
                start = end
            }
        }
        return bytes
    }
}
