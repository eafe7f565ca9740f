import Glibc
import WeirBase
import WeirDataflow

/// The files that a subtask of a sink writes: each published once a complete checkpoint contains its bytes, and unchanged from then on.
///
/// An earlier attempt may still be alive, stopped for as long as one likes, with a file open and its next step before it. So no two attempts
/// ever write to one file: a file's name says whose it is, and a restore leaves the unfinished file of the attempt before to it, and
/// publishes a copy of what the checkpoint has of it. A file is closed before the barrier of the checkpoint that publishes it. What an old attempt
/// renames or removes when it wakes is either as its successor wants it or not there any more; proto-docs/files.md goes through the cases.
final class PartFiles {
    /// Files that wait for a checkpoint to complete.
    static let pendingMax = 256
    /// Looks at a directory in which names go on vanishing while they are removed.
    private static let looksMax = 16

    private struct Current {
        var name: PartName
        var descriptor: Int32
        var length: Int64 = 0
        var begunAt: Instant
        var needsSynchronize = false
    }

    private let settings: LinesSinkSettings
    private let directory: PartDirectory
    private var context: OperatorContext?
    private var current: Current?
    private var pending: [(file: PartState.File, checkpoint: UInt64)] = []
    /// How many files were begun: by this subtask, and by those that are no more and which it looks after.
    private var begun: [Int32: Int64] = [:]
    private var restored = PartState()
    private var hasNewNames = false
    private var hasEnded = false

    init(settings: LinesSinkSettings) {
        self.settings = settings
        directory = PartDirectory(path: settings.directory)
    }

    func restore(from state: RestoredState) throws {
        do {
            restored = try PartState(entries: state.union(PartState.name))
        } catch {
            throw JobFailure(
                domain: .system, recovery: .fail, message: "the output files of checkpoint \(state.checkpoint) are damaged",
                cause: String(describing: error))
        }
    }

    /// Publishes what the checkpoint contains, and removes what it does not.
    func open(_ context: OperatorContext) throws {
        self.context = context
        try directory.make()
        begun = restored.begun.filter { isMine($0.key, context) }
        for file in restored.files.sorted(by: { $0.name < $1.name }) where isMine(file.name.subtask, context) { try publish(restored: file, context) }
        try removeLeftovers(context)
        try directory.synchronize()
        restored = PartState()
    }

    private func isMine(_ subtask: Int32, _ context: OperatorContext) -> Bool { Int(subtask) % context.parallelism == context.subtask }

    func write(_ bytes: UnsafeRawBufferPointer) throws {
        guard bytes.count > 0, let context else { return }
        var file = try current ?? begin(context)
        // Before the write: bytes of one that fails half-way are written all the same.
        file.needsSynchronize = true
        current = file
        try directory.write(bytes, to: file.descriptor, named: file.name.inProgress, at: file.length)
        file.length += Int64(bytes.count)
        current = file
        context.counter("numBytesOut").add(bytes.count)
    }

    private func begin(_ context: OperatorContext) throws -> Current {
        let subtask = Int32(context.subtask)
        let sequence = begun[subtask] ?? 0
        begun[subtask] = sequence + 1
        let name = PartName(subtask: subtask, sequence: sequence, job: context.job, epoch: context.epoch)
        let descriptor = try directory.create(name.inProgress)
        hasNewNames = true
        return Current(name: name, descriptor: descriptor, begunAt: context.clock.now)
    }

    func snapshot(into builder: SnapshotBuilder) throws {
        try synchronize()
        if let file = current, let context {
            let age = file.begunAt.duration(to: context.clock.now)
            let isFull = file.length >= Int64(settings.rollBytes.bytes) || age >= settings.rollInterval
            if isFull || hasEnded || builder.isSavepoint { try finish(file, at: builder.checkpoint) }
        }
        var state = PartState()
        state.begun = begun
        state.files = pending.map(\.file)
        if let current { state.files.append(.init(name: current.name, length: current.length, isClosed: false)) }
        builder.addList(PartState.name, state.entries)
    }

    private func finish(_ file: Current, at checkpoint: UInt64) throws {
        guard pending.count < Self.pendingMax else {
            throw JobFailure(
                domain: .system, recovery: .restart,
                message: "\(pending.count) files in \"\(directory.path)\" wait for a checkpoint to complete",
                cause: "no checkpoint has completed for long: see the failures of the job's checkpoints")
        }
        current = nil
        // NFS reports here what it could not write.
        guard Glibc.close(file.descriptor) == 0 || errno == EINTR else {
            throw fileFailure("cannot write \"\(directory.path(file.name.inProgress))\" through to the disk", errno)
        }
        pending.append((.init(name: file.name, length: file.length, isClosed: true), checkpoint))
    }

    private func synchronize() throws {
        if let file = current, file.needsSynchronize {
            try directory.synchronize(file.descriptor, named: file.name.inProgress)
            current?.needsSynchronize = false
        }
        if hasNewNames { try directory.synchronize() }
        hasNewNames = false
    }

    /// No more rows come: the next checkpoint has everything.
    func endOfInput() { hasEnded = true }

    /// Publishes the files that were closed at the barrier of the checkpoint, or before.
    func checkpointCompleted(_ checkpoint: UInt64) throws {
        let due = pending.filter { $0.checkpoint <= checkpoint }
        guard !due.isEmpty else { return }
        for (file, _) in due where try !directory.rename(file.name.inProgress, to: file.name.published) {
            // A later attempt may have done it.
            guard try directory.length(file.name.published) != nil else { throw missing(file, at: file.name.inProgress, found: nil) }
        }
        try directory.synchronize()
        pending.removeAll { $0.checkpoint <= checkpoint }
    }

    /// Leaves what is not published to whoever restores the last checkpoint.
    func close() {
        if let file = current { _ = Glibc.close(file.descriptor) }
        current = nil
    }

    // MARK: Restore

    private func publish(restored file: PartState.File, _ context: OperatorContext) throws {
        // A second look, since an earlier attempt may have published the file between the two halves of the first.
        for _ in 0..<2 {
            if let length = try directory.length(file.name.published) {
                // A longer one was published by a checkpoint after the one that is restored: rows behind it come again.
                return try length == file.length ? () : publish(copyOf: file.name.published, of: length, as: file, context)
            }
            guard let length = try directory.length(file.name.inProgress) else { continue }
            // The writer of an open one may be alive: another file takes its place, and it goes.
            if file.isClosed, length == file.length {
                _ = try directory.rename(file.name.inProgress, to: file.name.published)
            } else {
                try publish(copyOf: file.name.inProgress, of: length, as: file, context)
                _ = try directory.remove(file.name.inProgress)
            }
            return
        }
        // One that was closed has been published, and taken away by whoever reads the output.
        guard file.isClosed else { throw missing(file, at: file.name.inProgress, found: nil) }
    }

    private func publish(copyOf name: String, of length: Int64, as file: PartState.File, _ context: OperatorContext) throws {
        guard length >= file.length else { throw missing(file, at: name, found: length) }
        let copy = file.name.copy(by: context.job, context.epoch)
        try directory.copy(name, bytes: file.length, to: copy)
        _ = try directory.rename(copy, to: file.name.published)
    }

    /// Afterwards no earlier attempt has a file left that it could publish.
    private func removeLeftovers(_ context: OperatorContext) throws {
        for _ in 0..<Self.looksMax {
            var someVanished = false
            for part in try directory.parts() where isMine(part.name.subtask, context) {
                let known = begun[part.name.subtask] ?? 0
                guard part.isLeftover(for: context.job, context.epoch, known: known) else { continue }
                // Gone before it was removed: perhaps renamed, by an earlier attempt that is alive.
                if try !directory.remove(part.fileName) { someVanished = true }
            }
            if !someVanished { return }
        }
        throw JobFailure(
            domain: .external, recovery: .restart, message: "cannot clear the directory \"\(directory.path)\"",
            cause: "its part files change while it is cleared: does another job write to it?")
    }

    private func missing(_ file: PartState.File, at name: String, found: Int64?) -> JobFailure {
        JobFailure(
            domain: .external, recovery: .fail,
            message: "the output file \"\(directory.path(name))\" \(found.map { "has only \($0) bytes" } ?? "is gone"), but the checkpoint has"
                + " \(file.length) bytes of it: it was changed by someone else, or the job moved to a host that does not share the directory")
    }
}
