internal import WeirDataflow

/// What the function of a window knows of it, and its way out. Only to be used during the call.
public final class WindowContext<Output: Sendable> {
    @inlinable public var window: TimeWindow { firing.window }
    /// No rows with an earlier or equal event time should come any more.
    @inlinable public var watermark: Int64 { firing.watermark }
    /// The event time that results carry: the last of the window, or in a global window that of the row or timer which fired it.
    @inlinable public var timestamp: Int64 { firing.timestamp }

    @usableFromInline
    struct Firing {
        @usableFromInline var window: TimeWindow
        @usableFromInline var watermark: Int64
        @usableFromInline var timestamp: Int64
        @inlinable
        init(window: TimeWindow, watermark: Int64, timestamp: Int64) {
            self.window = window
            self.watermark = watermark
            self.timestamp = timestamp
        }
    }
    @exclusivity(unchecked) @usableFromInline final var firing = Firing(window: .global, watermark: .min, timestamp: .min)
    @usableFromInline let output: RowOutput<Output>
    private let context: OperatorContext
    private var sideOutputs = SideOutputs()

    init(output: RowOutput<Output>, context: OperatorContext) {
        self.output = output
        self.context = context
    }

    /// Passes a result on, with the present ``timestamp``.
    @inlinable
    @inline(__always)
    public func emit(_ row: Output) throws { try output.append(row, timestamp: timestamp) }

    /// Passes a result on with an event time of its own.
    @inlinable
    @inline(__always)
    public func emit(_ row: Output, timestamp: Int64) throws { try output.append(row, timestamp: timestamp) }

    /// Passes a row on to a side output, with the present ``timestamp``.
    public func emit<Row: Sendable>(_ row: Row, to tag: OutputTag<Row>) throws {
        try sideOutputs.emit(row, to: tag, timestamp: timestamp, of: context)
    }

    /// The wall clock, milliseconds since the epoch.
    public func processingTime() -> Int64 { context.processingTime() }
}
