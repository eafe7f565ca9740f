public import WeirBase
public import WeirDataflow

/// Windows of any kind with any trigger, for the keys of one subtask: each key has a list of its open windows.
///
/// Inlinable, so that the loop over a batch is specialised in the job's module. The operator around it is ``TriggeredWindowOperator``.
@usableFromInline
final class WindowLogic<Key: RecordKey, Trigger: WindowTrigger, Contents: BinaryCodable, Result: Sendable> {
    @usableFromInline typealias Row = Trigger.Row
    @usableFromInline typealias Entry = WindowEntry<Contents, Trigger.State>

    /// What the windows do with rows, made where the types are known.
    @usableFromInline
    struct Function {
        @usableFromInline let add: (Row, Int64, inout Contents?) throws -> Void
        @usableFromInline let merge: (Contents, inout Contents) throws -> Void
        @usableFromInline let fire: (Key, inout Contents, WindowContext<Result>) throws -> Void
        /// What else is kept a window is thrown away with it.
        @usableFromInline let clear: (TimeWindow) -> Void

        @inlinable
        init(
            add: @escaping (Row, Int64, inout Contents?) throws -> Void, merge: @escaping (Contents, inout Contents) throws -> Void,
            fire: @escaping (Key, inout Contents, WindowContext<Result>) throws -> Void, clear: @escaping (TimeWindow) -> Void = { _ in }
        ) {
            self.add = add
            self.merge = merge
            self.fire = fire
            self.clear = clear
        }
    }

    @usableFromInline let plan: WindowPlan
    @usableFromInline let trigger: Trigger
    /// How long behind its end a window of event time still takes rows, ms.
    @usableFromInline let lateness: Int64
    @usableFromInline let key: @Sendable (Row) -> Key
    @usableFromInline let function: Function
    @usableFromInline let table: StateTable<[Entry]>
    @usableFromInline let currentKey: CurrentKey
    /// The times at which windows are to be looked after: at their ends, and when they are forgotten.
    let looks: TimerQueue
    @usableFromInline let triggerContext: TriggerContext
    @usableFromInline let context: WindowContext<Result>
    @usableFromInline let late: SideOutput<Row>?
    let lateRows: Counter
    let operatorContext: OperatorContext
    @exclusivity(unchecked) @usableFromInline final var watermark = Int64.min

    @usableFromInline
    init(
        plan: WindowPlan, trigger: Trigger, lateness: Int64, key: @escaping @Sendable (Row) -> Key, function: Function,
        table: StateTable<[Entry]>, setup: WindowSetup<Row, Result>
    ) throws {
        self.plan = plan
        self.trigger = trigger
        self.lateness = lateness
        self.key = key
        self.function = function
        self.table = table
        currentKey = setup.store.currentKey
        looks = try setup.store.timers("window-ends")
        triggerContext = try TriggerContext(isEventTime: plan.isEventTime, store: setup.store, context: setup.context)
        context = WindowContext(output: setup.output, context: setup.context)
        late = setup.late
        lateRows = setup.context.counter("numLateRecordsDropped")
        operatorContext = setup.context
    }

    // MARK: Rows

    @inlinable
    func process(_ batch: Batch<Row>) throws {
        let rows = batch.rows
        let hashes = batch.keyHashes
        let timestamps = batch.timestamps
        let now = plan.isEventTime ? 0 : triggerContext.processingTime()
        for index in 0..<batch.count {
            let key = key(rows[index])
            currentKey.set(key, hash: hashes[index])
            let time = plan.isEventTime ? timestamps[index] : now
            switch plan.kind {
            case .global:
                _ = try add(rows[index], time, timestamps[index], to: .global, key)
            case .session:
                try checkTime(time)
                let start = clamped(time)
                if try !addToSession(rows[index], time, timestamps[index], TimeWindow(start: start, end: start + plan.size), key) {
                    try reject(rows[index], timestamps[index])
                }
            case .sliding:
                try checkTime(time)
                let clamped = clamped(time)
                var start = plan.lastStart(at: clamped)
                var isTaken = start &+ plan.size <= clamped  // Between two windows it is in none.
                while start &+ plan.size > clamped {
                    if try add(rows[index], time, timestamps[index], to: TimeWindow(start: start, end: start &+ plan.size), key) { isTaken = true }
                    start &-= plan.slide
                }
                if !isTaken { try reject(rows[index], timestamps[index]) }
            }
        }
    }

    @inlinable
    @inline(__always)
    func checkTime(_ time: Int64) throws {
        if time == AnyBatch.noTimestamp { throw untimed() }
    }

    /// Times at both ends, behind which no whole window is left, are those of the last ones.
    @inlinable
    @inline(__always)
    func clamped(_ time: Int64) -> Int64 { Swift.min(Swift.max(time, Int64.min / 4), Int64.max / 4) }

    @usableFromInline
    func untimed() -> JobFailure { untimedRows() }

    @usableFromInline
    func reject(_ row: Row, _ timestamp: Int64) throws {
        if let late { return try late.append(row, timestamp: timestamp) }
        lateRows.add(1)
    }

    /// When a window is forgotten.
    @inlinable
    func cleanup(_ window: TimeWindow) -> Int64 {
        if window.isGlobal { return .max }
        return plan.isEventTime ? window.lastTimestamp &+ lateness : window.lastTimestamp
    }

    @inlinable
    func isLate(_ window: TimeWindow) -> Bool { plan.isEventTime && !window.isGlobal && cleanup(window) <= watermark }

    /// - Returns: False where the window is closed.
    @inlinable
    func add(_ row: Row, _ time: Int64, _ timestamp: Int64, to window: TimeWindow, _ key: Key) throws -> Bool {
        guard !isLate(window) else { return false }
        let place = table.upsert(hash: currentKey.hash, keyBytes: currentKey.bytes, initial: [])
        let index: Int
        if let found = place.pointee.firstIndex(where: { $0.window.start == window.start }) {
            index = found
        } else {
            index = place.pointee.count
            place.pointee.append(Entry(window: window, contents: nil, trigger: trigger.create(), nextLook: .max))
        }
        try add(row, time, timestamp, to: place, index, key)
        return true
    }

    /// - Returns: False where the row's session would be closed, and no open one takes it up.
    @inlinable
    func addToSession(_ row: Row, _ time: Int64, _ timestamp: Int64, _ session: TimeWindow, _ key: Key) throws -> Bool {
        if isLate(session) {
            guard let place = table.findMutable(hash: currentKey.hash, keyBytes: currentKey.bytes),
                place.pointee.contains(where: { $0.window.touches(session) })
            else { return false }
        }
        let place = table.upsert(hash: currentKey.hash, keyBytes: currentKey.bytes, initial: [])
        let index: Int
        if let found = place.pointee.firstIndex(where: { $0.window.touches(session) }) {
            index = try merge(session, into: found, place)
        } else {
            index = place.pointee.count
            place.pointee.append(Entry(window: session, contents: nil, trigger: trigger.create(), nextLook: .max))
        }
        try add(row, time, timestamp, to: place, index, key)
        return true
    }

    /// Grows a session, and takes in others that it touches then.
    ///
    /// - Returns: Where the session is afterwards.
    @inlinable
    func merge(_ session: TimeWindow, into first: Int, _ place: UnsafeMutablePointer<[Entry]>) throws -> Int {
        let before = place.pointee[first].window
        let grown = before.union(session)
        guard grown != before else { return first }
        var index = first
        if grown.start != before.start { place.pointee[index].nextLook = .max }  // Looks are found by the window's start.
        place.pointee[index].window = grown
        triggerContext.window = grown.start
        var other = 0
        var isMerged = false
        while other < place.pointee.count {
            guard other != index, place.pointee[other].window.touches(place.pointee[index].window) else {
                other &+= 1
                continue
            }
            let entry = place.pointee.remove(at: other)
            if other < index { index &-= 1 }
            let union = place.pointee[index].window.union(entry.window)
            if union.start != place.pointee[index].window.start { place.pointee[index].nextLook = .max }
            place.pointee[index].window = union
            triggerContext.window = union.start
            if let contents = entry.contents {
                if place.pointee[index].contents == nil {
                    place.pointee[index].contents = contents
                } else {
                    try function.merge(contents, &place.pointee[index].contents!)
                }
            }
            trigger.merge(entry.trigger, into: &place.pointee[index].trigger, window: union, triggerContext)
            isMerged = true
            other = 0
        }
        if !isMerged, grown.start != before.start {
            // Its timers were those of another start.
            trigger.merge(trigger.create(), into: &place.pointee[index].trigger, window: grown, triggerContext)
        }
        return index
    }

    @inlinable
    func add(_ row: Row, _ time: Int64, _ timestamp: Int64, to place: UnsafeMutablePointer<[Entry]>, _ index: Int, _ key: Key) throws {
        try function.add(row, timestamp, &place.pointee[index].contents)
        let window = place.pointee[index].window
        triggerContext.window = window.start
        let result = trigger.element(row, timestamp: time, in: window, state: &place.pointee[index].trigger, triggerContext)
        if result != .proceed { try act(on: result, place, index, key, at: timestamp) }
        if !window.isGlobal {
            // Its end, or if that is past already, the time at which it is forgotten.
            let look = plan.isEventTime && window.lastTimestamp <= watermark ? cleanup(window) : window.lastTimestamp
            if look < place.pointee[index].nextLook { self.look(at: look, window, place, index) }
        } else if place.pointee[index].contents == nil, trigger.isInitial(place.pointee[index].trigger) {
            forget(place, index)
        }
    }

    @usableFromInline
    func look(at time: Int64, _ window: TimeWindow, _ place: UnsafeMutablePointer<[Entry]>, _ index: Int) {
        place.pointee[index].nextLook = time
        looks.register(hash: currentKey.hash, keyBytes: currentKey.bytes, namespace: window.start, time: time)
        if !plan.isEventTime { operatorContext.callBack(atProcessingTime: time) }
    }

    // MARK: Results

    /// - Parameter time: Of the row or timer that fired.
    @inlinable
    func act(on result: TriggerResult, _ place: UnsafeMutablePointer<[Entry]>, _ index: Int, _ key: Key, at time: Int64) throws {
        if result.fires, place.pointee[index].contents != nil {
            let window = place.pointee[index].window
            context.firing = .init(window: window, watermark: watermark, timestamp: window.isGlobal ? time : window.lastTimestamp)
            try function.fire(key, &place.pointee[index].contents!, context)
        }
        if result.purges { place.pointee[index].contents = nil }
    }

    @inlinable
    func forget(_ place: UnsafeMutablePointer<[Entry]>, _ index: Int) {
        function.clear(place.pointee[index].window)
        if place.pointee.count == 1 {
            table.remove(hash: currentKey.hash, keyBytes: currentKey.bytes)
        } else {
            place.pointee.remove(at: index)
        }
    }

    // MARK: Time

    /// Calls the body for the window of a timer, if it is still there.
    @inlinable
    func withWindow(
        _ hash: UInt64, _ keyBytes: UnsafeRawBufferPointer, _ start: Int64, _ body: (UnsafeMutablePointer<[Entry]>, Int, Key) throws -> Void
    ) throws {
        currentKey.set(hash: hash, keyBytes: keyBytes)
        guard let place = table.findMutable(hash: hash, keyBytes: currentKey.bytes),
            let index = place.pointee.firstIndex(where: { $0.window.start == start })
        else { return }
        triggerContext.window = start
        try body(place, index, try Key(keyBytes: keyBytes))
    }

    /// A time at which a window is to be looked after has come.
    @inlinable
    func look(_ hash: UInt64, _ keyBytes: UnsafeRawBufferPointer, _ start: Int64, _ time: Int64) throws {
        try withWindow(hash, keyBytes, start) { place, index, key in
            guard place.pointee[index].nextLook == time else { return }
            let window = place.pointee[index].window
            guard time >= window.lastTimestamp else { return look(at: window.lastTimestamp, window, place, index) }  // It has grown.
            if time == window.lastTimestamp {
                let result = trigger.end(of: window, state: &place.pointee[index].trigger, triggerContext)
                if result != .proceed { try act(on: result, place, index, key, at: time) }
            }
            let cleanup = cleanup(window)
            if time >= cleanup { forget(place, index) } else { look(at: cleanup, window, place, index) }
        }
    }

    @inlinable
    func timer(_ hash: UInt64, _ keyBytes: UnsafeRawBufferPointer, _ start: Int64, _ time: Int64, isEventTime: Bool) throws {
        try withWindow(hash, keyBytes, start) { place, index, key in
            let window = place.pointee[index].window
            let result =
                isEventTime
                ? trigger.timer(at: time, in: window, state: &place.pointee[index].trigger, triggerContext)
                : trigger.processingTimeTimer(at: time, in: window, state: &place.pointee[index].trigger, triggerContext)
            if result != .proceed { try act(on: result, place, index, key, at: time) }
            if window.isGlobal, place.pointee[index].contents == nil, trigger.isInitial(place.pointee[index].trigger) { forget(place, index) }
        }
    }
}

/// What the operator gives to the ``WindowLogic`` of a subtask.
@usableFromInline
struct WindowSetup<Row: Sendable, Result: Sendable> {
    @usableFromInline let store: KeyedStateStore
    @usableFromInline let context: OperatorContext
    @usableFromInline let output: RowOutput<Result>
    @usableFromInline let late: SideOutput<Row>?
}
