import Foundation
import Testing
import WeirBase
import WeirDataflow
import WeirFormats
import WeirStreams

@testable import WeirFiles

@Suite struct LinesSinkTests {
    private func sink(_ directory: TemporaryDirectory) -> LinesSink<StringFormat> { .lines(directory.path + "/out/here") }

    @Test func rowsBecomeLinesOfOneFileASubtask() throws {
        let directory = try TemporaryDirectory()
        for subtask in 0..<2 {
            let harness = try SinkHarness(sink(directory), subtask: subtask, of: 2)
            try harness.write(["a\(subtask)", "b\(subtask)"])
            try harness.sink.endOfInput()
        }
        #expect(try directory.read("out/here/part-0") == "a0\nb0\n")
        #expect(try directory.read("out/here/part-1") == "a1\nb1\n")
    }

    @Test func aRestoreCutsBackToTheCheckpoint() throws {
        let directory = try TemporaryDirectory()
        var state: Lists = [:]
        do {
            let harness = try SinkHarness(sink(directory).bufferBytes(ByteCount(bytes: 1)))
            try harness.write(["before"])
            state = try harness.snapshot()
            #expect(try directory.read("out/here/part-0") == "before\n")
            try harness.write(["behind"])
            #expect(try directory.read("out/here/part-0") == "before\nbehind\n")
        }
        let harness = try SinkHarness(sink(directory), restoring: state)
        try harness.write(["again"])
        try harness.sink.endOfInput()
        #expect(try directory.read("out/here/part-0") == "before\nagain\n")
    }

    @Test func aStartWithoutACheckpointEmptiesTheFilesOfTheRunBefore() throws {
        let directory = try TemporaryDirectory()
        try FileManager.default.createDirectory(atPath: directory.path + "/out/here", withIntermediateDirectories: true)
        for name in ["part-0", "part-7", "part-x", "other"] { try directory.write("out/here/\(name)", "old\n") }
        let harness = try SinkHarness(sink(directory))
        try harness.sink.endOfInput()
        #expect(try directory.read("out/here/part-0") == "")
        #expect(try FileManager.default.contentsOfDirectory(atPath: directory.path + "/out/here").sorted() == ["other", "part-0", "part-x"])
    }

    @Test func filesOfVanishedSubtasksStayExactOverSeveralRestores() throws {
        let directory = try TemporaryDirectory()
        var states: [Lists] = []
        for subtask in 0..<3 {
            let harness = try SinkHarness(sink(directory).bufferBytes(ByteCount(bytes: 1)), subtask: subtask, of: 3)
            try harness.write(["row \(subtask)"])
            states.append(try harness.snapshot())
            try harness.write(["too much"])
        }
        // Three subtasks become one, fail, and become two: what was checkpointed stays, what was not goes.
        var state = merge(states)
        do {
            let harness = try SinkHarness(sink(directory), restoring: state)
            try harness.write(["more"])
            state = try harness.snapshot()
        }
        for subtask in 0..<2 { _ = try SinkHarness(sink(directory), subtask: subtask, of: 2, restoring: state) }
        #expect(try directory.read("out/here/part-0") == "row 0\nmore\n")
        #expect(try directory.read("out/here/part-1") == "row 1\n")
        #expect(try directory.read("out/here/part-2") == "row 2\n")
    }

    @Test func outputThatIsGoneIsAFailure() async throws {
        let directory = try TemporaryDirectory()
        var state: Lists = [:]
        do {
            let harness = try SinkHarness(sink(directory))
            try harness.write(["x"])
            state = try harness.snapshot()
        }
        try FileManager.default.removeItem(atPath: directory.path + "/out/here/part-0")
        let failed = await failure { _ = try SinkHarness(sink(directory), restoring: state) }
        #expect(failed?.message.contains("part-0\" has only 0 bytes, but the checkpoint has 2 bytes of it") == true)
    }

    @Test func aDirectoryThatCannotBeMadeIsNamed() async throws {
        let directory = try TemporaryDirectory()
        try directory.write("out", "a file")
        let failed = await failure { _ = try SinkHarness(sink(directory)) }
        #expect(failed?.cause == "Not a directory")
    }

    @Test func aFullDiskIsAResourceFailure() async throws {
        let failed = fileFailure("cannot write \"x\"", ENOSPC)
        #expect(failed.domain == .resource)
        #expect(failed.recovery == .restart)
        #expect(failed.cause == "No space left on device")
    }
}
