public import SwiftSyntax
import SwiftSyntaxBuilder
public import SwiftSyntaxMacros

/// Makes a struct conform to `Record`, `JSONRecord` and `FieldCodable`: one extension for each that it does not conform to already.
public struct RecordMacro: ExtensionMacro {
    public static func expansion(
        of node: AttributeSyntax, attachedTo declaration: some DeclGroupSyntax, providingExtensionsOf type: some TypeSyntaxProtocol,
        conformingTo protocols: [TypeSyntax], in context: some MacroExpansionContext
    ) throws -> [ExtensionDeclSyntax] {
        guard let declaration = declaration.as(StructDeclSyntax.self) else {
            context.report(.notAStruct(kind(of: declaration)), at: node)
            return []
        }
        let name = declaration.name.text
        guard declaration.genericParameterClause == nil, !isInsideGeneric(context) else {
            context.report(.generic(name), at: declaration.name)
            return []
        }
        let access = access(of: declaration)
        if access == .private, context.lexicalContext.contains(where: { $0.asProtocol((any DeclGroupSyntax).self) != nil }) {
            context.report(.privateInside(name), at: declaration.name)
            return []
        }
        var collector = RecordFieldCollector(context, structName: name)
        collector.collect(declaration.memberBlock.members)
        guard collector.isSound else { return [] }
        guard !collector.fields.isEmpty else {
            context.report(.noFields(name), at: declaration.name)
            return []
        }
        let code = RecordCode(
            typeName: type.trimmedDescription, access: access == .private ? "" : access.prefix, fields: collector.fields)
        let wanted = protocols.map(\.trimmedDescription)
        var extensions: [DeclSyntax] = []
        if wanted.contains("Record") || wanted.contains("WeirBase.Record") { extensions.append(DeclSyntax(stringLiteral: code.binary)) }
        if wanted.contains("JSONRecord") || wanted.contains("WeirFormats.JSONRecord") {
            extensions.append(DeclSyntax(stringLiteral: code.json))
        }
        if wanted.contains("FieldCodable") || wanted.contains("WeirFormats.FieldCodable") {
            extensions.append(DeclSyntax(stringLiteral: code.fieldwise))
        }
        return extensions.compactMap { $0.as(ExtensionDeclSyntax.self) }
    }

    private enum Access: String {
        case `public`, `package`, `internal`, `fileprivate`, `private`

        /// Written in front of the members that implement a requirement.
        var prefix: String { self == .public || self == .package ? "\(rawValue) " : "" }
    }

    private static func access(of declaration: StructDeclSyntax) -> Access {
        declaration.modifiers.lazy.compactMap { Access(rawValue: $0.name.text) }.first ?? .internal
    }

    private static func kind(of declaration: some DeclGroupSyntax) -> String {
        if declaration.is(ClassDeclSyntax.self) { return "a class" }
        if declaration.is(EnumDeclSyntax.self) { return "an enum" }
        if declaration.is(ActorDeclSyntax.self) { return "an actor" }
        if declaration.is(ProtocolDeclSyntax.self) { return "a protocol" }
        return "something else"
    }

    private static func isInsideGeneric(_ context: some MacroExpansionContext) -> Bool {
        context.lexicalContext.contains { $0.asProtocol((any WithGenericParametersSyntax).self)?.genericParameterClause != nil }
    }
}
