internal import WeirBase
internal import WeirDataflow
internal import WeirGraph

/// Names a way out of an operator beside its rows, and the type of the rows that take it (Flink's `OutputTag`).
///
///     static let rejected = OutputTag<Order>("rejected")
///     …
///     let checked = orders.keyed(by: \.customer).process { try Check($0) }     // context.emit(order, to: rejected)
///     checked.sideOutput(rejected).sink(to: …)
public struct OutputTag<Row: Sendable>: Sendable {
    public let name: String
    /// - Parameter name: One of its own among the tags of an operator.
    public init(_ name: String) { self.name = name }
}

extension DataStream {
    /// The rows that the operator just added passes to a side output. Rows of a tag that nobody asks for are dropped.
    public func sideOutput<Side: Sendable>(_ tag: OutputTag<Side>, file: StaticString = #fileID, line: Int = #line) -> DataStream<Side> {
        let place = Place(file, line)
        guard let node else {
            job.report(".sideOutput() follows a union or a partitioning, which is no operator: call it on the operator's stream", at: place)
            return DataStream<Side>(job: job, inputs: [], node: nil)
        }
        if let known = job.sideOutput(tag.name, of: node) {
            if known.rowType != "\(Side.self)" {
                job.report("the side output \"\(tag.name)\" has rows of type \(known.rowType), not \(Side.self)", at: place)
            }
            return DataStream<Side>(job: job, node: known.id)
        }
        let code = OperatorCode<Side> { _, _, output in SideOutputOperator(tag: tag.name, output: RowOutput(output)) }
        var description = NodeDescription(
            operation: "side-output", name: tag.name, kind: .operator, inputs: [StreamInput(job: job, node: node, partitioner: .forward)],
            place: place, signature: "\(tag.name): \(Side.self)", rowType: "\(Side.self)", code: code)
        description.sideOutput = tag.name
        return DataStream<Side>(job: job, node: job.add(description))
    }
}

/// Stands in the chain behind the operator that fills it, and takes no rows from there but those.
final class SideOutputOperator<Row: Sendable>: AnySideOutput {
    let output: RowOutput<Row>
    init(tag: String, output: RowOutput<Row>) {
        self.output = output
        super.init(tag: tag)
    }
    override func flush() throws { try output.flush() }
}

/// A side output of one row type, as the operator that fills it has it.
@usableFromInline
struct SideOutput<Row: Sendable> {
    private let output: RowOutput<Row>

    /// - Returns: Nil if nobody takes the rows.
    /// - Throws: `JobFailure` where they are taken as another type.
    init?(_ tag: OutputTag<Row>, of context: OperatorContext) throws {
        guard let side = context.sideOutput(tag.name) else { return nil }
        guard let side = side as? SideOutputOperator<Row> else {
            throw JobFailure(
                domain: .configuration, recovery: .fail,
                message: "the side output \"\(tag.name)\" is filled with rows of type \(Row.self), and taken as rows of another type")
        }
        output = side.output
    }

    @usableFromInline
    func append(_ row: Row, timestamp: Int64) throws { try output.append(row, timestamp: timestamp) }
}

/// The side outputs that a function has used so far.
struct SideOutputs {
    private var known: [String: Any] = [:]

    mutating func emit<Row: Sendable>(_ row: Row, to tag: OutputTag<Row>, timestamp: Int64, of context: OperatorContext) throws {
        if let output = known[tag.name] as? SideOutput<Row>? { return try output?.append(row, timestamp: timestamp) ?? () }
        let output = try SideOutput(tag, of: context)
        known[tag.name] = output as Any
        try output?.append(row, timestamp: timestamp)
    }
}
