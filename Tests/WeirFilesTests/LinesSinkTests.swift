import Foundation
import Testing
import WeirBase
import WeirDataflow
import WeirFormats
import WeirStreams

@testable import WeirFiles

/// The directory that sinks of a test write to.
struct Output {
    let directory: TemporaryDirectory
    init() throws { directory = try TemporaryDirectory() }

    /// Writes each batch through at once, so that what is written is in a file.
    var sink: LinesSink<StringFormat> { .lines(path).bufferBytes(ByteCount(bytes: 1)) }
    var path: String { directory.path + "/out/here" }
    var names: [String] { ((try? FileManager.default.contentsOfDirectory(atPath: path)) ?? []).sorted() }

    /// Of every published file, in the order of their names.
    var lines: [String] {
        get throws {
            try names.filter { $0.hasPrefix("part-") }.flatMap { try directory.read("out/here/\($0)").split(separator: "\n").map(String.init) }
        }
    }

    /// The name of a file of job 1.
    static func name(_ subtask: Int, _ sequence: Int, job: UInt64 = 1, epoch: Int = 1) -> String {
        "part-\(subtask)-\(sequence)-\(JobID(high: 0, low: job))-\(epoch)"
    }
}

@Suite struct LinesSinkTests {
    @Test func rowsArePublishedWithTheCheckpointThatHasThem() throws {
        let output = try Output()
        for subtask in 0..<2 {
            let harness = try SinkHarness(output.sink, subtask: subtask, of: 2)
            try harness.write(["a\(subtask)", "b\(subtask)"])
            try harness.sink.endOfInput()
            _ = try harness.snapshot()
            #expect(try output.lines.count == subtask * 2, "the checkpoint is not complete")
            try harness.complete()
        }
        #expect(output.names == [Output.name(0, 0), Output.name(1, 0)])
        #expect(try output.lines == ["a0", "b0", "a1", "b1"])
    }

    @Test func aFileIsClosedWhenItIsLargeOldOrTheLast() throws {
        let output = try Output()
        let clock = ManualClock()
        let harness = try SinkHarness(output.sink.rollBytes(ByteCount(bytes: 6)).rollInterval(.seconds(5)), clock: clock)
        func publishes(_ rows: [String], isSavepoint: Bool = false) throws -> Bool {
            try harness.write(rows)
            let before = try output.lines.count
            _ = try harness.snapshot(isSavepoint: isSavepoint)
            try harness.complete()
            return try output.lines.count > before
        }
        #expect(try !publishes(["12345".prefix(4).description]), "five bytes with the end of the line")
        #expect(try publishes([""]), "six bytes")
        #expect(try !publishes(["a"]))
        clock.advance(by: .milliseconds(4_999))
        #expect(try !publishes(["b"]))
        clock.advance(by: .milliseconds(1))
        #expect(try publishes([]), "five seconds old")
        #expect(try publishes(["c"], isSavepoint: true))
        try harness.write(["d"])
        try harness.finish()
        #expect(try output.lines == ["1234", "a", "b", "c", "d"])
        #expect(output.names == (0..<4).map { Output.name(0, $0) })
    }

    @Test func theFilesOfAnAbortedCheckpointArePublishedByTheNext() throws {
        let output = try Output()
        let harness = try SinkHarness(output.sink.rollInterval(.zero))
        try harness.write(["a"])
        _ = try harness.snapshot()
        try harness.sink.checkpointAborted(1)
        try harness.write(["b"])
        _ = try harness.snapshot()
        try harness.write(["c"])
        _ = try harness.snapshot()
        try harness.sink.checkpointCompleted(2)
        #expect(try output.lines == ["a", "b"])
        try harness.complete()
        #expect(try output.lines == ["a", "b", "c"])
    }

    @Test func tooManyFilesThatWaitAreAFailure() async throws {
        let output = try Output()
        let harness = try SinkHarness(output.sink.rollInterval(.zero))
        for _ in 0..<PartFiles.pendingMax {
            try harness.write(["x"])
            _ = try harness.snapshot()
        }
        try harness.write(["x"])
        let failed = await failure { _ = try harness.snapshot() }
        #expect(failed?.message == "256 files in \"\(output.path)\" wait for a checkpoint to complete")
    }

    @Test func aRestorePublishesWhatTheCheckpointHasAndNoMore() throws {
        let output = try Output()
        var state: Lists = [:]
        do {
            let harness = try SinkHarness(output.sink)
            try harness.write(["before"])
            state = try harness.snapshot()
            try harness.complete()
            #expect(output.names == ["." + Output.name(0, 0) + ".inprogress"])
            try harness.write(["behind"])
        }
        let harness = try SinkHarness(output.sink, restoring: state, epoch: 2)
        #expect(try output.lines == ["before"])
        try harness.write(["again"])
        try harness.finish()
        #expect(try output.lines == ["before", "again"])
        #expect(output.names == [Output.name(0, 0), Output.name(0, 1, epoch: 2)])
    }

    @Test func severalRestoresOfOneCheckpointGiveTheSame() throws {
        let output = try Output()
        var harness = try SinkHarness(output.sink.rollInterval(.zero))
        try harness.write(["closed"])
        _ = try harness.snapshot()
        harness = try SinkHarness(output.sink, epoch: 2)
        try harness.write(["open"])
        let state = try harness.snapshot()
        for epoch in 3...5 {
            harness = try SinkHarness(output.sink, restoring: state, epoch: UInt32(epoch))
            try harness.write(["row of \(epoch)"])
        }
        try harness.finish()
        #expect(try output.lines == ["open", "row of 5"])
        #expect(output.names.count == 2)
    }

    @Test func whatACheckpointAfterTheRestoredOnePublishedIsTakenBack() throws {
        let output = try Output()
        let first = try SinkHarness(output.sink)
        try first.write(["one"])
        let state = try first.snapshot()
        try first.complete()
        try first.write(["two"])
        _ = try first.snapshot(isSavepoint: true)
        try first.complete()
        try first.write(["three"])
        _ = try first.snapshot(isSavepoint: true)
        try first.complete()
        #expect(try output.lines == ["one", "two", "three"])
        // The two checkpoints are damaged, or a person goes back.
        let second = try SinkHarness(output.sink, restoring: state, job: 2)
        #expect(try output.lines == ["one"])
        try second.write(["2"])
        try second.finish()
        #expect(try output.lines == ["one", "2"])
    }

    @Test func aStartWithoutACheckpointRemovesTheFilesOfTheRunBefore() throws {
        let output = try Output()
        try FileManager.default.createDirectory(atPath: output.path, withIntermediateDirectories: true)
        let other = Output.name(3, 0, job: 7, epoch: 9)
        let own = Output.name(0, 5)
        let foreign = ["other", "part-0", "part-0-0-x-1", "part-0-00-\(JobID(high: 0, low: 1))-1", ".hidden"]
        let leftovers = [other, ".\(other).inprogress", ".\(other).copy-\(JobID(high: 0, low: 7))-9", own]
        for name in foreign + leftovers { try output.directory.write("out/here/\(name)", "old\n") }
        let harness = try SinkHarness(output.sink, epoch: 2)
        #expect(output.names == foreign.sorted())
        try harness.finish()
        #expect(output.names == foreign.sorted(), "no rows, no file")
    }

    @Test func filesOfVanishedSubtasksStayExactOverSeveralRestores() throws {
        let output = try Output()
        var states: [Lists] = []
        for subtask in 0..<3 {
            let harness = try SinkHarness(output.sink, subtask: subtask, of: 3)
            try harness.write(["row \(subtask)"])
            states.append(try harness.snapshot())
            try harness.write(["too much"])
        }
        // Three subtasks become one, fail, and become two: what was checkpointed stays, what was not goes.
        var state = merge(states)
        do {
            let harness = try SinkHarness(output.sink, restoring: state, job: 2)
            try harness.write(["more"])
            state = try harness.snapshot()
            try harness.write(["too much"])
        }
        for subtask in 0..<2 { _ = try SinkHarness(output.sink, subtask: subtask, of: 2, restoring: state, job: 3) }
        #expect(try output.lines == ["row 0", "more", "row 1", "row 2"])
        #expect(output.names.count == 4)
    }

    @Test func outputThatIsGoneIsAFailure() async throws {
        let output = try Output()
        var state: Lists = [:]
        do {
            let harness = try SinkHarness(output.sink)
            try harness.write(["x"])
            state = try harness.snapshot()
        }
        let path = output.path + "/." + Output.name(0, 0) + ".inprogress"
        try Data().write(to: URL(fileURLWithPath: path))
        let short = await failure { _ = try SinkHarness(output.sink, restoring: state, epoch: 2) }
        #expect(short?.message.hasPrefix("the output file \"\(path)\" has only 0 bytes, but the checkpoint has 2 bytes of it") == true)
        try FileManager.default.removeItem(atPath: path)
        let gone = await failure { _ = try SinkHarness(output.sink, restoring: state, epoch: 3) }
        #expect(gone?.message.hasPrefix("the output file \"\(path)\" is gone, but the checkpoint has 2 bytes of it") == true)
        #expect(gone?.recovery == .fail)
    }

    @Test func aPublishedFileMayBeTakenAway() throws {
        let output = try Output()
        let first = try SinkHarness(output.sink)
        try first.write(["x"])
        let state = try first.snapshot(isSavepoint: true)
        try first.complete()
        try FileManager.default.removeItem(atPath: output.path + "/" + Output.name(0, 0))
        let second = try SinkHarness(output.sink, restoring: state, epoch: 2)
        try second.write(["y"])
        try second.finish()
        #expect(try output.lines == ["y"])
    }

    @Test func aDirectoryThatCannotBeMadeIsNamed() async throws {
        let output = try Output()
        try output.directory.write("out", "a file")
        let failed = await failure { _ = try SinkHarness(output.sink) }
        #expect(failed?.cause == "Not a directory")
    }

    @Test func aFullDiskIsAResourceFailure() async throws {
        let failed = fileFailure("cannot write \"x\"", ENOSPC)
        #expect(failed.domain == .resource)
        #expect(failed.recovery == .restart)
        #expect(failed.cause == "No space left on device")
    }

    @Test func settingsOutOfBoundsAreAllTold() {
        let wrong = LinesSink.lines("").bufferBytes(ByteCount(bytes: 0)).rollBytes(ByteCount(bytes: 0)).rollInterval(.seconds(-1))
        let error = #expect(throws: ConfigurationError.self) { try wrong.validate() }
        #expect(error?.problems.count == 4)
    }

    @Test func damagedStateIsAFailure() async throws {
        let output = try Output()
        let name = PartName(subtask: 1, sequence: 2, job: JobID(high: 3, low: 4), epoch: Epoch(5))
        var state = PartState()
        state.begun = [1: 3, 0: 9]
        state.files = [.init(name: name, length: 6, isClosed: true)]
        let entries = state.entries
        #expect(try PartState(entries: entries) == state)
        for entry in entries {
            for length in 0..<entry.count { #expect(throws: DecodingFailure.self) { try PartState(entries: [Array(entry[..<length])]) } }
            #expect(throws: DecodingFailure.self) { try PartState(entries: [entry + [0]]) }
            #expect(throws: DecodingFailure.self) { try PartState(entries: [[1] + entry.dropFirst()]) }
        }
        let failed = await failure { _ = try SinkHarness(output.sink, restoring: [PartState.name: [[2, 7]]]) }
        #expect(failed?.message == "the output files of checkpoint 1 are damaged")
    }
}
