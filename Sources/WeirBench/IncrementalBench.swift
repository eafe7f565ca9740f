import Glibc
import Weir
import WeirBase
import WeirDataflow
import WeirGraph
import WeirStorage
import WeirWire
import WeirWorker

/// One task with 1 GB of rows, and the directory that its checkpoints go to.
private final class LargeTask {
    static let keys: UInt64 = 16_000_000
    let directory: ScratchDirectory
    let job = JobID(high: 7, low: 7)
    let store: TaskStateStore
    var filled = FilledTable(keys: LargeTask.keys)
    private var next: UInt64 = 1

    init() throws {
        directory = try ScratchDirectory()
        store = TaskStateStore(directory: directory.path, job: job)
    }

    deinit { filled.free() }

    /// Captures, writes and flushes; the checkpoint is complete afterwards.
    func checkpoint() throws -> (seconds: Double, handle: WireStateHandle) {
        let started = ContinuousClock.now
        let builder = SnapshotBuilder(checkpoint: next)
        builder.addKeyed("table", keyGroups: 0..<128, filled.table.capture())
        let snapshot = TaskSnapshot(checkpoint: CheckpointID(next), operators: [builder.finish(operatorID: OperatorID(uid: "bench"))])
        let task = TaskAttempt(epoch: Epoch(1), subtask: SubtaskID(vertex: VertexID(0), index: 0))
        let handle = try store.write(snapshot, of: task)
        let seconds = (ContinuousClock.now - started).inSeconds
        store.completed(next)
        next += 1
        return (seconds, handle)
    }

    /// A fresh table of what the handle refers to.
    func restore(_ handle: WireStateHandle) throws -> StateTable<StateValue> {
        let table = StateTable<StateValue>()
        for state in try store.read(handle).flatMap(\.keyed) {
            try state.bytes.withUnsafeBytes { bytes in
                var reader = ByteReader(bytes)
                try table.restore(from: &reader, filter: KeyGroupFilter(groups: 0..<128, maxParallelism: 128))
            }
        }
        return table
    }
}

extension Benchmark {
    static var largeState: [Benchmark] {
        [
            Benchmark(name: "checkpoint.incremental.1g", unit: "ms", goal: .atMost(200)) {
                let task = try LargeTask()
                let full = try task.checkpoint()
                let changed = LargeTask.keys / 100
                var written: [Double] = []
                let values = try (0..<5).map { run in
                    let first = UInt64(run) * 17 * changed
                    for _ in 0..<(Int(changed) / FilledTable.batchRows * 5) { _ = task.filled.updateOne(of: first..<(first + changed)) }
                    let (seconds, handle) = try task.checkpoint()
                    written.append(Double(max(handle.file.length, UInt64(handle.inlineState.count))) / 1e6)
                    return seconds * 1e3
                }
                return Samples(
                    values,
                    setup:
                        "\(LargeTask.keys) keys of 24 B with 24 B, the changed 1 % made one after the other (at random places every page changes); \(formatted(written.min() ?? 0)) to \(formatted(written.max() ?? 0)) MB written, the full one \(formatted(Double(full.handle.file.length) / 1e6)) MB in \(formatted(full.seconds)) s"
                )
            },
            Benchmark(name: "restore.1g", unit: "s", goal: .atMost(4)) {
                let task = try LargeTask()
                _ = try task.checkpoint()
                for _ in 0..<200 { _ = task.filled.updateOne(of: 0..<(LargeTask.keys / 100)) }
                let handle = try task.checkpoint().handle
                let values = try (0..<3).map { _ in
                    let started = ContinuousClock.now
                    let table = try task.restore(handle)
                    guard table.count == Int(LargeTask.keys) else { throw benchFailure("\(table.count) keys came back", cause: "") }
                    return (ContinuousClock.now - started).inSeconds
                }
                return Samples(
                    values, setup: "\(LargeTask.keys) keys of 24 B with 24 B, from \(handle.shared.count + 1) files, read and put into a table")
            },
        ]
    }
}
