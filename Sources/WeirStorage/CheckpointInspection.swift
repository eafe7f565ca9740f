package import WeirBase
package import WeirControl
package import WeirDataflow

/// What a savepoint or checkpoint holds, read and verified as a whole, without the job that wrote it.
package struct CheckpointInspection: Sendable {
    /// One state of one operator, over all subtasks.
    package struct State: Sendable {
        package enum Contents: Sendable {
            case keyed(StateSummary.Kind, fingerprint: UInt64, schema: String?, rows: UInt64, namespaces: Int)
            /// Entries of a list or union state, in the order of the subtasks.
            case list([[UInt8]])
        }

        package var name: String
        package var contents: Contents
        package var bytes: Int
        /// The subtasks that hold some of it.
        package var subtasks: Int
    }

    package struct Operator: Sendable {
        package var id: OperatorID
        package var uid: String
        package var name: String
        package var parallelism: Int
        /// By name; keyed ones first.
        package var states: [State]
        package var bytes: Int { states.reduce(0) { $0 + $1.bytes } }
    }

    /// Its paths are absolute.
    package var checkpoint: CompletedCheckpoint
    /// In the order of the job's vertices. Those without state are among them.
    package var operators: [Operator]
    /// Of all of its files, and of what is in `_metadata`.
    package var bytes: Int

    /// Reads everything that a checkpoint needs and checks all of it.
    ///
    /// - Parameter path: The directory, or its `_metadata`.
    /// - Throws: `JobFailure` (external) that names the damaged, truncated or missing file.
    package init(path: String, files: some StorageFiles = SystemFiles()) throws(JobFailure) {
        var checkpoint = try CompletedCheckpoint(readingFrom: path, files: files)
        checkpoint.isOwned = false
        var assembled: [OperatorID: Assembly] = [:]
        var bytes = 0
        for handle in checkpoint.handles {
            let state = try Self.read(handle, of: checkpoint, files: files)
            bytes += state.bytes + handle.shared.reduce(0) { $0 + $1.lengthBytes }
            for part in state.operators { try assembled[part.operatorID, default: Assembly()].add(part, from: state.origin) }
        }
        self.checkpoint = checkpoint
        self.bytes = bytes
        operators = checkpoint.vertices.flatMap { vertex in
            vertex.operators.map { operation in
                Operator(
                    id: operation.id, uid: operation.uid, name: operation.name, parallelism: vertex.parallelism,
                    states: assembled[operation.id]?.states ?? [])
            }
        }
    }

    private static func read(
        _ handle: StateHandle, of checkpoint: CompletedCheckpoint, files: some StorageFiles
    ) throws(JobFailure) -> (operators: [EncodedOperatorState], bytes: Int, origin: String) {
        let origin: String
        let payload: [UInt8]
        switch handle.content {
        case .inline(let bytes):
            origin = "\(checkpoint.path)/\(CheckpointFile.metadataName), subtask \(handle.subtask)"
            payload = bytes
        case .file(let file):
            origin = file.path
            payload = try CheckpointFile.read(file.path, bytes: file.lengthBytes, crc: file.crc32c, files: files)
        }
        let stored = handle.shared.map { StoredState(path: $0.path, bytes: $0.lengthBytes, crc: $0.crc32c) }
        // Paths are absolute: the directory is not asked.
        var pieces = SharedPieceReader(storage: CheckpointStorage(directory: "", job: checkpoint.job, files: files), files: stored)
        do {
            return (try TaskStateCodec.decode(payload) { try pieces.read($0) }, payload.count, origin)
        } catch let failure as JobFailure {
            throw failure
        } catch {
            throw Assembly.damaged(origin, error)
        }
    }

    private struct Assembly {
        private var keyed: [String: State] = [:]
        private var lists: [String: State] = [:]

        var states: [State] { keyed.values.sorted { $0.name < $1.name } + lists.values.sorted { $0.name < $1.name } }

        mutating func add(_ part: EncodedOperatorState, from origin: String) throws(JobFailure) {
            for piece in part.keyed {
                let summary: StateSummary
                do throws(DecodingFailure) { summary = try StateSummary(piece.bytes) } catch { throw Self.damaged(origin, error) }
                var state =
                    keyed[piece.name]
                    ?? State(
                        name: piece.name,
                        contents: .keyed(summary.kind, fingerprint: summary.fingerprint, schema: summary.schema, rows: 0, namespaces: 0), bytes: 0,
                        subtasks: 0)
                if case .keyed(let kind, let fingerprint, let schema, let rows, let namespaces) = state.contents {
                    state.contents = .keyed(
                        kind, fingerprint: fingerprint, schema: schema, rows: rows + summary.rows,
                        namespaces: max(namespaces, summary.namespaces))
                }
                state.bytes += piece.bytes.count
                state.subtasks += 1
                keyed[piece.name] = state
            }
            for (name, entries) in part.lists {
                var state = lists[name] ?? State(name: name, contents: .list([]), bytes: 0, subtasks: 0)
                if case .list(let earlier) = state.contents { state.contents = .list(earlier + entries) }
                state.bytes += entries.reduce(0) { $0 + $1.count }
                state.subtasks += 1
                lists[name] = state
            }
        }

        static func damaged(_ origin: String, _ failure: any Error) -> JobFailure {
            JobFailure(domain: .external, recovery: .fail, message: "the state in \(origin) cannot be used", cause: "\(failure)")
        }
    }
}

extension CompletedCheckpoint {
    /// Reads the `_metadata` of a checkpoint or savepoint where it lies now; the paths of its files become absolute.
    ///
    /// - Parameter text: The directory or the `_metadata` in it, also as `file://`.
    /// - Throws: `JobFailure` that names the path: missing, damaged, no checkpoint.
    package init(readingFrom text: String, files: some StorageFiles = SystemFiles()) throws(JobFailure) {
        var path = text.hasPrefix("file://") ? String(text.dropFirst("file://".count)) : text
        while path.count > 1, path.hasSuffix("/") { path.removeLast() }
        if path.hasSuffix("/" + CheckpointFile.metadataName) { path.removeLast(CheckpointFile.metadataName.utf8.count + 1) }
        let metadata = path + "/" + CheckpointFile.metadataName
        let bytes = try CheckpointFile.read(metadata, files: files)
        var checkpoint: CompletedCheckpoint
        do throws(DecodingFailure) { checkpoint = try CheckpointMetadata.decode(bytes, path: path) } catch {
            throw JobFailure(domain: .external, recovery: .fail, message: "\(metadata) is damaged", cause: "\(error)")
        }
        // A savepoint's files lie beside its `_metadata`, those of a checkpoint are named from the job's directory.
        let root = checkpoint.kind.isSavepoint ? path : String(path.prefix(upTo: path.lastIndex(of: "/") ?? path.startIndex))
        func rooted(_ file: StateFile) -> StateFile {
            file.path.hasPrefix("/") ? file : StateFile(path: root + "/" + file.path, lengthBytes: file.lengthBytes, crc32c: file.crc32c)
        }
        for index in checkpoint.handles.indices {
            if case .file(let file) = checkpoint.handles[index].content { checkpoint.handles[index].content = .file(rooted(file)) }
            checkpoint.handles[index].shared = checkpoint.handles[index].shared.map(rooted)
        }
        self = checkpoint
    }
}
