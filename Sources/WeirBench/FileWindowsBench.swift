import Glibc
import Weir

@Record struct DeviceWindow {
    var containerID: String
    var windowStart: Int64
    var count: Int
    var minimum: Double
    var maximum: Double
    var mean: Double
}

/// A file of telemetry → 10 s event-time windows a device → a file.
struct FileWindowsJob: StreamJob {
    static let word = "file-windows"
    @Argument var word: String
    @Option var input: String
    @Option var output: String

    func define(in job: JobContext) throws {
        try job.source(
            .lines(input, format: .json(ProjectedReading.self)),
            watermarks: .boundedOutOfOrderness(.seconds(2), timestamp: \.timestamp), uid: "readings"
        )
        .keyed(by: \.containerID)
        .window(.tumbling(.seconds(10)))
        .aggregate(Statistics(of: \.temperature)) { key, window, s in
            DeviceWindow(containerID: key, windowStart: window.start, count: s.count, minimum: s.minimum, maximum: s.maximum, mean: s.mean)
        }
        .uid("windows")
        .sink(to: .lines(output, format: .json(DeviceWindow.self)), uid: "summaries")
    }
}

extension Benchmark {
    static var fileWindows: [Benchmark] {
        [
            Benchmark(name: "file.windows", unit: "M records/CPU-s", goal: .atLeast(4)) {
                let records = 4_000_000
                let directory = try ScratchDirectory()
                let bytes = try writeTelemetry(records, devices: 10_000, to: directory.path + "/telemetry.json")
                return try throughput(
                    records: records, runs: 5, parallelism: 1,
                    arguments: [
                        FileWindowsJob.word, "--input", directory.path + "/telemetry.json", "--output", directory.path + "/windows",
                    ], setup: "10000 devices, 10 s windows, \(bytes / records) bytes a record (3 of 9 fields read), parallelism 1, JSON lines out")
            }
        ]
    }

    /// - Returns: The bytes of the file.
    private static func writeTelemetry(_ records: Int, devices: Int, to path: String) throws -> Int {
        guard let file = fopen(path, "w") else { throw benchFailure("cannot write \(path)", cause: String(cString: strerror(errno))) }
        defer { fclose(file) }
        let telemetry = TelemetryLines(devices: devices, seed: 1)
        var writer = ByteWriter(capacity: 1 << 20)
        var bytes = 0
        for index in 0..<records {
            telemetry.write(index, to: &writer)
            writer.writeU8(0x0A)
            guard writer.count > 1 << 19 || index == records - 1 else { continue }
            let written = writer.withBytes { fwrite($0.baseAddress, 1, $0.count, file) }
            guard written == writer.count else { throw benchFailure("cannot write \(path)", cause: String(cString: strerror(errno))) }
            bytes += written
            writer.removeAll()
        }
        return bytes
    }
}
