import WeirBase

/// One operator of a task's chain with what follows it: a tree, walked from the head.
final class ChainNode: ControlOutput {
    let nodeID: Int32
    let name: String
    let operatorID: OperatorID
    /// Kept apart from the operator, which only gets the context.
    let context: OperatorContext
    let taskManager: String
    /// Set while the chain is built, leaves first; not changed afterwards.
    var operation: AnyOperator?
    var children: [ChainNode] = []
    var ports: [OutputPort] = []
    var output: AnyCollector?
    let rowsIn = Counter()
    private var controlsOut = 0
    /// The last one sent on.
    private(set) var watermark = Int64.min
    private var isIdle = false

    init(nodeID: Int32, name: String, operatorID: OperatorID, context: OperatorContext, taskManager: String) {
        self.nodeID = nodeID
        self.name = name
        self.operatorID = operatorID
        self.context = context
        self.taskManager = taskManager
        context.control = self
    }

    /// The operator; every call into it goes through here, so that what it throws names it.
    func call<Result>(_ body: (AnyOperator) throws -> Result) throws -> Result {
        guard let operation else { preconditionFailure("a chain node is used before it is built") }
        do {
            return try body(operation)
        } catch {
            throw placed(error)
        }
    }

    private func placed(_ error: any Error) -> JobFailure {
        var failure =
            error as? JobFailure
            ?? JobFailure(domain: .user, recovery: .restart, message: "the operator threw \(type(of: error))", cause: "\(error)")
        if failure.place == nil {
            failure.place = .init(
                operatorName: name, subtask: context.subtask, parallelism: context.parallelism, taskManager: taskManager)
        }
        return failure
    }

    func process(_ batch: AnyBatch, input: Int) throws {
        rowsIn.add(batch.count)
        try call { try $0.process(batch, input: input) }
    }

    /// Changes whenever the operator emits something.
    var emissions: Int {
        controlsOut &+ children.reduce(0) { $0 &+ $1.rowsIn.value } &+ ports.reduce(0) { $0 &+ $1.rows.value }
    }

    /// This node and all behind it, parents first.
    func visit(_ body: (ChainNode) throws -> Void) rethrows {
        try body(self)
        for child in children { try child.visit(body) }
    }

    func receiveWatermark(_ watermark: Int64) throws {
        let forwards = try call { operation in
            try operation.advanceWatermark(watermark)
            try operation.flush()
            return operation.forwardsWatermarks
        }
        if forwards { try emitWatermark(watermark) }
    }

    func emitWatermark(_ watermark: Int64) throws {
        guard watermark > self.watermark, watermark < .max else { return }
        if isIdle { try emitStatus(idle: false) }  // A watermark is a sign of life.
        self.watermark = watermark
        controlsOut &+= 1
        try output?.flush()
        for child in children { try child.receiveWatermark(watermark) }
        for port in ports { try port.broadcast(.watermark(watermark)) }
    }

    func receiveStatus(idle: Bool) throws {
        let forwards = try call { operation in
            try operation.inputStatus(idle: idle)
            try operation.flush()
            return operation.forwardsWatermarks
        }
        if forwards { try emitStatus(idle: idle) }
    }

    func emitStatus(idle: Bool) throws {
        guard idle != isIdle else { return }
        isIdle = idle
        controlsOut &+= 1
        try output?.flush()
        for child in children { try child.receiveStatus(idle: idle) }
        for port in ports { try port.broadcast(.status(idle: idle)) }
    }

    /// Sends on all rows that are held back anywhere in the chain.
    func flush() throws {
        try visit { node in
            try node.call { try $0.flush() }
            try node.output?.flush()
        }
    }

    /// Ends the data of this node and all behind it. Each gets its end only when the one before emitted its last row.
    func end() throws {
        try call { operation in
            try operation.endOfInput()
            try operation.flush()
            try operation.advanceWatermark(.max)
            try operation.flush()
        }
        watermark = .max
        for child in children { try child.end() }
        try output?.flush()
        for port in ports {
            try port.broadcast(.watermark(.max))
            try port.broadcast(.endOfData)
        }
    }

    /// Captures the state of the chain, rows that it held back sent on before.
    func capture(at barrier: Barrier) throws -> TaskSnapshot {
        try visit { node in
            try node.call { operation in
                try operation.prepareSnapshot(barrier.checkpoint)
                try operation.flush()
            }
            try node.output?.flush()
        }
        var operators: [OperatorSnapshot] = []
        try visit { node in
            let builder = SnapshotBuilder(checkpoint: barrier.checkpoint, isSavepoint: barrier.flags.contains(.savepoint))
            try node.call { try $0.snapshot(into: builder) }
            operators.append(builder.finish(operatorID: node.operatorID))
        }
        return TaskSnapshot(checkpoint: barrier.id, operators: operators)
    }

    /// Sends the barrier on, behind the rows that ``capture(at:)`` or ``end()`` flushed.
    func forward(_ barrier: Barrier) throws {
        try visit { node in
            for port in node.ports { try port.broadcast(.barrier(barrier)) }
        }
    }

    /// Tells what follows of a barrier past whatever is on its way.
    func announce(_ barrier: Barrier) {
        visit { node in
            for port in node.ports { port.announce(barrier) }
        }
    }
}
