public import WeirBase
public import WeirDataflow
public import WeirFormats
public import WeirStreams

/// What to do about a line that the format cannot read.
public enum BadLinePolicy: Sendable, Equatable {
    /// Fail the job, saying where the line is.
    case fail
    /// Leave it out and count it: the counter `deserializationErrors`.
    case skip
}

/// What a source subtask needs to know, whatever its rows are.
struct LinesSourceSettings: Sendable {
    var path: String
    var badLines = BadLinePolicy.fail
    var skipsEmptyLines: Bool
    var splitBytes = ByteCount(bytes: 16 << 20)
    var blockBytes = ByteCount(bytes: 1 << 20)
    var lineBytesMax = ByteCount(bytes: 16 << 20)
}

/// Reads the lines of files: what `.lines(_:format:)` makes. Ends when all were read.
///
///     job.source(.lines("/data/telemetry/*.json", format: .json(Reading.self)), watermarks: …, uid: "files")
///
/// Files are read in parts, in the order of their paths, and dealt out to the subtasks. How far each part was read is in the checkpoints; the
/// files must not change as long as those are needed, save that they may grow. The list is made once, when the job first starts.
/// Lines end with LF or CRLF; the last one may end with the file. Event times should rise over the files in their order: the watermark
/// follows the lines as they are read, and does not wait for files that are not open yet.
///
/// The job fails, with what to do about it, if nothing is there, a file cannot be read, or a line is too long or cannot be understood.
public struct LinesSource<Format: DeserializationSchema>: StreamSourceDescriptor {
    public typealias Row = Format.Row

    var settings: LinesSourceSettings
    /// Made where the format is concrete: a method of the generic operator would run unspecialised.
    let fill: LinesFill<Row>

    /// - Parameters:
    ///   - path: A file, a directory (its files, but not those whose names begin with `.` or `_`), or a pattern with `*`, `?` and `[…]`.
    ///   - skipsEmptyLines: Whether lines without a byte are left out instead of given to the format.
    @inlinable
    @inline(__always)
    public init(_ path: String, format: Format, skipsEmptyLines: Bool = true) {
        self.init(path, skipsEmptyLines: skipsEmptyLines) { reader, block, batch, limit in
            try reader.fill(batch, from: block, limit: limit, format: format)
        }
    }

    @usableFromInline
    init(_ path: String, skipsEmptyLines: Bool, fill: @escaping LinesFill<Row>) {
        settings = LinesSourceSettings(path: path, skipsEmptyLines: skipsEmptyLines)
        self.fill = fill
    }

    public var name: String { "lines(\(settings.path))" }

    /// What to do about a line that the format cannot read; fail if nothing is said.
    public func onBadLine(_ policy: BadLinePolicy) -> Self { with { $0.badLines = policy } }

    /// The longest line, without its end; 16 MiB if nothing is said.
    public func lineBytesMax(_ bytes: ByteCount) -> Self { with { $0.lineBytesMax = bytes } }

    /// How large the parts are that subtasks read in turn; 16 MiB if nothing is said.
    public func splitBytes(_ bytes: ByteCount) -> Self { with { $0.splitBytes = bytes } }

    /// How much is read at a time, ahead of the rows; 1 MiB if nothing is said.
    public func blockBytes(_ bytes: ByteCount) -> Self { with { $0.blockBytes = bytes } }

    private func with(_ change: (inout LinesSourceSettings) -> Void) -> Self {
        var copy = self
        change(&copy.settings)
        return copy
    }

    public func validate() throws {
        var problems: [String] = []
        if settings.path.isEmpty { problems.append("a source of lines needs a path") }
        for (name, value) in [
            ("lineBytesMax", settings.lineBytesMax), ("splitBytes", settings.splitBytes), ("blockBytes", settings.blockBytes),
        ] where value.bytes < 1 || value.bytes > 1 << 40 {
            problems.append("\(name) of a source of lines is \(value.bytes); it must be 1 byte to 1 TiB")
        }
        if !problems.isEmpty { throw ConfigurationError(problems) }
    }

    public func makeSource(_ setup: SourceSetup<Row>) throws -> AnySource {
        LinesSourceOperator(setup: setup, settings: settings, fill: fill)
    }
}

extension StreamSourceDescriptor {
    /// Reads the lines of files, each by a format: `.lines("input/*.json", format: .json(Reading.self))`. See ``LinesSource``.
    @inlinable
    @inline(__always)
    public static func lines<Format: DeserializationSchema>(_ path: String, format: Format) -> LinesSource<Format>
    where Self == LinesSource<Format> {
        LinesSource(path, format: format)
    }

    /// Reads the lines of files as text, empty ones too. See ``LinesSource``.
    @inlinable
    public static func lines(_ path: String) -> LinesSource<StringFormat> where Self == LinesSource<StringFormat> {
        LinesSource(path, format: StringFormat(), skipsEmptyLines: false)
    }
}
