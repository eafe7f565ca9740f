package import WeirBase

/// An operator inside a vertex.
package struct JobNode: Sendable, Equatable {
    /// The stream node it came from: how a worker finds the operator's code.
    package var id: Int32
    package var uid: String
    package var name: String
    package var kind: StreamNode.Kind
    package var signature: String
    package var operatorID: OperatorID { OperatorID(uid: uid) }

    package init(id: Int32, uid: String, name: String, kind: StreamNode.Kind, signature: String = "") {
        self.id = id
        self.uid = uid
        self.name = name
        self.kind = kind
        self.signature = signature
    }
}

package struct ChainEdge: Sendable, Equatable {
    package var from: Int32
    package var to: Int32
    package init(from: Int32, to: Int32) {
        self.from = from
        self.to = to
    }
}

/// A chain of operators that run in one task: a tree, its head first.
package struct JobVertex: Sendable, Equatable {
    package var id: VertexID
    package var nodes: [JobNode]
    package var chainEdges: [ChainEdge]
    package var parallelism: Int

    package init(id: VertexID, nodes: [JobNode], chainEdges: [ChainEdge] = [], parallelism: Int) {
        self.id = id
        self.nodes = nodes
        self.chainEdges = chainEdges
        self.parallelism = parallelism
    }

    package var name: String { nodes.map(\.name).joined(separator: " -> ") }
    package var isSource: Bool { nodes.first?.kind == .source }
}

/// An exchange between vertices.
package struct JobEdge: Sendable, Equatable {
    package var id: Int32
    package var from: VertexID
    /// The operator inside `from` whose output it carries.
    package var fromNode: Int32
    package var to: VertexID
    package var input: Int32
    package var partitioner: Partitioner

    package init(id: Int32, from: VertexID, fromNode: Int32, to: VertexID, input: Int32 = 0, partitioner: Partitioner) {
        self.id = id
        self.from = from
        self.fromNode = fromNode
        self.to = to
        self.input = input
        self.partitioner = partitioner
    }
}

/// What is scheduled: vertices and the exchanges between them.
package struct JobGraph: Sendable, Equatable {
    package var name: String
    package var maxParallelism: Int
    package var vertices: [JobVertex]
    package var edges: [JobEdge]

    package init(name: String, maxParallelism: Int, vertices: [JobVertex], edges: [JobEdge]) {
        self.name = name
        self.maxParallelism = maxParallelism
        self.vertices = vertices
        self.edges = edges
    }

    /// Slots the job needs: with slot sharing, as many as its widest vertex has subtasks.
    package var slotsNeeded: Int { vertices.map(\.parallelism).max() ?? 0 }

    package func vertex(_ id: VertexID) -> JobVertex? {
        let index = Int(id.rawValue)
        return vertices.indices.contains(index) ? vertices[index] : nil
    }

    /// Every task, in order of vertex and index.
    package var subtasks: [SubtaskID] {
        vertices.flatMap { vertex in (0..<vertex.parallelism).map { SubtaskID(vertex: vertex.id, index: Int32($0)) } }
    }

    /// The hash of the encoded graph: a worker refuses to run where its own differs from the submitted one.
    package var hash: UInt64 { encode().withUnsafeBytes { KeyHash.hash($0) } }

    private static let version: UInt16 = 1

    /// Version 1 of the job graph in `proto-docs/rpc.md`, all integers little-endian.
    package func encode() -> [UInt8] {
        var writer = ByteWriter(capacity: 1024)
        writer.writeU16(Self.version)
        writer.writeString(name)
        writer.writeU32(UInt32(maxParallelism))
        writer.writeVarint(UInt64(vertices.count))
        for vertex in vertices {
            writer.writeI32(vertex.id.rawValue)
            writer.writeU32(UInt32(vertex.parallelism))
            writer.writeVarint(UInt64(vertex.nodes.count))
            for node in vertex.nodes {
                writer.writeI32(node.id)
                writer.writeU8(node.kind.rawValue)
                writer.writeString(node.uid)
                writer.writeString(node.name)
                writer.writeString(node.signature)
            }
            writer.writeVarint(UInt64(vertex.chainEdges.count))
            for edge in vertex.chainEdges {
                writer.writeI32(edge.from)
                writer.writeI32(edge.to)
            }
        }
        writer.writeVarint(UInt64(edges.count))
        for edge in edges {
            writer.writeI32(edge.id)
            writer.writeI32(edge.from.rawValue)
            writer.writeI32(edge.fromNode)
            writer.writeI32(edge.to.rawValue)
            writer.writeI32(edge.input)
            writer.writeU8(edge.partitioner.rawValue)
        }
        return writer.finish()
    }

    /// - Throws: ``DecodingFailure`` for bytes that are no graph or one that contradicts itself.
    package static func decode(_ bytes: [UInt8]) throws(DecodingFailure) -> JobGraph {
        var result: Result<JobGraph, DecodingFailure> = .failure(DecodingFailure("an empty job graph", offset: 0))
        bytes.withUnsafeBytes { raw in
            do throws(DecodingFailure) {
                var reader = ByteReader(raw)
                let graph = try JobGraph(from: &reader)
                try reader.expectEnd()
                try graph.check()
                result = .success(graph)
            } catch {
                result = .failure(error)
            }
        }
        return try result.get()
    }

    private init(from reader: inout ByteReader) throws(DecodingFailure) {
        let version = try reader.readU16()
        guard version == Self.version else { throw DecodingFailure("job graph version \(version), this build reads \(Self.version)", offset: 0) }
        name = try reader.readString()
        maxParallelism = Int(try reader.readU32())
        vertices = []
        edges = []
        for _ in 0..<(try reader.readCount(ofAtLeast: 10)) {
            let id = VertexID(try reader.readI32())
            var vertex = JobVertex(id: id, nodes: [], parallelism: Int(try reader.readU32()))
            for _ in 0..<(try reader.readCount(ofAtLeast: 8)) {
                let node = try reader.readI32()
                let offset = reader.position
                guard let kind = StreamNode.Kind(rawValue: try reader.readU8()) else {
                    throw DecodingFailure("an unknown operator kind", offset: offset)
                }
                vertex.nodes.append(
                    JobNode(id: node, uid: try reader.readString(), name: try reader.readString(), kind: kind, signature: try reader.readString()))
            }
            for _ in 0..<(try reader.readCount(ofAtLeast: 8)) {
                vertex.chainEdges.append(ChainEdge(from: try reader.readI32(), to: try reader.readI32()))
            }
            vertices.append(vertex)
        }
        for _ in 0..<(try reader.readCount(ofAtLeast: 21)) {
            let id = try reader.readI32()
            let from = VertexID(try reader.readI32())
            let node = try reader.readI32()
            let to = VertexID(try reader.readI32())
            let input = try reader.readI32()
            let offset = reader.position
            guard let partitioner = Partitioner(rawValue: try reader.readU8()) else {
                throw DecodingFailure("an unknown partitioner", offset: offset)
            }
            edges.append(JobEdge(id: id, from: from, fromNode: node, to: to, input: input, partitioner: partitioner))
        }
    }

    /// What scheduling and task building rely on, so that a graph from a stranger's client cannot trap the JobManager.
    private func check() throws(DecodingFailure) {
        guard (1...KeyGroups.maxParallelismLimit).contains(maxParallelism) else {
            throw DecodingFailure("max parallelism \(maxParallelism) is not in 1...\(KeyGroups.maxParallelismLimit)", offset: 0)
        }
        guard !vertices.isEmpty else { throw DecodingFailure("a job graph without vertices", offset: 0) }
        for (index, vertex) in vertices.enumerated() {
            guard Int(vertex.id.rawValue) == index, !vertex.nodes.isEmpty, (1...maxParallelism).contains(vertex.parallelism) else {
                throw DecodingFailure("vertex \(index) has the wrong number, no operator, or parallelism \(vertex.parallelism)", offset: 0)
            }
        }
        for edge in edges {
            guard vertex(edge.to) != nil, vertex(edge.from)?.nodes.contains(where: { $0.id == edge.fromNode }) == true else {
                throw DecodingFailure("edge \(edge.id) joins vertices that do not exist", offset: 0)
            }
        }
    }
}
