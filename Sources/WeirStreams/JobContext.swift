internal import WeirBase
package import WeirDataflow
package import WeirGraph

/// What defines a stream job.
public protocol StreamDefinition {
    /// Adds sources, transformations and sinks to `job`.
    ///
    /// Called once in every process that describes or runs a part of the job: it must add the same operators each time, given the
    /// same arguments.
    func define(in job: JobContext) throws
}

/// Where a job is put together: sources are added here, and everything else follows from the streams they give.
///
/// Not thread-safe: used within ``StreamDefinition/define(in:)``.
public final class JobContext {
    /// The name of the job, as `weir list` shows it unless it is submitted under another one.
    public let name: String

    /// The parallelism of every operator that does not say its own; in `1...maxParallelism`.
    public var parallelism: Int

    /// Key groups of the job, in `1...32_768`: the most that any keyed operator can be scaled to, fixed for as long as the job's state
    /// lives.
    public var maxParallelism: Int

    /// What the job asks of its checkpoints, over what the cluster's configuration says.
    public var checkpointing = CheckpointOverrides()

    /// What happens after a failure; nil as the cluster's configuration says.
    public var restartStrategy: RestartStrategy?

    private var nodes: [NodeDescription] = []
    private var problems: [String] = []

    package init(name: String, parallelism: Int = 1, maxParallelism: Int = KeyGroups.maxParallelismDefault) {
        self.name = name
        self.parallelism = parallelism
        self.maxParallelism = maxParallelism
    }

    /// Settings that the job overrides, by their names in the configuration.
    package var settings: [String: String] {
        checkpointing.settings.merging(restartStrategy?.settings ?? [:]) { _, job in job }
    }

    // MARK: - Building

    var hasRoom: Bool { nodes.count < StreamGraph.nodesMax }

    func add(_ node: NodeDescription) -> Int32 {
        let id = Int32(clamping: nodes.count)
        nodes.append(node)
        for input in node.inputs where input.job !== self {
            report("\(node.title) takes a stream of another job, \"\(input.job.name)\"", at: node.place)
        }
        if node.kind != .source, node.inputs.isEmpty {
            report("\(node.title) has no input: the union before it is of no streams", at: node.place)
        }
        return id
    }

    func report(_ problem: String, at place: Place) { problems.append("\(place): \(problem)") }

    /// The side output of a tag that an operator has already.
    func sideOutput(_ tag: String, of operation: Int32) -> (id: Int32, rowType: String)? {
        nodes.indices.first { nodes[$0].sideOutput == tag && nodes[$0].inputs.first?.node == operation }.map { (Int32($0), nodes[$0].rowType) }
    }

    func change(_ id: Int32, _ body: (inout NodeDescription) -> Void) { body(&nodes[Int(id)]) }

    // MARK: - Checking

    /// The graph with the code of its nodes.
    ///
    /// - Throws: `GraphError` with every problem, each with the line of the program that it comes from.
    package func build() throws -> JobProgram {
        let uids = resolveUIDs()
        var problems = self.problems
        var graph = StreamGraph(name: name, defaultParallelism: parallelism, maxParallelism: maxParallelism)
        checkRanges(&problems)
        checkUIDs(uids, &problems)
        var hasWatermarks = [Bool](repeating: false, count: nodes.count)
        var isConsumed = [Bool](repeating: false, count: nodes.count)
        for (index, node) in nodes.enumerated() {
            hasWatermarks[index] =
                node.kind == .source ? node.generatesWatermarks : node.inputs.allSatisfy { hasWatermarks[Int($0.node)] }
            if node.needsEventTime, !hasWatermarks[index] { problems.append(missingWatermarks(node, hasWatermarks)) }
            do { try node.validate?() } catch {
                problems.append("\(node.place): \(node.title): \(error)")
            }
            graph.nodes.append(
                StreamNode(
                    id: Int32(index), uid: uids[index], name: node.name, kind: node.kind, parallelism: width(of: node),
                    chaining: true, signature: node.signature))
            for input in node.inputs where input.job === self {
                isConsumed[Int(input.node)] = true
                graph.edges.append(edge(from: input, to: Int32(index), node, &problems))
            }
        }
        let conflicts = ClaimConflict.all(in: nodes)
        problems += conflicts.filter { $0.claim.severity == .error }.map(\.message)
        if !nodes.isEmpty, !nodes.contains(where: { $0.kind == .sink }) {
            let last = nodes.indices.last { !isConsumed[$0] } ?? 0
            problems.append("\(nodes[last].place): the job has no sink: end \(nodes[last].title) with .sink(to:uid:) or .discard()")
        }
        if !problems.isEmpty { throw GraphError(problems) }
        let checks = nodes.enumerated().compactMap { index, node in
            node.preflight.map {
                Preflight.Check(title: node.title, uid: uids[index], name: node.name, parallelism: width(of: node), run: $0)
            }
        }
        let warnings = conflicts.filter { $0.claim.severity == .warning }.map { PreflightFinding(.warning, $0.message) }
        return JobProgram(
            graph: graph, jobGraph: try graph.jobGraph(), settings: settings, operators: try operators(uids),
            preflight: Preflight(checks: checks, shared: warnings, jobSettings: settings))
    }

    private func operators(_ uids: [String]) throws -> OperatorTable {
        var targets: [Int32: [KeyedTarget]] = [:]
        for (index, node) in nodes.enumerated() {
            for input in node.inputs {
                if let exchange = input.exchange { targets[input.node, default: []].append(KeyedTarget(node: Int32(index), exchange: exchange)) }
            }
        }
        var table = OperatorTable()
        for (index, node) in nodes.enumerated() {
            let id = Int32(index)
            table.insert(try node.code.makeFactory(nodeID: id, uid: uids[index], name: node.name, targets: targets[id] ?? []))
        }
        return table
    }

    private func width(of node: NodeDescription) -> Int {
        // A side output is a part of the operator that fills it.
        if node.sideOutput != nil, let input = node.inputs.first { return width(of: nodes[Int(input.node)]) }
        if let own = node.parallelism { return own }
        return min(parallelism, node.parallelismMax ?? parallelism)
    }

    /// A forward edge between different parallelisms becomes round robin, as in Flink.
    private func edge(from input: StreamInput, to id: Int32, _ node: NodeDescription, _ problems: inout [String]) -> StreamEdge {
        let upstream = nodes[Int(input.node)]
        var partitioner = input.partitioner
        if partitioner == .forward, width(of: upstream) != width(of: node) { partitioner = .rebalance }
        if partitioner != .forward, !upstream.code.isEncodable {
            problems.append(
                "\(node.place): rows of type \(upstream.rowType) go from \(upstream.title) (parallelism \(width(of: upstream))) to "
                    + "\(node.title) (parallelism \(width(of: node))), perhaps to another process: mark the type @Record")
        }
        return StreamEdge(from: input.node, to: id, partitioner: partitioner, input: 0)
    }

    private func checkRanges(_ problems: inout [String]) {
        guard (1...KeyGroups.maxParallelismLimit).contains(maxParallelism) else {
            problems.append("max parallelism \(maxParallelism) is not in 1...\(KeyGroups.maxParallelismLimit)")
            return
        }
        if !(1...maxParallelism).contains(parallelism) {
            problems.append("the job's parallelism \(parallelism) is not in 1...\(maxParallelism) (its max parallelism)")
        }
        for node in nodes {
            guard let own = node.parallelism else { continue }
            if !(1...maxParallelism).contains(own) {
                problems.append(
                    "\(node.place): \(node.title) has parallelism \(own), which is not in 1...\(maxParallelism) (the job's max parallelism)")
            } else if let limit = node.parallelismMax, own > limit {
                problems.append("\(node.place): \(node.title) has parallelism \(own), but can use \(limit) at most")
            }
        }
    }

    private func checkUIDs(_ uids: [String], _ problems: inout [String]) {
        var first: [String: Int] = [:]
        for (index, node) in nodes.enumerated() {
            guard let other = first[uids[index]] else {
                first[uids[index]] = index
                continue
            }
            problems.append(
                "\(node.place): uid \"\(uids[index])\" of \(node.title) is already that of \(nodes[other].title) at \(nodes[other].place): "
                    + "every operator needs its own, its state is found by it")
        }
        for node in nodes where node.uid == "" { problems.append("\(node.place): \(node.title) has an empty uid") }
    }

    private func missingWatermarks(_ node: NodeDescription, _ hasWatermarks: [Bool]) -> String {
        var sources: [String] = []
        var queue = node.inputs.map { Int($0.node) }
        var seen: Set<Int> = []
        while let index = queue.popLast() {
            guard !hasWatermarks[index], seen.insert(index).inserted else { continue }
            if nodes[index].kind == .source { sources.append("\(nodes[index].title) at \(nodes[index].place)") }
            queue += nodes[index].inputs.map { Int($0.node) }
        }
        return "\(node.place): \(node.title) works in event time, but no watermarks come from \(sources.sorted().joined(separator: ", ")): "
            + "give the source a strategy, such as watermarks: .boundedOutOfOrderness(.seconds(5), timestamp: \\.timestamp)"
    }

    /// A node without a uid gets one out of what it does and what feeds it, so that unrelated changes of the program leave it alone.
    private func resolveUIDs() -> [String] {
        var uids: [String] = []
        var taken: [String: Int] = [:]
        for node in nodes {
            if let uid = node.uid {
                uids.append(uid)
                continue
            }
            let position =
                node.operation + "(" + node.inputs.map { uids.indices.contains(Int($0.node)) ? uids[Int($0.node)] : "" }.joined(separator: ",") + ")"
            let ordinal = taken[position, default: 0]
            taken[position] = ordinal + 1
            uids.append("\(node.operation)-\(hexadecimal(KeyHash.hash("\(position)#\(ordinal)")).prefix(12))")
        }
        return uids
    }
}

/// A job as defined and checked: what runs, and with which code.
package struct JobProgram: Sendable {
    package let graph: StreamGraph
    package let jobGraph: JobGraph
    /// Settings that the job overrides, by their names in the configuration.
    package let settings: [String: String]
    /// The operators' code, by stream node id.
    package let operators: OperatorTable
    /// The connectors' checks at submission.
    package let preflight: Preflight
}

/// A line of the job's program.
struct Place: Sendable, CustomStringConvertible {
    let file: String
    let line: Int
    init(_ file: StaticString, _ line: Int) {
        self.file = "\(file)"
        self.line = line
    }
    var description: String { "\(file):\(line)" }
}

/// An edge into an operator that is being added.
struct StreamInput {
    let job: JobContext
    let node: Int32
    var partitioner: Partitioner
    /// Set where the program asked for an exchange.
    var exchange: (any RowExchange)?
}

/// One transformation as it is collected.
struct NodeDescription {
    let operation: String
    var uid: String?
    var name: String
    let kind: StreamNode.Kind
    var inputs: [StreamInput]
    let place: Place
    let signature: String
    let rowType: String
    let code: any NodeCode
    var parallelism: Int?
    var parallelismMax: Int?
    var generatesWatermarks = false
    var needsEventTime = false
    /// The tag of a side output: the one input is the operator that fills it.
    var sideOutput: String?
    var validate: (() throws -> Void)?
    var claims: () -> [ResourceClaim] = { [] }
    var preflight: (@Sendable (PreflightSetup) -> [PreflightFinding])?

    var title: String { kind == .source ? "source \"\(name)\"" : kind == .sink ? "sink \"\(name)\"" : "\"\(name)\"" }
}
