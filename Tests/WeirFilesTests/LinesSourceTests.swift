import Foundation
import Testing
import WeirBase
import WeirDataflow
import WeirFormats
import WeirStreams

@testable import WeirFiles

@Suite struct LinesSourceTests {
    private func text(_ path: String) -> LinesSource<StringFormat> { .lines(path) }

    private func read(_ source: LinesSource<StringFormat>) async throws -> [String] {
        let harness = try SourceHarness(source)
        try await harness.run()
        #expect(harness.isFinished)
        return harness.rows
    }

    @Test(arguments: [
        ("", []), ("\n", [""]), ("a", ["a"]), ("a\n", ["a"]), ("a\nb", ["a", "b"]), ("a\r\nb\r\n", ["a", "b"]), ("a\n\nb\n", ["a", "", "b"]),
        ("\u{FEFF}a\nb", ["a", "b"]), ("a\rb\n", ["a\rb"]), ("\r\n", [""]),
    ]) func linesEndWithNewlinesOrTheFile(content: String, lines: [String]) async throws {
        let directory = try TemporaryDirectory()
        let file = try directory.write("f", content)
        for blockBytes in [1, 2, 3, 1_000] { #expect(try await read(text(file).blockBytes(ByteCount(bytes: blockBytes))) == lines) }
    }

    @Test(arguments: [1, 3, 7, 64, 1_000, 1 << 20], [1, 2, 3]) func everyLineIsReadByExactlyOneSubtask(splitBytes: Int, parallelism: Int) async throws
    {
        let directory = try TemporaryDirectory()
        let lines = (0..<200).map { String(repeating: "x", count: $0 % 13) + "\($0)" }
        let file = try directory.write("f", lines.joined(separator: "\n") + "\n")
        var rows: [String] = []
        for subtask in 0..<parallelism {
            let source = text(file).splitBytes(ByteCount(bytes: splitBytes)).blockBytes(ByteCount(bytes: 50))
            let harness = try SourceHarness(source, subtask: subtask, of: parallelism)
            try await harness.run()
            #expect(harness.isFinished)
            rows += harness.rows
        }
        #expect(rows.count == 200)
        #expect(Set(rows) == Set(lines))
    }

    @Test(arguments: [(1, 1), (1, 3), (3, 2)]) func restoreGoesOnExactlyInTheMiddleOfAFile(before: Int, after: Int) async throws {
        let directory = try TemporaryDirectory()
        let lines = (0..<5_000).map { "line \($0)" }
        let file = try directory.write("f", lines.joined(separator: "\r\n"))
        let source = text(file).splitBytes(ByteCount(bytes: 10_000)).blockBytes(ByteCount(bytes: 1_000))
        var rows: [String] = []
        var states: [Lists] = []
        for subtask in 0..<before {
            let harness = try SourceHarness(source, subtask: subtask, of: before)
            try await harness.run(budget: 37) { harness.rows.count >= 2_000 / before }
            states.append(try harness.snapshot())
            rows += harness.rows
            try await harness.run()  // What comes behind the snapshot is read again.
        }
        for subtask in 0..<after {
            let harness = try SourceHarness(source, subtask: subtask, of: after, restoring: merge(states))
            try await harness.run()
            #expect(harness.isFinished)
            rows += harness.rows
        }
        #expect(rows.count == 5_000)
        #expect(Set(rows) == Set(lines))
    }

    @Test func aSourceThatHasFinishedReadsNothingAfterARestore() async throws {
        let directory = try TemporaryDirectory()
        let file = try directory.write("f", "a\nb\n")
        let first = try SourceHarness(text(file))
        try await first.run()
        let second = try SourceHarness(text(file), restoring: try first.snapshot())
        try await second.run()
        #expect(second.isFinished)
        #expect(second.rows.isEmpty)
    }

    @Test func directoriesAndPatternsAreReadInOrderWithoutHiddenFiles() async throws {
        let directory = try TemporaryDirectory()
        try directory.write("b.txt", "3\n4")
        try directory.write("a.txt", "1\n2\n")
        try directory.write("_unfinished.txt", "no\n")
        try directory.write(".hidden.txt", "no\n")
        try directory.write("c.log", "5\n")
        #expect(try await read(text(directory.path)) == ["1", "2", "3", "4", "5"])
        #expect(try await read(text(directory.path + "/[ab].txt")) == ["1", "2", "3", "4"])
    }

    @Test func jsonIsReadStraightFromTheLinesAndEmptyOnesAreLeftOut() async throws {
        let directory = try TemporaryDirectory()
        let file = try directory.write("f", "1\n\n2\r\n\r\n3")
        let harness = try SourceHarness(LinesSource(file, format: JSONFormat<Int>()), watermarks: .monotonous { Int64($0) * 10 })
        try await harness.run()
        #expect(harness.rows == [1, 2, 3])
        #expect(harness.control.watermarks.last == 29)
    }

    @Test func aBadLineIsNamedOrSkipped() async throws {
        let directory = try TemporaryDirectory()
        let file = try directory.write("f", "1\nzwei\n3\n")
        let harness = try SourceHarness(LinesSource(file, format: JSONFormat<Int>()))
        let failed = await failure { try await harness.run() }
        #expect(failed?.domain == .user)
        #expect(failed?.message == "the line at byte 2 of \"\(file)\" cannot be read: it begins with \"zwei\"")
        let skipping = try SourceHarness(LinesSource(file, format: JSONFormat<Int>()).onBadLine(.skip))
        try await skipping.run()
        #expect(skipping.rows == [1, 3])
    }

    @Test(arguments: [4, 1_000]) func linesHaveALimit(blockBytes: Int) async throws {
        let directory = try TemporaryDirectory()
        let fits = try directory.write("fits", "ab\n" + String(repeating: "x", count: 100) + "\r\nc\n")
        let source = text(fits).lineBytesMax(ByteCount(bytes: 100)).blockBytes(ByteCount(bytes: blockBytes))
        #expect(try await read(source).count == 3)
        let long = try directory.write("long", "ab\n" + String(repeating: "x", count: 150) + "\nc\n")
        let harness = try SourceHarness(text(long).lineBytesMax(ByteCount(bytes: 100)).blockBytes(ByteCount(bytes: blockBytes)))
        let failed = await failure { try await harness.run() }
        #expect(failed?.message.hasPrefix("the line at byte 3 of \"\(long)\" is longer than 100 bytes") == true)
    }

    @Test func whatIsNotThereIsNamed() async throws {
        let directory = try TemporaryDirectory()
        let missing = await failure { _ = try SourceHarness(text(directory.path + "/none")) }
        #expect(missing?.message.contains("cannot read \"\(directory.path)/none\"") == true)
        #expect(missing?.cause == "No such file or directory")
        #expect(missing?.recovery == .fail)
        let pattern = await failure { _ = try SourceHarness(text(directory.path + "/*.csv")) }
        #expect(pattern?.message == "no file is like \"\(directory.path)/*.csv\"")
        let device = await failure { _ = try SourceHarness(text("/dev/null")) }
        #expect(device?.message.contains("no regular file") == true)
    }

    @Test func aFileThatWasCutSinceIsAFailure() async throws {
        let directory = try TemporaryDirectory()
        let file = try directory.write("f", String(repeating: "line\n", count: 1_000))
        let source = text(file).blockBytes(ByteCount(bytes: 100))
        let first = try SourceHarness(source)
        try await first.run(budget: 10) { first.rows.count >= 500 }
        let state = try first.snapshot()
        try directory.write("f", "line\n")
        let second = try SourceHarness(source, restoring: state)
        let failed = await failure { try await second.run() }
        #expect(failed?.message.contains("has 5 bytes, but it was read up to byte 2500 before") == true)
    }

    @Test func closingInTheMiddleEndsTheThread() async throws {
        let directory = try TemporaryDirectory()
        let file = try directory.write("f", String(repeating: "line\n", count: 10_000))
        for _ in 0..<20 {
            let harness = try SourceHarness(text(file).blockBytes(ByteCount(bytes: 100)))
            try await harness.run(budget: 10) { harness.rows.count >= 10 }
        }
    }

    @Test func stateOfUnfinishedPartsKeepsItsBytes() throws {
        var done = FileRange(path: "a", start: 0, end: 10)
        done.isFinished = true
        let ranges = [done, FileRange(path: "a", start: 10, end: .max, next: 12), FileRange(path: "b", start: 0, end: .max)]
        let entries = FileRangeState.encode(ranges)
        #expect(entries.count == 3)
        #expect(try FileRangeState.decode(entries) == Array(ranges.dropFirst()))
        #expect(try FileRangeState.decode([]) == nil)
        for count in 0..<entries[1].count { #expect(throws: DecodingFailure.self) { try FileRangeState.decode([Array(entries[1][..<count])]) } }
    }
}
