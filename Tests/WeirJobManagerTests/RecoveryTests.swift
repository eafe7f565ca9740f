import Foundation
import Logging
import Synchronization
import Testing
import WeirBase
import WeirConfiguration
import WeirControl
import WeirJobManager
import WeirTestKit
import WeirTransport
import WeirWire

/// A JobManager that is asked before it has taken up the jobs of the one before it.
@Suite struct RecoveryTests {
    /// The storage thread and the loop, worked off by hand.
    private final class Environment: JobManagerEnvironment {
        private let work = Mutex<[@Sendable () -> Void]>([])
        let clock: any WeirClock = SystemClock()
        func setTimer(_ timer: WeirControl.TimerID, after: Duration, _ body: @escaping @Sendable () -> Void) {}
        func cancelTimer(_ timer: WeirControl.TimerID) {}
        func store<Value: Sendable>(_ body: @escaping @Sendable () -> Value, then: @escaping @Sendable (Value) -> Void) {
            work.withLock { $0.append { then(body()) } }
        }
        func randomID() -> JobID { JobID(high: 1, low: 2) }
        func run() {
            while let next = work.withLock({ $0.isEmpty ? nil : $0.removeFirst() }) { next() }
        }
    }

    private final class Client: Peer {
        var label: String { "client" }
        func send(_ kind: WireMessageKind, _ payload: [UInt8]) {}
        func request(_ kind: WireMessageKind, _ payload: [UInt8], completion: @escaping @Sendable (Result<[UInt8], RequestFailure>) -> Void) {}
        func close(reason: String) {}
    }

    @Test func clientsWaitForTheJobsOfTheJobManagerBefore() throws {
        let directory = FileManager.default.temporaryDirectory.appendingPathComponent("weir-recovery-\(UUID().uuidString)").path
        defer { try? FileManager.default.removeItem(atPath: directory) }
        let environment = Environment()
        let store = try JobStore(directory: directory, checkpoints: nil)
        let core = try JobManagerCore(
            configuration: Configuration(keys: ConfigurationKeys.all), jobStore: store, environment: environment, seed: 1,
            logger: Logger(label: "test"))
        core.start()
        core.recover()
        let answers = Mutex<[Bool]>([])
        for kind in [WireMessageKind.listJobs, WireMessageKind.getCluster] {
            core.receive(kind, [], from: Client(), Responder { result in answers.withLock { $0.append((try? result.get()) != nil) } })
        }
        #expect(answers.withLock { $0 } == [], "answered before the jobs were there")
        environment.run()
        #expect(answers.withLock { $0 } == [true, true])
        core.receive(.listJobs, [], from: Client(), Responder { result in answers.withLock { $0.append((try? result.get()) != nil) } })
        #expect(answers.withLock { $0.count } == 3)
    }
}
