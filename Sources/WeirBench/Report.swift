import Glibc
import Weir
import WeirFormats

/// One line of the output, for programs.
@Record struct ResultLine {
    var name: String
    /// The median of the runs.
    var value: Double
    var unit: String
    var min: Double
    var max: Double
    var runs: Int
    var setup: String
}

/// Writes each result as it comes: JSON to stdout, a row of the table to stderr.
struct Report {
    private let nameWidth: Int
    private(set) var hasFailures = false

    init(names: [String]) {
        nameWidth = (names.map(\.utf8.count).max() ?? 0) + 2
        write(row("name", "median", "min .. max", "unit", "goal"), to: 2)
    }

    mutating func add(_ benchmark: Benchmark, _ samples: Samples) {
        let line = ResultLine(
            name: benchmark.name, value: samples.median, unit: benchmark.unit, min: samples.minimum, max: samples.maximum,
            runs: samples.values.count, setup: samples.setup)
        var writer = ByteWriter(capacity: 256)
        JSONFormat(ResultLine.self).encode(line, into: &writer)
        write(String(decoding: writer.finish(), as: UTF8.self), to: 1)
        let verdict = benchmark.goal.isReached(by: samples.median) ? "" : "  MISSED"
        write(
            row(
                benchmark.name, formatted(samples.median), "\(formatted(samples.minimum)) .. \(formatted(samples.maximum))", benchmark.unit,
                benchmark.goal.words + verdict), to: 2)
    }

    mutating func add(_ benchmark: Benchmark, failure: any Error) {
        hasFailures = true
        write("\(benchmark.name) failed: \(failure)", to: 2)
    }

    private func row(_ name: String, _ median: String, _ range: String, _ unit: String, _ goal: String) -> String {
        padded(name, nameWidth) + padded(median, 9) + padded(range, 19) + padded(unit, 18) + goal
    }

    private func padded(_ text: String, _ width: Int) -> String { text + String(repeating: " ", count: max(1, width - text.utf8.count)) }

    /// Unbuffered, so that the two streams keep their order where they come together.
    private func write(_ line: String, to descriptor: Int32) {
        let bytes = Array((line + "\n").utf8)
        var done = 0
        while done < bytes.count {
            let count = bytes.withUnsafeBytes { Glibc.write(descriptor, $0.baseAddress! + done, bytes.count - done) }
            if count < 0, errno == EINTR { continue }
            guard count > 0 else { return }
            done += count
        }
    }
}
