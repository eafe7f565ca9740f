/// One figure of `make bench`: its name, what it should come to, and how it is measured.
struct Benchmark: Sendable {
    let name: String
    let unit: String
    let goal: Goal
    let measure: @Sendable () throws -> Samples
}

/// What a figure should come to.
enum Goal: Sendable {
    case atMost(Double)
    case atLeast(Double)

    var words: String {
        switch self {
        case .atMost(let limit): "at most \(formatted(limit))"
        case .atLeast(let limit): "at least \(formatted(limit))"
        }
    }

    func isReached(by value: Double) -> Bool {
        switch self {
        case .atMost(let limit): value <= limit
        case .atLeast(let limit): value >= limit
        }
    }
}

/// What the runs of a benchmark gave.
struct Samples: Sendable {
    /// At least one.
    let values: [Double]
    /// The conditions, for whoever compares figures.
    let setup: String

    init(_ values: [Double], setup: String) {
        precondition(!values.isEmpty, "a benchmark without a run")
        self.values = values.sorted()
        self.setup = setup
    }

    var median: Double {
        let middle = values.count / 2
        return values.count % 2 == 1 ? values[middle] : (values[middle - 1] + values[middle]) / 2
    }

    var minimum: Double { values[0] }
    var maximum: Double { values[values.count - 1] }
}

/// Three significant digits or so: more would be noise.
func formatted(_ value: Double) -> String {
    let digits = value >= 100 ? 0 : value >= 10 ? 1 : value >= 1 ? 2 : 3
    var scale = 1.0
    for _ in 0..<digits { scale *= 10 }
    let rounded = (value * scale).rounded() / scale
    return digits == 0 || rounded == rounded.rounded() ? "\(Int(rounded))" : "\(rounded)"
}
