public import WeirBase
public import WeirFormats

@Record
public struct Visible: Equatable, Sendable {
    public var x: Int
    public init(x: Int) { self.x = x }
}

@Record
package struct Packaged { package let x: Int }

/// What other modules can do with a public record.
public func schemaAndFormat() -> (Schema, JSONFormat<Visible>) { (Visible.schema, JSONFormat()) }
