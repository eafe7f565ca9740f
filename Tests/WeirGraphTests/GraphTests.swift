import Testing
import WeirBase
import WeirGraph

@Suite struct KeyGroupTests {
    /// Savepoints depend on these values: a change here is a change of the format.
    @Test func theTableIsPinned() {
        let keys = ["", "a", "container-1", "C-000123", "the quick brown fox jumps over the lazy dog"]
        #expect(keys.map { KeyGroups.keyGroup(hash: $0.keyHash, maxParallelism: 128) } == PinnedKeyGroups.table128)
        #expect(keys.map { KeyGroups.keyGroup(hash: $0.keyHash, maxParallelism: 32_768) } == PinnedKeyGroups.table32768)
    }

    @Test func rangesPartitionAndAgreeWithTheOwner() {
        for maxParallelism in [1, 2, 7, 128, 1000] {
            for parallelism in 1...min(maxParallelism, 40) {
                var next = 0
                for subtask in 0..<parallelism {
                    let range = KeyGroups.range(subtask: subtask, parallelism: parallelism, maxParallelism: maxParallelism)
                    #expect(range.lowerBound == next)
                    next = range.upperBound
                    for group in range {
                        #expect(KeyGroups.subtask(keyGroup: group, parallelism: parallelism, maxParallelism: maxParallelism) == subtask)
                    }
                }
                #expect(next == maxParallelism)
            }
        }
    }
}

@Suite struct StreamGraphTests {
    private func chain(sinkParallelism: Int? = nil) -> StreamGraph {
        var graph = StreamGraph(name: "job", defaultParallelism: 2)
        graph.nodes = [
            StreamNode(id: 0, uid: "in", name: "in", kind: .source), StreamNode(id: 1, uid: "f", name: "filter", kind: .operator),
            StreamNode(id: 2, uid: "w", name: "window", kind: .operator),
            StreamNode(id: 3, uid: "out", name: "out", kind: .sink, parallelism: sinkParallelism),
        ]
        graph.edges = [
            StreamEdge(from: 0, to: 1, partitioner: .forward), StreamEdge(from: 1, to: 2, partitioner: .hash),
            StreamEdge(from: 2, to: 3, partitioner: sinkParallelism == nil ? .forward : .rebalance),
        ]
        return graph
    }

    @Test func forwardEdgesChainAndOthersAreExchanges() throws {
        let graph = try chain().jobGraph()
        #expect(graph.vertices.map(\.name) == ["in -> filter", "window -> out"])
        #expect(graph.edges == [JobEdge(id: 0, from: VertexID(0), fromNode: 1, to: VertexID(1), partitioner: .hash)])
        #expect(graph.slotsNeeded == 2)
        #expect(graph.subtasks.count == 4)
        #expect(try chain(sinkParallelism: 1).jobGraph().vertices.map(\.name) == ["in -> filter", "window", "out"])
    }

    @Test func fanOutChainsAsATree() throws {
        var graph = chain()
        graph.nodes.append(StreamNode(id: 4, uid: "print", name: "print", kind: .sink))
        graph.edges.append(StreamEdge(from: 1, to: 4, partitioner: .forward))
        let job = try graph.jobGraph()
        #expect(job.vertices.map(\.name) == ["in -> filter -> print", "window -> out"])
        #expect(job.vertices[0].chainEdges == [ChainEdge(from: 0, to: 1), ChainEdge(from: 1, to: 4)])
    }

    @Test func aUnionIsNotChained() throws {
        var graph = StreamGraph(name: "job")
        graph.nodes = [
            StreamNode(id: 0, uid: "a", name: "a", kind: .source), StreamNode(id: 1, uid: "b", name: "b", kind: .source),
            StreamNode(id: 2, uid: "s", name: "s", kind: .sink),
        ]
        graph.edges = [StreamEdge(from: 0, to: 2, partitioner: .forward), StreamEdge(from: 1, to: 2, partitioner: .forward)]
        #expect(try graph.jobGraph().vertices.count == 3)
    }

    @Test func everyProblemIsToldAtOnce() {
        var graph = chain()
        graph.nodes[2].uid = "f"
        graph.nodes[1].parallelism = 3
        graph.edges.removeLast()
        #expect(throws: GraphError.self) { try graph.jobGraph() }
        do { _ = try graph.jobGraph() } catch {
            #expect(error.problems.count == 3)
            #expect(error.problems[0].contains("uid \"f\" is used by both"))
        }
    }

    @Test func theEncodedGraphReturnsAndDamageThrows() throws {
        let graph = try chain().jobGraph()
        let bytes = graph.encode()
        #expect(try JobGraph.decode(bytes) == graph)
        for end in 0..<bytes.count { #expect(throws: DecodingFailure.self) { try JobGraph.decode(Array(bytes[..<end])) } }
        var random = SplitMix64(seed: 7)
        for _ in 0..<5_000 {
            var damaged = bytes
            for _ in 0..<3 { damaged[Int(random.next() % UInt64(damaged.count))] = UInt8(truncatingIfNeeded: random.next()) }
            if let decoded = try? JobGraph.decode(damaged) { #expect(decoded.slotsNeeded <= 32_768) }
        }
    }

    @Test func anotherGraphHasAnotherHash() throws {
        var other = chain()
        other.nodes[1].signature = "Int->Int"
        #expect(try chain().jobGraph().hash == chain().jobGraph().hash)
        #expect(try chain().jobGraph().hash != other.jobGraph().hash)
    }
}

enum PinnedKeyGroups {
    static let table128 = [15, 27, 68, 79, 106]
    static let table32768 = [4090, 7136, 17497, 20323, 27312]
}
