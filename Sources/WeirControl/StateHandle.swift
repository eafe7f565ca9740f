package import WeirBase

/// One immutable file of checkpointed state on the shared filesystem.
package struct StateFile: Hashable, Sendable, Comparable, CustomStringConvertible {
    /// Relative to the checkpoint directory of the job, or absolute for a savepoint: opaque to the control plane, unique for ever.
    package var path: String
    package var lengthBytes: Int
    package var crc32c: UInt32

    package init(path: String, lengthBytes: Int, crc32c: UInt32) {
        self.path = path
        self.lengthBytes = lengthBytes
        self.crc32c = crc32c
    }

    package static func < (left: StateFile, right: StateFile) -> Bool { left.path < right.path }

    package var description: String { path }
}

/// Where the state of one subtask lies. The control plane passes it through and never looks inside.
package struct StateHandle: Hashable, Sendable {
    package enum Content: Hashable, Sendable {
        /// Small states travel inside the acknowledgement and are stored in `_metadata`.
        case inline([UInt8])
        /// Written by this acknowledgement alone: nobody else refers to it until a later checkpoint names it in ``StateHandle/shared``.
        case file(StateFile)
    }

    package var subtask: SubtaskID
    /// Subtasks of its vertex when it was written. Filled in from the checkpoint when the handle is restored; 0 in an acknowledgement.
    package var parallelism: Int
    package var content: Content
    /// Files of earlier **completed** checkpoints that the content refers to (incremental checkpoints).
    ///
    /// They are counted by reference: none is discarded while a retained checkpoint names it. A task may only build on a checkpoint that
    /// it was told is complete, and never on a savepoint; an acknowledgement that names a file unknown to the coordinator declines its
    /// checkpoint.
    package var shared: [StateFile]

    package init(subtask: SubtaskID, parallelism: Int = 0, content: Content, shared: [StateFile] = []) {
        self.subtask = subtask
        self.parallelism = parallelism
        self.content = content
        self.shared = shared
    }

    /// A task without state.
    package static func empty(_ subtask: SubtaskID) -> StateHandle { StateHandle(subtask: subtask, content: .inline([])) }

    /// Every file that must exist for the handle to be restored.
    package var files: [StateFile] {
        if case .file(let file) = content { return [file] + shared }
        return shared
    }

    /// The file that nobody else refers to yet.
    package var ownFiles: [StateFile] {
        if case .file(let file) = content { return [file] }
        return []
    }

    /// Bytes written for this handle; what it shares was counted when it was written.
    package var sizeBytes: Int {
        switch content {
        case .inline(let bytes): bytes.count
        case .file(let file): file.lengthBytes
        }
    }
}

/// What a checkpoint is for.
package enum CheckpointKind: Hashable, Sendable {
    case periodic
    /// Taken when all tasks have finished, so that the sinks commit their last transactions before the job is FINISHED.
    case final
    /// Self-contained: tasks write everything and share nothing. Never subsumed, never discarded by Weir unless a job claims it.
    ///
    /// `directory` is its own, absolute: what is in it belongs to no other.
    case savepoint(directory: String, mode: SavepointMode = .continues)

    package var isSavepoint: Bool {
        if case .savepoint = self { return true }
        return false
    }
}

/// What becomes of a job with its savepoint. The raw values are part of the format of `_metadata`.
package enum SavepointMode: UInt8, Hashable, Sendable {
    /// The job goes on.
    case continues = 0
    /// Sources emit nothing behind the barrier; once the savepoint is complete and the sinks have committed, the job is FINISHED.
    case stops = 1
    /// As ``stops``, but the data ends before the barrier: every window fires. Who resumes from it finds event time at its end.
    case drains = 2

    package var endsJob: Bool { self != .continues }
}

/// An operator as a checkpoint knows it: state is matched by the id, which follows from the uid; uid and name are for people.
package struct CheckpointOperator: Hashable, Sendable {
    package var id: OperatorID
    package var uid: String
    package var name: String

    package init(id: OperatorID, uid: String, name: String) {
        self.id = id
        self.uid = uid
        self.name = name
    }

    package init(uid: String, name: String? = nil) { self.init(id: OperatorID(uid: uid), uid: uid, name: name ?? uid) }
}

/// Which operators a vertex held when the checkpoint was taken: how its state finds its way into a job graph that chains differently.
package struct CheckpointVertex: Hashable, Sendable {
    package var vertex: VertexID
    package var operators: [CheckpointOperator]
    package var parallelism: Int

    package init(vertex: VertexID, operators: [CheckpointOperator], parallelism: Int) {
        self.vertex = vertex
        self.operators = operators
        self.parallelism = parallelism
    }
}

/// A checkpoint whose tasks have all acknowledged: the content of `_metadata`.
///
/// It exists only from ``ControlEvent/checkpointPublished(job:checkpoint:path:)`` on.
package struct CompletedCheckpoint: Hashable, Sendable {
    package var job: JobID
    package var id: CheckpointID
    package var kind: CheckpointKind
    /// The epoch that took it.
    package var epoch: Epoch
    package var maxParallelism: Int
    /// By vertex id.
    package var vertices: [CheckpointVertex]
    /// One a subtask, by (vertex, index).
    package var handles: [StateHandle]
    /// From the trigger to the last acknowledgement.
    package var duration: Duration
    /// Where `_metadata` lies; empty until published.
    package var path: String
    /// False for a checkpoint or savepoint restored without claiming it: its files are read and never discarded.
    package var isOwned: Bool
    /// Wall clock at its publication, milliseconds since 1970; 0 until then. For people.
    package var publishedMilliseconds: Int64 = 0

    package init(
        job: JobID, id: CheckpointID, kind: CheckpointKind = .periodic, epoch: Epoch, maxParallelism: Int, vertices: [CheckpointVertex],
        handles: [StateHandle], duration: Duration = .zero, path: String = "", isOwned: Bool = true
    ) {
        self.job = job
        self.id = id
        self.kind = kind
        self.epoch = epoch
        self.maxParallelism = maxParallelism
        self.vertices = vertices
        self.handles = handles
        self.duration = duration
        self.path = path
        self.isOwned = isOwned
    }

    package var sizeBytes: Int { handles.reduce(0) { $0 + $1.sizeBytes } }

    /// Whether later checkpoints may refer to its files: they live as long as any checkpoint of the job needs them.
    package var isShareable: Bool { isOwned && !kind.isSavepoint }
}
