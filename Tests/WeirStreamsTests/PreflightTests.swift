import Synchronization
import Testing
import WeirBase
import WeirDataflow
import WeirGraph
import WeirStreams

/// A sink that claims a name and has something to say about the world.
private struct ClaimingSink: StreamSinkDescriptor {
    var claimed: String
    var severity = PreflightFinding.Severity.error
    var findings: [PreflightFinding] = []
    let asked = Mailbox()

    final class Mailbox: Sendable {
        let setups = Mutex<[PreflightSetup]>([])
    }

    typealias Row = Int
    var name: String { "claiming" }
    var claims: [ResourceClaim] { [ResourceClaim(kind: "the prefix", name: claimed, severity: severity, advice: "each sink needs its own")] }
    func preflight(_ setup: PreflightSetup) -> [PreflightFinding] {
        asked.setups.withLock { $0.append(setup) }
        return findings
    }
    func makeSink(_ setup: SinkSetup) throws -> AnyOperator { AnyOperator() }
}

@Suite struct PreflightTests {
    private func program(_ sinks: [ClaimingSink]) throws -> JobProgram {
        let job = JobContext(name: "test", parallelism: 2)
        job.checkpointing.interval = .seconds(5)
        let numbers = try job.source(.collection([1, 2, 3]), uid: "numbers")
        for (index, sink) in sinks.enumerated() { numbers.sink(to: sink, uid: "sink-\(index)") }
        return try job.build()
    }

    @Test func twoOperatorsMayNotShareWhatOneNeedsAlone() throws {
        let error = #expect(throws: GraphError.self) { try program([ClaimingSink(claimed: "a"), ClaimingSink(claimed: "a")]) }
        #expect(error?.problems.count == 1)
        #expect(error?.problems.first?.contains("shares the prefix \"a\" with sink \"claiming\"") == true)
        #expect(error?.problems.first?.hasSuffix("each sink needs its own") == true)
        _ = try program([ClaimingSink(claimed: "a"), ClaimingSink(claimed: "b")])
    }

    @Test func aDoubtfulClaimIsToldAtSubmissionOnly() throws {
        let sink = ClaimingSink(claimed: "a", severity: .warning)
        let findings = try program([sink, sink]).preflight.run(settings: [:])
        #expect(findings.map(\.severity) == [.warning])
    }

    @Test func connectorsAreAskedWithTheOptionsInForceAndErrorsComeFirst() throws {
        let doubtful = ClaimingSink(claimed: "a", findings: [PreflightFinding(.warning, "hm")])
        let broken = ClaimingSink(claimed: "b", findings: [PreflightFinding(.error, "no")])
        let findings = try program([doubtful, broken]).preflight.run(settings: ["kafka.property.a": "1"])
        #expect(findings == [PreflightFinding(.error, "sink \"claiming\": no"), PreflightFinding(.warning, "sink \"claiming\": hm")])
        let setup = try #require(doubtful.asked.setups.withLock { $0.first })
        #expect(setup.uid == "sink-0")
        #expect(setup.parallelism == 2)
        #expect(setup.settings == ["kafka.property.a": "1", "execution.checkpointing.interval": "5 s"])
    }
}
