public import WeirDataflow
internal import WeirGraph

/// A stream of rows: what sources give and transformations take and give.
///
/// A description, not the rows: nothing runs before the job does. Copying it is free, and it may be used several times; each use sees
/// every row.
///
/// Functions given to transformations run on several threads at once, one subtask each, so they are `@Sendable`; what they throw fails the
/// job, as a user error.
public struct DataStream<Row: Sendable> {
    /// The job it belongs to.
    public let job: JobContext
    let inputs: [StreamInput]
    /// The node that ``uid(_:)`` and its like mean; nil behind ``union(_:)`` and the like, which are no operators.
    let node: Int32?

    init(job: JobContext, inputs: [StreamInput], node: Int32?) {
        self.job = job
        self.inputs = inputs
        self.node = node
    }

    init(job: JobContext, node: Int32) {
        self.init(job: job, inputs: [StreamInput(job: job, node: node, partitioner: .forward)], node: node)
    }

    // MARK: - The operator just added

    /// Names the operator for ever: its state is found by this name when the job is restored, also after the program changed.
    @discardableResult
    public func uid(_ uid: String, file: StaticString = #fileID, line: Int = #line) -> DataStream {
        changing("uid", file, line) { $0.uid = uid }
    }

    /// Names the operator for people: in graphs, logs and metrics.
    @discardableResult
    public func name(_ name: String, file: StaticString = #fileID, line: Int = #line) -> DataStream {
        changing("name", file, line) { $0.name = name }
    }

    /// Sets how many subtasks the operator has, in `1...job.maxParallelism`.
    @discardableResult
    public func parallelism(_ parallelism: Int, file: StaticString = #fileID, line: Int = #line) -> DataStream {
        changing("parallelism", file, line) { $0.parallelism = parallelism }
    }

    private func changing(_ what: String, _ file: StaticString, _ line: Int, _ body: (inout NodeDescription) -> Void) -> DataStream {
        if let node {
            job.change(node, body)
        } else {
            job.report(".\(what)() follows a union or a partitioning, which is no operator: put it before", at: Place(file, line))
        }
        return self
    }

    /// Has the graph refused if no watermarks reach the operator.
    @usableFromInline
    func needingEventTime() -> DataStream {
        if let node { job.change(node) { $0.needsEventTime = true } }
        return self
    }

    // MARK: - Rows to rows

    /// Passes on what `transform` makes of each row.
    @inlinable
    @inline(__always)
    public func map<Result: Sendable>(
        _ transform: @escaping @Sendable (Row) throws -> Result, file: StaticString = #fileID, line: Int = #line
    ) -> DataStream<Result> {
        adding("map", file, line) { batch, output in
            let count = batch.count
            let result = output.batch(capacity: count)
            let rows = batch.rows
            let results = result.rows
            // Counted aside: writing a property of the batch for every row costs an exclusivity check each.
            var made = 0
            do {
                while made < count {
                    (results + made).initialize(to: try transform(rows[made]))
                    made &+= 1
                }
            } catch {
                result.count = made
                throw error
            }
            result.count = count
            result.timestamps.update(from: batch.timestamps, count: count)
            batch.recycle()
            try output.emit(result)
        }
    }

    /// Passes on the rows for which `isIncluded` is true.
    @inlinable
    @inline(__always)
    public func filter(
        _ isIncluded: @escaping @Sendable (Row) throws -> Bool, file: StaticString = #fileID, line: Int = #line
    ) -> DataStream<Row> {
        adding("filter", file, line) { batch, output in
            let count = batch.count
            let rows = batch.rows
            let timestamps = batch.timestamps
            var kept = 0
            var index = 0
            do {
                while index < count {
                    if try isIncluded(rows[index]) {
                        if kept != index {
                            (rows + kept).moveInitialize(from: rows + index, count: 1)
                            timestamps[kept] = timestamps[index]
                        }
                        kept &+= 1
                    } else {
                        (rows + index).deinitialize(count: 1)
                    }
                    index &+= 1
                }
            } catch {
                // The batch must not end the lives of rows that were moved or ended already.
                (rows + index).deinitialize(count: count - index)
                batch.count = kept
                throw error
            }
            if kept != count { batch.hasKeyHashes = false }
            batch.count = kept
            try output.emit(batch)
        }
    }

    /// Passes on all that `transform` emits for each row, with the row's event time.
    ///
    ///     lines.flatMap { line, emit in for word in line.split(separator: " ") { try emit(String(word)) } }
    @inlinable
    @inline(__always)
    public func flatMap<Result: Sendable>(
        _ transform: @escaping @Sendable (Row, (Result) throws -> Void) throws -> Void, file: StaticString = #fileID, line: Int = #line
    ) -> DataStream<Result> {
        adding("flatMap", file, line) { batch, output in
            let timestamps = batch.timestamps
            for index in 0..<batch.count {
                let timestamp = timestamps[index]
                try transform(batch.rows[index]) { try output.append($0, timestamp: timestamp) }
            }
            batch.recycle()
        }
    }

    /// Passes on every element of what `transform` makes of each row.
    @inlinable
    @inline(__always)
    public func flatMap<Results: Sequence & SendableMetatype>(
        _ transform: @escaping @Sendable (Row) throws -> Results, file: StaticString = #fileID, line: Int = #line
    ) -> DataStream<Results.Element> where Results.Element: Sendable, Results.Iterator: SendableMetatype {
        flatMap({ row, emit in for result in try transform(row) { try emit(result) } }, file: file, line: line)
    }

    // MARK: - Partitioning

    /// The rows of this stream and of others, in any order.
    public func union(_ others: DataStream...) -> DataStream {
        DataStream(job: job, inputs: others.reduce(into: inputs) { $0 += $1.inputs }, node: nil)
    }

    func partitioned(_ partitioner: Partitioner, _ exchange: (any RowExchange)?) -> DataStream {
        DataStream(
            job: job, inputs: inputs.map { StreamInput(job: $0.job, node: $0.node, partitioner: partitioner, exchange: exchange) }, node: nil)
    }

    // MARK: - Adding operators

    /// Adds an operator that handles a batch at a time. The body owns the batch.
    @usableFromInline
    func adding<Result: Sendable>(
        _ operation: String, _ file: StaticString, _ line: Int,
        body: @escaping @Sendable (Batch<Row>, RowOutput<Result>) throws -> Void
    ) -> DataStream<Result> {
        let code = OperatorCode<Result> { _, _, output in BatchOperator(output: RowOutput(output), body: body) }
        return adding(operation, Place(file, line), code)
    }

    func adding<Result: Sendable>(
        _ operation: String, _ place: Place, _ code: OperatorCode<Result>, needsEventTime: Bool = false
    ) -> DataStream<Result> {
        let node = job.add(
            NodeDescription(
                operation: operation, name: operation, kind: .operator, inputs: inputs, place: place,
                signature: "\(Row.self) -> \(Result.self)", rowType: "\(Result.self)", code: code, needsEventTime: needsEventTime))
        return DataStream<Result>(job: job, node: node)
    }
}
