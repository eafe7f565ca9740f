internal import WeirBase
public import WeirDataflow

/// The work of a ``WindowLogic``, apart from its types.
@usableFromInline
struct WindowWork<Row: Sendable> {
    @usableFromInline typealias Timer = (_ hash: UInt64, _ key: UnsafeRawBufferPointer, _ start: Int64, _ time: Int64) throws -> Void
    @usableFromInline let process: (Batch<Row>) throws -> Void
    @usableFromInline let look: Timer
    @usableFromInline let timer: Timer
    @usableFromInline let processingTimer: Timer
    let setWatermark: (Int64) -> Void
    let looks: TimerQueue
    let timers: TimerQueue
    let processingTimers: TimerQueue

    /// - Parameter process: And the others: calls of the logic, made where its types are known.
    @usableFromInline
    init<Key, Trigger, Contents, Result>(
        _ logic: WindowLogic<Key, Trigger, Contents, Result>, process: @escaping (Batch<Row>) throws -> Void, look: @escaping Timer,
        timer: @escaping Timer, processingTimer: @escaping Timer
    ) where Trigger.Row == Row {
        self.process = process
        self.look = look
        self.timer = timer
        self.processingTimer = processingTimer
        looks = logic.looks
        timers = logic.triggerContext.timers
        processingTimers = logic.triggerContext.processingTimers
        setWatermark = {
            logic.watermark = $0
            logic.triggerContext.watermark = $0
        }
    }
}

/// Windows with triggers: sessions, windows of processing time, and all others that are more than panes.
final class TriggeredWindowOperator<Row: Sendable, Result: Sendable>: AnyOperator {
    private let isEventTime: Bool
    private let output: RowOutput<Result>
    private let lateTag: OutputTag<Row>?
    private let hasher: @Sendable (Batch<Row>) -> Void
    private let make: @Sendable (WindowSetup<Row, Result>) throws -> WindowWork<Row>
    private struct Opened {
        let store: KeyedStateStore
        let context: OperatorContext
        let work: WindowWork<Row>
    }
    private var opened: Opened?
    private var watermark = Int64.min

    init(
        isEventTime: Bool, output: RowOutput<Result>, lateTag: OutputTag<Row>?, hasher: @escaping @Sendable (Batch<Row>) -> Void,
        make: @escaping @Sendable (WindowSetup<Row, Result>) throws -> WindowWork<Row>
    ) {
        self.isEventTime = isEventTime
        self.output = output
        self.lateTag = lateTag
        self.hasher = hasher
        self.make = make
    }

    override func open(_ context: OperatorContext) throws {
        let store = try KeyedStateStore(context, migration: RecordMigration())
        let late = try lateTag.flatMap { try SideOutput($0, of: context) }
        let work = try make(WindowSetup(store: store, context: context, output: output, late: late))
        opened = Opened(store: store, context: context, work: work)
    }

    override func start() throws { callBack() }

    /// Asks to be called at the next time of the wall clock at which there is something to do.
    private func callBack() {
        guard let opened else { return }
        let times = [opened.work.processingTimers.nextTime, isEventTime ? nil : opened.work.looks.nextTime].compactMap { $0 }
        if let next = times.min() { opened.context.callBack(atProcessingTime: next) }
    }

    override func process(_ batch: AnyBatch, input: Int) throws {
        guard let opened else { return }
        let batch = unsafeDowncast(batch, to: Batch<Row>.self)
        if !batch.hasKeyHashes {
            hasher(batch)
            batch.hasKeyHashes = true
        }
        try opened.work.process(batch)
        batch.recycle()
        try opened.store.checkMemory()
    }

    override func advanceWatermark(_ watermark: Int64) throws {
        guard let opened, watermark > self.watermark else { return }
        self.watermark = watermark
        opened.work.setWatermark(watermark)
        // In the order of time; a trigger's timer before the end of a window at the same time.
        let looks = isEventTime ? opened.work.looks : nil
        while let next = [opened.work.timers.nextTime, looks?.nextTime].compactMap({ $0 }).min(), next <= watermark {
            try opened.work.timers.fire(upTo: next, opened.work.timer)
            try looks?.fire(upTo: next, opened.work.look)
        }
        try flush()
    }

    override func processingTime(_ now: Int64) throws {
        guard let opened else { return }
        let looks = isEventTime ? nil : opened.work.looks
        while let next = [opened.work.processingTimers.nextTime, looks?.nextTime].compactMap({ $0 }).min(), next <= now {
            try opened.work.processingTimers.fire(upTo: next, opened.work.processingTimer)
            try looks?.fire(upTo: next, opened.work.look)
        }
        callBack()
        try flush()
    }

    override func flush() throws { try output.flush() }

    override func snapshot(into builder: SnapshotBuilder) throws {
        opened?.store.snapshot(into: builder)
        builder.addList("watermark", [encodedWatermark(watermark)])
    }

    override func restore(from state: RestoredState) throws {
        try opened?.store.restore(from: state)
        watermark = try restoredWatermark(state)
        opened?.work.setWatermark(watermark)
    }
}
