internal import Glibc

/// Why a log cannot be read or written: a refusal of the operating system, or bytes that are not what was written.
package struct LogFailure: Error, Equatable, CustomStringConvertible {
    /// The file or directory it is about.
    package var path: String
    /// A sentence without the path: "cannot write", "the batch at byte 312 has a wrong checksum".
    package var message: String
    package var cause: String?

    package init(path: String, message: String, cause: String? = nil) {
        self.path = path
        self.message = message
        self.cause = cause
    }

    /// - Parameter operation: A verb: "write", "rename".
    static func system(_ operation: String, _ path: String, _ code: Int32) -> LogFailure {
        var buffer = [CChar](repeating: 0, count: 256)
        let known = strerror_r(code, &buffer, buffer.count) == 0
        let text = known ? String(decoding: buffer.prefix { $0 != 0 }.map { UInt8(bitPattern: $0) }, as: UTF8.self) : "error \(code)"
        return LogFailure(path: path, message: "cannot \(operation)", cause: text)
    }

    static func damaged(_ path: String, _ what: String) -> LogFailure {
        LogFailure(
            path: path, message: "damaged: \(what)",
            cause: "the disk or another program changed it; move the partition's directory away to start without its records")
    }

    package var description: String { "\(path): \(message)" + (cause.map { " (\($0))" } ?? "") }

    /// As the reason for which the broker ends or does not start.
    var brokerFailure: BrokerFailure { BrokerFailure(message + (cause.map { " (\($0))" } ?? ""), path: path) }
}
