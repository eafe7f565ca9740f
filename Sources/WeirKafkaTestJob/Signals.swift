import Glibc
import Synchronization
import Weir

/// What a test wants to go wrong: files in a directory. Whoever takes a file away does what its name says, so that it is done once.
///
/// - `fail`: user code throws an error, and the process lives on.
/// - `kill-N`: the process ends itself by SIGKILL when one of its transactions passes step N of its commit.
/// - `pause-N`: the thread that has come to step N makes a file `paused`, which holds the number of its process, waits until somebody takes
///   it away, makes a file `resumed`, and goes on.
///
/// The steps are those of ``KafkaSinkStep``.
final class Signals: Sendable {
    private let directory: String
    /// The last checkpoint for which this process has prepared a transaction: step 4 of one without any is no step of a commit.
    private let lastPrepared = Mutex<UInt64>(0)

    /// - Parameter directory: nil for a job to which nothing happens.
    init?(_ directory: String?) {
        guard let directory else { return nil }
        self.directory = directory
    }

    private func take(_ name: String) -> Bool { unlink("\(directory)/\(name)") == 0 }

    private func make(_ name: String, _ text: String) {
        // Under its name only once it is complete.
        guard let file = fopen("\(directory)/.\(name)", "w") else { preconditionFailure("the directory of the signals is gone") }
        fputs(text, file)
        fclose(file)
        rename("\(directory)/.\(name)", "\(directory)/\(name)")
    }

    func failIfTold() throws {
        if take("fail") { throw JobFailure(domain: .user, recovery: .restart, message: "this job was told to fail") }
    }

    func passed(_ step: KafkaSinkStep, _ checkpoint: UInt64) {
        if step == .prepared { lastPrepared.withLock { $0 = checkpoint } }
        if step == .completed, lastPrepared.withLock({ $0 }) != checkpoint { return }
        if take("kill-\(step.rawValue)") { kill(getpid(), SIGKILL) }
        guard take("pause-\(step.rawValue)") else { return }
        make("paused", "\(getpid())")
        while access("\(directory)/paused", F_OK) == 0 { usleep(500) }
        make("resumed", "")
    }
}
