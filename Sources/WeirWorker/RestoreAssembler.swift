package import WeirBase
package import WeirDataflow
package import WeirGraph
package import WeirStorage

/// What one subtask of a checkpoint left behind, read and verified.
package struct RestoredSubtask: Sendable {
    package var subtask: SubtaskID
    package var operators: [EncodedOperatorState]
    package init(subtask: SubtaskID, operators: [EncodedOperatorState]) {
        self.subtask = subtask
        self.operators = operators
    }
}

/// Deals the state of a checkpoint out to the subtasks of a vertex, at the checkpoint's or another parallelism.
///
/// Keyed state goes to every subtask whose key groups it overlaps. Entries of list states are numbered through all old subtasks and dealt
/// round robin; the union holds all of them.
package enum RestoreAssembler {
    package static func assemble(
        checkpoint: CheckpointID, parts: [RestoredSubtask], vertex: JobVertex, subtask: Int, maxParallelism: Int
    ) -> [OperatorID: RestoredState] {
        let mine = KeyGroups.range(subtask: subtask, parallelism: vertex.parallelism, maxParallelism: maxParallelism)
        var result: [OperatorID: RestoredState] = [:]
        for node in vertex.nodes {
            var keyed: [RestoredState.Keyed] = []
            var unions: [String: [[UInt8]]] = [:]
            var isKnown = false
            for part in parts.sorted(by: { $0.subtask < $1.subtask }) {
                for state in part.operators where state.operatorID == node.operatorID {
                    isKnown = true
                    for piece in state.keyed where piece.keyGroups.overlaps(mine) { keyed.append(piece) }
                    for (name, entries) in state.lists { unions[name, default: []].append(contentsOf: entries) }
                }
            }
            guard isKnown else { continue }
            let lists = unions.mapValues { entries in
                entries.enumerated().filter { $0.offset % vertex.parallelism == subtask }.map(\.element)
            }
            result[node.operatorID] = RestoredState(checkpoint: checkpoint.rawValue, keyed: keyed, lists: lists, unions: unions)
        }
        return result
    }
}
