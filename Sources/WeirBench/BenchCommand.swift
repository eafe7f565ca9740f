import Weir

/// Every benchmark, in the order of the table. A new one is a file that makes it, and a line here.
let benchmarks: [Benchmark] =
    Benchmark.jsonParse + Benchmark.keyedSum + Benchmark.keyedSumExchange + Benchmark.fileWindows + Benchmark.recovery + Benchmark.start
    + Benchmark.memory + Benchmark.broker + Benchmark.state + Benchmark.checkpointRatio + Benchmark.largeState + Benchmark.kafka

/// The jobs that benchmarks run in processes of their own, by the first word of the command line.
let benchJobs: [String: @Sendable () -> Void] = [
    KeyedSumJob.word: { KeyedSumJob.main() }, FileWindowsJob.word: { FileWindowsJob.main() }, SteadyJob.word: { SteadyJob.main() },
    CheckpointedSumJob.word: { CheckpointedSumJob.main() },
    KafkaWindowsJob.word: { KafkaWindowsJob.main() }, KafkaPassThroughJob.word: { KafkaPassThroughJob.main() },
]

struct BenchCommand: ParsableCommand {
    static let configuration = CommandConfiguration(
        commandName: "WeirBench", abstract: "Measures Weir: a JSON object a line on stdout, a table for people on stderr.")

    @Option(help: ArgumentHelp("Only these, separated by commas; a name ending in a dot means all that begin so.", valueName: "names"))
    var only: String?

    @Flag(help: "Print the names and goals.")
    var list = false

    func validate() throws {
        for wanted in wanted ?? [] where !benchmarks.contains(where: { Self.matches($0, wanted) }) {
            throw ValidationError("there is no benchmark \"\(wanted)\"; there are \(benchmarks.map(\.name).joined(separator: ", "))")
        }
    }

    func run() throws {
        let chosen = benchmarks.filter { benchmark in wanted?.contains { Self.matches(benchmark, $0) } ?? true }
        guard !list else { return print(chosen.map { "\($0.name)\t\($0.goal.words) \($0.unit)" }.joined(separator: "\n")) }
        var report = Report(names: chosen.map(\.name))
        for benchmark in chosen {
            do {
                report.add(benchmark, try benchmark.measure())
            } catch {
                report.add(benchmark, failure: error)
            }
        }
        if report.hasFailures { throw ExitCode(1) }
    }

    private var wanted: [String]? {
        only.map { $0.split(separator: ",").map(String.init) }.flatMap { $0.isEmpty ? nil : $0 }
    }

    private static func matches(_ benchmark: Benchmark, _ wanted: String) -> Bool {
        benchmark.name == wanted || (wanted.hasSuffix(".") && benchmark.name.hasPrefix(wanted))
    }
}
