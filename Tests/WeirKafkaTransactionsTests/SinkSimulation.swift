import WeirBase
import WeirKafkaWire

@testable import WeirKafkaTransactions

/// A job with one source and an exactly-once sink on a model of a broker: a seed draws every fault, crash and delay.
struct SinkSimulation {
    struct Checkpoint {
        var id: UInt64
        /// Rows that the source had emitted before the barrier.
        var offset: Int
        var entries: [SinkState]
        var parallelism: Int
    }

    struct Pending {
        var id: UInt64
        var offset: Int
        var isSavepoint: Bool
    }

    enum End: Equatable {
        case finished
        /// The job failed since a transaction was lost.
        case lost(PreparedTransaction)
        case stuck(String)
    }

    let keys = 5
    let total: Int
    /// Whether transactions may expire.
    let expires: Bool
    private(set) var broker: ModelBroker
    private var random: SplitMix64
    private var subtasks: [SimulatedSubtask] = []
    private var zombies: [SimulatedSubtask] = []
    private var offset = 0
    private var nextCheckpoint: UInt64 = 1
    private var pending: [Pending] = []
    private var latest: Checkpoint?
    /// The newest savepoint, as long as nothing was restored from anything else.
    private var savepoint: Checkpoint?
    /// What the present tasks must fence before they write.
    private var inherited: Set<TransactionalID> = []
    private var finalCheckpoint: UInt64?
    private var isQuiet = false
    private(set) var problems: [String] = []
    private(set) var restarts = 0
    private(set) var steps = 0
    private var time: Int64 = 0

    init(seed: UInt64, rows: Int = 120) {
        random = SplitMix64(seed: seed)
        total = rows
        expires = seed % 4 == 3
        broker = ModelBroker(listsTransactions: seed % 3 != 0)
        deploy()
    }

    private mutating func chance(_ percent: Int) -> Bool { Int(random.next() % 100) < percent }
    private mutating func pick(_ count: Int) -> Int { Int(random.next() % UInt64(count)) }

    private mutating func fault() -> Fault {
        guard !isQuiet, chance(15) else { return .none }
        return Fault.allCases[pick(Fault.allCases.count)]
    }

    // MARK: The job's life

    private mutating func deploy() {
        let parallelism = latest == nil || chance(50) ? 1 + pick(4) : latest?.parallelism ?? 1
        offset = latest?.offset ?? 0
        pending = []
        finalCheckpoint = nil
        savepoint = nil
        let entries = latest?.entries ?? []
        inherited = []
        subtasks = (0..<parallelism).map { subtask in
            var options = TransactionalWriter.Options(
                prefix: "p", subtask: subtask, parallelism: parallelism, markerTopic: "out", timeoutMilliseconds: 60_000)
            options.poolMax = 6
            inherited.formUnion(ProducerPool(prefix: "p", subtask: subtask, size: options.poolBase).ids)
            return SimulatedSubtask(options, restored: entries)
        }
        for entry in entries {
            switch entry {
            case .pool(let pool): inherited.formUnion(pool.ids)
            case .transaction(let transaction): inherited.insert(transaction.id)
            }
        }
    }

    /// Everything that the processes knew is gone; some of them may not know it yet.
    private mutating func crash() {
        restarts += 1
        if chance(40) { zombies.append(contentsOf: subtasks) }
        if zombies.count > 8 { zombies.removeFirst(zombies.count - 8) }
        deploy()
    }

    /// The tasks are cancelled and settle before they are started anew, in warm workers. Word of what became of the last checkpoints may have
    /// been lost on its way, as with a JobManager that goes down once it has published one: the tasks must leave the next ones what they need.
    private mutating func restartInOrder() {
        restarts += 1
        let isSilent = chance(40)
        if isSilent {
            for index in subtasks.indices { subtasks[index].notices = [] }
        } else {
            for checkpoint in pending { for index in subtasks.indices { subtasks[index].notices.append((checkpoint.id, false)) } }
        }
        let hasSavepoint = savepoint != nil
        // A job that is stopped with a savepoint goes on from it.
        if let savepoint, savepoint.id > latest?.id ?? 0, chance(50) { latest = savepoint }
        let own = broker.openTransactions.filter { isMine($0, of: subtasks) }.map(\.session)
        for index in subtasks.indices {
            deliver(index, all: true)
            subtasks[index].apply(subtasks[index].writer.cancel())
            var rounds = 0
            while !subtasks[index].writer.isSettled, rounds < 10_000 {
                rounds += 1
                broker.catchUp()
                for lane in subtasks[index].busyLanes { subtasks[index].step(lane, &broker, fault()) }
            }
            if !subtasks[index].writer.isSettled { problems.append("subtask \(index) does not settle") }
        }
        let sessions = Set((latest?.entries ?? []).compactMap { if case .transaction(let prepared) = $0 { prepared.session } else { nil } })
        for open in broker.openTransactions where own.contains(open.session) && !sessions.contains(open.session) {
            guard open.marker == nil || !(isSilent || hasSavepoint) else { continue }  // A checkpoint may name it, as far as the task knows.
            problems.append("\(open.id) is left open by a cancelled task")
        }
        deploy()
    }

    private func isMine(_ transaction: ModelBroker.Transaction, of subtasks: [SimulatedSubtask]) -> Bool {
        subtasks.contains { subtask in subtask.producers.values.contains { $0.session == transaction.session } }
    }

    // MARK: Steps

    private mutating func emit() {
        guard offset < total, finalCheckpoint == nil else { return }
        let row = Row(key: offset % keys, number: offset / keys)
        let index = row.key % subtasks.count
        guard subtasks[index].writer.isReady else { return }
        subtasks[index].write(row, at: time)
        offset += 1
    }

    private mutating func trigger(savepoint: Bool) {
        guard pending.count < 2, finalCheckpoint == nil || finalCheckpoint != latest?.id else { return }
        let id = nextCheckpoint
        nextCheckpoint += 1
        pending.append(Pending(id: id, offset: offset, isSavepoint: savepoint))
        if offset == total, !savepoint { finalCheckpoint = id }
        for index in subtasks.indices { subtasks[index].barrier(id) }
    }

    /// What the JobManager sees of the answers.
    private mutating func coordinate() {
        for checkpoint in pending {
            if subtasks.contains(where: { $0.declined.contains(checkpoint.id) }) {
                abort(checkpoint.id)
                continue
            }
            let answers = subtasks.compactMap { $0.answers[checkpoint.id] }
            guard answers.count == subtasks.count, pending.contains(where: { $0.id == checkpoint.id }) else { continue }
            pending.removeAll { $0.id == checkpoint.id }
            let complete = Checkpoint(
                id: checkpoint.id, offset: checkpoint.offset, entries: answers.flatMap { $0 }, parallelism: subtasks.count)
            if checkpoint.isSavepoint {
                savepoint = complete
                continue
            }
            latest = complete
            for older in pending where older.id < checkpoint.id && !older.isSavepoint { abort(older.id) }
            for index in subtasks.indices { subtasks[index].notices.append((checkpoint.id, true)) }
        }
    }

    private mutating func abort(_ id: UInt64) {
        pending.removeAll { $0.id == id }
        if finalCheckpoint == id { finalCheckpoint = nil }
        for index in subtasks.indices { subtasks[index].notices.append((id, false)) }
    }

    private mutating func deliver(_ index: Int, all: Bool = false) {
        while !subtasks[index].notices.isEmpty {
            let notice = subtasks[index].notices.removeFirst()
            let effects =
                notice.isCompleted
                ? subtasks[index].writer.checkpointCompleted(notice.checkpoint) : subtasks[index].writer.checkpointAborted(notice.checkpoint)
            subtasks[index].apply(effects)
            if !all { return }
        }
    }

    private mutating func stepZombies() {
        for index in zombies.indices.reversed() {
            let lanes = zombies[index].busyLanes.filter { zombies[index].lanes[$0]?.first?.isLeftToZombies == true }
            guard !lanes.isEmpty else {
                zombies.remove(at: index)
                continue
            }
            if chance(30) { zombies[index].step(lanes[pick(lanes.count)], &broker, fault()) }
            if chance(20) { zombies[index].sendAhead(&broker) }
        }
    }

    private mutating func step() {
        steps += 1
        time += 1
        let index = pick(subtasks.count)
        switch pick(100) {
        case 0..<40: emit()
        case 40..<46: trigger(savepoint: false)
        case 46: if !isQuiet { trigger(savepoint: true) }
        case 47: if !isQuiet, let victim = pending.last { abort(victim.id) }
        case 48: if !isQuiet { crash() }
        case 49: if !isQuiet, chance(30) { restartInOrder() }
        case 50..<55: deliver(index)
        case 55..<60: subtasks[index].sendAhead(&broker)
        case 60..<64: broker.catchUp()
        case 64:
            let open = broker.openTransactions
            if expires, !isQuiet, !open.isEmpty, chance(10) { broker.expire(open[pick(open.count)].id) }
        default:
            let lanes = subtasks[index].busyLanes
            if !lanes.isEmpty { subtasks[index].step(lanes[pick(lanes.count)], &broker, fault()) }
        }
        coordinate()
        stepZombies()
    }

    /// Runs the job to its end: with faults for a while, then without.
    mutating func run() -> End {
        while steps < 40_000 {
            isQuiet = steps > 6_000
            step()
            checkReaders()
            if let failure = subtasks.compactMap(\.writer.failure).first {
                if failure.recovery == .fail { return lost(failure) }
                crash()
            }
            guard let final = finalCheckpoint, latest?.id == final, subtasks.allSatisfy(\.notices.isEmpty),
                subtasks.allSatisfy({ $0.busyLanes.isEmpty && $0.writer.isSettled })
            else { continue }
            for index in subtasks.indices {
                subtasks[index].apply(subtasks[index].writer.cancel())
                while let lane = subtasks[index].busyLanes.first { subtasks[index].step(lane, &broker, .none) }
            }
            expireUnknown()
            return .finished
        }
        return .stuck("offset \(offset) of \(total), pending \(pending), ready \(subtasks.map(\.writer.isReady))")
    }

    private func lost(_ failure: JobFailure) -> End {
        let named = (latest?.entries ?? []).compactMap { if case .transaction(let prepared) = $0 { prepared } else { nil } }
        guard let transaction = named.first(where: { failure.message.contains("transaction \($0.id) of checkpoint \($0.checkpoint) is lost") })
        else { return .stuck("a loss of what the checkpoint does not name: \(failure)") }
        return .lost(transaction)
    }

    /// What a reader sees is always a beginning of what it will see: nothing twice, nothing out of order, and no gap but where a transaction
    /// expired, which the job's end will tell of.
    private mutating func checkReaders() {
        guard steps % 64 == 0, problems.isEmpty else { return }
        for key in 0..<keys {
            let seen = broker.committed(key)
            let isInOrder = expires ? zip(seen, seen.dropFirst()).allSatisfy { $0 < $1 } : seen == Array(0..<seen.count)
            if !isInOrder { problems.append("after \(steps) steps a reader of key \(key) sees \(seen)") }
        }
        // Nothing of former runs stays in the way of readers once the job runs again.
        guard subtasks.allSatisfy(\.writer.isRecovered), zombies.isEmpty else { return }
        for (index, open) in broker.transactions.enumerated() where open.state == .open && !isMine(open, of: subtasks) && !isNamed(open) {
            if mustBeFenced(open, index) { problems.append("after \(steps) steps \(open.id) is still open, of a former run") }
        }
    }

    /// Whether the present tasks had a way to know of a transaction. Others end by their time-out: of ids that no checkpoint tells of, on a
    /// broker that lists none, or which a task that was dead already opened after the listing.
    private func mustBeFenced(_ open: ModelBroker.Transaction, _ index: Int) -> Bool {
        inherited.contains(open.id) || index < subtasks[open.id.subtask % subtasks.count].transactionsListed
    }

    private mutating func expireUnknown() {
        for (index, open) in broker.transactions.enumerated() where open.state == .open && !mustBeFenced(open, index) { broker.expire(open.id) }
    }

    /// A discarded producer's transaction that a lane is about to commit.
    private func isNamed(_ open: ModelBroker.Transaction) -> Bool {
        subtasks.contains { subtask in subtask.writer.members.contains { $0.transaction?.session == open.session } }
    }
}
