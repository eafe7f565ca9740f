import Testing
import WeirBase
import WeirDataflow
import WeirGraph
import WeirStorage
import WeirWorker

@Suite struct TaskStateCodecTests {
    private func snapshot() -> TaskSnapshot {
        TaskSnapshot(
            checkpoint: CheckpointID(4),
            operators: [
                OperatorSnapshot(
                    operatorID: OperatorID(uid: "window"),
                    keyed: [KeyedStateSnapshot(name: "sums", keyGroups: 0..<64, part: EncodedStatePart([1, 2, 3]))],
                    operatorState: ["offsets": [[9], [], [8, 7]]]),
                OperatorSnapshot(operatorID: OperatorID(uid: "stateless"), keyed: [], operatorState: [:]),
            ])
    }

    @Test func stateReturnsAndStatelessOperatorsAreLeftOut() throws {
        let decoded = try TaskStateCodec.decode(TaskStateCodec.encode(snapshot()))
        #expect(decoded.map(\.operatorID) == [OperatorID(uid: "window")])
        #expect(decoded[0].keyed[0].name == "sums" && decoded[0].keyed[0].keyGroups == 0..<64 && decoded[0].keyed[0].bytes == [1, 2, 3])
        #expect(decoded[0].lists == ["offsets": [[9], [], [8, 7]]])
    }

    @Test func aTaskWithoutStateHasNoBytes() throws {
        let bytes = try TaskStateCodec.encode(TaskSnapshot(checkpoint: CheckpointID(1), operators: []))
        #expect(bytes.isEmpty)
        #expect(try TaskStateCodec.decode(bytes).isEmpty)
    }

    @Test func everyPrefixThrows() throws {
        let bytes = try TaskStateCodec.encode(snapshot())
        for end in 1..<bytes.count { #expect(throws: DecodingFailure.self) { try TaskStateCodec.decode(Array(bytes[..<end])) } }
    }
}

@Suite struct RestoreAssemblerTests {
    private let vertex = VertexID(0)

    private func parts(_ count: Int) -> [RestoredSubtask] {
        (0..<count).map { index in
            let range = KeyGroups.range(subtask: index, parallelism: count, maxParallelism: 128)
            var state = EncodedOperatorState(operatorID: OperatorID(uid: "w"))
            state.keyed = [RestoredState.Keyed(name: "k", keyGroups: range, bytes: [UInt8(index)])]
            state.lists = ["l": [[UInt8(index), 0], [UInt8(index), 1]]]
            return RestoredSubtask(subtask: SubtaskID(vertex: vertex, index: Int32(index)), operators: [state])
        }
    }

    /// Every list entry goes to one subtask, every one sees the union, and keyed parts go wherever their groups are.
    @Test(arguments: [(1, 1), (2, 2), (2, 3), (3, 2), (1, 5), (5, 1)])
    func stateIsDealtOutAtAnyParallelism(old: Int, new: Int) {
        let job = JobVertex(id: vertex, nodes: [JobNode(id: 0, uid: "w", name: "w", kind: .operator)], parallelism: new)
        var dealt: [[UInt8]] = []
        for subtask in 0..<new {
            let restored = RestoreAssembler.assemble(
                checkpoint: CheckpointID(1), parts: parts(old), vertex: job, subtask: subtask, maxParallelism: 128)
            guard let state = restored[OperatorID(uid: "w")] else {
                Issue.record("subtask \(subtask) got nothing")
                continue
            }
            #expect(state.union("l").count == 2 * old)
            dealt += state.list("l")
            let mine = KeyGroups.range(subtask: subtask, parallelism: new, maxParallelism: 128)
            let covered = state.keyed.reduce(0) { $0 + $1.keyGroups.clamped(to: mine).count }
            #expect(covered == mine.count, "all key groups of subtask \(subtask) have a writer")
        }
        #expect(dealt.sorted { $0.lexicographicallyPrecedes($1) } == parts(old).flatMap { $0.operators[0].lists["l"] ?? [] })
    }

    @Test func anOperatorThatTheCheckpointDoesNotKnowStartsEmpty() {
        let job = JobVertex(id: vertex, nodes: [JobNode(id: 0, uid: "new", name: "new", kind: .operator)], parallelism: 1)
        #expect(RestoreAssembler.assemble(checkpoint: CheckpointID(1), parts: parts(1), vertex: job, subtask: 0, maxParallelism: 128).isEmpty)
    }
}
