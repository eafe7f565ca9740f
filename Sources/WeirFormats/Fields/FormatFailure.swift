/// Bytes that are not the record that a format expected, or a row that a format cannot write: what is wrong, where, and in which field.
///
/// One word wide, so that the functions that may throw it cost nothing while they do not.
public struct FormatFailure: Error, Sendable, CustomStringConvertible {
    /// What kind of mistake it is; callers that count or route bad records tell them apart by it.
    public enum Reason: String, Sendable, Hashable, CaseIterable {
        /// The bytes end too early.
        case truncated
        /// Bytes that cannot stand where they stand.
        case malformed
        /// A value of another type than the field's.
        case typeMismatch = "type mismatch"
        /// A number that the field's type cannot hold.
        case outOfRange = "out of range"
        /// Text that is not UTF-8.
        case invalidString = "invalid string"
        /// A required field is not there.
        case missingField = "missing field"
        /// More of something than a limit allows.
        case tooLarge = "too large"
        /// Bytes behind the record.
        case trailingBytes = "trailing bytes"
        /// A record of a schema that is not known.
        case unknownSchema = "unknown schema"
    }

    private final class Details: Sendable {
        let format: String
        let reason: Reason
        let message: String
        let offset: Int?
        let field: String

        init(format: String, reason: Reason, message: String, offset: Int?, field: String) {
            self.format = format
            self.reason = reason
            self.message = message
            self.offset = offset
            self.field = field
        }
    }

    private let details: Details

    /// - Parameters:
    ///   - format: `Avro`, `CSV`.
    ///   - offset: Bytes from the start of the record; nil where a row could not be written.
    ///   - field: The path of the field; empty if it is not known or is the record itself.
    public init(_ format: String, _ reason: Reason, _ message: String, offset: Int? = nil, field: String = "") {
        details = Details(format: format, reason: reason, message: message, offset: offset, field: field)
    }

    public var format: String { details.format }
    public var reason: Reason { details.reason }
    /// What was expected and what was found, for a person.
    public var message: String { details.message }
    /// Bytes from the start of the record; nil where a row could not be written.
    public var offset: Int? { details.offset }
    /// The path of the field, as `readings[3].temperature`; empty for the record itself.
    public var field: String { details.field }

    /// The same failure, with the path of its field.
    func at(field: String) -> FormatFailure { FormatFailure(format, reason, message, offset: offset, field: field) }

    public var description: String {
        let place = offset.map { ", byte \($0)" } ?? ""
        return "\(format)\(place)\(field.isEmpty ? "" : ", field \(field)"): \(message)"
    }
}
