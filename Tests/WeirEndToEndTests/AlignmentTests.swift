import Foundation
import Testing
import WeirBase
import WeirTestKit
import WeirWire

/// Watermark alignment between sources in different processes: they hear of each other by the JobManager.
@Suite(.serialized) struct AlignmentTests {
    /// What each subtask of the source has passed on.
    private func counts(_ info: WireJobInfo) -> [UInt64] {
        info.tasks.filter { $0.subtask.vertex == 0 }.sorted { $0.subtask.index < $1.subtask.index }.map(\.metrics.recordsOut)
    }

    @Test func aSourceAheadWaitsForThatOfAnotherWorker() throws {
        let cluster = try LocalCluster(settings: ["heartbeat.interval": "100ms"])
        defer { cluster.stop() }
        try cluster.startJobManager()
        for id in ["tm-1", "tm-2"] { try cluster.startTaskManager(id, slots: 1) }
        let bootstrap = try cluster.startBroker(topics: "measurements:2")
        let writer = try TopicWriter(bootstrap: bootstrap, topic: "measurements")
        func write(partition: Int32, second: Int) throws {
            let time = second * 1_000
            try writer.write(partition: partition, value: #"{"device":\#(partition),"timestamp":\#(time),"value":1}"#, timestamp: Int64(time))
            try writer.flush()
        }
        let run = try cluster.weir([
            "run", "-d", "-p", "2", "--name", "aligned", cluster.binaries + "/weir-testjob", "--", "--output", cluster.directory + "/out",
            "--bootstrap",
            bootstrap, "--aligned-to", "5000",
        ])
        #expect(run.code == 0, "\(run.output)")
        for partition in [0, 1] as [Int32] { try write(partition: partition, second: 1) }
        let both = try cluster.wait(for: "aligned", "reading both partitions") { counts($0).reduce(0, +) == 2 }
        #expect(Set(both.tasks.filter { $0.subtask.vertex == 0 }.map(\.worker)).count == 2, "a worker for each partition")
        let slow = try #require(counts(both).firstIndex(of: 1))
        #expect(counts(both) == [1, 1] && slow == 0)

        // The second partition runs ahead, second by second, until its source no longer follows.
        var written = 1
        var isHeld = false
        while !isHeld, written < 60 {
            try write(partition: 1, second: written + 1)
            written += 1
            let goal = UInt64(written)
            isHeld =
                (try? cluster.wait(for: "aligned", timeout: .seconds(2), "reading on") { counts($0).max() ?? 0 >= goal }) == nil
        }
        #expect(isHeld, "the source was \(written) s ahead, and was not held")
        #expect(written >= 5, "it may be 5 s ahead")

        // The first one comes near, and the other one goes on.
        try write(partition: 0, second: written + 10)
        _ = try cluster.wait(for: "aligned", "reading on") { counts($0).reduce(0, +) == UInt64(written) + 2 }
        #expect(try cluster.weir(["cancel", "aligned"]).code == 0)
    }
}
