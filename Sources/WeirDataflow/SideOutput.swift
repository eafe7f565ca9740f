/// A way out of an operator beside its rows: the chained operator behind it whose rows come from inside it, under a name.
///
/// Always in the chain of the operator that fills it, which finds it by ``OperatorContext/sideOutput(_:)``.
open class AnySideOutput: AnyOperator {
    public let tag: String
    public init(tag: String) { self.tag = tag }
}

extension OperatorContext {
    /// The side output of a name; nil if nobody takes its rows.
    public func sideOutput(_ tag: String) -> AnySideOutput? { sideOutputs[tag] }
}
