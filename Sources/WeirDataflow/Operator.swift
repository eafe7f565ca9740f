/// One operator of one subtask. Runs on its slot's thread and must not block.
///
/// The calls come in this order: ``open(_:)``, then ``restore(from:)`` if there is a checkpoint to restore, then ``start()``, then rows,
/// watermarks and snapshots, then ``endOfInput()`` if the input ends, then ``cancel()`` if the task is cancelled, at last ``close()``, in
/// every case.
///
/// What is thrown fails the task; a thrown `JobFailure` keeps its domain and recovery, anything else becomes a user error.
open class AnyOperator {
    public init() {}

    /// Keeps the context, makes state tables, checks the configuration.
    open func open(_ context: OperatorContext) throws {}

    /// Takes up what ``snapshot(into:)`` gave, possibly of other subtasks too if the parallelism changed.
    open func restore(from state: RestoredState) throws {}

    /// The last call before the first row: state is restored.
    open func start() throws {}

    /// Whether the task may take input. Asked before each piece of work.
    ///
    /// An operator that waits for something outside, such as a flush, says false instead of blocking, and calls ``OperatorContext/waker``
    /// from whichever thread when it is over. Until then the task takes no input, and other tasks of the slot go on. It counts as back
    /// pressure. A source may be triggered all the same: its barrier passes through the chain.
    ///
    /// - Throws: What went wrong outside: the task fails with it.
    open func isReady() throws -> Bool { true }

    /// Handles rows, and owns the batch.
    ///
    /// - Parameter input: Which of the operator's inputs, as numbered by the graph's edges.
    open func process(_ batch: AnyBatch, input: Int) throws { batch.recycle() }

    /// Passes on rows that the operator still holds back for fuller batches. Called before any control element goes on to what follows,
    /// and when the task is idle.
    open func flush() throws {}

    /// Event time has come to `watermark` (milliseconds; `Int64.max` at the end). The task passes the watermark on after this returns, unless
    /// ``forwardsWatermarks`` is false.
    open func advanceWatermark(_ watermark: Int64) throws {}

    /// All inputs became idle, or one became active again. Passed on afterwards unless ``forwardsWatermarks`` is false.
    open func inputStatus(idle: Bool) throws {}

    /// False for an operator that makes its own watermarks with ``OperatorContext/emitWatermark(_:)``. `Int64.max` is passed on all the same.
    open var forwardsWatermarks: Bool { true }

    /// Called when the time asked for by ``OperatorContext/callBack(atProcessingTime:)`` has come.
    open func processingTime(_ now: Int64) throws {}

    /// Called once before the barrier, while rows may still be emitted in front of it.
    open func prepareSnapshot(_ checkpoint: UInt64) throws {}

    /// Captures the state at the barrier. Quick: keep the writing of bytes for ``KeyedStatePart/encode(into:)``, which runs elsewhere.
    open func snapshot(into builder: SnapshotBuilder) throws {}

    /// The checkpoint is durable in the whole job: commit. May be called for checkpoints that were skipped before; never twice.
    open func checkpointCompleted(_ checkpoint: UInt64) throws {}

    open func checkpointAborted(_ checkpoint: UInt64) throws {}

    /// No more rows come. Rows may be emitted; `advanceWatermark(.max)` follows. The task has finished once ``isReady()`` is true again.
    open func endOfInput() throws {}

    /// The task was cancelled. Nothing follows but ``checkpointCompleted(_:)``, ``checkpointAborted(_:)``, ``isSettled()`` and ``close()``.
    open func cancel() {}

    /// Asked of a cancelled task until it is true: whether all is done that must outlive the task, such as the commit that a completed
    /// checkpoint promised. Only then the task says that it is cancelled. Calls ``OperatorContext/waker`` when it becomes true.
    ///
    /// - Throws: What cannot be done: the task has failed instead.
    open func isSettled() throws -> Bool { true }

    /// Frees what it holds. Called once, also after a failure.
    open func close() {}
}

/// What a source has to say after ``AnySource/poll(budget:)``.
public enum SourceStatus: Sendable, Equatable {
    /// Call again as soon as the outputs have room.
    case more
    /// Nothing now. Call after the waker was called, and at the latest after `wakeAfter`.
    case idle(wakeAfter: Duration?)
    /// There is no more data, for ever.
    case finished
}

/// An operator at the head of a chain which takes its rows from outside.
open class AnySource: AnyOperator {
    /// Emits about `budget` rows at most, then returns. Watermarks go out through ``OperatorContext/emitWatermark(_:)``.
    open func poll(budget: Int) throws -> SourceStatus { .finished }
}
