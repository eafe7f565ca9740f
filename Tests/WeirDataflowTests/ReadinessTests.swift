import Synchronization
import Testing
import WeirBase
import WeirGraph

@testable import WeirDataflow

/// Operators that wait for something outside without holding the slot's thread.
@Suite struct ReadinessTests {
    private func snapshot(_ harness: Harness, _ task: TaskAttempt, _ checkpoint: UInt64) throws -> TaskSnapshot {
        try #require(harness.recorder.snapshots.withLock { $0[task]?[checkpoint] })
    }

    @Test(arguments: [false, true]) func aTaskTakesNothingWhileAnOperatorIsNotReady(chained: Bool) {
        let hold = Hold()
        let harness = Harness(scripts: [[.rows([1]), .rows([2])]], chained: chained, hold: hold)
        hold.isReady.store(false, ordering: .relaxed)
        harness.run()
        #expect(harness.recorder.states(harness.sink) == [.deploying, .running])
        #expect(harness.trace.rows.isEmpty)
        hold.isReady.store(true, ordering: .relaxed)
        harness.run()
        #expect(harness.trace.rows == [1, 2])
    }

    @Test func theTimeInWhichAnOperatorIsNotReadyIsBackPressure() throws {
        let hold = Hold()
        let harness = Harness(scripts: [[.rows([1])]], chained: true, hold: hold)
        hold.isReady.store(false, ordering: .relaxed)
        harness.run()
        harness.clock.advance(milliseconds: 50)
        harness.run()
        let metrics = try #require(harness.slot.metrics.first?.metrics)
        #expect(metrics.backPressuredNanoseconds.value == 50_000_000)
        #expect(metrics.idleNanoseconds.value == 0)
    }

    @Test func otherTasksOfTheSlotGoOn() {
        let hold = Hold()
        let harness = Harness(scripts: [[.rows([1]), .rows([2]), .rows([3])]], hold: hold)
        hold.isReady.store(false, ordering: .relaxed)
        harness.run()
        let source = harness.slot.metrics.first { $0.task == harness.attempts[0] }
        #expect(source?.metrics.rowsOut == 3)
        #expect(harness.trace.rows.isEmpty)
    }

    @Test func aTaskThatIsNotReadyAsksForNoTime() {
        let hold = Hold()
        let harness = Harness(scripts: [[.rows([1]), .pause]], chained: true, hold: hold)
        harness.run()
        #expect(harness.slot.nextDeadline() != nil)
        hold.isReady.store(false, ordering: .relaxed)
        harness.run()
        #expect(harness.slot.nextDeadline() == nil)
    }

    @Test func aBarrierPassesASourceWhoseSinkIsNotReady() {
        let hold = Hold()
        let harness = Harness(scripts: [[.rows([1])]], chained: true, hold: hold)
        hold.isReady.store(false, ordering: .relaxed)
        harness.slot.submit(.trigger(harness.attempts[0], barrier(1)))
        harness.run()
        #expect(harness.trace.events == [.snapshot(1)])
    }

    @Test func whatAnOperatorWaitedForCanFailItsTask() {
        let hold = Hold()
        let harness = Harness(scripts: [[.rows([1])]], hold: hold)
        hold.fails.store(true, ordering: .relaxed)
        harness.run()
        #expect(harness.recorder.failure(harness.sink)?.place?.operatorName == "probe")
        #expect(harness.trace.events.last == .closed)
    }

    @Test func theEndOfDataWaitsForAFlush() {
        let hold = Hold()
        let harness = Harness(scripts: [[.end]], chained: true, hold: hold)
        _ = harness.slot.runOnce()  // Deploys, and polls the source to its end.
        #expect(harness.recorder.states(harness.sink).last == .finishing)

        let held = Harness(scripts: [[.rows([1]), .end]], chained: true, hold: hold)
        hold.onRow.withLock { $0 = { _ in hold.isReady.store(false, ordering: .relaxed) } }
        held.run()
        #expect(held.trace.events == [.row(1)])
        #expect(held.recorder.states(held.sink).last == .running)
        hold.isReady.store(true, ordering: .relaxed)
        held.run()
        #expect(held.recorder.states(held.sink).last == .finishing)
    }

    // MARK: Cancellation

    @Test func aCancelledTaskSaysSoOnceItsOperatorsHaveSettled() {
        let hold = Hold()
        let harness = Harness(scripts: [[.rows([1])]], chained: true, hold: hold)
        harness.run()
        hold.isSettled.store(false, ordering: .relaxed)
        harness.slot.submit(.checkpointCompleted(Epoch(1), CheckpointID(1)))
        harness.slot.submit(.cancel(Epoch(1)))
        harness.run()
        #expect(harness.recorder.states(harness.sink).last == .running)
        #expect(harness.trace.events == [.row(1), .completed(1), .cancel])
        // It goes on hearing of checkpoints, takes part in none and takes no input.
        harness.slot.submit(.checkpointAborted(Epoch(1), CheckpointID(2)))
        harness.slot.submit(.trigger(harness.sink, barrier(3)))
        harness.slot.submit(.cancel(Epoch(1)))
        harness.run()
        #expect(harness.recorder.declined(harness.sink) == [3])
        hold.isSettled.store(true, ordering: .relaxed)
        harness.run()
        #expect(harness.recorder.states(harness.sink).last == .canceled)
        #expect(harness.trace.events == [.row(1), .completed(1), .cancel, .aborted(2), .closed])
        #expect(harness.slot.isEmpty)
    }

    @Test func aTaskThatCannotSettleHasFailed() {
        let hold = Hold()
        let harness = Harness(scripts: [[.rows([1])]], chained: true, hold: hold)
        harness.run()
        hold.isSettled.store(false, ordering: .relaxed)
        harness.slot.submit(.cancel(Epoch(1)))
        harness.run()
        hold.fails.store(true, ordering: .relaxed)
        harness.run()
        #expect(harness.recorder.failure(harness.sink) != nil)
        #expect(harness.slot.isEmpty)
    }

    @Test func anOperatorThatWaitsSeesTheCancellationAtOnce() {
        let hold = Hold()
        let harness = Harness(scripts: [[.rows([1, 2])]], chained: true, hold: hold)
        let slot = harness.slot
        let seen = Mutex<[Bool]>([])
        hold.onRow.withLock {
            $0 = { context in
                // As from another thread, in the middle of the work on a batch.
                if seen.withLock({ $0.count }) == 1 { slot.submit(.cancel(Epoch(1))) }
                seen.withLock { $0.append(context?.isCanceled ?? false) }
            }
        }
        harness.run()
        #expect(seen.withLock { $0 } == [false, true])
        #expect(harness.recorder.states(harness.sink).last == .canceled)
    }

    // MARK: Deferred state

    @Test func aSnapshotIsThereOnceItsDeferredStateIs() throws {
        let hold = Hold()
        let harness = Harness(scripts: [[.rows([1])]], chained: true, hold: hold)
        harness.run()
        harness.slot.submit(.trigger(harness.sink, barrier(1)))
        harness.run()
        let results = Mutex<[Result<TaskSnapshot, JobFailure>]>([])
        try snapshot(harness, harness.sink, 1).resolve { result in results.withLock { $0.append(result) } }
        #expect(results.withLock { $0.isEmpty })
        let state = try #require(hold.deferred.withLock { $0[1] })
        state.fulfil(.success([[1], [2]]))
        state.fulfil(.success([[3]]))
        let resolved = try #require(results.withLock { $0.count == 1 ? $0[0] : nil }).get()
        #expect(resolved.operators.map(\.operatorState["deferred"]).contains([[1], [2]]))
        #expect(resolved.operators.allSatisfy { $0.deferred.isEmpty })
        #expect(resolved.operators.contains { !$0.keyed.isEmpty })
        // What is known already comes at once.
        try snapshot(harness, harness.sink, 1).resolve { result in results.withLock { $0.append(result) } }
        #expect(results.withLock { $0.count } == 2)
    }

    @Test func aSnapshotFailsWithItsDeferredState() throws {
        let hold = Hold()
        let harness = Harness(scripts: [[.rows([1])]], chained: true, hold: hold)
        harness.run()
        harness.slot.submit(.trigger(harness.sink, barrier(1)))
        harness.run()
        let failure = JobFailure(domain: .external, recovery: .restart, message: "not flushed")
        let results = Mutex<[JobFailure]>([])
        try snapshot(harness, harness.sink, 1).resolve { result in
            if case .failure(let failure) = result { results.withLock { $0.append(failure) } }
        }
        hold.deferred.withLock { $0[1] }?.fulfil(.failure(failure))
        #expect(results.withLock { $0 } == [failure])
    }
}
