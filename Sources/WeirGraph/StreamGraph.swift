internal import WeirBase

/// How rows of an edge find their subtask.
package enum Partitioner: UInt8, Sendable, CaseIterable {
    /// Subtask i to subtask i: equal parallelism on both sides. The only one that can be chained.
    case forward = 0
    /// By key group.
    case hash = 1
    /// Round robin.
    case rebalance = 2
    /// To all.
    case broadcast = 3
    /// To subtask 0.
    case global = 4
}

/// One transformation as the program wrote it.
package struct StreamNode: Sendable, Equatable {
    package enum Kind: UInt8, Sendable {
        case source = 0
        case `operator` = 1
        case sink = 2
    }

    package var id: Int32
    /// Unique in the job; what state is matched by.
    package var uid: String
    package var name: String
    package var kind: Kind
    /// nil: the job's default.
    package var parallelism: Int?
    /// Whether it may join the chain of its input.
    package var chaining: Bool
    /// Types in and out, as text: part of the graph's hash, so that two binaries whose rows differ are told apart.
    package var signature: String

    package init(id: Int32, uid: String, name: String, kind: Kind, parallelism: Int? = nil, chaining: Bool = true, signature: String = "") {
        self.id = id
        self.uid = uid
        self.name = name
        self.kind = kind
        self.parallelism = parallelism
        self.chaining = chaining
        self.signature = signature
    }
}

package struct StreamEdge: Sendable, Equatable {
    package var from: Int32
    package var to: Int32
    package var partitioner: Partitioner
    /// Which input of `to`.
    package var input: Int32

    package init(from: Int32, to: Int32, partitioner: Partitioner, input: Int32 = 0) {
        self.from = from
        self.to = to
        self.partitioner = partitioner
        self.input = input
    }
}

/// Every problem of a graph at once.
package struct GraphError: Error, Sendable, Equatable, CustomStringConvertible {
    package var problems: [String]
    package init(_ problems: [String]) { self.problems = problems }
    package var description: String {
        problems.count == 1 ? "the job's graph: \(problems[0])" : "the job's graph:\n" + problems.map { "  - \($0)" }.joined(separator: "\n")
    }
}

/// The job as the program wrote it: transformations and edges, before chaining.
package struct StreamGraph: Sendable, Equatable {
    /// More than any job we have heard of; a loop that adds nodes ends here with an error and not with the memory.
    package static let nodesMax = 10_000

    package var name: String
    package var defaultParallelism: Int
    package var maxParallelism: Int
    package var nodes: [StreamNode] = []
    package var edges: [StreamEdge] = []

    package init(name: String, defaultParallelism: Int = 1, maxParallelism: Int = KeyGroups.maxParallelismDefault) {
        self.name = name
        self.defaultParallelism = defaultParallelism
        self.maxParallelism = maxParallelism
    }

    package func parallelism(of node: StreamNode) -> Int { node.parallelism ?? defaultParallelism }

    /// Chains operators into vertices and numbers them, in the order of the nodes: the same program gives the same graph.
    ///
    /// An operator joins the chain of its input where it has exactly one input edge, that edge is forward, both run at one parallelism
    /// and it allows chaining. A hash, rebalance or global edge between parallelisms of 1 stays an exchange: restores may change it.
    ///
    /// - Throws: ``GraphError`` with every problem.
    /// - Complexity: O(nodes + edges) in time but for sorting.
    package func jobGraph() throws(GraphError) -> JobGraph {
        try validate()
        let byID = Dictionary(uniqueKeysWithValues: nodes.map { ($0.id, $0) })
        var inputs: [Int32: [StreamEdge]] = [:]
        for edge in edges { inputs[edge.to, default: []].append(edge) }

        var headOf: [Int32: Int32] = [:]
        for node in topologicalOrder() {
            headOf[node.id] = node.id
            guard let into = inputs[node.id], into.count == 1, into[0].partitioner == .forward, node.chaining, let upstream = byID[into[0].from],
                parallelism(of: upstream) == parallelism(of: node), let head = headOf[upstream.id]
            else { continue }
            headOf[node.id] = head
        }

        var members: [Int32: [StreamNode]] = [:]
        for node in topologicalOrder() { members[headOf[node.id] ?? node.id, default: []].append(node) }
        let heads = nodes.filter { headOf[$0.id] == $0.id }
        var vertexOf: [Int32: VertexID] = [:]
        for (index, head) in heads.enumerated() { vertexOf[head.id] = VertexID(Int32(index)) }

        var vertices: [JobVertex] = []
        var jobEdges: [JobEdge] = []
        for head in heads {
            let chain = members[head.id] ?? [head]
            let ids = Set(chain.map(\.id))
            let chainEdges = edges.filter { ids.contains($0.from) && ids.contains($0.to) && headOf[$0.to] == head.id && $0.to != head.id }
            vertices.append(
                JobVertex(
                    id: vertexOf[head.id] ?? VertexID(0),
                    nodes: chain.map { JobNode(id: $0.id, uid: $0.uid, name: $0.name, kind: $0.kind, signature: $0.signature) },
                    chainEdges: chainEdges.map { ChainEdge(from: $0.from, to: $0.to) }, parallelism: parallelism(of: head)))
        }
        for edge in edges {
            guard let fromHead = headOf[edge.from], let toHead = headOf[edge.to], let from = vertexOf[fromHead], let to = vertexOf[toHead] else {
                continue
            }
            if fromHead == toHead && edge.to != toHead { continue }
            jobEdges.append(
                JobEdge(id: Int32(jobEdges.count), from: from, fromNode: edge.from, to: to, input: edge.input, partitioner: edge.partitioner))
        }
        return JobGraph(name: name, maxParallelism: maxParallelism, vertices: vertices, edges: jobEdges)
    }

    private func topologicalOrder() -> [StreamNode] {
        // The API can only connect to what exists: ids rise along every edge, which validate() has checked.
        nodes.sorted { $0.id < $1.id }
    }

    private func validate() throws(GraphError) {
        var problems: [String] = []
        if nodes.isEmpty { problems.append("it has no source: add one with job.source(…)") }
        if nodes.count > Self.nodesMax { problems.append("\(nodes.count) operators; the limit is \(Self.nodesMax)") }
        if !(1...KeyGroups.maxParallelismLimit).contains(maxParallelism) {
            problems.append("max parallelism \(maxParallelism) is not in 1...\(KeyGroups.maxParallelismLimit)")
        }
        var uids: [String: String] = [:]
        var known: Set<Int32> = []
        for node in nodes {
            if let other = uids.updateValue(node.name, forKey: node.uid) {
                problems.append(
                    "uid \"\(node.uid)\" is used by both \"\(other)\" and \"\(node.name)\": every operator needs its own, state is matched by it")
            }
            if !known.insert(node.id).inserted { problems.append("operator id \(node.id) is used twice") }
            let width = parallelism(of: node)
            if width < 1 || width > max(maxParallelism, 1) {
                problems.append("\"\(node.name)\" has parallelism \(width), which is not in 1...\(maxParallelism) (the job's max parallelism)")
            }
        }
        let byID = Dictionary(nodes.map { ($0.id, $0) }, uniquingKeysWith: { first, _ in first })
        var fed: Set<Int32> = []
        for edge in edges {
            guard let from = byID[edge.from], let to = byID[edge.to] else {
                problems.append("an edge \(edge.from) → \(edge.to) names an operator that does not exist")
                continue
            }
            if edge.from >= edge.to { problems.append("the edge \"\(from.name)\" → \"\(to.name)\" goes backwards: a job graph has no cycles") }
            if from.kind == .sink { problems.append("\"\(from.name)\" is a sink and feeds \"\(to.name)\"") }
            if to.kind == .source { problems.append("\"\(to.name)\" is a source and is fed by \"\(from.name)\"") }
            if edge.partitioner == .forward, parallelism(of: from) != parallelism(of: to) {
                problems.append(
                    "forward edge \"\(from.name)\" (\(parallelism(of: from))) → \"\(to.name)\" (\(parallelism(of: to))) needs equal parallelism: rebalance instead"
                )
            }
            fed.insert(edge.to)
        }
        for node in nodes where node.kind != .source && !fed.contains(node.id) { problems.append("\"\(node.name)\" has no input") }
        if !problems.isEmpty { throw GraphError(problems) }
    }
}
