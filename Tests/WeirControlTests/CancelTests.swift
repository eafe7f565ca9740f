import Testing
import WeirBase
import WeirGraph

@testable import WeirControl

/// A cancellation that comes while a checkpoint is being published: the sinks hear first what became of it.
@Suite struct CancelTests {
    private static let job = ControlPlaneBench.job
    private static let cancel = ControlEvent.cancelJob(RequestID(5), job)

    /// A running job whose checkpoint 1 all tasks have acknowledged.
    private func publishing() -> (ControlPlaneBench, [(worker: WorkerID, plan: DeploymentPlan)]) {
        var bench = ControlPlaneBench()
        let deployments = bench.run()
        bench.pass(.seconds(10))
        _ = bench.handle(.timerFired(.checkpointTrigger(Self.job)))
        var effects: [ControlEffect] = []
        for (worker, plan) in deployments { effects += bench.acknowledge(1, plan, on: worker) }
        #expect(effects.contains { if case .publishCheckpoint = $0 { true } else { false } })
        return (bench, deployments)
    }

    @Test func tasksHearThatTheCheckpointIsCompleteBeforeTheyAreCancelled() throws {
        var (bench, deployments) = publishing()
        let asked = bench.handle(Self.cancel)
        #expect(asked.states.isEmpty && asked.cancelled.isEmpty)
        #expect(asked.contains(.reply(RequestID(5), .cancelAccepted(Self.job, .running))))
        let published = bench.handle(.checkpointPublished(job: Self.job, checkpoint: CheckpointID(1), path: "chk-1"))
        #expect(published.states == [.cancelling])
        let notified = published.firstIndex { if case .notifyCheckpointComplete = $0 { true } else { false } }
        let cancelled = published.firstIndex { if case .cancelTasks = $0 { true } else { false } }
        #expect(try #require(notified) < #require(cancelled))
        for (worker, plan) in deployments { bench.report(.canceled, plan, on: worker) }
        #expect(bench.state == .canceled)
    }

    @Test func aPublicationThatFailsHoldsNothingUp() {
        var (bench, deployments) = publishing()
        _ = bench.handle(Self.cancel)
        let failed = bench.handle(.checkpointPublishFailed(job: Self.job, checkpoint: CheckpointID(1), reason: "disk full"))
        #expect(failed.states.last == .cancelling)
        #expect(failed.cancelled.count == 2)
        for (worker, plan) in deployments { bench.report(.canceled, plan, on: worker) }
        #expect(bench.state == .canceled)
    }

    @Test func aFailureMeanwhileDoesNotUndoTheCancellation() {
        var (bench, deployments) = publishing()
        _ = bench.handle(Self.cancel)
        let boom = JobFailure(domain: .user, recovery: .restart, message: "boom")
        #expect(bench.report(.failed, deployments[0].plan, on: deployments[0].worker, failure: boom).states == [.restarting])
        let published = bench.handle(.checkpointPublished(job: Self.job, checkpoint: CheckpointID(1), path: "chk-1"))
        #expect(published.states == [.cancelling])
        bench.report(.canceled, deployments[1].plan, on: deployments[1].worker)
        #expect(bench.state == .canceled)
    }
}
