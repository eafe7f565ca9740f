import CWeirSystem

/// A system call of the transport failed.
package struct TransportFailure: Error, Sendable, Equatable, CustomStringConvertible {
    /// What was tried, e.g. "listen on 127.0.0.1:6123".
    package var operation: String
    /// The errno, or 0 where the reason is in `detail`.
    package var code: Int32
    package var detail: String

    package init(operation: String, code: Int32, detail: String = "") {
        self.operation = operation
        self.code = code
        self.detail = detail
    }

    package var description: String {
        "cannot \(operation): \(detail.isEmpty ? errorText(code) : detail)"
    }
}

/// The system's words for an errno.
package func errorText(_ code: Int32) -> String {
    withUnsafeTemporaryAllocation(of: CChar.self, capacity: 256) { buffer in
        guard let base = buffer.baseAddress else { return "error \(code)" }
        weir_error_text(code, base, 256)
        return String(cString: base)
    }
}
