public import WeirBase
public import WeirDataflow

/// A function of rows with state and timers for each key: the most general transformation.
///
/// One value is made a subtask. It declares its state in the closure that makes it; every access of the state is to the state of the
/// current key.
///
///     struct Deduplicate: KeyedProcessFunction {
///         let seen: ValueState<Bool>
///         init(_ state: KeyedStateStore) throws { seen = try state.value("seen") }
///         func process(_ row: Click, _ context: ProcessContext<String, Click>) throws {
///             guard seen.value == nil else { return }
///             seen.value = true
///             try context.emit(row)
///             context.registerTimer(at: context.timestamp + 60_000)
///         }
///         func timer(at time: Int64, _ context: ProcessContext<String, Click>) { seen.clear() }
///     }
///     clicks.keyed(by: \.user).process { try Deduplicate($0) }
public protocol KeyedProcessFunction<Key, Input, Output> {
    associatedtype Key: RecordKey
    associatedtype Input: Sendable
    associatedtype Output: Sendable

    mutating func process(_ row: Input, _ context: ProcessContext<Key, Output>) throws

    /// The watermark has passed a timer of ``ProcessContext/registerTimer(at:)``.
    mutating func timer(at time: Int64, _ context: ProcessContext<Key, Output>) throws

    /// The wall clock has passed a timer of ``ProcessContext/registerProcessingTimeTimer(at:)``.
    mutating func processingTimeTimer(at time: Int64, _ context: ProcessContext<Key, Output>) throws
}

extension KeyedProcessFunction {
    /// Does nothing: for functions without such timers.
    public mutating func timer(at time: Int64, _ context: ProcessContext<Key, Output>) throws {}
    /// Does nothing: for functions without such timers.
    public mutating func processingTimeTimer(at time: Int64, _ context: ProcessContext<Key, Output>) throws {}
}

/// What a ``KeyedProcessFunction`` knows of the row or timer at hand, and its way out. Only to be used during the call.
public final class ProcessContext<Key: RecordKey, Output: Sendable> {
    /// The key of the row or timer.
    @inlinable public var key: Key {
        guard let key = current.pointee.key else { preconditionFailure("a process context is used outside of a call") }
        return key
    }
    /// The event time of the row, or the time of the timer; milliseconds since the epoch.
    @inlinable public var timestamp: Int64 { current.pointee.timestamp }

    @usableFromInline
    struct Current {
        @usableFromInline var key: Key?
        @usableFromInline var timestamp = AnyBatch.noTimestamp
    }
    /// In raw memory: a property that is written for every row costs an exclusivity check each.
    @usableFromInline let current: UnsafeMutablePointer<Current>
    /// No rows with an earlier or equal event time should come any more.
    public internal(set) var watermark = Int64.min

    @usableFromInline let output: RowOutput<Output>
    @usableFromInline let currentKey: CurrentKey
    let timers: TimerQueue
    let processingTimers: TimerQueue
    let context: OperatorContext
    private var sideOutputs = SideOutputs()

    init(output: RowOutput<Output>, store: KeyedStateStore, context: OperatorContext) throws {
        self.output = output
        self.context = context
        currentKey = store.currentKey
        timers = try store.timers("timers")
        processingTimers = try store.timers("processing-timers")
        current = .allocate(capacity: 1)
        current.initialize(to: Current())
    }

    deinit {
        current.deinitialize(count: 1)
        current.deallocate()
    }

    @inlinable
    @inline(__always)
    func set(_ key: Key, hash: UInt64, timestamp: Int64) {
        currentKey.set(key, hash: hash)
        current.pointee.key = key
        current.pointee.timestamp = timestamp
    }

    /// Passes a row on, with the present ``timestamp``.
    @inlinable
    @inline(__always)
    public func emit(_ row: Output) throws { try output.append(row, timestamp: timestamp) }

    /// Passes a row on with an event time of its own.
    @inlinable
    @inline(__always)
    public func emit(_ row: Output, timestamp: Int64) throws { try output.append(row, timestamp: timestamp) }

    /// Passes a row on to a side output, ``DataStream/sideOutput(_:file:line:)``, with the present ``timestamp``.
    public func emit<Row: Sendable>(_ row: Row, to tag: OutputTag<Row>) throws {
        try sideOutputs.emit(row, to: tag, timestamp: timestamp, of: context)
    }

    /// The wall clock, milliseconds since the epoch.
    public func processingTime() -> Int64 { context.processingTime() }

    /// Has ``KeyedProcessFunction/timer(at:_:)`` called for this key once the watermark has reached `time`, once for equal times.
    public func registerTimer(at time: Int64) { timers.register(hash: currentKey.hash, keyBytes: currentKey.bytes, time: time) }

    /// Takes a timer of this key back; nothing happens if there is none at `time`.
    public func deleteTimer(at time: Int64) { timers.delete(hash: currentKey.hash, keyBytes: currentKey.bytes, time: time) }

    /// Has ``KeyedProcessFunction/processingTimeTimer(at:_:)`` called for this key once the wall clock has reached `time`.
    public func registerProcessingTimeTimer(at time: Int64) {
        processingTimers.register(hash: currentKey.hash, keyBytes: currentKey.bytes, time: time)
        context.callBack(atProcessingTime: time)
    }

    /// Takes a timer of this key back; nothing happens if there is none at `time`.
    public func deleteProcessingTimeTimer(at time: Int64) {
        processingTimers.delete(hash: currentKey.hash, keyBytes: currentKey.bytes, time: time)
    }

    func fire(_ queue: TimerQueue, upTo limit: Int64, _ body: (Int64) throws -> Void) throws {
        try queue.fire(upTo: limit) { hash, bytes, _, time in
            currentKey.set(hash: hash, keyBytes: bytes)
            current.pointee.key = try Key(keyBytes: bytes)
            current.pointee.timestamp = time
            try body(time)
        }
    }
}

/// Keeps the function of a subtask, so that it can change itself.
@usableFromInline
final class FunctionBox<Function> {
    @usableFromInline let function: UnsafeMutablePointer<Function>
    @usableFromInline
    init(_ function: Function) {
        self.function = .allocate(capacity: 1)
        self.function.initialize(to: function)
    }
    deinit {
        function.deinitialize(count: 1)
        function.deallocate()
    }
}

extension KeyedStream {
    /// Runs a function with state and timers on the rows of each key: ``KeyedProcessFunction``.
    ///
    /// - Parameter function: Makes the function of a subtask, and declares its states.
    @inlinable
    @inline(__always)
    public func process<Function: KeyedProcessFunction & SendableMetatype>(
        file: StaticString = #fileID, line: Int = #line, _ function: @escaping @Sendable (KeyedStateStore) throws -> Function
    ) -> DataStream<Function.Output> where Function.Key == Key, Function.Input == Row {
        let key = self.key
        return addingProcess(
            file, line, make: { FunctionBox(try function($0)) },
            process: { box, context, batch in
                let rows = batch.rows
                let timestamps = batch.timestamps
                let hashes = batch.keyHashes
                for index in 0..<batch.count {
                    context.set(key(rows[index]), hash: hashes[index], timestamp: timestamps[index])
                    try box.function.pointee.process(rows[index], context)
                }
            },
            timer: { box, context, time in try box.function.pointee.timer(at: time, context) },
            processingTimer: { box, context, time in try box.function.pointee.processingTimeTimer(at: time, context) })
    }

    /// Runs closures with state and timers on the rows of each key.
    ///
    ///     .process(state: { try $0.value("count", of: Int.self) }) { row, count, context in
    ///         count.value = (count.value ?? 0) + 1
    ///         try context.emit(…)
    ///     }
    ///
    /// - Parameters:
    ///   - state: Declares the states of a subtask; several as a tuple.
    ///   - timer: Called when the watermark has passed a registered timer.
    ///   - body: Called for every row.
    @inlinable
    @inline(__always)
    public func process<State, Result: Sendable>(
        state: @escaping @Sendable (KeyedStateStore) throws -> State,
        timer: @escaping @Sendable (Int64, State, ProcessContext<Key, Result>) throws -> Void = { _, _, _ in },
        file: StaticString = #fileID, line: Int = #line,
        _ body: @escaping @Sendable (Row, State, ProcessContext<Key, Result>) throws -> Void
    ) -> DataStream<Result> {
        let key = self.key
        return addingProcess(
            file, line, make: { FunctionBox(try state($0)) },
            process: { box, context, batch in
                let rows = batch.rows
                let timestamps = batch.timestamps
                let hashes = batch.keyHashes
                let state = box.function.pointee
                for index in 0..<batch.count {
                    context.set(key(rows[index]), hash: hashes[index], timestamp: timestamps[index])
                    try body(rows[index], state, context)
                }
            },
            timer: { box, context, time in try timer(time, box.function.pointee, context) },
            processingTimer: { _, _, _ in })
    }

    @usableFromInline
    func addingProcess<Function, Result: Sendable>(
        _ file: StaticString, _ line: Int, make: @escaping @Sendable (KeyedStateStore) throws -> FunctionBox<Function>,
        process: @escaping @Sendable (FunctionBox<Function>, ProcessContext<Key, Result>, Batch<Row>) throws -> Void,
        timer: @escaping @Sendable (FunctionBox<Function>, ProcessContext<Key, Result>, Int64) throws -> Void,
        processingTimer: @escaping @Sendable (FunctionBox<Function>, ProcessContext<Key, Result>, Int64) throws -> Void
    ) -> DataStream<Result> {
        let hasher = self.hasher
        let code = OperatorCode<Result> { _, _, output in
            ProcessOperator(
                output: RowOutput(output), hasher: hasher, make: make, process: process, timer: timer, processingTimer: processingTimer)
        }
        return stream.adding("process", Place(file, line), code)
    }
}

/// Runs a function with keyed state and timers.
final class ProcessOperator<Key: RecordKey, Function, Row: Sendable, Result: Sendable>: AnyOperator {
    typealias Context = ProcessContext<Key, Result>
    typealias Fire = @Sendable (FunctionBox<Function>, Context, Int64) throws -> Void

    private struct Opened {
        let store: KeyedStateStore
        let context: Context
        let function: FunctionBox<Function>
    }

    private let output: RowOutput<Result>
    private let hasher: @Sendable (Batch<Row>) -> Void
    private let make: @Sendable (KeyedStateStore) throws -> FunctionBox<Function>
    private let body: @Sendable (FunctionBox<Function>, Context, Batch<Row>) throws -> Void
    private let timer: Fire
    private let processingTimer: Fire
    private var opened: Opened?

    init(
        output: RowOutput<Result>, hasher: @escaping @Sendable (Batch<Row>) -> Void,
        make: @escaping @Sendable (KeyedStateStore) throws -> FunctionBox<Function>,
        process: @escaping @Sendable (FunctionBox<Function>, Context, Batch<Row>) throws -> Void, timer: @escaping Fire,
        processingTimer: @escaping Fire
    ) {
        self.output = output
        self.hasher = hasher
        self.make = make
        body = process
        self.timer = timer
        self.processingTimer = processingTimer
    }

    override func open(_ context: OperatorContext) throws {
        let store = try KeyedStateStore(context, migration: RecordMigration())
        opened = Opened(
            store: store, context: try Context(output: output, store: store, context: context), function: try make(store))
    }

    override func start() throws {
        // Timers that were restored ask to be called back again.
        guard let context = opened?.context, let next = context.processingTimers.nextTime else { return }
        context.context.callBack(atProcessingTime: next)
    }

    override func process(_ batch: AnyBatch, input: Int) throws {
        guard let opened else { return }
        let batch = unsafeDowncast(batch, to: Batch<Row>.self)
        if !batch.hasKeyHashes {
            hasher(batch)
            batch.hasKeyHashes = true
        }
        try body(opened.function, opened.context, batch)
        batch.recycle()
        try opened.store.checkMemory()
    }

    override func flush() throws { try output.flush() }

    override func advanceWatermark(_ watermark: Int64) throws {
        guard let opened else { return }
        opened.context.watermark = max(opened.context.watermark, watermark)
        try opened.context.fire(opened.context.timers, upTo: watermark) { try timer(opened.function, opened.context, $0) }
        try output.flush()
    }

    override func processingTime(_ now: Int64) throws {
        guard let opened else { return }
        try opened.context.fire(opened.context.processingTimers, upTo: now) { try processingTimer(opened.function, opened.context, $0) }
        if let next = opened.context.processingTimers.nextTime { opened.context.context.callBack(atProcessingTime: next) }
        try output.flush()
    }

    override func snapshot(into builder: SnapshotBuilder) throws { opened?.store.snapshot(into: builder) }
    override func restore(from state: RestoredState) throws { try opened?.store.restore(from: state) }
}
