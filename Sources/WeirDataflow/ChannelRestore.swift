import WeirBase
import WeirGraph

/// Gives a task the rows that were in flight to its vertex when barriers overtook them.
///
/// Where neither side of an edge has another parallelism than then, each channel gets back what it had. Otherwise rows go where the edge's
/// partitioner sends them now: those of a hash edge by their key group, those of the others channel by channel; and watermarks between them are
/// dropped, for they spoke for a channel that is no more. Rows of one channel keep their order.
struct ChannelRestore {
    let plan: TaskPlan
    let vertex: JobVertex
    let operators: OperatorTable

    private var subtask: Int { Int(plan.attempt.subtask.index) }

    /// - Throws: `JobFailure` for rows that cannot be read, or of an edge that the job no longer has.
    func restore(_ gate: inout InputGate) throws {
        for (position, node) in vertex.nodes.enumerated() {
            for entry in plan.restore?[node.operatorID]?.union(ChannelState.listName) ?? [] {
                do {
                    let state = try ChannelState(decoding: entry)
                    guard position == 0, let (first, input) = input(of: state) else { throw lost(state, to: node) }
                    try restore(state, from: input, firstChannel: first, to: &gate)
                } catch let failure as DecodingFailure {
                    throw JobFailure(
                        domain: .external, recovery: .fail, message: "the rows in flight to \(node.name) cannot be restored",
                        cause: failure.description)
                }
            }
        }
    }

    private func lost(_ state: ChannelState, to node: JobNode) -> JobFailure {
        JobFailure(
            domain: .configuration, recovery: .fail,
            message:
                "the checkpoint has rows in flight from operator \(state.sender) to input \(state.input) of \(node.name), an edge that the job no longer has",
            cause: "change the job's graph from a savepoint, which has none")
    }

    /// The edge that carried the rows, and the number of its first channel in the gate.
    private func input(of state: ChannelState) -> (Int, TaskPlan.Input)? {
        var first = 0
        for input in plan.inputs {
            let sender = plan.graph.vertex(input.edge.from)?.nodes.first { $0.id == input.edge.fromNode }
            if sender?.operatorID == state.sender, input.edge.input == state.input { return (first, input) }
            first += input.channels.count
        }
        return nil
    }

    private func restore(_ state: ChannelState, from input: TaskPlan.Input, firstChannel: Int, to gate: inout InputGate) throws {
        let senders = plan.graph.vertex(input.edge.from)?.parallelism ?? 0
        guard let factory = operators[input.edge.fromNode], let codec = factory.codec else { return }
        let channel = firstChannel + state.from % input.channels.count
        if state.toParallelism == vertex.parallelism, state.fromParallelism == senders {
            guard state.to == subtask else { return }
            // A forward edge has the one channel.
            for frame in state.frames { gate.restore(try ElementFrame.decode(frame, codec: codec), to: channel) }
            return
        }
        let route = input.edge.partitioner == .hash ? try router(factory, input.edge) : nil
        if route != nil {
            guard keyGroups(state.to, of: state.toParallelism).overlaps(keyGroups(subtask, of: vertex.parallelism)) else { return }
        } else {
            guard state.to % vertex.parallelism == subtask else { return }
        }
        for frame in state.frames {
            guard case .batch(let batch) = try ElementFrame.decode(frame, codec: codec) else { continue }
            for own in try route?(batch) ?? [batch] { gate.restore(.batch(own), to: channel) }
        }
    }

    private func keyGroups(_ subtask: Int, of parallelism: Int) -> Range<Int> {
        KeyGroups.range(subtask: subtask, parallelism: parallelism, maxParallelism: plan.graph.maxParallelism)
    }

    /// Picks from a batch the rows of this subtask: the edge's own sending side, whose channels end here.
    private func router(_ factory: NodeFactory, _ edge: JobEdge) throws -> (AnyBatch) throws -> [AnyBatch] {
        let lanes = (0..<vertex.parallelism).map { _ in CaughtChannel() }
        guard let toNode = vertex.nodes.first?.id else { return { [$0] } }
        let shape = EdgeShape(
            partitioner: edge.partitioner, toNode: toNode, input: edge.input, maxParallelism: plan.graph.maxParallelism, subtask: 0)
        let collector = try factory.makeEdge(OutputPort(channels: lanes), shape)
        let own = lanes[subtask]
        return { batch in
            try collector.emitAny(batch)
            try collector.flush()
            for lane in lanes where lane !== own { lane.batches.removeAll() }
            defer { own.batches.removeAll() }
            return own.batches
        }
    }
}

/// Keeps what is sent to it.
private final class CaughtChannel: OutputChannel, @unchecked Sendable {  // Made, filled and emptied by one thread.
    var batches: [AnyBatch] = []

    func tryPush(_ element: StreamElement) -> Bool {
        if case .batch(let batch) = element { batches.append(batch) }
        return true
    }

    func drain() -> Bool { true }
    func announce(_ barrier: Barrier) {}
}
