internal import WeirBase
internal import WeirDataflow
internal import WeirGraph
internal import WeirTransport
internal import WeirWire

/// Makes the plans of this worker's tasks: channels between its slots, and to and from the job's other workers.
struct DeploymentBuilder {
    let job: JobID
    let message: WireDeploy
    let epoch: Epoch
    let graph: JobGraph
    let exchange: ExchangeEpoch
    let numbers: ChannelNumbering
    let slots: [Slot]
    let restored: [VertexID: [RestoredSubtask]]

    /// - Returns: Each plan with its slot, receivers before senders of a vertex order: by (vertex, index).
    func build() throws(JobFailure) -> [(slot: Int, plan: TaskPlan)] {
        let placements = try placements()
        let mine = try mySlots()
        var locals: [UInt32: LocalChannel] = [:]

        func isMine(_ vertex: VertexID, _ index: Int) -> Bool { placements[vertex]?[index] == message.workerIndex }
        func local(_ number: UInt32, _ from: SubtaskID, _ to: SubtaskID) -> LocalChannel {
            if let channel = locals[number] { return channel }
            let sender = mine[from] ?? 0
            let receiver = mine[to] ?? 0
            let channel =
                sender == receiver ? LocalChannel() : LocalChannel(producer: slots[sender].waker, consumer: slots[receiver].waker)
            locals[number] = channel
            return channel
        }

        var plans: [(Int, TaskPlan)] = []
        for (subtask, slot) in mine.sorted(by: { $0.key < $1.key }) {
            guard let vertex = graph.vertex(subtask.vertex) else { continue }
            let index = Int(subtask.index)
            var inputs: [TaskPlan.Input] = []
            var outputs: [TaskPlan.Output] = []
            for (edgeIndex, edge) in graph.edges.enumerated() {
                if edge.from == subtask.vertex, let receiver = graph.vertex(edge.to) {
                    let targets = edge.partitioner == .forward ? index..<(index + 1) : 0..<receiver.parallelism
                    let ends = targets.map { target -> OutputEnd in
                        let number = numbers.channel(edge: edgeIndex, from: index, to: target)
                        if isMine(edge.to, target) { return .local(local(number, subtask, SubtaskID(vertex: edge.to, index: Int32(target)))) }
                        let worker = placements[edge.to]?[target] ?? 0
                        let waker = slots[slot].waker
                        return .remote(exchange.openOutput(channel: number, to: worker) { waker.wake() })
                    }
                    outputs.append(TaskPlan.Output(edge: edge, channels: ends))
                }
                if edge.to == subtask.vertex, let sender = graph.vertex(edge.from) {
                    let origins = edge.partitioner == .forward ? index..<(index + 1) : 0..<sender.parallelism
                    let ends = origins.map { origin -> InputEnd in
                        let number = numbers.channel(edge: edgeIndex, from: origin, to: index)
                        if isMine(edge.from, origin) { return .local(local(number, SubtaskID(vertex: edge.from, index: Int32(origin)), subtask)) }
                        let worker = placements[edge.from]?[origin] ?? 0
                        let waker = slots[slot].waker
                        return .remote(exchange.openInput(channel: number, from: worker) { waker.wake() })
                    }
                    inputs.append(TaskPlan.Input(edge: edge, channels: ends))
                }
            }
            var restore: [OperatorID: RestoredState]?
            if message.restoreCheckpoint > 0 {
                restore = RestoreAssembler.assemble(
                    checkpoint: CheckpointID(message.restoreCheckpoint), parts: restored[subtask.vertex] ?? [], vertex: vertex, subtask: index,
                    maxParallelism: graph.maxParallelism)
            }
            plans.append(
                (
                    slot,
                    TaskPlan(
                        job: job, attempt: TaskAttempt(epoch: epoch, subtask: subtask), graph: graph, inputs: inputs, outputs: outputs,
                        isCheckpointed: true, restore: restore, settings: message.options)
                ))
        }
        return plans
    }

    private func mySlots() throws(JobFailure) -> [SubtaskID: Int] {
        var result: [SubtaskID: Int] = [:]
        for task in message.tasks {
            guard slots.indices.contains(Int(task.slot)) else { throw mismatch("slot \(task.slot) of \(slots.count)") }
            result[SubtaskID(task.subtask)] = Int(task.slot)
        }
        return result
    }

    private func placements() throws(JobFailure) -> [VertexID: [UInt32]] {
        var result: [VertexID: [UInt32]] = [:]
        for placement in message.placements {
            guard placement.workers.allSatisfy({ message.workers.indices.contains(Int($0)) }) else {
                throw mismatch("a worker that is not in the list")
            }
            result[VertexID(placement.vertex)] = placement.workers
        }
        for vertex in graph.vertices where result[vertex.id]?.count != vertex.parallelism {
            throw mismatch("no worker for some subtask of \(vertex.name)")
        }
        return result
    }

    private func mismatch(_ what: String) -> JobFailure {
        JobFailure(domain: .system, recovery: .fail, message: "the JobManager's plan names \(what)", cause: "are all processes of one version?")
    }
}

extension RemoteOutput: ByteOutput {}
extension RemoteInput: ByteInput {}
