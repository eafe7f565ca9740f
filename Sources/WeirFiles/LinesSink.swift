public import WeirBase
public import WeirDataflow
public import WeirFormats
public import WeirStreams

/// What a sink subtask needs to know, whatever its rows are.
@usableFromInline
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

    @usableFromInline var settings: LinesSinkSettings
    @usableFromInline let format: Format

    /// - Parameter directory: On a file system that every worker of the job reaches under this path.
    public init(_ directory: String, format: Format) {
        settings = LinesSinkSettings(directory: directory)
        self.format = format
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

    @inlinable
    public func makeSink(_ setup: SinkSetup) throws -> AnyOperator { LinesSinkOperator(settings: settings, format: format) }
}

extension StreamSinkDescriptor {
    /// Writes lines to the files `part-<subtask>` of a directory, each row exactly once. See ``LinesSink``.
    @inlinable
    public static func lines<Format: SerializationSchema>(_ directory: String, format: Format) -> LinesSink<Format>
    where Self == LinesSink<Format> {
        LinesSink(directory, format: format)
    }

    /// Writes text, a row a line. See ``LinesSink``.
    public static func lines(_ directory: String) -> LinesSink<StringFormat> where Self == LinesSink<StringFormat> {
        LinesSink(directory, format: StringFormat())
    }
}

/// One subtask of a sink of lines. Generic and inlinable: the loop over the rows is compiled in the job's module, with its format.
@usableFromInline
final class LinesSinkOperator<Format: SerializationSchema>: AnyOperator {
    @usableFromInline let file: PartFile
    @usableFromInline let format: Format
    @usableFromInline var buffer: ByteWriter
    @usableFromInline let bufferBytes: Int
    private var context: OperatorContext?

    @usableFromInline
    init(settings: LinesSinkSettings, format: Format) {
        file = PartFile(directory: settings.directory)
        self.format = format
        bufferBytes = settings.bufferBytes.bytes
        buffer = ByteWriter(capacity: min(bufferBytes, 64 * 1_024))
    }

    @usableFromInline
    override func open(_ context: OperatorContext) throws { self.context = context }

    @usableFromInline
    override func restore(from state: RestoredState) throws { try file.restore(from: state) }

    @usableFromInline
    override func start() throws {
        guard let context else { return }
        try format.prepare()
        try file.open(context)
    }

    @inlinable
    override func process(_ batch: AnyBatch, input: Int) throws {
        let typed = unsafeDowncast(batch, to: Batch<Format.Row>.self)
        for index in 0..<typed.count {
            try format.encode(typed.rows[index], into: &buffer)
            buffer.writeU8(0x0A)
        }
        typed.recycle()
        if buffer.count >= bufferBytes { try write() }
    }

    @usableFromInline
    func write() throws {
        try buffer.withBytes { try file.write($0) }
        buffer.removeAll()
    }

    @usableFromInline
    override func snapshot(into builder: SnapshotBuilder) throws {
        try write()
        try file.snapshot(into: builder)
    }

    @usableFromInline
    override func endOfInput() throws {
        try write()
        try file.synchronize()
    }

    @usableFromInline
    override func close() { file.close() }
}
