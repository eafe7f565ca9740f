public import WeirBase
public import WeirDataflow

extension KeyedStream {
    /// Groups the rows of each key into windows.
    ///
    ///     .keyed(by: \.user).window(.session(gap: .minutes(5))).aggregate(Count())
    ///
    /// A window of event time closes when the watermark passes its end: then it gives its result, and is forgotten. Rows that come later are
    /// dropped, and counted as `numLateRecordsDropped`. The sources upstream need a watermark strategy.
    @inlinable
    @inline(__always)
    public func window(
        _ assigner: WindowAssigner, file: StaticString = #fileID, line: Int = #line
    ) -> WindowedStream<Key, EndOfWindowTrigger<Row>> {
        WindowedStream(stream: self, assigner: assigner, trigger: EndOfWindowTrigger(), file: file, line: line)
    }

    /// Windows of `size` rows of a key, one after the other.
    @inlinable
    @inline(__always)
    public func countWindow(
        _ size: Int, file: StaticString = #fileID, line: Int = #line
    ) -> WindowedStream<Key, PurgingTrigger<CountTrigger<Row>>> {
        WindowedStream(stream: self, assigner: .global, trigger: PurgingTrigger(CountTrigger(size)), file: file, line: line)
    }

    /// The last `size` rows of a key, after every `slide` rows.
    @inlinable
    @inline(__always)
    public func countWindow(
        _ size: Int, every slide: Int, file: StaticString = #fileID, line: Int = #line
    ) -> EvictingWindowedStream<Key, CountTrigger<Row>> where Row: BinaryCodable {
        WindowedStream(stream: self, assigner: .global, trigger: CountTrigger(slide), file: file, line: line)
            .evictor(CountEvictor(size))
    }
}

/// The rows of each key in windows, to be aggregated.
public struct WindowedStream<Key: RecordKey, Trigger: WindowTrigger> {
    public typealias Row = Trigger.Row

    @usableFromInline let stream: KeyedStream<Key, Row>
    @usableFromInline let assigner: WindowAssigner
    @usableFromInline let windowTrigger: Trigger
    @usableFromInline var lateness = Duration.zero
    @usableFromInline var lateTag: OutputTag<Row>?
    @usableFromInline var parallelism: Int?

    @usableFromInline
    init(stream: KeyedStream<Key, Row>, assigner: WindowAssigner, trigger: Trigger, file: StaticString, line: Int) {
        self.stream = stream
        self.assigner = assigner
        windowTrigger = trigger
        for problem in [assigner.problem, trigger.problem].compactMap({ $0 }) { stream.stream.job.report(problem, at: Place(file, line)) }
        self.file = file
        self.line = line
    }

    @usableFromInline let file: StaticString
    @usableFromInline let line: Int

    @usableFromInline
    func checking(_ problem: String?) -> WindowedStream {
        if let problem { stream.stream.job.report(problem, at: Place(file, line)) }
        return self
    }

    // MARK: - When windows give their results

    /// Decides by a trigger of one's own when windows give their results, instead of at their ends.
    @inlinable
    @inline(__always)
    public func trigger<Other: WindowTrigger>(_ trigger: Other) -> WindowedStream<Key, Other> where Other.Row == Row {
        var other = WindowedStream<Key, Other>(stream: stream, assigner: assigner, trigger: trigger, file: file, line: line)
        other.lateness = lateness
        other.lateTag = lateTag
        other.parallelism = parallelism
        return other
    }

    /// Keeps windows of event time for so long behind their ends: a row that comes by then changes its window, which gives its result again.
    @inlinable
    public func allowedLateness(_ lateness: Duration) -> WindowedStream {
        var copy = checking(
            lateness < .zero || lateness.components.seconds >= 1 << 40
                ? "an allowed lateness of \(lateness): it must not be negative or endless" : nil)
        copy.lateness = lateness
        return copy
    }

    /// Passes rows that come too late to a side output of the windows' stream instead of dropping them.
    ///
    ///     let late = OutputTag<Click>("late")
    ///     let counts = clicks.keyed(by: \.user).window(.tumbling(.minutes(1))).sideOutputLateData(to: late).aggregate(Count())
    ///     counts.sideOutput(late).sink(to: …)
    @inlinable
    public func sideOutputLateData(to tag: OutputTag<Row>) -> WindowedStream {
        var copy = self
        copy.lateTag = tag
        return copy
    }

    /// Takes rows out of windows before or after their function sees them; the windows keep their rows for that.
    @inlinable
    @inline(__always)
    public func evictor<Evictor: WindowEvictor>(_ evictor: Evictor) -> EvictingWindowedStream<Key, Trigger> where Evictor.Row == Row {
        EvictingWindowedStream(
            windows: checking(evictor.problem), before: { evictor.evictBefore(&$0, of: $1) }, after: { evictor.evictAfter(&$0, of: $1) })
    }

    // MARK: - What windows come to

    /// Folds the rows of each window as they come, and makes one row a key and window when it closes.
    ///
    ///     .aggregate(Statistics(of: \.temperature)) { key, window, s in Summary(id: key, from: window.start, mean: s.mean) }
    ///
    /// The row's event time is the last of the window.
    @inlinable
    @inline(__always)
    public func aggregate<Aggregation: AggregateFunction, Result: Sendable>(
        _ aggregation: Aggregation, file: StaticString = #fileID, line: Int = #line,
        _ emit: @escaping @Sendable (Key, TimeWindow, Aggregation.Output) throws -> Result
    ) -> DataStream<Result> where Aggregation.Input == Row {
        let key = stream.key
        guard !isPanes else {
            return addingPanes(
                file, line,
                PaneCode(
                    tables: { try $0.windows("windows") },
                    add: { (tables: WindowedTables<Aggregation.Accumulator>, batch, starts) in
                        let rows = batch.rows
                        tables.update(
                            count: batch.count, hashes: batch.keyHashes, namespace: { starts[$0] }, key: { key(rows[$0]) },
                            initial: { _ in aggregation.create() }, body: { aggregation.add(rows[$0], to: &$1) })
                    },
                    merge: { pane, window in
                        pane.forEach { hash, keyBytes, accumulator in
                            aggregation.merge(
                                accumulator, into: &window.upsert(hash: hash, keyBytes: keyBytes, initial: aggregation.create()).pointee)
                        }
                    },
                    fire: { table, window, output in
                        try table.forEach { _, keyBytes, accumulator in
                            let row = try emit(Key(keyBytes: keyBytes), window, aggregation.result(of: accumulator))
                            try output.append(row, timestamp: window.lastTimestamp)
                        }
                    }))
        }
        return addingTriggered(file, line) { (_: KeyedStateStore) -> WindowLogic<Key, Trigger, Aggregation.Accumulator, Result>.Function in
            .init(
                add: { row, _, contents in
                    if contents == nil { contents = aggregation.create() }
                    aggregation.add(row, to: &contents!)
                },
                merge: { aggregation.merge($0, into: &$1) },
                fire: { key, contents, context in try context.emit(emit(key, context.window, aggregation.result(of: contents))) })
        }
    }

    /// As ``aggregate(_:file:line:_:)``, with rows of key, window and result.
    @inlinable
    @inline(__always)
    public func aggregate<Aggregation: AggregateFunction>(
        _ aggregation: Aggregation, file: StaticString = #fileID, line: Int = #line
    ) -> DataStream<WindowResult<Key, Aggregation.Output>> where Aggregation.Input == Row, Aggregation.Output: BinaryCodable {
        aggregate(aggregation, file: file, line: line) { WindowResult(key: $0, window: $1, value: $2) }
    }

    /// Folds the rows of each window as they come, and gives the result to a function that may emit any number of rows.
    @inlinable
    @inline(__always)
    public func aggregate<Aggregation: AggregateFunction, Result: Sendable>(
        _ aggregation: Aggregation, file: StaticString = #fileID, line: Int = #line,
        process body: @escaping @Sendable (Key, Aggregation.Output, WindowContext<Result>) throws -> Void
    ) -> DataStream<Result> where Aggregation.Input == Row {
        addingTriggered(file, line) { (_: KeyedStateStore) -> WindowLogic<Key, Trigger, Aggregation.Accumulator, Result>.Function in
            .init(
                add: { row, _, contents in
                    if contents == nil { contents = aggregation.create() }
                    aggregation.add(row, to: &contents!)
                },
                merge: { aggregation.merge($0, into: &$1) },
                fire: { key, contents, context in try body(key, aggregation.result(of: contents), context) })
        }
    }

    /// Combines the rows of each window into one.
    @inlinable
    @inline(__always)
    public func reduce(
        _ combine: @escaping @Sendable (Row, Row) throws -> Row, file: StaticString = #fileID, line: Int = #line
    ) -> DataStream<Row> where Row: BinaryCodable {
        let key = stream.key
        guard !isPanes else {
            return addingPanes(
                file, line,
                PaneCode(
                    tables: { try $0.windows("windows") },
                    add: { (tables: WindowedTables<Row>, batch, starts) in
                        let rows = batch.rows
                        let hashes = batch.keyHashes
                        for index in 0..<batch.count {
                            let hash = hashes[index]
                            let (state, isNew) = key(rows[index]).withKeyBytes { tables.table(starts[index]).upsert(hash: hash, keyBytes: $0) }
                            if isNew {
                                state.initialize(to: rows[index])
                            } else {
                                state.pointee = try combine(state.pointee, rows[index])
                            }
                        }
                    },
                    merge: { pane, window in
                        try pane.forEach { hash, keyBytes, row in
                            let (state, isNew) = window.upsert(hash: hash, keyBytes: keyBytes)
                            if isNew {
                                state.initialize(to: row)
                            } else {
                                state.pointee = try combine(state.pointee, row)
                            }
                        }
                    },
                    fire: { table, window, output in
                        try table.forEach { _, _, row in try output.append(row, timestamp: window.lastTimestamp) }
                    }))
        }
        return addingTriggered(file, line) { (_: KeyedStateStore) -> WindowLogic<Key, Trigger, Row, Row>.Function in
            .init(
                add: { row, _, contents in contents = try contents.map { try combine($0, row) } ?? row },
                merge: { $1 = try combine($1, $0) }, fire: { _, contents, context in try context.emit(contents) })
        }
    }

    /// Gives all rows of a window, in the order in which they came, to a function when the window fires. The window keeps its rows.
    ///
    ///     .process { user, clicks, window in try window.emit(Session(user, from: window.window.start, clicks.count)) }
    @inlinable
    @inline(__always)
    public func process<Result: Sendable>(
        file: StaticString = #fileID, line: Int = #line,
        _ body: @escaping @Sendable (Key, [Row], WindowContext<Result>) throws -> Void
    ) -> DataStream<Result> where Row: BinaryCodable {
        addingTriggered(file, line) { (_: KeyedStateStore) -> WindowLogic<Key, Trigger, [Row], Result>.Function in
            .init(
                add: { row, _, contents in
                    if contents == nil { contents = [] }
                    contents!.append(row)
                },
                merge: { $1 = $0 + $1 }, fire: { key, rows, context in try body(key, rows, context) })
        }
    }

    /// As ``process(file:line:_:)``, with state that the windows of a key share.
    ///
    /// - Parameter state: Declares the states of a subtask; several as a tuple.
    @inlinable
    @inline(__always)
    public func process<State, Result: Sendable>(
        state: @escaping @Sendable (KeyedStateStore) throws -> State, file: StaticString = #fileID, line: Int = #line,
        _ body: @escaping @Sendable (Key, [Row], State, WindowContext<Result>) throws -> Void
    ) -> DataStream<Result> where Row: BinaryCodable {
        addingTriggered(file, line) { (store: KeyedStateStore) -> WindowLogic<Key, Trigger, [Row], Result>.Function in
            let state = try state(store)
            return .init(
                add: { row, _, contents in
                    if contents == nil { contents = [] }
                    contents!.append(row)
                },
                merge: { $1 = $0 + $1 }, fire: { key, rows, context in try body(key, rows, state, context) })
        }
    }

    // MARK: - Adding operators

    /// Windows that need no list of windows a key.
    @usableFromInline var isPanes: Bool {
        guard case .sliding = assigner.kind else { return false }
        return assigner.time == .event && lateness == .zero && Trigger.self == EndOfWindowTrigger<Row>.self
    }

    @usableFromInline
    func addingPanes<State: BinaryCodable, Result: Sendable>(
        _ file: StaticString, _ line: Int, _ code: PaneCode<Row, State, Result>
    ) -> DataStream<Result> {
        let plan = WindowPlan(assigner)
        let hasher = stream.hasher
        let lateTag = lateTag
        return adding(
            file, line,
            OperatorCode<Result> { _, _, output in
                PaneWindowOperator(panes: WindowPanes(plan), code: code, hasher: hasher, output: RowOutput(output), lateTag: lateTag)
            })
    }

    @inlinable
    @inline(__always)
    func addingTriggered<Contents: BinaryCodable, Result: Sendable>(
        _ file: StaticString, _ line: Int,
        _ function: @escaping @Sendable (KeyedStateStore) throws -> WindowLogic<Key, Trigger, Contents, Result>.Function
    ) -> DataStream<Result> {
        let plan = WindowPlan(assigner)
        let trigger = windowTrigger
        let lateness = latenessMilliseconds
        let key = stream.key
        return addingTriggered(file, line) { (setup: WindowSetup<Row, Result>) throws -> WindowWork<Row> in
            let logic = try WindowLogic<Key, Trigger, Contents, Result>(
                plan: plan, trigger: trigger, lateness: lateness, key: key, function: try function(setup.store),
                table: try setup.store.table("windows"), setup: setup)
            return WindowWork(
                logic, process: { try logic.process($0) }, look: { try logic.look($0, $1, $2, $3) },
                timer: { try logic.timer($0, $1, $2, $3, isEventTime: true) },
                processingTimer: { try logic.timer($0, $1, $2, $3, isEventTime: false) })
        }
    }

    @usableFromInline var latenessMilliseconds: Int64 { milliseconds(roundingUp: lateness) }

    @usableFromInline
    func addingTriggered<Result: Sendable>(
        _ file: StaticString, _ line: Int, make: @escaping @Sendable (WindowSetup<Row, Result>) throws -> WindowWork<Row>
    ) -> DataStream<Result> {
        let hasher = stream.hasher
        let isEventTime = assigner.time == .event
        let lateTag = lateTag
        return adding(
            file, line,
            OperatorCode<Result> { _, _, output in
                TriggeredWindowOperator(isEventTime: isEventTime, output: RowOutput(output), lateTag: lateTag, hasher: hasher, make: make)
            })
    }

    private func adding<Result: Sendable>(_ file: StaticString, _ line: Int, _ code: OperatorCode<Result>) -> DataStream<Result> {
        if assigner.kind == .global, Trigger.self == EndOfWindowTrigger<Row>.self {
            stream.stream.job.report("a global window has no end, and so would never give a result: give it a .trigger(…)", at: Place(file, line))
        }
        let result = stream.stream.adding("window", Place(file, line), code, needsEventTime: assigner.needsEventTime)
        return parallelism.map { result.parallelism($0, file: file, line: line) } ?? result
    }
}

/// What windows of panes do with rows and tables, made where the types are known.
@usableFromInline
struct PaneCode<Row: Sendable, State: BinaryCodable, Result: Sendable>: Sendable {
    let tables: @Sendable (KeyedStateStore) throws -> WindowedTables<State>
    let add: @Sendable (WindowedTables<State>, Batch<Row>, UnsafePointer<Int64>) throws -> Void
    /// Adds what a pane holds to what the panes before it came to.
    let merge: @Sendable (_ pane: StateTable<State>, _ window: StateTable<State>) throws -> Void
    let fire: @Sendable (StateTable<State>, TimeWindow, RowOutput<Result>) throws -> Void
    let makeTable: @Sendable () -> StateTable<State>

    @inlinable
    @inline(__always)
    init(
        tables: @escaping @Sendable (KeyedStateStore) throws -> WindowedTables<State>,
        add: @escaping @Sendable (WindowedTables<State>, Batch<Row>, UnsafePointer<Int64>) throws -> Void,
        merge: @escaping @Sendable (_ pane: StateTable<State>, _ window: StateTable<State>) throws -> Void,
        fire: @escaping @Sendable (StateTable<State>, TimeWindow, RowOutput<Result>) throws -> Void
    ) {
        self.init(tables: tables, add: add, merge: merge, fire: fire, makeTable: { StateTable() })
    }

    @usableFromInline
    init(
        tables: @escaping @Sendable (KeyedStateStore) throws -> WindowedTables<State>,
        add: @escaping @Sendable (WindowedTables<State>, Batch<Row>, UnsafePointer<Int64>) throws -> Void,
        merge: @escaping @Sendable (_ pane: StateTable<State>, _ window: StateTable<State>) throws -> Void,
        fire: @escaping @Sendable (StateTable<State>, TimeWindow, RowOutput<Result>) throws -> Void,
        makeTable: @escaping @Sendable () -> StateTable<State>
    ) {
        self.tables = tables
        self.add = add
        self.merge = merge
        self.fire = fire
        self.makeTable = makeTable
    }
}

/// The one key of ``DataStream/windowAll(_:file:line:)``.
public struct WholeStream: RecordKey, BitwiseCopyable {
    @inlinable
    public init() {}
    public static var schema: Schema { .record(name: "WholeStream", fields: []) }
    @inlinable
    public func encode(into writer: inout ByteWriter) {}
    @inlinable
    public init(from reader: inout ByteReader) throws(DecodingFailure) {}
}

extension DataStream where Row: BinaryCodable {
    /// Groups all rows of the stream into windows, whatever their keys. One subtask does that: it is as fast as one slot.
    @inlinable
    @inline(__always)
    public func windowAll(
        _ assigner: WindowAssigner, file: StaticString = #fileID, line: Int = #line
    ) -> WindowedStream<WholeStream, EndOfWindowTrigger<Row>> {
        var windows = keyed(by: { _ in WholeStream() }).window(assigner, file: file, line: line)
        windows.parallelism = 1
        return windows
    }
}
