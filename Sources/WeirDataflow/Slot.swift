import Synchronization
package import WeirBase

/// What a slot is told to do; taken up between two pieces of work.
package enum SlotCommand: Sendable {
    case deploy(TaskPlan)
    /// Cancel all tasks of an attempt; each reports `canceled`.
    case cancel(Epoch)
    /// The job is over: forget its finished tasks without a word, cancel the others.
    case release(Epoch)
    /// Start a checkpoint at a source task.
    case trigger(TaskAttempt, Barrier)
    /// The checkpoint is durable in the whole job.
    case checkpointCompleted(Epoch, CheckpointID)
    case checkpointAborted(Epoch, CheckpointID)
}

/// A place for one subtask of every vertex: runs its tasks in turn, each a piece at a time.
///
/// `submit` is called from any thread, everything else from the slot's own one. The thread's loop:
///
///     while !stopping {
///         if slot.runOnce() { continue }
///         slot.waker.prepareToPark()          // From here on whoever brings work wakes the thread,
///         if !slot.runOnce() { park(until: slot.nextDeadline()) }     // and what came before is found here.
///         slot.waker.unpark()
///     }
package final class Slot: @unchecked Sendable {  // `commands` by its lock, the rest used by the slot's thread alone.
    package let waker: SlotWaker
    private let environment: SlotEnvironment
    private let listener: any SlotListener
    private let commands = Mutex<[SlotCommand]>([])
    private let hasCommands = Atomic<Bool>(false)
    private var tasks: [StreamTask] = []
    /// What other threads see of the tasks.
    private let table = Mutex<[TaskAttempt: (metrics: TaskMetrics, cancellation: CancellationFlag)]>([:])

    package init(environment: SlotEnvironment, listener: any SlotListener) {
        self.environment = environment
        self.listener = listener
        waker = environment.waker
    }

    /// Hands a command to the slot, from any thread. A cancellation is seen at once by operators that wait for something.
    package func submit(_ command: SlotCommand) {
        switch command {
        case .cancel(let epoch), .release(let epoch):
            table.withLock { table in
                for (attempt, task) in table where attempt.epoch == epoch { task.cancellation.cancel() }
            }
        default: break
        }
        commands.withLock { $0.append(command) }
        hasCommands.store(true, ordering: .releasing)
        waker.wake()
    }

    /// The metrics of the present tasks, in order; from any thread.
    package var metrics: [(task: TaskAttempt, metrics: TaskMetrics)] {
        table.withLock { $0.map { ($0.key, $0.value.metrics) } }.sorted { $0.0 < $1.0 }
    }

    package var isEmpty: Bool { tasks.isEmpty }

    /// Runs every task once.
    ///
    /// - Returns: Whether anything was done. If not, nothing can be until the waker is called or the ``nextDeadline()`` comes.
    package func runOnce() -> Bool { runOnce(now: environment.clock.now) }

    package func runOnce(now: Instant) -> Bool {
        var progress = takeCommands()
        var now = now
        var someGone = false
        for task in tasks {
            guard !task.isGone else {
                someGone = true
                continue
            }
            do {
                let (worked, end) = try task.step(now: now)
                progress = progress || worked
                now = end
            } catch {
                task.fail(error)
                progress = true
            }
            someGone = someGone || task.isGone
        }
        if someGone { removeGone() }
        return progress
    }

    /// The earliest time at which a task wants to run though nothing comes in.
    package func nextDeadline() -> Instant? {
        let now = environment.clock.now
        return tasks.compactMap { $0.nextDeadline(now: now) }.min()
    }

    private func removeGone() {
        tasks.removeAll { task in
            guard task.isGone else { return false }
            task.close()
            _ = table.withLock { $0.removeValue(forKey: task.attempt) }
            return true
        }
    }

    private func takeCommands() -> Bool {
        guard hasCommands.load(ordering: .acquiring) else { return false }
        hasCommands.store(false, ordering: .relaxed)
        let batch = commands.withLock { commands in
            let batch = commands
            commands.removeAll(keepingCapacity: true)
            return batch
        }
        for command in batch { execute(command) }
        removeGone()
        return !batch.isEmpty
    }

    private func execute(_ command: SlotCommand) {
        switch command {
        case .deploy(let plan): deploy(plan)
        case .cancel(let epoch): each(epoch) { $0.cancel() }
        case .release(let epoch):
            each(epoch) { if $0.state != .finished { $0.cancel() } }
            tasks.removeAll { task in
                guard task.attempt.epoch == epoch, task.state == .finished else { return false }
                task.close()
                _ = table.withLock { $0.removeValue(forKey: task.attempt) }
                return true
            }
        case .trigger(let attempt, let barrier):
            guard let task = tasks.first(where: { $0.attempt == attempt }), !task.isGone else {
                listener.checkpointDeclined(attempt, checkpoint: barrier.id, reason: "the task does not run here")
                return
            }
            guarded(task) { try $0.trigger(barrier) }
        case .checkpointCompleted(let epoch, let checkpoint): each(epoch) { try $0.checkpointCompleted(checkpoint) }
        case .checkpointAborted(let epoch, let checkpoint): each(epoch) { try $0.checkpointAborted(checkpoint) }
        }
    }

    private func each(_ epoch: Epoch, _ body: (StreamTask) throws -> Void) {
        for task in tasks where task.attempt.epoch == epoch && !task.isGone { guarded(task, body) }
    }

    private func guarded(_ task: StreamTask, _ body: (StreamTask) throws -> Void) {
        do {
            try body(task)
        } catch {
            task.fail(error)
        }
    }

    private func deploy(_ plan: TaskPlan) {
        guard !tasks.contains(where: { $0.attempt == plan.attempt }) else { return }  // Said twice.
        listener.taskStateChanged(plan.attempt, to: .deploying)
        do {
            let task = try StreamTask(plan: plan, environment: environment, listener: listener)
            tasks.append(task)
            table.withLock { $0[plan.attempt] = (task.metrics, task.cancellation) }
            guarded(task) { try $0.open() }
        } catch {
            let failure =
                error as? JobFailure ?? JobFailure(domain: .system, recovery: .restart, message: "the task cannot be made", cause: "\(error)")
            listener.taskStateChanged(plan.attempt, to: .failed(failure))
        }
    }
}
