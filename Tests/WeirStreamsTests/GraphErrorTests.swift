import Testing
import WeirBase
import WeirDataflow
import WeirGraph
import WeirStreams

@Suite struct GraphErrorTests {
    private func problems(_ define: (JobContext) throws -> Void) throws -> [String] {
        let job = JobContext(name: "test", parallelism: 2)
        try define(job)
        do {
            _ = try job.build()
            return []
        } catch let error as GraphError {
            return error.problems
        }
    }

    @Test func everyProblemIsToldAtOnceWithItsLine() throws {
        var line = 0
        let found = try problems { job in
            let numbers = try job.source(.collection([1, 2, 3]), uid: "numbers")
            numbers.map { $0 }.uid("twice").discard()
            line = #line + 1
            numbers.map { $0 }.uid("twice").parallelism(1_000).discard()
            numbers.keyed(by: { $0 }).window(.tumbling(.seconds(1))).aggregate(Count()).discard()
            numbers.union(numbers).uid("none").discard()
        }
        #expect(found.count == 4)
        #expect(found.contains { $0.contains("GraphErrorTests.swift:\(line):") && $0.contains("uid \"twice\"") && $0.contains(":\(line - 2)") })
        #expect(found.contains { $0.contains("parallelism 1000") && $0.contains("1...128") })
        #expect(found.contains { $0.contains("event time") && $0.contains("source \"collection\"") })
        #expect(found.contains { $0.contains(".uid() follows a union") })
    }

    @Test func aJobWithoutASinkAndAnEmptyJobAreRefused() throws {
        #expect(try problems { try $0.source(.collection([1])).map { $0 }.name("lonely") }.first?.contains("no sink") == true)
        #expect(try problems { _ in }.first?.contains("no source") == true)
    }

    @Test func rowsWithoutABinaryFormCannotBeRedistributed() throws {
        let found = try problems { try $0.source(.collection([1])).map { ($0, $0) }.parallelism(2).map { $0.0 }.parallelism(1).discard() }
        #expect(found.count == 1)
        #expect(found.first?.contains("@Record") == true)
    }

    @Test func descriptorsAreValidatedWithTheRest() throws {
        let found = try problems { job in
            try job.source(GeneratedSource(count: 1, rate: -1) { $0 }).discard()
            try job.source(.collection([1])).parallelism(100).discard()
        }
        #expect(found.contains { $0.contains("rate -1.0") })
        #expect(found.contains { $0.contains("can use 64 at most") })
    }

    @Test func streamsOfAnotherJobAreRefused() throws {
        let other = JobContext(name: "other")
        let foreign = try other.source(.collection([1]))
        #expect(try problems { try $0.source(.collection([1])).union(foreign).discard() }.first?.contains("\"other\"") == true)
    }

    @Test func defaultUIDsFollowFromThePositionInTheGraph() throws {
        func uids(_ withOther: Bool) throws -> [String] {
            let job = JobContext(name: "test")
            if withOther { try job.source(.collection(["x"]), uid: "other").discard() }
            try job.source(.collection([1]), uid: "numbers").map { $0 }.filter { _ in true }.discard()
            return try job.build().graph.nodes.map(\.uid)
        }
        let alone = try uids(false)
        #expect(try uids(true).suffix(4) == alone[...])
        #expect(Set(alone).count == 4)
        #expect(try uids(false) == alone)
    }

    @Test func settingsUseTheNamesOfTheConfiguration() {
        let job = JobContext(name: "test")
        job.checkpointing.interval = .seconds(1)
        job.restartStrategy = .fixedDelay(attempts: 3, delay: .milliseconds(500))
        #expect(
            job.settings == [
                "execution.checkpointing.interval": "1 s", "restart-strategy.type": "fixed-delay",
                "restart-strategy.fixed-delay.attempts": "3", "restart-strategy.fixed-delay.delay": "500 ms",
            ])
    }
}
