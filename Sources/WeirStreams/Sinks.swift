internal import Synchronization
public import WeirDataflow
internal import WeirBase
internal import WeirGraph

extension DataStream {
    /// Ends the stream in a sink.
    ///
    ///     summaries.sink(to: .kafka(bootstrap, topic: "summaries", format: .json(Summary.self)), uid: "summaries")
    ///
    /// - Parameters:
    ///   - descriptor: Where rows go.
    ///   - uid: Names the sink for ever: its state is found by it when the job is restored.
    @discardableResult
    public func sink<Sink: StreamSinkDescriptor>(
        to descriptor: Sink, uid: String? = nil, file: StaticString = #fileID, line: Int = #line
    ) -> StreamSink where Sink.Row == Row {
        let code = SinkCode { uid, name in try descriptor.makeSink(SinkSetup(uid: uid, name: name)) }
        let node = job.add(
            NodeDescription(
                operation: "sink", uid: uid, name: descriptor.name, kind: .sink, inputs: inputs, place: Place(file, line),
                signature: "\(Row.self) ->", rowType: "", code: code, parallelismMax: descriptor.parallelismMax,
                validate: { try descriptor.validate() }, claims: { descriptor.claims }, preflight: { descriptor.preflight($0) }))
        return StreamSink(job: job, node: node)
    }

    /// Drops every row: for measurements.
    @discardableResult
    public func discard(file: StaticString = #fileID, line: Int = #line) -> StreamSink {
        endingSink("discard", file, line) { _ in }
    }

    /// Runs a function on every row.
    @discardableResult
    @inlinable
    @inline(__always)
    public func forEach(
        file: StaticString = #fileID, line: Int = #line, _ body: @escaping @Sendable (Row) throws -> Void
    ) -> StreamSink {
        endingSink("forEach", file, line) { batch in
            for index in 0..<batch.count { try body(batch.rows[index]) }
        }
    }

    /// Writes every row to the standard output of the worker that has it.
    @discardableResult
    public func print(file: StaticString = #fileID, line: Int = #line) -> StreamSink {
        endingSink("print", file, line) { batch in
            var text = ""
            for index in 0..<batch.count { text += "\(batch.rows[index])\n" }
            Swift.print(text, terminator: "")
        }
    }

    /// Collects rows in memory of this process: for tests.
    @discardableResult
    public func collect(into rows: CollectedRows<Row>, file: StaticString = #fileID, line: Int = #line) -> StreamSink {
        endingSink("collect", file, line) { rows.append(UnsafeBufferPointer(start: $0.rows, count: $0.count), $0.timestamps) }
    }

    @usableFromInline
    func endingSink(
        _ operation: String, _ file: StaticString, _ line: Int, body: @escaping @Sendable (Batch<Row>) throws -> Void
    ) -> StreamSink {
        let node = job.add(
            NodeDescription(
                operation: operation, name: operation, kind: .sink, inputs: inputs, place: Place(file, line), signature: "\(Row.self) ->",
                rowType: "", code: SinkCode { _, _ in BatchSink(body: body) }))
        return StreamSink(job: job, node: node)
    }
}

/// The end of a stream.
public struct StreamSink {
    let job: JobContext
    let node: Int32

    /// Names the sink for ever: its state is found by this name when the job is restored.
    @discardableResult
    public func uid(_ uid: String) -> StreamSink {
        job.change(node) { $0.uid = uid }
        return self
    }

    /// Names the sink for people: in graphs, logs and metrics.
    @discardableResult
    public func name(_ name: String) -> StreamSink {
        job.change(node) { $0.name = name }
        return self
    }

    /// Sets how many subtasks the sink has, in `1...job.maxParallelism`.
    @discardableResult
    public func parallelism(_ parallelism: Int) -> StreamSink {
        job.change(node) { $0.parallelism = parallelism }
        return self
    }
}

/// Rows that came to ``DataStream/collect(into:file:line:)``, from all its subtasks in this process.
public final class CollectedRows<Row: Sendable>: Sendable {
    private let storage = Mutex<[(row: Row, timestamp: Int64)]>([])

    public init() {}

    /// The rows in the order in which they came.
    public var rows: [Row] { storage.withLock { $0.map(\.row) } }
    /// The rows with their event times.
    public var timedRows: [(row: Row, timestamp: Int64)] { storage.withLock { $0 } }

    func append(_ rows: UnsafeBufferPointer<Row>, _ timestamps: UnsafePointer<Int64>) {
        storage.withLock { storage in
            for index in rows.indices { storage.append((rows[index], timestamps[index])) }
        }
    }
}
