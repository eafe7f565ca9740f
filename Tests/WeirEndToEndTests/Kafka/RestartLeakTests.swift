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

        func exceeds(_ other: Self) -> Bool { threads > other.threads + idleThreads || descriptors > other.descriptors }

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
        let before = try settled(processes.map(\.1))
        let begun = ContinuousClock.now
        for number in 1...Self.restarts {
            try restart(run)
            if number % 50 == 0 { print("after \(number): \(try processes.map { "\($0.0) \(try Holdings(pid: $0.1))" }.joined(separator: "; "))") }
        }
        let took = ContinuousClock.now - begun
        try fillPools(run)
        #expect(try cluster.workers(of: "tm-1") == [worker], "the worker is still the same process")
        var later = try settled(processes.map(\.1))
        // Threads of clients that are being closed end soon; those that leaked do not.
        try? run.wait(seconds: 10, "no more threads and descriptors than before") {
            if zip(before, later).allSatisfy({ !$1.exceeds($0) }) { return true }
            later = try settled(processes.map(\.1))
            return false
        }
        for ((name, _), (earlier, later)) in zip(processes, zip(before, later)) {
            let words = "\(name): \(earlier); after \(Self.restarts) more restarts in \(took.inMilliseconds) ms: \(later)"
            print(words)
            #expect(!later.exceeds(earlier), "\(words)")
            #expect(later.residentBytes - earlier.residentBytes < Self.growthMax, "\(words)")
        }
        // Two subtasks write, each with a pool of three.
        #expect(try run.openTransactions().count <= 6)
        let problems = try run.finish()
        #expect(problems.isEmpty, "\(problems.joined(separator: "\n"))")
    }

    /// Waits for so many checkpoints that each subtask has all the producers that it keeps.
    private func fillPools(_ run: SummingRun) throws {
        let completed = try run.info().checkpoints.completed
        try run.wait("six checkpoints more") { try run.info().checkpoints.completed >= completed + 6 }
        try run.catchUp()
    }

    /// The least that each process holds within a second: a client in use has a connection now and then, one that leaked always.
    private func settled(_ pids: [Int32]) throws -> [Holdings] {
        var least = try pids.map { try Holdings(pid: $0) }
        let end = ContinuousClock.now + .seconds(1)
        while ContinuousClock.now < end {
            usleep(20_000)
            for (index, pid) in pids.enumerated() {
                let now = try Holdings(pid: pid)
                least[index].threads = min(least[index].threads, now.threads)
                least[index].descriptors = min(least[index].descriptors, now.descriptors)
                least[index].residentBytes = min(least[index].residentBytes, now.residentBytes)
            }
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
