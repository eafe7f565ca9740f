import WeirBase

/// What a schema and a row's type make of each other, worked out once: the tables that ``AvroReader`` or ``AvroWriter`` follows.
///
/// Immutable. The tables are raw memory, so that following them counts no references.
@usableFromInline
package final class AvroPlan: Sendable {
    /// A type as it lies in the bytes.
    @usableFromInline
    enum Kind: UInt8, Sendable {
        // The order counts: up to `double` are numbers, up to `long` integers.
        case int, long, float, double
        case null, boolean, bytes, string, fixed, enumeration, array, record, union
        /// A type that the row cannot take: the failure of a record that has it. `first` is its message.
        case refused
    }

    @usableFromInline
    struct Node: Sendable {
        @usableFromInline var kind: Kind
        /// Whether a value has no bytes at all.
        @usableFromInline var isEmpty = false
        /// A fixed's bytes, an enum's symbols, a union's branches.
        @usableFromInline var count: Int32 = 0
        /// A record's first step, an array's item, an enum's first symbol, a union's first branch, a refusal's message.
        @usableFromInline var first: Int32 = 0
    }

    /// One step through a record's fields.
    @usableFromInline
    struct Step: Sendable {
        /// The index of a row's field, or one of the constants.
        @usableFromInline var field: Int32
        @usableFromInline var node: Int32
        /// Whose default's bytes, if it is one.
        @usableFromInline var constant: Int32 = 0

        @usableFromInline static var end: Int32 { -1 }
        /// Reading: bytes that no field takes. Writing: a constant that no field gives.
        @usableFromInline static var skip: Int32 { -2 }
        /// The default of field 0; of field 1 it is one less, and so on.
        static var firstDefault: Int32 { -3 }
    }

    /// The tables while they are made.
    struct Tables {
        var nodes: [Node] = []
        /// Where in a row each node is, as `readings[].temperature`.
        var places: [String] = []
        var steps: [Step] = []
        var stepPlaces: [String] = []
        var branches: [Int32] = []
        /// nil: a symbol that the reader does not have.
        var symbols: [String?] = []
        /// Enums by symbol, for writing.
        var symbolIndices: [[String: Int]] = []
        var constants: [[UInt8]] = []
        var messages: [String] = []

        mutating func append(_ node: Node, place: String) -> Int32 {
            nodes.append(node)
            places.append(place)
            return Int32(nodes.count - 1)
        }

        mutating func append(_ steps: [(step: Step, place: String)]) -> Int32 {
            let first = Int32(self.steps.count)
            self.steps += steps.map(\.step) + [Step(field: Step.end, node: 0)]
            stepPlaces += steps.map(\.place) + [""]
            return first
        }
    }

    // Guarded by being written in init only.
    @usableFromInline nonisolated(unsafe) let nodes: UnsafePointer<Node>
    @usableFromInline nonisolated(unsafe) let steps: UnsafePointer<Step>
    @usableFromInline nonisolated(unsafe) let branches: UnsafePointer<Int32>
    @usableFromInline nonisolated(unsafe) let root: UnsafePointer<Node>
    let places: [String]
    let stepPlaces: [String]
    let symbols: [String?]
    let symbolIndices: [[String: Int]]
    nonisolated(unsafe) private let constantBytes: UnsafePointer<UInt8>
    private let constantRanges: [Range<Int>]
    let messages: [String]

    init(_ tables: Tables, root: Int32) {
        func copy<Element>(_ elements: [Element]) -> UnsafePointer<Element> {
            let memory = UnsafeMutablePointer<Element>.allocate(capacity: max(1, elements.count))
            elements.withUnsafeBufferPointer { if let base = $0.baseAddress { memory.initialize(from: base, count: elements.count) } }
            return UnsafePointer(memory)
        }
        nodes = copy(tables.nodes)
        steps = copy(tables.steps)
        branches = copy(tables.branches)
        self.root = nodes + Int(root)
        places = tables.places
        stepPlaces = tables.stepPlaces
        symbols = tables.symbols
        symbolIndices = tables.symbolIndices
        constantBytes = copy(tables.constants.flatMap { $0 })
        var ranges: [Range<Int>] = []
        for constant in tables.constants {
            let start = ranges.last?.upperBound ?? 0
            ranges.append(start..<start + constant.count)
        }
        constantRanges = ranges
        messages = tables.messages
    }

    deinit {
        nodes.deallocate()
        steps.deallocate()
        branches.deallocate()
        constantBytes.deallocate()
    }

    /// The bytes of a constant, for as long as the plan lives.
    func constant(_ index: Int32) -> UnsafeRawBufferPointer {
        let range = constantRanges[Int(index)]
        return UnsafeRawBufferPointer(start: constantBytes + range.lowerBound, count: range.count)
    }
}
