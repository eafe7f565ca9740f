internal import Dispatch
internal import Synchronization
public import WeirBase
public import WeirDataflow
public import WeirFormats
public import WeirStreams

/// What a sink subtask needs to know, whatever its rows are.
struct LinesSinkSettings: Sendable {
    var directory: String
    var bufferBytes = ByteCount(bytes: 1 << 20)
    var rollBytes = ByteCount(bytes: 64 << 20)
    var rollInterval = Duration.seconds(60)
}

/// Writes lines to files, each row exactly once: what `.lines(_:format:)` makes.
///
///     .sink(to: .lines("/data/counts", format: .json(WordCount.self)), uid: "counts")
///
/// Each subtask writes files of the directory, which is made if it is not there, one after the other. A file is closed at the first
/// barrier at which it is large (``rollBytes(_:)``) or old (``rollInterval(_:)``) enough, at a savepoint, and at the end of the job. Once that
/// checkpoint is complete it is published as `part-<subtask>-<sequence>-<job>-<epoch>`, and does not change any more; until then its name begins
/// with a dot. Reading every file `part-*` gives each row once, except while a job is restored from a checkpoint older than
/// its last. The names and the recovery are described in `proto-docs/files.md`.
///
/// - Important: A job that starts without a checkpoint removes the part files of the directory: they are the output of a run before. No two
///   jobs may write to one directory at a time. Files may be taken away once they are published and a further checkpoint has completed.
public struct LinesSink<Format: SerializationSchema>: StreamSinkDescriptor {
    public typealias Row = Format.Row

    var settings: LinesSinkSettings
    /// Made where the format is concrete: a method of the generic operator would run unspecialised.
    let write: LinesWrite<Row>
    let prepare: @Sendable () throws -> Void

    /// - Parameter directory: On a file system that every worker of the job reaches under this path.
    @inlinable
    @inline(__always)
    public init(_ directory: String, format: Format) {
        self.init(directory, prepare: { try format.prepare() }) { batch, buffer in
            let rows = batch.rows
            for index in 0..<batch.count {
                try format.encode(rows[index], into: &buffer)
                buffer.writeU8(0x0A)
            }
        }
    }

    @usableFromInline
    init(_ directory: String, prepare: @escaping @Sendable () throws -> Void, write: @escaping LinesWrite<Row>) {
        settings = LinesSinkSettings(directory: directory)
        self.prepare = prepare
        self.write = write
    }

    public var name: String { "lines(\(settings.directory))" }

    /// How much is gathered before it is written; 1 MiB if nothing is said.
    public func bufferBytes(_ bytes: ByteCount) -> Self {
        var copy = self
        copy.settings.bufferBytes = bytes
        return copy
    }

    /// The length from which a file is closed at the next barrier; 64 MiB if nothing is said. A recovery copies at most this much a subtask.
    public func rollBytes(_ bytes: ByteCount) -> Self {
        var copy = self
        copy.settings.rollBytes = bytes
        return copy
    }

    /// The age from which a file is closed at the next barrier; 60 s if nothing is said. With zero every checkpoint publishes its rows.
    public func rollInterval(_ interval: Duration) -> Self {
        var copy = self
        copy.settings.rollInterval = interval
        return copy
    }

    public func validate() throws {
        var problems: [String] = []
        if settings.directory.isEmpty { problems.append("a sink of lines needs a directory") }
        if settings.bufferBytes.bytes < 1 || settings.bufferBytes.bytes > 1 << 30 {
            problems.append("bufferBytes of a sink of lines is \(settings.bufferBytes.bytes); it must be 1 byte to 1 GiB")
        }
        if settings.rollBytes.bytes < 1 { problems.append("rollBytes of a sink of lines is \(settings.rollBytes.bytes); it must be at least 1 byte") }
        if settings.rollInterval < .zero {
            problems.append("rollInterval of a sink of lines is \(settings.rollInterval); it must not be below zero")
        }
        if !problems.isEmpty { throw ConfigurationError(problems) }
    }

    public func makeSink(_ setup: SinkSetup) throws -> AnyOperator { LinesSinkOperator(settings: settings, prepare: prepare, write: write) }
}

extension StreamSinkDescriptor {
    /// Writes lines to the files `part-…` of a directory, each row exactly once. See ``LinesSink``.
    @inlinable
    @inline(__always)
    public static func lines<Format: SerializationSchema>(_ directory: String, format: Format) -> LinesSink<Format>
    where Self == LinesSink<Format> {
        LinesSink(directory, format: format)
    }

    /// Writes text, a row a line. See ``LinesSink``.
    @inlinable
    public static func lines(_ directory: String) -> LinesSink<StringFormat> where Self == LinesSink<StringFormat> {
        LinesSink(directory, format: StringFormat())
    }
}

/// Appends the rows of a batch as lines.
@usableFromInline
typealias LinesWrite<Row: Sendable> = @Sendable (Batch<Row>, _ buffer: inout ByteWriter) throws -> Void

/// One subtask of a sink of lines.
///
/// The format is prepared on a thread of its own, as it may ask a registry; until then the sink takes no rows.
final class LinesSinkOperator<Row: Sendable>: AnyOperator {
    private let files: PartFiles
    private let preparation: LinesPreparation
    private let writeRows: LinesWrite<Row>
    private var buffer: ByteWriter
    private let bufferBytes: Int
    private var context: OperatorContext?

    init(settings: LinesSinkSettings, prepare: @escaping @Sendable () throws -> Void, write: @escaping LinesWrite<Row>) {
        files = PartFiles(settings: settings)
        preparation = LinesPreparation(prepare)
        writeRows = write
        bufferBytes = settings.bufferBytes.bytes
        buffer = ByteWriter(capacity: min(bufferBytes, 64 * 1_024))
    }

    override func open(_ context: OperatorContext) throws { self.context = context }

    override func restore(from state: RestoredState) throws { try files.restore(from: state) }

    override func start() throws {
        guard let context else { return }
        try files.open(context)
        preparation.start(waker: context.waker)
    }

    override func isReady() throws -> Bool { try preparation.isDone() }

    override func process(_ batch: AnyBatch, input: Int) throws {
        let typed = unsafeDowncast(batch, to: Batch<Row>.self)
        try writeRows(typed, &buffer)
        typed.recycle()
        if buffer.count >= bufferBytes { try write() }
    }

    private func write() throws {
        try buffer.withBytes { try files.write($0) }
        buffer.removeAll()
    }

    override func snapshot(into builder: SnapshotBuilder) throws {
        try write()
        try files.snapshot(into: builder)
    }

    override func endOfInput() throws {
        try write()
        files.endOfInput()
    }

    override func checkpointCompleted(_ checkpoint: UInt64) throws { try files.checkpointCompleted(checkpoint) }

    override func close() { files.close() }
}

/// Prepares a format once, away from the slot's thread.
private final class LinesPreparation: Sendable {
    private enum State {
        case running
        case done
        case failed(JobFailure)
    }

    private let prepare: @Sendable () throws -> Void
    private let state = Mutex(State.running)

    init(_ prepare: @escaping @Sendable () throws -> Void) { self.prepare = prepare }

    func start(waker: any Waker) {
        DispatchQueue.global().async { [self] in
            do {
                try prepare()
                state.withLock { $0 = .done }
            } catch {
                let failure =
                    error as? JobFailure
                    ?? JobFailure(domain: .user, recovery: .restart, message: "the format of a sink of lines is not ready", cause: "\(error)")
                state.withLock { $0 = .failed(failure) }
            }
            waker.wake()
        }
    }

    /// - Throws: Why it cannot be.
    func isDone() throws -> Bool {
        switch state.withLock({ $0 }) {
        case .running: false
        case .done: true
        case .failed(let failure): throw failure
        }
    }
}
