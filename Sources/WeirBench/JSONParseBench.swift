import CWeirSystem
import Weir

/// All fields of a line of ``TelemetryLines``.
@Record struct FullReading {
    var containerID: String
    var timestamp: Int64
    var temperature: Double
    var co2: Double
    var humidity: Double
    var battery: Int
    var door: Bool
    var site: String
    var seq: Int
}

/// The three fields that the window job reads.
@Record struct ProjectedReading {
    var containerID: String
    var timestamp: Int64
    var temperature: Double
}

extension Benchmark {
    /// JSON documents to rows, by the format that sources use.
    static var jsonParse: [Benchmark] {
        [
            Benchmark(name: "json.parse.all", unit: "ns/record", goal: .atMost(165)) {
                try parse(FullReading.self, "9 of 9 fields") { $0.seq &+ $0.battery }
            },
            Benchmark(name: "json.parse.projected", unit: "ns/record", goal: .atMost(65)) {
                try parse(ProjectedReading.self, "3 of 9 fields") { Int($0.timestamp) }
            },
        ]
    }

    /// - Parameter use: Something of the row, so that no work is optimised away.
    @inline(__always)
    private static func parse<Row: JSONRecord>(_ type: Row.Type, _ what: String, use: (Row) -> Int) throws -> Samples {
        let lines = 10_000
        let rounds = 50
        let telemetry = TelemetryLines(devices: 10_000, seed: 1)
        var writer = ByteWriter(capacity: lines * 160)
        var ends: [Int] = [0]
        for index in 0..<lines {
            telemetry.write(index, to: &writer)
            ends.append(writer.count)
        }
        let bytes = writer.finish()
        let format = JSONFormat(Row.self)
        var values: [Double] = []
        var total = 0
        for _ in 0..<15 {
            let before = weir_thread_cpu_nanoseconds()
            total &+= try bytes.withUnsafeBytes { bytes in
                try ends.withUnsafeBufferPointer { ends in
                    var sum = 0
                    for _ in 0..<rounds {
                        for index in 0..<lines {
                            let start = ends[index]
                            let line = UnsafeRawBufferPointer(start: bytes.baseAddress! + start, count: ends[index + 1] - start)
                            sum &+= use(try format.decode(line))
                        }
                    }
                    return sum
                }
            }
            values.append(Double(weir_thread_cpu_nanoseconds() - before) / Double(lines * rounds))
        }
        guard total != 0 else { throw benchFailure("the readings were not read", cause: "") }
        return Samples(values, setup: "\(what), \(bytes.count / lines) bytes a reading, one thread, \(lines * rounds) readings a run, CPU time")
    }
}
