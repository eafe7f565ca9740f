internal import WeirBase
internal import WeirDataflow

/// The code of a node of the graph, before the node has a number and a uid.
protocol NodeCode: Sendable {
    /// Whether the rows that come out have a binary form, and so can go to another process.
    var isEncodable: Bool { get }

    /// - Parameter targets: Where rows go by their keys, and how keys are found.
    func makeFactory(nodeID: Int32, uid: String, name: String, targets: [KeyedTarget]) throws -> NodeFactory
}

/// An edge that spreads rows by key.
struct KeyedTarget {
    let node: Int32
    let exchange: any RowExchange
}

/// What an exchange needs of the rows on it, made where the row type is concrete: a ``TypedExchange``.
protocol RowExchange: Sendable {}

struct TypedExchange<Row: Sendable>: RowExchange {
    let operations: RowOperations<Row>
    /// Fills the batch's key hashes; nil for exchanges that do not go by key.
    let hasher: (@Sendable (Batch<Row>) -> Void)?
}

/// The code of an operator or source which puts out rows.
struct OperatorCode<Row: Sendable>: NodeCode {
    typealias Make = @Sendable (_ uid: String, _ name: String, _ output: Collector<Row>) throws -> AnyOperator
    let make: Make

    init(_ make: @escaping Make) { self.make = make }

    var isEncodable: Bool { Row.self is any BinaryCodable.Type }

    func makeFactory(nodeID: Int32, uid: String, name: String, targets: [KeyedTarget]) throws -> NodeFactory {
        let exchanges = targets.compactMap { target in (target.exchange as? TypedExchange<Row>).map { (target.node, $0) } }
        let operations = exchanges.first?.1.operations ?? encodableOperations(Row.self) ?? RowOperations(local: Row.self)
        let factory = TypedNode<Row>(nodeID: nodeID, operations: operations) { [make] output in try make(uid, name, output) }
        for (target, exchange) in exchanges {
            if let hasher = exchange.hasher { factory.setKeyHasher(toNode: target, hasher) }
        }
        return factory
    }
}

/// What comes out of a sink: nothing.
enum NoRow: Sendable {}

struct SinkCode: NodeCode {
    let make: @Sendable (_ uid: String, _ name: String) throws -> AnyOperator
    var isEncodable: Bool { true }
    func makeFactory(nodeID: Int32, uid: String, name: String, targets: [KeyedTarget]) -> NodeFactory {
        TypedNode<NoRow>(nodeID: nodeID, operations: RowOperations(local: NoRow.self)) { [make] _ in try make(uid, name) }
    }
}

/// Operations for an exchange that the program did not ask for: where only the parallelism changes. Not specialised, so that rows cost
/// more to encode there.
private func encodableOperations<Row: Sendable>(_ row: Row.Type) -> RowOperations<Row>? {
    func make<Encodable: BinaryCodable>(_ type: Encodable.Type) -> RowOperations<Row>? { RowOperations(type) as? RowOperations<Row> }
    guard let type = row as? any BinaryCodable.Type else { return nil }
    return make(type)
}
