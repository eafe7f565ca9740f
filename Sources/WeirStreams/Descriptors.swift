public import WeirDataflow

/// Describes where the rows of a stream come from: what ``JobContext/source(_:watermarks:uid:)`` takes.
///
/// A descriptor is a value. It is made where the job is defined, checked there, and asked once a subtask for the source that
/// does the work, in the worker that runs the subtask. Nothing is opened before ``AnySource`` is.
///
/// A connector offers leading-dot syntax by an extension:
///
///     extension StreamSourceDescriptor {
///         public static func kafka<R>(_ bootstrap: String, …, format: JSONFormat<R>) -> Self where Self == KafkaSource<R> { … }
///     }
public protocol StreamSourceDescriptor<Row>: Sendable {
    associatedtype Row: Sendable

    /// What people see in graphs and logs, for example `kafka(telemetries)`.
    var name: String { get }

    /// The most subtasks that the source can use; nil when any number is right. A source that cannot be split says 1.
    var parallelismMax: Int? { get }

    /// Checks what can be checked without a connection.
    ///
    /// - Throws: What is wrong and what to do about it. The job is refused with this and every other problem of its graph.
    func validate() throws

    /// What of the outside world the source wants for itself alone.
    var claims: [ResourceClaim] { get }

    /// Checks, when the job is submitted and before anything is deployed, what only a connection shows. May block for some seconds.
    ///
    /// - Returns: What is wrong or doubtful, in words. Nothing of the world is changed.
    func preflight(_ setup: PreflightSetup) -> [PreflightFinding]

    /// Makes the source of one subtask. Called in the worker, on the thread that deploys, before any element flows.
    ///
    /// The source emits rows through `setup.output` and must follow `setup.watermarks`: it stamps rows with
    /// ``WatermarkStrategy/stamp`` and sends the watermarks of ``SplitWatermarks``, one split a partition.
    func makeSource(_ setup: SourceSetup<Row>) throws -> AnySource
}

extension StreamSourceDescriptor {
    public var parallelismMax: Int? { nil }
    public func validate() throws {}
    public var claims: [ResourceClaim] { [] }
    public func preflight(_ setup: PreflightSetup) -> [PreflightFinding] { [] }
}

/// What a source is told when it is made. Which subtask of how many it is, ``AnyOperator/open(_:)`` tells.
public struct SourceSetup<Row: Sendable> {
    /// The operator's uid, under which its state is found again.
    public let uid: String
    /// The operator's name, as people see it.
    public let name: String
    /// How rows get their event time and when watermarks are sent.
    public let watermarks: WatermarkStrategy<Row>
    /// Where rows go: batches handed to it belong to it.
    public let output: Collector<Row>

    package init(uid: String, name: String, watermarks: WatermarkStrategy<Row>, output: Collector<Row>) {
        self.uid = uid
        self.name = name
        self.watermarks = watermarks
        self.output = output
    }
}

/// Describes where the rows of a stream go: what ``DataStream/sink(to:uid:)`` takes.
///
/// As with ``StreamSourceDescriptor``, a value that is checked where the job is defined and opened where it runs.
public protocol StreamSinkDescriptor<Row>: Sendable {
    associatedtype Row: Sendable

    /// What people see in graphs and logs, for example `kafka(summaries)`.
    var name: String { get }

    /// The most subtasks that may write; nil when any number may.
    var parallelismMax: Int? { get }

    /// Checks what can be checked without a connection.
    ///
    /// - Throws: What is wrong and what to do about it. The job is refused with this and every other problem of its graph.
    func validate() throws

    /// What of the outside world the sink wants for itself alone.
    var claims: [ResourceClaim] { get }

    /// As ``StreamSourceDescriptor/preflight(_:)``.
    func preflight(_ setup: PreflightSetup) -> [PreflightFinding]

    /// Makes the operator that writes, for one subtask. It takes `Batch<Row>` at input 0 and owns each batch it is given.
    func makeSink(_ setup: SinkSetup) throws -> AnyOperator
}

extension StreamSinkDescriptor {
    public var parallelismMax: Int? { nil }
    public func validate() throws {}
    public var claims: [ResourceClaim] { [] }
    public func preflight(_ setup: PreflightSetup) -> [PreflightFinding] { [] }
}

/// What a sink is told when it is made. Which subtask of how many it is, ``AnyOperator/open(_:)`` tells.
public struct SinkSetup: Sendable {
    /// The operator's uid, under which its state is found again.
    public let uid: String
    /// The operator's name, as people see it.
    public let name: String

    package init(uid: String, name: String) {
        self.uid = uid
        self.name = name
    }
}
