internal import Foundation
internal import WeirBase
internal import WeirWire

/// The main job on a cluster of real processes: something is killed in the middle, and every window compared with a plain fold.
package struct TelemetryScenario {
    /// What gets SIGKILL after half of the input.
    package enum Victim: Sendable { case taskManager, worker }

    package struct Outcome: Sendable {
        package var isExact: Bool
        package var windows: Int
        /// Windows that a reader of committed records saw again.
        package var repeated: Int
        package var restarts: Int
        /// From the failure to every task RUNNING.
        package var runningAgainMs: Int
    }

    private let readings: Int
    private let perSecond: Int
    private let victim: Victim
    private let exactlyOnce: Bool
    private let print: (String) -> Void

    /// - Parameter exactlyOnce: Whether the sink writes in transactions: a window that comes twice is then no exact result.
    package init(readings: Int, perSecond: Int, victim: Victim, exactlyOnce: Bool, print: @escaping (String) -> Void) {
        self.readings = readings
        self.perSecond = perSecond
        self.victim = victim
        self.exactlyOnce = exactlyOnce
        self.print = print
    }

    package func run() throws -> Outcome {
        let cluster = try LocalCluster(settings: ["execution.checkpointing.interval": "1s"])
        defer { cluster.stop() }
        print("broker, jobmanager and two taskmanagers start in \(cluster.directory)")
        let kafka = try ScenarioTopics(cluster, ["telemetries": 4, "summaries": 1])
        let bootstrap = kafka.bootstrap
        try cluster.startJobManager()
        try cluster.startTaskManager("tm-1", slots: 2)
        try cluster.startTaskManager("tm-2", slots: 2)

        let submitted = try cluster.weir(
            [
                "run", "-d", "-p", "2", cluster.binaries + "/TelemetryAggregate", "--", "--bootstrap", bootstrap,
                "--input", kafka["telemetries"], "--output", kafka["summaries"],
            ] + (exactlyOnce ? ["--exactly-once"] : []))
        guard submitted.code == 0 else { throw JobFailure(domain: .system, recovery: .fail, message: submitted.output.joined(separator: "\n")) }
        let job = "TelemetryAggregate"
        let started = try cluster.wait(for: job, "RUNNING") { $0.summary.state == .running }
        print("job \(started.summary.job) is RUNNING on \(Set(started.tasks.map(\.taskManager)).sorted().joined(separator: ", "))")

        var telemetry = Telemetry(seed: 42, containers: 40, windowSeconds: 15)
        let writer = try TopicWriter(bootstrap: bootstrap, topic: kafka["telemetries"])
        print("\(readings) readings of 40 containers go to Kafka, \(perSecond) a second")
        let begun = ContinuousClock.now
        var killed: ContinuousClock.Instant?
        for index in 0..<readings {
            let reading = telemetry.next(step: 20)
            try writer.write(key: reading.containerID, value: reading.json, timestamp: reading.timestamp)
            if index % 100 == 99 {
                let due = begun + .milliseconds(index * 1_000 / perSecond)
                if due > .now { usleep(UInt32(clamping: (due - .now).inMilliseconds * 1_000)) }
            }
            // Half a checkpoint interval behind a checkpoint, so that there is something to read again.
            if index == readings / 2 + perSecond / 2 {
                let info = try cluster.wait(for: job, "past its first checkpoint") { $0.checkpoints.completed > 0 }
                let host = info.tasks.first?.taskManager ?? "tm-1"
                killed = .now
                switch victim {
                case .taskManager: cluster.killTaskManager(host)
                case .worker: try cluster.killWorkers(of: host)
                }
                let lost = info.tasks.filter { $0.taskManager == host }.count
                print("kill -9 of \(victim == .worker ? "the worker of " : "")\(host), which ran \(lost) of \(info.tasks.count) tasks")
            }
        }
        for partition in 0..<4 {
            try writer.write(partition: Int32(partition), value: telemetry.closing.json, timestamp: telemetry.closing.timestamp)
        }
        try writer.flush()
        let recovered = try cluster.wait(for: job, "RUNNING after the kill") {
            $0.summary.state == .running && $0.failures.last?.runningAgainMs ?? 0 > 0
        }
        if let failure = recovered.failures.last {
            print("detected: \(failure.failure.message)")
            print("restored from checkpoint \(recovered.checkpoints.restoredFrom), RUNNING again after \(failure.runningAgainMs) ms")
        }

        let check = try compare(telemetry, kafka)
        if let killed { print("caught up \((ContinuousClock.now - killed).inMilliseconds) ms after the kill, the input's end included") }
        _ = try cluster.weir(["cancel", job])
        for problem in check.problems.prefix(10) { print("differs: \(problem)") }
        for window in check.missing.prefix(10) { print("missing: \(window.containerID) at \(window.start)") }
        if exactlyOnce, check.repeated > 0 { print("differs: \(check.repeated) windows were written twice") }
        let isExact =
            check.problems.isEmpty && check.missing.isEmpty && recovered.summary.restarts > 0 && !(exactlyOnce && check.repeated > 0)
        if isExact {
            let times = exactlyOnce ? "each written once" : "\(check.repeated) written again after the kill"
            print("exact: \(telemetry.expected.count) windows equal a plain fold of the input, \(times)")
        }
        return Outcome(
            isExact: isExact, windows: telemetry.expected.count, repeated: check.repeated, restarts: Int(recovered.summary.restarts),
            runningAgainMs: Int(recovered.failures.last?.runningAgainMs ?? 0))
    }

    /// Reads the job's output until every window is there and none came for a second, or none came for 20 s.
    private func compare(_ telemetry: Telemetry, _ kafka: ScenarioTopics) throws -> TelemetryCheck {
        var check = TelemetryCheck(expected: telemetry.expected)
        let reader = try TopicReader(bootstrap: kafka.bootstrap, topic: kafka["summaries"], partitions: 1)
        var quiet = ContinuousClock.now
        while ContinuousClock.now - quiet < (check.missing.isEmpty ? .seconds(1) : .seconds(20)) {
            guard let bytes = reader.next(milliseconds: 100) else { continue }
            quiet = .now
            let row = try JSONDecoder().decode(SummaryRow.self, from: Data(bytes))
            check.take(
                containerID: row.containerID, windowStart: row.windowStart, count: row.count, temperatureMinimum: row.temperatureMinimum,
                temperatureMaximum: row.temperatureMaximum, temperatureMean: row.temperatureMean, co2Mean: row.co2Mean)
        }
        return check
    }

    private struct SummaryRow: Decodable {
        var containerID: String
        var windowStart: Int64
        var count: Int
        var temperatureMinimum: Double
        var temperatureMaximum: Double
        var temperatureMean: Double
        var co2Mean: Double
    }
}

/// The topics of a scenario: on the embedded broker, or under names of their own on the one at KAFKA_BOOTSTRAP, deleted with the last reference.
private final class ScenarioTopics {
    let bootstrap: String
    private let names: [String: String]
    private let administration: TopicAdministration?

    init(_ cluster: LocalCluster, _ topics: KeyValuePairs<String, Int32>) throws {
        guard let external = externalBootstrap() else {
            bootstrap = try cluster.startBroker(topics: topics.map { "\($0):\($1)" }.joined(separator: ","))
            names = Dictionary(uniqueKeysWithValues: topics.map { ($0.key, $0.key) })
            administration = nil
            return
        }
        bootstrap = external
        let suffix = hexadecimal(UInt64.random(in: 0 ... .max))
        names = Dictionary(uniqueKeysWithValues: topics.map { ($0.key, "\($0.key)-\(suffix)") })
        let administration = try TopicAdministration(bootstrap: external)
        self.administration = administration
        for (name, partitions) in topics { try administration.create(self[name], partitions: partitions) }
    }

    deinit {
        for name in names.values.sorted() { administration?.delete(name) }
    }

    subscript(name: String) -> String { names[name] ?? name }
}
