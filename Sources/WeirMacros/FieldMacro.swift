public import SwiftSyntax
public import SwiftSyntaxMacros

/// Marks a property for ``RecordMacro``, which reads the name; expands to nothing.
public struct FieldMacro: PeerMacro {
    public static func expansion(
        of node: AttributeSyntax, providingPeersOf declaration: some DeclSyntaxProtocol, in context: some MacroExpansionContext
    ) throws -> [DeclSyntax] {
        guard declaration.is(VariableDeclSyntax.self) else {
            context.report(.fieldOnNoProperty, at: node)
            return []
        }
        return []
    }
}
