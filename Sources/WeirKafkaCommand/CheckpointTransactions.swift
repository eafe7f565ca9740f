package import WeirBase
internal import WeirControl
package import WeirKafkaTransactions
package import WeirStorage

/// What checkpoints name of exactly-once Kafka sinks: the transactions that are to be committed after a restore, and the ids in use.
package struct CheckpointTransactions: Sendable, Equatable {
    /// The directories that were read, the newest checkpoint first.
    package var directories: [String] = []
    /// In order, each once, over all checkpoints.
    package var prepared: [PreparedTransaction] = []
    /// The prefixes of the sinks, in order.
    package var prefixes: [String] = []

    package init() {}

    /// Reads a checkpoint or savepoint, or every checkpoint of a job.
    ///
    /// Each file is read whole and checked, one at a time: it takes the memory of the largest subtask's state.
    ///
    /// - Parameter text: The directory of a checkpoint or savepoint, its `_metadata`, or a job's directory with `chk-N` in it; `file://` may
    ///   stand before it.
    /// - Throws: `JobFailure` with the path: there is no checkpoint, or it is damaged.
    package static func read(_ text: String, files: any StorageFiles = SystemFiles()) throws(JobFailure) -> CheckpointTransactions {
        var path = text.hasPrefix("file://") ? String(text.dropFirst("file://".count)) : text
        while path.count > 1, path.hasSuffix("/") { path.removeLast() }
        if path.hasSuffix("/" + CheckpointFile.metadataName) { path.removeLast(CheckpointFile.metadataName.utf8.count + 1) }
        let names: [String]
        do throws(FileFailure) { names = try files.list(path) } catch {
            throw JobFailure(domain: .external, recovery: .fail, message: "cannot read the checkpoint \(path)", cause: error.reason)
        }
        var found = CheckpointTransactions()
        found.directories = names.contains(CheckpointFile.metadataName) ? [path] : try checkpoints(of: path, names, files)
        guard !found.directories.isEmpty else {
            throw JobFailure(
                domain: .external, recovery: .fail, message: "\(path) is no checkpoint",
                cause: "it has neither \(CheckpointFile.metadataName) nor a directory chk-N with it")
        }
        var prepared: Set<PreparedTransaction> = []
        var prefixes: Set<String> = []
        for directory in found.directories {
            for entry in try entries(directory, files) {
                switch entry {
                case .pool(let pool): prefixes.insert(pool.prefix)
                case .transaction(let transaction):
                    prefixes.insert(transaction.id.prefix)
                    prepared.insert(transaction)
                }
            }
        }
        found.prefixes = prefixes.sorted()
        found.prepared = ordered(prepared)
        return found
    }

    /// By id, the older session first.
    static func ordered(_ transactions: Set<PreparedTransaction>) -> [PreparedTransaction] {
        transactions.sorted { left, right in
            guard left.id == right.id else { return left.id < right.id }
            return (left.checkpoint, left.session.producerID, left.session.epoch) < (right.checkpoint, right.session.producerID, right.session.epoch)
        }
    }

    /// The completed checkpoints in a job's directory, the newest first.
    private static func checkpoints(of path: String, _ names: [String], _ files: any StorageFiles) throws(JobFailure) -> [String] {
        var numbered: [(number: UInt64, path: String)] = []
        for name in names where name.hasPrefix("chk-") {
            guard let number = UInt64(name.dropFirst("chk-".count)) else { continue }
            let directory = path + "/" + name
            do throws(FileFailure) {
                if try files.list(directory).contains(CheckpointFile.metadataName) { numbered.append((number, directory)) }
            } catch {
                throw JobFailure(domain: .external, recovery: .fail, message: "cannot read the checkpoint \(directory)", cause: error.reason)
            }
        }
        return numbered.sorted { $0.number > $1.number }.map(\.path)
    }

    private static func entries(_ directory: String, _ files: any StorageFiles) throws(JobFailure) -> [SinkState] {
        let checkpoint = try CompletedCheckpoint(readingFrom: directory, files: files)
        var entries: [SinkState] = []
        do {
            for handle in checkpoint.handles {
                let state: [UInt8]
                switch handle.content {
                case .inline(let bytes): state = bytes
                case .file(let file): state = try CheckpointFile.read(file.path, bytes: file.lengthBytes, crc: file.crc32c, files: files)
                }
                // Keyed state does not matter here, so what it refers to in other files is not read.
                let lists = try TaskStateCodec.decode(state) { _ in [] }.flatMap { $0.lists[SinkState.listName] ?? [] }
                entries += try lists.map { try SinkState(decoding: $0) }
            }
            return entries
        } catch let failure as JobFailure {
            throw failure
        } catch {
            throw JobFailure(domain: .external, recovery: .fail, message: "the checkpoint \(directory) cannot be read", cause: "\(error)")
        }
    }

    /// Those of one sink.
    package func prepared(_ prefix: String) -> [PreparedTransaction] { prepared.filter { $0.id.prefix == prefix } }
}
