import Weir
import WeirBase
import WeirTestKit

extension Benchmark {
    private static let runs = 11

    /// From the start of the process to what it is there for.
    static var start: [Benchmark] {
        [
            Benchmark(name: "start.jobmanager", unit: "s", goal: .atMost(0.2)) {
                Samples(
                    try (0..<runs).map { _ in
                        let directory = try ScratchDirectory()
                        let process = try MeasuredProcess(
                            try LocalCluster.binaryDirectory() + "/jobmanager",
                            ["-D", "jobmanager.rpc.port=0", "-D", "jobmanager.storage.dir=\(directory.path)"])
                        _ = try process.line(containing: "jobmanager ready")
                        return (ContinuousClock.now - process.started).inSeconds
                    }, setup: "from the spawn to its ready line, empty storage")
            },
            Benchmark(name: "start.taskmanager", unit: "s", goal: .atMost(0.3)) {
                let cluster = try LocalCluster()
                defer { cluster.stop() }
                try cluster.startJobManager()
                return Samples(
                    try (0..<runs).map { _ in
                        let process = try MeasuredProcess(
                            cluster.binaries + "/taskmanager",
                            ["-D", "jobmanager.rpc.port=\(cluster.port)", "-D", "io.tmp.dirs=\(cluster.directory)"])
                        _ = try process.line(containing: "registered with")
                        return (ContinuousClock.now - process.started).inSeconds
                    }, setup: "from the spawn to its registration, the JobManager being there")
            },
            Benchmark(name: "start.job", unit: "s", goal: .atMost(1)) {
                Samples(
                    try (0..<5).map { _ in try startJob() },
                    setup: "weir run -d of a program new to the cluster: describe, upload, fetch, spawn, every task RUNNING; parallelism 2")
            },
        ]
    }

    /// On a cluster that has never seen the job's program.
    private static func startJob() throws -> Double {
        let cluster = try LocalCluster()
        defer { cluster.stop() }
        try cluster.startJobManager()
        try cluster.startTaskManager("tm-1", slots: 2)
        let client = try cluster.client()
        let begun = ContinuousClock.now
        let submission = try MeasuredProcess(
            cluster.binaries + "/weir", ["run", "-d", "-p", "2", MeasuredProcess.ownPath, "--", SteadyJob.word],
            environment: ["WEIR_JOBMANAGER_RPC_PORT": "\(cluster.port)"])
        _ = try submission.finish()
        try wait(for: SteadyJob.jobName, client, "RUNNING", isRunning)
        return (ContinuousClock.now - begun).inSeconds
    }
}
