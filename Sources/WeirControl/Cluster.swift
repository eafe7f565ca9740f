import WeirBase

/// The resource side: TaskManagers, their slots, and the workers that run on them.
///
/// It knows which job holds how many slots where, but nothing of tasks; it says who was lost, the ``JobMaster`` what follows from it.
struct Cluster: Sendable {
    struct TaskManager: Sendable {
        var registration: TaskManagerRegistration
        var lastHeard: Instant
        /// Slots held, by job.
        var held: [JobID: Int] = [:]

        var freeSlots: Int { max(0, registration.slots - held.values.reduce(0, +)) }
    }

    struct Worker: Sendable {
        let job: JobID
        let taskManager: TaskManagerID
        var connection: ConnectionID?
        var address: DataAddress?
        var lastHeard: Instant
        /// Was told to stop: nobody counts on it any more, only its exit is awaited.
        var isStopping = false
        /// It counts as lost since its connection broke. Its exit, reported by another connection, says why.
        var lostItsConnection = false
    }

    /// A worker that a job can no longer count on.
    struct LostWorker: Sendable {
        var worker: WorkerID
        var job: JobID
        var taskManager: TaskManagerID
        var failure: JobFailure
        /// Its TaskManager lives and is about to report how it ended.
        var isExitAwaited = false
    }

    /// Slots for a whole job: how many on which TaskManager, in the order in which they are numbered.
    struct Allocation: Sendable, Hashable {
        var shares: [(taskManager: TaskManagerID, slots: Int)]

        static func == (left: Allocation, right: Allocation) -> Bool {
            left.shares.elementsEqual(right.shares) { $0.taskManager == $1.taskManager && $0.slots == $1.slots }
        }

        func hash(into hasher: inout Hasher) {
            for share in shares {
                hasher.combine(share.taskManager)
                hasher.combine(share.slots)
            }
        }
    }

    let options: ControlOptions
    private(set) var taskManagers: [TaskManagerID: TaskManager] = [:]
    private(set) var workers: [WorkerID: Worker] = [:]

    init(options: ControlOptions) { self.options = options }

    var slots: Int { taskManagers.values.reduce(0) { $0 + $1.registration.slots } }
    var freeSlots: Int { taskManagers.values.reduce(0) { $0 + $1.freeSlots } }

    // MARK: TaskManagers

    /// - Returns: The effects, and the workers that were lost with an earlier connection of the same TaskManager.
    mutating func register(_ registration: TaskManagerRegistration, now: Instant) -> ([ControlEffect], [LostWorker]) {
        let id = registration.id
        var effects: [ControlEffect] = []
        var lost: [LostWorker] = []
        func refuse(_ reason: String) -> ([ControlEffect], [LostWorker]) {
            let fields = [LogField("taskmanager.id", id.rawValue), LogField("reason", reason)]
            return (
                [
                    .log(.warning, "TaskManager refused", fields),
                    .disconnectTaskManager(id, connection: registration.connection, reason: reason),
                ], []
            )
        }
        guard (1...Self.slotsMax).contains(registration.slots) else {
            return refuse("a TaskManager offers 1 to \(Self.slotsMax) slots, not \(registration.slots)")
        }
        if let known = taskManagers[id] {
            guard known.registration.connection < registration.connection else { return ([], []) }  // Overtaken by a newer one.
            effects.append(.disconnectTaskManager(id, connection: known.registration.connection, reason: "replaced by a new connection"))
            lost = remove(id, reason: "TaskManager \(id) connected anew")
        } else if taskManagers.count >= options.taskManagersMax {
            return refuse("\(options.taskManagersMax) TaskManagers are registered already (jobmanager.taskmanagers-max)")
        }
        taskManagers[id] = TaskManager(registration: registration, lastHeard: now)
        // Known workers were just counted as lost, so whatever still runs there belongs to an attempt that is over.
        effects.append(.acceptTaskManager(id, connection: registration.connection, stopWorkers: registration.runningWorkers.sorted()))
        effects.append(
            .log(
                .notice, "TaskManager registered",
                [
                    LogField("taskmanager.id", id.rawValue), LogField("taskmanager.slots", "\(registration.slots)"),
                    LogField("taskmanager.host", registration.host),
                ]))
        return (effects, lost)
    }

    mutating func heartbeat(_ id: TaskManagerID, connection: ConnectionID, now: Instant) {
        guard taskManagers[id]?.registration.connection == connection else { return }
        taskManagers[id]?.lastHeard = now
    }

    mutating func connectionLost(_ id: TaskManagerID, connection: ConnectionID, reason: String) -> ([ControlEffect], [LostWorker]) {
        guard taskManagers[id]?.registration.connection == connection else { return ([], []) }
        let lost = remove(id, reason: "TaskManager \(id) was lost: \(reason)")
        let fields = [LogField("taskmanager.id", id.rawValue), LogField("reason", reason)]
        return ([.log(.warning, "TaskManager lost", fields)], lost)
    }

    /// Forgets a TaskManager and its workers, which die with it.
    private mutating func remove(_ id: TaskManagerID, reason: String) -> [LostWorker] {
        taskManagers[id] = nil
        var lost: [LostWorker] = []
        for (worker, entry) in workers where entry.taskManager == id {
            workers[worker] = nil
            guard !entry.isStopping else { continue }
            let failure = JobFailure(domain: .resource, recovery: .restart, message: "worker \(worker) was lost", cause: reason)
            lost.append(LostWorker(worker: worker, job: entry.job, taskManager: id, failure: failure))
        }
        return lost.sorted { $0.worker < $1.worker }
    }

    // MARK: Slots

    /// All the slots that a job needs or none: jobs that hold a part each would wait for each other for ever.
    ///
    /// TaskManagers with a warm worker of the job come first, then those with most free slots, then by id.
    mutating func allocate(_ job: JobID, slots: Int, preferring warm: Set<TaskManagerID>) -> Allocation? {
        precondition(taskManagers.values.allSatisfy { $0.held[job] == nil }, "slots of a job are released before they are allocated anew")
        guard slots <= freeSlots else { return nil }
        let candidates = taskManagers.values.filter { $0.freeSlots > 0 }.sorted { left, right in
            let leftWarm = warm.contains(left.registration.id)
            let rightWarm = warm.contains(right.registration.id)
            if leftWarm != rightWarm { return leftWarm }
            if left.freeSlots != right.freeSlots { return left.freeSlots > right.freeSlots }
            return left.registration.id < right.registration.id
        }
        var shares = candidates.map { (taskManager: $0.registration.id, slots: 0) }
        var missing = slots
        if options.evenlySpreadOutSlots {
            while missing > 0 {
                for index in shares.indices where missing > 0 && shares[index].slots < candidates[index].freeSlots {
                    shares[index].slots += 1
                    missing -= 1
                }
            }
        } else {
            for index in shares.indices {
                shares[index].slots = min(missing, candidates[index].freeSlots)
                missing -= shares[index].slots
            }
        }
        shares.removeAll { $0.slots == 0 }
        for share in shares { taskManagers[share.taskManager]?.held[job] = share.slots }
        return Allocation(shares: shares)
    }

    mutating func release(_ job: JobID) {
        for id in taskManagers.keys { taskManagers[id]?.held[job] = nil }
    }

    // MARK: Workers

    /// Takes note of a worker that is about to be started.
    mutating func addWorker(_ worker: WorkerID, job: JobID, taskManager: TaskManagerID, now: Instant) {
        precondition(workers[worker] == nil, "worker ids are never used twice")
        workers[worker] = Worker(job: job, taskManager: taskManager, lastHeard: now)
    }

    /// The live worker of a job on a TaskManager, registered or starting.
    func worker(of job: JobID, on taskManager: TaskManagerID) -> WorkerID? {
        workers.filter { $0.value.job == job && $0.value.taskManager == taskManager && !$0.value.isStopping }.keys.min()
    }

    /// The live workers of a job, sorted.
    func workers(of job: JobID) -> [WorkerID] {
        workers.filter { $0.value.job == job && !$0.value.isStopping }.keys.sorted()
    }

    /// - Returns: Whether the worker is one that a job waits for.
    mutating func register(_ registration: WorkerRegistration, now: Instant) -> Result<Void, RegistrationRefused> {
        guard let entry = workers[registration.worker], entry.job == registration.job, !entry.isStopping else {
            return .failure(RegistrationRefused(reason: "the worker is unknown or was told to stop"))
        }
        guard entry.connection == nil else { return .failure(RegistrationRefused(reason: "the worker is registered already")) }
        workers[registration.worker]?.connection = registration.connection
        workers[registration.worker]?.address = registration.address
        workers[registration.worker]?.lastHeard = now
        return .success(())
    }

    struct RegistrationRefused: Error, Sendable { var reason: String }

    mutating func heartbeat(_ worker: WorkerID, connection: ConnectionID, now: Instant) {
        guard workers[worker]?.connection == connection else { return }
        workers[worker]?.lastHeard = now
    }

    /// A worker whose connection broke is killed by the caller: it may live on, cut off.
    mutating func connectionLost(_ worker: WorkerID, connection: ConnectionID, reason: String) -> LostWorker? {
        guard let entry = workers[worker], entry.connection == connection, !entry.isStopping else { return nil }
        workers[worker]?.lostItsConnection = true
        var lost = lost(worker, entry, cause: "its connection was lost: \(reason)")
        lost.isExitAwaited = true
        return lost
    }

    /// What the exit of a worker means to its job.
    enum Exit: Sendable {
        case loses(LostWorker)
        /// The worker had been lost before; this is why.
        case explains(LostWorker)
        /// The worker had been lost before, and was killed for it: that says no more.
        case confirms(LostWorker)
        /// It was asked for, or of a worker that nobody knows.
        case nothing
    }

    mutating func exited(_ exit: WorkerExit) -> Exit {
        guard let entry = workers.removeValue(forKey: exit.worker) else { return .nothing }
        let lost = LostWorker(worker: exit.worker, job: entry.job, taskManager: entry.taskManager, failure: Self.failure(exit, entry))
        guard entry.isStopping else { return .loses(lost) }
        guard entry.lostItsConnection else { return .nothing }
        return exit.isOfItsOwn ? .explains(lost) : .confirms(lost)
    }

    private static func failure(_ exit: WorkerExit, _ entry: Worker) -> JobFailure {
        // A trap of the job's code raises SIGILL or SIGTRAP in its process: the user's problem. SIGKILL is the kernel's or a person's.
        let domain: JobFailure.Domain =
            switch exit.status {
            case .signal(9), .signal(15): .resource
            default: .user
            }
        return JobFailure(
            domain: domain, recovery: .restart, message: "worker \(exit.worker) on \(entry.taskManager) \(exit.status)", cause: exit.lastWords)
    }

    mutating func startFailed(_ worker: WorkerID, reason: String) -> LostWorker? {
        guard let entry = workers.removeValue(forKey: worker), !entry.isStopping else { return nil }
        let failure = JobFailure(
            domain: .resource, recovery: .restart, message: "worker \(worker) could not be started on \(entry.taskManager)", cause: reason)
        return LostWorker(worker: worker, job: entry.job, taskManager: entry.taskManager, failure: failure)
    }

    /// The worker's start timer fired.
    mutating func startTimedOut(_ worker: WorkerID) -> LostWorker? {
        guard let entry = workers[worker], entry.connection == nil, !entry.isStopping else { return nil }
        return lost(worker, entry, cause: "it did not register within \(formatDuration(options.workerStartTimeout)) (worker.start-timeout)")
    }

    private func lost(_ worker: WorkerID, _ entry: Worker, cause: String) -> LostWorker {
        let failure = JobFailure(
            domain: .resource, recovery: .restart, message: "worker \(worker) on \(entry.taskManager) was lost", cause: cause)
        return LostWorker(worker: worker, job: entry.job, taskManager: entry.taskManager, failure: failure)
    }

    /// The worker is no longer counted on. Its entry stays until it exits, so that its exit surprises nobody.
    mutating func stop(_ worker: WorkerID, kill: Bool) -> [ControlEffect] {
        guard let entry = workers[worker], !entry.isStopping else { return [] }
        workers[worker]?.isStopping = true
        var effects: [ControlEffect] = []
        if entry.connection == nil { effects.append(.cancelTimer(.workerStart(worker))) }
        effects.append(.stopWorker(worker, on: entry.taskManager, kill: kill))
        return effects
    }

    // MARK: Heartbeats

    struct Silent: Sendable {
        var taskManagers: [(id: TaskManagerID, connection: ConnectionID)]
        var workers: [LostWorker]
    }

    /// Who was silent for longer than the timeout. Workers of a silent TaskManager are not listed again.
    func silent(now: Instant) -> Silent {
        func isSilent(_ lastHeard: Instant) -> Bool { lastHeard.duration(to: now) > options.heartbeatTimeout }
        let silentManagers = taskManagers.values.filter { isSilent($0.lastHeard) }.map(\.registration).sorted { $0.id < $1.id }
        let ids = Set(silentManagers.map(\.id))
        let watched = workers.filter { $0.value.connection != nil && !$0.value.isStopping && !ids.contains($0.value.taskManager) }
        let silentWorkers =
            watched.filter { isSilent($0.value.lastHeard) }
            .sorted { $0.key < $1.key }
            .map { lost($0.key, $0.value, cause: "no heartbeat for \(formatDuration(options.heartbeatTimeout)) (heartbeat.timeout)") }
        return Silent(taskManagers: silentManagers.map { ($0.id, $0.connection) }, workers: silentWorkers)
    }

    // MARK: Snapshots

    func snapshot(of worker: WorkerID) -> WorkerSnapshot? {
        guard let entry = workers[worker] else { return nil }
        return WorkerSnapshot(
            worker: worker, job: entry.job, taskManager: entry.taskManager, isRegistered: entry.connection != nil, address: entry.address)
    }

    func snapshot() -> ClusterSnapshot {
        let managers = taskManagers.values.sorted { $0.registration.id < $1.registration.id }.map { manager in
            TaskManagerSnapshot(
                id: manager.registration.id, host: manager.registration.host, slots: manager.registration.slots, freeSlots: manager.freeSlots,
                lastHeartbeat: manager.lastHeard,
                workers: workers.filter { $0.value.taskManager == manager.registration.id }.keys.sorted().compactMap { snapshot(of: $0) })
        }
        return ClusterSnapshot(taskManagers: managers, slots: slots, freeSlots: freeSlots)
    }

    /// More than any host has hardware threads.
    static let slotsMax = 4_096
}
