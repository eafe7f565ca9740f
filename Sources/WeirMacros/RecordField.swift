import SwiftParser
import SwiftSyntax
import SwiftSyntaxMacros

/// A stored property of a record.
struct RecordField {
    /// As written, perhaps in backticks.
    var property: String
    /// Without backticks: the name in the schema.
    var name: String
    var jsonName: String
    /// Whether Swift sets it before an initializer's body does.
    var hasDefault: Bool

    /// The name in quotes, as a document has it.
    var quoted: [UInt8] { Array("\"\(jsonName)\"".utf8) }
}

/// Collects a struct's fields, reporting every property that cannot be one.
struct RecordFieldCollector<Context: MacroExpansionContext> {
    let context: Context
    let structName: String
    var fields: [RecordField] = []
    var isSound = true

    init(_ context: Context, structName: String) {
        self.context = context
        self.structName = structName
    }

    mutating func collect(_ members: MemberBlockItemListSyntax) {
        for member in members {
            if let condition = member.decl.as(IfConfigDeclSyntax.self), Self.hidesProperties(condition) { refuse(.conditional, at: condition) }
            if let variable = member.decl.as(VariableDeclSyntax.self) { collect(variable) }
        }
    }

    private mutating func refuse(_ problem: RecordProblem, at node: some SyntaxProtocol) {
        isSound = false
        context.report(problem, at: node)
    }

    private static func hidesProperties(_ condition: IfConfigDeclSyntax) -> Bool {
        condition.clauses.contains { clause in
            guard case .decls(let members)? = clause.elements else { return false }
            return members.contains { member in
                if let inner = member.decl.as(IfConfigDeclSyntax.self) { return hidesProperties(inner) }
                guard let variable = member.decl.as(VariableDeclSyntax.self), !isStatic(variable) else { return false }
                return variable.bindings.contains { isStored($0) }
            }
        }
    }

    private static func isStatic(_ variable: VariableDeclSyntax) -> Bool {
        variable.modifiers.contains { $0.name.tokenKind == .keyword(.static) || $0.name.tokenKind == .keyword(.class) }
    }

    /// Observers leave a property stored; any other accessor computes it.
    private static func isStored(_ binding: PatternBindingSyntax) -> Bool {
        switch binding.accessorBlock?.accessors {
        case nil: true
        case .getter: false
        case .accessors(let list):
            list.allSatisfy { [.keyword(.willSet), .keyword(.didSet)].contains($0.accessorSpecifier.tokenKind) }
        }
    }

    private mutating func collect(_ variable: VariableDeclSyntax) {
        let attribute = variable.attributes.lazy.compactMap { $0.as(AttributeSyntax.self) }
            .first { ["Field", "Weir.Field", "WeirFormats.Field"].contains($0.attributeName.trimmedDescription) }
        let bindings = Array(variable.bindings)
        let isField = !Self.isStatic(variable) && bindings.contains { Self.isStored($0) }
        guard isField else {
            if let attribute { refuse(.fieldOnNoField(bindings.first?.pattern.trimmedDescription ?? ""), at: attribute) }
            return
        }
        let modifiers = variable.modifiers.map(\.name.tokenKind)
        // In `var a, b: Int` the type stands once, behind the last.
        var type: TypeSyntax?
        var collected: [RecordField] = []
        for binding in bindings.reversed() {
            type = binding.typeAnnotation?.type ?? (binding.initializer == nil ? type : nil)
            guard Self.isStored(binding) else { continue }
            guard let pattern = binding.pattern.as(IdentifierPatternSyntax.self) else {
                refuse(.pattern, at: binding)
                continue
            }
            let property = pattern.identifier.trimmedDescription
            let name = pattern.identifier.identifier?.name ?? property
            if modifiers.contains(.keyword(.lazy)) {
                refuse(.lazy(name), at: binding)
            } else if modifiers.contains(.keyword(.weak)) || modifiers.contains(.keyword(.unowned)) {
                refuse(.reference(name), at: binding)
            } else if variable.bindingSpecifier.tokenKind == .keyword(.let), binding.initializer != nil {
                refuse(.constantWithDefault(name), at: binding)
            } else if type.map({ isUsable($0, for: name) }) ?? true {
                let isOptionalVariable =
                    variable.bindingSpecifier.tokenKind == .keyword(.var)
                    && (type?.is(OptionalTypeSyntax.self) == true || type?.is(ImplicitlyUnwrappedOptionalTypeSyntax.self) == true)
                collected.append(
                    RecordField(
                        property: property, name: name, jsonName: name, hasDefault: binding.initializer != nil || isOptionalVariable))
            }
        }
        if let attribute, !collected.isEmpty, let jsonName = jsonName(attribute) { collected[0].jsonName = jsonName }
        fields += collected.reversed()
        for field in collected where fields.contains(where: { $0.jsonName == field.jsonName && $0.property != field.property }) {
            refuse(.nameTwice(field.jsonName), at: variable)
        }
    }

    private mutating func jsonName(_ attribute: AttributeSyntax) -> String? {
        guard case .argumentList(let arguments)? = attribute.arguments, let argument = arguments.first,
            let name = argument.expression.as(StringLiteralExprSyntax.self)?.representedLiteralValue
        else {
            refuse(.nameNotLiteral, at: attribute)
            return nil
        }
        guard !name.isEmpty, name.utf8.allSatisfy({ $0 >= 0x20 && $0 != UInt8(ascii: "\"") && $0 != UInt8(ascii: "\\") }) else {
            refuse(.nameUnusable(name), at: attribute)
            return nil
        }
        return name
    }

    /// Refuses the types that no field can have, which the compiler would refuse in code that nobody has written.
    private mutating func isUsable(_ type: TypeSyntax, for name: String) -> Bool {
        if let optional = type.as(OptionalTypeSyntax.self) { return isUsable(optional.wrappedType, for: name) }
        if let optional = type.as(ImplicitlyUnwrappedOptionalTypeSyntax.self) { return isUsable(optional.wrappedType, for: name) }
        if let array = type.as(ArrayTypeSyntax.self) { return isUsable(array.element, for: name) }
        if let tuple = type.as(TupleTypeSyntax.self), tuple.elements.count == 1, let element = tuple.elements.first {
            return isUsable(element.type, for: name)
        }
        let arguments = type.as(IdentifierTypeSyntax.self)?.genericArgumentClause?.arguments
        for argument in arguments.map(Array.init) ?? [] {
            if case .type(let inner) = argument.argument, !isUsable(inner, for: name) { return false }
        }
        let problem: RecordProblem
        if type.is(TupleTypeSyntax.self) {
            problem = .unusableType(name, "a tuple")
        } else if type.is(DictionaryTypeSyntax.self) {
            problem = .unusableType(name, "a dictionary")
        } else if type.is(FunctionTypeSyntax.self) || type.is(AttributedTypeSyntax.self) {
            problem = .unusableType(name, "a function")
        } else if type.is(SomeOrAnyTypeSyntax.self) {
            problem = .unusableType(name, "of a type known only at run time")
        } else if type.trimmedDescription == structName || type.trimmedDescription == "Self" {
            problem = .recursive(name, structName)
        } else {
            return true
        }
        refuse(problem, at: type)
        return false
    }
}
