import Glibc
import WeirTestKit

extension Benchmark {
    /// Resident memory of processes that wait for work.
    static var memory: [Benchmark] {
        [
            Benchmark(name: "memory.jobmanager", unit: "MB", goal: .atMost(30)) { try idle().jobManager },
            Benchmark(name: "memory.taskmanager", unit: "MB", goal: .atMost(25)) { try idle().taskManager },
        ]
    }

    private static func idle() throws -> (jobManager: Samples, taskManager: Samples) {
        let setup = "resident set 2 s after the registration, no job, heartbeats each second"
        var jobManagers: [Double] = []
        var taskManagers: [Double] = []
        for _ in 0..<3 {
            let directory = try ScratchDirectory()
            let binaries = try LocalCluster.binaryDirectory()
            let jobManager = try MeasuredProcess(
                binaries + "/jobmanager", ["-D", "jobmanager.rpc.port=0", "-D", "jobmanager.storage.dir=\(directory.path)"])
            let ready = try jobManager.line(containing: "jobmanager ready")
            guard let port = ready.split(separator: ",").first?.split(separator: ":").last else {
                throw benchFailure("no port in the ready line", cause: ready)
            }
            let taskManager = try MeasuredProcess(
                binaries + "/taskmanager", ["-D", "jobmanager.rpc.port=\(port)", "-D", "io.tmp.dirs=\(directory.path)"])
            _ = try taskManager.line(containing: "registered with")
            sleep(2)
            jobManagers.append(Double(jobManager.residentBytes) / 1e6)
            taskManagers.append(Double(taskManager.residentBytes) / 1e6)
        }
        return (Samples(jobManagers, setup: setup), Samples(taskManagers, setup: setup))
    }
}
