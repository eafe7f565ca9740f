/// The broker cannot start or go on: what failed, where, and why.
package struct BrokerFailure: Error, Sendable, Equatable, CustomStringConvertible {
    package var message: String
    /// The file or directory concerned, if there is one.
    package var path: String?

    package init(_ message: String, path: String? = nil) {
        self.message = message
        self.path = path
    }

    package var description: String { path.map { "\(message): \($0)" } ?? message }
}
