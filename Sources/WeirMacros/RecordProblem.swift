import SwiftDiagnostics
import SwiftSyntax
import SwiftSyntaxMacros

/// What `@Record` cannot make a record of, each with what to do about it.
enum RecordProblem: DiagnosticMessage {
    case notAStruct(String)
    case generic(String)
    case privateInside(String)
    case noFields(String)
    case constantWithDefault(String)
    case lazy(String)
    case reference(String)
    case pattern
    case conditional
    case unusableType(String, String)
    case recursive(String, String)
    case fieldOnNoProperty
    case fieldOnNoField(String)
    case nameNotLiteral
    case nameUnusable(String)
    case nameTwice(String)

    var message: String {
        switch self {
        case .notAStruct(let kind):
            "@Record needs a struct, and this is \(kind): a record is a plain value with stored properties"
        case .generic(let name):
            "@Record cannot be generic: '\(name)' has no one schema; write a struct for each type that you need"
        case .privateInside(let name):
            "@Record cannot reach '\(name)', which is private inside another type; make it fileprivate or internal"
        case .noFields(let name):
            "@Record needs at least one stored property, and '\(name)' has none"
        case .constantWithDefault(let name):
            "'\(name)' is a constant with a value, which decoding cannot set; make it 'var', or 'static let' if it is no field"
        case .lazy(let name):
            "'\(name)' is lazy, and so no field; make it a computed property"
        case .reference(let name):
            "'\(name)' is weak or unowned, and so no field: records hold values"
        case .pattern:
            "@Record needs one name a property, not a tuple of names"
        case .conditional:
            "@Record does not see properties inside #if; put the whole struct inside it"
        case .unusableType(let name, let kind):
            "'\(name)' is \(kind), which is no field; use a nested @Record struct, a number, Bool, String, an optional or an array"
        case .recursive(let name, let type):
            "'\(name)' makes '\(type)' contain itself, and so its schema endless; refer to other records by a key"
        case .fieldOnNoProperty:
            "@Field names a stored property of a @Record struct"
        case .fieldOnNoField(let name):
            "'\(name)' is no stored property of an instance, and so no field for @Field to name"
        case .nameNotLiteral:
            "@Field needs a string literal without interpolation, since the parser is made of it"
        case .nameUnusable(let name):
            "'\(name)' cannot name a field: it must not be empty, nor hold quotes, backslashes or control characters"
        case .nameTwice(let name):
            "two fields are named '\(name)' in JSON; name one otherwise with @Field"
        }
    }

    var diagnosticID: MessageID {
        let text = "\(self)"
        return MessageID(domain: "WeirMacros", id: String(text.prefix { $0 != "(" }))
    }

    var severity: DiagnosticSeverity { .error }
}

extension MacroExpansionContext {
    func report(_ problem: RecordProblem, at node: some SyntaxProtocol) {
        diagnose(Diagnostic(node: Syntax(node), message: problem))
    }
}
