public import WeirBase

/// How a source makes rows of the bytes it reads: the value of a Kafka record, a line of a file.
///
/// Generic code over a schema, if it is `@inlinable`, is specialised in the job's module: the loop over a batch then has no
/// indirect call a record.
///
/// What a schema throws says what the source does about it:
/// - ``SchemaPending``: nothing is wrong with the record. The source keeps it and decodes it again after the call-back.
/// - `JobFailure`: the job fails with it, whatever its policy for bad records.
/// - anything else: the record is bad, and the source's policy for bad records applies.
public protocol DeserializationSchema<Row>: Sendable {
    associatedtype Row: Sendable

    /// Makes the row of one record's bytes, which are lent until it returns.
    ///
    /// Called on the slot's thread: it must not wait.
    ///
    /// - Throws: What is wrong with the bytes; never traps on any.
    func decode(_ bytes: UnsafeRawBufferPointer) throws -> Row

    /// Makes the rows of one record's bytes, none or many, and hands each to `emit`; by default the one of ``decode(_:)``.
    ///
    /// - Throws: As ``decode(_:)``, and what `emit` throws. Rows emitted before it threw have gone on: decode the whole record first.
    func decode(_ bytes: UnsafeRawBufferPointer, emit: (consuming Row) throws -> Void) throws

    /// Whether a row marks the end of the data. It is not passed on, and what lies behind it is not read; by default no row is one.
    func isEndOfStream(_ row: Row) -> Bool
}

extension DeserializationSchema {
    @inlinable @inline(__always)
    public func decode(_ bytes: UnsafeRawBufferPointer, emit: (consuming Row) throws -> Void) throws { try emit(try decode(bytes)) }

    @inlinable @inline(__always)
    public func isEndOfStream(_ row: Row) -> Bool { false }
}

/// How a sink makes bytes of rows.
public protocol SerializationSchema<Row>: Sendable {
    associatedtype Row: Sendable

    /// Fetches what encoding needs, such as the id of a schema. Called once a subtask before the first row, on a thread that may wait.
    ///
    /// - Throws: Why no row can be written. A `JobFailure` keeps its domain and recovery.
    func prepare() throws

    /// Appends one row's bytes, without a delimiter. Called on the slot's thread: it must not wait.
    ///
    /// - Throws: Why the row has no bytes in the format; what was appended is then worth nothing. The job fails with it.
    func encode(_ row: Row, into writer: inout ByteWriter) throws
}

extension SerializationSchema {
    public func prepare() throws {}
}

/// A schema that has been asked for and has not come yet: what ``DeserializationSchema/decode(_:)`` throws so as not to wait for it.
public struct SchemaPending: Error, Sendable, CustomStringConvertible {
    /// What is being waited for, for people: `schema 17 of http://localhost:8081`.
    public let subject: String
    private let subscribe: @Sendable (@escaping @Sendable () -> Void) -> Void

    /// - Parameter subscribe: Keeps a call-back and calls it once, from any thread, when decoding again is worth it; at once if it is by now.
    public init(_ subject: String, subscribe: @escaping @Sendable (@escaping @Sendable () -> Void) -> Void) {
        self.subject = subject
        self.subscribe = subscribe
    }

    /// Calls `body` once, from any thread, when decoding again is worth it: the schema has come, or it is known why it does not.
    public func whenReady(_ body: @escaping @Sendable () -> Void) { subscribe(body) }

    public var description: String { "waiting for \(subject)" }
}
