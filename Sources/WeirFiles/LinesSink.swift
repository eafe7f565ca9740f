public import WeirBase
public import WeirDataflow
public import WeirFormats
public import WeirStreams

/// What a sink subtask needs to know, whatever its rows are.
struct LinesSinkSettings: Sendable {
    var directory: String
    var bufferBytes = ByteCount(bytes: 1 << 20)
}

/// Writes lines to files, each row exactly once: what `.lines(_:format:)` makes.
///
///     .sink(to: .lines("/data/counts", format: .json(WordCount.self)), uid: "counts")
///
/// Each subtask writes `part-<subtask>` in the directory, which is made if it is not there. At the barrier of a checkpoint everything is
/// written through to the disk, and the files' lengths go into the checkpoint; a restore cuts the files back to them, and removes part files
/// that the checkpoint does not know. Readers that must not see rows of checkpoints to come read when the job has ended.
///
/// - Important: A job that starts without a checkpoint empties the part files of the directory: they are the output of a run before.
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

    public func validate() throws {
        var problems: [String] = []
        if settings.directory.isEmpty { problems.append("a sink of lines needs a directory") }
        if settings.bufferBytes.bytes < 1 || settings.bufferBytes.bytes > 1 << 30 {
            problems.append("bufferBytes of a sink of lines is \(settings.bufferBytes.bytes); it must be 1 byte to 1 GiB")
        }
        if !problems.isEmpty { throw ConfigurationError(problems) }
    }

    public func makeSink(_ setup: SinkSetup) throws -> AnyOperator { LinesSinkOperator(settings: settings, prepare: prepare, write: write) }
}

extension StreamSinkDescriptor {
    /// Writes lines to the files `part-<subtask>` of a directory, each row exactly once. See ``LinesSink``.
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
final class LinesSinkOperator<Row: Sendable>: AnyOperator {
    private let file: PartFile
    private let prepare: @Sendable () throws -> Void
    private let writeRows: LinesWrite<Row>
    private var buffer: ByteWriter
    private let bufferBytes: Int
    private var context: OperatorContext?

    init(settings: LinesSinkSettings, prepare: @escaping @Sendable () throws -> Void, write: @escaping LinesWrite<Row>) {
        file = PartFile(directory: settings.directory)
        self.prepare = prepare
        writeRows = write
        bufferBytes = settings.bufferBytes.bytes
        buffer = ByteWriter(capacity: min(bufferBytes, 64 * 1_024))
    }

    override func open(_ context: OperatorContext) throws { self.context = context }

    override func restore(from state: RestoredState) throws { try file.restore(from: state) }

    override func start() throws {
        guard let context else { return }
        try prepare()
        try file.open(context)
    }

    override func process(_ batch: AnyBatch, input: Int) throws {
        let typed = unsafeDowncast(batch, to: Batch<Row>.self)
        try writeRows(typed, &buffer)
        typed.recycle()
        if buffer.count >= bufferBytes { try write() }
    }

    private func write() throws {
        try buffer.withBytes { try file.write($0) }
        buffer.removeAll()
    }

    override func snapshot(into builder: SnapshotBuilder) throws {
        try write()
        try file.snapshot(into: builder)
    }

    override func endOfInput() throws {
        try write()
        try file.synchronize()
    }

    override func close() { file.close() }
}
