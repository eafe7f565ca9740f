import Foundation
import Testing
import WeirBase
import WeirKafkaTransactions
import WeirTestKit
import WeirWire

/// A job that sums from Kafka to Kafka on a cluster of real processes: fed all the time, broken on purpose, its output looked at as
/// `read_committed` readers see it.
final class SummingRun {
    static let inputs: Int32 = 4
    static let outputs: Int32 = 3

    struct Options {
        var name = "sums"
        var delivery = "exactlyOnce"
        var keys = 24
        var perSecond = 1_000
        var seed: UInt64 = 1
        /// Of the job: `-D key=value`.
        var settings: [String: String] = [:]
    }

    let cluster: LocalCluster
    let broker: BrokerProcess
    let options: Options
    private let signals: String
    private let input: String
    private let output: String
    private let reader: TopicReader
    private(set) var seen = SeenTotals()
    private(set) var feeder: Feeder?
    /// What the job was last submitted from.
    private var submittedFrom: String?

    init(_ cluster: LocalCluster, _ broker: BrokerProcess, _ options: Options = Options()) throws {
        self.cluster = cluster
        self.broker = broker
        self.options = options
        signals = cluster.directory + "/signals-" + options.name
        try FileManager.default.createDirectory(atPath: signals, withIntermediateDirectories: true)
        input = options.name + "-addends"
        output = options.name + "-totals"
        let administration = try TopicAdministration(bootstrap: broker.bootstrap)
        try administration.create(input, partitions: Self.inputs)
        try administration.create(output, partitions: Self.outputs)
        reader = try TopicReader(bootstrap: broker.bootstrap, topic: output, partitions: Self.outputs, properties: Feeder.properties)
    }

    /// A cluster for such jobs, its broker in a directory of the cluster's.
    ///
    /// - Parameters:
    ///   - taskManagers: How many, each with `slots`.
    ///   - interval: From one checkpoint to the next.
    static func cluster(taskManagers: Int, slots: Int, interval: String = "150ms", faults: String? = nil) throws -> (LocalCluster, BrokerProcess) {
        let cluster = try LocalCluster(settings: [
            "execution.checkpointing.interval": interval, "restart-strategy.type": "fixed-delay", "restart-strategy.fixed-delay.delay": "50ms",
            "restart-strategy.fixed-delay.attempts": "1000000", "heartbeat.interval": "200ms", "heartbeat.timeout": "2s",
        ])
        let broker = try BrokerProcess(binaries: cluster.binaries, directory: cluster.directory + "/broker", faults: faults)
        try cluster.startJobManager()
        for number in 0..<taskManagers { try cluster.startTaskManager("tm-\(number + 1)", slots: slots) }
        return (cluster, broker)
    }

    // MARK: The job

    func submit(parallelism: Int, from checkpoint: String? = nil, settings: [String: String] = [:]) throws {
        let all = Feeder.properties.reduce(into: options.settings) { $0["kafka.property." + $1.key] = $1.value }.merging(settings) { $1 }
        let submitted = try cluster.weir(
            ["run", "-d", "--skip-preflight", "-p", "\(parallelism)", "--name", options.name]
                + all.sorted { $0.key < $1.key }.flatMap { ["-D", "\($0.key)=\($0.value)"] } + (checkpoint.map { ["--from-checkpoint", $0] } ?? [])
                + [
                    cluster.binaries + "/weir-kafka-testjob", "--", "--bootstrap", broker.bootstrap, "--input", input, "--output", output,
                    "--prefix", options.name, "--delivery", options.delivery, "--signals", signals,
                ])
        guard submitted.code == 0 else { throw JobFailure(domain: .system, recovery: .fail, message: submitted.output.joined(separator: "\n")) }
        submittedFrom = checkpoint
    }

    func feed() {
        feeder = Feeder(bootstrap: broker.bootstrap, topic: input, keys: options.keys, perSecond: options.perSecond, seed: options.seed)
    }

    /// Waits until the job runs in a later epoch than one before.
    @discardableResult
    func running(after epoch: UInt32 = 0) throws -> WireJobInfo {
        let info = try cluster.wait(for: options.name, "RUNNING") { info in
            (info.summary.state == .running && info.epoch > epoch) || info.summary.state.rawValue >= WireJobState.finished.rawValue
        }
        guard info.summary.state == .running else {
            let words = info.failures.suffix(3).map { "\($0.failure.message): \($0.failure.cause)" }.joined(separator: "\n")
            throw JobFailure(domain: .system, recovery: .fail, message: "the job is \(info.summary.state)", cause: words)
        }
        return info
    }

    func info() throws -> WireJobInfo { try cluster.wait(for: options.name, "there") { _ in true } }

    /// Cancels the job.
    ///
    /// - Returns: The directory of its last completed checkpoint.
    @discardableResult
    func cancel() throws -> String {
        let canceled = try cluster.weir(["cancel", options.name])
        guard canceled.code == 0 else { throw JobFailure(domain: .system, recovery: .fail, message: canceled.output.joined(separator: "\n")) }
        return try latestCheckpoint(of: try info().summary.job)
    }

    /// The directory of a job's last completed checkpoint, as it stands on the disk; of the one that it was submitted from where it has none.
    func latestCheckpoint(of job: String) throws -> String {
        let directory = cluster.directory + "/jobmanager/checkpoints/" + job
        let names = (try? FileManager.default.contentsOfDirectory(atPath: directory)) ?? []
        let numbers = names.filter { name in
            name.hasPrefix("chk-") && FileManager.default.fileExists(atPath: "\(directory)/\(name)/_metadata")
        }.compactMap { Int($0.dropFirst(4)) }
        guard let latest = numbers.max() else {
            if let submittedFrom { return submittedFrom }
            throw JobFailure(domain: .system, recovery: .fail, message: "no checkpoint of job \(job) is complete")
        }
        return "\(directory)/chk-\(latest)"
    }

    // MARK: Signals, see the job's Signals.swift

    private func path(_ signal: String) -> String { signals + "/" + signal }
    private func isThere(_ signal: String) -> Bool { FileManager.default.fileExists(atPath: path(signal)) }

    func give(_ signal: String) throws { try Data().write(to: URL(fileURLWithPath: path(signal))) }

    func takeBack(_ signal: String) { try? FileManager.default.removeItem(atPath: path(signal)) }

    func waitUntilTaken(_ signal: String) throws { try wait("\(signal) is taken") { !isThere(signal) } }

    /// Has one of the job's threads wait at a step.
    ///
    /// - Returns: Its process.
    func pause(at step: Int) throws -> Int32 {
        takeBack("resumed")
        try give("pause-\(step)")
        try wait("somebody waits at step \(step)") { isThere("paused") }
        guard let pid = Int32(try String(contentsOfFile: path("paused"), encoding: .utf8)) else {
            throw JobFailure(domain: .system, recovery: .fail, message: "nobody's number is in \(path("paused"))")
        }
        return pid
    }

    /// Lets the thread go on, and returns once it has.
    func goOn() throws {
        takeBack("paused")
        try wait("the job goes on") { isThere("resumed") }
    }

    /// Lets a thread go on of which it does not matter whether its process lives.
    func release() { takeBack("paused") }

    func wait(seconds: Int = 30, _ what: String, until condition: () throws -> Bool) throws {
        let end = ContinuousClock.now + .seconds(seconds)
        while try !condition() {
            guard ContinuousClock.now < end else {
                let info = try? info()
                let words = info?.failures.suffix(3).map { "\($0.failure.message): \($0.failure.cause)" }.joined(separator: "\n")
                throw JobFailure(
                    domain: .system, recovery: .fail, message: "waited in vain: \(what)",
                    cause: "\(info.map { "\($0.summary.state)" } ?? "no job"): \(words ?? "")")
            }
            usleep(1_000)
        }
    }

    // MARK: The output

    /// Waits until a reader of committed records sees the totals of all that was written when the call began.
    ///
    /// - Returns: How long that took.
    @discardableResult
    func catchUp(seconds: Int = 30) throws -> Duration {
        let begun = ContinuousClock.now
        let written = feeder?.written ?? 0
        try wait(seconds: seconds, "the totals of \(written) addends are seen") {
            while let bytes = reader.next(milliseconds: 0) { seen.take(bytes) }
            return seen.covered >= written
        }
        return ContinuousClock.now - begun
    }

    /// Stops the input, waits for its totals, and cancels the job.
    ///
    /// - Returns: What is wrong then: transactions that are open, and totals that are not those of a plain fold of the input.
    func finish() throws -> [String] {
        try feeder?.stop()
        try catchUp()
        try cancel()
        return try openTransactions().map { "the transaction of \($0) is open" } + differencesFromFold()
    }

    /// Reads the output to its end and compares it with a plain fold of the input.
    func differencesFromFold() throws -> [String] {
        while let bytes = reader.next(milliseconds: 300) { seen.take(bytes) }
        let expected = try fold()
        let (addends, written) = (expected.values.reduce(0) { $0 + $1.count }, feeder?.written ?? 0)
        let input = addends == written ? [] : ["\(addends) addends are in the topic, \(written) were written"]
        return input + (options.delivery == "exactlyOnce" ? seen.differences(from: expected) : seen.losses(from: expected)).prefix(5)
    }

    /// The totals that the input as it stands in its topic gives.
    private func fold() throws -> [String: [SeenTotals.Total]] {
        struct Addend: Decodable {
            var key: String
            var value: Int64
        }
        let reader = try TopicReader(bootstrap: broker.bootstrap, topic: input, partitions: Self.inputs, properties: Feeder.properties)
        var totals: [String: [SeenTotals.Total]] = [:]
        let decoder = JSONDecoder()
        var found = 0
        // All that was written is there; more would be a repetition.
        while let bytes = reader.next(milliseconds: found < (feeder?.written ?? 1) ? 10_000 : 300) {
            found += 1
            let addend = try decoder.decode(Addend.self, from: Data(bytes))
            let last = totals[addend.key]?.last ?? .init(count: 0, sum: 0)
            totals[addend.key, default: []].append(.init(count: last.count + 1, sum: last.sum + addend.value))
        }
        return totals
    }

    /// The ends of the output's partitions.
    func ends(committed: Bool) throws -> [Int64] {
        try topicEnds(bootstrap: broker.bootstrap, topic: output, partitions: Self.outputs, committed: committed)
    }

    /// The job's transactional ids with a transaction that is open or being ended.
    func openTransactions() throws -> [String] {
        let client = try TransactionClient(bootstrap: broker.bootstrap)
        defer { client.close() }
        let clock = RunClock()
        let patience = KafkaPatience(clock: clock, deadline: clock.now.advanced(by: .seconds(10)))
        return try client.listTransactions(patience)?.filter { $0.name.hasPrefix(options.name + "-") }
            .filter { ["Ongoing", "PrepareCommit", "PrepareAbort"].contains($0.state) }.map(\.name) ?? []
    }
}

private struct RunClock: WeirClock {
    private static let origin = ContinuousClock.now
    var now: Instant { Instant(nanoseconds: Self.origin.duration(to: .now).inNanoseconds) }
    var wallTime: WallTime { WallTime(milliseconds: Int64(Date().timeIntervalSince1970 * 1_000)) }
}
