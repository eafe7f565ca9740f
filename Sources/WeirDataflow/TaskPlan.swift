package import WeirBase
package import WeirGraph

/// One subtask of one execution attempt.
package struct TaskAttempt: Hashable, Sendable, Comparable, CustomStringConvertible {
    package let epoch: Epoch
    package let subtask: SubtaskID

    package init(epoch: Epoch, subtask: SubtaskID) {
        self.epoch = epoch
        self.subtask = subtask
    }

    package var description: String { "\(subtask)@\(epoch)" }
    package static func < (left: Self, right: Self) -> Bool { (left.epoch, left.subtask) < (right.epoch, right.subtask) }
}

/// The sending end of a channel, as deployed. The codec of a remote one is that of the edge's sender.
package enum OutputEnd: Sendable {
    case local(LocalChannel)
    case remote(any ByteOutput)
}

/// The receiving end of a channel, as deployed.
package enum InputEnd: Sendable {
    case local(LocalChannel)
    case remote(any ByteInput)
}

/// Everything a slot needs to make one task.
package struct TaskPlan: Sendable {
    package struct Output: Sendable {
        package let edge: JobEdge
        /// By receiving subtask; for a forward edge the one receiver only.
        package let channels: [OutputEnd]

        package init(edge: JobEdge, channels: [OutputEnd]) {
            self.edge = edge
            self.channels = channels
        }
    }

    package struct Input: Sendable {
        package let edge: JobEdge
        /// By sending subtask; for a forward edge the one sender only.
        package let channels: [InputEnd]

        package init(edge: JobEdge, channels: [InputEnd]) {
            self.edge = edge
            self.channels = channels
        }
    }

    package let job: JobID
    package let attempt: TaskAttempt
    package let graph: JobGraph
    /// In the order of `graph.edges`.
    package let inputs: [Input]
    package let outputs: [Output]
    /// Whether a finished task waits for a last checkpoint.
    package let isCheckpointed: Bool
    /// The state of its operators; nil if the job starts from nothing. An operator that is not in it starts empty.
    package let restore: [OperatorID: RestoredState]?
    /// The job's options by their names in the configuration; connectors read theirs.
    package let settings: [String: String]

    package init(
        job: JobID = JobID(high: 0, low: 0), attempt: TaskAttempt, graph: JobGraph, inputs: [Input], outputs: [Output], isCheckpointed: Bool,
        restore: [OperatorID: RestoredState]? = nil, settings: [String: String] = [:]
    ) {
        self.job = job
        self.attempt = attempt
        self.graph = graph
        self.inputs = inputs
        self.outputs = outputs
        self.isCheckpointed = isCheckpointed
        self.restore = restore
        self.settings = settings
    }
}

/// What tasks get from the slot that runs them.
package struct SlotEnvironment: Sendable {
    package let operators: OperatorTable
    package let clock: any WeirClock
    package let waker: SlotWaker
    /// Shown in failures.
    package let taskManager: String
    /// Rows that a source is asked for at a time.
    package var pollBudget = Batch<Int>.defaultCapacity
    /// The longest that a row waits for its batch to fill: `execution.buffer-timeout`.
    package var bufferTimeout = Duration.milliseconds(100)
    /// One for all slots of a process.
    package var alignment: WatermarkAlignmentHub

    package init(
        operators: OperatorTable, clock: any WeirClock, waker: SlotWaker, taskManager: String = "",
        alignment: WatermarkAlignmentHub = WatermarkAlignmentHub()
    ) {
        self.alignment = alignment
        self.operators = operators
        self.clock = clock
        self.waker = waker
        self.taskManager = taskManager
    }
}

/// Builds the chain and the gate of a task.
struct TaskBuilder {
    let plan: TaskPlan
    let environment: SlotEnvironment
    private(set) var ports: [OutputPort] = []
    private(set) var remoteOutputs: [RemoteOutputChannel] = []
    private(set) var remoteInputs: [RemoteInputChannel] = []
    let cancellation = CancellationFlag()
    private let vertex: JobVertex
    private let subtask: Int

    init(plan: TaskPlan, environment: SlotEnvironment) throws {
        self.plan = plan
        self.environment = environment
        guard let vertex = plan.graph.vertex(plan.attempt.subtask.vertex) else {
            throw Self.mismatch("the graph has no vertex \(plan.attempt.subtask.vertex)")
        }
        subtask = Int(plan.attempt.subtask.index)
        guard (0..<vertex.parallelism).contains(subtask) else { throw Self.mismatch("vertex \(vertex.name) has no subtask \(subtask)") }
        self.vertex = vertex
    }

    static func mismatch(_ message: String) -> JobFailure {
        JobFailure(domain: .system, recovery: .fail, message: "cannot build the task: \(message)")
    }

    private func factory(_ node: Int32) throws -> NodeFactory {
        guard let factory = environment.operators[node] else { throw Self.mismatch("the job's code has no operator for node \(node)") }
        return factory
    }

    /// The head of the chain, all operators made and none opened.
    mutating func makeChain() throws -> ChainNode {
        guard let head = vertex.nodes.first else { throw Self.mismatch("vertex \(vertex.name) has no operators") }
        var visited: Set<Int32> = []
        return try makeNode(head, visited: &visited)
    }

    private mutating func makeNode(_ node: JobNode, visited: inout Set<Int32>) throws -> ChainNode {
        guard visited.insert(node.id).inserted else { throw Self.mismatch("the chain of \(vertex.name) is not a tree") }
        let factory = try factory(node.id)
        let context = OperatorContext(
            operatorID: node.operatorID, operatorName: node.name, subtask: subtask, parallelism: vertex.parallelism,
            maxParallelism: plan.graph.maxParallelism,
            keyGroups: KeyGroups.range(subtask: subtask, parallelism: vertex.parallelism, maxParallelism: plan.graph.maxParallelism),
            isRestored: plan.restore?[node.operatorID] != nil, waker: environment.waker, clock: environment.clock, settings: plan.settings,
            cancellation: cancellation, job: plan.job, epoch: plan.attempt.epoch)
        context.alignment = environment.alignment
        let chained = ChainNode(
            nodeID: node.id, name: node.name, operatorID: node.operatorID, context: context, taskManager: environment.taskManager)
        var collectors: [AnyCollector] = []
        for edge in vertex.chainEdges where edge.from == node.id {
            guard let next = vertex.nodes.first(where: { $0.id == edge.to }) else {
                throw Self.mismatch("the chain of \(vertex.name) names node \(edge.to), which it does not have")
            }
            let child = try makeNode(next, visited: &visited)
            chained.children.append(child)
            if let sideOutput = child.operation as? AnySideOutput {
                context.sideOutputs[sideOutput.tag] = sideOutput
            } else {
                collectors.append(factory.makeChained(to: child))
            }
        }
        for output in plan.outputs where output.edge.fromNode == node.id {
            let (port, collector) = try makeOutput(output, factory: factory)
            chained.ports.append(port)
            collectors.append(collector)
        }
        let collector = factory.makeFanOut(collectors)
        chained.output = collector
        chained.operation = try chained.build { try factory.makeOperator(output: collector) }
        return chained
    }

    private mutating func makeOutput(_ output: TaskPlan.Output, factory: NodeFactory) throws -> (OutputPort, AnyCollector) {
        guard let receiver = plan.graph.vertex(output.edge.to), let toNode = receiver.nodes.first?.id else {
            throw Self.mismatch("edge \(output.edge.id) leads nowhere")
        }
        let expected = output.edge.partitioner == .forward ? 1 : receiver.parallelism
        guard output.channels.count == expected else {
            throw Self.mismatch("edge \(output.edge.id) has \(output.channels.count) channels and not \(expected)")
        }
        var channels: [any OutputChannel] = []
        for end in output.channels {
            switch end {
            case .local(let channel): channels.append(channel)
            case .remote(let bytes):
                let channel = RemoteOutputChannel(output: bytes, codec: try codec(factory, of: output.edge))
                remoteOutputs.append(channel)
                channels.append(channel)
            }
        }
        let port = OutputPort(channels: channels)
        ports.append(port)
        let shape = EdgeShape(
            partitioner: output.edge.partitioner, toNode: toNode, input: output.edge.input, maxParallelism: plan.graph.maxParallelism,
            subtask: subtask)
        return (port, try factory.makeEdge(port, shape))
    }

    private func codec(_ factory: NodeFactory, of edge: JobEdge) throws -> BatchCodec {
        guard let codec = factory.codec else {
            throw JobFailure(
                domain: .configuration, recovery: .fail,
                message: "the rows of node \(edge.fromNode) have no binary coding (@Record), and edge \(edge.id) leaves the process")
        }
        return codec
    }

    mutating func makeGate(_ mode: BarrierAlignment) throws -> InputGate {
        var channels: [(channel: any InputChannel, input: Int, origin: ChannelOrigin?)] = []
        for input in plan.inputs {
            let sender = try factory(input.edge.fromNode)
            for (position, end) in input.channels.enumerated() {
                let origin = origin(of: input.edge, channel: position, codec: sender.codec)
                switch end {
                case .local(let channel): channels.append((channel, Int(input.edge.input), origin))
                case .remote(let bytes):
                    let channel = RemoteInputChannel(input: bytes, codec: try codec(sender, of: input.edge))
                    remoteInputs.append(channel)
                    channels.append((channel, Int(input.edge.input), origin))
                }
            }
        }
        return InputGate(channels, mode: mode)
    }

    /// Nil where no barrier may overtake the rows: those without a binary coding cannot be kept, and those of a broadcast edge, of which each
    /// receiver has seen others when the barrier overtakes them, could not be given to another number of receivers.
    private func origin(of edge: JobEdge, channel: Int, codec: BatchCodec?) -> ChannelOrigin? {
        guard edge.partitioner != .broadcast, let codec, let sender = plan.graph.vertex(edge.from),
            let node = sender.nodes.first(where: { $0.id == edge.fromNode })
        else { return nil }
        return ChannelOrigin(
            sender: node.operatorID, input: edge.input, from: edge.partitioner == .forward ? subtask : channel,
            fromParallelism: sender.parallelism, to: subtask, toParallelism: vertex.parallelism, codec: codec)
    }

    func makeChannelRestore() -> ChannelRestore { ChannelRestore(plan: plan, vertex: vertex, operators: environment.operators) }
}

extension ChainNode {
    /// Makes the operator; what its initialiser throws names it.
    fileprivate func build(_ body: () throws -> AnyOperator) throws -> AnyOperator {
        do {
            return try body()
        } catch var failure as JobFailure {
            if failure.place == nil {
                failure.place = .init(
                    operatorName: name, subtask: context.subtask, parallelism: context.parallelism, taskManager: taskManager)
            }
            throw failure
        }
    }
}
