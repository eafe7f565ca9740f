import WeirBase
import WeirGraph

extension JobSubmission {
    /// Why the job cannot be accepted, or nil.
    var refusal: JobFailure? {
        var problems = options.problems
        if graph.vertices.isEmpty { problems.append("the job graph has no vertices") }
        for vertex in graph.vertices where !(1...max(1, graph.maxParallelism)).contains(vertex.parallelism) {
            problems.append("\(vertex.name): parallelism \(vertex.parallelism) is not in 1...\(graph.maxParallelism)")
        }
        for checkpoint in restoreFrom { problems += self.problems(restoring: checkpoint) }
        guard !problems.isEmpty else { return nil }
        return JobFailure(
            domain: .configuration, recovery: .fail, message: "the job cannot be accepted", cause: problems.joined(separator: "\n"))
    }

    private func problems(restoring checkpoint: CompletedCheckpoint) -> [String] {
        var problems: [String] = []
        if checkpoint.maxParallelism != graph.maxParallelism {
            problems.append(
                "checkpoint \(checkpoint.id) was taken with max parallelism \(checkpoint.maxParallelism), the job has "
                    + "\(graph.maxParallelism): its key groups cannot be told apart anew")
        }
        guard !allowNonRestoredState else { return problems }
        let claimed = Set(graph.vertices.flatMap { $0.nodes.map(\.operatorID) })
        let stateful = Set(checkpoint.handles.filter { $0.sizeBytes > 0 || !$0.shared.isEmpty }.map(\.subtask.vertex))
        for vertex in checkpoint.vertices where stateful.contains(vertex.vertex) {
            let orphans = vertex.operators.filter { !claimed.contains($0.id) }
            guard !orphans.isEmpty else { continue }
            let names = orphans.map { $0.name == $0.uid ? "\"\($0.uid)\"" : "\($0.name) (uid \"\($0.uid)\")" }
            problems.append(
                "checkpoint \(checkpoint.id) holds state of operators that the job does not have: " + names.joined(separator: ", ")
                    + "; give the operator its uid back, or drop its state with --allow-unclaimed-state")
        }
        return problems
    }
}
