internal import Glibc
package import WeirWire

/// How points in time are printed: the zone is the reader's, or UTC in tests.
package struct TimeFormat: Sendable {
    package static let local = TimeFormat(utc: false)
    package static let utc = TimeFormat(utc: true)
    private let utc: Bool

    /// "2026-11-23 11:45:06"; "-" for 0.
    package func dateAndTime(_ milliseconds: Int64) -> String {
        guard milliseconds != 0 else { return "-" }
        return format(milliseconds, "%Y-%m-%d %H:%M:%S")
    }

    /// "11:45:06.250"
    package func time(_ milliseconds: Int64) -> String {
        let rest = ((milliseconds % 1_000) + 1_000) % 1_000
        return format(milliseconds, "%H:%M:%S") + "." + String(String(1_000 + rest).dropFirst())
    }

    private func format(_ milliseconds: Int64, _ pattern: String) -> String {
        var seconds = time_t((milliseconds - ((milliseconds % 1_000) + 1_000) % 1_000) / 1_000)
        var parts = tm()
        if utc { gmtime_r(&seconds, &parts) } else { localtime_r(&seconds, &parts) }
        var buffer = [CChar](repeating: 0, count: 64)
        let count = strftime(&buffer, buffer.count, pattern, &parts)
        return String(decoding: buffer[..<count].map { UInt8(bitPattern: $0) }, as: UTF8.self)
    }
}

/// "350 ms", "4.2 s", "3 min 12 s", "2 h 5 min", "4 d 3 h".
package func formatElapsed(milliseconds: Int64) -> String {
    let milliseconds = max(0, milliseconds)
    if milliseconds < 1_000 { return "\(milliseconds) ms" }
    let seconds = milliseconds / 1_000
    if seconds < 60 { return "\(seconds).\(milliseconds % 1_000 / 100) s" }
    if seconds < 3_600 { return "\(seconds / 60) min \(seconds % 60) s" }
    if seconds < 86_400 { return "\(seconds / 3_600) h \(seconds % 3_600 / 60) min" }
    return "\(seconds / 86_400) d \(seconds % 86_400 / 3_600) h"
}

/// "512 B", "1.5 KiB", "64.0 MiB".
package func formatBytes(_ bytes: UInt64) -> String {
    guard bytes >= 1_024 else { return "\(bytes) B" }
    var value = Double(bytes) / 1_024
    var unit = 0
    let units = ["KiB", "MiB", "GiB", "TiB", "PiB"]
    while value >= 1_023.95, unit < units.count - 1 {
        value /= 1_024
        unit += 1
    }
    return formatDecimal(value) + " " + units[unit]
}

/// One digit behind the point.
func formatDecimal(_ value: Double) -> String {
    guard value.isFinite, abs(value) < 1e15 else { return "-" }
    let tenths = Int64((abs(value) * 10).rounded())
    return (value < 0 && tenths > 0 ? "-" : "") + "\(tenths / 10).\(tenths % 10)"
}

extension WireJobState {
    /// Flink's word for it.
    package var word: String {
        switch self {
        case .created: "CREATED"
        case .waitingForResources: "WAITING_FOR_RESOURCES"
        case .deploying: "DEPLOYING"
        case .running: "RUNNING"
        case .restarting: "RESTARTING"
        case .failing: "FAILING"
        case .cancelling: "CANCELLING"
        case .finished: "FINISHED"
        case .failed: "FAILED"
        case .canceled: "CANCELED"
        case .unspecified, .UNRECOGNIZED: "UNKNOWN"
        }
    }

    package var isTerminal: Bool { self == .finished || self == .failed || self == .canceled }
}

extension WireTaskState {
    package var word: String {
        switch self {
        case .created: "CREATED"
        case .scheduled: "SCHEDULED"
        case .deploying: "DEPLOYING"
        case .initializing: "INITIALIZING"
        case .running: "RUNNING"
        case .finished: "FINISHED"
        case .canceling: "CANCELING"
        case .canceled: "CANCELED"
        case .failed: "FAILED"
        case .unspecified, .UNRECOGNIZED: "UNKNOWN"
        }
    }
}

extension WireCheckpointInfo.State {
    package var word: String {
        switch self {
        case .inProgress: "IN_PROGRESS"
        case .completed: "COMPLETED"
        case .aborted: "ABORTED"
        case .unspecified, .UNRECOGNIZED: "UNKNOWN"
        }
    }
}

extension WireFailure.Domain {
    package var word: String {
        switch self {
        case .user: "user"
        case .external: "external"
        case .system: "system"
        case .resource: "resource"
        case .configuration: "configuration"
        case .unspecified, .UNRECOGNIZED: "unknown"
        }
    }
}

extension WireFailure.Recovery {
    package var word: String {
        switch self {
        case .restart: "restart"
        case .fail: "fail"
        case .unspecified, .UNRECOGNIZED: "unknown"
        }
    }
}

/// The failure as JobFailure describes itself: what, where, why.
package func describe(_ failure: WireFailure) -> String {
    var text = failure.domain == .unspecified ? failure.message : "\(failure.domain.word) error: \(failure.message)"
    if failure.hasPlace {
        text += "\n  at: \(failure.place.operatorName) (\(failure.place.subtask + 1)/\(failure.place.parallelism))"
        if !failure.place.taskManager.isEmpty { text += " on \(failure.place.taskManager)" }
    }
    if !failure.cause.isEmpty { text += "\n  cause: \(failure.cause)" }
    return text
}
