import Foundation
import Testing
import WeirBase
import WeirControl
import WeirDataflow

@testable import WeirStorage

@Suite struct CheckpointInspectionTests {
    private let subtasks = (0..<2).map { SubtaskID(vertex: VertexID(0), index: $0) }

    /// A savepoint of one operator with a list state, one subtask in a file and one in `_metadata`.
    private func write(to directory: String) throws {
        let storage = CheckpointStorage(directory: "/unused", job: JobID(high: 1, low: 2))
        func state(_ entries: [[UInt8]]) throws -> [UInt8] {
            let part = OperatorSnapshot(operatorID: OperatorID(uid: "source"), keyed: [], operatorState: ["positions": entries])
            return try TaskStateCodec.encode(TaskSnapshot(checkpoint: CheckpointID(7), operators: [part]))
        }
        let file = try storage.writeSavepointState(in: directory, subtask: subtasks[0], epoch: Epoch(1), payload: try state([[1], [2, 3]]))
        let checkpoint = CompletedCheckpoint(
            job: JobID(high: 1, low: 2), id: CheckpointID(7), kind: .savepoint(directory: directory), epoch: Epoch(1), maxParallelism: 128,
            vertices: [
                CheckpointVertex(
                    vertex: VertexID(0), operators: [CheckpointOperator(uid: "source", name: "Source"), CheckpointOperator(uid: "map")],
                    parallelism: 2)
            ],
            handles: [
                StateHandle(subtask: subtasks[0], content: .file(StateFile(path: "0-0-1.state", lengthBytes: file.bytes, crc32c: file.crc))),
                StateHandle(subtask: subtasks[1], content: .inline(try state([[4, 5, 6]]))),
            ])
        try CheckpointFile.write(CheckpointMetadata.encode(checkpoint), to: directory + "/_metadata")
    }

    @Test func whatASavepointHoldsIsFoundWhereItLies() throws {
        let directory = TestDirectory()
        try write(to: directory.path + "/written")
        let path = directory.path + "/moved"
        try FileManager.default.moveItem(atPath: directory.path + "/written", toPath: path)
        let found = try CheckpointInspection(path: path)
        #expect(found.operators.map(\.uid) == ["source", "map"] && found.operators.map(\.name) == ["Source", "map"])
        #expect(found.operators[1].states.isEmpty)
        let state = try #require(found.operators[0].states.first)
        #expect(state.name == "positions" && state.bytes == 6 && state.subtasks == 2)
        guard case .list(let entries) = state.contents else {
            Issue.record("not a list")
            return
        }
        #expect(entries == [[1], [2, 3], [4, 5, 6]])
    }

    @Test func everyFlippedBitOfEveryFileIsFoundAndNamed() throws {
        let directory = TestDirectory()
        let path = directory.path + "/savepoint"
        try write(to: path)
        for name in try FileManager.default.contentsOfDirectory(atPath: path) {
            let url = URL(fileURLWithPath: path + "/" + name)
            let whole = try Data(contentsOf: url)
            for bit in 0..<whole.count * 8 {
                var damaged = whole
                damaged[bit / 8] ^= 1 << UInt8(bit % 8)
                try damaged.write(to: url)
                let failure = #expect(throws: JobFailure.self) { try CheckpointInspection(path: path) }
                #expect(failure?.message.contains(url.path) == true, "bit \(bit) of \(name): \(failure?.description ?? "")")
            }
            for length in 0..<whole.count {
                try whole.prefix(length).write(to: url)
                let failure = #expect(throws: JobFailure.self) { try CheckpointInspection(path: path) }
                #expect(failure?.message.contains(url.path) == true)
            }
            try whole.write(to: url)
        }
        try FileManager.default.removeItem(atPath: path + "/0-0-1.state")
        let failure = #expect(throws: JobFailure.self) { try CheckpointInspection(path: path) }
        #expect(failure?.message.contains("0-0-1.state") == true && failure?.cause == "missing")
    }
}
