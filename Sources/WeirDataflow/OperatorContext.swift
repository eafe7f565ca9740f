import Synchronization
package import WeirBase

/// A number that one thread adds to and others read.
public final class Counter: Sendable {
    private let storage = Atomic<Int>(0)
    private let state = Atomic<Bool>(false)
    public init() {}
    /// Only the slot's thread writes.
    public func add(_ amount: Int) { storage.store(storage.load(ordering: .relaxed) &+ amount, ordering: .relaxed) }
    /// Shows a state instead of a sum: makes the counter a gauge.
    public func set(_ value: Int) {
        storage.store(value, ordering: .relaxed)
        state.store(true, ordering: .relaxed)
    }
    public var value: Int { storage.load(ordering: .relaxed) }
    /// Whether the number is a state, which may fall, and not a sum.
    public var isGauge: Bool { state.load(ordering: .relaxed) }
}

/// Whether a task was cancelled, for all threads that work for it.
package final class CancellationFlag: Sendable {
    private let storage = Atomic<Bool>(false)
    package init() {}
    package var isCanceled: Bool { storage.load(ordering: .relaxed) }
    package func cancel() { storage.store(true, ordering: .relaxed) }
}

/// What an operator knows about its place and can ask of its task. Used on the slot's thread only, save ``waker`` and ``cancellation``.
public final class OperatorContext {
    package let job: JobID
    /// The execution attempt of the job, greater with each restart.
    package let epoch: Epoch
    package let operatorID: OperatorID
    public let operatorName: String
    /// In `0..<parallelism`.
    public let subtask: Int
    public let parallelism: Int
    /// Key groups of the job.
    public let maxParallelism: Int
    /// The key groups whose keys come to this subtask if its input is keyed.
    public let keyGroups: Range<Int>
    /// Whether ``AnyOperator/restore(from:)`` will be called.
    public let isRestored: Bool
    /// Makes the task run again, from any thread.
    public let waker: any Waker
    package let clock: any WeirClock
    /// The job's options by their names in the configuration; connectors read theirs.
    package let settings: [String: String]
    /// Set as soon as the task's cancellation is asked for, while the slot's thread may still be inside the operator.
    package let cancellation: CancellationFlag
    /// Nanoseconds that the task could not go on since it was deployed; set for the head of its chain.
    package var backPressuredNanoseconds: Counter?
    /// Where sources of one job learn how far they may go ahead of each other; nil where nobody keeps them together.
    package var alignment: WatermarkAlignmentHub?
    /// Where the keyed state of the operator hangs; whoever makes the store sets it.
    package var keyedState: AnyObject?

    /// Set before the operator is made.
    package var sideOutputs: [String: AnySideOutput] = [:]

    package let counters = CounterTable()
    package weak var control: (any ControlOutput)?
    /// The earliest call-back asked for, milliseconds since 1970.
    package private(set) var callBackAt: Int64 = .max

    package init(
        operatorID: OperatorID, operatorName: String, subtask: Int, parallelism: Int, maxParallelism: Int, keyGroups: Range<Int>,
        isRestored: Bool, waker: any Waker, clock: any WeirClock, settings: [String: String] = [:],
        cancellation: CancellationFlag = CancellationFlag(), job: JobID = JobID(high: 0, low: 0), epoch: Epoch = Epoch(1)
    ) {
        self.job = job
        self.epoch = epoch
        self.operatorID = operatorID
        self.operatorName = operatorName
        self.subtask = subtask
        self.parallelism = parallelism
        self.maxParallelism = maxParallelism
        self.keyGroups = keyGroups
        self.isRestored = isRestored
        self.waker = waker
        self.clock = clock
        self.settings = settings
        self.cancellation = cancellation
    }

    /// Whether whatever is being waited for on the slot's thread should be given up: the task was cancelled.
    public var isCanceled: Bool { cancellation.isCanceled }

    /// The wall clock, milliseconds since 1970.
    public func processingTime() -> Int64 { clock.wallTime.milliseconds }

    /// Asks for one call of ``AnyOperator/processingTime(_:)`` at or soon after a wall time (milliseconds since 1970). The earliest time asked
    /// for wins, and is forgotten once the call came: ask again there.
    public func callBack(atProcessingTime time: Int64) { callBackAt = min(callBackAt, time) }

    package func takeCallBack(now: Int64) -> Bool {
        guard callBackAt <= now else { return false }
        callBackAt = .max
        return true
    }

    /// Sends a watermark to what follows, behind the rows emitted so far. One that is not above the last is dropped.
    public func emitWatermark(_ watermark: Int64) throws { try control?.emitWatermark(watermark) }

    /// Declares the output idle, or active again.
    public func emitStatus(idle: Bool) throws { try control?.emitStatus(idle: idle) }

    /// A counter shown among the task's metrics.
    public func counter(_ name: String) -> Counter { counters.counter(name) }
}

/// The way of control elements out of an operator.
package protocol ControlOutput: AnyObject {
    func emitWatermark(_ watermark: Int64) throws
    func emitStatus(idle: Bool) throws
}

/// An operator's own counters, by name.
package final class CounterTable: Sendable {
    private let table = Mutex<[String: Counter]>([:])
    package init() {}

    package func counter(_ name: String) -> Counter {
        table.withLock { table in
            if let counter = table[name] { return counter }
            let counter = Counter()
            table[name] = counter
            return counter
        }
    }

    /// Sorted by name.
    package var values: [(name: String, value: Int, isGauge: Bool)] {
        table.withLock { $0.map { ($0.key, $0.value.value, $0.value.isGauge) } }.sorted { $0.0 < $1.0 }
    }
}
