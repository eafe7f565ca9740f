internal import Glibc
internal import WeirBase

/// How often storage asks again after a failure that may pass: a server that restarts, a network that is cut for a moment.
///
/// Bounded, so that a checkpoint fails in time rather than hangs. A full disk is not asked again: it does not empty by itself within seconds.
package struct StorageRetry: Sendable {
    /// Calls in all; at least 1.
    package var attempts: Int
    /// Before the second call; doubles from one to the next.
    package var firstPause: Duration
    /// The longest pause.
    package var pauseMax: Duration
    private let pause: @Sendable (Duration) -> Void

    package init(
        attempts: Int = 6, firstPause: Duration = .milliseconds(50), pauseMax: Duration = .seconds(1), pause: @escaping @Sendable (Duration) -> Void
    ) {
        precondition(attempts >= 1, "storage is asked at least once")
        self.attempts = attempts
        self.firstPause = firstPause
        self.pauseMax = pauseMax
        self.pause = pause
    }

    /// Six calls within about 1.5 s. Blocks the thread in between.
    package static let standard = StorageRetry { usleep(UInt32(clamping: $0.inNanoseconds / 1_000)) }
    package static let none = StorageRetry(attempts: 1) { _ in }

    /// - Parameter body: Must be repeatable: what it did by half, it does again as a whole.
    package func run<Value>(_ body: () throws(FileFailure) -> Value) throws(FileFailure) -> Value {
        var wait = firstPause
        for _ in 1..<Swift.max(attempts, 1) {
            do throws(FileFailure) { return try body() } catch {
                guard error.isTransient else { throw error }
            }
            pause(wait)
            wait = Swift.min(wait * 2, pauseMax)
        }
        return try body()
    }
}

extension FileFailure {
    /// Whether the same call may succeed a moment later. A network file system says EIO, too, when its server did not answer in time.
    package var isTransient: Bool {
        [
            EIO, EINTR, EAGAIN, EBUSY, ETIMEDOUT, ESTALE, ENETDOWN, ENETUNREACH, ENETRESET, EHOSTDOWN, EHOSTUNREACH, ECONNRESET, ECONNABORTED,
            ECONNREFUSED,
        ].contains(code)
    }
}
