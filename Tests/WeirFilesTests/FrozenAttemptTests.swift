import Foundation
import Testing
import WeirBase
import WeirFormats
import WeirStreams

@testable import WeirFiles

/// Two attempts of one subtask alive at a time: the old one was stopped, knows nothing of its successor, and goes on where it was.
@Suite struct FrozenAttemptTests {
    /// Both have written, in turns; what is published is the successor's alone.
    private func expect(_ lines: [String], in output: Output, _ successor: SinkHarness<LinesSink<StringFormat>>) throws {
        try successor.finish()
        #expect(try output.lines == lines)
    }

    @Test func itWritesOnIntoItsOpenFile() throws {
        let output = try Output()
        let old = try SinkHarness(output.sink)
        try old.write(["first"])
        let state = try old.snapshot()
        try old.write(["behind the barrier"])
        let new = try SinkHarness(output.sink, restoring: state, epoch: 2)
        try new.write(["second"])
        try old.write(["a long row of one that should not write any more"])
        #expect(try output.lines == ["first"], "published when it was restored, and never changed")
        try new.write(["third"])
        _ = try new.snapshot(isSavepoint: true)
        try new.complete()
        try old.write(["and again"])
        try expect(["first", "second", "third"], in: output, new)
    }

    @Test func itBeginsAFileAndPassesABarrierThatNobodyKnows() throws {
        let output = try Output()
        let old = try SinkHarness(output.sink.rollInterval(.zero))
        try old.write(["first"])
        let state = try old.snapshot()
        let new = try SinkHarness(output.sink, restoring: state, epoch: 2)
        try old.write(["x"])
        _ = try old.snapshot()
        try new.write(["second"])
        try expect(["first", "second"], in: output, new)
        // At a later restore or start its files go.
        _ = try SinkHarness(output.sink, job: 2)
        #expect(output.names == [])
    }

    /// The checkpoint is complete and both attempts know it: either may publish, whoever comes first.
    @Test(arguments: [false, true]) func itHearsLateThatItsCheckpointIsComplete(isFirst: Bool) throws {
        let output = try Output()
        let old = try SinkHarness(output.sink.rollInterval(.zero))
        try old.write(["first"])
        let state = try old.snapshot()
        if isFirst { try old.complete() }
        let new = try SinkHarness(output.sink, restoring: state, epoch: 2)
        if !isFirst { try old.complete() }
        #expect(try output.lines == ["first"])
        try new.write(["second"])
        try expect(["first", "second"], in: output, new)
    }

    /// The checkpoint that the old attempt heard of turned out damaged: its successor restored the one before.
    @Test func itPublishesAfterItsSuccessorRestoredAnOlderCheckpoint() async throws {
        let output = try Output()
        let old = try SinkHarness(output.sink.rollInterval(.zero))
        try old.write(["first"])
        let state = try old.snapshot()
        try old.complete()
        try old.write(["second"])
        _ = try old.snapshot()
        let new = try SinkHarness(output.sink, restoring: state, epoch: 2)
        let failed = await failure { try old.complete() }
        #expect(failed?.message.contains("is gone") == true)
        try new.write(["again"])
        try expect(["first", "again"], in: output, new)
    }

    /// It was stopped while it restored; its successor has restored the same checkpoint, gone on, and published.
    @Test(arguments: [false, true]) func itGoesOnWithItsOwnRestore(wasClosed: Bool) throws {
        let output = try Output()
        let first = try SinkHarness(output.sink.rollInterval(wasClosed ? .zero : .seconds(60)))
        try first.write(["first"])
        let state = try first.snapshot()
        try first.write(["lost"])
        let old = try SinkHarness(output.sink, restoring: state, epoch: 2, isStarted: false)
        let new = try SinkHarness(output.sink, restoring: state, epoch: 3)
        try new.write(["second"])
        _ = try new.snapshot(isSavepoint: true)
        try new.complete()
        try new.write(["third"])
        try old.start()
        try old.write(["not this"])
        #expect(try output.lines == ["first", "second"])
        try expect(["first", "second", "third"], in: output, new)
    }

    /// The first attempt has nothing to restore: it would empty the directory.
    @Test func itStartsFromNothingAfterItsSuccessor() throws {
        let output = try Output()
        let old = try SinkHarness(output.sink, isStarted: false)
        let new = try SinkHarness(output.sink, epoch: 2)
        try new.write(["first"])
        _ = try new.snapshot(isSavepoint: true)
        try new.complete()
        try new.write(["second"])
        try old.start()
        try old.write(["not this"])
        try expect(["first", "second"], in: output, new)
    }
}
