/// A document that is not the JSON, or not the record, that was expected: what is wrong, where, and in which field.
///
/// One word wide, so that the functions that may throw it cost nothing while they do not.
public struct JSONFailure: Error, Sendable, CustomStringConvertible {
    /// What kind of mistake it is; callers that count or route bad records tell them apart by it.
    public enum Reason: String, Sendable, Hashable, CaseIterable {
        /// Not JSON at all: a character that cannot stand where it stands.
        case syntax
        /// The document ends too early.
        case truncated
        /// Valid JSON of another type than the field's.
        case typeMismatch = "type mismatch"
        /// A number that the field's type cannot hold.
        case outOfRange = "out of range"
        /// A string with an invalid escape, a control character or invalid UTF-8.
        case invalidString = "invalid string"
        /// A required field is not there.
        case missingField = "missing field"
        /// Strict mode: a field that the record does not have.
        case unknownField = "unknown field"
        /// Strict mode: a field that comes twice.
        case duplicateField = "duplicate field"
        /// More than ``JSONReader/depthMax`` nested arrays and objects.
        case tooDeep = "too deep"
        /// Something other than whitespace after the value.
        case trailingBytes = "trailing bytes"
    }

    private final class Details: Sendable {
        let reason: Reason
        let message: String
        let offset: Int
        let field: String
        let excerpt: String

        init(reason: Reason, message: String, offset: Int, field: String, excerpt: String) {
            self.reason = reason
            self.message = message
            self.offset = offset
            self.field = field
            self.excerpt = excerpt
        }
    }

    private let details: Details

    package init(reason: Reason, message: String, offset: Int, field: String, excerpt: String) {
        details = Details(reason: reason, message: message, offset: offset, field: field, excerpt: excerpt)
    }

    public var reason: Reason { details.reason }
    /// What was expected and what was found, for a person.
    public var message: String { details.message }
    /// Bytes from the start of the document.
    public var offset: Int { details.offset }
    /// The path of the field, as `readings[3].temperature`; empty at the top of the document.
    public var field: String { details.field }
    /// Some of the document around ``offset``, which `⟦⟧` marks; at most 64 bytes of it.
    public var excerpt: String { details.excerpt }

    public var description: String {
        let place = field.isEmpty ? "" : ", field \(field)"
        return "JSON, byte \(offset)\(place): \(message), near: \(excerpt)"
    }
}

extension JSONReader {
    // Mutating, as other rarely taken turns of the reader: it then goes as one address instead of a copy of all its words,
    // which the optimizer would make on the way of those who never take the turn.

    /// Makes the failure at `place`, finding the field's path by reading the document again: only failures pay for it.
    @usableFromInline @inline(never)
    mutating func failure(_ reason: JSONFailure.Reason, _ message: String, at place: UnsafeRawPointer, field: String? = nil) -> JSONFailure {
        let document = UnsafeRawBufferPointer(start: start, count: end - start)
        let offset = max(0, min(place - start, document.count))
        var path = JSONPath.path(to: offset, in: document)
        if let field { path = path.isEmpty ? field : "\(path).\(field)" }
        return JSONFailure(
            reason: reason, message: message, offset: offset, field: path, excerpt: JSONPath.excerpt(of: document, at: offset))
    }

    /// The failure of a place where `expected` should have been.
    @usableFromInline @inline(never)
    mutating func unexpected(_ expected: StaticString, at place: UnsafeRawPointer) -> JSONFailure {
        guard place < end else { return failure(.truncated, "\(expected) expected, found the end of the document", at: place) }
        let byte = place.load(as: UInt8.self)
        let reason: JSONFailure.Reason = Kind(firstByte: byte) == nil ? .syntax : .typeMismatch
        return failure(reason, "\(expected) expected, found \(JSONPath.describe(byte))", at: place)
    }

    /// The failure of a place, after a value, where a separator should have been.
    @usableFromInline @inline(never)
    mutating func unseparated(_ expected: StaticString, at place: UnsafeRawPointer) -> JSONFailure {
        guard place < end else { return failure(.truncated, "\(expected) expected, found the end of the document", at: place) }
        let byte = place.load(as: UInt8.self)
        if place > start, byte == UInt8(ascii: ".") || byte | 0x20 == UInt8(ascii: "e") {
            let before = place.load(fromByteOffset: -1, as: UInt8.self)
            // Integers are read up to their last digit and no further: what goes on is no integer.
            if before &- 0x30 < 10 { return failure(.typeMismatch, "an integer expected, found a fraction or exponent", at: place) }
        }
        return failure(.syntax, "\(expected) expected, found \(JSONPath.describe(byte))", at: place)
    }
}

/// Where in a document a byte is, in a person's words.
enum JSONPath {
    private enum Level {
        case object(key: String?)
        case array(index: Int)
    }

    /// The path of what begins or lies at `offset`, reading `document` only up to there.
    static func path(to offset: Int, in document: UnsafeRawBufferPointer) -> String {
        var levels: [Level] = []
        var index = 0
        while index < offset {
            switch document[index] {
            case UInt8(ascii: "{"): levels.append(.object(key: nil))
            case UInt8(ascii: "["): levels.append(.array(index: 0))
            case UInt8(ascii: "}"), UInt8(ascii: "]"): _ = levels.popLast()
            case UInt8(ascii: ","):
                switch levels.popLast() {
                case .array(let element): levels.append(.array(index: element + 1))
                case .object: levels.append(.object(key: nil))
                case nil: break
                }
            case UInt8(ascii: "\""):
                let begin = index + 1
                index = begin
                while index < offset, document[index] != UInt8(ascii: "\"") { index += document[index] == UInt8(ascii: "\\") ? 2 : 1 }
                if index < offset, case .object(key: nil)? = levels.last {
                    let key = String(decoding: document[begin..<min(index, begin + 128)], as: UTF8.self)
                    levels[levels.count - 1] = .object(key: key)
                }
            default: break
            }
            index += 1
        }
        var path = ""
        for level in levels {
            switch level {
            case .array(let index): path += "[\(index)]"
            case .object(let key?): path += path.isEmpty ? key : ".\(key)"
            case .object(nil): break
            }
        }
        return path
    }

    static func excerpt(of document: UnsafeRawBufferPointer, at offset: Int) -> String {
        let first = max(0, offset - 24)
        let last = min(document.count, offset + 24)
        func text(_ range: Range<Int>) -> String {
            // A character cut in two at either end becomes U+FFFD, control characters a space: one line for a log.
            let printable = document[range].map { $0 < 0x20 ? 0x20 : $0 }
            return String(decoding: printable, as: UTF8.self)
        }
        let before = (first > 0 ? "…" : "") + text(first..<offset)
        guard offset < document.count else { return before + "⟦⟧" }
        var next = offset + 1
        while next < last, document[next] & 0xC0 == 0x80 { next += 1 }
        return before + "⟦" + text(offset..<next) + "⟧" + text(next..<last) + (last < document.count ? "…" : "")
    }

    static func describe(_ byte: UInt8) -> String {
        switch byte {
        case UInt8(ascii: "{"): "an object"
        case UInt8(ascii: "["): "an array"
        case UInt8(ascii: "\""): "a string"
        case UInt8(ascii: "t"), UInt8(ascii: "f"): "true or false"
        case UInt8(ascii: "n"): "null"
        case UInt8(ascii: "-"), UInt8(ascii: "0")...UInt8(ascii: "9"): "a number"
        case 0xEF: "byte 0xef (a byte order mark?)"
        case 0x21...0x7E: "'\(Character(Unicode.Scalar(byte)))'"
        default: "byte 0x" + (byte < 16 ? "0" : "") + String(byte, radix: 16)
        }
    }
}
