import WeirBase
import WeirGraph

extension JobMaster {
    /// The job's latest checkpoints with, for those in progress, who holds them up.
    func checkpointHistory() -> [CheckpointRecord] {
        coordinator.history.records.map { record in
            guard record.outcome == .inProgress else { return record }
            var record = record
            record.holders = holders(of: record.id)
            return record
        }
    }

    /// Tasks that have not acknowledged though all before them have: the barrier is with them.
    private func holders(of checkpoint: CheckpointID) -> [SubtaskID] {
        let missing = Set(coordinator.missingTasks(checkpoint))
        return missing.filter { task in
            graph.edges.allSatisfy { edge in
                guard edge.to == task.vertex, let sender = graph.vertex(edge.from) else { return true }
                let senders = edge.partitioner == .forward ? Int(task.index)..<Int(task.index) + 1 : 0..<sender.parallelism
                return senders.allSatisfy { !missing.contains(SubtaskID(vertex: edge.from, index: Int32($0))) }
            }
        }.sorted()
    }
}
