import SwiftProtobuf
import Testing
import WeirBase

@testable import WeirWire

@Suite struct MessageTests {
    @Test func kindsKeepTheirNumbers() {
        let pinned: [(WireMessageKind, Int)] = [
            (.handshake, 1), (.registerTaskManager, 16), (.heartbeat, 17), (.workerExited, 18), (.fetchArtifact, 19), (.startWorker, 32),
            (.stopWorker, 33), (.readLog, 34), (.registerWorker, 48), (.taskStateChanged, 49), (.acknowledgeCheckpoint, 50),
            (.declineCheckpoint, 51), (.taskMetrics, 52), (.deploy, 64), (.cancelTasks, 65), (.triggerCheckpoint, 66),
            (.notifyCheckpointComplete, 67), (.notifyCheckpointAborted, 68), (.beginUpload, 80), (.uploadChunk, 81), (.submitJob, 82),
            (.listJobs, 83), (.getJob, 84), (.cancelJob, 85), (.fetchLogs, 86), (.getCluster, 87),
        ]
        for (kind, number) in pinned { #expect(kind.rawValue == number) }
        #expect(WireMessageKind.allCases.allSatisfy { $0.rawValue <= Int(UInt16.max) })
    }

    @Test func unknownKindsSurviveARoundTrip() {
        let frame = Frame(type: .request, kind: 60_000, correlation: 1, payload: [])
        #expect(frame.messageKind == .UNRECOGNIZED(60_000))
    }

    @Test func failuresTravelWhole() throws {
        let failure = JobFailure(
            domain: .external, recovery: .fail, message: "cannot write checkpoint 42",
            place: .init(operatorName: "window-sum", subtask: 2, parallelism: 8, taskManager: "tm-2"), cause: "No space left on device")
        let bytes: [UInt8] = try failure.wire.serializedBytes()
        #expect(JobFailure(try WireFailure(serializedBytes: bytes)) == failure)
        let bare = JobFailure(domain: .user, recovery: .restart, message: "m")
        #expect(JobFailure(bare.wire) == bare)
    }

    @Test func aFailureOfALaterVersionIsASystemFailure() {
        var wire = WireFailure()
        wire.domain = .UNRECOGNIZED(99)
        wire.recovery = .UNRECOGNIZED(99)
        #expect(JobFailure(wire).domain == .system)
        #expect(JobFailure(wire).recovery == .restart)
    }

    @Test func fieldsThatAreNotKnownAreKeptNotRefused() throws {
        // Field 1000, a varint: what a later version may add.
        var bytes: [UInt8] = try WireCancelJob.with { $0.job = "a" }.serializedBytes()
        bytes += [0xC0, 0x3E, 0x01]
        #expect(try WireCancelJob(serializedBytes: bytes).job == "a")
    }
}
