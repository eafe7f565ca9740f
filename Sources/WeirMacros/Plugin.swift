import SwiftCompilerPlugin
import SwiftSyntaxMacros

/// The compiler plugin behind `@Record` and `@Field`.
@main
struct WeirMacrosPlugin: CompilerPlugin {
    let providingMacros: [any Macro.Type] = [RecordMacro.self, FieldMacro.self]
}
