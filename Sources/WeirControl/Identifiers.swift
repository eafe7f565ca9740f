package import WeirBase

/// Distinguishes connections of the same peer: a TaskManager that reconnects comes with a larger one, so that a late report about
/// the old connection cannot harm the new one.
package struct ConnectionID: Hashable, Sendable, Comparable, CustomStringConvertible {
    package let rawValue: UInt64
    package init(_ rawValue: UInt64) { self.rawValue = rawValue }
    package static func < (left: ConnectionID, right: ConnectionID) -> Bool { left.rawValue < right.rawValue }
    package var description: String { String(rawValue) }
}

/// Chosen by the shell to find the client that waits for a ``ControlEffect/reply(_:_:)``.
package struct RequestID: Hashable, Sendable, Comparable, CustomStringConvertible {
    package let rawValue: UInt64
    package init(_ rawValue: UInt64) { self.rawValue = rawValue }
    package static func < (left: RequestID, right: RequestID) -> Bool { left.rawValue < right.rawValue }
    package var description: String { String(rawValue) }
}

/// A one-shot timer that the shell keeps. Setting one that runs replaces it; one that fires after it was cancelled does no harm.
package enum TimerID: Hashable, Sendable {
    case heartbeatCheck
    case workerStart(WorkerID)
    case restartDelay(JobID, Epoch)
    case cancellation(JobID, Epoch)
    case exitReport(JobID, Epoch)
    case checkpointTrigger(JobID)
    case checkpointTimeout(JobID, CheckpointID)
}

/// The levels of swift-log by the same raw values; the control plane does not import it.
package enum LogLevel: String, Sendable, Hashable {
    case trace, debug, info, notice, warning, error
}

package struct LogField: Hashable, Sendable {
    /// Dotted: `job.id`, `checkpoint.id`.
    package var key: String
    package var value: String

    package init(_ key: String, _ value: String) {
        self.key = key
        self.value = value
    }
}

/// `host:port` on which a worker accepts data channels.
package struct DataAddress: Hashable, Sendable, CustomStringConvertible {
    package var host: String
    package var port: UInt16

    package init(host: String, port: UInt16) {
        self.host = host
        self.port = port
    }

    package var description: String { "\(host):\(port)" }
}

/// The job's binary in the JobManager's artifact store.
package struct ArtifactReference: Hashable, Sendable {
    /// 64 hex digits.
    package var sha256: String
    package var sizeBytes: Int

    package init(sha256: String, sizeBytes: Int) {
        self.sha256 = sha256
        self.sizeBytes = sizeBytes
    }
}
