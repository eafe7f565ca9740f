import Glibc
import Weir
import WeirBase
import WeirCLI
import WeirTestKit
import WeirWire

extension Benchmark {
    /// From kill -9 to every task RUNNING, seen from outside, with checkpoints each second and spare slots.
    static var recovery: [Benchmark] {
        [
            Benchmark(name: "recovery.taskmanager", unit: "s", goal: .atMost(1)) { try recover(from: .taskManager) },
            Benchmark(name: "recovery.worker", unit: "s", goal: .atMost(1)) { try recover(from: .worker) },
        ]
    }

    private enum Victim { case taskManager, worker }

    private static func recover(from victim: Victim) throws -> Samples {
        let cluster = try LocalCluster(settings: [
            "execution.checkpointing.interval": "1s", "cluster.evenly-spread-out-slots": "true", "restart-strategy.type": "fixed-delay",
            "restart-strategy.fixed-delay.delay": "100ms", "restart-strategy.fixed-delay.attempts": "1000",
        ])
        defer { cluster.stop() }
        try cluster.startJobManager()
        for number in 1...2 { try cluster.startTaskManager("tm-\(number)", slots: 2) }
        let submitted = try cluster.weir(["run", "-d", "-p", "2", MeasuredProcess.ownPath, "--", SteadyJob.word])
        guard submitted.code == 0 else { throw benchFailure("the job was refused", cause: submitted.output.joined(separator: "\n")) }
        let client = try cluster.client()
        let job = SteadyJob.jobName
        var random = SplitMix64(seed: 7)
        var values: [Double] = []
        for number in 0..<20 {
            let before = try runningWithNewCheckpoint(client, job)
            usleep(UInt32.random(in: 0..<1_000_000, using: &random))
            let host = before.tasks[number % before.tasks.count].taskManager
            let killed = ContinuousClock.now
            switch victim {
            case .taskManager: cluster.killTaskManager(host)
            case .worker: try cluster.killWorkers(of: host)
            }
            try wait(for: job, client, "RUNNING again") { $0.epoch > before.epoch && isRunning($0) }
            values.append((ContinuousClock.now - killed).inSeconds)
            if victim == .taskManager { try cluster.startTaskManager("tm-\(number + 3)", slots: 2) }
        }
        return Samples(
            values, setup: "2 taskmanagers of 2 slots, parallelism 2, 50000 records/s generated, 10000 keys, restart delay 100 ms, random moments")
    }

    static func isRunning(_ info: WireJobInfo) -> Bool {
        info.summary.state == .running && !info.tasks.isEmpty && info.tasks.allSatisfy { $0.state == .running }
    }

    private static func runningWithNewCheckpoint(_ client: JobManagerClient, _ job: String) throws -> WireJobInfo {
        let start = try wait(for: job, client, "RUNNING", isRunning)
        return try wait(for: job, client, "past its next checkpoint") {
            isRunning($0) && $0.checkpoints.completed > start.checkpoints.completed
        }
    }

    /// Asks each millisecond until the job fulfils a condition.
    @discardableResult
    static func wait(
        for job: String, _ client: JobManagerClient, _ what: String, _ condition: (WireJobInfo) -> Bool
    ) throws -> WireJobInfo {
        let deadline = ContinuousClock.now + .seconds(30)
        while true {
            let info = try client.info(job: job)
            if condition(info) { return info }
            guard ContinuousClock.now < deadline else {
                throw benchFailure(
                    "job \(job) is \(info.summary.state) and not \(what) after 30 s", cause: info.failures.last?.failure.message ?? "")
            }
            usleep(1_000)
        }
    }
}
