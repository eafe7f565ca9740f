import WeirBase
package import WeirControl
import WeirGraph

/// Runs the real ``ControlPlane`` against simulated TaskManagers, workers, tasks and storage, on one thread, from a seed.
///
/// Every connection delivers in order and with random delays; connections overtake each other. Any process may crash at any message, any
/// connection break, openly or silently. After each step the ``Checks`` hold what was seen against what must be.
package final class Simulation {
    package let scenario: Scenario
    package private(set) var plane: ControlPlane
    var now = Instant(nanoseconds: 0)
    var draw: Draw
    var queue = EventQueue<Happening>()
    var checks: Checks

    var managers: [TaskManagerID: SimulatedTaskManager] = [:]
    var workers: [WorkerID: SimulatedWorker] = [:]
    /// The last delivery of each link: the next is never earlier.
    var links: [Link: Instant] = [:]
    var closedLinks: Set<Link> = []
    var timers: [TimerID: UInt64] = [:]
    var lastToken: UInt64 = 0
    var lastConnection: UInt64 = 0
    var faultsAreOn = true
    var requests: UInt64 = 0
    package private(set) var steps = 0

    private let keepsTrace: Bool
    package private(set) var trace: [String] = []

    package init(seed: UInt64, keepsTrace: Bool = false) {
        scenario = Scenario(seed: seed)
        draw = Draw(seed: seed)
        plane = ControlPlane(options: scenario.options, random: SplitMix64(seed: seed &* 31 &+ 7))
        checks = Checks(scenario: scenario)
        self.keepsTrace = keepsTrace
    }

    /// What was found wrong, in the order found; empty for a run in which everything held.
    package var violations: [String] { checks.violations }

    package var statistics: Checks.Statistics { checks.statistics }

    package func run() {
        perform(plane.start(now: now))
        for manager in scenario.taskManagers {
            managers[manager.id] = SimulatedTaskManager(id: manager.id, slots: manager.slots)
            after(draw.milliseconds(0...2_000), .taskManagerStarts(manager.id))
        }
        for (index, job) in scenario.jobs.enumerated() { plan(job, index) }
        after(draw.milliseconds(scenario.faultEvery), .fault)
        after(scenario.faultsUntil, .calm)
        let end = Instant(nanoseconds: 0).advanced(by: scenario.end)
        while let (time, happening) = queue.next(), time <= end, checks.violations.isEmpty {
            now = time
            steps += 1
            happen(happening)
        }
        checks.atEnd(plane: plane, workers: workers.values.filter(\.isAlive).map { ($0.id, $0.job) })
    }

    private func plan(_ job: Scenario.Job, _ index: Int) {
        after(job.submitAt, .submit(index))
        if let savepoint = job.savepointAt { after(savepoint, .savepoint(index, .continues)) }
        switch job.ending {
        case .unbounded, .bounded: break
        case .cancelled(let at): after(max(at, job.submitAt), .cancel(index))
        case .stoppedWithSavepoint(let at, let mode): after(at, .savepoint(index, mode))
        }
    }

    // MARK: Time and messages

    func after(_ delay: Duration, _ happening: Happening) { queue.schedule(happening, at: now.advanced(by: delay)) }

    /// Sends over a connection: in order with all else that goes over it.
    func send(_ happening: Happening, over link: Link, delay: Duration? = nil) {
        guard !closedLinks.contains(link), !isSwallowed(link) else { return }
        let earliest = now.advanced(by: delay ?? draw.latency())
        let time = max(earliest, links[link].map { Instant(nanoseconds: $0.nanoseconds + 1) } ?? earliest)
        links[link] = time
        queue.schedule(.delivered(link, happening), at: time)
    }

    /// A silent process is cut off without a word: its connection stands and nothing comes out of it. Only the heartbeat tells.
    private func isSwallowed(_ link: Link) -> Bool {
        switch link {
        case .fromWorker(let id): workers[id]?.isSilent == true && workers[id]?.isAlive == true
        case .fromTaskManager(let id, _): managers[id]?.isSilent == true
        case .toTaskManager, .toWorker, .data: false
        }
    }

    func newConnection() -> ConnectionID {
        lastConnection += 1
        return ConnectionID(lastConnection)
    }

    func newRequest() -> RequestID {
        requests += 1
        return RequestID(requests)
    }

    func note(_ text: @autoclosure () -> String) {
        if keepsTrace { trace.append("\(now.nanoseconds) \(text())") }
    }

    // MARK: The control plane

    func tell(_ event: ControlEvent) {
        note("event \(event)")
        switch event {
        case .checkpointPublished(let job, let id, _), .checkpointPublishFailed(let job, let id, _): checks.publicationAnswered(job, id)
        default: break
        }
        let effects = plane.handle(event, now: now)
        perform(effects)
        checks.afterStep(plane: plane)
    }

    private func perform(_ effects: [ControlEffect]) {
        for effect in effects {
            note("effect \(effect)")
            checks.observe(effect, now: now)
            perform(effect)
        }
    }

    private func perform(_ effect: ControlEffect) {
        switch effect {
        case .acceptTaskManager(let id, let connection, let stop):
            for worker in stop { send(.taskManagerStopsWorker(id, worker), over: .toTaskManager(id, connection)) }
        case .disconnectTaskManager(let id, let connection, _):
            disconnect(id, connection)
        case .startWorker(let id, let start):
            guard let connection = managers[id]?.acceptedAs else { return }
            send(.taskManagerStartsWorker(id, start), over: .toTaskManager(id, connection))
        case .stopWorker(let worker, let id, _):
            if let connection = managers[id]?.acceptedAs { send(.taskManagerStopsWorker(id, worker), over: .toTaskManager(id, connection)) }
            // The connection is closed too: a worker that its TaskManager cannot reach ends when it notices.
            closedLinks.insert(.fromWorker(worker))
            send(.workerEnds(worker, .signal(15)), over: .toWorker(worker), delay: draw.milliseconds(0...3_000))
        case .acceptWorker:
            break
        case .disconnectWorker(let worker, _, _):
            send(.workerEnds(worker, .code(1)), over: .toWorker(worker))
        case .deploy(let worker, let plan):
            send(.deploy(worker, plan), over: .toWorker(worker))
        case .cancelTasks(let worker, _, let epoch):
            send(.cancelTasks(worker, epoch), over: .toWorker(worker))
        case .triggerCheckpoint(let worker, let trigger):
            send(.trigger(worker, trigger), over: .toWorker(worker))
        case .notifyCheckpointComplete(let worker, let notice):
            send(.complete(worker, notice), over: .toWorker(worker))
        case .notifyCheckpointAborted:
            break
        case .publishCheckpoint(let checkpoint):
            after(draw.latency(), .storagePublishes(checkpoint))
        case .discardCheckpoint, .discardState:
            break  // The checks keep the files.
        case .setTimer(let timer, let delay):
            lastToken += 1
            timers[timer] = lastToken
            after(delay, .timer(timer, lastToken))
        case .cancelTimer(let timer):
            // Now and then it fires all the same, as it may in a shell that had taken it out already.
            if !draw.chance(100) { timers[timer] = nil }
        case .jobStateChanged, .failureExplained, .log, .reply:
            break
        }
    }

    private func disconnect(_ id: TaskManagerID, _ connection: ConnectionID) {
        closedLinks.insert(.fromTaskManager(id, connection))
        send(.taskManagerNoticesLoss(id, connection), over: .toTaskManager(id, connection), delay: draw.milliseconds(0...1_000))
    }

    // MARK: What happens

    private func happen(_ happening: Happening) {
        switch happening {
        case .delivered(let link, let inner):
            guard !closedLinks.contains(link) else { return }
            if faultsAreOn, scenario.crashPerMessage > 0, draw.chance(scenario.crashPerMessage) { crashReceiver(of: link) }
            happen(inner)
        case .event(let event):
            tell(event)
        case .timer(let timer, let token):
            guard timers[timer] == token else { return }
            timers[timer] = nil
            tell(.timerFired(timer))
        case .submit(let index):
            tell(.submitJob(newRequest(), scenario.jobs[index].submission))
        case .cancel(let index):
            tell(.cancelJob(newRequest(), scenario.jobs[index].submission.job))
        case .savepoint(let index, let mode):
            savepoint(index, mode)
        case .storagePublishes(let checkpoint):
            publish(checkpoint)
        case .calm:
            faultsAreOn = false
        case .fault:
            if faultsAreOn {
                causeFault()
                after(draw.milliseconds(scenario.faultEvery), .fault)
            }
        default:
            happenToProcess(happening)
        }
    }

    private func savepoint(_ index: Int, _ mode: SavepointMode) {
        let job = scenario.jobs[index].submission.job
        let snapshot = plane.jobSnapshot(job)
        if mode.endsJob, snapshot?.state.isTerminal != true {
            // A client that wants the job stopped asks again until it is.
            after(.milliseconds(4_000), .savepoint(index, mode))
        }
        guard snapshot != nil else { return }
        tell(.triggerSavepoint(newRequest(), job, directory: "/savepoints", mode: mode))
    }

    private func publish(_ checkpoint: CompletedCheckpoint) {
        if faultsAreOn, draw.chance(scenario.publishFails) {
            after(draw.latency(), .event(.checkpointPublishFailed(job: checkpoint.job, checkpoint: checkpoint.id, reason: "disk full")))
            return
        }
        let path = "chk-\(checkpoint.id)/_metadata"
        checks.becameDurable(checkpoint)
        after(draw.latency(), .event(.checkpointPublished(job: checkpoint.job, checkpoint: checkpoint.id, path: path)))
    }
}
