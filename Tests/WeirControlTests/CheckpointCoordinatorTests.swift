import Testing
import WeirBase

@testable import WeirControl

private let source = SubtaskID(vertex: VertexID(0), index: 0)
private let sink = SubtaskID(vertex: VertexID(1), index: 0)

private func id(_ value: UInt64) -> CheckpointID { CheckpointID(value) }
private func seconds(_ value: Double) -> Instant { Instant(nanoseconds: Int64(value * 1e9)) }

private func file(_ path: String) -> StateFile { StateFile(path: path, lengthBytes: 10, crc32c: 1) }
private func state(_ subtask: SubtaskID, _ path: String, shared: [String] = []) -> StateHandle {
    StateHandle(subtask: subtask, content: .file(file(path)), shared: shared.map(file))
}

/// A coordinator of one source and one sink that checkpoint every 10 s.
private struct Bench {
    var coordinator: CheckpointCoordinator

    init(
        restoreFrom: [CompletedCheckpoint] = [], last: CheckpointID? = nil, starts: Bool = true,
        _ change: (inout CheckpointOptions) -> Void = { _ in }
    ) {
        var options = CheckpointOptions()
        options.retained = 1
        change(&options)
        coordinator = CheckpointCoordinator(
            job: JobID(high: 0, low: 1), options: options, maxParallelism: 128, vertices: [], restoreFrom: restoreFrom, lastCheckpoint: last)
        if starts { _ = coordinator.start(epoch: Epoch(1), subtasks: [source, sink], sources: [source], now: seconds(0)) }
    }

    static func quiet(_ effects: [CheckpointCoordinator.Effect]) -> [CheckpointCoordinator.Effect] {
        effects.filter {
            if case .log = $0 { return false }
            return true
        }
    }

    mutating func tick(at time: Double) -> [CheckpointCoordinator.Effect] { Self.quiet(coordinator.timerFired(.trigger, now: seconds(time))) }

    mutating func acknowledge(_ checkpoint: UInt64, _ state: StateHandle, at time: Double) -> [CheckpointCoordinator.Effect] {
        Self.quiet(coordinator.acknowledge(id(checkpoint), state, now: seconds(time)))
    }

    mutating func publish(_ checkpoint: UInt64, at time: Double) -> [CheckpointCoordinator.Effect] {
        Self.quiet(coordinator.published(id(checkpoint), path: "chk-\(checkpoint)", now: seconds(time)))
    }

    /// Takes a whole checkpoint, from the due trigger to its publication.
    mutating func complete(_ checkpoint: UInt64, at time: Double, shared: [String] = []) -> [CheckpointCoordinator.Effect] {
        _ = tick(at: time)
        _ = acknowledge(checkpoint, state(source, "\(checkpoint)-source", shared: shared), at: time + 1)
        _ = acknowledge(checkpoint, state(sink, "\(checkpoint)-sink"), at: time + 1)
        return publish(checkpoint, at: time + 2)
    }
}

private func checkpoint(_ value: UInt64, files: [String], isOwned: Bool = true) -> CompletedCheckpoint {
    CompletedCheckpoint(
        job: JobID(high: 0, low: 1), id: id(value), epoch: Epoch(1), maxParallelism: 128, vertices: [],
        handles: files.map { state(source, $0) }, path: "chk-\(value)", isOwned: isOwned)
}

@Suite struct CheckpointTriggerTests {
    @Test func theTimerTriggersTheSourcesOnce() {
        var bench = Bench()
        #expect(
            bench.tick(at: 10) == [
                .setTimer(.timeout(id(1)), after: .seconds(600)), .trigger(id(1), .periodic, sources: [source]),
                .setTimer(.trigger, after: .seconds(10)),
            ])
        // A cancelled timer that fired all the same.
        #expect(bench.tick(at: 10) == [.setTimer(.trigger, after: .seconds(10))])
    }

    @Test func nothingIsTriggeredBeforeAllTasksRun() {
        var bench = Bench(starts: false)
        #expect(bench.tick(at: 10) == [])
    }

    @Test func aTriggerWaitsForTheCheckpointInFlight() {
        var bench = Bench()
        _ = bench.tick(at: 10)
        #expect(bench.tick(at: 20) == [])
        _ = bench.acknowledge(1, state(source, "a"), at: 25)
        _ = bench.acknowledge(1, state(sink, "b"), at: 25)
        let effects = bench.publish(1, at: 26)
        #expect(effects.contains(.trigger(id(2), .periodic, sources: [source])))
    }

    @Test func aPausePutsTheTriggerOff() {
        var bench = Bench { $0.minPause = .seconds(9) }
        _ = bench.complete(1, at: 10)  // Ends at 12.
        #expect(bench.tick(at: 20) == [.setTimer(.trigger, after: .seconds(1))])
        #expect(bench.tick(at: 21).contains(.trigger(id(2), .periodic, sources: [source])))
    }

    @Test func asManyAsAllowedAreInFlight() {
        var bench = Bench { $0.maxConcurrent = 2 }
        _ = bench.tick(at: 10)
        #expect(bench.tick(at: 20).contains(.trigger(id(2), .periodic, sources: [source])))
        #expect(bench.tick(at: 30) == [])
        #expect(bench.coordinator.inFlight == 2)
    }

    @Test func idsRiseAboveAllThatWereRestored() {
        var restored = Bench(restoreFrom: [checkpoint(41, files: ["x"]), checkpoint(7, files: ["y"])])
        #expect(restored.tick(at: 10).contains(.trigger(id(42), .periodic, sources: [source])))
        var told = Bench(restoreFrom: [checkpoint(41, files: ["x"])], last: id(99))
        #expect(told.tick(at: 10).contains(.trigger(id(100), .periodic, sources: [source])))
    }

    @Test func idsRiseOverARestart() {
        var bench = Bench()
        _ = bench.tick(at: 10)
        _ = bench.coordinator.stop()
        _ = bench.coordinator.start(epoch: Epoch(2), subtasks: [source, sink], sources: [source], now: seconds(20))
        #expect(bench.tick(at: 30).contains(.trigger(id(2), .periodic, sources: [source])))
    }
}

@Suite struct CheckpointCompletionTests {
    @Test func theTasksHearOfCheckpointsThatAreGivenUpWithThem() {
        var bench = Bench { $0.maxConcurrent = 2 }
        _ = bench.tick(at: 10)
        _ = bench.acknowledge(1, state(source, "1-source"), at: 11)
        _ = bench.acknowledge(1, state(sink, "1-sink"), at: 11)
        _ = bench.tick(at: 20)
        let aborted = bench.coordinator.stop().compactMap { if case .notifyAborted(let id) = $0 { id } else { nil } }
        #expect(aborted == [id(2)], "checkpoint 1 is being published: it may come to exist")
    }

    @Test func itIsPublishedOnceAllHaveAcknowledgedAndAnnouncedOnceDurable() {
        var bench = Bench()
        _ = bench.tick(at: 10)
        #expect(bench.acknowledge(1, state(sink, "b"), at: 11) == [])
        let ready = bench.acknowledge(1, state(source, "a"), at: 12)
        #expect(ready.first == .cancelTimer(.timeout(id(1))))
        guard case .publish(let completed) = ready.last else { return #expect(Bool(false), "\(ready)") }
        #expect(completed.handles == [state(source, "a"), state(sink, "b")])
        #expect(completed.duration == .seconds(2))
        #expect(bench.coordinator.latestCompleted == nil)
        #expect(bench.publish(1, at: 13) == [.notifyComplete(id(1), isFinal: false)])
        #expect(bench.coordinator.latestCompleted?.path == "chk-1")
        // Said twice by a confused shell.
        #expect(bench.publish(1, at: 14) == [])
    }

    @Test func anAcknowledgementAfterTheTimeoutIsDiscardedNotPublished() {
        var bench = Bench { $0.tolerableFailed = 1 }
        _ = bench.tick(at: 10)
        _ = bench.acknowledge(1, state(source, "a"), at: 11)
        let effects = Bench.quiet(bench.coordinator.timerFired(.timeout(id(1)), now: seconds(610)))
        #expect(effects.contains(.notifyAborted(id(1))))
        #expect(effects.contains(.discard([file("a")])))
        #expect(bench.acknowledge(1, state(sink, "b"), at: 611) == [.discard([file("b")])])
    }

    @Test func anAcknowledgementSaidTwiceCostsNothing() {
        var bench = Bench()
        _ = bench.tick(at: 10)
        _ = bench.acknowledge(1, state(source, "a"), at: 11)
        #expect(bench.acknowledge(1, state(source, "a"), at: 11) == [])
    }

    @Test func toleratedFailuresAreCountedInARow() {
        var bench = Bench { $0.tolerableFailed = 1 }
        func isFatal(_ effects: [CheckpointCoordinator.Effect]) -> Bool {
            effects.contains {
                if case .failJob = $0 { return true }
                return false
            }
        }
        _ = bench.tick(at: 10)
        #expect(!isFatal(bench.coordinator.decline(id(1), by: sink, reason: "full", now: seconds(11))))
        _ = bench.complete(2, at: 20)
        _ = bench.tick(at: 30)
        #expect(!isFatal(bench.coordinator.decline(id(3), by: sink, reason: "full", now: seconds(31))))
        _ = bench.tick(at: 40)
        #expect(isFatal(bench.coordinator.decline(id(4), by: sink, reason: "full", now: seconds(41))))
    }

    @Test func aFailedPublicationDiscardsTheState() {
        var bench = Bench { $0.tolerableFailed = 1 }
        _ = bench.tick(at: 10)
        _ = bench.acknowledge(1, state(source, "a"), at: 11)
        _ = bench.acknowledge(1, state(sink, "b"), at: 11)
        let effects = Bench.quiet(bench.coordinator.publishFailed(id(1), reason: "disk full", now: seconds(12)))
        #expect(effects.contains(.discard([file("a"), file("b")])))
        #expect(bench.coordinator.latestCompleted == nil)
    }

    @Test func whatIsBeingPublishedSurvivesAFailureAndIsNotAnnounced() {
        var bench = Bench()
        _ = bench.tick(at: 10)
        _ = bench.acknowledge(1, state(source, "a"), at: 11)
        _ = bench.acknowledge(1, state(sink, "b"), at: 11)
        #expect(!Bench.quiet(bench.coordinator.stop()).contains { if case .discard = $0 { true } else { false } })
        #expect(bench.coordinator.isPublishing)
        #expect(bench.publish(1, at: 12) == [])
        #expect(bench.coordinator.latestCompleted?.id == id(1))
    }

    @Test func checkpointsArePublishedOneAtATimeAndOlderOnesAreSubsumed() {
        var bench = Bench { $0.maxConcurrent = 3 }
        for time in [10.0, 20, 30] { _ = bench.tick(at: time) }
        _ = bench.acknowledge(2, state(source, "2a"), at: 31)
        #expect(bench.acknowledge(2, state(sink, "2b"), at: 31).contains { if case .publish = $0 { true } else { false } })
        _ = bench.acknowledge(3, state(source, "3a"), at: 32)
        #expect(!bench.acknowledge(3, state(sink, "3b"), at: 32).contains { if case .publish = $0 { true } else { false } })
        _ = bench.acknowledge(1, state(source, "1a"), at: 33)
        let effects = bench.publish(2, at: 34)
        #expect(effects.contains(.notifyAborted(id(1))))
        #expect(effects.contains(.discard([file("1a")])))
        #expect(effects.contains { if case .publish(let next) = $0 { next.id == id(3) } else { false } })
    }
}

@Suite struct CheckpointRetentionTests {
    @Test func theOldestIsDiscardedBeyondTheRetained() {
        var bench = Bench { $0.retained = 2 }
        _ = bench.complete(1, at: 10)
        #expect(!bench.complete(2, at: 20).contains { if case .discardCheckpoint = $0 { true } else { false } })
        #expect(
            bench.complete(3, at: 30).contains(.discardCheckpoint(id(1), path: "chk-1", files: [file("1-sink"), file("1-source")])))
        #expect(bench.coordinator.retained.map(\.id) == [id(2), id(3)])
    }

    @Test func aFileIsKeptWhileARetainedCheckpointSharesIt() {
        var bench = Bench()
        _ = bench.complete(1, at: 10)
        // The metadata goes at once; the files linger until no task can build on them any more.
        #expect(bench.complete(2, at: 20, shared: ["1-source"]).contains(.discardCheckpoint(id(1), path: "chk-1", files: [])))
        let third = bench.complete(3, at: 30)
        #expect(third.contains(.discard([file("1-sink")])))
        let fourth = bench.complete(4, at: 40)
        #expect(fourth.contains(.discard([file("1-source"), file("2-sink"), file("2-source")])))
    }

    @Test func aTaskThatHasNotHeardOfTheLatestMayBuildOnTheOneBefore() {
        var bench = Bench()
        _ = bench.complete(1, at: 10)
        _ = bench.complete(2, at: 20, shared: ["1-source"])
        _ = bench.tick(at: 30)
        #expect(bench.acknowledge(3, state(source, "3-source", shared: ["1-source"]), at: 31) == [])
    }

    @Test func stateThatBuildsOnWhatIsGoneFailsTheCheckpoint() {
        var bench = Bench { $0.tolerableFailed = 1 }
        _ = bench.complete(1, at: 10)
        _ = bench.tick(at: 20)
        let effects = bench.acknowledge(2, state(source, "2-source", shared: ["never"]), at: 21)
        #expect(effects.contains(.notifyAborted(id(2))))
        #expect(effects.contains(.discard([file("2-source")])))
    }

    @Test func checkpointsOfOthersAreNeverDiscarded() {
        var bench = Bench(restoreFrom: [checkpoint(5, files: ["foreign"], isOwned: false)])
        let effects = bench.complete(6, at: 10)
        #expect(effects == [.notifyComplete(id(6), isFinal: false)])
        #expect(bench.coordinator.retained.map(\.id) == [id(6)])
    }

    @Test func theEndDiscardsAllOrNothing() {
        var kept = Bench()
        _ = kept.complete(1, at: 10)
        #expect(!Bench.quiet(kept.coordinator.end(discardRetained: false)).contains { if case .discardCheckpoint = $0 { true } else { false } })
        var gone = Bench()
        _ = gone.complete(1, at: 10)
        #expect(
            Bench.quiet(gone.coordinator.end(discardRetained: true)).contains(
                .discardCheckpoint(id(1), path: "chk-1", files: [file("1-sink"), file("1-source")])))
    }

    @Test func aPublicationThatEndsAfterTheJobIsDiscardedWithIt() {
        var bench = Bench()
        _ = bench.tick(at: 10)
        _ = bench.acknowledge(1, state(source, "a"), at: 11)
        _ = bench.acknowledge(1, state(sink, "b"), at: 11)
        _ = bench.coordinator.end(discardRetained: true)
        #expect(bench.publish(1, at: 12) == [.discardCheckpoint(id(1), path: "chk-1", files: [file("a"), file("b")])])
    }

    @Test func aDamagedCheckpointIsPutAsideWithAllThatShareTheFile() {
        var second = checkpoint(2, files: ["b"])
        second.handles[0].shared = [file("a")]
        var bench = Bench(restoreFrom: [checkpoint(1, files: ["z"]), checkpoint(3, files: ["a"]), second], starts: false)
        let effects = bench.coordinator.restoreFailed(id(3), path: "a", reason: "checksum")
        #expect(bench.coordinator.latestCompleted?.id == id(1))
        #expect(bench.coordinator.damaged.count == 2)
        let errors = effects.filter { if case .log(.error, _, _) = $0 { true } else { false } }
        #expect(errors.count == 2)
    }
}

@Suite struct FinalCheckpointTests {
    @Test func finishedTasksThatAnswerTakePartInABarrier() {
        var bench = Bench()
        _ = bench.coordinator.taskFinished(source, finalState: nil, now: seconds(1))
        _ = bench.coordinator.taskFinished(sink, finalState: nil, now: seconds(1))
        let effects = Bench.quiet(bench.coordinator.allTasksFinished(now: seconds(1)))
        #expect(effects.contains(.trigger(id(1), .final, sources: [source])))
        #expect(effects.contains(.cancelTimer(.trigger)))
        _ = bench.acknowledge(1, state(source, "a"), at: 2)
        _ = bench.acknowledge(1, state(sink, "b"), at: 2)
        #expect(bench.publish(1, at: 3) == [.notifyComplete(id(1), isFinal: true), .finalCheckpointCompleted])
    }

    @Test func finalStatesNeedNoBarrier() {
        var bench = Bench()
        _ = bench.coordinator.taskFinished(source, finalState: state(source, "a"), now: seconds(1))
        _ = bench.coordinator.taskFinished(sink, finalState: state(sink, "b"), now: seconds(1))
        let effects = Bench.quiet(bench.coordinator.allTasksFinished(now: seconds(1)))
        #expect(!effects.contains { if case .trigger = $0 { true } else { false } })
        #expect(effects.contains { if case .publish(let final) = $0 { final.kind == .final && final.handles.count == 2 } else { false } })
    }

    @Test func aFinalStateCountsInACheckpointInFlight() {
        var bench = Bench()
        _ = bench.tick(at: 10)
        _ = bench.acknowledge(1, state(source, "a"), at: 11)
        let effects = Bench.quiet(bench.coordinator.taskFinished(sink, finalState: state(sink, "end"), now: seconds(12)))
        #expect(effects.contains { if case .publish(let ready) = $0 { ready.handles.last == state(sink, "end") } else { false } })
    }

    @Test func withoutAnIntervalThereIsStillAFinalOne() {
        var bench = Bench { $0.interval = nil }
        #expect(bench.tick(at: 10) == [])
        #expect(Bench.quiet(bench.coordinator.allTasksFinished(now: seconds(1))).contains(.trigger(id(1), .final, sources: [source])))
    }

    @Test func aToleratedFailureIsTriedAgain() {
        var bench = Bench { $0.tolerableFailed = 1 }
        _ = bench.coordinator.allTasksFinished(now: seconds(1))
        #expect(
            Bench.quiet(bench.coordinator.decline(id(1), by: sink, reason: "full", now: seconds(2))).contains(
                .setTimer(.trigger, after: .milliseconds(100))))
        #expect(bench.tick(at: 2.1).contains(.trigger(id(2), .final, sources: [source])))
    }
}

@Suite struct SavepointTests {
    private let savepoint = CheckpointCoordinator.Savepoint(request: RequestID(9), directory: "/s")

    @Test func aSavepointIsNeitherRetainedNorCommitted() {
        var bench = Bench()
        _ = bench.coordinator.trigger(savepoint, now: seconds(1))
        _ = bench.acknowledge(1, state(source, "a"), at: 2)
        _ = bench.acknowledge(1, state(sink, "b"), at: 2)
        #expect(bench.publish(1, at: 3) == [.savepointCompleted(savepoint, id(1), path: "chk-1")])
        #expect(bench.coordinator.retained.isEmpty)
        // Its files are the user's: an acknowledgement that comes twice does not cost them.
        #expect(bench.acknowledge(1, state(sink, "b"), at: 4) == [])
    }

    @Test func aSavepointStandsForItself() {
        var bench = Bench()
        _ = bench.complete(1, at: 10)
        _ = bench.coordinator.trigger(savepoint, now: seconds(13))
        let effects = bench.acknowledge(2, state(source, "a", shared: ["1-source"]), at: 14)
        #expect(effects.contains { if case .savepointFailed = $0 { true } else { false } })
    }

    @Test func itDoesNotCountAgainstTheJobWhenItFails() {
        var bench = Bench()
        _ = bench.coordinator.trigger(savepoint, now: seconds(1))
        let effects = bench.coordinator.decline(id(1), by: sink, reason: "full", now: seconds(2))
        #expect(effects.contains { if case .savepointFailed = $0 { true } else { false } })
        #expect(!effects.contains { if case .failJob = $0 { true } else { false } })
    }

    @Test func everySavepointHasADirectoryOfItsOwn() {
        var bench = Bench()
        let directories = (1...2).flatMap { _ in
            bench.coordinator.trigger(savepoint, now: seconds(1)).compactMap { effect -> String? in
                if case .trigger(_, .savepoint(let directory, .continues), _) = effect { directory } else { nil }
            }
        }
        #expect(directories == ["/s/savepoint-000000000000-1-1", "/s/savepoint-000000000000-2-1"])
    }

    @Test func whileTheJobStopsNoOtherIsTaken() {
        var bench = Bench()
        _ = bench.coordinator.trigger(.init(request: RequestID(9), directory: "/s", mode: .stops), now: seconds(1))
        #expect(bench.coordinator.trigger(savepoint, now: seconds(1)).contains { if case .savepointFailed = $0 { true } else { false } })
    }

    @Test func theHistoryIsBounded() {
        var bench = Bench { $0.tolerableFailed = 1_000 }
        for number in 1...UInt64(CheckpointHistory.recordsMax + 5) { _ = bench.complete(number, at: Double(number) * 10) }
        let records = bench.coordinator.history.records
        #expect(records.count == CheckpointHistory.recordsMax && records.last?.id == id(UInt64(CheckpointHistory.recordsMax + 5)))
        #expect(records.count { !$0.details.isEmpty } == CheckpointHistory.detailedMax)
        #expect(records.allSatisfy { $0.outcome != .inProgress && $0.acknowledged == 2 && $0.sizeBytes == 20 })
    }

    @Test func theLimitIsKept() {
        var bench = Bench()
        for _ in 0..<CheckpointCoordinator.savepointsInFlightMax {
            #expect(!bench.coordinator.trigger(savepoint, now: seconds(1)).contains { if case .savepointFailed = $0 { true } else { false } })
        }
        #expect(bench.coordinator.trigger(savepoint, now: seconds(1)).contains { if case .savepointFailed = $0 { true } else { false } })
    }

    @Test func beforeTheTasksRunItIsRefused() {
        var bench = Bench(starts: false)
        #expect(bench.coordinator.trigger(savepoint, now: seconds(1)).contains { if case .savepointFailed = $0 { true } else { false } })
    }

    @Test func noCheckpointIsBegunBehindOneThatEndsTheJob() {
        var bench = Bench()
        let last = CheckpointCoordinator.Savepoint(request: RequestID(9), directory: "/s", mode: .stops)
        _ = bench.coordinator.trigger(last, now: seconds(1))
        #expect(bench.tick(at: 10).isEmpty)
        // It failed, and the job goes on: so do its checkpoints.
        let effects = Bench.quiet(bench.coordinator.decline(id(1), by: sink, reason: "full", now: seconds(12)))
        #expect(effects.contains(.trigger(id(2), .periodic, sources: [source])))
    }
}
