package import WeirBase

/// Decides about the transactions of one subtask of an exactly-once sink: the first phase at a barrier, the second when the checkpoint
/// completes, and what a restored subtask owes to the one before it.
///
/// A value: no I/O, clock, lock or thread. The caller carries out the effects, those of one producer in order, and tells what came of them.
///
///     absent ─start─▶ starting ─▶ idle ─begin─▶ open ─barrier─▶ sealing ─▶ prepared ─completed─▶ committing
///       ▲                          ▲                               (flush, marker)                   │
///       └──discarded               └────── a later checkpoint has completed ──── resting ◀───────────┘
///
/// - At most one producer is open: the one that rows go to. The next is made before it is needed.
/// - A barrier closes the open transaction. Until it is sealed the subtask is not ready, so that no row overtakes one of the transaction
///   before: order a key is kept. A transaction without rows is left open across the barrier: there is nothing to commit.
/// - Every snapshot names all transactions that are not committed. It is answered once they are all prepared.
/// - A producer that committed rests until a checkpoint completes which does not name its transaction. Otherwise a restore could take the
///   next transaction of the same session for the one it looks for.
/// - A restored subtask first commits what the checkpoint names, then fences every transactional id that it inherits, which aborts what
///   lingers there, and only then begins.
package struct TransactionalWriter: Sendable {
    package struct Options: Sendable, Equatable {
        package var prefix: String
        package var subtask: Int
        package var parallelism: Int
        /// Partition 0 of it holds the markers.
        package var markerTopic: String
        package var timeoutMilliseconds: Int64
        /// Producers that a subtask needs when all goes well: one open, one whose checkpoint is under way, one that rests.
        package var poolBase = 3
        /// More uncommitted transactions than this, and the job fails: no checkpoint has completed for as many barriers.
        package var poolMax = 32
        /// Leave what the restored checkpoint names alone: the job is a fork of one that will commit it, or has.
        package var discardsPrepared = false
        /// Go on without transactions that were lost.
        package var skipsLost = false

        package init(prefix: String, subtask: Int, parallelism: Int, markerTopic: String, timeoutMilliseconds: Int64) {
            self.prefix = prefix
            self.subtask = subtask
            self.parallelism = parallelism
            self.markerTopic = markerTopic
            self.timeoutMilliseconds = timeoutMilliseconds
        }
    }

    package enum Effect: Sendable, Equatable {
        /// Commit what the restored checkpoint names. → ``resolved(_:_:)``
        case resolve(PreparedTransaction)
        /// Initialise the id anew, which aborts its transaction and fences its producer. → ``fenced(_:)``
        case fence(TransactionalID)
        /// Ask the broker for ids of the sink that no checkpoint tells of, and fence them. → ``straysFenced()``
        case fenceStrays(StrayFilter)
        /// Make the producer of a place in the pool. → ``producerStarted(_:session:baseMarker:)``
        case startProducer(Int)
        /// Give up a producer; its transaction stays as it is.
        case discardProducer(Int)
        /// Write all rows of the transaction and its marker. → ``sealed(_:)``
        case seal(Int, CommitMarker)
        /// Commit, with the producer if it is still there. → ``committed(_:_:keepsProducer:)``
        case commit(Int, PreparedTransaction)
        /// Abort the producer's transaction and give up the producer. → ``aborted(_:)``
        case abort(Int)
        /// Answer a snapshot.
        case answer(checkpoint: UInt64, [SinkState])
        case decline(checkpoint: UInt64, JobFailure)
    }

    enum Phase: Sendable, Equatable { case absent, starting, idle, open, sealing, prepared, committing, resting, aborting }

    struct Member: Sendable {
        var phase = Phase.absent
        var session: ProducerSession?
        var baseMarker: CommitMarker?
        /// From sealing to committing.
        var transaction: PreparedTransaction?
        /// The last checkpoint that names the transaction.
        var lastNamed: UInt64 = 0
        /// The checkpoints that name it and may still complete.
        var mayComplete: Set<UInt64> = []
        var begunAt: Int64 = 0
    }

    package let options: Options
    private(set) var members: [Member]
    /// Where rows go; nil while no producer is there for them.
    package private(set) var current: Int?

    // Recovery.
    private(set) var unresolved: [PreparedTransaction] = []
    private(set) var unfenced: Set<TransactionalID> = []
    /// Pools to be named by snapshots until their ids are fenced.
    private var inherited: [ProducerPool] = []
    private var straysAreFenced = false
    private var hasStarted = false
    package private(set) var isRecovered = false

    /// Snapshots that wait for transactions to be sealed, oldest first.
    private var waiting: [(checkpoint: UInt64, missing: Set<Int>)] = []
    private var completed: UInt64 = 0
    package private(set) var failure: JobFailure?
    private var isCanceled = false
    package private(set) var lostCount = 0

    private var outbox: [Effect] = []

    /// - Parameter restored: All entries of all subtasks of the checkpoint; the subtask takes what is its own.
    package init(_ options: Options, restored: [SinkState] = []) {
        precondition(options.poolBase >= 2 && options.poolBase <= options.poolMax && options.poolMax <= SinkState.poolSizeMax)
        precondition((0..<options.parallelism).contains(options.subtask))
        self.options = options
        members = Array(repeating: Member(), count: options.poolBase)
        inherit(restored)
    }

    /// Whether rows may be written: what came before them is on the broker, and a producer is there for them.
    package var isReady: Bool { failure == nil && current != nil && !members.contains { $0.phase == .sealing } }

    /// Whether nothing is under way that must end before the subtask does.
    package var isSettled: Bool { !members.contains { [.sealing, .committing, .aborting].contains($0.phase) } }

    /// When the oldest transaction that is not committed began, milliseconds since 1970.
    package var oldestBegun: Int64? {
        members.filter { [.open, .sealing, .prepared, .committing].contains($0.phase) }.map(\.begunAt).min()
    }

    private mutating func take() -> [Effect] {
        let effects = outbox
        outbox = []
        return effects
    }

    // MARK: Recovery

    private mutating func inherit(_ restored: [SinkState]) {
        let own = options.subtask
        var size = options.poolBase
        for entry in restored {
            switch entry {
            case .pool(let pool) where pool.subtask % options.parallelism == own:
                if pool.prefix == options.prefix, pool.subtask == own {
                    size = max(size, min(pool.size, options.poolMax))
                    if pool.size > size { inherited.append(pool) }
                } else if pool.prefix == options.prefix || !options.discardsPrepared {
                    inherited.append(pool)
                }
            case .transaction(let transaction) where transaction.id.subtask % options.parallelism == own:
                if !options.discardsPrepared { unresolved.append(transaction) }
            case .pool, .transaction: break
            }
        }
        members = Array(repeating: Member(), count: size)
        inherited = Array(Set(inherited)).sorted { ($0.prefix, $0.subtask, $0.size) < ($1.prefix, $1.subtask, $1.size) }
        unresolved = Array(Set(unresolved)).sorted { ($0.checkpoint, $0.id) < ($1.checkpoint, $1.id) }
        unfenced = Set(inherited.flatMap(\.ids) + ownPool.ids + unresolved.map(\.id))
    }

    private var ownPool: ProducerPool { ProducerPool(prefix: options.prefix, subtask: options.subtask, size: members.count) }

    /// The first call: begins the recovery.
    package mutating func start() -> [Effect] {
        precondition(!hasStarted, "a writer starts once")
        hasStarted = true
        for transaction in unresolved { outbox.append(.resolve(transaction)) }
        fenceIfResolved()
        return take()
    }

    /// What became of a transaction that the restored checkpoint names.
    package mutating func resolved(_ transaction: PreparedTransaction, _ outcome: TransactionOutcome) -> [Effect] {
        guard let index = unresolved.firstIndex(of: transaction) else { return [] }
        switch outcome {
        case .committed: unresolved.remove(at: index)
        case .lost(let reason):
            guard lose(transaction, reason) else { return take() }
            unresolved.remove(at: index)
        case .unknown(let failure):
            fail(failure)
            return take()
        }
        fenceIfResolved()
        return take()
    }

    /// Ids are fenced after all transactions are committed: fencing would abort them.
    private mutating func fenceIfResolved() {
        guard unresolved.isEmpty, failure == nil, !isCanceled else { return }
        for id in unfenced.sorted() { outbox.append(.fence(id)) }
        let known = unfenced
        outbox.append(
            .fenceStrays(StrayFilter(prefix: options.prefix, subtask: options.subtask, parallelism: options.parallelism, known: known)))
    }

    package mutating func fenced(_ id: TransactionalID) -> [Effect] {
        unfenced.remove(id)
        inherited.removeAll { pool in pool.ids.allSatisfy { !unfenced.contains($0) } }
        finishRecovery()
        return take()
    }

    package mutating func straysFenced() -> [Effect] {
        straysAreFenced = true
        finishRecovery()
        return take()
    }

    private mutating func finishRecovery() {
        guard unresolved.isEmpty, unfenced.isEmpty, straysAreFenced, !isRecovered, failure == nil, !isCanceled else { return }
        isRecovered = true
        provide()
    }

    // MARK: Producers

    /// Finds a producer for the next rows, and keeps one in reserve.
    private mutating func provide() {
        guard isRecovered, failure == nil, !isCanceled else { return }
        defer { trim() }
        if current == nil { current = members.firstIndex { $0.phase == .idle } }
        let isReserved = members.indices.contains { $0 != current && members[$0].phase == .idle } || members.contains { $0.phase == .starting }
        guard !isReserved else { return }
        if let absent = members.firstIndex(where: { $0.phase == .absent }) { return startProducer(absent) }
        // The reserve may rest or commit: it will be there when it is needed.
        guard current == nil else { return }
        if let resting = members.firstIndex(where: { $0.phase == .resting }) {
            // In another session the next transaction cannot be taken for this one.
            outbox.append(.discardProducer(resting))
            return startProducer(resting)
        }
        guard members.count < options.poolMax else {
            guard !members.contains(where: { $0.phase == .committing || $0.phase == .aborting }) else { return }
            return fail(
                JobFailure(
                    domain: .external, recovery: .restart,
                    message:
                        "\(members.count) transactions of the prefix \"\(options.prefix)\" wait for a checkpoint to complete, more are not kept open",
                    cause: "see why checkpoints fail"))
        }
        members.append(Member())
        startProducer(members.count - 1)
    }

    /// Gives back what the pool grew by while checkpoints failed, once it is idle again.
    private mutating func trim() {
        while members.count > options.poolBase, let phase = members.last?.phase, phase == .absent || phase == .idle {
            let last = members.count - 1
            guard last != current, phase == .absent || members.indices.contains(where: { $0 != current && $0 != last && members[$0].phase == .idle })
            else { return }
            if phase == .idle { outbox.append(.discardProducer(last)) }
            members.removeLast()
        }
    }

    private func phase(_ index: Int) -> Phase? { members.indices.contains(index) ? members[index].phase : nil }

    private mutating func startProducer(_ index: Int) {
        members[index] = Member()
        members[index].phase = .starting
        outbox.append(.startProducer(index))
    }

    package mutating func producerStarted(_ index: Int, session: ProducerSession, baseMarker: CommitMarker?) -> [Effect] {
        guard phase(index) == .starting else { return [] }
        members[index].session = session
        members[index].baseMarker = baseMarker
        members[index].phase = .idle
        provide()
        return take()
    }

    // MARK: Rows and barriers

    /// Whether the next row needs ``begin(at:)`` before it.
    package var needsBegin: Bool { current.map { members[$0].phase == .idle } ?? false }

    /// The first row of a transaction is about to be written.
    ///
    /// - Parameter time: Milliseconds since 1970.
    package mutating func begin(at time: Int64) {
        guard let current, members[current].phase == .idle else { preconditionFailure("a transaction begins on an idle producer") }
        members[current].phase = .open
        members[current].begunAt = time
    }

    /// The barrier of a checkpoint: what was written before belongs to it.
    ///
    /// - Parameter records: Rows written since ``begin(at:)``.
    package mutating func barrier(_ checkpoint: UInt64, records: UInt64) -> [Effect] {
        if let index = current, members[index].phase == .open, let session = members[index].session {
            let transaction = PreparedTransaction(
                id: TransactionalID(prefix: options.prefix, subtask: options.subtask, index: index), session: session, checkpoint: checkpoint,
                markerTopic: options.markerTopic, baseMarker: members[index].baseMarker, begunAt: members[index].begunAt,
                timeoutMilliseconds: options.timeoutMilliseconds, records: records)
            members[index].transaction = transaction
            members[index].phase = .sealing
            current = nil
            outbox.append(.seal(index, transaction.marker))
        }
        for index in members.indices where members[index].transaction != nil {
            members[index].lastNamed = checkpoint
            members[index].mayComplete.insert(checkpoint)
        }
        if let failure {
            outbox.append(.decline(checkpoint: checkpoint, failure))
        } else {
            waiting.append((checkpoint, Set(members.indices.filter { members[$0].phase == .sealing })))
            // Before the answers: the pool that a snapshot names holds the producer of the rows behind its barrier.
            provide()
            answer()
        }
        return take()
    }

    /// The transaction is all on the broker, with its marker.
    package mutating func sealed(_ index: Int) -> [Effect] {
        guard phase(index) == .sealing else { return [] }
        members[index].phase = .prepared
        for position in waiting.indices { waiting[position].missing.remove(index) }
        answer()
        provide()
        return take()
    }

    private mutating func answer() {
        while let first = waiting.first, first.missing.isEmpty {
            waiting.removeFirst()
            // As it was at the barrier: what was sealed after it belongs to later ones.
            let named = members.compactMap(\.transaction).filter { $0.checkpoint <= first.checkpoint }
            let entries =
                (inherited + [ownPool]).map(SinkState.pool) + (unresolved + named).sorted { $0.id < $1.id }.map(SinkState.transaction)
            outbox.append(.answer(checkpoint: first.checkpoint, entries))
        }
    }

    // MARK: The second phase

    /// The checkpoint is durable in the whole job.
    package mutating func checkpointCompleted(_ checkpoint: UInt64) -> [Effect] {
        completed = max(completed, checkpoint)
        for index in members.indices {
            switch members[index].phase {
            case .prepared:
                guard let transaction = members[index].transaction, transaction.checkpoint <= completed else { continue }
                members[index].phase = .committing
                outbox.append(.commit(index, transaction))
            case .resting where members[index].lastNamed < completed: members[index].phase = .idle
            default: break
            }
        }
        provide()
        return take()
    }

    /// What came of a commit.
    ///
    /// - Parameter keepsProducer: Whether the producer can be used again.
    package mutating func committed(_ index: Int, _ outcome: TransactionOutcome, keepsProducer: Bool) -> [Effect] {
        guard phase(index) == .committing, let transaction = members[index].transaction else { return [] }
        members[index].transaction = nil
        members[index].mayComplete = []
        members[index].phase = !keepsProducer ? .absent : members[index].lastNamed < completed ? .idle : .resting
        switch outcome {
        case .committed: break
        case .lost(let reason): _ = lose(transaction, reason)
        case .unknown(let failure): fail(failure)
        }
        provide()
        return take()
    }

    /// The checkpoint will never exist.
    package mutating func checkpointAborted(_ checkpoint: UInt64) -> [Effect] {
        for index in members.indices { members[index].mayComplete.remove(checkpoint) }
        return take()
    }

    // MARK: The end

    /// - Returns: Whether the user chose to go on.
    private mutating func lose(_ transaction: PreparedTransaction, _ reason: String) -> Bool {
        lostCount += 1
        guard !options.skipsLost else { return true }
        fail(
            JobFailure(
                domain: .external, recovery: .fail,
                message: "transaction \(transaction.id) of checkpoint \(transaction.checkpoint) is lost: its \(transaction.records) records for"
                    + " the Kafka sink \"\(options.prefix)\" were aborted and will never be seen. Go on without them with"
                    + " kafka.UID.lost-transactions=skip, or start from an older checkpoint, which writes again what came after it",
                cause: reason))
        return false
    }

    /// Something that the caller was told to do cannot be done: nothing more is begun, and snapshots are declined.
    package mutating func failed(_ failure: JobFailure) -> [Effect] {
        fail(failure)
        return take()
    }

    private mutating func fail(_ failure: JobFailure) {
        guard self.failure == nil else { return }
        self.failure = failure
        for snapshot in waiting { outbox.append(.decline(checkpoint: snapshot.checkpoint, failure)) }
        waiting = []
        // What is being sealed will not be: it has no say any more in whether the subtask has settled.
        for index in members.indices where members[index].phase == .sealing { members[index].phase = .open }
    }

    /// The task ends: transactions that no checkpoint can complete any more are aborted, those that one may yet complete are left open for
    /// whoever restores it.
    package mutating func cancel() -> [Effect] {
        guard !isCanceled else { return [] }
        isCanceled = true
        let cause = JobFailure(domain: .system, recovery: .restart, message: "the task was cancelled")
        for snapshot in waiting {
            outbox.append(.decline(checkpoint: snapshot.checkpoint, cause))
            for index in members.indices { members[index].mayComplete.remove(snapshot.checkpoint) }
        }
        waiting = []
        current = nil
        for index in members.indices {
            switch members[index].phase {
            // What is being made may be about to fence whoever comes next: it must have ended before that.
            case .open, .sealing, .starting: abort(index)
            case .prepared: if members[index].mayComplete.isEmpty { abort(index) } else { discard(index) }
            case .idle, .resting: discard(index)
            case .absent, .committing, .aborting: break
            }
        }
        return take()
    }

    private mutating func abort(_ index: Int) {
        members[index].transaction = nil
        members[index].phase = .aborting
        outbox.append(.abort(index))
    }

    private mutating func discard(_ index: Int) {
        if members[index].phase != .prepared { members[index].phase = .absent }
        outbox.append(.discardProducer(index))
    }

    package mutating func aborted(_ index: Int) -> [Effect] {
        guard phase(index) == .aborting else { return [] }
        members[index].phase = .absent
        return take()
    }
}

/// Which of a broker's transactional ids are left over from earlier runs of a sink that no checkpoint tells of: of a greater parallelism, or
/// of a pool that grew after the checkpoint.
package struct StrayFilter: Sendable, Hashable {
    package var prefix: String
    package var subtask: Int
    package var parallelism: Int
    /// Fenced already.
    package var known: Set<TransactionalID>

    package init(prefix: String, subtask: Int, parallelism: Int, known: Set<TransactionalID>) {
        self.prefix = prefix
        self.subtask = subtask
        self.parallelism = parallelism
        self.known = known
    }

    /// - Returns: nil for an id that is no stray of this subtask.
    package func stray(_ name: String) -> TransactionalID? {
        guard let id = TransactionalID(name, prefix: prefix), id.subtask % parallelism == subtask, !known.contains(id) else { return nil }
        return id
    }
}
