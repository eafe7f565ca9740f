import Foundation
import Testing
import WeirBase
import WeirTestKit
import WeirWire

/// Scenario 35: restarts within one worker process leave nothing behind. `WEIR_RESTARTS=200` restarts that often.
@Suite(.serialized) struct RestartLeakTests {
    private static let restarts = ProcessInfo.processInfo.environment["WEIR_RESTARTS"].flatMap { Int($0) } ?? 20
    /// What has to be loaded, allocated and connected once is there after so many.
    private static let warmUp = 5
    /// Dispatch starts and ends threads as it sees fit, a few for each processor.
    private static let idleThreads = 4
    private static let growthMax = 16 << 20

    /// What the kernel says that a process holds.
    private struct Holdings: CustomStringConvertible {
        var threads: Int
        var descriptors: Int
        var residentBytes: Int

        init(pid: Int32) throws {
            threads = try FileManager.default.contentsOfDirectory(atPath: "/proc/\(pid)/task").count
            descriptors = try FileManager.default.contentsOfDirectory(atPath: "/proc/\(pid)/fd").count
            let status = try String(contentsOfFile: "/proc/\(pid)/status", encoding: .utf8)
            let line = status.split(separator: "\n").first { $0.hasPrefix("VmRSS:") }
            residentBytes = (line?.split(separator: " ").dropFirst().first.flatMap { Int($0) } ?? 0) << 10
        }

        var description: String { "\(threads) threads, \(descriptors) descriptors, \(residentBytes >> 10) KiB resident" }
    }

    @Test func restartsLeaveThreadsDescriptorsMemoryAndTransactionsWhereTheyWere() throws {
        let (cluster, broker) = try SummingRun.cluster(taskManagers: 1, slots: 2)
        defer { cluster.stop() }
        var options = SummingRun.Options()
        options.settings["restart-strategy.fixed-delay.delay"] = "1ms"
        let run = try SummingRun(cluster, broker, options)
        run.feed()
        try run.submit(parallelism: 2)
        try run.running()
        try run.catchUp()
        let worker = try #require(try cluster.workers(of: "tm-1").first)
        let processes = [
            ("worker", worker), ("taskmanager", try #require(cluster.taskManagers["tm-1"]?.pid)),
            ("jobmanager", try #require(cluster.jobManager?.pid)),
        ]

        for _ in 0..<Self.warmUp { try restart(run) }
        try fillPools(run)
        let before = try processes.map { try settled($0.1) }
        let begun = ContinuousClock.now
        for number in 1...Self.restarts {
            try restart(run)
            if number % 50 == 0 { print("after \(number): \(try processes.map { "\($0.0) \(try Holdings(pid: $0.1))" }.joined(separator: "; "))") }
        }
        let took = ContinuousClock.now - begun
        try fillPools(run)
        #expect(try cluster.workers(of: "tm-1") == [worker], "the worker is still the same process")
        for ((name, pid), earlier) in zip(processes, before) {
            var later = try settled(pid)
            // Threads of clients that are being closed end soon; those that leaked do not.
            try? run.wait(seconds: 10, "as many threads and descriptors as before") {
                later = try settled(pid)
                return later.threads <= earlier.threads + Self.idleThreads && later.descriptors <= earlier.descriptors
            }
            print("\(name): \(earlier); after \(Self.restarts) more restarts in \(took.inMilliseconds) ms: \(later)")
            #expect(later.threads <= earlier.threads + Self.idleThreads, "\(name): \(earlier); \(later)")
            #expect(later.descriptors <= earlier.descriptors, "\(name): \(earlier); \(later)")
            #expect(later.residentBytes - earlier.residentBytes < Self.growthMax, "\(name): \(earlier); \(later)")
        }
        // Two subtasks write, each with a pool of three.
        #expect(try run.openTransactions().count <= 6)
        #expect(try run.finish() == [])
    }

    /// Waits for so many checkpoints that each subtask has all the producers that it keeps.
    private func fillPools(_ run: SummingRun) throws {
        let completed = try run.info().checkpoints.completed
        try run.wait("six checkpoints more") { try run.info().checkpoints.completed >= completed + 6 }
        try run.catchUp()
    }

    /// The least that a process holds within a second: a client in use has a connection now and then, one that leaked always.
    private func settled(_ pid: Int32) throws -> Holdings {
        var least = try Holdings(pid: pid)
        let end = ContinuousClock.now + .seconds(1)
        while ContinuousClock.now < end {
            usleep(20_000)
            let now = try Holdings(pid: pid)
            least.threads = min(least.threads, now.threads)
            least.descriptors = min(least.descriptors, now.descriptors)
            least.residentBytes = min(least.residentBytes, now.residentBytes)
        }
        return least
    }

    /// User code throws: the tasks end and are deployed anew, in the same process.
    private func restart(_ run: SummingRun) throws {
        let before = try run.running()
        try run.give("fail")
        try run.running(after: before.epoch)
        try run.catchUp()
    }
}
