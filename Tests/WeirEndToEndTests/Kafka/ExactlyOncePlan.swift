import Foundation
import WeirBase
import WeirTestKit
import WeirWire

/// What happens to a summing job, all drawn from a seed.
struct ExactlyOncePlan: CustomStringConvertible {
    enum Action: CustomStringConvertible {
        /// A worker dies at a moment of a commit.
        case kill(KillPoint)
        /// A worker dies at any moment.
        case killWorker
        /// A TaskManager dies with its worker; another one takes its place while the job restarts.
        case killTaskManager
        /// A TaskManager and its worker are stopped until the job runs without them; then they go on, and must do no harm.
        case stopHost
        /// The JobManager dies, and another one takes up the job.
        case killJobManager
        /// JobManager and all TaskManagers die at once; the job is submitted to new ones from the last checkpoint.
        case killAll
        case restartBroker(downMilliseconds: Int)
        /// The job is cancelled and submitted from its last checkpoint.
        case rescale(to: Int)

        var description: String {
            switch self {
            case .kill(let point): "kill a worker \(point.rawValue)"
            case .killWorker: "kill a worker"
            case .killTaskManager: "kill a taskmanager"
            case .stopHost: "stop a taskmanager and its worker"
            case .killJobManager: "kill the jobmanager"
            case .killAll: "kill the jobmanager and all taskmanagers"
            case .restartBroker(let down): "kill the broker, for \(down) ms"
            case .rescale(let parallelism): "cancel and submit with parallelism \(parallelism)"
            }
        }
    }

    struct Step: CustomStringConvertible {
        var pauseMilliseconds: Int
        var action: Action
        /// Whether the output must have caught up before the next step; else that one comes in the middle of what this one began.
        var isAwaited: Bool
        var description: String { "after \(pauseMilliseconds) ms \(action)\(isAwaited ? "" : " and do not wait")" }
    }

    let seed: UInt64
    let parallelism: Int
    let perSecond: Int
    let keys: Int
    let steps: [Step]

    init(seed: UInt64) {
        self.seed = seed
        var random = SplitMix64(seed: seed &+ 0x5EED)
        parallelism = .random(in: 1...5, using: &random)
        perSecond = [200, 1_000, 3_000].randomElement(using: &random) ?? 1_000
        keys = [1, 7, 50].randomElement(using: &random) ?? 7
        steps = (0..<3).map { _ in
            Step(
                pauseMilliseconds: .random(in: 0...250, using: &random), action: Self.action(&random),
                isAwaited: .random(using: &random))
        }
    }

    private static func action(_ random: inout SplitMix64) -> Action {
        switch Int.random(in: 0..<21, using: &random) {
        case 0..<7:
            // One that waits for another worker needs two workers with rows: not for any plan.
            let points = KillPoint.allCases.filter { $0 != .beforeTheCheckpointIsComplete }
            return .kill(points.randomElement(using: &random) ?? .beforeTheCommit)
        case 7..<10: return .killWorker
        case 10..<12: return .killTaskManager
        case 12: return .stopHost
        case 13..<15: return .killJobManager
        case 15: return .killAll
        case 16..<18: return .restartBroker(downMilliseconds: .random(in: 0...600, using: &random))
        default: return .rescale(to: .random(in: 1...5, using: &random))
        }
    }

    var description: String {
        "seed \(seed): parallelism \(parallelism), \(perSecond) addends a second of \(keys) keys; " + steps.map(\.description).joined(separator: "; ")
    }
}

extension SummingRun {
    /// Carries a plan out on a cluster whose TaskManagers have `slots` each, and leaves the cluster as it was.
    ///
    /// - Returns: What is wrong, see ``finish()``.
    func carryOut(_ plan: ExactlyOncePlan, slots: Int) throws -> [String] {
        var parallelism = plan.parallelism
        feed()
        try submit(parallelism: parallelism)
        try running()
        try catchUp()
        for step in plan.steps {
            usleep(UInt32(step.pauseMilliseconds) * 1_000)
            let before = try info()
            let hosts = Set(before.tasks.map(\.taskManager).filter { cluster.taskManagers[$0] != nil }).sorted()
            let victim = hosts.isEmpty ? cluster.taskManagers.keys.sorted()[0] : hosts[Int(plan.seed) % hosts.count]
            switch step.action {
            case .kill(let point): try kill(point)
            case .killWorker: try cluster.killWorkers(of: victim)
            case .killTaskManager:
                cluster.killTaskManager(victim)
                try cluster.startTaskManager(victim, slots: slots)
            case .stopHost: try stopHost(victim, before, slots: slots)
            case .killJobManager:
                cluster.killJobManager()
                try cluster.startJobManager()
            case .killAll: try killAll(before, slots: slots, parallelism: parallelism)
            case .restartBroker(let down):
                broker.kill()
                usleep(UInt32(down) * 1_000)
                try broker.startAgain()
            case .rescale(let wanted):
                parallelism = wanted
                try submit(parallelism: parallelism, from: try cancel())
            }
            if step.isAwaited { try catchUp() }
        }
        return try finish()
    }

    private func stopHost(_ victim: String, _ before: WireJobInfo, slots: Int) throws {
        guard let pid = cluster.taskManagers[victim]?.pid else { return }
        let pids = try cluster.workers(of: victim) + [pid]
        for pid in pids { Glibc.kill(pid, SIGSTOP) }
        let next = (1...).first { cluster.taskManagers["tm-\($0)"] == nil } ?? 0
        try cluster.startTaskManager("tm-\(next)", slots: slots)
        try catchUp()
        for pid in pids { Glibc.kill(pid, SIGCONT) }
        // What they were about to write and to commit comes now.
        usleep(300_000)
        try catchUp()
        cluster.killTaskManager(victim)
    }

    /// The job's name is free for the resubmission only where the new JobManager knows nothing of it.
    private func killAll(_ before: WireJobInfo, slots: Int, parallelism: Int) throws {
        let hosts = cluster.taskManagers.keys.sorted()
        cluster.killJobManager()
        for host in hosts { cluster.killTaskManager(host) }
        // All that a new cluster finds of the old one is the checkpoint.
        let latest = try latestCheckpoint(of: before.summary.job)
        let kept = cluster.directory + "/kept-\(before.summary.job)-\(UUID().uuidString)"
        let old = "\(cluster.directory)/jobmanager"
        try FileManager.default.moveItem(atPath: old, toPath: kept)
        try cluster.startJobManager()
        for host in hosts { try cluster.startTaskManager(host, slots: slots) }
        try submit(parallelism: parallelism, from: latest.hasPrefix(old + "/") ? kept + latest.dropFirst(old.count) : latest)
    }
}
