import Synchronization
import WeirBase
import WeirGraph

/// One operator of a job as code, found by its node in the graph. Whoever describes the job makes one a node, as a ``TypedNode``.
///
/// Every worker makes the same factories; tasks are built from them on slot threads.
public class NodeFactory: @unchecked Sendable {  // Subclasses hold immutable values and what a Mutex guards.
    public let nodeID: Int32

    @usableFromInline init(nodeID: Int32) { self.nodeID = nodeID }

    /// The codec of the rows that the operator emits; nil if they cannot leave the process.
    public var codec: BatchCodec? { nil }

    func makeOperator(output: AnyCollector) throws -> AnyOperator { preconditionFailure("NodeFactory is abstract") }
    func makeChained(to node: ChainNode) -> AnyCollector { preconditionFailure("NodeFactory is abstract") }
    func makeFanOut(_ targets: [AnyCollector]) -> AnyCollector { preconditionFailure("NodeFactory is abstract") }
    func makeEdge(_ port: OutputPort, _ edge: EdgeShape) throws -> AnyCollector { preconditionFailure("NodeFactory is abstract") }
}

/// What a collector has to know of its edge.
struct EdgeShape {
    var partitioner: Partitioner
    var toNode: Int32
    var input: Int32
    var maxParallelism: Int
    /// The sender.
    var subtask: Int
}

/// The factory of an operator which emits rows of one type.
public final class TypedNode<Out: Sendable>: NodeFactory, @unchecked Sendable {  // The base class says why.
    private struct Target: Hashable {
        var node: Int32
        var input: Int32
    }

    @usableFromInline let operations: RowOperations<Out>
    @usableFromInline let make: @Sendable (Collector<Out>) throws -> AnyOperator
    private let hashers = Mutex<[Target: @Sendable (Batch<Out>) -> Void]>([:])

    /// - Parameters:
    ///   - nodeID: The node in the stream graph.
    ///   - operations: Made where `Out` is concrete, so that its loops are specialised.
    ///   - make: Makes the operator of one subtask, which emits to the given collector. Called once a subtask and attempt.
    public init(nodeID: Int32, operations: RowOperations<Out>, make: @escaping @Sendable (Collector<Out>) throws -> AnyOperator) {
        self.operations = operations
        self.make = make
        super.init(nodeID: nodeID)
    }

    public override var codec: BatchCodec? { operations.codec }

    /// Says how rows on the hash-partitioned edge to an input of another node are keyed.
    ///
    /// - Parameter hasher: Fills `keyHashes` for all rows of the batch, with `KeyHash` of the key's bytes. Called once a batch: make it where
    ///   `Out` is concrete.
    public func setKeyHasher(toNode: Int32, input: Int32 = 0, _ hasher: @escaping @Sendable (Batch<Out>) -> Void) {
        hashers.withLock { $0[Target(node: toNode, input: input)] = hasher }
    }

    override func makeOperator(output: AnyCollector) throws -> AnyOperator { try make(unsafeDowncast(output, to: Collector<Out>.self)) }

    override func makeChained(to node: ChainNode) -> AnyCollector { ChainedCollector<Out>(to: node) }

    override func makeFanOut(_ targets: [AnyCollector]) -> AnyCollector {
        switch targets.count {
        case 0: Collector<Out>()
        case 1: targets[0]
        default: FanOutCollector<Out>(targets.map { unsafeDowncast($0, to: Collector<Out>.self) })
        }
    }

    override func makeEdge(_ port: OutputPort, _ edge: EdgeShape) throws -> AnyCollector {
        switch edge.partitioner {
        case .forward, .global: return SingleTargetCollector<Out>(port)
        case .rebalance: return RebalanceCollector<Out>(port, first: edge.subtask)
        case .broadcast: return BroadcastCollector<Out>(port)
        case .hash:
            guard let hasher = hashers.withLock({ $0[Target(node: edge.toNode, input: edge.input)] }) else {
                throw JobFailure(
                    domain: .system, recovery: .fail,
                    message: "no key selector for the edge from node \(nodeID) to input \(edge.input) of node \(edge.toNode)")
            }
            return HashCollector<Out>(port, maxParallelism: edge.maxParallelism, operations: operations, hasher: hasher)
        }
    }
}

/// The code of a job: one factory a node.
public struct OperatorTable: Sendable {
    private var factories: [Int32: NodeFactory] = [:]

    public init() {}
    public init(_ factories: some Sequence<NodeFactory>) {
        for factory in factories { insert(factory) }
    }

    public mutating func insert(_ factory: NodeFactory) { factories[factory.nodeID] = factory }
    public subscript(nodeID: Int32) -> NodeFactory? { factories[nodeID] }
}
