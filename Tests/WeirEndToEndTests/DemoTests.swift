import Foundation
import Glibc
import Testing
import WeirBase
import WeirTestKit

/// Whoever stops `make demo` half-way is left with nothing that runs.
@Suite(.serialized) struct DemoTests {
    @Test(arguments: [SIGINT, SIGTERM, SIGKILL])
    func whatTheDemoStartedEndsWithIt(signal: Int32) throws {
        let demo = try ChildProcess(name: "weir-demo", executable: try LocalCluster.binaryDirectory() + "/weir-demo", arguments: [])
        let line = try demo.line(containing: "broker, jobmanager and two taskmanagers start in ")
        let directory = try #require(line.split(separator: " ").last.map(String.init))
        defer { try? FileManager.default.removeItem(atPath: directory) }
        _ = try demo.line(containing: "is RUNNING on")
        let started = try descendants(of: demo.pid)
        #expect(started.count >= 5, "broker, jobmanager, two taskmanagers and a worker")
        kill(demo.pid, signal)
        let deadline = ContinuousClock.now + .seconds(20)
        var left = started
        while !left.isEmpty, ContinuousClock.now < deadline {
            left.removeAll { ProcessTable.parent(of: $0) == nil }
            usleep(10_000)
        }
        #expect(left.isEmpty, "still there: \(left)")
        for pid in left { kill(pid, SIGKILL) }
        #expect(demo.exitCode() == signal)
    }

    private func descendants(of pid: Int32) throws -> [Int32] {
        var found: [Int32] = []
        var parents: Set<Int32> = [pid]
        while !parents.isEmpty {
            let children = try ProcessTable.all().filter { parents.contains($0.parent) }.map(\.pid)
            found += children
            parents = Set(children)
        }
        return found
    }
}
