internal import Foundation
internal import Glibc
internal import WeirBase
internal import WeirCLI
internal import WeirWire

/// A windowed job under load on real processes, of which something is broken again and again at random moments: what it writes must equal a
/// plain fold of its input, every window once.
///
/// The moments follow from a seed. The job generates its rows itself, at a steady rate, and reads them again from the positions in its
/// checkpoints; it writes to files exactly once.
package struct ChaosScenario {
    /// What is broken.
    package enum Strike: String, Sendable, CaseIterable {
        /// kill -9 of a TaskManager that runs tasks; its worker dies with it.
        case taskManager = "kill -9 of a taskmanager"
        /// kill -9 of a job worker.
        case worker = "kill -9 of a job worker"
        /// A Swift runtime check fails in the job's own code.
        case trap = "a trap in user code"
        /// kill -9 of a worker while a checkpoint is being taken.
        case duringCheckpoint = "kill -9 of a worker during a checkpoint"
        /// kill -9 of another worker while the job is deployed anew after the first one.
        case duringRestore = "kill -9 of a worker during the recovery from another"
        /// Two kills within 400 ms.
        case twice = "kill -9 of a taskmanager and then of a worker"
        /// kill -9 of the JobManager, which is started again.
        case jobManager = "kill -9 of the jobmanager"
        /// SIGSTOP of a TaskManager: only missing heartbeats tell.
        case stoppedTaskManager = "SIGSTOP of a taskmanager"
        /// SIGSTOP of a TaskManager and its worker, which go on later and must do no harm.
        case stoppedHost = "SIGSTOP of a taskmanager and its worker"

        /// Whether the processes that are left can go on at once, so that ``Recovery/runningAgainMs`` is bounded.
        package var isSimple: Bool { self == .taskManager || self == .worker || self == .trap }
    }

    package struct Recovery: Sendable {
        package var strike: Strike
        /// From the strike to the job's RESTARTING; nil where the JobManager itself was struck.
        package var detectedMs: Int?
        /// From the strike to the job's RUNNING.
        package var runningAgainMs: Int
    }

    package struct Outcome: Sendable {
        package var recoveries: [Recovery]
        package var windows: Int
        /// What differs from a plain fold; empty for an exact run.
        package var problems: [String]
    }

    package struct Load: Sendable {
        package var perSecond: Int
        package var devices: Int
        package var parallelism: Int

        package init(perSecond: Int = 10_000, devices: Int = 100, parallelism: Int = 3) {
            self.perSecond = perSecond
            self.devices = devices
            self.parallelism = parallelism
        }
    }

    private static let heartbeatTimeoutMs = 2_000
    /// Between RUNNING and the next strike.
    private static let pauseMs: ClosedRange<Int> = 200...2_200

    private let strikes: [Strike]
    private let seed: UInt64
    private let load: Load
    private let print: (String) -> Void

    package init(strikes: [Strike], seed: UInt64, load: Load = Load(), print: @escaping (String) -> Void) {
        self.strikes = strikes
        self.seed = seed
        self.load = load
        self.print = print
    }

    package func run() throws -> Outcome {
        var random = SplitMix64(seed: seed)
        let pauses = strikes.map { _ in Int.random(in: Self.pauseMs, using: &random) }
        // The job emits only while it runs: before the last strike at most this, and something is left behind it.
        let budgetMs = pauses.reduce(0, +) + strikes.count * 500 + 2_000
        let rows = UInt64(load.perSecond * budgetMs / 1_000)
        let cluster = try LocalCluster(settings: [
            "execution.checkpointing.interval": "1s", "restart-strategy.type": "fixed-delay", "restart-strategy.fixed-delay.delay": "100ms",
            "restart-strategy.fixed-delay.attempts": "1000000", "heartbeat.interval": "200ms",
            "heartbeat.timeout": "\(Self.heartbeatTimeoutMs)ms",
        ])
        defer { cluster.stop() }
        try cluster.startJobManager()
        for number in 1...3 { try cluster.startTaskManager("tm-\(number)", slots: 2) }
        let run = ChaosRun(cluster: cluster, random: random)
        try run.submit(rows: rows, load: load, seed: seed)
        print("seed \(seed): \(rows) rows, \(load.perSecond) a second, parallelism \(load.parallelism) on 3 taskmanagers of 2 slots")

        var recoveries: [Recovery] = []
        for (strike, pause) in zip(strikes, pauses) {
            usleep(UInt32(pause * 1_000))
            let recovery = try run.strike(strike)
            let detected = recovery.detectedMs.map { "detected after \($0) ms, " } ?? ""
            print("\(strike.rawValue): \(detected)RUNNING again after \(recovery.runningAgainMs) ms")
            recoveries.append(recovery)
            try run.repair()
        }
        let patience = Duration.milliseconds(budgetMs + strikes.count * 1_500 + 60_000)
        _ = try cluster.wait(for: ChaosRun.job, timeout: patience, "FINISHED") { info in info.summary.state == .finished }
        let expected = SeededRows(seed: seed, devices: load.devices).fold(count: rows)
        let differences = try run.compare(with: expected)
        print(
            differences.problems.isEmpty
                ? "exact: \(expected.count) windows equal a plain fold of the input, each written once"
                : "NOT exact: \(differences.problems.count) differences, the first: \(differences.problems[0])")
        for line in Self.summary(recoveries) { print(line) }
        return Outcome(recoveries: recoveries, windows: expected.count, problems: differences.problems)
    }

    /// The middle and the worst of each kind of strike.
    package static func summary(_ recoveries: [Recovery]) -> [String] {
        Strike.allCases.compactMap { strike in
            let mine = recoveries.filter { $0.strike == strike }
            guard !mine.isEmpty else { return nil }
            let running = mine.map(\.runningAgainMs).sorted()
            let detected = mine.compactMap(\.detectedMs).sorted()
            var text = "\(strike.rawValue), \(mine.count) times: RUNNING again median \(running[running.count / 2]) ms, worst \(running[running.count - 1]) ms"
            if let worst = detected.last { text += "; detected median \(detected[detected.count / 2]) ms, worst \(worst) ms" }
            return text
        }
    }
}

/// One job on one cluster that is struck.
private final class ChaosRun {
    static let job = "chaos"

    private let cluster: LocalCluster
    private var random: SplitMix64
    private let trapFile: String
    private let slowFile: String
    private let slowStartFile: String
    private let output: String
    /// TaskManagers that were killed, to be started again.
    private var missing: [String] = []
    /// Processes that were stopped, to go on.
    private var stopped: [Int32] = []

    init(cluster: LocalCluster, random: SplitMix64) {
        self.cluster = cluster
        self.random = random
        trapFile = cluster.directory + "/trap"
        slowFile = cluster.directory + "/slow"
        slowStartFile = cluster.directory + "/slow-start"
        output = cluster.directory + "/windows"
    }

    deinit { for pid in stopped { Glibc.kill(pid, SIGCONT) } }

    func submit(rows: UInt64, load: ChaosScenario.Load, seed: UInt64) throws {
        let submitted = try cluster.weir([
            "run", "-d", "-p", "\(load.parallelism)", "--name", Self.job, cluster.binaries + "/weir-testjob", "--", "--output", output, "--rows",
            "\(rows)", "--per-second", "\(load.perSecond)", "--devices", "\(load.devices)", "--seed", "\(seed)", "--trap-file", trapFile,
            "--slow-file", slowFile, "--slow-start-file", slowStartFile,
        ])
        guard submitted.code == 0 else { throw JobFailure(domain: .system, recovery: .fail, message: submitted.output.joined(separator: "\n")) }
        _ = try running()
    }

    /// - Throws: Also when the job has ended: then it was given too few rows for what is to happen to it.
    private func running() throws -> WireJobInfo {
        let info = try cluster.wait(for: Self.job, "RUNNING") { $0.summary.state == .running || $0.summary.state.isTerminal }
        guard info.summary.state == .running else {
            throw JobFailure(domain: .system, recovery: .fail, message: "the job is \(info.summary.state.word) and cannot be struck")
        }
        return info
    }

    func strike(_ strike: ChaosScenario.Strike) throws -> ChaosScenario.Recovery {
        let before = try running()
        let hosts = Set(before.tasks.map(\.taskManager)).sorted()
        let host = hosts[Int.random(in: hosts.indices, using: &random)]
        var began = Self.now
        switch strike {
        case .taskManager:
            kill(taskManager: host)
        case .worker:
            try cluster.killWorkers(of: host)
        case .trap:
            try make(trapFile)
        case .duringCheckpoint:
            try make(slowFile)
            _ = try cluster.wait(for: Self.job, "in a checkpoint") { $0.checkpoints.inProgress > 0 }
            began = Self.now
            try cluster.killWorkers(of: host)
            try FileManager.default.removeItem(atPath: slowFile)
        case .duringRestore:
            began = try killDuringRestore(host, of: hosts)
        case .twice:
            kill(taskManager: host)
            usleep(UInt32.random(in: 0...400_000, using: &random))
            // One that has started already, if there is one.
            for id in cluster.taskManagers.keys.sorted() where try cluster.killWorkers(of: id) > 0 { break }
        case .jobManager:
            cluster.killJobManager()
            try cluster.startJobManager()
        case .stoppedTaskManager, .stoppedHost:
            try stop(host, withWorker: strike == .stoppedHost)
        }
        return try recovery(from: strike, began: began, before: before)
    }

    /// Holds the recovery from a first kill where workers start, and kills one that lives.
    private func killDuringRestore(_ host: String, of hosts: [String]) throws -> Int64 {
        try make(slowStartFile)
        let began = Self.now
        try cluster.killWorkers(of: host)
        _ = try cluster.wait(for: Self.job, "DEPLOYING") { $0.summary.state == .deploying }
        try cluster.killWorkers(of: hosts.first { $0 != host } ?? host)
        try FileManager.default.removeItem(atPath: slowStartFile)
        return began
    }

    private func kill(taskManager id: String) {
        cluster.killTaskManager(id)
        missing.append(id)
    }

    private func stop(_ id: String, withWorker: Bool) throws {
        guard let pid = cluster.taskManagers[id]?.pid else { return }
        stopped = withWorker ? try cluster.workers(of: id) + [pid] : [pid]
        for pid in stopped { Glibc.kill(pid, SIGSTOP) }
    }

    private func recovery(from strike: ChaosScenario.Strike, began: Int64, before: WireJobInfo) throws -> ChaosScenario.Recovery {
        let after = try cluster.wait(for: Self.job, "RUNNING again") { info in
            if info.summary.state.isTerminal { return true }
            return info.summary.state == .running && info.epoch > before.epoch
        }
        guard after.summary.state == .running else {
            throw JobFailure(
                domain: .system, recovery: .fail, message: "the job is \(after.summary.state.word) after \(strike.rawValue)",
                cause: after.failures.last.map { "\($0.failure.message): \($0.failure.cause)" })
        }
        // A JobManager that was killed took the history with it.
        if strike == .jobManager { return .init(strike: strike, detectedMs: nil, runningAgainMs: Int(Self.now - began)) }
        let restarting = after.history.first { $0.state == .restarting && $0.timestampMs >= began }
        let running = after.history.last { $0.state == .running }
        guard let restarting, let running else {
            throw JobFailure(domain: .system, recovery: .fail, message: "the job's history does not hold its restart", cause: "\(after.history)")
        }
        return .init(
            strike: strike, detectedMs: Int(restarting.timestampMs - began), runningAgainMs: Int(running.timestampMs - began))
    }

    /// Brings the cluster back to three TaskManagers.
    func repair() throws {
        for pid in stopped { Glibc.kill(pid, SIGCONT) }
        stopped = []
        for id in missing { try cluster.startTaskManager(id, slots: 2) }
        missing = []
        try cluster.wait("three TaskManagers") { $0.taskManagers.count == 3 }
    }

    func compare(with expected: [SeededRows.Window: SeededRows.Totals]) throws -> WindowDifferences {
        try WindowDifferences(directory: output, expected: expected)
    }

    private func make(_ file: String) throws { try Data().write(to: URL(fileURLWithPath: file)) }

    /// Wall clock, as the JobManager stamps its history.
    private static var now: Int64 { Int64((Date().timeIntervalSince1970 * 1_000).rounded(.down)) }
}
