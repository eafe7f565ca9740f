internal import Foundation
internal import Glibc
internal import WeirBase
package import WeirCLI
package import WeirWire

/// A JobManager, TaskManagers and a broker as real processes on free ports, in a directory of their own.
///
/// They end with this process, however it ends: each holds the reading end of a pipe whose other end only this process has.
package final class LocalCluster {
    package let directory: String
    package let binaries: String
    package private(set) var jobManager: ChildProcess?
    package private(set) var taskManagers: [String: ChildProcess] = [:]
    package private(set) var broker: ChildProcess?
    package private(set) var port: UInt16 = 0
    private let settings: [String: String]

    /// - Parameter settings: For JobManager and TaskManagers, as with `-D`.
    package init(settings: [String: String] = [:]) throws {
        self.settings = settings
        binaries = try Self.binaryDirectory()
        var template = Array("/tmp/weir-cluster-XXXXXX".utf8CString)
        guard mkdtemp(&template) != nil else { throw JobFailure(domain: .resource, recovery: .fail, message: "cannot make a directory in /tmp") }
        directory = String(decoding: template.dropLast().map { UInt8(bitPattern: $0) }, as: UTF8.self)
    }

    /// The directory of the built programs: that of this one, or above the bundle of a test.
    package static func binaryDirectory() throws -> String {
        var candidate = URL(fileURLWithPath: CommandLine.arguments[0]).resolvingSymlinksInPath().deletingLastPathComponent()
        if let own = try? FileManager.default.destinationOfSymbolicLink(atPath: "/proc/self/exe") {
            candidate = URL(fileURLWithPath: own).deletingLastPathComponent()
        }
        let fromTests = ProcessInfo.processInfo.environment["WEIR_BINARIES"].map { URL(fileURLWithPath: $0) }
        for place in [fromTests, candidate].compactMap({ $0 }) where FileManager.default.isExecutableFile(atPath: place.path + "/jobmanager") {
            return place.path
        }
        throw JobFailure(
            domain: .configuration, recovery: .fail, message: "the programs jobmanager and taskmanager are not beside this one",
            cause: "build all of them, or name their directory in WEIR_BINARIES")
    }

    deinit { stop() }

    private func definitions(_ more: [String: String]) -> [String] {
        settings.merging(more) { $1 }.sorted { $0.key < $1.key }.flatMap { ["-D", "\($0.key)=\($0.value)"] }
    }

    @discardableResult
    package func startJobManager() throws -> ChildProcess {
        let process = try ChildProcess(
            name: "jobmanager", executable: binaries + "/jobmanager",
            arguments: ["--until-stdin-ends"] + definitions(["jobmanager.rpc.port": "\(port)", "jobmanager.storage.dir": directory + "/jobmanager"]))
        let line = try process.line(containing: "jobmanager ready")
        guard let address = line.split(separator: " ").first(where: { $0.contains(":") && $0.last != ":" }),
            let found = UInt16(address.split(separator: ":").last?.filter(\.isNumber) ?? "")
        else { throw JobFailure(domain: .system, recovery: .fail, message: "no port in \"\(line)\"") }
        port = found
        jobManager = process
        return process
    }

    @discardableResult
    package func startTaskManager(_ id: String, slots: Int) throws -> ChildProcess {
        let process = try ChildProcess(
            name: id, executable: binaries + "/taskmanager",
            arguments: ["--until-stdin-ends"]
                + definitions([
                    "jobmanager.rpc.port": "\(port)", "taskmanager.numberOfTaskSlots": "\(slots)", "taskmanager.resource-id": id,
                    "io.tmp.dirs": directory,
                ]))
        _ = try process.line(containing: "ready")
        taskManagers[id] = process
        return process
    }

    /// The embedded broker, in a process of its own.
    ///
    /// - Parameter missing: A topic that shall not come into being because it is asked for.
    /// - Returns: The bootstrap address.
    package func startBroker(topics: String, missing: String? = nil) throws -> String {
        let process = try ChildProcess(
            name: "broker", executable: binaries + "/weir",
            arguments: ["broker", "--until-stdin-ends", "--topics", topics]
                + (missing == nil ? [] : ["--property", "auto.create.topics.enable=false"]))
        broker = process
        let words = try process.line(containing: "broker ready on ").split(separator: " ")
        return String(words[3].dropLast())
    }

    /// Runs the CLI to its end.
    package func weir(_ arguments: [String]) throws -> (code: Int32, output: [String]) {
        let process = try ChildProcess(
            name: "weir", executable: binaries + "/weir", arguments: arguments, environment: ["WEIR_JOBMANAGER_RPC_PORT": "\(port)"])
        let code = process.exitCode()
        return (code, process.output)
    }

    package func client() throws -> JobManagerClient { try JobManagerClient(JobManagerAddress(host: "127.0.0.1", port: port)) }

    /// Asks until the job fulfils a condition.
    package func wait(
        for job: String, timeout: Duration = .seconds(30), every pause: Duration = .milliseconds(5), _ what: String,
        _ condition: (WireJobInfo) -> Bool
    ) throws -> WireJobInfo {
        let deadline = ContinuousClock.now + timeout
        let client = try client()
        while true {
            let info = try client.info(job: job)
            if condition(info) { return info }
            if ContinuousClock.now > deadline {
                let failures = info.failures.map { "\($0.failure.message) \($0.failure.cause)" }.joined(separator: "; ")
                throw JobFailure(
                    domain: .system, recovery: .fail, message: "job \(job) is \(info.summary.state) after \(timeout), not \(what)", cause: failures)
            }
            usleep(UInt32(pause.inNanoseconds / 1_000))
        }
    }

    /// Asks until the cluster fulfils a condition.
    @discardableResult
    package func wait(
        timeout: Duration = .seconds(30), _ what: String, _ condition: (WireClusterInfo) -> Bool
    ) throws -> WireClusterInfo {
        let deadline = ContinuousClock.now + timeout
        let client = try client()
        while true {
            let info: WireClusterInfo = try client.ask(.getCluster, WireGetCluster(), to: "show the cluster")
            if condition(info) { return info }
            if ContinuousClock.now > deadline {
                throw JobFailure(domain: .system, recovery: .fail, message: "the cluster has not \(what) after \(timeout)", cause: "\(info)")
            }
            usleep(5_000)
        }
    }

    /// Stops every process by its pid and deletes the directory.
    package func stop() {
        for process in taskManagers.values { process.terminate() }
        taskManagers = [:]
        jobManager?.terminate()
        jobManager = nil
        broker?.terminate()
        broker = nil
        try? FileManager.default.removeItem(atPath: directory)
    }

    /// The processes of the workers that a TaskManager runs.
    package func workers(of id: String) throws -> [Int32] {
        guard let parent = taskManagers[id]?.pid else { return [] }
        return try ProcessTable.all().filter { $0.parent == parent }.map(\.pid)
    }

    /// SIGKILL for every worker of a TaskManager.
    ///
    /// - Returns: How many there were.
    @discardableResult
    package func killWorkers(of id: String) throws -> Int {
        let pids = try workers(of: id)
        for pid in pids { Glibc.kill(pid, SIGKILL) }
        return pids.count
    }

    /// SIGKILL; ``startJobManager()`` starts another one on the same port and storage.
    package func killJobManager() {
        jobManager?.kill()
        jobManager = nil
    }

    package func killTaskManager(_ id: String) {
        taskManagers[id]?.kill()
        taskManagers[id] = nil
    }
}
