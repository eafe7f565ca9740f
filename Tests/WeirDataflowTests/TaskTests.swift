import Synchronization
import Testing
import WeirBase
import WeirGraph

@testable import WeirDataflow

@Suite struct TaskTests {
    private func trigger(_ harness: Harness, _ checkpoint: UInt64, sources: Int = 1, flags: Barrier.Flags = []) {
        for source in 0..<sources {
            harness.slot.submit(.trigger(harness.attempts[source], Barrier(checkpoint: checkpoint, timestamp: 0, flags: flags)))
        }
    }

    @Test func aTaskIsDeployedAndRuns() {
        let harness = Harness(scripts: [[.rows([1, 2]), .watermark(5), .rows([3])]])
        harness.run()
        #expect(harness.recorder.states(harness.attempts[0]) == [.deploying, .running])
        #expect(harness.trace.events == [.row(1), .row(2), .watermark(5), .row(3)])
    }

    @Test(arguments: [false, true]) func withoutCheckpointsATaskIsFinishedAtTheEndOfItsData(chained: Bool) {
        let harness = Harness(scripts: [[.rows([1]), .end]], chained: chained, isCheckpointed: false)
        harness.run()
        #expect(harness.trace.events == [.row(1), .end, .watermark(.max), .closed])
        #expect(harness.recorder.states(harness.sink) == [.deploying, .running, .finishing, .finished])
        #expect(harness.slot.isEmpty)
    }

    @Test func withCheckpointsAFinishedTaskWaitsForOneThatContainsItsEnd() {
        let harness = Harness(scripts: [[.rows([1]), .end], [.rows([2]), .pause]])
        let (first, second, sink) = (harness.attempts[0], harness.attempts[1], harness.attempts[2])
        harness.run()
        #expect(harness.recorder.states(first) == [.deploying, .running, .finishing])
        trigger(harness, 1, sources: 2)
        harness.run()
        #expect([first, second, sink].map(harness.recorder.acknowledged) == [[1], [1], [1]])
        harness.slot.submit(.checkpointCompleted(Epoch(1), CheckpointID(1)))
        harness.run()
        #expect(harness.recorder.states(first).last == .finished)
        #expect(harness.recorder.states(second).last == .running)
        // It is finished, and still part of the job's checkpoints.
        trigger(harness, 2, sources: 2)
        harness.run()
        #expect([first, second, sink].map(harness.recorder.acknowledged) == [[1, 2], [1, 2], [1, 2]])
        harness.slot.submit(.release(Epoch(1)))
        harness.run()
        #expect(harness.slot.isEmpty)
        #expect(harness.recorder.states(first).last == .finished)
        #expect(harness.recorder.states(second).last == .canceled)
    }

    @Test func theWholeJobFinishesWithItsLastCheckpoint() {
        let harness = Harness(scripts: [[.rows([1]), .end], [.rows([2]), .end]])
        harness.run()
        trigger(harness, 1, sources: 2)
        harness.run()
        harness.slot.submit(.checkpointCompleted(Epoch(1), CheckpointID(1)))
        harness.run()
        for attempt in harness.attempts { #expect(harness.recorder.states(attempt).last == .finished) }
        #expect(harness.trace.events.suffix(4) == [.end, .watermark(.max), .snapshot(1), .completed(1)])
    }

    @Test func aCheckpointFromBeforeTheEndFinishesNothing() {
        let harness = Harness(scripts: [[.rows([1]), .pause, .rows([2]), .end]])
        harness.run()
        trigger(harness, 1)
        harness.run()
        harness.slot.submit(.checkpointCompleted(Epoch(1), CheckpointID(1)))
        harness.run()
        #expect(harness.recorder.states(harness.sink).last == .running)
    }

    @Test func aCheckpointThatCompletesAfterTheEndButHoldsItNotFinishesNothing() {
        let harness = Harness(scripts: [[.rows([1]), .rows([2]), .end]])
        _ = harness.slot.runOnce()
        trigger(harness, 1)
        harness.run()
        #expect(harness.recorder.states(harness.sink).last == .finishing)
        harness.slot.submit(.checkpointCompleted(Epoch(1), CheckpointID(1)))
        harness.run()
        #expect(harness.recorder.states(harness.sink).last == .finishing)
        trigger(harness, 5)
        harness.run()
        harness.slot.submit(.checkpointCompleted(Epoch(1), CheckpointID(5)))
        harness.run()
        #expect(harness.recorder.states(harness.sink).last == .finished)
        #expect(harness.trace.rows == [1, 2])
        #expect(harness.trace.events.contains(.snapshot(5)))
        #expect(harness.recorder.snapshots.withLock { $0[harness.sink]?[5]?.checkpoint } == CheckpointID(5))
    }

    @Test(arguments: [false, true]) func theSnapshotHoldsWhatCameBeforeTheBarrier(remote: Bool) throws {
        let harness = Harness(scripts: [[.rows([1, 2]), .pause], [.rows([3]), .pause]], remote: remote)
        harness.run()
        trigger(harness, 7, sources: 2)
        harness.run()
        let snapshot = try #require(harness.recorder.snapshots.withLock { $0[harness.sink]?[7] })
        #expect(snapshot.operators.map(\.operatorID) == [OperatorID(uid: "probe")])
        #expect(try rows(of: #require(snapshot.operators.first?.keyed.first).part).sorted() == [1, 2, 3])
        let source = try #require(harness.recorder.snapshots.withLock { $0[harness.attempts[0]]?[7] })
        #expect(source.operators.first?.operatorState["position"] == [[1, 0, 0, 0, 0, 0, 0, 0]])
    }

    @Test func aChainTakesOneSnapshotOfAllItsOperators() throws {
        let harness = Harness(scripts: [[.rows([1]), .pause]], chained: true)
        harness.run()
        trigger(harness, 1)
        harness.run()
        let snapshot = try #require(harness.recorder.snapshots.withLock { $0[harness.sink]?[1] })
        #expect(snapshot.operators.map(\.operatorID) == [OperatorID(uid: "source"), OperatorID(uid: "probe")])
    }

    @Test func anOperatorIsOpenedThenRestoredThenStarted() {
        let fresh = Harness(scripts: [[]])
        fresh.run()
        #expect(fresh.trace.lifecycle.withLock { $0 } == ["open", "start"])
        let restored = Harness(scripts: [[]], restore: [OperatorID(uid: "probe"): RestoredState(checkpoint: 9)])
        restored.run()
        #expect(restored.trace.lifecycle.withLock { $0 } == ["open restored", "restore 9", "start"])
    }

    @Test func aRestoredSourceGoesOnWhereItStood() {
        let state = RestoredState(checkpoint: 1, unions: ["position": [[1, 0, 0, 0, 0, 0, 0, 0]]])
        let harness = Harness(scripts: [[.rows([1]), .rows([2])]], restore: [OperatorID(uid: "source"): state])
        harness.run()
        #expect(harness.trace.rows == [2])
    }

    @Test(arguments: [false, true]) func whatAnOperatorThrowsFailsTheTaskAndNamesIt(chained: Bool) {
        let harness = Harness(scripts: [[.rows([1]), .rows([2]), .rows([3])]], chained: chained, failsAt: 2)
        harness.run()
        let failure = harness.recorder.failure(harness.sink)
        #expect(failure?.place == .init(operatorName: "probe", subtask: 0, parallelism: 1, taskManager: "tm-1"))
        #expect(failure?.domain == .user && failure?.recovery == .restart)
        #expect(harness.trace.events == [.row(1), .closed])
    }

    @Test func aFailingSourceIsNamed() {
        let harness = Harness(scripts: [[.fail]])
        harness.run()
        #expect(harness.recorder.failure(harness.attempts[0])?.place?.operatorName == "source")
        #expect(harness.recorder.states(harness.sink).last == .running)
    }

    @Test func cancelReportsEveryTaskOfTheAttemptAndClosesIt() {
        let harness = Harness(scripts: [[.rows([1])]])
        harness.run()
        harness.slot.submit(.cancel(Epoch(2)))
        harness.run()
        #expect(!harness.slot.isEmpty)
        harness.slot.submit(.cancel(Epoch(1)))
        harness.run()
        for attempt in harness.attempts { #expect(harness.recorder.states(attempt).last == .canceled) }
        #expect(harness.trace.events == [.row(1), .cancel, .closed])
        #expect(harness.slot.isEmpty && harness.slot.metrics.isEmpty)
    }

    @Test func aTriggerForATaskThatIsNotThereIsDeclined() {
        let harness = Harness(scripts: [[.pause]])
        harness.run()
        let other = TaskAttempt(epoch: Epoch(9), subtask: harness.attempts[0].subtask)
        harness.slot.submit(.trigger(other, barrier(1)))
        harness.slot.submit(.trigger(harness.sink, barrier(1)))
        trigger(harness, 2)
        trigger(harness, 2)
        harness.run()
        #expect(harness.recorder.declined(other) == [1])
        #expect(harness.recorder.declined(harness.sink) == [1])
        #expect(harness.recorder.declined(harness.attempts[0]) == [2])
        #expect(harness.recorder.acknowledged(harness.attempts[0]) == [2])
    }

    @Test func aCheckpointThatNotAllSourcesStartedIsReplacedByTheNext() {
        let harness = Harness(scripts: [[.pause], [.pause]])
        harness.run()
        trigger(harness, 1, sources: 1)
        harness.run()
        trigger(harness, 2, sources: 2)
        harness.run()
        #expect(harness.recorder.declined(harness.sink) == [1])
        #expect(harness.recorder.acknowledged(harness.sink) == [2])
    }

    @Test func anAbortLetsTheHeldBackChannelGoOn() {
        let harness = Harness(scripts: [[.rows([1]), .pause], [.pause]])
        harness.run()
        trigger(harness, 1, sources: 1)
        harness.run()
        harness.slot.submit(.checkpointAborted(Epoch(1), CheckpointID(1)))
        trigger(harness, 2, sources: 2)
        harness.run()
        #expect(harness.recorder.acknowledged(harness.sink) == [2])
        #expect(harness.recorder.declined(harness.sink) == [])
        #expect(harness.trace.events.contains(.aborted(1)))
    }

    @Test func aStoppedSourceEmitsNothingBehindItsSavepoint() {
        let harness = Harness(scripts: [[.rows([1]), .rows([2]), .rows([3])]])
        _ = harness.slot.runOnce()
        trigger(harness, 1, flags: [.savepoint, .stop])
        harness.run()
        #expect(harness.trace.events == [.row(1), .snapshot(1)])
        harness.slot.submit(.checkpointAborted(Epoch(1), CheckpointID(1)))
        harness.run()
        #expect(harness.trace.rows == [1, 2, 3])
    }

    @Test func idlenessPassesThroughAndEnds() {
        let harness = Harness(scripts: [[.watermark(1), .idle(true), .idle(true), .idle(false), .watermark(2)]])
        harness.run()
        #expect(harness.trace.events == [.watermark(1), .idle(true), .idle(false), .watermark(2)])
    }

    @Test func aWatermarkEndsIdleness() {
        let harness = Harness(scripts: [[.idle(true), .watermark(3)]])
        harness.run()
        #expect(harness.trace.events == [.idle(true), .idle(false), .watermark(3)])
    }

    @Test func aCallBackComesOnceItsTimeHasCome() {
        let harness = Harness(scripts: [[.rows([50]), .pause]], chained: true, callsBack: true)
        harness.run()
        #expect(harness.slot.nextDeadline() == Instant(nanoseconds: 50_000_000))
        harness.clock.advance(milliseconds: 49)
        harness.run()
        #expect(harness.trace.events == [.row(50)])
        harness.clock.advance(milliseconds: 1)
        harness.run()
        harness.run()
        #expect(harness.trace.events == [.row(50), .time(50)])
    }

    @Test func rowsInUnfilledBatchesGoOutWhenTheSourceIsIdle() {
        let harness = Harness(scripts: [[.rows([1, 2, 3]), .pause]], partitioner: .hash, sinks: 2)
        harness.run()
        #expect(harness.trace.rows.sorted() == [1, 2, 3])
    }

    @Test func rowsThatASourceEmitsBeforeItIsIdleGoOut() {
        let harness = Harness(scripts: [[.rowsAndIdle([1, 2, 3])]], partitioner: .hash, sinks: 2)
        harness.run()
        #expect(harness.trace.rows.sorted() == [1, 2, 3])
    }

    @Test func rowsInUnfilledBatchesGoOutInFrontOfEveryControlElement() throws {
        let harness = Harness(
            scripts: [[.rows([1, 2, 3]), .watermark(3), .rows([4, 5]), .end]], isCheckpointed: false, partitioner: .hash, sinks: 2)
        harness.run()
        #expect(harness.trace.rows.sorted() == [1, 2, 3, 4, 5])
        let events = harness.trace.events
        let firstWatermark = try #require(events.firstIndex(of: .watermark(3)))
        let lastWatermark = try #require(events.lastIndex(of: .watermark(3)))
        for row in 1...3 as ClosedRange<Int64> { #expect(try #require(events.firstIndex(of: .row(row))) < lastWatermark) }
        for row in 4...5 as ClosedRange<Int64> { #expect(try #require(events.firstIndex(of: .row(row))) > firstWatermark) }
        #expect(harness.slot.isEmpty)
    }

    @Test func rowsDoNotWaitLongerThanTheBufferTimeoutWhenTheSourceIsBusy() {
        let harness = Harness(scripts: [(0..<1_000).map { .rows([$0]) }], partitioner: .hash, sinks: 2)
        for _ in 0..<20 { _ = harness.slot.runOnce() }
        #expect(harness.trace.rows.isEmpty)
        harness.clock.advance(milliseconds: 100)
        for _ in 0..<3 { _ = harness.slot.runOnce() }
        #expect(harness.trace.rows.count >= 20)
    }

    @Test func aSnapshotBehindUnfilledBatchesHoldsTheirRows() throws {
        let harness = Harness(scripts: [[.rows([1, 2, 3]), .rows([4])]], partitioner: .hash, sinks: 2)
        _ = harness.slot.runOnce()
        _ = harness.slot.runOnce()
        trigger(harness, 1)
        harness.run()
        var seen: [Int64] = []
        for sink in harness.attempts.suffix(2) {
            let snapshot = try #require(harness.recorder.snapshots.withLock { $0[sink]?[1] })
            seen += try rows(of: #require(snapshot.operators.first?.keyed.first).part)
        }
        #expect(seen.sorted() == [1, 2, 3, 4])
    }

    @Test(arguments: [false, true]) func watermarksOfAnOperatorNeverGoBack(chained: Bool) {
        let harness = Harness(scripts: [[.watermark(5), .watermark(4), .watermark(6), .watermark(.max)]], chained: chained)
        harness.run()
        #expect(harness.trace.watermarks == [5, 6])
    }

    @Test func aBlockedTaskTakesNoInput() {
        // The sink's slot does not run: only the source's does.
        let harness = Harness(scripts: [(0..<100).map { .rows([$0]) }], capacity: 2)
        _ = harness.slot.runOnce()
        harness.run()
        #expect(harness.trace.rows == Array(0..<100))
        let channel = LocalChannel(capacity: 2)
        let edge = harness.graph.edges[0]
        let alone = Harness(scripts: [(0..<100).map { .rows([$0]) }])
        alone.slot.submit(.cancel(Epoch(1)))
        alone.run()
        let attempt = TaskAttempt(epoch: Epoch(2), subtask: alone.attempts[0].subtask)
        alone.slot.submit(
            .deploy(
                TaskPlan(
                    attempt: attempt, graph: alone.graph, inputs: [], outputs: [.init(edge: edge, channels: [.local(channel)])],
                    isCheckpointed: true)))
        alone.run()
        #expect(alone.slot.metrics.map(\.metrics.rowsOut) == [3], "two in the channel, one waits")
        alone.clock.advance(milliseconds: 5)
        #expect(!alone.slot.runOnce())
        #expect(alone.slot.metrics.first?.metrics.backPressuredNanoseconds.value == 5_000_000)
        #expect(channel.pop() != nil)
        #expect(alone.slot.runOnce())
        #expect(alone.slot.metrics.map(\.metrics.rowsOut) == [4])
    }

    @Test func aPlanThatDoesNotFitTheCodeFailsTheTask() {
        let harness = Harness(scripts: [[.pause]])
        harness.run()
        let attempt = TaskAttempt(epoch: Epoch(3), subtask: SubtaskID(vertex: VertexID(9), index: 0))
        harness.slot.submit(.deploy(TaskPlan(attempt: attempt, graph: harness.graph, inputs: [], outputs: [], isCheckpointed: true)))
        let noInput = TaskAttempt(epoch: Epoch(3), subtask: harness.sink.subtask)
        harness.slot.submit(.deploy(TaskPlan(attempt: noInput, graph: harness.graph, inputs: [], outputs: [], isCheckpointed: true)))
        harness.run()
        #expect(harness.recorder.failure(attempt)?.recovery == .fail)
        #expect(harness.recorder.failure(noInput)?.recovery == .fail)
    }

    @Test func metricsCountRowsAndTime() {
        let harness = Harness(scripts: [[.rows([1, 2, 3]), .watermark(44)]])
        harness.run()
        harness.clock.advance(milliseconds: 2)
        _ = harness.slot.runOnce()
        let metrics = harness.slot.metrics
        #expect(metrics.map(\.metrics.rowsOut) == [3, 0])
        #expect(metrics.map(\.metrics.rowsIn.value) == [0, 3])
        #expect(metrics.map(\.metrics.watermark.value) == [44, 44])
        #expect(metrics[1].metrics.idleNanoseconds.value == 2_000_000)
        #expect(metrics[1].metrics.operators.map(\.rowsIn) == [3])
    }

    @Test func theDeadlineIsTheSourcesWish() {
        let harness = Harness(scripts: [[.pause]])
        #expect(harness.slot.nextDeadline() == nil)
        harness.run()
        #expect(harness.slot.nextDeadline() == Instant(nanoseconds: 1_000_000_000))
    }
}
