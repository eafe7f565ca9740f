import Synchronization
import Testing
import WeirBase
import WeirDataflow
import WeirStreams

@testable import WeirKafka

/// A whole job on one thread, with the system's time: sources wait for the broker, so it is run until something holds.
final class JobRun {
    let program: JobProgram
    private var executor: LocalExecutor

    init(parallelism: Int, restoring snapshot: LocalSnapshot? = nil, settings: [String: String] = [:], _ define: (JobContext) throws -> Void) throws {
        let job = JobContext(name: "test", parallelism: parallelism)
        try define(job)
        program = try job.build()
        executor = try LocalExecutor(program, clock: TestClock(), restoring: snapshot, settings: settings)
    }

    var isFinished: Bool { executor.isFinished }

    /// Runs until `condition` holds, the job ends, or the time is over.
    func run(seconds: Double = 30, until condition: () -> Bool = { false }) async throws {
        let end = ContinuousClock.now + .seconds(seconds)
        while !executor.isFinished, !condition(), ContinuousClock.now < end {
            if try !executor.step() { try await Task.sleep(for: .milliseconds(1)) }
        }
    }

    /// Runs until something was done `steps` times.
    func step(_ steps: Int) async throws {
        var left = steps
        while left > 0, !executor.isFinished {
            if try executor.step() { left -= 1 } else { try await Task.sleep(for: .milliseconds(1)) }
        }
    }

    func snapshot() throws -> LocalSnapshot { try executor.snapshot() }

    func counter(_ name: String, of operatorName: String) -> Int { executor.counter(name, of: operatorName) }
}
