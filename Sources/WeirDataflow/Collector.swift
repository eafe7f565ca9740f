/// Where an operator puts its rows, whatever their type.
open class AnyCollector {
    public init() {}

    /// Passes on rows that are still buffered. The task calls it before a control element and when it is idle.
    open func flush() throws {}

    /// Passes on rows whose type is known to be the collector's.
    func emitAny(_ batch: AnyBatch) throws { preconditionFailure("AnyCollector is abstract") }
}

/// Where an operator puts rows of one type: the next operator of its chain, an edge to other tasks, several of these, or nothing.
open class Collector<Row: Sendable>: AnyCollector {
    /// Passes rows on. The collector owns the batch from here on; an empty one is recycled.
    ///
    /// - Throws: What a chained operator throws, as a ``JobFailure`` that names it.
    open func emit(_ batch: Batch<Row>) throws { batch.recycle() }

    override final func emitAny(_ batch: AnyBatch) throws { try emit(unsafeDowncast(batch, to: Batch<Row>.self)) }
}
