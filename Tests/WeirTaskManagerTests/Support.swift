import Dispatch
import Foundation
import Synchronization
import WeirBase
import WeirDigest
import WeirTaskManager

/// A directory that goes away with the test.
final class ScratchDirectory: Sendable {
    let path: String

    init() throws {
        path = NSTemporaryDirectory() + "weir-test-" + UUID().uuidString
        try FileManager.default.createDirectory(atPath: path, withIntermediateDirectories: true)
    }

    deinit {
        try? FileManager.default.removeItem(atPath: path)
    }
}

/// Values that other threads give, in order.
final class Inbox<Value: Sendable>: Sendable {
    private let values = Mutex<[Value]>([])
    private let ready = DispatchSemaphore(value: 0)

    func put(_ value: Value) {
        values.withLock { $0.append(value) }
        ready.signal()
    }

    var isEmpty: Bool { values.withLock { $0.isEmpty } }

    /// nil: nothing came in time.
    func take(within seconds: Double = 10) -> Value? {
        guard ready.wait(timeout: .now() + seconds) == .success else { return nil }
        return values.withLock { $0.removeFirst() }
    }
}

func sha256(_ bytes: [UInt8]) -> String {
    var digest = SHA256()
    digest.update(bytes)
    return digest.hexadecimal() ?? ""
}

/// A worker that is a shell script.
func shellLaunch(_ script: String, in directory: ScratchDirectory, environment: [String: String] = [:]) -> WorkerLaunch {
    WorkerLaunch(
        job: "job", worker: WorkerID("w1"), executable: "/bin/sh", arguments: ["-c", script],
        environment: ["PATH": "/usr/bin:/bin"].merging(environment) { $1 }, standardOutputPath: directory.path + "/w1.out",
        standardErrorPath: directory.path + "/w1.err")
}

func text(_ path: String) -> String {
    (try? String(contentsOfFile: path, encoding: .utf8)) ?? ""
}
