import Testing
import WeirBase
import WeirControl
import WeirStorage

@Suite struct CheckpointMetadataTests {
    private func sample() -> CompletedCheckpoint {
        let first = SubtaskID(vertex: VertexID(0), index: 0)
        let second = SubtaskID(vertex: VertexID(1), index: 1)
        return CompletedCheckpoint(
            job: JobID(high: 1, low: 2), id: CheckpointID(7), epoch: Epoch(3), maxParallelism: 128,
            vertices: [CheckpointVertex(vertex: VertexID(0), operators: [OperatorID(uid: "a"), OperatorID(uid: "b")], parallelism: 2)],
            handles: [
                StateHandle(subtask: first, content: .inline([1, 2, 3])),
                StateHandle(
                    subtask: second, content: .file(StateFile(path: "chk-7/1-1-3.state", lengthBytes: 99, crc32c: 5)),
                    shared: [StateFile(path: "chk-6/1-1-3.state", lengthBytes: 1, crc32c: 6)]),
            ], duration: .milliseconds(12), path: "/checkpoints/chk-7")
    }

    @Test func metadataReturns() throws {
        for kind in [CheckpointKind.periodic, .final, .savepoint(directory: "/savepoints")] {
            var checkpoint = sample()
            checkpoint.kind = kind
            #expect(try CheckpointMetadata.decode(CheckpointMetadata.encode(checkpoint), path: checkpoint.path) == checkpoint)
        }
    }

    @Test func everyPrefixThrows() {
        let bytes = CheckpointMetadata.encode(sample())
        for end in 0..<bytes.count {
            #expect(throws: DecodingFailure.self) { try CheckpointMetadata.decode(Array(bytes[..<end]), path: "p") }
        }
        #expect(throws: DecodingFailure.self) { try CheckpointMetadata.decode(bytes + [0], path: "p") }
    }

    @Test func damageNeverTraps() {
        let bytes = CheckpointMetadata.encode(sample())
        var random = SplitMix64(seed: 11)
        for _ in 0..<5_000 {
            var damaged = bytes
            for _ in 0..<2 { damaged[Int(random.next() % UInt64(damaged.count))] = UInt8(truncatingIfNeeded: random.next()) }
            if let decoded = try? CheckpointMetadata.decode(damaged, path: "p") { #expect(decoded.handles.count <= bytes.count) }
        }
    }
}
