import Synchronization
import Testing
import WeirBase
import WeirGraph

@testable import WeirDataflow

/// Rows `source * 1,000,000 + index`, in batches of 1 to 5.
private final class NumberSource: AnySource {
    static let rowsPerSubtask: Int64 = 120
    private let collector: Collector<Int64>
    private var context: OperatorContext?
    private var next: Int64 = 0
    init(_ collector: Collector<Int64>) { self.collector = collector }

    override func open(_ context: OperatorContext) { self.context = context }

    override func poll(budget: Int) throws -> SourceStatus {
        guard next < Self.rowsPerSubtask else { return .finished }
        let first = Int64(context?.subtask ?? 0) * 1_000_000
        let rows = (next..<min(next + 1 + next % 5, Self.rowsPerSubtask)).map { first + $0 }
        next += Int64(rows.count)
        try collector.emit(Batch(rows: rows))
        if next % 3 == 0 { try context?.emitWatermark(next) }
        return .more
    }

    override func snapshot(into builder: SnapshotBuilder) {
        var writer = ByteWriter()
        writer.writeI64(Int64(context?.subtask ?? 0))
        writer.writeI64(next)
        builder.addList("position", [writer.finish()])
    }

    override func restore(from state: RestoredState) throws {
        for entry in state.union("position") {
            let numbers = try decodedNumbers(entry)
            if numbers[0] == Int64(context?.subtask ?? 0) { next = numbers[1] }
        }
    }
}

/// Counts the rows of each key and source, and notices one that is missing, double or out of order.
private final class OrderedFold: AnyOperator {
    static let keys: Int64 = 7
    private let collector: Collector<Int64>
    private var context: OperatorContext?
    /// By key and source: the last index.
    private var last: [[Int64]: Int64] = [:]
    private let faults: Faults
    init(_ collector: Collector<Int64>, faults: Faults) {
        self.collector = collector
        self.faults = faults
    }

    override func open(_ context: OperatorContext) { self.context = context }

    override func process(_ batch: AnyBatch, input: Int) throws {
        for row in batch.int64Rows {
            let (source, index) = (row / 1_000_000, row % 1_000_000)
            let place = [index % Self.keys, source]
            let expected = last[place].map { $0 + Self.keys } ?? place[0]
            if index != expected { faults.add("row \(index) of key \(place[0]) and source \(source) in the place of \(expected)") }
            last[place] = index
        }
        try collector.emit(unsafeDowncast(batch, to: Batch<Int64>.self))
    }

    override func snapshot(into builder: SnapshotBuilder) {
        guard let context else { return }
        var writer = ByteWriter()
        for (place, index) in last { for number in place + [index] { writer.writeI64(number) } }
        builder.addKeyed("last", keyGroups: context.keyGroups, EncodedStatePart(writer.finish()))
    }

    override func restore(from state: RestoredState) throws {
        guard let context else { return }
        let filter = KeyGroupFilter(groups: context.keyGroups, maxParallelism: context.maxParallelism)
        for part in state.keyed {
            let numbers = try decodedNumbers(part.bytes)
            for entry in stride(from: 0, to: numbers.count, by: 3) where filter.contains(hash: KeyHash.hash(UInt64(numbers[entry]))) {
                last[[numbers[entry], numbers[entry + 1]]] = numbers[entry + 2]
            }
        }
    }
}

/// Keeps all rows.
private final class Collecting: AnyOperator {
    private var rows: [Int64] = []
    private let all: Mutex<[Int64]>
    private let result: Faults
    init(result: Faults) {
        self.result = result
        all = Mutex([])
    }

    override func process(_ batch: AnyBatch, input: Int) { rows += batch.int64Rows }
    override func endOfInput() { result.addRows(rows) }

    override func snapshot(into builder: SnapshotBuilder) {
        builder.addList(
            "rows",
            rows.map { row in
                var writer = ByteWriter()
                writer.writeI64(row)
                return writer.finish()
            })
    }

    override func restore(from state: RestoredState) throws { rows = try state.list("rows").map { try decodedNumbers($0)[0] } }
}

private func decodedNumbers(_ bytes: [UInt8]) throws -> [Int64] {
    try bytes.withUnsafeBytes { bytes in
        var reader = ByteReader(bytes)
        var numbers: [Int64] = []
        while reader.remaining > 0 { numbers.append(try reader.readI64()) }
        return numbers
    }
}

private final class Faults: Sendable {
    private let list = Mutex<[String]>([])
    private let rows = Mutex<[Int64]>([])
    func add(_ fault: String) { list.withLock { $0.append(fault) } }
    func addRows(_ rows: [Int64]) { self.rows.withLock { $0 += rows } }
    var all: [String] { list.withLock { $0 } }
    var sortedRows: [Int64] { rows.withLock { $0.sorted() } }
    func forgetRows() { rows.withLock { $0 = [] } }
}

/// Sources, a hash edge, folds, a rebalance edge, sinks: every task on a slot of its own, run in a random order, stopped and restored.
private struct Simulation {
    static let sources = 2
    let faults = Faults()
    private var random: SplitMix64
    private let settings: [String: String]
    private let clock = TestClock()
    private var graph: JobGraph
    private var slots: [Slot] = []
    private var recorder = Recorder()
    private var epoch: UInt32 = 0
    private var nextCheckpoint: UInt64 = 1
    private var pending: UInt64?
    private var completed: (id: UInt64, snapshots: [SubtaskID: TaskSnapshot])?
    private(set) var completedCount = 0
    private(set) var restoredRowsInFlight = 0

    init(seed: UInt64, settings: [String: String]) throws {
        random = SplitMix64(seed: seed)
        self.settings = settings
        graph = Self.graph(folds: 2, sinks: 2)
        try deploy()
    }

    private static func graph(folds: Int, sinks: Int) -> JobGraph {
        let nodes = [("source", StreamNode.Kind.source), ("fold", .operator), ("sink", .sink)].enumerated().map { index, node in
            JobNode(id: Int32(index + 1), uid: node.0, name: node.0, kind: node.1)
        }
        let parallelisms = [sources, folds, sinks]
        return JobGraph(
            name: "simulation", maxParallelism: 16,
            vertices: nodes.enumerated().map { JobVertex(id: VertexID(Int32($0.offset)), nodes: [$0.element], parallelism: parallelisms[$0.offset]) },
            edges: [
                JobEdge(id: 0, from: VertexID(0), fromNode: 1, to: VertexID(1), partitioner: .hash),
                JobEdge(id: 1, from: VertexID(1), fromNode: 2, to: VertexID(2), partitioner: .rebalance),
            ])
    }

    private mutating func pick(_ range: Range<Int>) -> Int { Int.random(in: range, using: &random) }

    private var table: OperatorTable {
        let operations = RowOperations(Int64.self)
        let source = TypedNode<Int64>(nodeID: 1, operations: operations) { NumberSource($0) }
        source.setKeyHasher(toNode: 2) { batch in
            for row in 0..<batch.count { batch.keyHashes[row] = KeyHash.hash(UInt64(batch.rows[row] % 1_000_000 % OrderedFold.keys)) }
        }
        let fold = TypedNode<Int64>(nodeID: 2, operations: operations) { [faults] in OrderedFold($0, faults: faults) }
        let sink = TypedNode<Int64>(nodeID: 3, operations: operations) { [faults] _ in Collecting(result: faults) }
        return OperatorTable([source, fold, sink])
    }

    /// Makes every task anew, from the last completed checkpoint.
    private mutating func deploy() throws {
        epoch += 1
        recorder = Recorder()
        pending = nil
        faults.forgetRows()
        let table = table
        slots = graph.subtasks.map { _ in
            Slot(environment: SlotEnvironment(operators: table, clock: clock, waker: SlotWaker(thread: NoWaker())), listener: recorder)
        }
        let isRemote = random.next() % 2 == 0
        let capacity = pick(1..<4)
        var outputs: [SubtaskID: [TaskPlan.Output]] = [:]
        var inputs: [SubtaskID: [TaskPlan.Input]] = [:]
        for edge in graph.edges {
            let (senders, receivers) = (graph.vertex(edge.from)!.parallelism, graph.vertex(edge.to)!.parallelism)
            var ends: [[InputEnd]] = Array(repeating: [], count: receivers)
            for sender in 0..<senders {
                var channels: [OutputEnd] = []
                for receiver in 0..<receivers {
                    let pipe = BytePipe(room: capacity)
                    let channel = LocalChannel(capacity: capacity)
                    channels.append(isRemote ? .remote(pipe) : .local(channel))
                    ends[receiver].append(isRemote ? .remote(pipe) : .local(channel))
                }
                outputs[SubtaskID(vertex: edge.from, index: Int32(sender)), default: []].append(.init(edge: edge, channels: channels))
            }
            for receiver in 0..<receivers {
                inputs[SubtaskID(vertex: edge.to, index: Int32(receiver)), default: []].append(.init(edge: edge, channels: ends[receiver]))
            }
        }
        for (slot, subtask) in zip(slots, graph.subtasks) {
            slot.submit(
                .deploy(
                    TaskPlan(
                        attempt: TaskAttempt(epoch: Epoch(epoch), subtask: subtask), graph: graph, inputs: inputs[subtask] ?? [],
                        outputs: outputs[subtask] ?? [], isCheckpointed: true, restore: try restored(for: subtask), settings: settings)))
        }
    }

    private mutating func restored(for subtask: SubtaskID) throws -> [OperatorID: RestoredState]? {
        guard let completed, let vertex = graph.vertex(subtask.vertex) else { return nil }
        var keyed: [RestoredState.Keyed] = []
        var unions: [String: [[UInt8]]] = [:]
        for (_, snapshot) in completed.snapshots.sorted(by: { $0.key < $1.key }) where snapshot.operators[0].operatorID == vertex.nodes[0].operatorID
        {
            for part in snapshot.operators[0].keyed {
                var writer = ByteWriter()
                part.part.encode(into: &writer)
                keyed.append(.init(name: part.name, keyGroups: part.keyGroups, bytes: writer.finish()))
            }
            for (name, entries) in snapshot.operators[0].operatorState { unions[name, default: []] += entries }
        }
        restoredRowsInFlight += unions[ChannelState.listName]?.count ?? 0
        let lists = unions.mapValues { entries in entries.indices.filter { $0 % vertex.parallelism == Int(subtask.index) }.map { entries[$0] } }
        return [vertex.nodes[0].operatorID: RestoredState(checkpoint: completed.id, keyed: keyed, lists: lists, unions: unions)]
    }

    /// The snapshots of the pending checkpoint, if it is complete.
    private mutating func complete() {
        guard let id = pending else { return }
        let taken = recorder.snapshots.withLock { $0.compactMapValues { $0[id] } }
        guard taken.count == graph.subtasks.count else { return }
        let resolved = Mutex<[SubtaskID: TaskSnapshot]>([:])
        for (task, snapshot) in taken {
            snapshot.resolve { result in
                if case .success(let snapshot) = result { resolved.withLock { $0[task.subtask] = snapshot } }
            }
        }
        let snapshots = resolved.withLock { $0 }
        guard snapshots.count == graph.subtasks.count else { return }
        completed = (id, snapshots)
        completedCount += 1
        pending = nil
        for slot in slots { slot.submit(.checkpointCompleted(Epoch(epoch), CheckpointID(id))) }
    }

    private mutating func trigger() {
        guard pending == nil else { return }
        pending = nextCheckpoint
        let barrier = Barrier(checkpoint: nextCheckpoint, timestamp: clock.wallTime.milliseconds)
        nextCheckpoint += 1
        for (slot, subtask) in zip(slots, graph.subtasks) where subtask.vertex == VertexID(0) {
            slot.submit(.trigger(TaskAttempt(epoch: Epoch(epoch), subtask: subtask), barrier))
        }
    }

    private var isOver: Bool {
        graph.subtasks.allSatisfy { subtask in
            recorder.states(TaskAttempt(epoch: Epoch(epoch), subtask: subtask)).contains { $0 == .finishing || $0 == .finished }
        }
    }

    /// - Returns: Whether the data came to its end.
    mutating func run() throws -> Bool {
        var restarts = 0
        for _ in 0..<20_000 {
            let first = Self.sources
            switch pick(0..<100) {
            case 0..<70: _ = slots[pick(0..<first)].runOnce()  // Faster than the others: everything behind fills up.
            case 70..<93: _ = slots[pick(first..<slots.count)].runOnce()
            case 93..<97: trigger()
            case 97: clock.advance(milliseconds: 20)
            default:
                if let id = pending, pick(0..<10) == 0 {
                    pending = nil
                    for slot in slots { slot.submit(.checkpointAborted(Epoch(epoch), CheckpointID(id))) }
                } else if completedCount > restarts, restarts < 6, pick(0..<4) == 0 {
                    restarts += 1
                    graph = Self.graph(folds: pick(1..<4), sinks: pick(1..<4))
                    try deploy()
                }
            }
            complete()
            if isOver { return true }
        }
        return false
    }

    var failures: [JobFailure] { graph.subtasks.compactMap { recorder.failure(TaskAttempt(epoch: Epoch(epoch), subtask: $0)) } }
}

@Suite struct OvertakingSimulationTests {
    private static let modes: [[String: String]] = [
        [:], [BarrierAlignment.unalignedKey: "true"], [BarrierAlignment.unalignedKey: "true", BarrierAlignment.timeoutKey: "50ms"],
    ]

    /// Any order of steps, full channels, aborted checkpoints, restores at other parallelisms.
    @Test(arguments: 0..<90 as Range<UInt64>) func everyRowCountsExactlyOnceAndInOrder(seed: UInt64) throws {
        var simulation = try Simulation(seed: seed, settings: Self.modes[Int(seed % 3)])
        let isOver = try simulation.run()
        #expect(simulation.failures == [])
        #expect(isOver)
        #expect(simulation.faults.all == [])
        let rows = (0..<Int64(Simulation.sources)).flatMap { source in (0..<NumberSource.rowsPerSubtask).map { source * 1_000_000 + $0 } }
        #expect(simulation.faults.sortedRows == rows)
    }

    @Test func theSimulationRestoresRowsInFlightOnlyWhereBarriersOvertake() throws {
        for (mode, settings) in Self.modes.enumerated() {
            var (checkpoints, inFlight) = (0, 0)
            for seed in 0..<8 as Range<UInt64> {
                var simulation = try Simulation(seed: seed, settings: settings)
                _ = try simulation.run()
                checkpoints += simulation.completedCount
                inFlight += simulation.restoredRowsInFlight
            }
            #expect(checkpoints > 8)
            #expect((inFlight > 0) == (mode > 0))
        }
    }
}
