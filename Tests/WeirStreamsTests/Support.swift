import WeirBase
import WeirDataflow
import WeirStreams

struct Reading: Record, Equatable {
    var id: String
    var time: Int64
    var value: Double

    static var schema: Schema { .record(name: "Reading", fields: [.init("id", .string), .init("time", .int64), .init("value", .double)]) }
    init(_ id: String, _ time: Int64, _ value: Double) {
        self.id = id
        self.time = time
        self.value = value
    }
    func encode(into writer: inout ByteWriter) {
        id.encode(into: &writer)
        time.encode(into: &writer)
        value.encode(into: &writer)
    }
    init(from reader: inout ByteReader) throws(DecodingFailure) {
        self.init(try String(from: &reader), try Int64(from: &reader), try Double(from: &reader))
    }
}

struct Summary: Record, Hashable, Comparable {
    var id: String
    var start: Int64
    var count: Int
    var minimum: Double
    var maximum: Double

    static var schema: Schema {
        .record(
            name: "Summary",
            fields: [
                .init("id", .string), .init("start", .int64), .init("count", .int64), .init("minimum", .double), .init("maximum", .double),
            ])
    }
    init(_ id: String, _ start: Int64, _ count: Int, _ minimum: Double, _ maximum: Double) {
        self.id = id
        self.start = start
        self.count = count
        self.minimum = minimum
        self.maximum = maximum
    }
    func encode(into writer: inout ByteWriter) {
        id.encode(into: &writer)
        start.encode(into: &writer)
        count.encode(into: &writer)
        minimum.encode(into: &writer)
        maximum.encode(into: &writer)
    }
    init(from reader: inout ByteReader) throws(DecodingFailure) {
        self.init(
            try String(from: &reader), try Int64(from: &reader), try Int(from: &reader), try Double(from: &reader),
            try Double(from: &reader))
    }
    static func < (left: Summary, right: Summary) -> Bool { (left.start, left.id) < (right.start, right.id) }
}

/// Defines a job, runs it to its end, and returns what came to the sink that `define` attached.
func run<Row: Sendable>(
    parallelism: Int = 1, _ define: (JobContext, CollectedRows<Row>) throws -> Void
) throws -> [Row] {
    let rows = CollectedRows<Row>()
    let job = JobContext(name: "test", parallelism: parallelism)
    try define(job, rows)
    try LocalExecutor(try job.build(), clock: ManualClock()).run()
    return rows.rows
}
