import Testing
import WeirBase
import WeirGraph

@testable import WeirControl

private let boom = JobFailure(domain: .user, recovery: .restart, message: "boom")

@Suite struct SubmissionTests {
    @Test func aJobWaitsForSlotsAndSaysSo() {
        var bench = ControlPlaneBench()
        #expect(bench.submit().states == [.waitingForResources])
        #expect(bench.snapshot?.reason == "needs 2 slots, 0 are free: start another taskmanager, or run the job with a lower parallelism")
        #expect(bench.addTaskManager("tm-1", slots: 1).startedWorkers.isEmpty)
        #expect(bench.snapshot?.reason == "needs 2 slots, 1 is free: start another taskmanager, or run the job with a lower parallelism")
        #expect(bench.addTaskManager("tm-2", slots: 1).startedWorkers.count == 2)
        #expect(bench.state == .deploying)
    }

    @Test func aJobSubmittedTwiceIsTheSame() {
        var bench = ControlPlaneBench()
        bench.submit()
        #expect(bench.submit() == [.reply(RequestID(1), .jobSubmitted(ControlPlaneBench.job))])
        #expect(bench.plane.jobSnapshots().count == 1)
    }

    @Test func wrongOptionsAreRefusedWithAllProblems() {
        var bench = ControlPlaneBench()
        let effects = bench.submit(
            ControlPlaneBench.submission {
                $0.options.checkpointing.retained = 0
                $0.options.cancellationTimeout = .zero
            })
        #expect(effects.refusal?.cause?.split(separator: "\n").count == 2)
        #expect(bench.plane.jobSnapshots().isEmpty)
    }

    @Test func noMoreJobsThanAllowed() {
        var bench = ControlPlaneBench { $0.jobsMax = 1 }
        bench.submit()
        #expect(bench.submit(ControlPlaneBench.submission(JobID(high: 0, low: 9))).refusal?.domain == .resource)
    }

    @Test func endedJobsAreForgottenBeyondTheLimit() {
        var bench = ControlPlaneBench { $0.endedJobsMax = 1 }
        for low in 1...3 as ClosedRange<UInt64> {
            let job = JobID(high: 0, low: low)
            bench.submit(ControlPlaneBench.submission(job))
            _ = bench.handle(.cancelJob(RequestID(2), job))
        }
        bench.submit()
        #expect(bench.plane.jobSnapshots().map(\.job.low) == [3, 2])
    }

    @Test func stateThatNobodyClaimsIsRefusedUnlessAllowed() {
        let orphan = CompletedCheckpoint(
            job: ControlPlaneBench.job, id: CheckpointID(3), epoch: Epoch(1), maxParallelism: 128,
            vertices: [CheckpointVertex(vertex: VertexID(0), operators: [CheckpointOperator(uid: "gone")], parallelism: 1)],
            handles: [StateHandle(subtask: SubtaskID(vertex: VertexID(0), index: 0), content: .inline([1]))])
        var bench = ControlPlaneBench()
        #expect(bench.submit(ControlPlaneBench.submission { $0.restoreFrom = [orphan] }).refusal != nil)
        #expect(
            bench.submit(
                ControlPlaneBench.submission {
                    $0.restoreFrom = [orphan]
                    $0.allowNonRestoredState = true
                }
            ).refusal == nil)
    }

    @Test func anotherMaxParallelismIsRefused() {
        let checkpoint = CompletedCheckpoint(
            job: ControlPlaneBench.job, id: CheckpointID(3), epoch: Epoch(1), maxParallelism: 64, vertices: [], handles: [])
        var bench = ControlPlaneBench()
        #expect(bench.submit(ControlPlaneBench.submission { $0.restoreFrom = [checkpoint] }).refusal != nil)
    }
}

@Suite struct DeploymentTests {
    @Test func tasksAreDeployedOnceAllWorkersAreThere() throws {
        var bench = ControlPlaneBench()
        bench.addTaskManager("tm-1", slots: 1)
        bench.addTaskManager("tm-2", slots: 1)
        let workers = bench.submit().startedWorkers
        #expect(bench.register(workers[0]).deployments.isEmpty)
        let deployments = bench.register(workers[1]).deployments
        #expect(deployments.map(\.worker) == workers)
        let plan = try #require(deployments.first?.plan)
        #expect(plan.epoch == Epoch(1) && plan.slots == 1 && plan.restore == nil)
        #expect(plan.workers.map(\.worker) == workers)
        // One slot holds subtask i of both vertices.
        #expect(plan.tasks.map(\.subtask.index) == [0, 0])
        #expect(plan.placements.map(\.workers) == [[0, 1], [0, 1]])
        #expect(plan.worker(of: SubtaskID(vertex: VertexID(1), index: 1))?.taskManager == TaskManagerID("tm-2"))
        #expect(plan.worker(of: SubtaskID(vertex: VertexID(1), index: 2)) == nil)
    }

    @Test func aNarrowVertexSpreadsOverTheSlots() throws {
        var bench = ControlPlaneBench()
        bench.addTaskManager("tm-1", slots: 4)
        let graph = ControlPlaneBench.graph(parallelism: 4, sinks: 2)
        let workers = bench.submit(ControlPlaneBench.submission { $0.graph = graph }).startedWorkers
        let plan = try #require(bench.register(workers[0], hash: graph.hash).deployments.first?.plan)
        #expect(plan.placements.map(\.slots) == [[0, 1, 2, 3], [0, 2]])
        #expect(plan.slots == 4)
    }

    @Test func theJobRunsOnceAllTasksDo() {
        var bench = ControlPlaneBench()
        let deployments = bench.run()
        #expect(deployments.count == 2)
        #expect(bench.state == .running)
        #expect(bench.snapshot?.tasks.running == 4)
    }

    @Test func anotherGraphOnTheWorkerFailsTheJobForGood() {
        var bench = ControlPlaneBench()
        bench.addTaskManager("tm-1", slots: 2)
        let workers = bench.submit().startedWorkers
        let effects = bench.register(workers[0], hash: 1)
        #expect(effects.states == [.failing, .failed])
        #expect(bench.snapshot?.lastFailure?.domain == .configuration)
        #expect(effects.stopped.map(\.worker) == workers)
    }

    @Test func aWorkerThatDoesNotStartInTimeIsKilledAndStartedAnew() {
        var bench = ControlPlaneBench()
        bench.addTaskManager("tm-1", slots: 2)
        let worker = bench.submit().startedWorkers[0]
        bench.pass(.seconds(120))
        let effects = bench.handle(.timerFired(.workerStart(worker)))
        #expect(effects.stopped.map(\.kill) == [true])
        #expect(bench.state == .restarting)
        #expect(bench.handle(.timerFired(.restartDelay(ControlPlaneBench.job, Epoch(1)))).startedWorkers.count == 1)
        // It comes after all, too late.
        #expect(bench.register(worker).contains { if case .disconnectWorker = $0 { true } else { false } })
    }

    @Test func slotsFillOrSpread() {
        for spreads in [false, true] {
            var bench = ControlPlaneBench { $0.evenlySpreadOutSlots = spreads }
            bench.addTaskManager("tm-1", slots: 2)
            bench.addTaskManager("tm-2", slots: 2)
            #expect(bench.submit().startedWorkers.count == (spreads ? 2 : 1))
        }
    }

    @Test func aJobThatDoesNotFitHoldsNothingBack() {
        var bench = ControlPlaneBench()
        bench.addTaskManager("tm-1", slots: 2)
        bench.submit(ControlPlaneBench.submission(JobID(high: 0, low: 9), parallelism: 3))
        #expect(bench.submit().startedWorkers.count == 1)
        #expect(bench.plane.clusterSnapshot().freeSlots == 0)
    }
}

@Suite struct FailureTests {
    @Test func survivorsAreCancelledStayWarmAndAreRedeployed() throws {
        var bench = ControlPlaneBench()
        let deployments = bench.run()
        let (survivor, plan) = try #require(deployments.last)
        let effects = bench.handle(
            .workerExited(WorkerExit(worker: deployments[0].worker, status: .signal(4), standardError: ["Index out of range"])))
        #expect(effects.states == [.restarting])
        #expect(effects.cancelled == [survivor])
        #expect(bench.snapshot?.lastFailure?.message == "worker \(deployments[0].worker) on tm-1 was ended by SIGILL: a Swift runtime check failed")
        #expect(bench.snapshot?.lastFailure?.cause == "Index out of range")
        // The delay passes first: the cancellation is still awaited.
        #expect(bench.handle(.timerFired(.restartDelay(ControlPlaneBench.job, Epoch(1)))).isEmpty)
        let restart = bench.report(.canceled, plan, on: survivor)
        #expect(restart.states == [.waitingForResources, .deploying])
        #expect(restart.startedWorkers.count == 1)
        let again = bench.register(restart.startedWorkers[0]).deployments
        #expect(Set(again.map(\.worker)) == [survivor, restart.startedWorkers[0]])
        #expect(again.allSatisfy { $0.plan.epoch == Epoch(2) })
        #expect(bench.snapshot?.restarts == 1)
    }

    /// The connection breaks first, and the job must not wait for the reason.
    @Test func theExitExplainsALostConnection() {
        var bench = ControlPlaneBench()
        let worker = bench.run()[0].worker
        let lost = bench.handle(.workerConnectionLost(worker, connection: ConnectionID(3), reason: "reset"))
        #expect(lost.states == [.restarting])
        let exit = WorkerExit(worker: worker, status: .signal(4), standardError: ["Fatal error: no such key", " "], isRequested: true)
        let effects = bench.handle(.workerExited(exit))
        let failure = JobFailure(
            domain: .user, recovery: .restart, message: "worker \(worker) on tm-1 was ended by SIGILL: a Swift runtime check failed",
            cause: "Fatal error: no such key")
        #expect(effects.contains(.failureExplained(ControlPlaneBench.job, worker, failure)))
        #expect(effects.states.isEmpty)
        #expect(bench.snapshot?.lastFailure == failure)
        #expect(bench.snapshot?.reason == failure.message)
        #expect(bench.snapshot?.lastFailedWorker == worker)
    }

    @Test func aWorkerThatWasKilledBehindItsBrokenConnectionExplainsNothing() {
        var bench = ControlPlaneBench()
        let worker = bench.run()[0].worker
        _ = bench.handle(.workerConnectionLost(worker, connection: ConnectionID(3), reason: "reset"))
        let effects = bench.handle(.workerExited(WorkerExit(worker: worker, status: .signal(9), isRequested: true)))
        #expect(effects == [.cancelTimer(.workerStart(worker))])
        #expect(bench.snapshot?.lastFailure?.cause == "its connection was lost: reset")
    }

    /// The connection breaks first, and the job ends: with the reason, which comes a moment later.
    @Test func aJobThatIsNotRestartedEndsWithTheExitOfItsWorker() {
        var bench = ControlPlaneBench()
        let worker = bench.runWithoutRestarts()
        let lost = bench.handle(.workerConnectionLost(worker, connection: ConnectionID(3), reason: "reset"))
        #expect(lost.states == [.failing])
        #expect(lost.contains(.setTimer(.exitReport(ControlPlaneBench.job, Epoch(1)), after: .seconds(5))))
        let exit = WorkerExit(worker: worker, status: .signal(4), standardError: ["Fatal error: no such key"], isRequested: true)
        let effects = bench.handle(.workerExited(exit))
        #expect(effects.states == [.failed])
        let message = "worker \(worker) on tm-1 was ended by SIGILL: a Swift runtime check failed"
        #expect(bench.snapshot?.lastFailure?.message == message)
        #expect(bench.snapshot?.reason == "\(message) (not restarted: restart-strategy.type is none)")
    }

    @Test func aJobThatIsNotRestartedEndsThoughNobodyTellsWhy() {
        let job = ControlPlaneBench.job
        let manager = TaskManagerRegistration(
            id: TaskManagerID("tm-1"), connection: ConnectionID(9), slots: 2, host: "host", runningWorkers: [])
        let ends: [(WorkerID) -> ControlEvent] = [
            { .workerExited(WorkerExit(worker: $0, status: .signal(9), isRequested: true)) },
            { _ in .taskManagerLost(TaskManagerID("tm-1"), connection: ConnectionID(1), reason: "reset") },
            { _ in .taskManagerRegistered(manager) },
            { _ in .timerFired(.exitReport(job, Epoch(1))) },
        ]
        for end in ends {
            var bench = ControlPlaneBench()
            let worker = bench.runWithoutRestarts()
            let lost = bench.handle(.workerConnectionLost(worker, connection: ConnectionID(3), reason: "reset"))
            #expect(lost.states == [.failing])
            #expect(bench.handle(end(worker)).states == [.failed])
            #expect(bench.snapshot?.lastFailure?.cause == "its connection was lost: reset")
        }
    }

    @Test func aFailedTaskRestartsTheJobInTheSameWorkers() {
        var bench = ControlPlaneBench()
        let deployments = bench.run()
        let report = TaskStateReport(
            job: ControlPlaneBench.job, worker: deployments[0].worker, epoch: Epoch(1), subtask: deployments[0].plan.tasks[0].subtask,
            state: .failed, failure: boom)
        #expect(bench.handle(.taskStateChanged(report)).states == [.restarting])
        #expect(bench.snapshot?.lastFailure?.place == .init(operatorName: "source", subtask: 0, parallelism: 2, taskManager: "tm-1"))
        for (worker, plan) in deployments { bench.report(.canceled, plan, on: worker) }
        let effects = bench.handle(.timerFired(.restartDelay(ControlPlaneBench.job, Epoch(1))))
        #expect(effects.startedWorkers.isEmpty)
        #expect(effects.deployments.count == 2)
    }

    @Test func theLatestCheckpointIsRestored() throws {
        var bench = ControlPlaneBench()
        let deployments = bench.run()
        bench.checkpoint(1, deployments)
        bench.checkpoint(2, deployments)
        #expect(bench.snapshot?.latestCheckpoint?.id == CheckpointID(2))
        bench.report(.failed, deployments[0].plan, on: deployments[0].worker, failure: boom)
        bench.report(.canceled, deployments[1].plan, on: deployments[1].worker)
        let again = bench.handle(.timerFired(.restartDelay(ControlPlaneBench.job, Epoch(1)))).deployments
        let restore = try #require(again.first?.plan.restore)
        #expect(restore.checkpoint == CheckpointID(2))
        // Every subtask sees the handles of all subtasks of its operators, and how many there were.
        #expect(restore.vertices.map { $0.handles.map(\.subtask.index) } == [[0, 1], [0, 1]])
        #expect(restore.vertices[0].handles[0].parallelism == 2)
    }

    @Test func aDamagedCheckpointFallsBackToTheOneBeforeLoudlyAndAtOnce() throws {
        var bench = ControlPlaneBench()
        var deployments = bench.run()
        bench.checkpoint(1, deployments)
        bench.checkpoint(2, deployments)
        bench.report(.failed, deployments[0].plan, on: deployments[0].worker, failure: boom)
        bench.report(.canceled, deployments[1].plan, on: deployments[1].worker)
        deployments = bench.handle(.timerFired(.restartDelay(ControlPlaneBench.job, Epoch(1)))).deployments
        let damaged = ControlEvent.restoreFailed(
            job: ControlPlaneBench.job, worker: deployments[0].worker, epoch: Epoch(2), checkpoint: CheckpointID(2), path: "e1/2/0-0",
            reason: "checksum")
        #expect(bench.handle(damaged).contains { if case .log(.error, _, _) = $0 { true } else { false } })
        bench.report(.canceled, deployments[0].plan, on: deployments[0].worker)
        let third = bench.report(.canceled, deployments[1].plan, on: deployments[1].worker).deployments
        #expect(third.first?.plan.restore?.checkpoint == CheckpointID(1))
        #expect(bench.snapshot?.retainedCheckpoints.map(\.id) == [CheckpointID(1)])
        let worse = ControlEvent.restoreFailed(
            job: ControlPlaneBench.job, worker: third[0].worker, epoch: Epoch(3), checkpoint: CheckpointID(1), path: "e1/1/0-0", reason: "gone")
        // Starting from nothing would lose state in silence.
        #expect(bench.handle(worse).states == [.failing])
    }

    @Test func reportsOfAnOldEpochAreDroppedAndTheirStateDiscarded() {
        var bench = ControlPlaneBench()
        let deployments = bench.run()
        bench.report(.failed, deployments[0].plan, on: deployments[0].worker, failure: boom)
        bench.report(.canceled, deployments[1].plan, on: deployments[1].worker)
        _ = bench.handle(.timerFired(.restartDelay(ControlPlaneBench.job, Epoch(1))))
        #expect(bench.snapshot?.epoch == Epoch(2))
        bench.report(.running, deployments[0].plan, on: deployments[0].worker)
        #expect(bench.snapshot?.tasks.running == 0)
        bench.report(.failed, deployments[0].plan, on: deployments[0].worker, failure: boom)
        #expect(bench.state == .deploying)
        #expect(bench.acknowledge(1, deployments[0].plan, on: deployments[0].worker).discarded == ["e1/1/0-0", "e1/1/1-0"])
    }

    @Test func aReportFromTheWrongWorkerIsDropped() {
        var bench = ControlPlaneBench()
        let deployments = bench.run()
        #expect(bench.report(.failed, deployments[0].plan, on: deployments[1].worker, failure: boom).states.isEmpty)
        #expect(bench.state == .running)
    }

    @Test func whatWillNotCancelIsKilled() {
        var bench = ControlPlaneBench()
        let deployments = bench.run()
        bench.report(.failed, deployments[0].plan, on: deployments[0].worker, failure: boom)
        _ = bench.handle(.timerFired(.restartDelay(ControlPlaneBench.job, Epoch(1))))
        bench.pass(.seconds(30))
        let effects = bench.handle(.timerFired(.cancellation(ControlPlaneBench.job, Epoch(1))))
        #expect(effects.stopped.map(\.worker) == [deployments[1].worker])
        #expect(effects.stopped.map(\.kill) == [true])
        #expect(effects.startedWorkers.count == 1)
    }

    @Test func aRestartWaitsForTheCheckpointThatIsBeingPublished() {
        var bench = ControlPlaneBench()
        let deployments = bench.run()
        bench.pass(.seconds(10))
        _ = bench.handle(.timerFired(.checkpointTrigger(ControlPlaneBench.job)))
        for (worker, plan) in deployments { bench.acknowledge(1, plan, on: worker) }
        bench.report(.failed, deployments[0].plan, on: deployments[0].worker, failure: boom)
        bench.report(.canceled, deployments[1].plan, on: deployments[1].worker)
        #expect(bench.handle(.timerFired(.restartDelay(ControlPlaneBench.job, Epoch(1)))).isEmpty)
        let effects = bench.handle(.checkpointPublished(job: ControlPlaneBench.job, checkpoint: CheckpointID(1), path: "chk-1"))
        #expect(effects.deployments.first?.plan.restore?.checkpoint == CheckpointID(1))
        #expect(!effects.contains { if case .notifyCheckpointComplete = $0 { true } else { false } })
    }

    @Test func withoutARestartStrategyTheJobFails() {
        var bench = ControlPlaneBench()
        let deployments = bench.run(ControlPlaneBench.submission { $0.options.restartStrategy = .none })
        #expect(bench.report(.failed, deployments[0].plan, on: deployments[0].worker, failure: boom).states == [.failing])
        let effects = bench.report(.canceled, deployments[1].plan, on: deployments[1].worker)
        #expect(effects.states == [.failed])
        #expect(effects.stopped.count == 2)
        #expect(bench.plane.clusterSnapshot().freeSlots == 2)
    }

    @Test func aFailureThatNoRestartHelpsEndsTheJob() {
        var bench = ControlPlaneBench()
        let deployments = bench.run()
        let fatal = JobFailure(domain: .configuration, recovery: .fail, message: "no such topic")
        #expect(bench.report(.failed, deployments[0].plan, on: deployments[0].worker, failure: fatal).states == [.failing])
    }

    @Test func workersThatAJobLeavesAreStopped() {
        var bench = ControlPlaneBench()
        let deployments = bench.run()
        // A larger TaskManager comes; the job fails and its warm workers still win.
        bench.addTaskManager("tm-0", slots: 8)
        bench.report(.failed, deployments[0].plan, on: deployments[0].worker, failure: boom)
        bench.report(.canceled, deployments[1].plan, on: deployments[1].worker)
        let effects = bench.handle(.timerFired(.restartDelay(ControlPlaneBench.job, Epoch(1))))
        #expect(effects.startedWorkers.isEmpty)
        #expect(Set(effects.deployments.map(\.worker)) == Set(deployments.map(\.worker)))
    }
}

@Suite struct EndingTests {
    @Test func cancellingWaitsForTheTasksAndStopsTheWorkers() {
        var bench = ControlPlaneBench()
        let deployments = bench.run()
        let effects = bench.handle(.cancelJob(RequestID(5), ControlPlaneBench.job))
        #expect(effects.states == [.cancelling])
        #expect(effects.contains(.reply(RequestID(5), .cancelAccepted(ControlPlaneBench.job, .cancelling))))
        bench.report(.canceled, deployments[0].plan, on: deployments[0].worker)
        let last = bench.report(.canceled, deployments[1].plan, on: deployments[1].worker)
        #expect(last.states == [.canceled])
        #expect(last.stopped.count == 2)
        #expect(last.stopped.allSatisfy { !$0.kill })
    }

    @Test func aWaitingJobIsCancelledAtOnce() {
        var bench = ControlPlaneBench()
        bench.submit()
        #expect(bench.handle(.cancelJob(RequestID(5), ControlPlaneBench.job)).states == [.canceled])
        #expect(bench.addTaskManager("tm-1", slots: 9).startedWorkers.isEmpty)
    }

    @Test func cancellingARestartEndsIt() {
        var bench = ControlPlaneBench()
        let deployments = bench.run()
        bench.report(.failed, deployments[0].plan, on: deployments[0].worker, failure: boom)
        #expect(bench.handle(.cancelJob(RequestID(5), ControlPlaneBench.job)).states == [.cancelling])
        #expect(bench.report(.canceled, deployments[1].plan, on: deployments[1].worker).states == [.canceled])
        #expect(bench.handle(.timerFired(.restartDelay(ControlPlaneBench.job, Epoch(1)))).isEmpty)
    }

    @Test func anUnknownJobCannotBeCancelled() {
        var bench = ControlPlaneBench()
        #expect(bench.handle(.cancelJob(RequestID(5), ControlPlaneBench.job)).refusal != nil)
    }

    @Test func aFinishedJobCommitsItsFinalCheckpointFirst() {
        var bench = ControlPlaneBench()
        let deployments = bench.run()
        var effects: [ControlEffect] = []
        for (worker, plan) in deployments { effects += bench.report(.finished, plan, on: worker) }
        #expect(effects.contains { if case .triggerCheckpoint(_, let trigger) = $0 { trigger.kind == .final } else { false } })
        for (worker, plan) in deployments { effects += bench.acknowledge(1, plan, on: worker) }
        let published = bench.handle(.checkpointPublished(job: ControlPlaneBench.job, checkpoint: CheckpointID(1), path: "chk-1"))
        #expect(published.filter { if case .notifyCheckpointComplete(_, let notice) = $0 { notice.isFinal } else { false } }.count == 2)
        #expect(published.cancelled.count == 2)
        #expect(bench.state == .running)
        bench.report(.canceled, deployments[0].plan, on: deployments[0].worker)
        let last = bench.report(.canceled, deployments[1].plan, on: deployments[1].worker)
        #expect(last.states == [.finished])
        #expect(last.discarded.count == 4)
    }

    @Test func aWorkerLostBeforeItsSinksCommittedIsRestoredFromTheFinalCheckpoint() {
        var bench = ControlPlaneBench()
        let deployments = bench.run()
        for (worker, plan) in deployments { bench.report(.finished, plan, on: worker) }
        for (worker, plan) in deployments { bench.acknowledge(1, plan, on: worker) }
        _ = bench.handle(.checkpointPublished(job: ControlPlaneBench.job, checkpoint: CheckpointID(1), path: "chk-1"))
        _ = bench.handle(.workerExited(WorkerExit(worker: deployments[0].worker, status: .signal(9))))
        #expect(bench.state == .restarting)
        bench.report(.canceled, deployments[1].plan, on: deployments[1].worker)
        let effects = bench.handle(.timerFired(.restartDelay(ControlPlaneBench.job, Epoch(1))))
        let again = bench.deployAll(effects)
        #expect(again.first?.plan.restore?.checkpoint == CheckpointID(1))
    }

    @Test func stoppingWithASavepointCommitsThenFinishes() {
        var bench = ControlPlaneBench()
        let deployments = bench.run()
        _ = bench.handle(.triggerSavepoint(RequestID(7), ControlPlaneBench.job, directory: "/s", mode: .stops))
        for (worker, plan) in deployments { bench.acknowledge(1, plan, on: worker) }
        let effects = bench.handle(.checkpointPublished(job: ControlPlaneBench.job, checkpoint: CheckpointID(1), path: "/s/1"))
        let notified = effects.firstIndex { if case .notifyCheckpointComplete(_, let notice) = $0 { notice.isFinal } else { false } }
        let cancelled = effects.firstIndex { if case .cancelTasks = $0 { true } else { false } }
        #expect(notified != nil && cancelled != nil && notified! < cancelled!)
        // Nobody is told before every task has ended: the last of what it did before is the commit.
        let reply = ControlEffect.reply(RequestID(7), .savepointCompleted(ControlPlaneBench.job, CheckpointID(1), path: "/s/1"))
        #expect(!effects.contains(reply))
        var last: [ControlEffect] = []
        for (worker, plan) in deployments { last = bench.report(.canceled, plan, on: worker) }
        #expect(bench.state == .finished)
        #expect(last.contains(reply))
        #expect(last.discarded.isEmpty, "the savepoint is the user's")
    }

    @Test func aWorkerLostBeforeItsSinksCommittedRestoresFromTheSavepoint() {
        var bench = ControlPlaneBench()
        let deployments = bench.run()
        bench.checkpoint(1, deployments)
        _ = bench.handle(.triggerSavepoint(RequestID(7), ControlPlaneBench.job, directory: "/s", mode: .stops))
        for (worker, plan) in deployments { bench.acknowledge(2, plan, on: worker) }
        _ = bench.handle(.checkpointPublished(job: ControlPlaneBench.job, checkpoint: CheckpointID(2), path: "/s/2"))
        let lost = bench.handle(.workerExited(WorkerExit(worker: deployments[0].worker, status: .signal(9))))
        #expect(lost.refusal?.message.contains("/s/2") == true)
        bench.report(.canceled, deployments[1].plan, on: deployments[1].worker)
        let again = bench.deployAll(bench.handle(.timerFired(.restartDelay(ControlPlaneBench.job, Epoch(1)))))
        #expect(again.first?.plan.restore?.checkpoint == CheckpointID(2))
        #expect(again.first?.plan.restore?.isShareable == false)
        // Newer checkpoints stand for it, but its files stay: they are the user's.
        let after = bench.checkpoint(3, again) + bench.checkpoint(4, again) + bench.checkpoint(5, again)
        #expect(!after.discarded.contains { $0.contains("e1/2/") })
    }

    @Test func aCancellationWhileItStopsTellsWhereTheSavepointIs() {
        var bench = ControlPlaneBench()
        let deployments = bench.run()
        _ = bench.handle(.triggerSavepoint(RequestID(7), ControlPlaneBench.job, directory: "/s", mode: .stops))
        for (worker, plan) in deployments { bench.acknowledge(1, plan, on: worker) }
        _ = bench.handle(.checkpointPublished(job: ControlPlaneBench.job, checkpoint: CheckpointID(1), path: "/s/1"))
        #expect(bench.handle(.cancelJob(RequestID(8), ControlPlaneBench.job)).refusal?.message.contains("/s/1") == true)
        for (worker, plan) in deployments { bench.report(.canceled, plan, on: worker) }
        #expect(bench.state == .canceled)
    }

    @Test func aDrainedJobWhoseSavepointFailsIsRestarted() {
        var bench = ControlPlaneBench()
        let deployments = bench.run()
        _ = bench.handle(.triggerSavepoint(RequestID(7), ControlPlaneBench.job, directory: "/s", mode: .drains))
        for (worker, plan) in deployments { bench.report(.finished, plan, on: worker) }
        // No final checkpoint beside it: the savepoint is one.
        #expect(bench.snapshot?.checkpointsInProgress == 1)
        let effects = bench.handle(
            .checkpointDeclined(
                job: ControlPlaneBench.job, worker: deployments[0].worker, epoch: Epoch(1), checkpoint: CheckpointID(1),
                subtask: deployments[0].plan.tasks[0].subtask, reason: "full"))
        #expect(effects.refusal?.message.contains("savepoint 1 failed") == true)
        #expect(bench.state == .restarting)
    }

    @Test(arguments: CheckpointOptions.Retention.allCases, [JobState.canceled, .failed])
    func whatIsRetainedAfterTheEndIsChosen(retention: CheckpointOptions.Retention, end: JobState) {
        var bench = ControlPlaneBench()
        let deployments = bench.run(ControlPlaneBench.submission { $0.options.checkpointing.retention = retention })
        bench.checkpoint(1, deployments)
        if end == .canceled {
            _ = bench.handle(.cancelJob(RequestID(8), ControlPlaneBench.job))
        } else {
            _ = bench.handle(.jobFenced(ControlPlaneBench.job, JobFailure(domain: .user, recovery: .fail, message: "over")))
        }
        var last: [ControlEffect] = []
        for (worker, plan) in deployments { last = bench.report(.canceled, plan, on: worker) }
        #expect(bench.state == end)
        let isDeleted = last.contains { if case .discardCheckpoint(_, CheckpointID(1), _, _) = $0 { true } else { false } }
        #expect(isDeleted == (retention == .never || (retention == .deleteOnCancellation && end == .canceled)))
    }

    @Test func aJobThatAnotherJobManagerHasTakenOverEndsWithoutARestart() {
        var bench = ControlPlaneBench()
        let deployments = bench.run()
        bench.checkpoint(1, deployments)
        let fenced = JobFailure(domain: .system, recovery: .fail, message: "taken over")
        let effects = bench.handle(.jobFenced(ControlPlaneBench.job, fenced))
        #expect(bench.state == .failing && effects.cancelled.count == 2)
        var last: [ControlEffect] = []
        for (worker, plan) in deployments { last = bench.report(.canceled, plan, on: worker) }
        #expect(bench.state == .failed && last.discarded.isEmpty, "what it retained is the other's")
    }

    @Test func whoHoldsTheBarrierIsToldASubtask() throws {
        var bench = ControlPlaneBench()
        let deployments = bench.run()
        _ = bench.handle(.triggerSavepoint(RequestID(7), ControlPlaneBench.job, directory: "/s", mode: .continues))
        func record() throws -> CheckpointRecord { try #require(bench.plane.checkpointHistory(ControlPlaneBench.job)?.last) }
        let sources = [0, 1].map { SubtaskID(vertex: VertexID(0), index: $0) }
        let sinks = [0, 1].map { SubtaskID(vertex: VertexID(1), index: $0) }
        #expect(try record().holders == sources)
        bench.acknowledge(1, deployments[0].plan, on: deployments[0].worker)
        #expect(try record().holders == [sources[1]], "the sink waits for it")
        _ = bench.handle(
            .checkpointAcknowledged(
                CheckpointAcknowledgement(
                    job: ControlPlaneBench.job, worker: deployments[1].worker, epoch: Epoch(1), checkpoint: CheckpointID(1),
                    state: .empty(sources[1]), statistics: SnapshotStatistics(synchronous: .milliseconds(3)))))
        #expect(try record().holders == [sinks[1]])
        #expect(try record().synchronousMax == .milliseconds(3) && record().acknowledged == 3)
    }
}
