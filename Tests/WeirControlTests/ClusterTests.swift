import Testing
import WeirBase

@testable import WeirControl

@Suite struct ClusterTests {
    private func silence(_ bench: inout ControlPlaneBench, seconds: Double) -> [ControlEffect] {
        bench.pass(.milliseconds(Int(seconds * 1000)))
        return bench.handle(.timerFired(.heartbeatCheck))
    }

    @Test func aSilentTaskManagerIsLostAtTheTimeoutAndNotBefore() {
        var bench = ControlPlaneBench()
        bench.addTaskManager("tm-1", slots: 1)
        #expect(silence(&bench, seconds: 10) == [.setTimer(.heartbeatCheck, after: .seconds(1))])
        #expect(silence(&bench, seconds: 0.001).contains { if case .disconnectTaskManager = $0 { true } else { false } })
        #expect(bench.plane.clusterSnapshot().taskManagers.isEmpty)
    }

    @Test func aHeartbeatKeepsIt() {
        var bench = ControlPlaneBench()
        bench.addTaskManager("tm-1", slots: 1)
        bench.pass(.seconds(9))
        _ = bench.handle(.taskManagerHeartbeat(TaskManagerID("tm-1"), connection: ConnectionID(1)))
        _ = silence(&bench, seconds: 9)
        #expect(bench.plane.clusterSnapshot().slots == 1)
        // One over another connection says nothing about this one.
        _ = bench.handle(.taskManagerHeartbeat(TaskManagerID("tm-1"), connection: ConnectionID(7)))
        _ = silence(&bench, seconds: 2)
        #expect(bench.plane.clusterSnapshot().slots == 0)
    }

    @Test func aSilentWorkerIsKilled() {
        var bench = ControlPlaneBench()
        let deployments = bench.run()
        bench.pass(.seconds(9))
        for (index, name) in ["tm-1", "tm-2"].enumerated() {
            _ = bench.handle(.taskManagerHeartbeat(TaskManagerID(name), connection: ConnectionID(UInt64(index + 1))))
        }
        _ = bench.handle(.workerHeartbeat(deployments[1].worker, connection: ConnectionID(4)))
        let effects = silence(&bench, seconds: 2)
        #expect(effects.stopped.map(\.worker) == [deployments[0].worker])
        #expect(bench.state == .restarting)
    }

    @Test func aLostConnectionCountsAtOnceForAllBehindIt() {
        var bench = ControlPlaneBench()
        let deployments = bench.run()
        let effects = bench.handle(.taskManagerLost(TaskManagerID("tm-1"), connection: ConnectionID(1), reason: "reset"))
        #expect(effects.states == [.restarting])
        #expect(effects.stopped.map(\.worker) == [deployments[0].worker])
        #expect(bench.plane.clusterSnapshot().slots == 1)
    }

    @Test func aLateReportAboutAnOldConnectionHarmsNobody() {
        var bench = ControlPlaneBench()
        bench.addTaskManager("tm-1", slots: 1)
        bench.addTaskManager("tm-1", slots: 3)
        #expect(bench.handle(.taskManagerLost(TaskManagerID("tm-1"), connection: ConnectionID(1), reason: "reset")).isEmpty)
        #expect(bench.plane.clusterSnapshot().slots == 3)
    }

    @Test func aTaskManagerThatComesBackStopsWhatItStillRuns() {
        var bench = ControlPlaneBench()
        let deployments = bench.run()
        let effects = bench.addTaskManager("tm-1", slots: 1, running: [deployments[0].worker])
        #expect(effects.contains(.disconnectTaskManager(TaskManagerID("tm-1"), connection: ConnectionID(1), reason: "replaced by a new connection")))
        #expect(effects.contains { if case .acceptTaskManager(_, _, let stop) = $0 { stop == [deployments[0].worker] } else { false } })
        #expect(bench.state == .restarting)
    }

    @Test func slotsAndTaskManagersAreLimited() {
        var bench = ControlPlaneBench { $0.taskManagersMax = 1 }
        for slots in [0, -1, Cluster.slotsMax + 1] { bench.addTaskManager("tm-1", slots: slots) }
        #expect(bench.plane.clusterSnapshot().taskManagers.isEmpty)
        bench.addTaskManager("tm-1", slots: Cluster.slotsMax)
        bench.addTaskManager("tm-2", slots: 1)
        #expect(bench.plane.clusterSnapshot().taskManagers.map(\.slots) == [Cluster.slotsMax])
    }

    @Test func theExitOfAStoppedWorkerSurprisesNobody() {
        var bench = ControlPlaneBench()
        let deployments = bench.run()
        _ = bench.handle(.cancelJob(RequestID(1), ControlPlaneBench.job))
        for (worker, plan) in deployments { bench.report(.canceled, plan, on: worker) }
        for (worker, _) in deployments {
            #expect(bench.handle(.workerExited(WorkerExit(worker: worker, status: .code(0)))).states.isEmpty)
        }
        #expect(bench.plane.clusterSnapshot().taskManagers.allSatisfy { $0.workers.isEmpty })
    }

    @Test func aWorkerThatIsNotKnownIsSentAway() {
        var bench = ControlPlaneBench()
        bench.submit()
        #expect(bench.register(WorkerID("stranger")).contains { if case .disconnectWorker = $0 { true } else { false } })
    }

    @Test func aWorkerThatCannotStartRestartsTheJob() {
        var bench = ControlPlaneBench()
        bench.addTaskManager("tm-1", slots: 2)
        let worker = bench.submit().startedWorkers[0]
        #expect(bench.handle(.workerStartFailed(worker, reason: "no space")).states == [.restarting])
        #expect(bench.snapshot?.lastFailure?.cause == "no space")
    }
}
