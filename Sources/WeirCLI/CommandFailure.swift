/// What ends a command: said on stderr in words, with what the person can do about it.
package struct CommandFailure: Error, Sendable, Equatable, CustomStringConvertible {
    package var message: String
    /// Printed below the message, as it is: e.g. the whole stderr of the job.
    package var detail: String
    package var hint: String

    package init(_ message: String, detail: String = "", hint: String = "") {
        self.message = message
        self.detail = detail
        self.hint = hint
    }

    package var description: String {
        var text = "error: " + message
        if !detail.isEmpty { text += "\n" + indented(detail) }
        if !hint.isEmpty { text += "\nhint: " + hint }
        return text
    }
}

/// Each line behind two blanks.
func indented(_ text: String) -> String {
    var lines = text.split(separator: "\n", omittingEmptySubsequences: false)
    if lines.last?.isEmpty == true { lines.removeLast() }
    return lines.map { $0.isEmpty ? "" : "  " + $0 }.joined(separator: "\n")
}
